//! Seeing which messages are too large while they are passed over.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rmcp::model::RequestId;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

/// The longest id that is taken note of, in bytes.
const MAX_ID: usize = 256;
/// The most messages that wait to be answered so; of more, nothing is said.
const MAX_WAITING: usize = 64;

/// Messages that were too large, by their ids.
#[derive(Default)]
pub(super) struct Large {
    ids: Mutex<Vec<Option<RequestId>>>,
    /// There is another one.
    pub more: Notify,
}

impl Large {
    /// Those that were not taken yet.
    pub fn take(&self) -> Vec<Option<RequestId>> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *ids)
    }

    fn add(&self, id: Option<RequestId>) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() < MAX_WAITING {
            ids.push(id);
        }
        drop(ids);
        self.more.notify_one();
    }
}

/// What is read, looked at on the way.
pub(super) struct Watched<R> {
    inner: R,
    most: usize,
    large: Arc<Large>,
    /// How many bytes of this line came so far.
    bytes: usize,
    glance: Glance,
    /// Whether it was said that a line is no message.
    told: bool,
}

impl<R> Watched<R> {
    pub fn new(inner: R, most: usize, large: Arc<Large>) -> Self {
        Watched {
            inner,
            most,
            large,
            bytes: 0,
            glance: Glance::default(),
            told: false,
        }
    }

    /// Whoever types here, or pipes something else, gets no answer. Once is enough: a client that floods is not to
    /// fill a log as well.
    fn pass_over(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                "a line of the input is no JSON, and is passed over, as others like it will be: a message is one \
                 line with one JSON object"
            );
        }
    }

    fn look(&mut self, read: &[u8]) {
        for byte in read {
            self.bytes += 1;
            if *byte != b'\n' {
                self.glance.look(*byte);
                continue;
            }
            let glance = std::mem::take(&mut self.glance);
            if std::mem::take(&mut self.bytes) > self.most {
                self.large.add(glance.id());
            } else if glance.is_broken() {
                self.pass_over();
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.look(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

/// Finds the `id` of an object of JSON as it goes by, keeping next to nothing of it.
#[derive(Default)]
struct Glance {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The first that is not blank, nor of a mark of the byte order.
    first: Option<u8>,
    /// The text or number that was last seen in the outermost object.
    token: Vec<u8>,
    /// Whether the next one is the id.
    awaited: bool,
    id: Option<Vec<u8>>,
}

impl Glance {
    fn look(&mut self, byte: u8) {
        let outermost = self.depth == 1;
        if !matches!(byte, b' ' | b'\t' | b'\r' | 0xEF | 0xBB | 0xBF) {
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

    /// Whether the line is neither empty nor a whole object or list, as far as brackets tell.
    fn is_broken(&self) -> bool {
        let begins = matches!(self.first, Some(b'{' | b'['));
        self.first.is_some() && !(begins && self.depth == 0 && !self.in_text)
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

    #[test]
    fn what_is_no_json_is_told_from_what_may_be() {
        for (text, is_broken) in [
            ("", false),
            ("\r", false),
            ("\u{feff}{}", false),
            (r#"{"jsonrpc":"2.0","a":["}"]}"#, false),
            ("[1, 2]", false),
            ("not json", true),
            ("{", true),
            (r#"{"a": "b}"#, true),
            ("}", true),
        ] {
            let mut glance = Glance::default();
            text.bytes().for_each(|byte| glance.look(byte));
            assert_eq!(glance.is_broken(), is_broken, "{text}");
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
