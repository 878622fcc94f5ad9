//! Small things that doors keep beside the jobs.

use tokio_postgres::Row as SqlRow;

use super::super::{NoteRow, Result};
use super::rows::limit;
use super::transaction::{Value, Writing};
use crate::queue::time::Micros;

pub(super) const NOTE: &str = "kind, name, value, until";

pub(super) fn note(found: &SqlRow) -> Result<NoteRow> {
    Ok(NoteRow {
        kind: found.try_get(0)?,
        name: found.try_get(1)?,
        value: found.try_get(2)?,
        until: found.try_get(3)?,
    })
}

impl Writing<'_> {
    pub(super) async fn put_note_now(&mut self, note: &NoteRow) -> Result<()> {
        let with: Vec<Value> = vec![
            Box::new(note.kind.clone()),
            Box::new(note.name.clone()),
            Box::new(note.value.clone()),
            Box::new(note.until),
        ];
        self.send(
            "INSERT INTO notes (kind, name, value, until) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value, \
             until = excluded.until",
            with,
        )
        .await
    }

    pub(super) async fn add_note_now(&mut self, note: &NoteRow, now: Micros) -> Result<bool> {
        self.wrote = true;
        self.query(
            "DELETE FROM notes WHERE kind = $1 AND name = $2 AND until <= $3",
            &[&note.kind, &note.name, &now],
        )
        .await?;
        let added = self
            .query(
                "INSERT INTO notes (kind, name, value, until) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (kind, name) DO NOTHING RETURNING 1",
                &[&note.kind, &note.name, &note.value, &note.until],
            )
            .await?;
        Ok(!added.is_empty())
    }

    pub(super) async fn change_note_now(&mut self, note: &NoteRow, was: &str) -> Result<bool> {
        self.wrote = true;
        let changed = self
            .query(
                "UPDATE notes SET value = $3, until = $4 \
                 WHERE kind = $1 AND name = $2 AND value = $5 RETURNING 1",
                &[&note.kind, &note.name, &note.value, &note.until, &was],
            )
            .await?;
        Ok(!changed.is_empty())
    }

    pub(super) async fn remove_note_now(&mut self, note: &NoteRow) -> Result<bool> {
        self.wrote = true;
        let removed = self
            .query(
                "DELETE FROM notes WHERE kind = $1 AND name = $2 AND value = $3 RETURNING 1",
                &[&note.kind, &note.name, &note.value],
            )
            .await?;
        Ok(!removed.is_empty())
    }

    pub(super) async fn forget_notes_now(&mut self, now: Micros, most: usize) -> Result<()> {
        let with: Vec<Value> = vec![Box::new(now), Box::new(limit(most))];
        self.send(
            "DELETE FROM notes WHERE (kind, name) IN (SELECT kind, name FROM notes \
             WHERE until <= $1 ORDER BY until LIMIT $2)",
            with,
        )
        .await
    }
}
