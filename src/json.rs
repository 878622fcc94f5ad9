//! JSON from strangers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The most values in one JSON text. A value takes up to 32 bytes of the host's memory, a key and
/// its node up to 100, however short its text is; so this bounds what a small text can blow up to.
const MAX_VALUES: u64 = 1_000_000;
/// A text of this size cannot hold so many values that it matters.
const SMALL: usize = 1 << 20;

/// Why a text was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParseError(pub String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a JSON text that nests at most 128 levels deep and has at most a million values.
pub(crate) fn parse(text: &str) -> Result<Value, ParseError> {
    if text.len() > SMALL {
        let Count(values) = serde_json::from_str(text).map_err(not_json)?;
        if values > MAX_VALUES {
            return Err(ParseError(format!(
                "it has {values} values; {MAX_VALUES} are allowed"
            )));
        }
    }
    serde_json::from_str(text).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> ParseError {
    ParseError(format!("it is not JSON: {error}"))
}

/// Counts values without keeping any.
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;

        impl<'de> Visitor<'de> for Counter {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count(1))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
                Ok(Count(1))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Count, E> {
                Ok(Count(1))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
                Ok(Count(1))
            }

            fn visit_str<E>(self, _: &str) -> Result<Count, E> {
                Ok(Count(1))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(1))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Count, A::Error> {
                let mut sum = 1;
                while let Some(Count(values)) = items.next_element()? {
                    sum += values;
                }
                Ok(Count(sum))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Count, A::Error> {
                let mut sum = 1;
                while let Some((IgnoredAny, Count(values))) = fields.next_entry()? {
                    sum += values + 1;
                }
                Ok(Count(sum))
            }
        }

        deserializer.deserialize_any(Counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_blows_up_is_refused() {
        let bomb = format!("[{}0]", "0,".repeat(1_200_000));
        assert!(parse(&bomb).unwrap_err().0.contains("values"));
        let long = format!("\"{}\"", ",".repeat(3_000_000));
        assert!(parse(&long).is_ok(), "a long text is one value");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(200_000);
        assert!(parse(&deep).unwrap_err().0.contains("recursion limit"));
    }
}
