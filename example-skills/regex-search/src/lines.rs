//! Finds the lines of a file that match.

use regex::bytes::Regex;
use skills_sdk::prelude::*;

/// Longer lines are cut, around the match.
const MAX_LINE: usize = 300;

/// A line that matches.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Match {
    /// The file.
    pub path: String,
    /// The line's number, from 1.
    pub line: usize,
    /// The number of the character at which the match starts, from 1.
    pub column: usize,
    /// The line.
    pub text: String,
    /// The lines before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// The lines after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// Whether these bytes are no text: text has no NUL.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(8192).any(|byte| *byte == 0)
}

/// The matching lines of a file, with so many lines of context around each.
pub fn matches<'a>(
    regex: &'a Regex,
    path: &'a str,
    bytes: &'a [u8],
    context: usize,
) -> impl Iterator<Item = Match> + 'a {
    let lines = split(bytes);
    (0..lines.len()).filter_map(move |index| {
        let found = regex.find(lines[index])?;
        let around = |range: std::ops::Range<usize>| {
            lines[range].iter().map(|line| shorten(line, 0)).collect()
        };
        Some(Match {
            path: path.to_owned(),
            line: index + 1,
            column: String::from_utf8_lossy(&lines[index][..found.start()])
                .chars()
                .count()
                + 1,
            text: shorten(lines[index], found.start()),
            before: around(index.saturating_sub(context)..index),
            after: around(index + 1..lines.len().min((index + 1).saturating_add(context))),
        })
    })
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
        .into_iter()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect()
}

/// A line, cut so that what stands at `from` is in it.
fn shorten(line: &[u8], from: usize) -> String {
    if line.len() <= MAX_LINE {
        return String::from_utf8_lossy(line).into_owned();
    }
    let start = from.saturating_sub(MAX_LINE / 4);
    let end = line.len().min(start + MAX_LINE);
    let kept = String::from_utf8_lossy(&line[start..end]);
    let kept = kept.trim_matches(char::REPLACEMENT_CHARACTER);
    let (before, after) = (
        if start > 0 { "…" } else { "" },
        if end < line.len() { "…" } else { "" },
    );
    format!("{before}{kept}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pattern: &str, text: &str, context: usize) -> Vec<Match> {
        matches(&Regex::new(pattern).unwrap(), "f", text.as_bytes(), context).collect()
    }

    #[test]
    fn lines_come_with_their_place_and_context() {
        let found = search("b+", "a\r\nxébb\nc\nd\n", 1);
        let expected = Match {
            path: "f".into(),
            line: 2,
            column: 3,
            text: "xébb".into(),
            before: vec!["a".into()],
            after: vec!["c".into()],
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn context_ends_with_the_file() {
        let found = search("^a$|^c$", "a\nb\nc", 9);
        assert_eq!(found[0].before, [""; 0]);
        assert_eq!(found[0].after, ["b", "c"]);
        assert_eq!(found[1].before, ["a", "b"]);
        assert_eq!(search("", "", 1), []);
    }

    #[test]
    fn long_lines_are_cut_around_the_match() {
        let line = format!("{}needle{}", "é".repeat(500), "é".repeat(500));
        let found = &search("needle", &line, 0)[0];
        assert_eq!(found.column, 501);
        assert!(found.text.contains("needle"));
        assert!(found.text.starts_with("…é") && found.text.ends_with("é…"));
        assert!(found.text.len() <= MAX_LINE + 6);
    }

    #[test]
    fn binary_files_have_nul() {
        assert!(is_binary(b"a\0b"));
        assert!(!is_binary("aé\n".as_bytes()));
    }
}
