//! Lines of at most so many bytes. Of a longer one, only its id is looked for while it is passed over.

use std::io;

use rmcp::model::RequestId;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest id that is taken note of, in bytes.
const MAX_ID: usize = 256;

/// A line, without its end.
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// One that was not kept, and the id of the message in it.
    TooLong(Option<RequestId>),
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
                    Some(glance) => Line::TooLong(glance.id()),
                    None => Line::Whole(std::mem::take(&mut self.line)),
                }));
            }
        }
    }
}

/// Finds the `id` of an object of JSON as it goes by, keeping next to nothing of it.
#[derive(Default)]
struct Glance {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The text or number that was last seen in the outermost object.
    token: Vec<u8>,
    /// Whether the next one is the id.
    awaited: bool,
    id: Option<Vec<u8>>,
}

impl Glance {
    fn look(&mut self, byte: u8) {
        let outermost = self.depth == 1;
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
                self.awaited = self.token == b"\"id\"";
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

    fn id(self) -> Option<RequestId> {
        serde_json::from_slice(&self.id?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<RequestId> {
        let mut glance = Glance::default();
        text.bytes().for_each(|byte| glance.look(byte));
        glance.id()
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
                    Line::TooLong(id) => format!("too long: {id:?}"),
                });
            }
            let second = match is_kept {
                true => long.clone(),
                false => format!("too long: {:?}", Some(RequestId::Number(7))),
            };
            assert_eq!(read, ["one", &second, "", "last"]);
        }
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
            r#"{"id":"#,
            &long,
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
