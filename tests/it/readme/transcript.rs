//! Fenced blocks of a Markdown file, and the comparison of an answer with what is printed.

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    /// Of a `console` block: the commands, each with its answer.
    pub(crate) steps: Vec<Step>,
}

/// One command after `$ `.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) expected: String,
    /// It ends with `&`.
    pub(crate) background: bool,
}

/// Every fenced block, in order.
pub(crate) fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in markdown.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    steps: Vec::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(with_steps)),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn with_steps(mut block: Block) -> Block {
    if block.language == "console" {
        for line in block.text.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                let foreground = command.strip_suffix(" &");
                block.steps.push(Step {
                    command: foreground.unwrap_or(command).to_owned(),
                    expected: String::new(),
                    background: foreground.is_some(),
                });
            } else {
                let step = block
                    .steps
                    .last_mut()
                    .expect("a block begins with a command");
                step.expected.push_str(line);
                step.expected.push('\n');
            }
        }
    }
    block
}

/// Whether `answer` is what is printed: `…` stands for anything within a line, and alone on a line
/// for any number of lines.
pub(crate) fn matches(expected: &str, answer: &str) -> bool {
    let clean = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    let (expected, answer) = (clean(expected), clean(answer));
    let expected: Vec<&str> = expected.lines().collect();
    let answer: Vec<&str> = answer.lines().collect();
    lines_match(&expected, &answer)
}

fn lines_match(expected: &[&str], answer: &[&str]) -> bool {
    match expected {
        [] => answer.is_empty(),
        ["…", rest @ ..] => (0..=answer.len()).any(|skip| lines_match(rest, &answer[skip..])),
        [line, rest @ ..] => match answer {
            [first, others @ ..] => line_matches(line, first) && lines_match(rest, others),
            [] => false,
        },
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let Some((head, tail)) = expected.split_once('…') else {
        return expected == line;
    };
    let Some(rest) = line.strip_prefix(head) else {
        return false;
    };
    let starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.into_iter().any(|at| line_matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::{blocks, matches};

    #[test]
    fn dots_stand_for_what_differs() {
        assert!(matches("a…d\n", "abcd"));
        assert!(matches(
            "HTTP/1.1 200 OK\n…\n{…}\n",
            "HTTP/1.1 200 OK\r\nx: y\r\n\r\n{1}"
        ));
        assert!(matches("…\nlast", "last"));
        assert!(matches("", "\n"));
        assert!(!matches("a…d", "abc"));
        assert!(!matches("a\n…\nb", "a\nc"));
        assert!(!matches("", "something"));
        assert!(!matches("something", ""));
    }

    #[test]
    fn commands_come_with_their_answers() {
        let found = blocks("x\n```console\n$ one &\n1\n2\n$ two\n```\n```python\npass\n```\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].steps[0].command, "one");
        assert!(found[0].steps[0].background);
        assert_eq!(found[0].steps[0].expected, "1\n2\n");
        assert_eq!(found[0].steps[1].expected, "");
        assert_eq!(found[1].text, "pass\n");
    }
}
