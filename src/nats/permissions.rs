//! What the server lets this natsway's NATS user do, as far as the server tells.
//!
//! Read at every connect from `$SYS.REQ.USER.INFO` (nats-server, `accounts.go`). Where it is known,
//! a message that would be denied is refused here, before it costs a round trip; where it is not,
//! the fences find out.

use serde::Deserialize;

use crate::subject::SubjectPattern;

/// The subject a client asks about itself on.
pub(super) const USER_INFO: &str = "$SYS.REQ.USER.INFO";

#[derive(Debug, Default)]
struct Rules {
    allow: Option<Vec<SubjectPattern>>,
    deny: Vec<SubjectPattern>,
}

impl Rules {
    fn permits(&self, subject: &str) -> bool {
        let allowed = self
            .allow
            .as_ref()
            .is_none_or(|allow| allow.iter().any(|pattern| pattern.matches(subject)));
        allowed && !self.deny.iter().any(|pattern| pattern.matches(subject))
    }
}

/// The permissions of the NATS user of one connection.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    publish: Rules,
    certain: bool,
}

impl Permissions {
    /// Reads the answer to [`USER_INFO`]; uncertain where it cannot be understood.
    pub(super) fn from_user_info(answer: &[u8]) -> Self {
        serde_json::from_slice::<Answer>(answer)
            .ok()
            .and_then(Answer::into_permissions)
            .unwrap_or_default()
    }

    /// Whether a message to `subject` may be sent, as far as is known.
    pub(super) fn permits_publish(&self, subject: &str) -> bool {
        self.publish.permits(subject)
    }

    /// Whether the answers here are final.
    pub(super) const fn is_certain(&self) -> bool {
        self.certain
    }
}

#[derive(Deserialize)]
struct Answer {
    data: UserInfo,
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(default)]
    permissions: Option<UserPermissions>,
}

#[derive(Default, Deserialize)]
struct UserPermissions {
    #[serde(default)]
    publish: Option<SubjectLists>,
}

#[derive(Default, Deserialize)]
struct SubjectLists {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

impl Answer {
    fn into_permissions(self) -> Option<Permissions> {
        let lists = self
            .data
            .permissions
            .and_then(|all| all.publish)
            .unwrap_or_default();
        let parse = |list: Vec<String>| {
            list.iter()
                .map(|text| SubjectPattern::parse(text).ok())
                .collect::<Option<Vec<_>>>()
        };
        let allow = parse(lists.allow)?;
        let publish = Rules {
            allow: (!allow.is_empty()).then_some(allow),
            deny: parse(lists.deny)?,
        };
        Some(Permissions {
            publish,
            certain: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_limits_may_publish_anywhere() {
        let permissions =
            Permissions::from_user_info(br#"{"server":{},"data":{"user":"u","account":"A"}}"#);
        assert!(permissions.is_certain());
        assert!(permissions.permits_publish("any.thing"));
    }

    #[test]
    fn allow_and_deny_are_the_servers() {
        let info = br#"{"data":{"permissions":{"publish":{"allow":["ok.>"],"deny":["ok.not"]},"subscribe":{}}}}"#;
        let permissions = Permissions::from_user_info(info);
        assert!(permissions.permits_publish("ok.a"));
        assert!(!permissions.permits_publish("ok.not"));
        assert!(!permissions.permits_publish("other"));
    }

    #[test]
    fn what_cannot_be_understood_is_left_to_the_fences() {
        for answer in [
            "",
            "{}",
            "[]",
            r#"{"data":{"permissions":{"publish":{"allow":["a b"]}}}}"#,
        ] {
            let permissions = Permissions::from_user_info(answer.as_bytes());
            assert!(!permissions.is_certain(), "{answer}");
            assert!(permissions.permits_publish("x"), "{answer}");
        }
    }
}
