//! Runs a query over a table, one row at a time.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use skills_sdk::prelude::*;

use crate::aggregate::{Accumulator, Aggregate};
use crate::cell::Cell;
use crate::filter::{Condition, Filter};
use crate::source::column_index;

/// More groups than this are refused, so that memory stays within bounds.
const MAX_GROUPS: usize = 50_000;

/// What to read and what to make of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The CSV file, in a granted directory.
    pub path: Option<String>,
    /// The table itself, in place of a file.
    pub text: Option<String>,
    /// What separates the cells of a row.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The columns to give, in this order; all of them by default.
    #[serde(default)]
    columns: Vec<String>,
    /// The conditions that a row must meet, all of them.
    #[serde(default)]
    filter: Vec<Condition>,
    /// Give one row per combination of values in these columns.
    #[serde(default)]
    group_by: Vec<String>,
    /// The figures to give per group, or for the whole table without `group_by`.
    #[serde(default)]
    aggregates: Vec<Aggregate>,
    /// What to sort by, the most important first. Empty cells come last.
    #[serde(default)]
    order_by: Vec<Order>,
    /// At most this many rows; 100 by default.
    pub limit: Option<usize>,
}

/// What to sort by.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Order {
    /// A column of the table or, when grouping, of the result.
    column: String,
    /// From the highest to the lowest.
    #[serde(default)]
    descending: bool,
}

/// The answer to a query.
#[derive(Serialize, JsonSchema)]
pub struct Table {
    /// The names of the columns.
    columns: Vec<String>,
    /// The rows: cells in the order of `columns`, numbers where they look like it, empty cells `null`.
    rows: Vec<Vec<Cell>>,
    /// Rows of the table that were read.
    rows_read: u64,
    /// Rows of the table that met the conditions.
    rows_matched: u64,
    /// Whether `limit` cut rows off.
    truncated: bool,
}

pub fn comma() -> char {
    ','
}

/// A query that runs.
pub struct Run<'a> {
    query: &'a Query,
    filter: Filter,
    limit: usize,
    order: Vec<(usize, bool)>,
    result: Rows,
    rows_read: u64,
    rows_matched: u64,
    /// Cells that `sum` or `avg` could not use.
    pub unusable: u64,
}

/// What has been made of the rows so far.
enum Rows {
    Selected {
        columns: Vec<usize>,
        rows: Vec<Row>,
        found: usize,
    },
    Grouped {
        columns: Vec<usize>,
        aggregates: Vec<Option<usize>>,
        groups: BTreeMap<Vec<String>, Vec<Accumulator>>,
    },
}

struct Row {
    keys: Vec<Cell>,
    cells: Vec<Cell>,
}

impl<'a> Run<'a> {
    pub fn new(
        query: &'a Query,
        limit: usize,
        header: &csv::StringRecord,
    ) -> Result<Self, Failure> {
        let indices = |names: &[String], argument: &str| -> Result<Vec<usize>, Failure> {
            let index = |(i, name): (usize, &String)| {
                column_index(header, name, &format!("/{argument}/{i}"))
            };
            names.iter().enumerate().map(index).collect()
        };
        let grouped = !query.group_by.is_empty() || !query.aggregates.is_empty();
        if grouped && !query.columns.is_empty() {
            let message = "leave `columns` out when grouping: the columns are those of `group_by` and `aggregates`";
            return Err(Failure::invalid_input("/columns", message));
        }

        let result = if grouped {
            let aggregates = query.aggregates.iter().enumerate();
            let aggregates = aggregates.map(|(i, aggregate)| aggregate.column_index(header, i));
            Rows::Grouped {
                columns: indices(&query.group_by, "group_by")?,
                aggregates: aggregates.collect::<Result<_, _>>()?,
                groups: BTreeMap::new(),
            }
        } else {
            let columns = match query.columns.as_slice() {
                [] => (0..header.len()).collect(),
                names => indices(names, "columns")?,
            };
            Rows::Selected {
                columns,
                rows: Vec::new(),
                found: 0,
            }
        };

        let sortable = if grouped {
            query.group_columns().collect()
        } else {
            header.clone()
        };
        let order = query.order_by.iter().enumerate().map(|(i, order)| {
            let column = column_index(&sortable, &order.column, &format!("/order_by/{i}/column"))?;
            Ok((column, order.descending))
        });

        Ok(Self {
            query,
            filter: Filter::new(&query.filter, header)?,
            limit,
            order: order.collect::<Result<_, Failure>>()?,
            result,
            rows_read: 0,
            rows_matched: 0,
            unusable: 0,
        })
    }

