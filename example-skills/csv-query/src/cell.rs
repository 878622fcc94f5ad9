//! What stands in one place of a table.

use std::cmp::Ordering;

use skills_sdk::prelude::*;

/// A cell, read as a number where it looks like one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Cell {
    Empty,
    Integer(i64),
    Number(f64),
    Text(String),
}

impl Cell {
    /// Reads a cell. What has leading zeros, or more digits than fit, stays text:
    /// it is more likely a code than a quantity.
    pub fn parse(raw: &str) -> Self {
        let text = raw.trim();
        if text.is_empty() {
            return Self::Empty;
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit()) || has_leading_zero(digits) {
            return Self::Text(text.to_owned());
        }
        if let Ok(integer) = text.parse() {
            return Self::Integer(integer);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && digits.contains(['.', 'e', 'E']) => {
                Self::Number(number)
            }
            _ => Self::Text(text.to_owned()),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(integer) => Some(*integer as f64),
            Self::Number(number) => Some(*number),
            Self::Empty | Self::Text(_) => None,
        }
    }

    /// Numbers come before text, and text before empty cells.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => match (self.as_f64(), other.as_f64()) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) | Self::Number(_) => 0,
            Self::Text(_) => 1,
            Self::Empty => 2,
        }
    }
}

fn has_leading_zero(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_codes_are_kept() {
        for (raw, cell) in [
            ("", Cell::Empty),
            ("  ", Cell::Empty),
            ("0", Cell::Integer(0)),
            (" -12 ", Cell::Integer(-12)),
            ("0.5", Cell::Number(0.5)),
            ("1e3", Cell::Number(1000.0)),
            ("007", Cell::Text("007".into())),
            (
                "12345678901234567890",
                Cell::Text("12345678901234567890".into()),
            ),
            ("1.2.3", Cell::Text("1.2.3".into())),
            ("1e999", Cell::Text("1e999".into())),
            ("nan", Cell::Text("nan".into())),
            ("-", Cell::Text("-".into())),
        ] {
            assert_eq!(Cell::parse(raw), cell, "{raw:?}");
        }
    }

    #[test]
    fn numbers_come_before_text_and_text_before_nothing() {
        let mut cells = ["", "b", "10", "a", "9", "9.5"].map(Cell::parse);
        cells.sort_by(Cell::compare);
        assert_eq!(cells, ["9", "9.5", "10", "a", "b", ""].map(Cell::parse));
    }
}
