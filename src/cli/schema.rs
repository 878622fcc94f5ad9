//! JSON Schemas as a person reads them: a line for each field.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Map, Value};
use skillhost::text::printable;

use super::console::{NAME, styled};

/// How many levels of fields in fields are shown.
const MAX_LEVELS: usize = 3;
/// The most fields that are shown of one schema: a hostile one can unfold without end.
const MAX_ROWS: usize = 500;
/// The most alternatives that are shown of one type.
const MAX_ALTERNATIVES: usize = 8;
/// The longest that a regular expression is written, in characters.
const MAX_PATTERN: usize = 60;
/// The widest that a type or a default is written.
const MAX_TYPE: usize = 200;

/// What a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Somebody has to write it, and needs to know what must be there.
    Input,
    /// Somebody reads it, and needs to know what may be missing.
    Output,
}

/// The fields of a schema for an object: name, type, whether it must be there, and what it means.
/// Of any other schema, its type.
pub fn fields(schema: &Value, side: Side, indent: usize, width: usize) -> String {
    let mut rows = Vec::new();
    collect(schema, schema, side, 0, &mut rows);
    if rows.is_empty() {
        let kind = type_of(schema, schema, 0);
        return format!("{}{}\n", " ".repeat(indent), cut(&kind));
    }
    let longest = rows
        .iter()
        .map(|row| 2 * row.level + row.name.chars().count())
        .max();
    let column = indent + longest.unwrap_or(0) + 2;
    let mut out = String::new();
    for row in &rows {
        let before = indent + 2 * row.level;
        let text = match (row.presence.as_str(), row.meaning.as_str()) {
            ("", "") => row.kind.clone(),
            ("", meaning) => format!("{} – {meaning}", row.kind),
            (presence, "") => format!("{}, {presence}", row.kind),
            (presence, meaning) => format!("{}, {presence} – {meaning}", row.kind),
        };
        let text = wrapped(&text, column, width);
        let _ = write!(
            out,
            "{}{}{}",
            " ".repeat(before),
            styled(NAME, &row.name),
            // The first line's indentation makes room for the name.
            text.get(before + row.name.chars().count()..)
                .unwrap_or("\n")
        );
    }
    out
}

struct Row {
    level: usize,
    name: String,
    kind: String,
    presence: String,
    meaning: String,
}

fn collect(root: &Value, schema: &Value, side: Side, level: usize, rows: &mut Vec<Row>) {
    let schema = resolve(root, schema);
    let nothing = Map::new();
    let fields = schema.get("properties").and_then(Value::as_object);
    let fields = fields.unwrap_or(&nothing);
    let required: HashSet<&str> = list(schema, "required").filter_map(Value::as_str).collect();
    let (first, then): (Vec<_>, Vec<_>) = fields
        .iter()
        .partition(|(name, _)| required.contains(name.as_str()));
    for (name, field) in first.into_iter().chain(then) {
        if rows.len() >= MAX_ROWS {
            return;
        }
        let target = resolve(root, field);
        let keyword = |name: &str| field.get(name).or_else(|| target.get(name));
        let is_required = required.contains(name.as_str());
        let presence = match (is_required, side, keyword("default")) {
            (true, Side::Input, _) => "required".to_owned(),
            (false, Side::Input, Some(default)) if !default.is_null() => {
                format!("default {default}")
            }
            (false, Side::Output, _) => "not always there".to_owned(),
            _ => String::new(),
        };
        let meaning = keyword("description").and_then(Value::as_str);
        let mut kind = type_of(root, field, 0);
        if !is_required {
            // That it can be left out says as much.
            let other = kind.strip_suffix(" or null").unwrap_or(&kind);
            kind = other.strip_suffix(',').unwrap_or(other).to_owned();
        }
        rows.push(Row {
            level,
            name: printable(name, false).into_owned(),
            kind: cut(&kind),
            presence: cut(&presence),
            meaning: meaning.unwrap_or_default().to_owned(),
        });
        if level + 1 < MAX_LEVELS {
            collect(root, inner(root, target), side, level + 1, rows);
        }
    }
    if fields.is_empty() {
        collect_variants(root, schema, side, level, rows);
    }
    let patterns = schema.get("patternProperties").and_then(Value::as_object);
    let named = patterns.into_iter().flatten();
    let named = named.map(|(pattern, field)| (written(pattern), field));
    // Alone, the others are what the object is of.
    let others = schema.get("additionalProperties").filter(|others| {
        others.is_object() && !(fields.is_empty() && patterns.is_none_or(Map::is_empty))
    });
    for (name, field) in named.chain(others.map(|others| ("any other".to_owned(), others))) {
        if rows.len() >= MAX_ROWS {
            return;
        }
        let meaning = resolve(root, field).get("description");
        rows.push(Row {
            level,
            name: printable(&name, false).into_owned(),
            kind: cut(&type_of(root, field, 0)),
            presence: String::new(),
            meaning: meaning
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        });
    }
}

