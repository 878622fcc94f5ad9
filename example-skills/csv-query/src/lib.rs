//! Queries CSV tables.

mod aggregate;
mod cell;
mod describe;
mod filter;
mod select;
mod source;

use skills_sdk::prelude::*;

use crate::describe::Columns;
use crate::select::{Query, Run, Table, comma};
use crate::source::Source;

/// How many rows a query gives that does not say.
const DEFAULT_LIMIT: usize = 100;
/// How many rows a query can have at most, where the configuration does not say.
const DEFAULT_MAX_ROWS: usize = 1000;

/// Selects, filters, groups and sorts the rows of a CSV table.
///
/// The table is the file `path`, or `text`, or else the first attachment; its first row names
/// the columns. With `group_by` or `aggregates` the answer has one row per group.
#[tool(title = "Query a CSV table", read_only, idempotent, open_world = false)]
pub fn query(#[tool(input)] query: Query, ctx: &Context) -> Result<Table, Failure> {
    let max_rows = ctx.config_as("max_rows")?.unwrap_or(DEFAULT_MAX_ROWS);
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT.min(max_rows));
    if limit > max_rows {
        let message = format!("at most {max_rows} rows; the skill's setting `max_rows` says so");
        return Err(Failure::invalid_input("/limit", message));
    }

    let source = Source::open(
        query.path.as_deref(),
        query.text.as_deref(),
        ctx.attachments().first(),
    )?;
    let start = |header: &csv::StringRecord| {
        let names = header.iter().map(|name| name.trim().to_owned()).collect();
        Ok((Run::new(&query, limit, header)?, names))
    };
    let (run, names) = source.read(query.delimiter, ctx, start, |(run, _), record| {
        run.add(record)
    })?;
    if run.unusable > 0 {
        ctx.warn(format_args!(
            "{} cells are no numbers and were left out of sums and averages",
            run.unusable
        ));
    }
    Ok(run.finish(names))
}

/// Describes the columns of a CSV table: names, types, empty cells, sample values.
///
/// Use it before `query` on a table you do not know. The table is the file `path`, or `text`,
/// or else the first attachment; its first row names the columns.
#[tool(
    title = "Describe a CSV table",
    read_only,
    idempotent,
    open_world = false
)]
pub fn columns(
    /// The CSV file, in a granted directory.
    path: Option<String>,
    /// The table itself, in place of a file.
    text: Option<String>,
    /// What separates the cells of a row; a comma by default.
    delimiter: Option<char>,
    /// How many sample values to give per column.
    #[tool(default = 3)]
    samples: usize,
    ctx: &Context,
) -> Result<Columns, Failure> {
    let source = Source::open(path.as_deref(), text.as_deref(), ctx.attachments().first())?;
    let start = |header: &csv::StringRecord| Ok(Columns::new(header));
    source.read(
        delimiter.unwrap_or_else(comma),
        ctx,
        start,
        |columns, record| {
            columns.add(record, samples);
            Ok(())
        },
    )
}

skills_sdk::skill! { tools: [query, columns] }
