//! Which rows a query wants.

use std::cmp::Ordering;

use skills_sdk::prelude::*;

use crate::cell::Cell;
use crate::source::column_index;

/// One condition on a row, such as `{"column": "population", "op": ">", "value": 1000000}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The column to look at.
    column: String,
    /// How to compare.
    op: Op,
    /// What to compare with. A number compares with cells that are numbers, a string with
    /// any cell as text, case-sensitively. `null`, with `=` and `!=`, stands for an empty cell.
    /// `in` takes an array.
    value: Value,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum Op {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    LessOrEqual,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = ">=")]
    GreaterOrEqual,
    #[serde(rename = "contains")]
    Contains,
    #[serde(rename = "starts_with")]
    StartsWith,
    #[serde(rename = "ends_with")]
    EndsWith,
    #[serde(rename = "in")]
    In,
}

/// The conditions of a query, all of which must hold.
pub struct Filter(Vec<(usize, Test)>);

enum Test {
    Compare(fn(Ordering) -> bool, Cell),
    NotEqual(Cell),
    Text(fn(&str, &str) -> bool, String),
    In(Vec<Cell>),
}

impl Filter {
    pub fn new(conditions: &[Condition], header: &csv::StringRecord) -> Result<Self, Failure> {
        let tests = conditions.iter().enumerate().map(|(index, condition)| {
            let pointer = format!("/filter/{index}");
            let column = column_index(header, &condition.column, &format!("{pointer}/column"))?;
            let test = Test::new(condition.op, &condition.value)
                .map_err(|message| Failure::invalid_input(format!("{pointer}/value"), message))?;
            Ok((column, test))
        });
        tests.collect::<Result<_, _>>().map(Self)
    }

    pub fn accepts(&self, record: &csv::StringRecord) -> bool {
        self.0
            .iter()
            .all(|(column, test)| test.holds(record[*column].trim()))
    }
}

impl Test {
    fn new(op: Op, value: &Value) -> Result<Self, &'static str> {
        let compare = |accept| {
            let cell = operand(value)?;
            if cell.is_empty() {
                Err("`null` goes with `=` and `!=` only")
            } else {
                Ok(Self::Compare(accept, cell))
            }
        };
        let text = |test| match value {
            Value::String(text) => Ok(Self::Text(test, text.clone())),
            _ => Err("this operator takes a string"),
        };
        match op {
            Op::Equal => Ok(Self::Compare(Ordering::is_eq, operand(value)?)),
            Op::NotEqual => Ok(Self::NotEqual(operand(value)?)),
            Op::Less => compare(Ordering::is_lt),
            Op::LessOrEqual => compare(Ordering::is_le),
            Op::Greater => compare(Ordering::is_gt),
            Op::GreaterOrEqual => compare(Ordering::is_ge),
            Op::Contains => text(|cell, part| cell.contains(part)),
            Op::StartsWith => text(|cell, part| cell.starts_with(part)),
            Op::EndsWith => text(|cell, part| cell.ends_with(part)),
            Op::In => match value {
                Value::Array(values) => Ok(Self::In(
                    values.iter().map(operand).collect::<Result<_, _>>()?,
                )),
                _ => Err("`in` takes an array"),
            },
        }
    }

    fn holds(&self, raw: &str) -> bool {
        match self {
            Self::Compare(accept, cell) => order(raw, cell).is_some_and(accept),
            Self::NotEqual(cell) => order(raw, cell) != Some(Ordering::Equal),
            Self::Text(test, part) => test(raw, part),
            Self::In(cells) => cells
                .iter()
                .any(|cell| order(raw, cell) == Some(Ordering::Equal)),
        }
    }
}

/// How a cell of the table stands to an operand, if they can be compared.
fn order(raw: &str, operand: &Cell) -> Option<Ordering> {
    match (Cell::parse(raw), operand) {
        (Cell::Empty, Cell::Empty) => Some(Ordering::Equal),
        (Cell::Empty, _) | (_, Cell::Empty) => None,
        (_, Cell::Text(text)) => Some(raw.cmp(text)),
        (Cell::Text(_), _) => None,
        (cell, number) => Some(cell.compare(number)),
    }
}

fn operand(value: &Value) -> Result<Cell, &'static str> {
    match value {
        Value::Null => Ok(Cell::Empty),
        Value::Bool(value) => Ok(Cell::Text(value.to_string())),
        Value::Number(number) => Ok(match number.as_i64() {
            Some(integer) => Cell::Integer(integer),
            None => Cell::Number(number.as_f64().unwrap_or(f64::MAX)),
        }),
        Value::String(text) => Ok(Cell::Text(text.clone())),
        Value::Array(_) | Value::Object(_) => Err("expected a number, a string, a boolean or null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(op: &str, value: Value, holds: &[&str], fails: &[&str]) {
        let op = Op::deserialize(json!(op)).unwrap();
        let test = Test::new(op, &value).unwrap();
        for raw in holds {
            assert!(test.holds(raw), "{raw:?} should pass");
        }
        for raw in fails {
            assert!(!test.holds(raw), "{raw:?} should not pass");
        }
    }

    #[test]
    fn numbers_compare_as_numbers() {
        check(">", json!(9), &["10", "9.5"], &["9", "-10", "many", ""]);
        check("=", json!(1), &["1", "1.0"], &["01", "one"]);
        check("!=", json!(1), &["2", "one", ""], &["1"]);
    }

    #[test]
    fn strings_compare_as_text() {
        check("=", json!("75001"), &["75001"], &["75001.0", ""]);
        check("<", json!("b"), &["a", "1"], &["b", "c", ""]);
        check("contains", json!("an"), &["Japan", "an"], &["AN", ""]);
        check("starts_with", json!("19"), &["1999"], &["2019"]);
        check("ends_with", json!("19"), &["2019"], &["1999"]);
        check("=", json!(true), &["true"], &["yes"]);
    }

    #[test]
    fn null_is_the_empty_cell() {
        check("=", json!(null), &["", " "], &["0", "null"]);
        check("!=", json!(null), &["0"], &[""]);
    }

    #[test]
    fn in_takes_any_of_several() {
        check(
            "in",
            json!(["Peru", 7, null]),
            &["Peru", "7", ""],
            &["Chile", "8"],
        );
    }

    #[test]
    fn operands_must_fit_the_operator() {
        for (op, value) in [
            (Op::In, json!("x")),
            (Op::Less, json!(null)),
            (Op::Contains, json!(1)),
            (Op::Equal, json!([])),
        ] {
            assert!(Test::new(op, &value).is_err());
        }
    }
}
