use proptest::prelude::*;

use super::*;

const REPLY: &str = "$JS.ACK.ORDERS.worker.3.42.7.1700000000123456789.5";
const NOW: u64 = 1_700_000_000;

fn ring(lines: &[(&str, &str)]) -> KeyRing {
    let text: Vec<String> = lines
        .iter()
        .map(|(id, byte)| format!("{id}:{}", byte.repeat(32)))
        .collect();
    KeyRing::parse(&text.join("\n")).unwrap()
}

#[test]
fn a_token_stands_for_its_message() {
    let ring = ring(&[("k1", "a1")]);
    let token = ring.sign(REPLY, "", NOW + 60).unwrap();
    let ack = ring.verify(&token, "", NOW).unwrap();
    assert_eq!(ack.reply.as_str(), REPLY);
    assert_eq!((&*ack.stream, &*ack.consumer), ("ORDERS", "worker"));
    assert_eq!((ack.seq, ack.delivered), (42, 3));
    assert!(token.len() < 110, "{} characters", token.len());
    assert!(
        token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    );
}

#[test]
fn it_expires_and_belongs_to_a_principal() {
    let ring = ring(&[("k1", "a1")]);
    let token = ring.sign(REPLY, "alice", NOW + 60).unwrap();
    assert!(ring.verify(&token, "alice", NOW + 59).is_ok());
    assert_eq!(
        ring.verify(&token, "alice", NOW + 60),
        Err(TokenError::Expired)
    );
    assert_eq!(ring.verify(&token, "bob", NOW), Err(TokenError::Invalid));
    assert_eq!(ring.verify(&token, "", NOW + 60), Err(TokenError::Invalid));
}

#[test]
fn keys_can_be_rotated() {
    let before = ring(&[("k1", "a1")]);
    let during = ring(&[("k2", "b2"), ("k1", "a1")]);
    let after = ring(&[("k2", "b2")]);
    let (old, new) = (
        before.sign(REPLY, "", NOW + 60).unwrap(),
        during.sign(REPLY, "", NOW + 60).unwrap(),
    );
    assert!(during.verify(&old, "", NOW).is_ok());
    assert!(after.verify(&new, "", NOW).is_ok());
    assert_eq!(after.verify(&old, "", NOW), Err(TokenError::Invalid));
    assert_eq!(before.verify(&new, "", NOW), Err(TokenError::Invalid));
    let same_id = ring(&[("k1", "ff")]);
    assert_eq!(same_id.verify(&old, "", NOW), Err(TokenError::Invalid));
}

#[test]
fn a_random_key_is_another_in_each_process() {
    let (one, two) = (KeyRing::random().unwrap(), KeyRing::random().unwrap());
    let token = one.sign(REPLY, "", NOW + 60).unwrap();
    assert!(one.verify(&token, "", NOW).is_ok());
    assert_eq!(two.verify(&token, "", NOW), Err(TokenError::Invalid));
}

#[test]
fn every_changed_character_is_noticed() {
    let ring = ring(&[("k1", "a1")]);
    let token = ring.sign(REPLY, "", NOW + 60).unwrap();
    for at in 0..token.len() {
        for letter in ["A", "B", "-", "=", "!", "\u{e4}", ""] {
            let mut forged = token.clone();
            forged.replace_range(at..=at, letter);
            if forged != token {
                let answer = ring.verify(&forged, "", NOW + 120);
                assert_eq!(answer, Err(TokenError::Invalid), "{forged}");
            }
        }
    }
    for token in ["", "A", "AQ", &"A".repeat(44), &"A".repeat(100_000)] {
        assert_eq!(ring.verify(token, "", NOW), Err(TokenError::Invalid));
    }
}

#[test]
fn only_acks_are_signed() {
    let ring = ring(&[("k1", "a1")]);
    for subject in ["$JS.API.STREAM.DELETE.ORDERS", "orders", "_INBOX.x", ""] {
        assert_eq!(ring.sign(subject, "", NOW), Err(NotAnAck), "{subject}");
    }
}

proptest! {
    #[test]
    fn any_ack_comes_back_as_itself(
        head in prop_oneof![Just(String::new()), "[a-z_]{1,8}\\.[A-Za-z0-9]{1,8}\\."],
        stream in "[A-Za-z0-9_-]{1,40}", consumer in "[A-Za-z0-9_-]{1,40}",
        numbers: [u64; 5], principal in ".{0,8}", expires_at in NOW + 1..,
    ) {
        let [a, b, c, d, e] = numbers;
        let reply = format!("$JS.ACK.{head}{stream}.{consumer}.{a}.{b}.{c}.{d}.{e}");
        let ring = ring(&[("k1", "a1")]);
        let token = ring.sign(&reply, &principal, expires_at).unwrap();
        let ack = ring.verify(&token, &principal, NOW).unwrap();
        prop_assert_eq!(ack.reply.as_str(), reply);
        prop_assert_eq!((ack.stream, ack.consumer, ack.delivered, ack.seq), (stream, consumer, a, b));
    }
}
