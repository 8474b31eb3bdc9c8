use proptest::prelude::*;

use super::*;

fn params() -> Params {
    Params::built_in(&["confirm", "timeout", "subject", "ttl", "max_replies"])
}

fn refused(raw: &str, params: &Params) -> String {
    let problem = Query::parse(Some(raw), params).unwrap_err();
    assert_eq!(problem.code(), Code::InvalidParameter, "{raw}");
    problem.sentence().to_owned()
}

#[test]
fn values_are_decoded_and_read() {
    let params = params();
    let raw = "confirm=stream&ttl=5s&max_replies=20&subject=a.%3E&subject=b+c&&other=1&x";
    let query = Query::parse(Some(raw), &params).unwrap();
    assert_eq!(query.get("confirm"), Some("stream"));
    assert_eq!(query.duration("ttl").unwrap(), Some(Duration::from_secs(5)));
    assert_eq!(query.number("max_replies").unwrap(), Some(20));
    assert_eq!(query.all("subject").collect::<Vec<_>>(), ["a.>", "b c"]);
    assert_eq!(query.get("timeout"), None);
    assert!(Query::parse(None, &params).unwrap().known.is_empty());
}

#[test]
fn what_was_meant_for_natsway_is_never_ignored() {
    let params = params();
    assert!(refused("ttl=1s&ttl=2s", &params).contains("ttl: given twice"));
    assert!(refused("queue=q", &params).contains("does not take it"));
    assert!(refused("wait=5s", &params).contains("does not take it"));
    assert!(refused("confrim=stream", &params).contains("`confirm`"));
    assert!(refused("Timeout=1s", &params).contains("`timeout`"));
    assert!(refused("confirm=%FF", &params).contains("not UTF-8"));
    assert!(refused("time%6Fut=1s", &params).contains("percent-encoded"));
    assert!(Query::parse(Some("_=17&utm_source=x&%FF=1"), &params).is_ok());
}

#[test]
fn a_declared_route_takes_what_it_lists_and_captures() {
    let params = Params::declared(&[Param::Timeout], ["color"]);
    let query = Query::parse(Some("timeout=1s&color=r%20g&confrim=1"), &params).unwrap();
    assert_eq!(query.get("timeout"), Some("1s"));
    assert_eq!(query.captured("color"), Some("r g"));
    assert_eq!(query.captured("timeout"), Some("1s"));
    assert_eq!(query.captured("size"), None);
    assert!(refused("confirm=none", &params).contains("does not take it"));
}

#[test]
fn a_damaged_value_names_its_parameter() {
    let params = params();
    let query = Query::parse(Some("ttl=5&max_replies=%2B5"), &params).unwrap();
    assert!(
        query
            .duration("ttl")
            .unwrap_err()
            .sentence()
            .starts_with("ttl: ")
    );
    let problem = query.number("max_replies").unwrap_err();
    assert_eq!(problem.sentence(), "max_replies: not a whole number");
}

proptest! {
    #[test]
    fn no_query_is_too_strange(raw in ".{0,60}") {
        let _ = Query::parse(Some(&raw), &params());
    }

    #[test]
    fn what_is_encoded_comes_back(value in ".{1,20}") {
        let raw = format!("confirm={}", percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC));
        let params = params();
        let query = Query::parse(Some(&raw), &params).unwrap();
        prop_assert_eq!(query.get("confirm"), Some(value.as_str()));
    }
}
