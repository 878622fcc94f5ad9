//! Full-text search over the tools that are offered, in memory.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rusqlite::{Connection, params};

use super::catalog::Catalog;
use crate::skill::SkillFiles;

/// How much of a `SKILL.md` is searched, in bytes, over all tools of its skill: each is found by as much of its beginning
/// as falls to it.
const MAX_DOCUMENT: usize = 64 << 10;
/// The most words of a query that are looked for.
const MAX_WORDS: usize = 32;

/// An index of the tools of one catalog.
#[derive(Default)]
pub(super) struct Index {
    made: Mutex<Option<(Weak<Catalog>, Connection)>>,
}

impl Index {
    /// Where the tools stand in the catalog that fit a query, the best first.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn search(
        &self,
        catalog: &Arc<Catalog>,
        query: &str,
        limit: u64,
    ) -> rusqlite::Result<Vec<usize>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let current = made
            .as_ref()
            .is_some_and(|(of, _)| of.ptr_eq(&Arc::downgrade(catalog)));
        if !current {
            *made = Some((Arc::downgrade(catalog), index(catalog)?));
        }
        let Some((_, connection)) = &*made else {
            return Ok(Vec::new());
        };
        let Some(query) = any_of(query) else {
            return Ok(Vec::new());
        };
        // Names weigh most, then what a tool says of itself, then what its skill does.
        let mut select = connection.prepare_cached(
            "SELECT rowid FROM tools WHERE tools MATCH ?1
             ORDER BY bm25(tools, 8.0, 4.0, 2.0, 1.0), rowid LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = select.query_map(params![query, limit], |row| row.get::<_, i64>(0))?;
        found
            .map(|index| index.map(|index| usize::try_from(index).unwrap_or(usize::MAX)))
            .collect()
    }
}

fn index(catalog: &Catalog) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    connection.execute_batch(
        "CREATE VIRTUAL TABLE tools USING fts5(
             name, description, skill, document, content='', tokenize='porter unicode61')",
    )?;
    let insert = connection.transaction()?;
    {
        let mut row = insert.prepare(
            "INSERT INTO tools (rowid, name, description, skill, document)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (index, entry) in catalog.tools.iter().enumerate() {
            let all = entry.skill.description.tools.len().max(1);
            let (tool, skill) = (entry.tool(), &entry.skill);
            let name = format!(
                "{} {} {}",
                skill.identity.name,
                tool.name.replace('_', " "),
                tool.title.as_deref().unwrap_or_default()
            );
            let document = document(skill.folder.as_deref(), MAX_DOCUMENT / all);
            row.execute(params![
                i64::try_from(index).unwrap_or(i64::MAX),
                name,
                tool.description,
                skill.description.description,
                document,
            ])?;
        }
    }
    insert.commit()?;
    Ok(connection)
}

fn document(folder: Option<&std::path::Path>, most: usize) -> String {
    let read = folder.and_then(|folder| SkillFiles::open(folder).ok()?.read("SKILL.md").ok());
    let mut bytes = read.unwrap_or_default();
    bytes.truncate(most);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A query for any of these words, each as the beginning of one. Nothing in it is an operator.
fn any_of(text: &str) -> Option<String> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(MAX_WORDS)
        .map(|word| format!("\"{word}\"*"))
        .collect();
    (!words.is_empty()).then(|| words.join(" OR "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_words_and_nothing_else() {
        assert_eq!(any_of("CSV rows").unwrap(), "\"CSV\"* OR \"rows\"*");
        assert_eq!(
            any_of("\" OR name:x NEAR(a) *").unwrap(),
            "\"OR\"* OR \"name\"* OR \"x\"* OR \"NEAR\"* OR \"a\"*"
        );
        assert!(any_of("-- ';").is_none());
    }
}
