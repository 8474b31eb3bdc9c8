use super::*;

fn route(name: &str, rest: &str) -> String {
    format!("  - {{ name: {name}, {rest} }}\n")
}

#[test]
fn routes_that_cannot_stand_side_by_side_are_named_both() {
    let get = |name: &str, path: &str| {
        route(
            name,
            &format!("match: {{ method: GET, path: \"{path}\" }}, request: {{ subject: x }}"),
        )
    };
    let pair = |a: &str, b: &str| format!("routes:\n{}{}", get("one", a), get("two", b));
    assert_one(
        &pair("/a/{x}", "/a/{y}"),
        "routes[1].match.path: ",
        "`one` (/a/{x})",
    );
    assert_one(&pair("/a", "/a"), "routes[1].match.path: ", "`one` (/a)");
    assert_one(
        &pair("/a/{x}/b", "/a/c/{y}"),
        "routes[1].match.path: ",
        "neither is more specific",
    );
    assert!(load(&pair("/a/{x}", "/a/b")).is_ok());
    let post = route(
        "two",
        "match: { method: POST, path: \"/a/{y}\" }, request: { subject: x }",
    );
    assert_one(
        &format!("routes:\n{}{post}", get("one", "/a/{x}")),
        "routes[1].match.path: ",
        "name its captures",
    );
    let same = post.replace("{y}", "{x}");
    assert!(load(&format!("routes:\n{}{same}", get("one", "/a/{x}"))).is_ok());
    let twice = format!("routes:\n{}{}", get("one", "/a"), get("one", "/b"));
    assert_one(&twice, "routes[1].name: ", "`one`");
}

#[test]
fn a_route_is_checked_whole() {
    let one = |rest: &str| format!("routes:\n{}", route("a", rest));
    let get = "match: { method: GET, path: \"/a/{x}\" }";
    let post = "match: { method: POST, path: \"/a/{x}\" }";
    for (rest, at, holds) in [
        (
            format!("{get}, request: {{ subject: \"a.{{y}}\" }}"),
            "routes[0].request.subject: ",
            "`{y}`",
        ),
        (
            format!("{get}, request: {{ subject: \"a.*\" }}"),
            "routes[0].request.subject: ",
            "wildcard",
        ),
        (
            format!("{get}, request: {{}}"),
            "routes[0].request: ",
            "missing key `subject`",
        ),
        (get.to_owned(), "routes[0]: ", "needs one of"),
        (
            format!("{get}, request: {{ subject: a }}, replay: {{ stream: S }}"),
            "routes[0].replay: ",
            "contradicts `request`",
        ),
        (
            format!("{get}, publish: {{ subject: a }}"),
            "routes[0].match.method: ",
            "must not be GET",
        ),
        (
            format!("{post}, replay: {{ stream: S }}"),
            "routes[0].match.method: ",
            "must be GET",
        ),
        (
            format!("{post}, replay: {{ stream: S.T }}").replace("POST", "GET"),
            "routes[0].replay.stream: ",
            "not allowed",
        ),
        (
            format!("{post}, publish: {{ subject: a, stream: S }}"),
            "routes[0].publish.stream: ",
            "confirm: stream",
        ),
        (
            format!("{get}, subscribe: {{ subjects: [\"a.*\", a.b] }}"),
            "routes[0].subscribe.subjects[1]: ",
            "overlaps",
        ),
        (
            format!("{get}, subscribe: {{ subjects: [] }}"),
            "routes[0].subscribe.subjects: ",
            "at least one",
        ),
        (
            format!("{get}, request: {{ subject: a }}, params: [ttl]"),
            "routes[0].params[0]: ",
            "means nothing to request",
        ),
        (
            format!("{get}, request: {{ subject: a }}, params: [color]"),
            "routes[0].params[0]: ",
            "unknown word",
        ),
        (
            format!("{get}, request: {{ subject: a }}, timeout: 0"),
            "routes[0].timeout: ",
            "longer than 0",
        ),
        (
            format!("{get}, request: {{ subject: a }}, rate: {{ limit: 5 }}"),
            "routes[0].rate.limit: ",
            "200/s",
        ),
        (
            format!("{get}, request: {{ subject: a }}, headers: {{ set: {{ Nats-X: a }} }}"),
            "routes[0].headers.set.Nats-X: ",
            "NATS",
        ),
        (
            format!("{get}, request: {{ subject: a }}, headers: {{ set: {{ X: \"{{z}}\" }} }}"),
            "routes[0].headers.set.X: ",
            "`{z}`",
        ),
        (
            format!("{get}, request: {{ subject: a }}, headers: {{ return: [Set-Cookie] }}"),
            "routes[0].headers.return[0]: ",
            "security",
        ),
        (
            format!("{get}, request: {{ subject: a }}, headers: {{ forward: [\"a b\"] }}"),
            "routes[0].headers.forward[0]: ",
            "header name",
        ),
    ] {
        assert_one(&one(&rest), at, holds);
    }
    assert_one(
        &format!(
            "routes:\n{}",
            route("publish", &format!("{get}, request: {{ subject: a }}"))
        ),
        "routes[0].name: ",
        "built-in",
    );
}
