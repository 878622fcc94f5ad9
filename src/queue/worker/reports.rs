//! What is known of attempts while they run, until somebody writes it down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::engine::lease::Report;
use crate::Limits;
use crate::execution::SkillIdentity;

/// Which attempt at which job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    pub seq: i64,
    pub fence: i64,
    pub worker: Uuid,
}

/// What runs.
#[derive(Debug)]
pub(super) struct Admitted {
    pub skill: SkillIdentity,
    pub tool: String,
    pub limits: Limits,
    /// As JSON, without values.
    pub grants: Option<Value>,
}

/// The last word of each running job that was not written down yet, by job. Of most there is none: they
/// have ended before.
#[derive(Clone, Default)]
pub(super) struct Reports(Arc<Mutex<HashMap<i64, News>>>);

struct News {
    whose: Whose,
    progress: Option<Value>,
    admitted: Option<Admitted>,
}

impl Reports {
    /// How far one has come.
    pub fn progress(&self, whose: Whose, progress: Value) {
        self.of(whose, |news| news.progress = Some(progress));
    }

    /// What runs.
    pub fn admitted(&self, whose: Whose, admitted: Admitted) {
        self.of(whose, |news| news.admitted = Some(admitted));
    }

    /// It has ended: its record says all.
    pub fn ended(&self, seq: i64, fence: i64) {
        let mut all = self.all();
        if all.get(&seq).is_some_and(|news| news.whose.fence == fence) {
            all.remove(&seq);
        }
    }

    /// Takes all that is to be written down.
    pub fn take(&self) -> Vec<Report> {
        let taken = std::mem::take(&mut *self.all());
        taken.into_values().map(News::report).collect()
    }

    fn of(&self, whose: Whose, change: impl FnOnce(&mut News)) {
        let fresh = News {
            whose,
            progress: None,
            admitted: None,
        };
        let mut all = self.all();
        let news = match all.entry(whose.seq) {
            std::collections::hash_map::Entry::Vacant(place) => place.insert(fresh),
            std::collections::hash_map::Entry::Occupied(place) => {
                let news = place.into_mut();
                // One that was thought dead may still speak, while another attempt runs here.
                match news.whose.fence.cmp(&whose.fence) {
                    std::cmp::Ordering::Less => *news = fresh,
                    std::cmp::Ordering::Equal => {}
                    std::cmp::Ordering::Greater => return,
                }
                news
            }
        };
        change(news);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<i64, News>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl News {
    fn report(self) -> Report {
        let Whose { seq, fence, worker } = self.whose;
        Report {
            seq,
            fence,
            worker,
            progress: self.progress.map(|progress| progress.to_string()),
            admitted: self.admitted.map(|admitted| admitted.details().to_string()),
        }
    }
}

impl Admitted {
    /// As the record of an attempt has it.
    fn details(&self) -> Value {
        let mut details = json!({"skill": self.skill, "tool": self.tool, "limits": self.limits});
        if let Some(grants) = &self.grants {
            details["grants"] = grants.clone();
        }
        details
    }
}
