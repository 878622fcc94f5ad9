//! JSON from strangers.

#[cfg(feature = "queue")]
mod measure;

#[cfg(feature = "serve")]
pub(crate) use measure::LARGE;
#[cfg(feature = "queue")]
pub(crate) use measure::measure;

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::turns::interrupt::look;

/// The most values in one JSON text; a field's name is one, too.
const MAX_VALUES: u64 = 1_000_000;
/// What the values of any text may take on the host's heap, in bytes: as much as a guest's own memory
/// by default.
const MAX_HEAP: u64 = 64 << 20;
/// The same of a large text, for each of its bytes. Rows of two short fields take some 45, larger ones
/// less; an object in an object in an object takes up to 130.
const HEAP_PER_BYTE: u64 = 48;

/// What a value takes where it stands, in bytes.
const SLOT: u64 = size_of::<Value>() as u64;
/// What an allocation takes beside its bytes, at most: the allocator's header, and rounding.
const ALLOCATION: u64 = 32;
/// A node of an object's B-tree has room for so many fields, and at least so many in it where there
/// are several nodes (`B` is 6 in `alloc::collections::btree`).
const NODE: (u64, u64) = (11, 5);
/// What begins the names by which `serde_json` tells itself that a text is to be read once more. A stranger
/// who writes one means to have read what was not looked at.
const RESERVED: &str = "$serde_json::private::";

/// How `serde_json` says that a text nests too deep, for which it has no kind of error of its own.
const TOO_DEEP: &str = "recursion limit exceeded";

/// From so many parts on, a value is much: an item or a field is one, and so are each 64 bytes of a text. To write so
/// many takes some tenths of a millisecond.
const MUCH: u32 = 4_000;
/// So many bytes of text are one more.
const PART: usize = 64;
/// A value that is deeper is much as well: it is looked into no further.
const DEEP: u32 = 128;

/// Whether it takes long to write, to copy or to drop a value. That is soon known of any.
pub(crate) fn is_much(value: &Value) -> bool {
    fn within(value: &Value, parts: &mut u32, levels: u32) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        let mut take = |more: usize| {
            *parts = parts.checked_sub(u32::try_from(more).unwrap_or(u32::MAX))?;
            Some(())
        };
        take(1)?;
        match value {
            Value::String(text) => take(text.len() / PART),
            Value::Array(items) => {
                let mut items = items.iter();
                items.try_for_each(|item| within(item, parts, levels))
            }
            Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
                *parts = parts.checked_sub(u32::try_from(name.len() / PART).unwrap_or(u32::MAX))?;
                within(value, parts, levels)
            }),
            _ => Some(()),
        }
    }
    within(value, &mut { MUCH }, DEEP).is_none()
}

/// What a value takes in memory, in bytes. It is no deeper than what was read may be.
#[cfg_attr(
    not(feature = "mcp"),
    allow(dead_code, reason = "only agents are answered what is weighed")
)]
pub(crate) fn weight(value: &Value) -> u64 {
    let inner = match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let each = |(name, value): (&String, &Value)| {
                (size_of::<String>() + name.len()) as u64 + weight(value)
            };
            fields.map(each).sum()
        }
        _ => 0,
    };
    size_of::<Value>() as u64 + inner
}

/// Why a text was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// It is no JSON.
    Syntax(String),
    /// It may be JSON, and is more of it than is read.
    Refused(String),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ParseError::Syntax(why) | ParseError::Refused(why)) = self;
        f.write_str(why)
    }
}