/// The fields of each of several objects that a value may be: the variants of an enum, which differ in one of them.
fn collect_variants(root: &Value, schema: &Value, side: Side, level: usize, rows: &mut Vec<Row>) {
    let has_fields = |variant: &&Value| {
        let fields = variant.get("properties").and_then(Value::as_object);
        fields.is_some_and(|fields| !fields.is_empty())
    };
    let alternatives = ["anyOf", "oneOf"]
        .into_iter()
        .flat_map(|keyword| list(schema, keyword).take(MAX_ALTERNATIVES));
    let mut variants = alternatives
        .map(|alternative| resolve(root, alternative))
        .filter(has_fields);
    if let Some(first) = variants.next() {
        collect(root, first, side, level, rows);
    }
    for variant in variants {
        if rows.len() >= MAX_ROWS {
            return;
        }
        rows.push(Row {
            level,
            name: "or".to_owned(),
            kind: String::new(),
            presence: String::new(),
            meaning: String::new(),
        });
        collect(root, variant, side, level, rows);
    }
}

/// The schema of the objects in a list, or of an object that may be null; else the schema itself.
fn inner<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    // A list of lists of … may refer to itself.
    for _ in 0..8 {
        let Some(items) = schema.get("items") else {
            break;
        };
        schema = resolve(root, items);
    }
    for keyword in ["anyOf", "oneOf"] {
        let mut objects = list(schema, keyword)
            .map(|alternative| resolve(root, alternative))
            .filter(|alternative| alternative.get("type").and_then(Value::as_str) != Some("null"));
        if let (Some(only), None) = (objects.next(), objects.next()) {
            return only;
        }
    }
    schema
}

