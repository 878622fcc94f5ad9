//! The table of what was tried, row by row. Its columns are as wide whatever comes, as rows are
//! shown while others are still being tried.

use std::fmt::Write as _;

use anstyle::Style;
use skillhost::doctor::{Check, Kind, Verdict};
use skillhost::text::printable;

use crate::cli::console::{BOLD, DIM, ERROR, GOOD, WARNING, styled};

/// Columns of the name, of what was tried, and of how far it got. What stopped it takes the rest, of 80 or
/// more, as far as it needs it.
const NAME: usize = 19;
const TRIED: usize = 28;
const PAST: usize = 8;
/// Columns of what stopped it: where there are 80, and as many as the longest name takes.
const STOPPED: std::ops::RangeInclusive<usize> = 15..=19;

/// The columns of what stopped it, of `width` in all.
fn stopped_columns(width: Option<usize>) -> usize {
    const OTHERS: usize = 4 + NAME + 2 + TRIED + 2 + 2 + PAST;
    let rest = width.map_or(usize::MAX, |width| width.saturating_sub(OTHERS));
    rest.clamp(*STOPPED.start(), *STOPPED.end())
}

/// The row of a check, under the title of its kind where `last` was another, in `width` columns. Where no width is
/// given nothing is cut.
pub fn of(check: &Check, last: Option<Kind>, width: Option<usize>) -> String {
    let columns = stopped_columns(width);
    let cut = |text, columns| cut(text, width.map_or(usize::MAX, |_| columns));
    let mut rows = String::new();
    if last != Some(check.kind) {
        if last.is_some() {
            rows.push('\n');
        }
        rows.push_str(&title(check.kind, columns));
    }
    let (style, mark) = mark(check.verdict);
    let stopped = stopped(check);
    let mut row = String::new();
    let _ = write!(
        row,
        "{:<NAME$}  {:<TRIED$}  ",
        cut(&check.name, NAME),
        cut(&check.tried, TRIED)
    );
    match &check.figures {
        Some(figures) => {
            let past = match figures.past {
                0 => "0".to_owned(),
                past => format!("+{}", figures.unit.display(past)),
            };
            let _ = write!(row, "{:<columns$}  {past}", cut(&stopped, columns));
        }
        None => row.push_str(&cut(&stopped, columns + 2 + PAST)),
    }
    let _ = writeln!(rows, "  {} {}", styled(style, mark), row.trim_end());
    rows
}

fn title(kind: Kind, columns: usize) -> String {
    let (what, tried, stopped, past) = match kind {
        Kind::Limit => ("limit", "tried", "stopped by", "past it"),
        Kind::Grant => ("grant", "tried", "stopped by", ""),
        Kind::Guard => ("guard", "tried", "stopped by", ""),
        Kind::Isolation => ("isolation", "tried", "stopped by", ""),
        Kind::Compile => ("compiling", "tried", "stopped by", "past it"),
        Kind::Cache => ("compiled cache", "tried, or looked at", "found", ""),
        Kind::Machine => ("this machine", "which matters for", "found", ""),
        Kind::Policy => ("policy", "tried, or looked at", "found", ""),
        _ => (kind.as_str(), "tried", "stopped by", ""),
    };
    let line = format!("    {what:<NAME$}  {tried:<TRIED$}  {stopped:<columns$}  {past}");
    format!("{}\n", styled(BOLD, line.trim_end()))
}

fn mark(verdict: Verdict) -> (Style, &'static str) {
    match verdict {
        Verdict::Holds => (GOOD, "✓"),
        Verdict::Warning => (WARNING, "!"),
        Verdict::Broken => (ERROR, "✗"),
        Verdict::Unknown => (ERROR, "?"),
        Verdict::NotApplicable => (DIM, "–"),
    }
}