/// Parses a JSON text that nests at most 128 levels deep, has at most a million values, and takes at
/// most 64 MiB, or 48 times its length if that is more, once it is read. It is given up as soon as it goes
/// past that.
pub(crate) fn parse(text: &str) -> Result<Value, ParseError> {
    let values = MAX_VALUES;
    let heap = max_heap(text.len());
    let refused = None;
    let left = RefCell::new(Left {
        values,
        heap,
        refused,
    });
    let budget = Budget { values, heap, left };
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = (&budget).deserialize(&mut reader);
    let parsed = parsed.and_then(|value| reader.end().map(|()| value));
    parsed.map_err(|error| match budget.left.into_inner().refused {
        Some(refused) => ParseError::Refused(refused),
        None => match error.to_string() {
            deep if deep.starts_with(TOO_DEEP) => {
                ParseError::Refused(format!("it is nested too deep: {deep}"))
            }
            error => ParseError::Syntax(format!("it is not JSON: {error}")),
        },
    })
}

/// What the values of a text of so many bytes may take.
fn max_heap(bytes: usize) -> u64 {
    MAX_HEAP.max(bytes as u64 * HEAP_PER_BYTE)
}

fn too_many(values: u64) -> String {
    format!("it has too many values; {values} are allowed")
}

pub(crate) fn too_heavy(heap: u64) -> String {
    format!("its values take too many bytes of memory; {heap} are allowed")
}

fn reserved() -> String {
    format!("names that begin with `{RESERVED}` mean something to the host")
}

/// What a text may come to.
struct Budget {
    values: u64,
    heap: u64,
    left: RefCell<Left>,
}

/// What is left of it.
struct Left {
    values: u64,
    heap: u64,
    /// Why the text is given up.
    refused: Option<String>,
}

impl Budget {
    /// Takes a value, and so many bytes that hang on it.
    fn take<E: Error>(&self, heap: u64) -> Result<(), E> {
        look(
            u32::try_from(heap / 16)
                .unwrap_or(u32::MAX)
                .saturating_add(1),
        );
        let mut left = self.left.borrow_mut();
        let refused = match (left.values.checked_sub(1), left.heap.checked_sub(heap)) {
            (Some(values), Some(heap)) => {
                (left.values, left.heap) = (values, heap);
                return Ok(());
            }
            (None, _) => too_many(self.values),
            (_, None) => too_heavy(self.heap),
        };
        left.refused = Some(refused);
        Err(E::custom("it is too large"))
    }

    /// Takes more bytes for a value that was taken.
    fn grow<E: Error>(&self, heap: u64) -> Result<(), E> {
        self.left.borrow_mut().values += 1;
        self.take(heap)
    }

    fn text<E: Error>(&self, text: &str) -> Result<(), E> {
        self.take(string(text.len()))
    }

    fn name<E: Error>(&self, name: &str) -> Result<(), E> {
        if name.starts_with(RESERVED) {
            self.left.borrow_mut().refused = Some(reserved());
            return Err(E::custom("a name is reserved"));
        }
        self.text(name)
    }
}

/// What a string of so many bytes takes.
fn string(bytes: usize) -> u64 {
    match bytes as u64 {
        0 => 0,
        bytes => bytes + ALLOCATION,
    }
}

/// What a list that is full of so many items takes more for another one. It doubles, and for a moment both are
/// there.
fn list(items: u64) -> u64 {
    let room = (items * 2).max(4);
    (room - items) * SLOT + ALLOCATION
}

/// What the nodes for so many fields take. Those above the lowest are a fourth of those at most, but for the
/// one above two, which the rounding up has room for.
fn object(fields: u64) -> u64 {
    let (room, least) = NODE;
    let node = room * (size_of::<String>() as u64 + SLOT) + ALLOCATION;
    match fields {
        0 => 0,
        fields if fields <= room => node,
        fields => fields.div_ceil(least) * (node + node / 4),
    }
}

