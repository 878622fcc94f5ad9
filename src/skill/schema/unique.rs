//! Whether the items of an array are all different, in time that is linear in its size.
//!
//! The library's own way compares all with each other whose hashes are the same, and everybody knows which are: ten
//! thousand nestings of empty arrays take seconds. Here hashes depend on a key that nobody knows, and on all of a value.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use jsonschema::{Keyword, ValidationError};
use serde_json::{Number, Value};

use crate::turns::interrupt::look;

/// `uniqueItems`.
pub(super) struct Unique {
    pub wanted: bool,
}

impl<'i> Keyword<'i> for Unique {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match Keyword::is_valid(self, value) {
            true => Ok(()),
            false => Err(ValidationError::custom("its items are not all different")),
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        match value {
            Value::Array(items) if self.wanted => are_different(items),
            _ => true,
        }
    }
}

fn are_different(items: &[Value]) -> bool {
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().all(|item| seen.insert(Same(item)))
}

/// A value that is the same as others by the rules of JSON Schema: numbers by what they are worth, and objects in
/// whatever order their keys stand.
struct Same<'v>(&'v Value);

impl Same<'_> {
    /// What it takes by itself.
    fn work(&self) -> u32 {
        let size = match self.0 {
            Value::String(text) => text.len() / 16,
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        u32::try_from(size).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// What a number is worth.
#[derive(PartialEq, Eq, Hash)]
enum Worth {
    Whole(i128),
    /// The bits of one that has a fraction, or is larger than any whole number that is read as one.
    Other(u64),
}

fn worth(number: &Number) -> Worth {
    const LARGEST: f64 = 1e30;
    if let Some(whole) = number.as_i128() {
        return Worth::Whole(whole);
    }
    let float = number.as_f64().unwrap_or(f64::NAN);
    match float.fract() == 0.0 && float.abs() < LARGEST {
        #[allow(clippy::cast_possible_truncation, reason = "it is whole and fits")]
        true => Worth::Whole(float as i128),
        false => Worth::Other(float.to_bits()),
    }
}

impl PartialEq for Same<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.0, other.0) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(two)) => one == two,
            (Value::Number(one), Value::Number(two)) => worth(one) == worth(two),
            (Value::String(one), Value::String(two)) => one == two,
            (Value::Array(one), Value::Array(two)) => {
                let mut pairs = one.iter().zip(two);
                one.len() == two.len() && pairs.all(|(one, two)| Same(one) == Same(two))
            }
            (Value::Object(one), Value::Object(two)) => {
                let mut fields = one.iter();
                one.len() == two.len()
                    && fields
                        .all(|(key, one)| two.get(key).is_some_and(|two| Same(one) == Same(two)))
            }
            _ => false,
        }
    }
}

impl Eq for Same<'_> {}

impl Hash for Same<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        look(self.work());
        std::mem::discriminant(self.0).hash(state);
        match self.0 {
            Value::Null => {}
            Value::Bool(value) => value.hash(state),
            Value::Number(number) => worth(number).hash(state),
            Value::String(text) => text.hash(state),
            Value::Array(items) => {
                items.len().hash(state);
                items.iter().for_each(|item| Same(item).hash(state));
            }
            Value::Object(fields) => {
                fields.len().hash(state);
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by_key(|(key, _)| *key);
                for (key, value) in fields {
                    key.hash(state);
                    Same(value).hash(state);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_the_same_by_what_they_are_worth() {
        let unique = |value: Value| Keyword::is_valid(&Unique { wanted: true }, &value);
        for same in [
            json!([1, 1.0]),
            json!([0, -0.0]),
            json!([u64::MAX, 1.8446744073709552e19, 18446744073709551615_u64]),
            json!([1e300, 1e300]),
            json!([null, null]),
            json!([[], {}, [[]], []]),
            json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]),
            json!(["a", "b", "a"]),
        ] {
            assert!(!unique(same.clone()), "{same}");
        }
        for different in [
            json!([]),
            json!([1]),
            json!([1, 1.5, -1, "1", true, [1], {"1": 1}, null]),
            json!([u64::MAX, i64::MAX, 1e300, 1e301]),
            json!([[], [[]], [[], []], [[[]]], {}]),
            json!([["ab", "c"], ["a", "bc"]]),
            json!([{"a": {}}, {"a": []}, {"b": {}}, {"a": {}, "b": {}}]),
        ] {
            assert!(unique(different.clone()), "{different}");
        }
        let value = json!([1, 1]);
        assert!(Keyword::is_valid(&Unique { wanted: false }, &value));
        assert!(Keyword::validate(&Unique { wanted: true }, &value).is_err());
        assert!(unique(json!({"a": [1, 1]})), "it is about arrays");
    }
}
