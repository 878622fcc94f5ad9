//! What does not fit of a body, in the words of whoever wrote it: the field, and what JSON calls what was expected.

/// What the library says of a body that does not fit, with the field that it is about where that is known.
pub(super) fn said(error: &serde_json::Error, body: &[u8]) -> String {
    let message = in_words(&error.to_string());
    let names_it = ["unknown field", "missing field", "duplicate field"];
    if names_it.iter().any(|begin| message.starts_with(begin)) {
        return message;
    }
    match field(&body[..offset(error, body)]) {
        Some(field) => format!("`{field}`: {message}"),
        None => message,
    }
}

/// How long the name of a field may be, and of one within another, in bytes. Others are no field of ours.
const MAX_FIELD: usize = 200;

/// Where in a body an error is.
fn offset(error: &serde_json::Error, body: &[u8]) -> usize {
    let mut start = 0;
    for _ in 1..error.line() {
        let rest = &body[start..];
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => start += end + 1,
            None => break,
        }
    }
    (start + error.column()).min(body.len())
}

/// The field in whose value a body that was read so far ends, with those that it is in.
fn field(read: &[u8]) -> Option<String> {
    // Of each object and list that is open, the key of what is read in it.
    let mut open: Vec<Option<&[u8]>> = Vec::new();
    let mut last: Option<&[u8]> = None;
    let mut at = 0;
    while at < read.len() {
        match read[at] {
            b'{' | b'[' => open.push(None),
            b'}' | b']' => {
                open.pop();
            }
            b',' => {
                if let Some(key) = open.last_mut() {
                    *key = None;
                }
            }
            b':' => {
                if let Some(key) = open.last_mut() {
                    *key = last.take();
                }
            }
            b'"' => {
                let start = at + 1;
                at = start;
                while at < read.len() && read[at] != b'"' {
                    at += if read[at] == b'\\' { 2 } else { 1 };
                }
                last = read.get(start..at);
            }
            _ => {}
        }
        at += 1;
    }
    let keys = open.into_iter().flatten();
    let keys: Option<Vec<&str>> = keys.map(|key| std::str::from_utf8(key).ok()).collect();
    let keys = keys.filter(|keys| !keys.is_empty())?.join(".");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (keys.len() <= MAX_FIELD && keys.bytes().all(is_plain)).then_some(keys)
}

/// The library's words, with JSON's for types that have other names in here.
fn in_words(message: &str) -> String {
    let Some((given, expected)) = message
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_owned();
    };
    let given = match given {
        "sequence" => "list",
        "map" => "object",
        other => other,
    };
    let (expected, place) = match expected.rsplit_once(" at line ") {
        Some((expected, place)) => (expected, format!(" at line {place}")),
        None => (expected, String::new()),
    };
    let expected = match expected {
        "a map" => "an object",
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("invalid type: {given}, expected {expected}{place}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::super::executions::Execution;
    use super::super::objects::Objects;

    fn misfit(body: &str) -> String {
        let mut reader = serde_json::Deserializer::from_str(body);
        let error = Execution::deserialize(Objects(&mut reader)).unwrap_err();
        super::said(&error, body.as_bytes())
    }

    #[test]
    fn a_field_that_does_not_fit_is_named() {
        for (body, said) in [
            (
                "[]",
                "invalid type: list, expected an object at line 1 column 0",
            ),
            (
                r#"{"skill":"probe","input":[]}"#,
                "`input`: invalid type: list, expected an object at line 1 column 25",
            ),
            (
                "{\"skill\": \"probe\",\n \"tool\": {}}",
                "`tool`: invalid type: object, expected a string at line 2 column 9",
            ),
            (
                r#"{"skill":"probe","labels":{"a":"}\"{","b":[]}}"#,
                "`labels.b`: invalid type: list, expected a string at line 1 column 42",
            ),
            // What no field of ours is called is nobody's.
            (
                r#"{"skill":"probe","labels":{"`x`":[]}}"#,
                "invalid type: list, expected a string at line 1 column 33",
            ),
        ] {
            assert_eq!(misfit(body), said, "{body}");
        }
        let unknown = misfit(r#"{"skil":"probe"}"#);
        assert!(
            unknown.starts_with("unknown field `skil`, expected"),
            "{unknown}"
        );
    }
}