    pub fn add(&mut self, record: &csv::StringRecord) -> Result<(), Failure> {
        self.rows_read += 1;
        if !self.filter.accepts(record) {
            return Ok(());
        }
        self.rows_matched += 1;
        let cell = |column: &usize| Cell::parse(&record[*column]);
        match &mut self.result {
            Rows::Selected {
                columns,
                rows,
                found,
            } => {
                *found += 1;
                if !self.order.is_empty() {
                    // Sorting each time the limit is reached twice keeps memory within it.
                    if rows.len() >= self.limit.saturating_mul(2) {
                        sort(rows, &self.order);
                        rows.truncate(self.limit);
                    }
                } else if rows.len() >= self.limit {
                    return Ok(());
                }
                let keys = self.order.iter().map(|(column, _)| cell(column)).collect();
                rows.push(Row {
                    keys,
                    cells: columns.iter().map(cell).collect(),
                });
            }
            Rows::Grouped {
                columns,
                aggregates,
                groups,
            } => {
                let key: Vec<String> = columns
                    .iter()
                    .map(|column| record[*column].trim().to_owned())
                    .collect();
                if groups.len() >= MAX_GROUPS && !groups.contains_key(&key) {
                    let message = format!(
                        "more than {MAX_GROUPS} groups; filter more or group by fewer columns"
                    );
                    return Err(Failure::error(message).code("too-many-groups"));
                }
                let start = || {
                    self.query
                        .aggregates
                        .iter()
                        .map(Aggregate::accumulator)
                        .collect()
                };
                let accumulators = groups.entry(key).or_insert_with(start);
                for (accumulator, column) in accumulators.iter_mut().zip(aggregates) {
                    let usable = accumulator.add(column.as_ref().map_or(Cell::Integer(1), cell));
                    self.unusable += u64::from(!usable);
                }
            }
        }
        Ok(())
    }

    pub fn finish(self, header: Vec<String>) -> Table {
        let (columns, mut rows, found) = match self.result {
            Rows::Selected {
                columns,
                rows,
                found,
            } => (
                columns
                    .iter()
                    .map(|column| header[*column].clone())
                    .collect(),
                rows,
                found,
            ),
            Rows::Grouped { mut groups, .. } => {
                if groups.is_empty() && self.query.group_by.is_empty() {
                    groups.insert(
                        Vec::new(),
                        self.query
                            .aggregates
                            .iter()
                            .map(Aggregate::accumulator)
                            .collect(),
                    );
                }
                let row = |(key, accumulators): (Vec<String>, Vec<Accumulator>)| {
                    let key = key.iter().map(|raw| Cell::parse(raw));
                    let cells: Vec<Cell> = key
                        .chain(accumulators.into_iter().map(Accumulator::finish))
                        .collect();
                    Row {
                        keys: self
                            .order
                            .iter()
                            .map(|(column, _)| cells[*column].clone())
                            .collect(),
                        cells,
                    }
                };
                let found = groups.len();
                (
                    self.query.group_columns().collect(),
                    groups.into_iter().map(row).collect(),
                    found,
                )
            }
        };
        sort(&mut rows, &self.order);
        rows.truncate(self.limit);
        Table {
            columns,
            truncated: found > rows.len(),
            rows: rows.into_iter().map(|row| row.cells).collect(),
            rows_read: self.rows_read,
            rows_matched: self.rows_matched,
        }
    }
}

impl Query {
    /// The columns of a result with one row per group.
    fn group_columns(&self) -> impl Iterator<Item = String> {
        self.group_by
            .iter()
            .cloned()
            .chain(self.aggregates.iter().map(Aggregate::name))
    }
}

fn sort(rows: &mut [Row], order: &[(usize, bool)]) {
    let compare = |a: &Row, b: &Row| {
        let keys = a.keys.iter().zip(&b.keys).zip(order);
        keys.map(|((a, b), (_, descending))| compare(a, b, *descending))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    };
    rows.sort_by(compare);
}

fn compare(a: &Cell, b: &Cell, descending: bool) -> Ordering {
    let order = a.compare(b);
    if descending && !a.is_empty() && !b.is_empty() {
        order.reverse()
    } else {
        order
    }
}
