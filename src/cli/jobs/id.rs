//! The ids of jobs, as people write them.
//!
//! Ids begin with the time, so those of one minute begin alike: it is the end that tells them apart.

use skillhost::queue::{Filter, Queue};
use skillhost::text::printable;
use uuid::Uuid;

use crate::cli::complaint::Complaint;
use crate::cli::explain;

/// How much of an id is shown.
const SHOWN: usize = 8;
/// How much of one must be typed.
const LEAST: usize = 4;
/// Among how many jobs the end of an id is looked for.
const AMONG: usize = 10_000;
/// How many are looked at at a time.
const PAGE: usize = 1_000;

/// The end of an id, which stands for it in lists.
pub fn short(id: &Uuid) -> String {
    let text = id.to_string();
    text[text.len() - SHOWN..].to_owned()
}

/// The ids that were meant.
///
/// # Errors
/// Where a text is none, or the end of none or of several.
pub async fn resolve(queue: &Queue, typed: &[String]) -> anyhow::Result<Vec<Uuid>> {
    let mut ids = Vec::with_capacity(typed.len());
    for text in typed {
        ids.push(match text.parse() {
            Ok(id) => id,
            Err(_) => by_end(queue, text).await?,
        });
    }
    Ok(ids)
}

/// The one id that was meant.
///
/// # Errors
/// As [`resolve`].
pub async fn resolve_one(queue: &Queue, typed: &str) -> anyhow::Result<Uuid> {
    match typed.parse() {
        Ok(id) => Ok(id),
        Err(_) => by_end(queue, typed).await,
    }
}

async fn by_end(queue: &Queue, text: &str) -> anyhow::Result<Uuid> {
    let shown = printable(text, false);
    let end = text.to_ascii_lowercase();
    let hexadecimal = end
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if end.len() < LEAST || !hexadecimal {
        let complaint = Complaint::usage(format!("`{shown}` is no job's id, nor the end of one"));
        return Err(complaint
            .hint(format!(
                "write the id, or its last {LEAST} to {SHOWN} characters as in `skillhost jobs list`"
            ))
            .into());
    }
    let mut found = Vec::new();
    let mut filter = Filter {
        limit: Some(PAGE),
        ..Filter::default()
    };
    for _ in 0..AMONG / PAGE {
        let page = queue.ids(&filter).await.map_err(explain::queue)?;
        found.extend(page.items.into_iter().filter(|id| {
            let id = id.to_string();
            id.ends_with(&end)
        }));
        filter.cursor = page.next;
        if page.next.is_none() {
            break;
        }
    }
    match found.as_slice() {
        [id] => Ok(*id),
        [] => {
            let message = format!("no job's id ends with `{shown}`");
            Err(Complaint::usage(message)
                .hint(format!(
                    "`skillhost jobs list` shows which there are; of jobs before the last {AMONG}, \
                     write the whole id"
                ))
                .into())
        }
        several => {
            let complaint = Complaint::usage(format!("several jobs' ids end with `{shown}`"));
            let complaint = several
                .iter()
                .take(5)
                .fold(complaint, |complaint, id| complaint.detail(id.to_string()));
            Err(complaint.hint("write more of it").into())
        }
    }
}
