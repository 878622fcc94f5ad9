//! Whether it can be said where a value does not fit.
//!
//! A schema with alternatives (`anyOf`, `oneOf`) is left for one reason alone: none of them fits. What is wrong with a
//! value is then a tree of all that is wrong with it by each alternative, and each error in it has the path to its place
//! written out: 140 KB of a value can make gigabytes of that. So what it could come to is found out first.

use serde_json::Value;

/// The most memory that finding the place may take, in bytes.
const MAX_BYTES: u64 = 32 << 20;
/// The most work that it may make: each alternative that is not taken is tried again at every one around it.
const MAX_WORK: u64 = 4_000_000;
/// What an error takes beside its path, in bytes.
const ERROR_BYTES: u64 = 512;

/// Whether the place may be looked for, where checking makes so much work on one way into a value of so many parts, and
/// the schema has so many alternatives.
pub(super) fn may_be_looked_for(value: &Value, visits: u64, parts: u64, alternatives: u64) -> bool {
    if alternatives == 0 {
        // Then the first error is the only one that is made.
        return true;
    }
    let work = visits
        .saturating_mul(alternatives.saturating_add(1))
        .saturating_mul(parts);
    work <= MAX_WORK && visits.saturating_mul(paths(value)) <= MAX_BYTES
}

/// The bytes of one error at each place of a value; or as much of it as is too much anyway.
fn paths(value: &Value) -> u64 {
    let mut bytes = 0_u64;
    let mut open = vec![(value, 0)];
    while let Some((value, path)) = open.pop() {
        bytes = bytes.saturating_add(path + ERROR_BYTES);
        if bytes > MAX_BYTES {
            break;
        }
        match value {
            // A number, after a slash.
            Value::Array(items) => open.extend(items.iter().map(|item| (item, path + 21))),
            // Each byte of a key may be written as two.
            Value::Object(fields) => {
                let field = |(key, field): (&String, _)| (field, path + key_bytes(key));
                open.extend(fields.iter().map(field));
            }
            _ => {}
        }
    }
    bytes
}

fn key_bytes(key: &str) -> u64 {
    (key.len() as u64).saturating_mul(2).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_count_at_each_place() {
        assert_eq!(paths(&json!(1)), ERROR_BYTES);
        assert_eq!(paths(&json!([1, 2])), 3 * ERROR_BYTES + 2 * 21);
        assert_eq!(paths(&json!({"abc": [1]})), 3 * ERROR_BYTES + 7 + 7 + 21);
        // What is larger than anything allowed is not walked to its end.
        let long = json!({ "k".repeat(100_000): vec![1; 100_000] });
        assert!((MAX_BYTES..2 * MAX_BYTES).contains(&paths(&long)));
    }

    #[test]
    fn without_alternatives_it_is_always_said() {
        let long = json!({ "k".repeat(100_000): vec![1; 10_000] });
        assert!(may_be_looked_for(&long, 50_000, 1_000_000, 0));
        assert!(!may_be_looked_for(&long, 10, 10_000, 1));
        assert!(may_be_looked_for(&json!({"a": 1}), 1_000, 3, 20));
        assert!(!may_be_looked_for(&json!([1]), 10_000, 2, 3_300));
    }
}
