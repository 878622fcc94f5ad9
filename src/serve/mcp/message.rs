//! What a message asks for, as far as that matters before it is read.

use std::borrow::Cow;

use serde::Deserialize;

use super::progress_token::has_short_token;
use crate::limits::display_bytes;

/// How much text there may be of a message that is kept for as long as what it begins, in bytes: a client's name, what it
/// can do, and what it wants to be told take a few hundred.
const MOST_TEXT: u64 = 64 << 10;
/// How much its values may take, in bytes, as [`measure`](crate::json::measure) has it: an empty object takes some
/// hundreds.
const MOST_VALUES: u64 = 256 << 10;

/// What a message begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::serve) enum Begins {
    /// A session of an older client (`initialize`).
    Session,
    /// A stream of news (`subscriptions/listen`).
    News,
    /// It cannot be told, so it may be either.
    Unclear,
    /// Nothing that outlives its answer but a token for its progress.
    #[default]
    Nothing,
}

impl Begins {
    /// What this message begins.
    pub fn of(message: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Asks<'m> {
            #[serde(borrow)]
            method: Option<Cow<'m, str>>,
        }
        match serde_json::from_slice::<Asks<'_>>(message) {
            Ok(asks) => match asks.method.as_deref() {
                Some("initialize") => Begins::Session,
                Some("subscriptions/listen") => Begins::News,
                _ => Begins::Nothing,
            },
            Err(_) => Begins::Unclear,
        }
    }

    /// Looks whether it is kept, and too much for that. `heap`: what its values take, in bytes.
    ///
    /// # Errors
    /// Why it is not read, for whoever has sent it.
    pub fn fits(self, message: &[u8], heap: u64) -> Result<(), String> {
        let what = match self {
            Begins::Nothing => return has_short_token(message),
            Begins::Session => "a message that begins a session is kept for as long as that, and",
            Begins::News => "a message that asks for news is kept for as long as they come, and",
            Begins::Unclear => "a message whose `method` cannot be read, or comes twice,",
        };
        match message.len() as u64 > MOST_TEXT || heap > MOST_VALUES {
            true => Err(format!(
                "{what} has at most {} of text, whose values take at most {}",
                display_bytes(MOST_TEXT),
                display_bytes(MOST_VALUES)
            )),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_begins_is_told_by_its_method() {
        for (message, begins) in [
            (r#"{"id": 1, "method": "initialize"}"#, Begins::Session),
            (r#"{"\u006dethod": "initi\u0061lize"}"#, Begins::Session),
            (r#"{"method": "subscriptions\/listen"}"#, Begins::News),
            (r#"{"method": "tools/call"}"#, Begins::Nothing),
            (r#"{"id": 1, "result": {}}"#, Begins::Nothing),
            (
                r#"{"method": "ping", "method": "initialize"}"#,
                Begins::Unclear,
            ),
            (r#"{"method": ["initialize"]}"#, Begins::Unclear),
            ("{", Begins::Unclear),
        ] {
            assert_eq!(Begins::of(message.as_bytes()), begins, "{message}");
        }
    }

    #[test]
    fn what_is_kept_is_small() {
        let most = usize::try_from(MOST_TEXT).unwrap();
        let (fits, not) = (vec![b' '; most], vec![b' '; most + 1]);
        for begins in [Begins::Session, Begins::News, Begins::Unclear] {
            assert!(begins.fits(&fits, MOST_VALUES).is_ok());
            let error = begins.fits(&not, 0).unwrap_err();
            assert!(error.contains("at most 64 KiB"), "{error}");
            assert!(begins.fits(b"", MOST_VALUES + 1).is_err());
        }
        let long = format!(r#"{{"params": {{"name": "{}"}}}}"#, "x".repeat(most));
        assert!(Begins::Nothing.fits(long.as_bytes(), u64::MAX).is_ok());
    }
}
