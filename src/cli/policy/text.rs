//! The text of the policy file, changed with its comments and its order kept.
//!
//! What differs between two parsed policies is carried over to the text, and the text must parse to
//! what was meant.

mod comments;
mod inline;

use serde_json::{Map, Value as Json};
use skillhost::Policy;
use skillhost::grant::{DirectoryGrant, Grants};
use skillhost::policy::{Confirmation, SkillPolicy};
use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, Table, Value};

use crate::cli::complaint::Complaint;
use crate::cli::exit::Exit;

/// What a file says in which nothing is left: whoever goes by it already takes nothing from one that is empty.
const NOTHING: &str = "# Nothing is granted. Running processes go by this line; an empty file would change nothing for them.\n";

/// How lines end that were written on another system.
const CRLF: &str = "\r\n";

/// The text of one policy as that of another. Lines end as they did, where no value would be another by that. It is never
/// empty.
///
/// # Errors
/// Where the text is written in a way that cannot be changed here.
pub fn edited(text: &str, before: &Policy, after: &Policy) -> anyhow::Result<String> {
    let ends = match text.matches('\n').count() {
        0 => "\n",
        lines if lines == text.matches(CRLF).count() => CRLF,
        _ => "\n",
    };
    let lines = text.replace(CRLF, "\n");
    // Values of several lines have the ends that they are written with.
    let is = |text: &str, policy: &Policy| text.parse::<Policy>().is_ok_and(|read| read == *policy);
    if !is(&lines, before) {
        return edited_lines(text, before, after);
    }
    let edited = edited_lines(&lines, before, after)?;
    let ended = edited.replace('\n', ends);
    Ok(if is(&ended, after) { ended } else { edited })
}

/// The same, of a text whose lines end as they should afterwards.
fn edited_lines(text: &str, before: &Policy, after: &Policy) -> anyhow::Result<String> {
    // Of a file in which something is granted again, the line is not true.
    let text = if text == NOTHING { "" } else { text };
    let mut document: DocumentMut = text.parse()?;
    let by_hand = || {
        Complaint::new(
            Exit::Host,
            "the policy is written in a way that this command cannot change",
        )
        .hint("change it by hand; `skillhost policy check` then checks it")
    };
    // What stands behind everything else is no part of any table, and what is added would come before it.
    let behind = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing("");
    let ahead = document.to_string();
    let kept = kept(document.as_table(), before, after);
    apply(document.as_item_mut(), before, after).ok_or_else(by_hand)?;
    let last = comments::put_back(document.as_table_mut(), kept);
    let mut text = joined(&ahead, &behind, &format!("{document}{last}"));
    if !ahead.starts_with('\n') {
        text = text.trim_start_matches('\n').to_owned();
    }
    if text.trim().is_empty() {
        // What the file begins with may be about all of it, once there is nothing else that it could be about.
        text = match comments::head(&ahead) {
            "" => NOTHING.to_owned(),
            head => head.to_owned(),
        };
    }
    match text.parse::<Policy>() {
        Ok(policy) if policy == *after => Ok(text),
        _ => Err(by_hand().into()),
    }
}

/// A text that was changed, with what stood behind it. What was only added to its end comes after that.
fn joined(ahead: &str, behind: &str, changed: &str) -> String {
    match changed.strip_prefix(ahead) {
        Some(added) if !added.is_empty() && behind.contains('#') => {
            let mut text = format!("{ahead}{behind}");
            if !text.ends_with('\n') {
                text.push('\n');
            }
            if added.starts_with('[') && !text.ends_with("\n\n") {
                text.push('\n');
            }
            text + added
        }
        // One empty line is enough between two comments.
        _ if changed.ends_with("\n\n") => changed.to_owned() + behind.trim_start_matches('\n'),
        _ => format!("{changed}{behind}"),
    }
}

/// The comments that stand before what is taken out, and are about something else.
fn kept(root: &Table, before: &Policy, after: &Policy) -> Vec<comments::Kept> {
    let Some(skills) = root.get("skills").and_then(Item::as_table_like) else {
        return Vec::new();
    };
    let gone = before
        .skills
        .keys()
        .filter(|name| !after.skills.contains_key(*name))
        .filter_map(|name| skills.get(name));
    gone.flat_map(comments::of_others).collect()
}

