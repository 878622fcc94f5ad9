//! Comments that outlive what stands behind them.
//!
//! A comment is about the table whose header it stands directly before. What an empty line parts from that, such as the
//! head of the file, is about something else, and stays where it is when the table goes.

use toml_edit::{Item, Table};

/// A comment, and the place among all tables that it stood at.
pub struct Kept {
    position: isize,
    text: String,
}

/// The comments of others before the tables that something consists of.
pub fn of_others(item: &Item) -> Vec<Kept> {
    let mut all = Vec::new();
    each(item, &mut |table| {
        let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
        if let (Some(position), Some(prefix)) = (table.position(), prefix) {
            let text = apart(prefix).to_owned();
            if !text.is_empty() {
                all.push(Kept { position, text });
            }
        }
    });
    all.sort_by_key(|kept| kept.position);
    all
}

/// What an empty line parts from what stands behind, where it has a comment.
fn apart(prefix: &str) -> &str {
    let mut end = 0;
    let mut at = 0;
    for line in prefix.split_inclusive('\n') {
        at += line.len();
        if line.trim().is_empty() && line.ends_with('\n') {
            end = at;
        }
    }
    let apart = prefix.get(..end).unwrap_or_default();
    if apart.contains('#') { apart } else { "" }
}

/// The comment that a text begins with.
pub fn head(text: &str) -> &str {
    let text = text.trim_start();
    let lines = text.split_inclusive('\n');
    let comment = lines.take_while(|line| line.trim_start().starts_with('#'));
    &text[..comment.map(str::len).sum()]
}

/// Puts each before the table that comes next now. Given back is what stands behind all of them.
pub fn put_back(root: &mut Table, kept: Vec<Kept>) -> String {
    let mut last = String::new();
    // From behind, so that several before one table keep their order.
    for Kept { position, text } in kept.into_iter().rev() {
        let mut next: Option<isize> = None;
        for (_, item) in root.iter() {
            each(item, &mut |table| {
                let at = table.position().filter(|at| *at > position);
                next = match (next, at) {
                    (Some(next), Some(at)) => Some(next.min(at)),
                    (next, at) => next.or(at),
                };
            });
        }
        let Some(next) = next else {
            last = text + last.trim_start_matches('\n');
            continue;
        };
        for (_, item) in root.iter_mut() {
            each_mut(item, &mut |table| {
                if table.position() == Some(next) {
                    let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
                    let rest = prefix.unwrap_or_default().trim_start_matches('\n');
                    let all = format!("{text}{rest}");
                    table.decor_mut().set_prefix(all);
                }
            });
        }
    }
    last
}

/// Every table with a header of its own.
fn each(item: &Item, with: &mut dyn FnMut(&Table)) {
    match item {
        Item::Table(table) => {
            if !table.is_implicit() && !table.is_dotted() {
                with(table);
            }
            table.iter().for_each(|(_, item)| each(item, with));
        }
        Item::ArrayOfTables(tables) => {
            for table in tables {
                with(table);
                table.iter().for_each(|(_, item)| each(item, with));
            }
        }
        Item::None | Item::Value(_) => {}
    }
}

fn each_mut(item: &mut Item, with: &mut dyn FnMut(&mut Table)) {
    match item {
        Item::Table(table) => {
            if !table.is_implicit() && !table.is_dotted() {
                with(table);
            }
            table.iter_mut().for_each(|(_, item)| each_mut(item, with));
        }
        Item::ArrayOfTables(tables) => {
            for table in tables.iter_mut() {
                with(table);
                table.iter_mut().for_each(|(_, item)| each_mut(item, with));
            }
        }
        Item::None | Item::Value(_) => {}
    }
}
