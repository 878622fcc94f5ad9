//! The token by which a client of MCP knows the reports of a call's progress.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::limits::display_bytes;

/// The longest `progressToken`, in bytes of JSON. Each report of progress has it once more, and it is kept with some of
/// those after the call has been answered; clients take a number or a UUID.
const MOST_TOKEN: usize = 1 << 10;

/// Looks at the token by which a call's progress is told.
///
/// # Errors
/// It is too long, for whoever has sent it.
pub(super) fn has_short_token(message: &[u8]) -> Result<(), String> {
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
    fn what_comes_back_with_each_report_is_short() {
        let fits = |message: &str| has_short_token(message.as_bytes());
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
