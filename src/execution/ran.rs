//! Whether anything of a guest's may have run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::event::{Event, Observer};
use crate::skill::Digest;

/// Hears what runs, and whether it has begun.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    skill: OnceLock<Digest>,
    began: AtomicBool,
}

impl Ran {
    /// What has begun to run, if anything has.
    pub fn what_began(&self) -> Option<Digest> {
        let began = self.began.load(Ordering::Acquire);
        self.skill.get().filter(|_| began).copied()
    }
}

impl Observer for Ran {
    fn observe(&self, _: Uuid, event: &Event<'_>) {
        match event {
            // It is told once.
            Event::Admitted { skill, .. } => drop(self.skill.set(skill.digest)),
            Event::Started => self.began.store(true, Ordering::Release),
            _ => {}
        }
    }
}
