//! Whether anything of a guest's may have run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::event::{Event, Observer};
use crate::skill::{Digest, SkillRef};

/// Hears what runs, and whether it has begun.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    skill: OnceLock<Digest>,
    began: AtomicBool,
}

impl Ran {
    /// What has begun to run, if anything has: what was asked for, where that was not said.
    pub fn what_began(&self, asked: &SkillRef) -> Option<SkillRef> {
        let began = self.began.load(Ordering::Acquire);
        let digest = self.skill.get().copied();
        began.then(|| digest.map_or_else(|| asked.clone(), SkillRef::from))
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
