//! Telling a message from a line that is none, and what its sender is told of that.

use rmcp::model::{ClientJsonRpcMessage, RequestId};
use rmcp::{ErrorData, model::ErrorCode};
use serde_json::{Map, Value};

use super::super::progress_token::has_short_token;
use super::lines::{Glance, Waits};
use crate::json::{self, ParseError};

/// The most messages of one batch that are answered.
const MAX_ANSWERED: usize = 64;

/// What a line is.
pub(super) enum Read {
    /// A message.
    Message(Box<ClientJsonRpcMessage>),
    /// Nothing that anybody waits for an answer to.
    Nothing,
    /// No JSON.
    Broken(ErrorData),
    /// JSON, and no message: what is answered to which request. In the protocol, an error of a message whose id
    /// cannot be read has none.
    Refused(Vec<(Option<RequestId>, ErrorData)>),
}

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Read {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    let line = line.trim_ascii();
    if line.is_empty() {
        return Read::Nothing;
    }
    let looked = json::measure(line).and_then(|_| has_short_token(line));
    if let Err(why) = looked {
        return unread(line, why);
    }
    if let Ok(message) = serde_json::from_slice(line) {
        return Read::Message(Box::new(message));
    }
    let broken = |why: String| Read::Broken(ErrorData::new(ErrorCode::PARSE_ERROR, why, None));
    let Ok(text) = std::str::from_utf8(line) else {
        return broken("it is not JSON: it is not UTF-8".to_owned());
    };
    match json::parse(text) {
        Err(ParseError::Syntax(why)) => broken(why),
        Err(ParseError::Refused(why)) => unread(line, why),
        Ok(Value::Object(message)) => unfit(&message, Glance::at(line)),
        Ok(Value::Array(batch)) => in_batch(&batch),
        Ok(_) => Read::Refused(vec![refusal(None, "a message is an object")]),
    }
}

/// One that is too much to be read.
fn unread(line: &[u8], why: String) -> Read {
    match Glance::at(line).waits() {
        Waits::Nobody => Read::Nothing,
        Waits::For(id) => Read::Refused(vec![(id, ErrorData::invalid_request(why, None))]),
    }
}

fn refusal(id: Option<RequestId>, why: &'static str) -> (Option<RequestId>, ErrorData) {
    (id, ErrorData::invalid_request(why, None))
}

/// An object that is no message.
fn unfit(message: &Map<String, Value>, glance: Glance) -> Read {
    if glance.repeats() {
        return match glance.waits() {
            Waits::Nobody => Read::Nothing,
            Waits::For(id) => {
                Read::Refused(vec![refusal(id, "a name stands twice in the message")])
            }
        };
    }
    let has = |name| message.contains_key(name);
    let is_method = message.get("method").is_some_and(Value::is_string);
    if is_method && !has("id") {
        // A notification, to which there never is an answer.
        return Read::Nothing;
    }
    let is_answer = !has("method") && (has("result") || has("error"));
    let why = if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        "the `jsonrpc` of a message must be \"2.0\""
    } else if has("method") && (has("result") || has("error")) {
        "a message with a `method` has neither `result` nor `error`"
    } else if is_answer {
        "this answers nothing: a `result` comes with the `id` of a request, an `error` with `code` and `message`"
    } else if !is_method {
        "a request has a `method`, which is a string"
    } else if let Some(id) = id(message) {
        let why = "the `params` of a request must be an object, and so must the `_meta` in them";
        return Read::Refused(vec![(Some(id), ErrorData::invalid_params(why, None))]);
    } else {
        "the `id` of a request must be a string or an integer"
    };
    // The id of an answer is one of ours, and not for the sender to wait for.
    let id = if is_answer { None } else { id(message) };
    Read::Refused(vec![refusal(id, why)])
}

/// Several messages in one line, as only one revision had it.
fn in_batch(batch: &[Value]) -> Read {
    let why = "batches are not taken: send each message in a line of its own";
    let requests = batch.iter().filter_map(Value::as_object);
    let requests = requests.filter(|message| message.contains_key("method"));
    let waiting = requests.filter_map(id).take(MAX_ANSWERED);
    let mut refusals: Vec<_> = waiting.map(|id| refusal(Some(id), why)).collect();
    if refusals.is_empty() {
        refusals.push(refusal(None, why));
    }
    Read::Refused(refusals)
}

