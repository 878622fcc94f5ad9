//! Lines of at most so many bytes. Of a longer one, only who waits for an answer to it is looked for while it is
//! passed over.

use std::io;

use rmcp::model::RequestId;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest id that is taken note of, in bytes.
const MAX_ID: usize = 256;

/// A line, without its end.
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// One that was not kept.
    TooLong(Waits),
}

/// Who waits for an answer to a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Waits {
    /// Nobody: it is a notification.
    Nobody,
    /// Whoever sent a request of this id. `None` where there is no id to be read, for what is no object, and for an
    /// answer, whose id is not of the sender's choosing.
    For(Option<RequestId>),
}

/// Reads lines.
pub(super) struct Lines<R> {
    read: BufReader<R>,
    most: usize,
    /// What came of this one so far.
    line: Vec<u8>,
    /// Set once it is too long.
    glance: Option<Glance>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `most` bytes, their ends included.
    pub fn new(read: R, most: usize) -> Self {
        Lines {
            read: BufReader::new(read),
            most,
            line: Vec::new(),
            glance: None,
        }
    }

    /// The next; `None` at the end, before which what has no end of its own is no line. It can be dropped and called
    /// again without that anything is lost.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let there = self.read.fill_buf().await?;
            if there.is_empty() {
                return Ok(None);
            }
            let end = there.iter().position(|byte| *byte == b'\n');
            let part = &there[..end.unwrap_or(there.len())];
            match &mut self.glance {
                Some(glance) => part.iter().for_each(|byte| glance.look(*byte)),
                None if self.line.len() + part.len() < self.most => {
                    self.line.extend_from_slice(part);
                }
                None => {
                    let glance = self.glance.insert(Glance::default());
                    let kept = std::mem::take(&mut self.line);
                    kept.iter().chain(part).for_each(|byte| glance.look(*byte));
                }
            }
            let read = part.len() + usize::from(end.is_some());
            self.read.consume(read);
            if end.is_some() {
                return Ok(Some(match self.glance.take() {
                    Some(glance) => Line::TooLong(glance.waits()),
                    None => Line::Whole(std::mem::take(&mut self.line)),
                }));
            }
        }
    }
}

/// The names that a message has.
const NAMES: [&[u8]; 6] = [
    b"\"id\"",
    b"\"method\"",
    b"\"result\"",
    b"\"error\"",
    b"\"params\"",
    b"\"jsonrpc\"",
];
const ID: usize = 0;
const METHOD: usize = 1;
const RESULT: usize = 2;
const ERROR: usize = 3;

/// Looks at an object of JSON as it goes by, keeping next to nothing of it.
#[derive(Default)]
pub(super) struct Glance {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The text or number that was last seen in the outermost object.
    token: Vec<u8>,
    /// Whether the next one is the id.
    awaited: bool,
    id: Option<Vec<u8>>,
    /// How often each of its names stands in the outermost object.
    names: [u64; NAMES.len()],
    /// What it begins with.
    first: Option<u8>,
    /// Whether a name is written with an escape, and so may be any.
    obscure: bool,
}

impl Glance {
    /// One at a whole line.
    pub fn at(line: &[u8]) -> Self {
        let mut glance = Glance::default();
        line.iter().for_each(|byte| glance.look(*byte));
        glance
    }

