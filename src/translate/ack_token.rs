//! Tokens that ack a message.
//!
//! An ack is a publish to a subject that came with the message, and the server believes whoever
//! publishes there. A client must not be able to write such a subject itself, so it gets it signed:
//! whoever shows a token was given it. Nothing is stored, so any replica with the same keys takes the
//! token, also after a restart.

mod keys;
mod reply;

use async_nats::Subject;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use keys::Key;
pub use keys::{KeyError, KeyRing};
pub use reply::Delivered;
use reply::{Numbers, Reply};

const VERSION: u8 = 1;
/// Keeps a signature from being one for something else, should a key ever be used twice.
const PURPOSE: &[u8] = b"natsway ack token";
const SIGNATURE_BYTES: usize = 32;
/// More than the longest token that is ever given out.
const TOKEN_MAX: usize = 2048;

/// Why a token acks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not one of ours, or changed, or given to somebody else.
    #[error("the ack token is not one that this natsway gave out")]
    Invalid,
    /// Too old.
    #[error("the ack token has expired")]
    Expired,
}

/// The subject is not that of an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply subject is not that of a JetStream ack")]
pub struct NotAnAck;

/// What a valid token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Where an ack is published.
    pub reply: Subject,
    /// The stream that holds the message.
    pub stream: String,
    /// The consumer that delivered it.
    pub consumer: String,
    /// The message's sequence in the stream.
    pub seq: u64,
    /// Which delivery of the message this was.
    pub delivered: u64,
    /// Until when the token is good, in Unix seconds.
    pub expires_at: u64,
}

impl KeyRing {
    /// A token for the reply subject of a delivered message, valid until `expires_at` (Unix seconds).
    /// Only the same `principal` can use it; without authentication it is empty.
    ///
    /// # Errors
    ///
    /// When the subject is not that of a JetStream ack.
    pub fn sign(&self, reply: &str, principal: &str, expires_at: u64) -> Result<String, NotAnAck> {
        let reply = Reply::parse(reply).ok_or(NotAnAck)?;
        let key = self.signing();
        let mut body = vec![VERSION];
        put_text(&key.id, &mut body);
        put_number(expires_at, &mut body);
        put_text(principal, &mut body);
        put_reply(&reply, &mut body);
        let signature = signature_of(key, &body);
        body.extend_from_slice(signature.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(body))
    }

    /// What a token stands for, if it is one of ours, was given to this principal, and has not
    /// expired at `now` (Unix seconds).
    ///
    /// # Errors
    ///
    /// [`TokenError::Expired`] only for a token that was valid once.
    pub fn verify(&self, token: &str, principal: &str, now: u64) -> Result<Ack, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| TokenError::Invalid)?;
        let (body, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(TokenError::Invalid)?;
        let read = self.read(body, signature).ok_or(TokenError::Invalid)?;
        if read.principal != principal {
            return Err(TokenError::Invalid);
        }
        if read.expires_at <= now {
            return Err(TokenError::Expired);
        }
        Ok(read.reply.to_ack(read.expires_at))
    }

    fn read<'b>(&self, body: &'b [u8], signature: &[u8]) -> Option<Read<'b>> {
        let mut rest = body;
        (take(1, &mut rest)? == [VERSION]).then_some(())?;
        let key = self.find(take_text(&mut rest)?)?;
        hmac::verify(&key.key, &signed(body), signature).ok()?;
        let read = Read {
            expires_at: take_number(&mut rest)?,
            principal: take_text(&mut rest)?,
            reply: take_reply(&mut rest)?,
        };
        rest.is_empty().then_some(read)
    }
}

struct Read<'b> {
    expires_at: u64,
    principal: &'b str,
    reply: Reply<'b>,
}

fn signature_of(key: &Key, body: &[u8]) -> hmac::Tag {
    hmac::sign(&key.key, &signed(body))
}

fn signed(body: &[u8]) -> Vec<u8> {
    [PURPOSE, body].concat()
}

fn put_reply(reply: &Reply<'_>, out: &mut Vec<u8>) {
    match reply.domain {
        None => out.push(1),
        Some((domain, account)) => {
            out.push(2);
            put_text(domain, out);
            put_text(account, out);
        }
    }
    put_text(reply.stream, out);
    put_text(reply.consumer, out);
    for number in reply.numbers {
        put_number(number, out);
    }
    put_text(reply.tail, out);
}

fn take_reply<'b>(rest: &mut &'b [u8]) -> Option<Reply<'b>> {
    let domain = match take(1, rest)? {
        [1] => None,
        [2] => Some((take_text(rest)?, take_text(rest)?)),
        _ => return None,
    };
    let (stream, consumer) = (take_text(rest)?, take_text(rest)?);
    let mut numbers = Numbers::default();
    for number in &mut numbers {
        *number = take_number(rest)?;
    }
    Some(Reply {
        domain,
        stream,
        consumer,
        numbers,
        tail: take_text(rest)?,
    })
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    std::str::from_utf8(take(length, rest)?).ok()
}

/// Seven bits a byte, the lowest first.
fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(1, rest)?[0];
        let bits = u64::from(byte & 0x7f);
        number |= bits << shift;
        if byte < 0x80 {
            // Nothing may have been shifted out at the top.
            return (number >> shift == bits).then_some(number);
        }
    }
    None
}

fn take<'b>(length: usize, rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests;
