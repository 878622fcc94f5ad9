//! The turns that guests of a skill have had and that were others'.
//!
//! A guest that has kept its thread for many slices lets others have as many turns before its next one. One that has come
//! to its end has no next one; but what comes after it of the same skill may be made to do the same: a hundred that each
//! keep a thread for 5 ms, once, and come one after the other, would leave others hardly any. So what is owed at the end is
//! for the next of its skill to give up, before it begins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::gate::nanos;

/// The most turns that a guest gives up at a time. One that nobody takes costs about 1 µs.
pub(super) const MOST_OWED: u32 = 250;
/// The most that is kept of a skill's,
const MOST_KEPT: u32 = 10 * MOST_OWED;
/// for how long: those that the turns were taken from have gone on since.
const KEPT: Duration = Duration::from_secs(1);
/// From how much of a thread's time on what a guest took last is still owed when it has ended.
pub(super) const STRETCH: Duration = Duration::from_millis(1);

/// What guests of a skill owed when they ended.
///
/// When that was, in milliseconds, and how many turns, in the last 12 bits: for as many it is one word.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Debt(AtomicU64);

const TURNS: u32 = 12;
const _: () = assert!(MOST_KEPT < 1 << TURNS);

impl Debt {
    /// The turns of a word, at this time.
    fn turns(word: u64, now: u64) -> u32 {
        let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        match now.saturating_sub(word >> TURNS) < kept {
            true => u32::try_from(word & ((1 << TURNS) - 1)).unwrap_or(0),
            false => 0,
        }
    }

    /// What a guest has to give up that begins at this time.
    fn take(&self, now: Instant) -> u32 {
        // Most owe nothing, and then nothing is written that threads share.
        if self.0.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let now = millis(now);
        let take = |word: u64| {
            let left = Debt::turns(word, now).saturating_sub(MOST_OWED);
            Some(if left == 0 {
                0
            } else {
                word >> TURNS << TURNS | u64::from(left)
            })
        };
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        Debt::turns(before.unwrap_or(0), now).min(MOST_OWED)
    }

    fn leave(&self, turns: u32, now: Instant) {
        let now = millis(now);
        let leave = |word: u64| {
            let all = Debt::turns(word, now).saturating_add(turns).min(MOST_KEPT);
            Some(now << TURNS | u64::from(all))
        };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave);
    }
}

fn millis(time: Instant) -> u64 {
    nanos(time) / 1_000_000
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
            turns: skill.take(Instant::now()),
            skill: Some(skill),
        }
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(skill) = self.skill
            && self.turns > 0
        {
            skill.leave(self.turns, Instant::now());
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
        let now = Instant::now();
        for _ in 0..3 {
            skill.leave(MOST_OWED - 50, now);
        }
        let turns: Vec<_> = (0..4).map(|_| skill.take(now)).collect();
        assert_eq!(turns, [250, 250, 100, 0]);
        for _ in 0..1_000 {
            skill.leave(u32::MAX, now);
        }
        let turns: u32 = (0..1_000).map(|_| skill.take(now)).sum();
        assert_eq!(turns, MOST_KEPT);
    }

    #[test]
    fn it_is_forgotten_after_a_while() {
        let skill = Debt::default();
        let now = Instant::now();
        skill.leave(200, now);
        skill.leave(100, now + KEPT / 2);
        assert_eq!(skill.take(now + KEPT), 250);
        assert_eq!(skill.take(now + KEPT * 2), 0);
        skill.leave(10, now + KEPT * 2);
        assert_eq!(skill.take(now + KEPT * 2), 10);
    }
}
