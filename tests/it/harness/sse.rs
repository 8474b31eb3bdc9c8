//! A reader of server-sent events written from the HTML standard, section 9.2.6, and from nothing
//! of natsway's: it accepts CR, LF and CRLF, and shows comments and bare ids as well.

use std::collections::VecDeque;

/// One block, up to its empty line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// `event:`, or nothing for an ordinary message.
    pub(crate) event: Option<String>,
    /// The `data:` lines joined by LF; nothing where there was none, and then nothing is dispatched.
    pub(crate) data: Option<String>,
    /// `id:`.
    pub(crate) id: Option<String>,
    /// `retry:` in milliseconds.
    pub(crate) retry: Option<u64>,
    /// Lines that begin with a colon.
    pub(crate) comments: Vec<String>,
}

impl Block {
    /// The data as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let data = self.data.as_deref().expect("the block has data");
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data:?}"))
    }

    /// Whether a browser would dispatch it.
    pub(crate) fn is_event(&self) -> bool {
        self.data.is_some()
    }
}

/// The parser: bytes in, blocks out.
#[derive(Default)]
pub(crate) struct Parser {
    pending: Vec<u8>,
    block: Block,
    touched: bool,
    blocks: VecDeque<Block>,
    after_cr: bool,
    begun: bool,
}

impl Parser {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let follows_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if follows_cr => {}
                b'\n' => self.line(),
                b'\r' => {
                    self.after_cr = true;
                    self.line();
                }
                _ => self.pending.push(byte),
            }
        }
    }

    pub(crate) fn next(&mut self) -> Option<Block> {
        self.blocks.pop_front()
    }

    fn line(&mut self) {
        let bytes = std::mem::take(&mut self.pending);
        let line = String::from_utf8(bytes).expect("an event stream is UTF-8");
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
            true => &line,
        };
        if line.is_empty() {
            if std::mem::take(&mut self.touched) {
                self.blocks.push_back(std::mem::take(&mut self.block));
            }
            return;
        }
        self.touched = true;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value));
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "" => self.block.comments.push(value.to_owned()),
            "event" => self.block.event = Some(value.to_owned()),
            "data" => match &mut self.block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.block.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.block.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.block.retry = value.parse().ok();
            }
            _ => {}
        }
    }
}
