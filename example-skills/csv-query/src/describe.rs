//! What a table's columns hold.

use skills_sdk::prelude::*;

use crate::cell::Cell;

/// A table's shape.
#[derive(Serialize, JsonSchema)]
pub struct Columns {
    /// Rows, without the header.
    pub rows: u64,
    /// The columns, in the table's order.
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Serialize, JsonSchema)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// What all of its cells have in common.
    pub r#type: Type,
    /// How many of its cells are empty.
    pub empty: u64,
    /// The first values that differ.
    pub samples: Vec<Cell>,
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Nothing.
    Empty,
    Boolean,
    Integer,
    Number,
    /// `YYYY-MM-DD`, with or without a time.
    Date,
    Text,
}

impl Columns {
    pub fn new(header: &csv::StringRecord) -> Self {
        let column = |name: &str| Column {
            name: name.trim().to_owned(),
            r#type: Type::Empty,
            empty: 0,
            samples: Vec::new(),
        };
        Self {
            rows: 0,
            columns: header.iter().map(column).collect(),
        }
    }

    pub fn add(&mut self, record: &csv::StringRecord, samples: usize) {
        self.rows += 1;
        for (column, raw) in self.columns.iter_mut().zip(record) {
            column.add(Cell::parse(raw), samples);
        }
    }
}

impl Column {
    fn add(&mut self, cell: Cell, samples: usize) {
        if cell.is_empty() {
            self.empty += 1;
            return;
        }
        self.r#type = self.r#type.and(Type::of(&cell));
        if self.samples.len() < samples && !self.samples.contains(&cell) {
            self.samples.push(cell);
        }
    }
}

impl Type {
    fn of(cell: &Cell) -> Self {
        match cell {
            Cell::Empty => Self::Empty,
            Cell::Integer(_) => Self::Integer,
            Cell::Number(_) => Self::Number,
            Cell::Text(text)
                if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") =>
            {
                Self::Boolean
            }
            Cell::Text(text) if starts_with_date(text) => Self::Date,
            Cell::Text(_) => Self::Text,
        }
    }

    /// The type of a column that has cells of both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Empty, known) | (known, Self::Empty) => known,
            (a, b) if a == b => a,
            (Self::Integer, Self::Number) | (Self::Number, Self::Integer) => Self::Number,
            _ => Self::Text,
        }
    }
}

fn starts_with_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-dd";
    bytes.len() >= shape.len()
        && shape.iter().zip(bytes).all(|(shape, byte)| match shape {
            b'd' => byte.is_ascii_digit(),
            _ => byte == shape,
        })
        && matches!(bytes.get(shape.len()), None | Some(b'T' | b' '))
}