fn apply(root: &mut Item, before: &Policy, after: &Policy) -> Option<()> {
    let skills = child(root, "skills")?;
    for name in before.skills.keys() {
        if !after.skills.contains_key(name) {
            skills.as_table_like_mut()?.remove(name);
        }
    }
    let none = SkillPolicy::default();
    for (name, new) in &after.skills {
        let old = before.skills.get(name).unwrap_or(&none);
        if old == new {
            continue;
        }
        let skill = child(skills, name)?;
        if old.grants != new.grants {
            set_grants(child(skill, "grants")?, &old.grants, &new.grants)?;
            remove_empty(skill, "grants");
        }
        if old.confirmed != new.confirmed {
            set_confirmed(skill, &old.confirmed, &new.confirmed)?;
        }
        inline::tidy(skill);
    }
    Some(())
}

/// Takes out a table in which nothing is left, unless a comment stands before it.
fn remove_empty(parent: &mut Item, key: &str) {
    let Some(table) = parent.as_table_like_mut() else {
        return;
    };
    let has_comment = |decor: &Decor| {
        let prefix = decor.prefix().and_then(|prefix| prefix.as_str());
        prefix.is_some_and(|prefix| prefix.contains('#'))
    };
    let is_empty = match table.get(key) {
        Some(Item::Table(inner)) => inner.is_empty() && !has_comment(inner.decor()),
        Some(Item::Value(Value::InlineTable(inner))) => inner.is_empty(),
        _ => false,
    };
    if is_empty {
        table.remove(key);
    }
}

/// The table under a key, made where there is none.
fn child<'a>(parent: &'a mut Item, key: &str) -> Option<&'a mut Item> {
    let inline = parent.is_value();
    let table = parent.as_table_like_mut()?;
    if !table.contains_key(key) {
        let new = if inline {
            Item::Value(InlineTable::new().into())
        } else {
            let mut new = Table::new();
            new.set_implicit(true);
            Item::Table(new)
        };
        table.insert(key, new);
    }
    table.get_mut(key)
}

