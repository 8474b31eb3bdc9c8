//! A signed ack comes back as itself; a token with anything changed, or made up, is invalid.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsway::translate::ack_token::{KeyRing, TokenError};

const KEYS: &str = "k1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const ANOTHER: &str = "k1:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fuzz_target!(|input: (&str, &str, [u64; 5], &str, usize, char)| {
    let (stream, consumer, [a, b, c, d, e], other, at, letter) = input;
    let ring = KeyRing::parse(KEYS).expect("the key above is well-formed");
    // With a key that signs nothing: what is signed below, libFuzzer learns from the comparison with it.
    let strange = KeyRing::parse(ANOTHER).expect("the key above is well-formed");
    assert_eq!(strange.verify(other, "", 0), Err(TokenError::Invalid));

    let reply = format!("$JS.ACK.{stream}.{consumer}.{a}.{b}.{c}.{d}.{e}");
    let Ok(token) = ring.sign(&reply, other, 10) else {
        return;
    };
    let ack = ring.verify(&token, other, 9).expect("it was just signed");
    assert_eq!(ack.reply.as_str(), reply);
    assert_eq!(ring.verify(&token, other, 10), Err(TokenError::Expired));
    assert_eq!(
        ring.verify(&token, &format!("{other}x"), 9),
        Err(TokenError::Invalid)
    );

    let at = at % token.len();
    let mut forged = token.clone();
    forged.replace_range(at..=at, letter.encode_utf8(&mut [0; 4]));
    if forged != token {
        assert_eq!(ring.verify(&forged, other, 9), Err(TokenError::Invalid));
    }
});
