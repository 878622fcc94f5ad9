//! What does not fit of a body, in the words of whoever wrote it: the field, and what JSON calls what was expected.

use serde::de::DeserializeOwned;
use serde_json::Deserializer;

use super::objects::Objects;
use crate::text::{cut, printable};

/// How long the name of a field may be, and of one within another, in bytes. Others are no field of ours.
const MAX_FIELD: usize = 200;

/// How much is told of what the library says, in bytes: it may quote a text of many megabytes.
const MAX_SAID: usize = 2_000;
/// How much of that is what it quotes, where it is more.
const MAX_QUOTED: usize = 500;

/// What the library says of a body that does not fit, with the field that it is about where that is known.
pub(super) fn said<T: DeserializeOwned>(error: &serde_json::Error, body: &[u8]) -> String {
    let message = in_words(&in_short(error));
    let names_it = ["unknown field", "missing field", "duplicate field"];
    if names_it.iter().any(|begin| message.starts_with(begin)) {
        return message;
    }
    match field::<T>(body) {
        Some(field) => format!("`{field}`: {message}"),
        None => message,
    }
}

/// What the library says; of what it quotes that is long, the beginning.
fn in_short(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    if whole.len() <= MAX_SAID {
        return whole;
    }
    // What it says itself stands at the end.
    let (given, expected) = match whole.rsplit_once(", expected ") {
        Some((given, expected)) if expected.len() <= MAX_SAID => {
            (given, format!(", expected {expected}"))
        }
        _ => (
            whole.as_str(),
            format!(" at line {} column {}", error.line(), error.column()),
        ),
    };
    // Escapes are longer than what they stand for.
    let begins = printable(cut(given, MAX_QUOTED), false);
    let begins = cut(&begins, MAX_QUOTED);
    let more = given.len() - MAX_QUOTED.min(given.len());
    format!("{begins}… (some {more} bytes more){expected}")
}

/// The field that does not fit, with those that it is in. To know it takes longer: so it is asked for afterwards.
fn field<T: DeserializeOwned>(body: &[u8]) -> Option<String> {
    let reader = &mut Deserializer::from_slice(body);
    let error = serde_path_to_error::deserialize::<_, T>(Objects(reader)).err()?;
    let field = error.path().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let is_a_field = field != "." && field.len() <= MAX_FIELD && field.bytes().all(is_plain);
    is_a_field.then_some(field)
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
        super::said::<Execution>(&error, body.as_bytes())
    }

    /// However long it is, what is told of it is not.
    #[test]
    fn what_is_too_long_is_not_told_at_length() {
        let (long, escape) = ("x".repeat(1 << 20), r"\u001b");
        let many: String = (0..65).map(|at| format!(r#""{at}":"","#)).collect();
        for (field, said) in [
            (
                format!(r#""tool":"{long}""#),
                "`tool`: it has more than 255 characters",
            ),
            (
                format!(r#""user":"{long}""#),
                "`user`: it has more than 255 characters",
            ),
            (
                format!(r#""session":"{long}""#),
                "`session`: it has more than 255 characters",
            ),
            (
                format!(r#""labels":{{"a":"{long}"}}"#),
                "`labels`: the value of a label has more than 1024 characters",
            ),
            (
                format!(r#""labels":{{"{long}":""}}"#),
                "`labels`: the name of a label has more than 255 characters",
            ),
            (
                format!(r#""labels":{{{}}}"#, many.trim_end_matches(',')),
                "`labels`: there are more than 64",
            ),
            (format!(r#""{long}":1"#), "unknown field `xxx"),
            (
                format!(r#""{}":1"#, escape.repeat(10_000)),
                r"unknown field `\u{1b}\u{1b}",
            ),
            (
                format!(r#""limits":"{long}""#),
                "`limits`: invalid type: string",
            ),
        ] {
            let told = misfit(&format!(r#"{{"skill":"probe",{field}}}"#));
            assert!(told.starts_with(said), "{told}");
            assert!(told.len() < 2_000, "{}", told.len());
            assert!(told.contains(" at line 1 column "), "{told}");
            let quoted = ["unknown field", "`limits`"];
            let expects = quoted.iter().any(|quoted| said.starts_with(quoted));
            assert_eq!(told.contains(", expected "), expects, "{told}");
        }
        // As long as they may be.
        let (name, value) = ("é".repeat(255), "é".repeat(1_024));
        let body = format!(
            r#"{{"skill":"probe","tool":"{name}","user":"{name}","labels":{{"{name}":"{value}"}}}}"#
        );
        let mut reader = serde_json::Deserializer::from_str(&body);
        Execution::deserialize(Objects(&mut reader)).unwrap();
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