/// The fields of grants, by their keys. What is empty is not there.
pub fn fields(grants: &Grants) -> Map<String, Json> {
    match serde_json::to_value(grants) {
        Ok(Json::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// What a grant in a list is for: a directory's guest path, or the text itself.
pub fn subject(grant: &Json) -> String {
    match grant {
        Json::String(text) => text.clone(),
        other => match other.get("guest") {
            Some(Json::String(guest)) => guest.clone(),
            _ => other.to_string(),
        },
    }
}

fn set_grants(grants: &mut Item, old: &Grants, new: &Grants) -> Option<()> {
    let (old, new) = (fields(old), fields(new));
    let grants = grants.as_table_like_mut()?;
    for field in old.keys() {
        if !new.contains_key(field) {
            grants.remove(field);
        }
    }
    for (field, value) in &new {
        let before = old.get(field);
        if before == Some(value) {
            continue;
        }
        match (grants.get_mut(field), value) {
            (Some(item), Json::Array(wanted)) => {
                let present = before.and_then(Json::as_array)?;
                set_list(item, present, wanted, grant_value)?;
            }
            (Some(item), Json::Object(wanted)) => set_pairs(item, wanted)?,
            (Some(Item::Value(item)), scalar) => replace(item, plain(scalar)?),
            (Some(_), _) => return None,
            (None, Json::Array(list)) => {
                let list: Option<Array> = list.iter().map(grant_value).collect();
                grants.insert(field, Item::Value(list?.into()));
            }
            (None, other) => {
                grants.insert(field, Item::Value(plain(other)?));
            }
        }
    }
    Some(())
}

/// Makes a list, in either of the forms that TOML has, hold what is wanted. What is in it stands in
/// the order of `present`.
fn set_list(
    item: &mut Item,
    present: &[Json],
    wanted: &[Json],
    value: impl Fn(&Json) -> Option<Value>,
) -> Option<()> {
    let gone = (0..present.len())
        .rev()
        .filter(|index| !wanted.contains(&present[*index]));
    let mut added: Vec<&Json> = wanted.iter().filter(|one| !present.contains(one)).collect();
    match item {
        Item::Value(Value::Array(list)) if list.len() == present.len() => {
            for index in gone {
                // One for the same guest path stays in its place.
                let same = |one: &&Json| subject(one) == subject(&present[index]);
                match added.iter().position(same) {
                    Some(at) => replace(list.get_mut(index)?, value(added.remove(at))?),
                    None => remove(list, index),
                }
            }
            for one in added {
                push(list, value(one)?);
            }
        }
        Item::ArrayOfTables(list) if list.len() == present.len() => {
            for index in gone {
                let same = |one: &&Json| subject(one) == subject(&present[index]);
                match added.iter().position(same) {
                    Some(at) => {
                        let fields = table(added.remove(at))?;
                        let place = list.get_mut(index)?;
                        for (key, new) in fields {
                            match (place.get_mut(&key), new) {
                                (Some(Item::Value(old)), Item::Value(new)) => replace(old, new),
                                (_, new) => {
                                    place.insert(&key, new);
                                }
                            }
                        }
                    }
                    None => {
                        list.remove(index);
                    }
                }
            }
            for one in added {
                list.push(table(one)?);
            }
        }
        _ => return None,
    }
    Some(())
}

/// Removes a value with what is said of it behind it, which TOML's parser gives to what follows.
fn remove(list: &mut Array, index: usize) {
    let about_previous = prefix(list, index);
    let (about_previous, _) = split_comment(&about_previous);
    let follows = prefix(list, index + 1);
    let (_, rest) = split_comment(&follows);
    let merged = if index == 0 && !rest.contains('\n') {
        prefix(list, 0)
    } else {
        format!("{about_previous}{rest}")
    };
    list.remove(index);
    if let Some(next) = list.get_mut(index) {
        next.decor_mut().set_prefix(merged);
    } else if rest.contains('\n') && !list.is_empty() {
        list.set_trailing(merged);
    } else {
        list.set_trailing("");
    }
}

/// What stands before a value, or behind the last.
fn prefix(list: &Array, index: usize) -> String {
    let raw = match list.get(index) {
        Some(value) => value.decor().prefix(),
        None => Some(list.trailing()),
    };
    let text = raw.and_then(|raw| raw.as_str()).map(str::to_owned);
    text.unwrap_or_else(|| match index {
        0 => String::new(),
        _ if index < list.len() => " ".to_owned(),
        _ => String::new(),
    })
}

/// A comment on the line of what stands before, and the rest.
fn split_comment(prefix: &str) -> (&str, &str) {
    match prefix.find('\n') {
        Some(end) if prefix[..end].contains('#') => prefix.split_at(end),
        _ => ("", prefix),
    }
}

/// Adds a value on a line of its own where the others stand on lines of their own. Comments behind the
/// last of them stay there.
fn push(list: &mut Array, value: Value) {
    let line = list
        .iter()
        .last()
        .and_then(|last| last.decor().prefix()?.as_str())
        .and_then(|prefix| prefix.rfind('\n').map(|at| prefix[at..].to_owned()));
    let Some(line) = line else {
        list.push(value);
        return;
    };
    // They stand before the comma, where there is none behind the last value, or else behind it.
    let mut between = String::new();
    if let Some(last) = list
        .len()
        .checked_sub(1)
        .and_then(|last| list.get_mut(last))
    {
        let suffix = last.decor().suffix().and_then(|raw| raw.as_str());
        between.push_str(suffix.unwrap_or_default());
        last.decor_mut().set_suffix("");
    }
    between.push_str(list.trailing().as_str().unwrap_or_default());
    let comments = match between.rfind('#') {
        Some(_) => between.trim_end(),
        None => "",
    };
    list.push_formatted(value.decorated(format!("{comments}{line}"), ""));
    let end = between.rfind('\n').map_or("\n", |at| &between[at..]);
    list.set_trailing(end);
}

/// Names with values, in a table or as a list of texts.
fn set_pairs(item: &mut Item, wanted: &Map<String, Json>) -> Option<()> {
    if let Item::Value(Value::Array(list)) = item {
        let mut missing = wanted.clone();
        for index in (0..list.len()).rev() {
            let place = list.get_mut(index)?;
            let (name, value) = place.as_str()?.split_once('=')?;
            match missing.remove(name) {
                Some(wanted) if wanted.as_str() == Some(value) => {}
                Some(wanted) => {
                    let pair = format!("{name}={}", wanted.as_str()?);
                    replace(place, pair.into());
                }
                None => remove(list, index),
            }
        }
        for (name, value) in missing {
            push(list, format!("{name}={}", value.as_str()?).into());
        }
        return Some(());
    }
    let table = item.as_table_like_mut()?;
    let present: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    for name in present {
        if !wanted.contains_key(&name) {
            table.remove(&name);
        }
    }
    let mut missing = Vec::new();
    for (name, value) in wanted {
        let text = value.as_str()?;
        match table.get_mut(name) {
            Some(Item::Value(value)) if said(value).as_deref() == Some(text) => {}
            Some(Item::Value(value)) => replace(value, text.into()),
            Some(_) => return None,
            None => missing.push((name, text)),
        }
    }
    for (name, text) in missing {
        add_pair(item, name, text.into());
    }
    Some(())
}

/// Adds a name with its value, behind the others.
fn add_pair(item: &mut Item, name: &str, mut value: Value) {
    if let Some(inline) = item.as_inline_table_mut() {
        // What stands before the brace is with the last of them.
        let end = inline.iter_mut().last().map(|(_, last)| {
            let end = last.decor().suffix().and_then(|raw| raw.as_str());
            let end = end.unwrap_or_default().to_owned();
            last.decor_mut().set_suffix("");
            end
        });
        let decor = value.decor_mut();
        decor.set_prefix(" ");
        decor.set_suffix(end.unwrap_or_else(|| " ".to_owned()));
        inline.insert(name, value);
    } else if let Some(table) = item.as_table_like_mut() {
        table.insert(name, Item::Value(value));
    }
}

/// A scalar, as the text that the guest reads.
fn said(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        Value::Boolean(truth) => Some(truth.value().to_string()),
        _ => None,
    }
}

/// Puts another value where one stands, and leaves the comments around it.
fn replace(place: &mut Value, mut value: Value) {
    *value.decor_mut() = place.decor().clone();
    *place = value;
}

fn set_confirmed(skill: &mut Item, old: &[Confirmation], new: &[Confirmation]) -> Option<()> {
    let json = |list: &[Confirmation]| -> Option<Vec<Json>> {
        list.iter()
            .map(|one| serde_json::to_value(one).ok())
            .collect()
    };
    let (old, new) = (json(old)?, json(new)?);
    let inline = skill.is_value();
    let skill = skill.as_table_like_mut()?;
    if new.is_empty() {
        skill.remove("confirmed");
        return Some(());
    }
    if !skill.contains_key("confirmed") {
        let empty = if inline {
            Item::Value(Array::new().into())
        } else {
            Item::ArrayOfTables(toml_edit::ArrayOfTables::new())
        };
        skill.insert("confirmed", empty);
    }
    set_list(skill.get_mut("confirmed")?, &old, &new, plain)
}

/// A grant in a list: a text where there is a text form.
fn grant_value(grant: &Json) -> Option<Value> {
    // A text is one of another kind, which may well read as a directory, too.
    if grant.is_object()
        && let Ok(directory) = serde_json::from_value::<DirectoryGrant>(grant.clone())
    {
        let text = directory.to_string();
        if text.parse() == Ok(directory) {
            return Some(text.into());
        }
    }
    plain(grant)
}

/// JSON as TOML, on one line.
fn plain(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(truth) => (*truth).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None if number.is_f64() => number.as_f64()?.into(),
            None => return None,
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(list) => {
            let list: Option<Array> = list.iter().map(plain).collect();
            list?.into()
        }
        Json::Object(fields) => {
            let mut table = InlineTable::new();
            for (key, value) in fields {
                table.insert(key, plain(value)?);
            }
            table.into()
        }
    })
}

/// A JSON object as a table of its own.
fn table(json: &Json) -> Option<Table> {
    let mut table = Table::new();
    for (key, value) in json.as_object()? {
        match value {
            // One level more, so that no line grows long.
            Json::Object(fields) => {
                let mut inner = Table::new();
                for (key, value) in fields {
                    inner.insert(key, Item::Value(plain(value)?));
                }
                table.insert(key, Item::Table(inner));
            }
            value => {
                table.insert(key, Item::Value(plain(value)?));
            }
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests;
