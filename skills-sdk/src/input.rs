use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::Failure;

/// Reads a tool's input.
///
/// # Errors
/// [`Failure::InvalidInput`], with a pointer to what does not fit.
pub fn parse<T: DeserializeOwned>(input: &str) -> Result<T, Failure> {
    // A struct could also be read from an array; the contract says object.
    if input.bytes().find(|byte| !byte.is_ascii_whitespace()) != Some(b'{') {
        return Err(Failure::invalid_input("", "expected an object"));
    }
    serde_json::from_str(input).map_err(|error| locate::<T>(input, error))
}

/// Finds the place that `error` is about. Keeping track of the place costs
/// time, so only an input that is known to be wrong is read that way.
#[cold]
fn locate<T: DeserializeOwned>(input: &str, error: serde_json::Error) -> Failure {
    let value: Value = match serde_json::from_str(input) {
        Ok(value) => value,
        Err(error) => return Failure::invalid_input("", format_args!("not JSON: {error}")),
    };
    match serde_path_to_error::deserialize::<_, T>(&value) {
        Err(located) => Failure::invalid_input(pointer(located.path()), located.inner()),
        // What a text shows and a value does not, such as a key given twice.
        Ok(_) => Failure::invalid_input("", error),
    }
}

/// The path as a JSON Pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let key = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                key.replace('~', "~0").replace('/', "~1")
            }
            Segment::Unknown => break,
        };
        pointer.push('/');
        pointer.push_str(&key);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with `input` as a value of `T`, and where.
    fn refusal<T: DeserializeOwned>(input: &str) -> (String, String) {
        match parse::<T>(input).err() {
            Some(Failure::InvalidInput { pointer, message }) => (pointer, message),
            other => panic!("not an invalid input: {other:?}"),
        }
    }

    #[test]
    fn text_that_is_not_json_says_where() {
        let (pointer, message) = refusal::<Value>("{\n  \"a\": }");
        assert_eq!(pointer, "");
        assert_eq!(message, "not JSON: expected value at line 2 column 8");
        assert_eq!(refusal::<Value>("").1, "expected an object");
    }

    #[test]
    fn space_around_is_no_fault() {
        assert!(parse::<Value>(" \r\n\t{} ").is_ok());
    }

    #[test]
    fn fault_that_only_the_text_shows_is_told() {
        #[derive(serde::Deserialize)]
        struct One {
            #[allow(dead_code)]
            one: u8,
        }
        let (pointer, message) = refusal::<One>(r#"{"one":1,"one":2}"#);
        assert_eq!(pointer, "");
        assert!(message.starts_with("duplicate field `one`"), "{message}");
    }
}
