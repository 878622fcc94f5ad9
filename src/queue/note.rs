//! Small things that doors keep beside the jobs: who may come in, and what was answered before.
//! Whoever shares the database shares them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::QueueError;
use super::handle::Queue;
use super::store::NoteRow;
use super::time::{micros, moment};

type Result<T> = std::result::Result<T, QueueError>;

/// How many that may be forgotten are removed whenever one is added.
const FORGET: usize = 16;

/// A small thing with a name, kept beside the jobs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Note<T> {
    /// Its name, unique among those of its kind.
    pub name: String,
    /// What it says.
    pub value: T,
    /// When it may be forgotten; `None`: never.
    pub until: Option<DateTime<Utc>>,
}

impl<T: Serialize> Note<T> {
    fn row(&self, kind: &str) -> Result<Arc<NoteRow>> {
        Ok(Arc::new(NoteRow {
            kind: kind.to_owned(),
            name: self.name.clone(),
            value: text(&self.value)?,
            until: self.until.map(micros),
        }))
    }
}

impl Queue {
    /// Every note of a kind, by name, those that may be forgotten being left out.
    pub(crate) async fn notes<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<Note<T>>> {
        let rows = self.reads().notes(kind, None).await?;
        let now = micros(self.now());
        rows.into_iter()
            .filter(|row| row.until.is_none_or(|until| until > now))
            .map(read)
            .collect()
    }

    /// The note of a name.
    pub(crate) async fn note<T: DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
    ) -> Result<Option<Note<T>>> {
        let rows = self.reads().notes(kind, Some(name)).await?;
        let now = micros(self.now());
        rows.into_iter()
            .find(|row| row.until.is_none_or(|until| until > now))
            .map(read)
            .transpose()
    }

    /// Keeps a note in the place of the one of its name.
    pub(crate) async fn put_note<T: Serialize>(&self, kind: &str, note: &Note<T>) -> Result<()> {
        let row = note.row(kind)?;
        self.write(move |rows, _| {
            let row = row.clone();
            Box::pin(async move { rows.put_note(&row).await })
        })
        .await
    }

    /// Keeps a note unless there is one of its name that may not be forgotten yet; whether it did.
    pub(crate) async fn add_note<T: Serialize>(&self, kind: &str, note: &Note<T>) -> Result<bool> {
        let row = note.row(kind)?;
        self.write(move |rows, now| {
            let row = row.clone();
            Box::pin(async move {
                rows.forget_notes(now, FORGET).await?;
                rows.add_note(&row, now).await
            })
        })
        .await
    }

    /// Keeps a note in the place of the one of its name that says what `was` says; whether there was
    /// one. Where there was none, somebody else has changed or removed it.
    pub(crate) async fn change_note<T: Serialize>(
        &self,
        kind: &str,
        note: &Note<T>,
        was: &T,
    ) -> Result<bool> {
        let (row, was) = (note.row(kind)?, Arc::new(text(was)?));
        self.write(move |rows, _| {
            let (row, was) = (row.clone(), was.clone());
            Box::pin(async move { rows.change_note(&row, &was).await })
        })
        .await
    }

    /// Removes a note that says just this; whether there was one.
    pub(crate) async fn remove_note<T: Serialize>(
        &self,
        kind: &str,
        note: &Note<T>,
    ) -> Result<bool> {
        let row = note.row(kind)?;
        self.write(move |rows, _| {
            let row = row.clone();
            Box::pin(async move { rows.remove_note(&row).await })
        })
        .await
    }
}

fn text<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| QueueError::Internal(error.to_string()))
}

fn read<T: DeserializeOwned>(row: NoteRow) -> Result<Note<T>> {
    Ok(Note {
        value: serde_json::from_str(&row.value).map_err(|error| {
            QueueError::Damaged(format!("the {} `{}`: {error}", row.kind, row.name))
        })?,
        name: row.name,
        until: row.until.map(moment),
    })
}