impl<'de> DeserializeSeed<'de> for &Budget {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Budget {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(0).map(|()| Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.take(0).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.take(0).map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.take(0).map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.take(0)?;
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.text(value).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut values = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            if values.len() == values.capacity() {
                self.grow(list(values.len() as u64))?;
            }
            values.push(item);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let (mut values, mut many) = (Map::new(), 0);
        while let Some(name) = fields.next_key_seed(Name(self))? {
            many += 1;
            self.grow(object(many) - object(many - 1))?;
            values.insert(name, fields.next_value_seed(self)?);
        }
        Ok(Value::Object(values))
    }
}

/// Reads the name of a field.
struct Name<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        self.0.name(name).map(|()| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_much_is_soon_known() {
        let lists = |count: usize| Value::Array(vec![Value::Null; count]);
        let text = |bytes: usize| Value::String("x".repeat(bytes));
        for little in [
            Value::Null,
            lists(MUCH as usize - 1),
            text((MUCH as usize - 1) * PART),
        ] {
            assert!(!is_much(&little));
        }
        let names = |name: &str| {
            let name = |number: usize| format!("{name}{number}");
            Value::Object(
                (0..3_000)
                    .map(|number| (name(number), Value::Null))
                    .collect(),
            )
        };
        let mut deep = Value::Null;
        for _ in 0..DEEP {
            deep = Value::Array(vec![deep]);
        }
        for much in [
            lists(MUCH as usize),
            text(MUCH as usize * PART),
            names(&"x".repeat(PART)),
            deep,
        ] {
            assert!(is_much(&much));
        }
        assert!(!is_much(&names("x")));
    }

    #[test]
    fn a_text_that_blows_up_is_refused() {
        let bomb = format!("[{}0]", "0,".repeat(1_200_000));
        assert!(parse(&bomb).unwrap_err().to_string().contains("values"));
        for (small, many, refused) in [
            (r#"{"":0}"#, 300_000, true),
            (r#"{"a":{}}"#, 300_000, true),
            ("[0]", 400_000, true),
            (r#"["a"]"#, 400_000, false),
            ("[[[]]]", 300_000, true),
            ("[]", 900_000, false),
            ("{}", 900_000, false),
            (r#""a""#, 900_000, false),
        ] {
            let text = format!("[{}0]", format!("{small},").repeat(many));
            let error = parse(&text).err().map(|error| error.to_string());
            let is_refused = error
                .as_deref()
                .is_some_and(|text| text.contains("bytes of memory"));
            assert_eq!(is_refused, refused, "{small}: {error:?}");
        }
        for row in [r#"{"a":"x","b":"y"},"#, r#"{"x":1.5,"y":2.5},"#] {
            for many in [58_000, 180_000] {
                let rows = format!("[{}0]", row.repeat(many));
                assert!(parse(&rows).is_ok(), "{many} rows {row} are none");
            }
        }
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
        assert!(
            matches!(parse(&deep).unwrap_err(), ParseError::Refused(why) if why.contains(TOO_DEEP))
        );
    }

    /// `serde_json` would take the string for a text to read, and nobody would have looked at that.
    #[test]
    fn a_text_in_a_text_is_refused() {
        for name in [
            "$serde_json::private::RawValue",
            r"\u0024serde_json::private::Number",
        ] {
            let text = format!(r#"{{"a":[{{"{name}":"[1,2]"}}]}}"#);
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains("mean something to the host"), "{error}");
        }
        let text = r#"["$serde_json::private::RawValue"]"#;
        assert_eq!(parse(text).unwrap(), serde_json::json!([text[2..32]]));
    }

    #[test]
    fn a_text_is_read_as_it_stands() {
        for text in [
            r#"{"a":[1,-2,3.5,1e300,18446744073709551615,null,true,"\u00e9\n",{}],"b":{"c":""}}"#,
            "[]",
            "0",
            "null",
            r#""a""#,
            r#" {"a" : 1, "a" : 2} "#,
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", "[1,]", "1 2", r#"{"a"}"#, "1e999", r#""\ud800""#] {
            let expected = serde_json::from_str::<Value>(text).unwrap_err().to_string();
            assert!(
                parse(text).unwrap_err().to_string().contains(&expected),
                "{text}"
            );
        }
    }
}
