use super::*;
use crate::config::{AuthMethod, SecretSource};

#[test]
fn contradictory_authentication_is_refused() {
    assert_one(
        "nats: { auth: { token: a, nkey: b } }",
        "nats.auth.nkey: ",
        "contradicts `token`",
    );
    assert_one(
        "nats: { auth: { token: a, token_file: /dev/null } }",
        "nats.auth.token_file: ",
        "already",
    );
    assert_one(
        "nats: { auth: { user: a } }",
        "nats.auth.password_file: ",
        "without a password",
    );
    assert_one(
        "nats: { auth: { creds_file: /nowhere/x.creds } }",
        "nats.auth.creds_file: ",
        "/nowhere/x.creds",
    );
    assert_one(
        "nats: { servers: [\"nats://u:p@a\"], auth: { token: t } }",
        "nats.servers[0]: ",
        "differs",
    );
    assert_one(
        "nats: { servers: [\"nats://u:p@a\", \"nats://v:p@b\"] }",
        "nats.servers[1]: ",
        "differs",
    );
}

#[test]
fn user_information_moves_to_auth_and_is_never_shown() {
    let config =
        load("nats: { servers: [\"nats://us%40er:p%3Ass@a:4222\", \"tls://us%40er:p%3Ass@b\"] }")
            .unwrap();
    let AuthMethod::UserPassword(user, SecretSource::Inline(password)) = config.nats.auth.method()
    else {
        panic!("{:?}", config.nats.auth)
    };
    assert_eq!((&*user, password.expose()), ("us@er", "p:ss"));
    assert_eq!(config.nats.servers[0].as_str(), "nats://a:4222");
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("p:ss") && !shown.contains("p%3Ass") && shown.contains("[redacted]"));
    let token = load("nats: { servers: [\"nats://s3cret@a\"] }").unwrap();
    assert!(matches!(token.nats.auth.method(), AuthMethod::Token(_)));
}

#[test]
fn a_header_whose_name_says_that_it_is_secret_is_printed_without_its_value() {
    let routes = |value: &str| {
        load(&format!(
            "routes: [{{ name: r, match: {{ method: POST, path: /r }}, publish: {{ subject: a }}, headers: {{ set: {{ Authorization: '{value}', X-Api-Key: '{value}', Region: eu }} }} }}]"
        ))
    };
    let shown = serde_json::to_value(routes("s3cret").unwrap()).unwrap();
    let set = &shown["routes"][0]["headers"]["set"];
    assert_eq!(set["Authorization"], "[redacted]");
    assert_eq!(set["X-Api-Key"], "[redacted]");
    assert_eq!(set["Region"], "eu");
    let errors = routes("[redacted]").unwrap_err().to_string();
    assert!(errors.contains("put the value in its place"), "{errors}");
}

#[test]
fn errors_show_no_secrets() {
    for yaml in [
        "nats: { servers: [\"nats://user:hunter2@\"] }",
        "nats: { servers: [\"http://user:hunter2@a\"] }",
        "nats: { servers: [\"nats://user:hunter2@a:99999\"] }",
        "nats: { auth: { token: hunter2, nkey: hunter2 } }",
        "nats: { auth: { password: [hunter2], user: u } }",
        "ack_tokens: { keys: \"a:hunter2\" }",
    ] {
        let errors = load(yaml).unwrap_err().to_string();
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn a_secret_file_is_read_at_each_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "one\n").unwrap();
    let config = load(&format!(
        "nats: {{ auth: {{ token_file: {} }} }}",
        path.display()
    ))
    .unwrap();
    let AuthMethod::Token(token) = config.nats.auth.method() else {
        panic!("a token")
    };
    assert_eq!(token.read().unwrap().expose(), "one");
    fs::write(&path, "two").unwrap();
    assert_eq!(token.read().unwrap().expose(), "two");
    fs::remove_file(&path).unwrap();
    assert!(
        token
            .read()
            .unwrap_err()
            .to_string()
            .contains(path.to_str().unwrap())
    );
}

#[test]
fn keys_for_ack_tokens_are_checked() {
    let key = "0123456789abcdef".repeat(4);
    let keys = |text: &str| format!("ack_tokens: {{ keys: \"{text}\" }}");
    assert!(load(&keys(&format!("a:{key}\\nb:{key}\\n"))).is_ok());
    assert_one(
        &keys(&format!("a:{key}\\nb:short")),
        "ack_tokens.keys: ",
        "line 2",
    );
    assert_one(
        "ack_tokens: { key_file: /nowhere/keys }",
        "ack_tokens.key_file: ",
        "/nowhere/keys",
    );
}
