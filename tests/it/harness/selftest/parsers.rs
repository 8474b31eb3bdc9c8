use crate::harness::sse::{Block, Parser};

fn blocks(stream: &[u8]) -> Vec<Block> {
    let mut parser = Parser::default();
    parser.feed(stream);
    std::iter::from_fn(|| parser.next()).collect()
}

#[test]
fn every_line_end_of_the_standard_is_one() {
    let expected = Block {
        event: Some("gap".into()),
        data: Some("a\nb".into()),
        id: Some("7".into()),
        ..Block::default()
    };
    for end in ["\n", "\r", "\r\n"] {
        let lines = ["event: gap", "data: a", "data:b", "id: 7", "", ""].join(end);
        assert_eq!(
            blocks(lines.as_bytes()),
            std::slice::from_ref(&expected),
            "{end:?}"
        );
    }
}

#[test]
fn comments_and_bare_ids_are_blocks_but_no_events() {
    let seen =
        blocks(b"\xef\xbb\xbfid: 4\n\n: still here\n\ndata\n\nretry: 50\nretry: x\ndata: {}\n\n");
    assert_eq!(seen[0].id.as_deref(), Some("4"));
    assert!(!seen[0].is_event() && !seen[1].is_event());
    assert_eq!(seen[1].comments, ["still here"]);
    assert_eq!(seen[2].data.as_deref(), Some(""));
    assert_eq!(seen[3].retry, Some(50));
}
