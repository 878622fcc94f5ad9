//! The turns that guests of a skill have had and that were others'.
//!
//! A guest that has kept its thread for many slices lets others have as many turns before its next one. One that has come
//! to its end has no next one; but what comes after it of the same skill may be made to do the same: a hundred that each
//! keep a thread for 5 ms, once, and come one after the other, would leave others hardly any. So what is owed at the end is
//! for the next of its skill to give up, before it begins.

use std::sync::atomic::{AtomicU32, Ordering};

/// The most turns that a guest gives up at a time. One that nobody takes costs about 1 µs.
pub(super) const MOST_OWED: u32 = 250;
/// The most that is kept of a skill's.
const MOST_KEPT: u32 = 100 * MOST_OWED;

/// What guests of a skill owed when they ended.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Debt(AtomicU32);

impl Debt {
    /// What a guest that begins has to give up.
    fn take(&self) -> u32 {
        let mut debt = self.0.load(Ordering::Relaxed);
        // Most owe nothing, and then nothing is written that threads share.
        while debt > 0 {
            let left = debt.saturating_sub(MOST_OWED);
            let taken =
                self.0
                    .compare_exchange_weak(debt, left, Ordering::Relaxed, Ordering::Relaxed);
            match taken {
                Ok(_) => return debt - left,
                Err(now) => debt = now,
            }
        }
        0
    }

    fn leave(&self, turns: u32) {
        let add = |debt: u32| Some(debt.saturating_add(turns).min(MOST_KEPT));
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// What one guest owes. Where it ends before that is given up, its skill does.
#[derive(Debug, Default)]
pub(super) struct Owed<'a> {
    pub turns: u32,
    skill: Option<&'a Debt>,
}

impl<'a> Owed<'a> {
    /// Of a guest of this skill, that begins.
    pub fn by(skill: &'a Debt) -> Self {
        Owed {
            turns: skill.take(),
            skill: Some(skill),
        }
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(skill) = self.skill
            && self.turns > 0
        {
            skill.leave(self.turns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_gives_up_what_is_left() {
        let skill = Debt::default();
        let mut first = Owed::by(&skill);
        assert_eq!(first.turns, 0);
        first.turns = 30;
        drop(first);
        let mut second = Owed::by(&skill);
        assert_eq!((second.turns, Owed::by(&skill).turns), (30, 0));
        second.turns = 0;
        drop(second);
        assert_eq!(Owed::by(&skill).turns, 0);
    }

    #[test]
    fn nobody_gives_up_more_than_is_too_many() {
        let skill = Debt::default();
        for _ in 0..3 {
            skill.leave(MOST_OWED - 50);
        }
        let begun: Vec<_> = (0..4).map(|_| Owed::by(&skill)).collect();
        let turns: Vec<_> = begun.iter().map(|owed| owed.turns).collect();
        assert_eq!(turns, [250, 250, 100, 0]);
        drop(begun);
        for _ in 0..1_000 {
            skill.leave(u32::MAX);
        }
        assert_eq!(skill.0.load(Ordering::Relaxed), MOST_KEPT);
    }
}
