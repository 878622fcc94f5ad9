//! Many rows put into a table at a time.

use rusqlite::{Connection, Statement, ToSql};

/// How many rows one statement puts in, where there are as many: that costs less than as many
/// statements, and still more of them would save next to nothing.
const MANY: usize = 32;

/// The most bytes that one statement puts in, unless one row has more: they are copied for it.
const BYTES: usize = 1 << 20;

/// Puts rows into a table.
///
/// `into` is the statement as far as its values, `bytes` how large a row is where it can be large, and
/// `give` gives the values of a row, one for each column.
pub(super) fn insert<T>(
    connection: &Connection,
    into: &str,
    columns: usize,
    rows: &[T],
    bytes: impl Fn(&T) -> usize,
    give: impl Fn(&mut Values<'_, '_>, &T) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let statement = |size| connection.prepare_cached(&text(into, columns, size));
    let (mut many, mut one) = (None, None);
    for part in rows.chunks(MANY) {
        let together = part.len() == MANY && part.iter().map(&bytes).sum::<usize>() <= BYTES;
        let (prepared, size) = if together {
            (&mut many, MANY)
        } else {
            (&mut one, 1)
        };
        let statement = match prepared {
            Some(statement) => statement,
            None => prepared.insert(statement(size)?),
        };
        for rows in part.chunks(size) {
            let mut values = Values {
                statement: &mut *statement,
                given: 0,
            };
            for row in rows {
                give(&mut values, row)?;
            }
            statement.raw_execute()?;
        }
    }
    Ok(())
}

/// A statement that puts so many rows in.
fn text(into: &str, columns: usize, rows: usize) -> String {
    let row = format!("(?{})", ", ?".repeat(columns - 1));
    let mut text = format!("{into} VALUES {row}");
    for _ in 1..rows {
        text.push_str(", ");
        text.push_str(&row);
    }
    text
}

/// Takes the values of a statement.
pub(super) struct Values<'a, 'c> {
    statement: &'a mut Statement<'c>,
    given: usize,
}

impl Values<'_, '_> {
    /// The next values.
    pub fn give(&mut self, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        for value in values {
            self.given += 1;
            self.statement.raw_bind_parameter(self.given, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;

    #[test]
    fn every_row_is_put_in_however_many_there_are_and_however_large() {
        let connection = Connection::open_in_memory().expect("a database");
        connection
            .execute_batch("CREATE TABLE texts (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
            .expect("a table");
        for count in [0, 1, MANY - 1, MANY, MANY + 1, 3 * MANY, 4 * MANY + 5] {
            for length in [3, 2 * BYTES / MANY] {
                let rows: Vec<(i64, String)> = (0..count)
                    .map(|number| (number as i64, "é".repeat(length)))
                    .collect();
                let into = "INSERT INTO texts (number, text)";
                insert(
                    &connection,
                    into,
                    2,
                    &rows,
                    |row| row.1.len(),
                    |values, row| values.give(params![row.0, row.1]),
                )
                .expect("they are put in");
                let found: Vec<(i64, String)> = connection
                    .prepare("SELECT number, text FROM texts ORDER BY number")
                    .expect("a statement")
                    .query_map([], |found| Ok((found.get(0)?, found.get(1)?)))
                    .expect("an answer")
                    .collect::<rusqlite::Result<_>>()
                    .expect("rows");
                assert!(found == rows, "{count} of {length}");
                connection.execute("DELETE FROM texts", []).expect("none");
            }
        }
    }
}
