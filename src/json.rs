//! JSON from strangers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The most values in one JSON text.
const MAX_VALUES: u64 = 1_000_000;
/// What the values of any text may take on the host's heap, in bytes: as much as a guest's own memory
/// by default.
const MAX_HEAP: u64 = 64 << 20;
/// The same of a large text, for each of its bytes. Rows of a few short fields take 8 to 16; an object
/// with one field that has no name takes 96.
const HEAP_PER_BYTE: u64 = 16;
/// A text of this size cannot hold so much that it matters: no byte stands for more than 96, as in
/// `{"":0},`.
const SMALL: usize = (MAX_HEAP / 96) as usize;

/// What a value takes where it stands, in bytes.
const SLOT: u64 = size_of::<Value>() as u64;
/// What an allocation takes beside its bytes, at most: the allocator's header, and rounding.
const ALLOCATION: u64 = 32;
/// A node of an object's B-tree has room for so many fields, and at least so many in it where there
/// are several nodes (`B` is 6 in `alloc::collections::btree`).
const NODE: (u64, u64) = (11, 5);

/// Why a text was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParseError(pub String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a JSON text that nests at most 128 levels deep, has at most a million values, and takes at
/// most 64 MiB, or 16 times its length if that is more, once it is read.
pub(crate) fn parse(text: &str) -> Result<Value, ParseError> {
    if text.len() > SMALL {
        let Count { values, heap } = serde_json::from_str(text).map_err(not_json)?;
        if values > MAX_VALUES {
            return Err(ParseError(format!(
                "it has {values} values; {MAX_VALUES} are allowed"
            )));
        }
        let allowed = MAX_HEAP.max(text.len() as u64 * HEAP_PER_BYTE);
        if heap > allowed {
            return Err(ParseError(format!(
                "its {values} values take {heap} bytes of memory; {allowed} are allowed"
            )));
        }
    }
    serde_json::from_str(text).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> ParseError {
    ParseError(format!("it is not JSON: {error}"))
}

/// Counts values, and what they would take, without keeping any.
#[derive(Clone, Copy)]
struct Count {
    values: u64,
    /// What hangs on it, in bytes; not the place where it stands itself.
    heap: u64,
}

impl Count {
    const SCALAR: Count = Count { values: 1, heap: 0 };

    fn text(text: &str) -> Self {
        let heap = match text.len() as u64 {
            0 => 0,
            bytes => bytes + ALLOCATION,
        };
        Count { values: 1, heap }
    }

    fn add(&mut self, other: Count) {
        self.values += other.values;
        self.heap += other.heap;
    }
}

/// What room for so many items takes, which doubles as it fills.
fn array(items: u64) -> u64 {
    match items {
        0 => 0,
        items => items.next_power_of_two().max(4) * SLOT + ALLOCATION,
    }
}

/// What the nodes for so many fields take. Those above them are at most a fifth of those below.
fn object(fields: u64) -> u64 {
    let (room, least) = NODE;
    let node = room * (size_of::<String>() as u64 + SLOT) + ALLOCATION;
    match fields {
        0 => 0,
        fields if fields <= room => node,
        fields => fields.div_ceil(least) * (node + node / 4),
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;

        impl<'de> Visitor<'de> for Counter {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count::SCALAR)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
                Ok(Count::SCALAR)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Count, E> {
                Ok(Count::SCALAR)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
                Ok(Count::SCALAR)
            }

            fn visit_str<E>(self, text: &str) -> Result<Count, E> {
                Ok(Count::text(text))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count::SCALAR)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Count, A::Error> {
                let (mut sum, mut many) = (Count::SCALAR, 0);
                while let Some(item) = items.next_element()? {
                    sum.add(item);
                    many += 1;
                }
                sum.heap += array(many);
                Ok(sum)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Count, A::Error> {
                let (mut sum, mut many) = (Count::SCALAR, 0);
                while let Some((key, value)) = fields.next_entry::<Count, Count>()? {
                    sum.add(key);
                    sum.add(value);
                    many += 1;
                }
                sum.heap += object(many);
                Ok(sum)
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
        for (small, many, refused) in [
            (r#"{"":0}"#, 300_000, true),
            (r#"{"a":{}}"#, 300_000, true),
            ("[0]", 400_000, true),
            (r#"["a"]"#, 400_000, true),
            ("[[[]]]", 300_000, true),
            ("[]", 900_000, false),
            ("{}", 900_000, false),
            (r#""a""#, 900_000, false),
        ] {
            let text = format!("[{}0]", format!("{small},").repeat(many));
            let error = parse(&text).err().map(|error| error.0);
            let is_refused = error
                .as_deref()
                .is_some_and(|text| text.contains("bytes of memory"));
            assert_eq!(is_refused, refused, "{small}: {error:?}");
        }
        let rows = format!("[{}0]", r#"{"a":"x","b":"y"},"#.repeat(58_000));
        assert!(parse(&rows).is_ok(), "rows that fill an answer are none");
        let row =
            r#"{"id":12345,"name":"Somebody","town":"Somewhere","on":true,"at":"2026-01-01"},"#;
        let rows = format!("[{}0]", row.repeat(89_000));
        assert!(parse(&rows).is_ok(), "nor are many more");
        let long = format!("\"{}\"", ",".repeat(3_000_000));
        assert!(parse(&long).is_ok(), "a long text is one value");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(200_000);
        assert!(parse(&deep).unwrap_err().0.contains("recursion limit"));
    }
}
