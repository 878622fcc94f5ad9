//! What a query makes of the rows of a group.

use std::cmp::Ordering;

use skills_sdk::prelude::*;

use crate::cell::Cell;
use crate::source::column_index;

/// One figure per group, such as `{"fn": "sum", "column": "population"}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// What to compute. `sum` and `avg` leave out cells that are no numbers.
    r#fn: Function,
    /// The column to compute it of; only `count` can do without and then counts rows.
    column: Option<String>,
    /// What to call the result; `sum_population` or the like by default.
    r#as: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

impl Function {
    fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

impl Aggregate {
    /// The name of the column that the results stand in.
    pub fn name(&self) -> String {
        match (&self.r#as, &self.column) {
            (Some(name), _) => name.clone(),
            (None, Some(column)) => format!("{}_{column}", self.r#fn.as_str()),
            (None, None) => self.r#fn.as_str().to_owned(),
        }
    }

    /// The column to compute it of; `index` is the aggregate's place in the input.
    pub fn column_index(
        &self,
        header: &csv::StringRecord,
        index: usize,
    ) -> Result<Option<usize>, Failure> {
        let pointer = format!("/aggregates/{index}/column");
        match (&self.column, self.r#fn) {
            (Some(column), _) => column_index(header, column, &pointer).map(Some),
            (None, Function::Count) => Ok(None),
            (None, function) => Err(Failure::invalid_input(
                pointer,
                format!("`{}` needs a column", function.as_str()),
            )),
        }
    }

    pub fn accumulator(&self) -> Accumulator {
        match self.r#fn {
            Function::Count => Accumulator::Count(0),
            Function::Sum => Accumulator::Sum(Cell::Integer(0)),
            Function::Avg => Accumulator::Average { sum: 0.0, count: 0 },
            Function::Min => Accumulator::Extreme(Ordering::Less, Cell::Empty),
            Function::Max => Accumulator::Extreme(Ordering::Greater, Cell::Empty),
        }
    }
}

/// The state of one figure of one group.
pub enum Accumulator {
    Count(i64),
    Sum(Cell),
    Average {
        sum: f64,
        count: u64,
    },
    /// The cell that stands in this order to all others.
    Extreme(Ordering, Cell),
}

impl Accumulator {
    /// Takes in a cell; says whether it could be used.
    pub fn add(&mut self, cell: Cell) -> bool {
        if cell.is_empty() {
            return true;
        }
        match self {
            Self::Count(count) => *count += 1,
            Self::Sum(sum) => match plus(sum, &cell) {
                Some(more) => *sum = more,
                None => return false,
            },
            Self::Average { sum, count } => match cell.as_f64() {
                Some(number) => {
                    *sum += number;
                    *count += 1;
                }
                None => return false,
            },
            Self::Extreme(order, extreme) => {
                if extreme.is_empty() || cell.compare(extreme) == *order {
                    *extreme = cell;
                }
            }
        }
        true
    }

    pub fn finish(self) -> Cell {
        match self {
            Self::Count(count) => Cell::Integer(count),
            Self::Average { count: 0, .. } => Cell::Empty,
            Self::Average { sum, count } => Cell::Number(sum / count as f64),
            Self::Sum(cell) | Self::Extreme(_, cell) => cell,
        }
    }
}

/// The sum of two numbers, exact while it is an integer that fits.
fn plus(a: &Cell, b: &Cell) -> Option<Cell> {
    if let (Cell::Integer(a), Cell::Integer(b)) = (a, b)
        && let Some(sum) = a.checked_add(*b)
    {
        return Some(Cell::Integer(sum));
    }
    Some(Cell::Number(a.as_f64()? + b.as_f64()?))
}
