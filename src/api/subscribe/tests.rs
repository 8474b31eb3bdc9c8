use http::HeaderMap;

use super::*;

fn patterns(subjects: &[&str]) -> Vec<SubjectPattern> {
    let parse = |subject: &&str| SubjectPattern::parse(subject).unwrap();
    subjects.iter().map(parse).collect()
}

fn defaults() -> Defaults {
    Defaults::of(&config::Subscribe::default())
}

fn spec(query: &str, wanted: Wanted) -> Result<Spec, Problem> {
    let params = Params::built_in(&PARAMS);
    let query = Query::parse(Some(query), &params)?;
    let headers = HeaderMap::new();
    Spec::read(patterns(&["a"]), &query, &headers, wanted, &defaults())
}

#[test]
fn subjects_of_one_stream_may_not_overlap() {
    assert!(check_together(&patterns(&["a.*", "b.>", "a.b.c"])).is_ok());
    for bad in [&["a.*", "a.b"][..], &["a", "a"], &["a.>", "*.b"], &[]] {
        let problem = check_together(&patterns(bad)).unwrap_err();
        assert_eq!(problem.code(), Code::InvalidParameter, "{bad:?}");
    }
    let many: Vec<String> = (0..=SUBJECTS_MAX).map(|n| format!("s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(check_together(&patterns(&many[1..])).is_ok());
    let problem = check_together(&patterns(&many)).unwrap_err();
    assert_eq!(problem.to_json(None)["limit"], SUBJECTS_MAX);
}

#[test]
fn a_member_of_a_queue_group_is_ended_unless_it_says_otherwise() {
    for (query, on_slow) in [
        ("", OnSlow::Drop),
        ("queue=q", OnSlow::End),
        ("queue=q&on_slow=drop", OnSlow::Drop),
        ("on_slow=end", OnSlow::End),
    ] {
        assert_eq!(
            spec(query, Wanted::Sse).unwrap().on_slow,
            on_slow,
            "{query}"
        );
    }
    let of_route = Defaults {
        on_slow: Some(OnSlow::Drop),
        ..defaults()
    };
    assert_eq!(of_route.on_slow(None, true), OnSlow::Drop);
}

#[test]
fn the_query_is_read_and_what_is_damaged_is_refused() {
    let read = spec(
        "format=raw&max=3&errors=event&last_event_id=live",
        Wanted::Sse,
    )
    .unwrap();
    assert!(read.view.raw && read.returns);
    assert_eq!(read.view.max, Some(3));
    assert_eq!(read.view.blocks(Form::Sse), Shape::SseRaw);
    assert_eq!(read.view.frames(), Shape::Payload);
    let plain = spec("encoding=base64", Wanted::Ndjson).unwrap();
    assert_eq!(
        plain.view.blocks(Form::Ndjson),
        Shape::Line(Encoding::Base64)
    );
    assert_eq!(plain.view.frames(), Shape::Object(Encoding::Base64));
    assert!(!spec("last_event_id=live", Wanted::Ndjson).unwrap().returns);
    for bad in [
        "max=0",
        "max=x",
        "format=xml",
        "encoding=yaml",
        "on_slow=wait",
        "errors=no",
        "queue=",
        "queue=a.b",
    ] {
        let problem = spec(bad, Wanted::Sse).unwrap_err();
        assert_eq!(problem.code(), Code::InvalidParameter, "{bad}");
    }
    assert!(spec("format=raw", Wanted::Ndjson).is_err());
    assert!(spec("format=raw", Wanted::WebSocket).is_ok());
}
