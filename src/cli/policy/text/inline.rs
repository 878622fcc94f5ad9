//! Tables on one line, once something was put into them or taken out.

use toml_edit::{InlineTable, Item, Value};

/// Leaves no blank before a comma, and before the brace at the end as many as behind the one at the beginning, in all
/// that something consists of. Blanks that stand beside something else, such as a comment, stay.
pub fn tidy(item: &mut Item) {
    match item {
        Item::Value(Value::InlineTable(table)) => tidy_table(table),
        Item::Value(Value::Array(list)) => list.iter_mut().for_each(tidy_value),
        Item::ArrayOfTables(tables) => {
            for table in tables.iter_mut() {
                table.iter_mut().for_each(|(_, item)| tidy(item));
            }
        }
        Item::Table(table) => table.iter_mut().for_each(|(_, item)| tidy(item)),
        Item::None | Item::Value(_) => {}
    }
}

fn tidy_value(value: &mut Value) {
    match value {
        Value::InlineTable(table) => tidy_table(table),
        Value::Array(list) => list.iter_mut().for_each(tidy_value),
        _ => {}
    }
}

fn tidy_table(table: &mut InlineTable) {
    // What is made here has no blanks of its own, and is written with them.
    let begins = |key: &toml_edit::Key| {
        let prefix = key.leaf_decor().prefix().and_then(|prefix| prefix.as_str());
        prefix.is_none_or(|prefix| !prefix.is_empty())
    };
    let first = table.iter().next().map(|(name, _)| name.to_owned());
    let spaced = first
        .and_then(|first| table.key(&first).map(begins))
        .unwrap_or(true);
    let count = table.len();
    for (at, (_, value)) in table.iter_mut().enumerate() {
        tidy_value(value);
        let suffix = value.decor().suffix().and_then(|suffix| suffix.as_str());
        if !suffix.is_none_or(|suffix| suffix.trim().is_empty()) {
            continue;
        }
        let is_last = at + 1 == count;
        value
            .decor_mut()
            .set_suffix(if is_last && spaced { " " } else { "" });
    }
}
