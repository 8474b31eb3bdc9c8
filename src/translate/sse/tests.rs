use base64::Engine as _;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    event: String,
    data: String,
    id: String,
}

/// A client as the HTML standard describes it (9.2.6), written without a look at the encoder.
fn parse(stream: &str) -> (Vec<Received>, Option<u64>) {
    let (mut events, mut retry) = (Vec::new(), None);
    let (mut data, mut event, mut id) = (String::new(), String::new(), String::new());
    let unified = stream.replace("\r\n", "\n").replace('\r', "\n");
    for line in unified.split('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                events.push(Received {
                    event: std::mem::take(&mut event),
                    data: std::mem::take(&mut data),
                    id: id.clone(),
                });
            }
            event.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.extend([value, "\n"]),
            "event" => event = value.to_owned(),
            "id" if !value.contains('\0') => id = value.to_owned(),
            "retry" => retry = value.parse().ok().or(retry),
            _ => {}
        }
    }
    (events, retry)
}

fn write(block: &Block<'_>, data: Option<&[u8]>) -> String {
    let mut out = Vec::new();
    block.write(data, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_block_has_its_fields_in_order() {
    let block = Block {
        retry: Some(Duration::from_millis(1500)),
        id: Some("7-ab"),
        event: Some("end"),
    };
    assert_eq!(
        write(&block, Some(b"{}")),
        "retry: 1500\nid: 7-ab\nevent: end\ndata: {}\n\n"
    );
    let id_alone = Block {
        id: Some("7"),
        ..Block::default()
    };
    assert_eq!(write(&id_alone, None), "id: 7\n\n");
    assert_eq!(parse(&write(&id_alone, None)).0, []);
    let mut out = Vec::new();
    write_comment("keep-alive", &mut out);
    assert_eq!(out, b": keep-alive\n\n");
}

#[test]
fn an_empty_payload_is_an_event() {
    let (events, _) = parse(&write(&Block::default(), Some(b"")));
    assert_eq!(events, [Received::default()]);
}

#[test]
fn a_raw_payload_that_would_change_is_sent_as_binary() {
    for payload in [&b"a\rb"[..], b"a\r\nb", b"\xff", b"\r"] {
        let mut out = Vec::new();
        Block::default().write_raw(payload, &mut out);
        let (events, _) = parse(std::str::from_utf8(&out).unwrap());
        assert_eq!(events[0].event, "binary");
        let decoded = base64::engine::general_purpose::STANDARD.decode(&events[0].data);
        assert_eq!(decoded.unwrap(), payload);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn each_event_arrives_as_itself_and_as_one(
        blocks in prop::collection::vec(
            (prop_oneof![any::<String>(), "(data: x|event: y|id: 1|\n|\r|:| |\u{2028}){0,8}"],
             prop::option::of("(a|\n|\r|\0|data: forged|id: 9){0,6}"),
             any::<bool>()),
            1..5,
        ),
    ) {
        let mut stream = Vec::new();
        for (payload, id, raw) in &blocks {
            let block = Block { id: id.as_deref(), ..Block::default() };
            if *raw {
                block.write_raw(payload.as_bytes(), &mut stream);
            } else {
                block.write(Some(payload.as_bytes()), &mut stream);
            }
            write_comment(payload, &mut stream);
        }
        let (events, retry) = parse(std::str::from_utf8(&stream).unwrap());
        prop_assert_eq!(retry, None);
        prop_assert_eq!(events.len(), blocks.len());
        let mut last_id = String::new();
        for (event, (payload, id, raw)) in events.iter().zip(&blocks) {
            if let Some(id) = id {
                last_id = id.replace(['\n', '\r', '\0'], "");
            }
            prop_assert_eq!(&event.id, &last_id);
            if *raw && payload.contains('\r') {
                prop_assert_eq!(&event.event, "binary");
                let decoded = base64::engine::general_purpose::STANDARD.decode(&event.data).unwrap();
                prop_assert_eq!(decoded, payload.as_bytes());
            } else {
                prop_assert_eq!(&event.event, "");
                let unified = payload.replace("\r\n", "\n").replace('\r', "\n");
                prop_assert_eq!(&event.data, &unified);
            }
        }
    }
}
