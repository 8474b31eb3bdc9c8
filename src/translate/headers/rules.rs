//! What a route does with headers, prepared when the route is built.

use async_nats::header::HeaderName as NatsName;
use http::HeaderName;

use super::outbound::is_never_returned;
use super::{HeaderError, nats_name, nats_value};
use crate::subject::Template;

/// A route's own rules for headers, beside the general ones.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(super) forward: Vec<(HeaderName, NatsName)>,
    pub(super) set: Vec<(NatsName, Template)>,
    pub(super) returned: Vec<HeaderName>,
    pub(super) message_id_prefix: Option<Box<str>>,
    pub(super) content_type_stays: bool,
}

impl Rules {
    /// Forwards one more request header, under the name as it is written here.
    ///
    /// # Errors
    ///
    /// When it is no header name or steers NATS.
    pub fn forward(&mut self, name: &str) -> Result<&mut Self, HeaderError> {
        let nats = nats_name(name)?;
        self.forward.push((http_name(name)?, nats));
        Ok(self)
    }

    /// Sets a NATS header of every message, whatever the client sends under that name. It is left
    /// out where a capture has no value (`{query.name}` without the parameter).
    ///
    /// # Errors
    ///
    /// When it is no header name, steers NATS, or has a control character in its fixed text.
    pub fn set(&mut self, name: &str, value: &Template) -> Result<&mut Self, HeaderError> {
        let nats = nats_name(name)?;
        nats_value(name, value.as_str())?;
        self.set.push((nats, value.clone()));
        Ok(self)
    }

    /// Gives one more header of a reply back under its own name, without the prefix.
    ///
    /// # Errors
    ///
    /// When it is no header name, or one that a responder must not decide.
    pub fn give_back(&mut self, name: &str) -> Result<&mut Self, HeaderError> {
        let http = http_name(name)?;
        if is_never_returned(http.as_str()) || http == http::header::CONTENT_LENGTH {
            return Err(HeaderError::NotAllowed {
                name: name.to_owned(),
                instead: None,
            });
        }
        self.returned.push(http);
        Ok(self)
    }

    /// Puts the route's name before every `Idempotency-Key`, so that routes that share a stream do
    /// not take each other's keys.
    #[must_use]
    pub fn with_message_ids_of(mut self, route: &str) -> Self {
        self.message_id_prefix = Some(format!("{route}:").into());
        self
    }

    /// What stands before every message id, for the ids that come in a body.
    #[must_use]
    pub fn message_id_prefix(&self) -> Option<&str> {
        self.message_id_prefix.as_deref()
    }

    /// Leaves `Content-Type` behind: it describes a body that is cut into messages.
    #[must_use]
    pub fn without_content_type(mut self) -> Self {
        self.content_type_stays = true;
        self
    }

    pub(super) fn sets(&self, name: &str) -> bool {
        self.set
            .iter()
            .any(|(set, _)| AsRef::<str>::as_ref(set).eq_ignore_ascii_case(name))
    }
}

fn http_name(name: &str) -> Result<HeaderName, HeaderError> {
    name.parse().map_err(|_| HeaderError::Invalid {
        name: name.to_owned(),
        why: "has a name that is no HTTP token",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_cannot_open_what_is_closed() {
        let text = Template::parse("x").unwrap();
        for name in ["Nats-Msg-Id", "kv-operation", "Status", "a b", "", "a:b"] {
            assert!(Rules::default().forward(name).is_err(), "{name}");
            assert!(Rules::default().set(name, &text).is_err(), "{name}");
        }
        for name in [
            "Set-Cookie",
            "Connection",
            "Content-Length",
            "Access-Control-Allow-Origin",
            "a b",
        ] {
            assert!(Rules::default().give_back(name).is_err(), "{name}");
        }
        assert!(
            Rules::default()
                .set("A", &Template::parse("a\r\nB: c").unwrap())
                .is_err()
        );
    }
}
