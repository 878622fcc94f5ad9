//! Where in a text of TOML something stands.

use std::ops::Range;

use toml::de::{DeArray, DeTable};

/// How many tables within each other are looked into: more than a manifest or a policy has.
pub(crate) const DEEPEST: usize = 8;

/// The line of a place in a text, counted from 1.
pub(crate) fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The keys of the tables around a place in a text, from the outermost on.
pub(crate) fn tables_around(text: &str, at: usize) -> Vec<String> {
    let mut keys = Vec::new();
    if let Ok(root) = DeTable::parse(text) {
        lead_to(root.get_ref(), at, &mut keys);
    }
    keys
}

/// Collects the keys of the tables around a place of the text; whether it was found.
fn lead_to(table: &DeTable<'_>, at: usize, keys: &mut Vec<String>) -> bool {
    keys.len() < DEEPEST
        && table.iter().any(|(key, value)| {
            if key.span().contains(&at) {
                return true;
            }
            let value_at = value.span().contains(&at);
            let inner = value.get_ref();
            let rows = inner.as_array().into_iter().flat_map(|rows| rows.iter());
            let tables = inner
                .as_table()
                .into_iter()
                .chain(rows.filter_map(|row| row.get_ref().as_table()));
            keys.push(key.get_ref().clone().into_owned());
            if tables.into_iter().any(|table| lead_to(table, at, keys)) {
                return true;
            }
            keys.pop();
            value_at
        })
}

/// Where in a text something stands, by its keys, and its numbers in lists, counted from 0; of what is not there, where
/// what it is in stands.
pub(crate) fn span(text: &str, place: &[&str]) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut table = Some(root.get_ref());
    let mut list = None;
    for part in place {
        let value = match (table, list) {
            (Some(table), _) => {
                let (key, value) = DeTable::get_key_value(table, *part)?;
                found = Some(key.span());
                value
            }
            (None, Some(list)) => {
                let list: &DeArray<'_> = list;
                let Some(value) = part.parse::<usize>().ok().and_then(|at| list.get(at)) else {
                    break;
                };
                found = Some(value.span());
                value
            }
            (None, None) => break,
        };
        table = value.get_ref().as_table();
        list = value.get_ref().as_array();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[a]\nb = [\n  1,\n  { c = 2 },\n]\n[[a.d]]\ne = 3\n";

    #[test]
    fn what_stands_there_is_found_by_its_keys() {
        for (place, lines) in [
            (&["a"][..], Some(1)),
            (&["a", "b"], Some(2)),
            (&["a", "b", "0"], Some(3)),
            (&["a", "b", "1", "c"], Some(4)),
            (&["a", "d", "0", "e"], Some(7)),
            // As far as it goes.
            (&["a", "b", "7"], Some(2)),
            (&["a", "b", "0", "x"], Some(3)),
            (&["x"], None),
        ] {
            let found = span(TEXT, place).map(|span| line(TEXT, span.start));
            assert_eq!(found, lines, "{place:?}");
        }
        assert_eq!(line(TEXT, usize::MAX), 8);
        assert_eq!(line("", 0), 1);
    }

    #[test]
    fn the_tables_around_a_place_are_told() {
        for (what, tables) in [
            ("b =", &["a"][..]),
            ("c =", &["a", "b"]),
            ("e =", &["a", "d"]),
        ] {
            let at = TEXT.find(what).unwrap();
            assert_eq!(tables_around(TEXT, at), tables, "{what}");
        }
        assert!(tables_around(TEXT, usize::MAX).is_empty());
        assert!(tables_around("[", 0).is_empty());
    }
}
