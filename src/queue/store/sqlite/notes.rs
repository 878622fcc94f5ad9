//! Small things that doors keep beside the jobs.

use rusqlite::{Row as SqlRow, params};

use super::super::{NoteRow, Result};
use super::Sqlite;
use super::rows::limit;
use crate::queue::time::Micros;

pub(super) const NOTE: &str = "kind, name, value, until";

pub(super) fn note(found: &SqlRow<'_>) -> rusqlite::Result<NoteRow> {
    Ok(NoteRow {
        kind: found.get(0)?,
        name: found.get(1)?,
        value: found.get(2)?,
        until: found.get(3)?,
    })
}

impl Sqlite {
    pub(super) fn put_note_now(&self, note: &NoteRow) -> Result<()> {
        self.write_note("INSERT OR REPLACE", note).map(drop)
    }

    pub(super) fn add_note_now(&self, note: &NoteRow, now: Micros) -> Result<bool> {
        self.connection
            .prepare_cached("DELETE FROM notes WHERE kind = ?1 AND name = ?2 AND until <= ?3")?
            .execute(params![note.kind, note.name, now])?;
        Ok(self.write_note("INSERT OR IGNORE", note)? == 1)
    }

    fn write_note(&self, how: &str, note: &NoteRow) -> Result<usize> {
        let sql = format!("{how} INTO notes ({NOTE}) VALUES (?1, ?2, ?3, ?4)");
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.execute(params![note.kind, note.name, note.value, note.until])?)
    }

    pub(super) fn change_note_now(&self, note: &NoteRow, was: &str) -> Result<bool> {
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE notes SET value = ?3, until = ?4 \
                 WHERE kind = ?1 AND name = ?2 AND value = ?5",
            )?
            .execute(params![note.kind, note.name, note.value, note.until, was])?;
        Ok(changed == 1)
    }

    pub(super) fn remove_note_now(&self, note: &NoteRow) -> Result<bool> {
        let removed = self
            .connection
            .prepare_cached("DELETE FROM notes WHERE kind = ?1 AND name = ?2 AND value = ?3")?
            .execute([&note.kind, &note.name, &note.value])?;
        Ok(removed == 1)
    }

    pub(super) fn forget_notes_now(&self, now: Micros, most: usize) -> Result<()> {
        self.connection
            .prepare_cached(
                "DELETE FROM notes WHERE (kind, name) IN (SELECT kind, name FROM notes \
                 WHERE until <= ?1 ORDER BY until LIMIT ?2)",
            )?
            .execute(params![now, limit(most)])?;
        Ok(())
    }
}
