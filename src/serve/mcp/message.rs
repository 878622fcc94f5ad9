//! What a message asks for, as far as that matters before it is read.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::limits::display_bytes;

/// How much text there may be of a message that is kept for as long as what it begins, in bytes: a client's name, what it
/// can do, and what it wants to be told take a few hundred.
const MOST_TEXT: u64 = 64 << 10;
/// How much its values may take, in bytes, as [`measure`](crate::json::measure) has it: an empty object takes some
/// hundreds.
const MOST_VALUES: u64 = 256 << 10;
/// The longest `progressToken`, in bytes of JSON. Each report of progress has it once more, and it is kept with some of
/// those after the call has been answered; clients take a number or a UUID.
const MOST_TOKEN: usize = 1 << 10;

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

/// Looks at the token by which a call's progress is told.
///
/// # Errors
/// It is too long, for whoever has sent it.
pub(in crate::serve) fn has_short_token(message: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Message<'m> {
        #[serde(borrow)]
        params: Option<&'m RawValue>,
    }
    #[derive(Deserialize)]
    struct Params<'m> {
        #[serde(borrow, rename = "_meta")]
        meta: Option<&'m RawValue>,
    }
    #[derive(Deserialize)]
    struct Meta<'m> {
        #[serde(borrow, rename = "progressToken")]
        token: Option<&'m RawValue>,
    }
    if message.len() <= MOST_TOKEN {
        return Ok(());
    }
    // What is no object has no such thing in it, and what is no JSON is told so elsewhere. Where a name comes twice,
    // which of the two counts is not known here.
    let is_object = |text: &str| text.trim_start().starts_with('{');
    let token = || -> serde_json::Result<Option<usize>> {
        if !message.trim_ascii_start().starts_with(b"{") {
            return Ok(None);
        }
        let Message { params } = serde_json::from_slice(message)?;
        let Some(params) = params.filter(|params| is_object(params.get())) else {
            return Ok(None);
        };
        let Params { meta } = serde_json::from_str(params.get())?;
        let Some(meta) = meta.filter(|meta| is_object(meta.get())) else {
            return Ok(None);
        };
        let Meta { token } = serde_json::from_str(meta.get())?;
        Ok(token.map(|token| token.get().len()))
    };
    match token() {
        Ok(Some(bytes)) if bytes > MOST_TOKEN => Err(format!(
            "a `progressToken` has at most {}",
            display_bytes(MOST_TOKEN as u64)
        )),
        Err(error) if error.is_data() => {
            Err("a name stands twice in the message, its `params` or their `_meta`".to_owned())
        }
        _ => Ok(()),
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

    #[test]
    fn what_comes_back_with_each_report_is_short() {
        let fits = |message: &str| Begins::Nothing.fits(message.as_bytes(), 0);
        let (short, long) = ("x".repeat(MOST_TOKEN - 2), "x".repeat(MOST_TOKEN - 1));
        for (message, is_fit) in [
            (
                format!(r#"{{"params":{{"_meta":{{"progressToken":"{short}"}}}}}}"#),
                true,
            ),
            (
                format!(r#"{{"params":{{"_meta":{{"progressToken":"{long}"}}}}}}"#),
                false,
            ),
            (
                format!(r#"{{"params":{{"_m\u0065ta":{{"progress\u0054oken":"{long}"}}}}}}"#),
                false,
            ),
            (
                format!(
                    r#"{{"params": {{"_meta": {{"progressToken": [{}0]}}}}}}"#,
                    "0,".repeat(600)
                ),
                false,
            ),
            // Of which one counts.
            (
                format!(r#"{{"params":{{"_meta":{{"progressToken":"{long}"}},"_meta":{{}}}}}}"#),
                false,
            ),
            // What is elsewhere is not kept; and what is no object has none.
            (
                format!(r#"{{"params":{{"arguments":{{"progressToken":"{long}"}}}}}}"#),
                true,
            ),
            (format!(r#"{{"params":["{long}"]}}"#), true),
            (format!(r#"{{"params":{{"_meta":"{long}"}}}}"#), true),
            (format!(r#"{{"result":"{long}"}}"#), true),
            (
                format!(r#"[{{"params":{{"_meta":{{"progressToken":"{long}"}}}}}}]"#),
                true,
            ),
            (
                format!(r#"{{"params":{{"_meta":{{"progressToken":"{long}"}}}}"#),
                true,
            ),
        ] {
            let looked = fits(&message);
            assert_eq!(looked.is_ok(), is_fit, "{message:.80}: {looked:?}");
        }
    }
}