fn stopped(check: &Check) -> String {
    match (&check.stopped_by, check.verdict) {
        (_, Verdict::Unknown) => "could not be tried".into(),
        (Some(stopped_by), _) => stopped_by.clone(),
        (None, Verdict::NotApplicable) => "does not apply".into(),
        (None, _) => match check.kind {
            Kind::Cache | Kind::Machine | Kind::Policy => "see below".into(),
            _ => "nothing".into(),
        },
    }
}

/// A text of at most so many columns.
fn cut(text: &str, columns: usize) -> String {
    let text = printable(text, false);
    if text.chars().count() <= columns {
        return text.into_owned();
    }
    let mut cut: String = text.chars().take(columns - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skillhost::doctor::{Figures, Finding};

    use super::*;

    fn plain(finding: Finding, tried: &str) -> String {
        let check = finding.check(Kind::Limit, "memory_bytes", tried, Duration::ZERO);
        anstream::adapter::strip_str(&of(&check, Some(Kind::Limit), Some(80))).to_string()
    }

    /// Where the last column begins.
    fn last_column(row: &str) -> usize {
        let before = row.trim_end().rsplit_once("  ").unwrap().0;
        before.chars().count() + 2
    }

    #[test]
    fn columns_line_up_whatever_stands_in_them() {
        for (width, name) in [
            (Some(80), "http_response_…"),
            (Some(84), "http_response_bytes"),
            (Some(120), "http_response_bytes"),
            (None, "http_response_bytes"),
        ] {
            let row = |stopped: &str| {
                let finding = Finding::holds(stopped).figures(Figures::bytes(1, 1));
                let check = finding.check(Kind::Limit, "fuel", "a loop", Duration::ZERO);
                anstream::adapter::strip_str(&of(&check, Some(Kind::Limit), width)).to_string()
            };
            let (short, long) = (row("fuel"), row("http_response_bytes"));
            assert!(long.contains(&format!("  {name}  0")), "{long}");
            assert_eq!(last_column(&short), last_column(&long), "{short}{long}");
            let width_of_row = long.trim_end().chars().count();
            assert!(width.is_none_or(|width| width_of_row <= width), "{long}");
            let title = title(Kind::Limit, stopped_columns(width));
            let title = anstream::adapter::strip_str(&title).to_string();
            assert_eq!(last_column(&title), last_column(&long), "{title}{long}");
        }
    }

    #[test]
    fn rows_line_up_and_fit_80_columns() {
        let figures = Figures::bytes(1 << 20, (1 << 20) + 1023);
        let rows = [
            plain(Finding::holds("memory").figures(figures), "growing"),
            plain(
                Finding::holds("x".repeat(100)).figures(figures),
                &"y".repeat(100),
            ),
            plain(Finding::broken("it got out"), "growing"),
            plain(Finding::unknown("no guest"), "growing\x1b[2J"),
        ];
        for row in &rows {
            assert!(row.trim_end().chars().count() <= 80, "{row}");
            assert!(!row.contains('\x1b'), "{row}");
        }
        assert_eq!(
            rows[0],
            "  ✓ memory_bytes         growing                       memory           +1023 B\n"
        );
        assert!(rows[2].contains("✗ ") && rows[2].contains("  nothing\n"));
        assert!(rows[3].contains("? ") && rows[3].contains("could not be tried\n"));
    }

    #[test]
    fn whoever_reads_it_from_a_pipe_has_all_of_it() {
        let (stopped, tried) = ("x".repeat(100), "y".repeat(100));
        let check = Finding::holds(&*stopped).check(Kind::Limit, "z", &*tried, Duration::ZERO);
        let row = of(&check, Some(Kind::Limit), None);
        assert!(row.contains(&stopped) && row.contains(&tried), "{row}");
    }

    #[test]
    fn titles_fit_80_columns() {
        for kind in [Kind::Limit, Kind::Compile, Kind::Cache, Kind::Machine] {
            let title =
                anstream::adapter::strip_str(&title(kind, stopped_columns(Some(80)))).to_string();
            assert!(title.trim_end().chars().count() <= 80, "{title}");
        }
    }
}