    fn look(&mut self, byte: u8) {
        let outermost = self.depth == 1;
        if !byte.is_ascii_whitespace() {
            self.first.get_or_insert(byte);
        }
        if self.in_text {
            if outermost {
                self.keep(byte);
            }
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                if outermost {
                    self.token.clear();
                    self.keep(byte);
                }
            }
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.token.clear();
                self.awaited = false;
            }
            b'}' | b']' | b',' => {
                if outermost && self.awaited && !self.token.is_empty() {
                    self.id = Some(std::mem::take(&mut self.token));
                }
                if byte != b',' {
                    self.depth = self.depth.saturating_sub(1);
                }
                if outermost {
                    self.token.clear();
                    self.awaited = false;
                }
            }
            b':' if outermost => {
                let name = NAMES.iter().position(|name| self.token == *name);
                if let Some(name) = name {
                    self.names[name] += 1;
                }
                self.obscure |= self.token.contains(&b'\\');
                self.awaited = name == Some(ID);
                self.token.clear();
            }
            b' ' | b'\t' | b'\r' => {}
            _ if outermost => self.keep(byte),
            _ => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        // One that is longer is cut, and so read as none.
        if self.token.len() < MAX_ID {
            self.token.push(byte);
        }
    }

    /// Whether one of its names stands in it more than once.
    pub fn repeats(&self) -> bool {
        self.names.iter().any(|times| *times > 1)
    }

    /// Who waits for an answer.
    pub fn waits(self) -> Waits {
        let has = |name: usize| self.names[name] > 0;
        let is_whole = self.first == Some(b'{') && self.depth == 0;
        match has(METHOD) {
            _ if self.obscure || !is_whole => Waits::For(None),
            true if !has(ID) => Waits::Nobody,
            false if has(RESULT) || has(ERROR) => Waits::For(None),
            // Of two ids, either may be the one.
            _ if self.names[ID] > 1 => Waits::For(None),
            _ => Waits::For(self.id.and_then(|id| serde_json::from_slice(&id).ok())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<RequestId> {
        match Glance::at(text.as_bytes()).waits() {
            Waits::For(id) => id,
            Waits::Nobody => panic!("it is a notification: {text}"),
        }
    }

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        let seven = Some(RequestId::Number(7));
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#), seven);
        assert_eq!(id(r#"{"params":{"id":8,"a":[{"id":9}]},"id": 7 }"#), seven);
        assert_eq!(id(r#"{"a":"\"id\":8,","id":7,"b":{"id":1}}"#), seven);
        assert_eq!(id(r#"{"a":"id","b":"id","id":7}"#), seven);
        let text = Some(RequestId::String("a\"b".into()));
        assert_eq!(id(r#"{"id":"a\"b","x":[1,2]}"#), text);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over_and_what_comes_after_it_is_not() {
        let long = format!(r#"{{"id":7,"x":"{}"}}"#, "x".repeat(20_000));
        for (most, is_kept) in [(long.len(), false), (long.len() + 1, true)] {
            let text = format!("one\n{long}\n\nlast\nno line");
            let mut lines = Lines::new(text.as_bytes(), most);
            let mut read = Vec::new();
            while let Some(line) = lines.next().await.unwrap() {
                read.push(match line {
                    Line::Whole(line) => String::from_utf8(line).unwrap(),
                    Line::TooLong(waits) => format!("too long: {waits:?}"),
                });
            }
            let second = match is_kept {
                true => long.clone(),
                false => format!("too long: {:?}", Waits::For(Some(RequestId::Number(7)))),
            };
            assert_eq!(read, ["one", &second, "", "last"]);
        }
    }

    #[test]
    fn nobody_waits_for_a_notification() {
        for text in [r#"{"method":"x"}"#, r#"{"params":{"id":7},"method":"x"}"#] {
            assert_eq!(Glance::at(text.as_bytes()).waits(), Waits::Nobody, "{text}");
        }
    }

    #[test]
    fn what_stands_twice_is_seen() {
        let repeats = |text: &str| Glance::at(text.as_bytes()).repeats();
        assert!(repeats(r#"{"params":{},"method":"x","params":{}}"#));
        assert!(!repeats(
            r#"{"params":{"method":1,"params":2},"method":"params","x":1,"x":2}"#
        ));
    }

    #[test]
    fn what_has_none_has_none() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(MAX_ID));
        for text in [
            "",
            "xxxx",
            "[1,2,3]",
            "}}}}",
            r#"{"id":{"id":1}}"#,
            r#"{"id":[1]}"#,
            r#"{"params":{"id":1}}"#,
            r#"{"id":null}"#,
            // An answer: the id is one of ours.
            r#"{"id":7,"result":{}}"#,
            r#"{"error":{"code":1},"id":7}"#,
            r#"{"id":7,"method":"x","id":8}"#,
            r#"{"method":"x","\u0069d":7}"#,
            r#"["method":"x"]"#,
            r#"{"id":7,"method":"x""#,
            r#"{"method":"x""#,
            r#"{"id":"#,
            &long,
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
