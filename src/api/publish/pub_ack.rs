//! A PubAck as the caller reads it.

use crate::api::jetstream::PubAck;

/// `{"stream","seq","duplicate"[,"domain"]}`.
pub(super) fn to_json(ack: &PubAck) -> Vec<u8> {
    let mut json = Vec::with_capacity(64 + ack.stream.len());
    json.extend_from_slice(b"{\"stream\":");
    write_name(&ack.stream, &mut json);
    json.extend_from_slice(b",\"seq\":");
    json.extend_from_slice(itoa::Buffer::new().format(ack.seq).as_bytes());
    json.extend_from_slice(match ack.duplicate {
        true => b",\"duplicate\":true",
        false => b",\"duplicate\":false",
    });
    if let Some(domain) = &ack.domain {
        json.extend_from_slice(b",\"domain\":");
        write_name(domain, &mut json);
    }
    json.push(b'}');
    json
}

fn write_name(name: &str, json: &mut Vec<u8>) {
    serde_json::to_writer(json, name).expect("a Vec takes every byte and a str is a JSON string");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_contract_says() {
        let mut ack = PubAck {
            stream: "ORDERS".to_owned(),
            seq: 7,
            duplicate: false,
            domain: None,
        };
        let json = to_json(&ack);
        assert_eq!(json, br#"{"stream":"ORDERS","seq":7,"duplicate":false}"#);
        ack.duplicate = true;
        ack.domain = Some("a\"b".to_owned());
        let value: serde_json::Value = serde_json::from_slice(&to_json(&ack)).unwrap();
        assert_eq!(value["domain"], "a\"b");
        assert_eq!(value["duplicate"], true);
    }
}