/// The id, where it is a string or an integer.
fn id(message: &Map<String, Value>) -> Option<RequestId> {
    serde_json::from_value(message.get("id")?.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids and codes of what is answered.
    fn answered(line: &str) -> Vec<(Option<RequestId>, i32)> {
        match read(line.as_bytes()) {
            Read::Message(_) => panic!("{line} is a message"),
            Read::Nothing => Vec::new(),
            Read::Broken(error) => vec![(None, error.code.0)],
            Read::Refused(refused) => refused
                .into_iter()
                .map(|(id, error)| (id, error.code.0))
                .collect(),
        }
    }

    #[test]
    fn a_request_that_is_none_is_answered_by_its_id() {
        let number = Some(RequestId::Number(17));
        let text = Some(RequestId::String("a".into()));
        let params = format!("{}{}", "[".repeat(130), "]".repeat(130));
        let many = "[0],".repeat(600_000);
        let many =
            format!(r#"{{"jsonrpc":"2.0","id":17,"method":"x","params":{{"a":[{many}0]}}}}"#);
        let deep = format!(r#"{{"jsonrpc":"2.0","id":17,"method":"x","params":{params}}}"#);
        for (line, id) in [
            (
                r#"{"jsonrpc":"1.0","id":17,"method":"tools/list"}"#,
                number.clone(),
            ),
            (r#"{"id":"a","method":"tools/list"}"#, text),
            (r#"{"jsonrpc":"2.0","id":17}"#, number.clone()),
            (r#"{"jsonrpc":"2.0","id":17,"method":5}"#, number.clone()),
            (
                r#"{"jsonrpc":"2.0","id":17,"method":"ping","result":{}}"#,
                number.clone(),
            ),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, None),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, None),
            // An id of ours, not of theirs.
            (r#"{"jsonrpc":"1.0","id":17,"result":{}}"#, None),
            // Which one it is of two, nobody knows.
            (r#"{"jsonrpc":"2.0","id":17,"id":18,"method":"ping"}"#, None),
            (
                r#"{"jsonrpc":"2.0","id":17,"method":"ping","method":"ping"}"#,
                number.clone(),
            ),
            (&deep, number.clone()),
            (&many, number.clone()),
            ("{}", None),
            ("[]", None),
            ("null", None),
        ] {
            assert_eq!(answered(line), [(id, -32600)], "{line}");
        }
    }

    #[test]
    fn params_that_are_no_object_are_told_from_what_is_no_request() {
        for params in ["5", "[1]", r#"{"_meta":5}"#] {
            let line =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
            let id = Some(RequestId::Number(1));
            assert_eq!(answered(&line), [(id, -32602)], "{line}");
        }
    }

    #[test]
    fn each_request_of_a_batch_is_answered() {
        let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"method":"x"},
            {"jsonrpc":"2.0","id":"b","method":"ping"},{"id":3,"result":{}},4]"#;
        let ids: Vec<_> = answered(batch).into_iter().map(|(id, _)| id).collect();
        let (one, other) = (RequestId::Number(1), RequestId::String("b".into()));
        assert_eq!(ids, [Some(one), Some(other)]);
        let many = r#"{"id":1,"method":"ping"},"#.repeat(1_000);
        assert_eq!(answered(&format!("[{many}1]")).len(), MAX_ANSWERED);
    }

    #[test]
    fn what_is_no_json_is_told_from_what_nobody_waits_for() {
        for line in ["not json", "{", "}", r#"{"a": "b}"#, "1 2"] {
            assert_eq!(answered(line), [(None, -32700)], "{line}");
        }
        assert!(matches!(read(b"\xff\xfe\x00"), Read::Broken(_)));
        for line in ["", " \t\r", r#"{"jsonrpc":"1.0","method":"tools/list"}"#] {
            assert!(answered(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_message_is_one() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nobody/knows\"}\r",
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":10,"result":{}}"#,
        ] {
            assert!(matches!(read(line.as_bytes()), Read::Message(_)), "{line}");
        }
    }
}
