//! The policy's rules of limits, concurrency, rates and circuits, as a table.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use skillhost::limits::{exact_bytes, grouped};
use skillhost::text::printable;

use crate::cli::table::Table;
use crate::cli::units;

/// The tables of an entry that hold rules; what else it has is shown in other ways.
const RULES: [&str; 6] = [
    "over_ceiling",
    "ceilings",
    "defaults",
    "concurrency",
    "rates",
    "breaker",
];

/// The rules of one entry: a line for each, under its name in the file, with units.
pub fn table(entry: &impl Serialize) -> Table {
    let mut table = Table::new(2);
    if let Ok(Value::Object(entry)) = serde_json::to_value(entry) {
        for key in RULES {
            if let Some(value) = entry.get(key) {
                add(&mut table, key, value);
            }
        }
    }
    table
}

fn add(table: &mut Table, key: &str, value: &Value) {
    let text = match value {
        Value::Object(fields) if fields.is_empty() => "by default".to_owned(),
        Value::Object(fields) => {
            for (name, value) in fields {
                add(table, &format!("{key}.{name}"), value);
            }
            return;
        }
        Value::Number(number) => match number.as_u64() {
            Some(bytes) if key.ends_with("_bytes") => exact_bytes(bytes),
            Some(milliseconds) if key.ends_with("_ms") => {
                units::duration(Duration::from_millis(milliseconds))
            }
            Some(count) => grouped(count),
            None => number.to_string(),
        },
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    table.row([key.to_owned(), printable(&text, false).into_owned()]);
}
