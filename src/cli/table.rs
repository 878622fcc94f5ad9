//! Columns that line up.

use std::fmt;

/// Rows of columns, each as wide as its widest cell. The last cell of a row may be of any length.
#[derive(Debug, Default)]
pub struct Table {
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table that is set in by some spaces.
    pub fn new(indent: usize) -> Self {
        Table {
            indent,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            let aligned = row.len().saturating_sub(1);
            widths.resize(widths.len().max(aligned), 0);
            for (width, cell) in widths.iter_mut().zip(&row[..aligned]) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < row.len() {
                    let missing = widths[column].saturating_sub(cell.chars().count());
                    line.push_str(&" ".repeat(missing + 2));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(1);
        table.row(["a".into(), "bcd".into(), "e".into()]);
        table.row(["längst".into(), "".into(), "f".into()]);
        table.row(["x".into(), "a last cell may be long".into()]);
        assert_eq!(
            table.to_string(),
            " a       bcd  e\n längst       f\n x       a last cell may be long\n"
        );
    }
}
