//! Keeps notes from one run to the next.

use skills_sdk::prelude::*;
use skills_sdk::{Storage, StorageError};

/// The longest note, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Where the number of the last note is.
const LAST: &str = "last-number";
/// What the key of a note begins with.
const NOTE: &str = "note/";
/// Notes that are read at once.
const AT_ONCE: usize = 32;

/// A note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// Its number, by which it is changed and removed.
    pub number: i64,
    /// What it says.
    pub text: String,
    /// What it is about.
    pub tags: Vec<String>,
}

/// Keeps a note.
#[tool(title = "Add a note", destructive = false, open_world = false)]
pub fn add(
    /// What to remember.
    text: String,
    /// What it is about, to find it by.
    #[tool(default)]
    tags: Vec<String>,
    ctx: &Context,
) -> Result<Note, Failure> {
    check(&text)?;
    let storage = ctx.storage();
    let note = Note {
        number: storage.increment(LAST, 1)?,
        text,
        tags: tidy(tags),
    };
    storage.set_json(&key(note.number), &note)?;
    Ok(note)
}

/// Finds notes, the newest first.
#[tool(title = "Find notes", read_only, idempotent, open_world = false)]
pub fn find(
    /// Words that a note must have, in any case and order.
    #[tool(default)]
    words: String,
    /// A tag that a note must have.
    tag: Option<String>,
    /// How many to give at most.
    #[tool(default = 20)]
    most: usize,
    ctx: &Context,
) -> Result<Vec<Note>, Failure> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let tag = tag.map(|tag| tag.trim().to_lowercase());
    let storage = ctx.storage();
    let mut keys = storage.keys()?;
    keys.retain(|key| key.starts_with(NOTE));
    keys.reverse();
    let mut found = Vec::new();
    for keys in keys.chunks(AT_ONCE) {
        for note in read(&storage, keys)? {
            let text = note.text.to_lowercase();
            let fits = words.iter().all(|word| text.contains(word))
                && tag.as_ref().is_none_or(|tag| note.tags.contains(tag));
            if fits && found.len() < most {
                found.push(note);
            }
        }
        if found.len() >= most {
            break;
        }
    }
    Ok(found)
}

/// Gives a note another text, other tags, or both.
#[tool(title = "Change a note", idempotent, open_world = false)]
pub fn change(
    /// The note's number.
    number: i64,
    /// The new text.
    text: Option<String>,
    /// The new tags.
    tags: Option<Vec<String>>,
    ctx: &Context,
) -> Result<Note, Failure> {
    let storage = ctx.storage();
    let Some(mut note) = storage.get_json::<Note>(&key(number))? else {
        return Err(unknown());
    };
    if let Some(text) = text {
        check(&text)?;
        note.text = text;
    }
    if let Some(tags) = tags {
        note.tags = tidy(tags);
    }
    storage.set_json(&key(number), &note)?;
    Ok(note)
}

/// Forgets a note.
#[tool(title = "Remove a note", destructive, idempotent, open_world = false)]
pub fn remove(
    /// The note's number.
    number: i64,
    ctx: &Context,
) -> Result<Note, Failure> {
    let storage = ctx.storage();
    let Some(note) = storage.get_json(&key(number))? else {
        return Err(unknown());
    };
    storage.delete(&key(number))?;
    Ok(note)
}

fn read(storage: &Storage<'_>, keys: &[String]) -> Result<Vec<Note>, StorageError> {
    let values = storage.get_many(keys)?;
    keys.iter()
        .zip(values)
        .filter_map(|(key, value)| {
            let read = skills_sdk::serde_json::from_slice(&value?);
            Some(read.map_err(|error| StorageError::Value {
                key: key.clone(),
                reason: error.to_string(),
            }))
        })
        .collect()
}

/// In the order of the numbers also as text.
fn key(number: i64) -> String {
    format!("{NOTE}{number:020}")
}

fn tidy(mut tags: Vec<String>) -> Vec<String> {
    for tag in &mut tags {
        *tag = tag.trim().to_lowercase();
    }
    tags.retain(|tag| !tag.is_empty());
    tags.sort();
    tags.dedup();
    tags
}

fn check(text: &str) -> Result<(), Failure> {
    if text.trim().is_empty() || text.len() > MAX_BYTES {
        return Err(Failure::invalid_input(
            "/text",
            format_args!("a note has a text, of {MAX_BYTES} bytes at most"),
        ));
    }
    Ok(())
}

fn unknown() -> Failure {
    Failure::invalid_input("/number", "there is no note of this number")
}

skills_sdk::skill! { tools: [add, find, change, remove] }
