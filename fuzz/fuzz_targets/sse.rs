//! Each payload arrives as one event with its own text and id, whatever it holds.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use natsway::translate::sse::{Block, write_comment};

fuzz_target!(|events: Vec<(&[u8], Option<&str>)>| {
    let mut stream = Vec::new();
    for (payload, id) in &events {
        let block = Block {
            id: *id,
            ..Block::default()
        };
        block.write_raw(payload, &mut stream);
        write_comment(&String::from_utf8_lossy(payload), &mut stream);
    }
    let stream = String::from_utf8(stream).expect("what is not UTF-8 is sent as base64");
    let received = receive(&stream);
    assert_eq!(received.len(), events.len());
    let mut last_id = String::new();
    for (event, (payload, id)) in received.iter().zip(&events) {
        if let Some(id) = id {
            last_id = id.replace(['\n', '\r', '\0'], "");
        }
        assert_eq!(event.id, last_id);
        match event.name.as_str() {
            "binary" => assert_eq!(STANDARD.decode(&event.data).expect("base64"), *payload),
            "" => assert_eq!(event.data.as_bytes(), *payload),
            other => panic!("a forged event: {other}"),
        }
    }
});

struct Received {
    name: String,
    data: String,
    id: String,
}

/// The HTML standard, 9.2.6.
fn receive(stream: &str) -> Vec<Received> {
    let mut events = Vec::new();
    let (mut name, mut data, mut id) = (String::new(), String::new(), String::new());
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    for line in stream.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                if data.pop().is_some() {
                    events.push(Received {
                        name: name.clone(),
                        data: std::mem::take(&mut data),
                        id: id.clone(),
                    });
                }
                name.clear();
            }
            "data" => data.extend([value, "\n"]),
            "event" => name = value.to_owned(),
            "id" if !value.contains('\0') => id = value.to_owned(),
            "retry" => panic!("a forged retry"),
            _ => {}
        }
    }
    events
}