/// Follows `$ref` to where it leads, within the same schema.
fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..8 {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|pointer| root.pointer(pointer.strip_prefix('#')?));
        match target {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// A type in words: `integer, 1 to 10`, `list of string`, `"a" | "b"`. What it is held to stands
/// behind a comma.
fn type_of(root: &Value, schema: &Value, depth: usize) -> String {
    if depth > 4 {
        return "…".into();
    }
    let schema = resolve(root, schema);
    let Value::Object(keywords) = schema else {
        return "anything".into();
    };
    if let Some(value) = keywords.get("const") {
        return value.to_string();
    }
    if keywords.contains_key("enum") {
        return join(list(schema, "enum").take(100).map(Value::to_string));
    }
    for keyword in ["anyOf", "oneOf"] {
        if keywords.contains_key(keyword) {
            let some = list(schema, keyword).take(MAX_ALTERNATIVES);
            return join(some.map(|one| type_of(root, one, depth + 1)));
        }
    }
    match keywords.get("type") {
        Some(Value::String(kind)) => simple(root, kind, keywords, depth),
        Some(Value::Array(kinds)) => join(
            kinds
                .iter()
                .filter_map(Value::as_str)
                .map(|kind| simple(root, kind, keywords, depth)),
        ),
        _ => "anything".into(),
    }
}

fn simple(root: &Value, kind: &str, keywords: &Map<String, Value>, depth: usize) -> String {
    let bound = |name: &str| number(keywords.get(name));
    match kind {
        "array" => list_of(root, keywords, depth),
        "object" => {
            let named = ["properties", "patternProperties"]
                .iter()
                .filter_map(|keyword| keywords.get(*keyword)?.as_object())
                .any(|named| !named.is_empty());
            let mut text = match keywords.get("additionalProperties") {
                Some(values @ Value::Object(_)) if !named => {
                    format!("object of {}", grouped(type_of(root, values, depth + 1)))
                }
                _ => "object".into(),
            };
            let counted = ["minProperties", "maxProperties"].map(|keyword| keywords.get(keyword));
            push(&mut text, amount(counted, "field"));
            text
        }
        "integer" | "number" => {
            let mut text = match (bound("minimum"), bound("maximum")) {
                (Some(least), Some(most)) => format!("{kind}, {least} to {most}"),
                (Some(least), None) => format!("{kind} ≥ {least}"),
                (None, Some(most)) => format!("{kind} ≤ {most}"),
                (None, None) => kind.into(),
            };
            let further = [
                ("exclusiveMinimum", "more than"),
                ("exclusiveMaximum", "less than"),
                ("multipleOf", "a multiple of"),
            ];
            for (keyword, words) in further {
                push(
                    &mut text,
                    bound(keyword).map(|bound| format!("{words} {bound}")),
                );
            }
            text
        }
        "string" => {
            let mut text = kind.to_owned();
            let counted = ["minLength", "maxLength"].map(|keyword| keywords.get(keyword));
            push(&mut text, amount(counted, "character"));
            let pattern = keywords.get("pattern").and_then(Value::as_str);
            push(
                &mut text,
                pattern.map(|pattern| format!("like {}", written(pattern))),
            );
            text
        }
        kind => printable(kind, false).into_owned(),
    }
}

/// A list in words: `list of string, at most 3 items`, or `[string, integer]` where each place has
/// a type of its own.
fn list_of(root: &Value, keywords: &Map<String, Value>, depth: usize) -> String {
    let of = |items: &Value| grouped(type_of(root, items, depth + 1));
    let places = keywords.get("prefixItems").and_then(Value::as_array);
    let items = keywords.get("items").filter(|items| !items.is_boolean());
    let mut text = match (places, items) {
        (Some(places), _) => {
            let some = places.iter().take(MAX_ALTERNATIVES).map(of);
            let mut some: Vec<String> = some.collect();
            if places.len() > MAX_ALTERNATIVES || items.is_some() {
                some.push("…".to_owned());
            }
            format!("[{}]", some.join(", "))
        }
        (None, Some(items)) => format!("list of {}", of(items)),
        (None, None) => "list".into(),
    };
    let counted = ["minItems", "maxItems"].map(|keyword| keywords.get(keyword));
    // A list with a type for each place has as many items.
    let all = places.map(|places| Value::from(places.len()));
    if all.is_none() || counted != [all.as_ref(); 2] {
        push(&mut text, amount(counted, "item"));
    }
    let once = keywords.get("uniqueItems") == Some(&Value::Bool(true));
    push(&mut text, once.then(|| "none twice".to_owned()));
    text
}

fn push(text: &mut String, detail: Option<String>) {
    if let Some(detail) = detail {
        text.push_str(", ");
        text.push_str(&detail);
    }
}

/// How many there may be: `1 to 3 items`, `at most 1 item`.
fn amount(bounds: [Option<&Value>; 2], unit: &str) -> Option<String> {
    let [least, most] = bounds.map(number);
    let units = |count: &str| match count {
        "1" => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    };
    match (least.filter(|least| least != "0"), most) {
        (Some(least), Some(most)) if least == most => Some(units(&most)),
        (Some(least), Some(most)) => Some(format!("{least} to {}", units(&most))),
        (Some(least), None) => Some(format!("at least {}", units(&least))),
        (None, Some(most)) => Some(format!("at most {}", units(&most))),
        (None, None) => None,
    }
}

/// A regular expression, or the beginning of one.
fn written(pattern: &str) -> String {
    match pattern.char_indices().nth(MAX_PATTERN) {
        Some((end, _)) => format!("/{}…/", &pattern[..end]),
        None => format!("/{pattern}/"),
    }
}

/// A type as a part of another: what it is held to is its own.
fn grouped(kind: String) -> String {
    if is_held(&kind) {
        format!("({kind})")
    } else {
        kind
    }
}

/// Whether something stands behind the type: not where a comma is one of a value's.
fn is_held(kind: &str) -> bool {
    kind.contains(", ") && !kind.starts_with(['"', '[', '{', '('])
}

/// A bound as it was meant: schemars writes that of a `u8` as `255.0` in places.
fn number(bound: Option<&Value>) -> Option<String> {
    let text = bound.filter(|bound| bound.is_number())?.to_string();
    Some(text.strip_suffix(".0").unwrap_or(&text).to_owned())
}

/// Alternatives: of values, `"a" | "b"`; of types, `string or integer`.
fn join(parts: impl Iterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for part in parts {
        if !seen.contains(&part) {
            seen.push(part);
        }
    }
    // `null` reads best at the end.
    seen.sort_by_key(|part| part == "null");
    let several = seen.iter().filter(|part| *part != "null").count() > 1;
    let mut joined = String::new();
    for part in seen {
        let part = if several { grouped(part) } else { part };
        if !joined.is_empty() {
            let values = joined.ends_with('"') && part.starts_with('"');
            let held = !several && is_held(&joined);
            joined.push_str(match (values, held) {
                (true, _) => " | ",
                (false, true) => ", or ",
                (false, false) => " or ",
            });
        }
        joined.push_str(&part);
    }
    joined
}

fn list<'a>(schema: &'a Value, keyword: &str) -> impl Iterator<Item = &'a Value> {
    schema
        .get(keyword)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn cut(text: &str) -> String {
    let text = printable(text, false);
    if text.chars().count() <= MAX_TYPE {
        return text.into_owned();
    }
    text.chars().take(MAX_TYPE - 1).chain(['…']).collect()
}

/// A text in lines of a width, each set in. Line ends in it count as spaces, empty lines stay.
pub fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for paragraph in text.trim().split("\n\n") {
        if column > 0 {
            out.push_str("\n\n");
            column = 0;
        }
        for word in paragraph.split_whitespace() {
            let word = printable(word, false);
            let length = word.chars().count();
            if column == 0 || column + 1 + length > width {
                if column > 0 {
                    out.push('\n');
                }
                out.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                out.push(' ');
                column += 1;
            }
            out.push_str(&word);
            column += length;
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests;
