//! The turns that guests of a skill have had and that were others'.
//!
//! A guest that has kept its thread for many slices lets others have as many turns before its next one. One that has come
//! to its end has no next one; but what comes after it of the same skill may be made to do the same: a hundred that each
//! keep a thread for 5 ms, once, and come one after the other, would leave others hardly any. So what is owed at the end is
//! for the next of its skill to give up, before it begins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::gate::since_began;

/// The most turns that a guest gives up at a time. One that nobody takes costs about 1 µs.
pub(super) const MOST_OWED: u32 = 250;
/// The most that is kept of a skill's,
const MOST_KEPT: u32 = 10 * MOST_OWED;
/// and after how long nothing is left of it: those that the turns were taken from have gone on since. Until then there
/// is less of it with each moment, also where guests pass it on to each other.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);

/// What guests of a skill owed when they ended.
///
/// When that was, in milliseconds, and how many turns, in the last 12 bits: for as many it is one word.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Debt(AtomicU64);

const TURNS: u32 = 12;
const _: () = assert!(MOST_KEPT < 1 << TURNS);

impl Debt {
    /// The turns of a word that are left at this time.
    fn turns(word: u64, now: u64) -> u32 {
        let turns = u32::try_from(word & ((1 << TURNS) - 1)).unwrap_or(0);
        left(turns, now.saturating_sub(word >> TURNS))
    }

    /// What a guest has to give up that begins at this time.
    fn take(&self, now: Instant) -> u32 {
        let now = millis(now);
        let take = |word: u64| {
            let left = Debt::turns(word, now).saturating_sub(MOST_OWED);
            Some(if left == 0 {
                0
            } else {
                now << TURNS | u64::from(left)
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

    /// Whether there is any. Most owe nothing, and then nothing is written that threads share.
    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// What is left of so many turns after so many milliseconds.
fn left(turns: u32, since: u64) -> u32 {
    let all = millis_of(FORGOTTEN_AFTER);
    let left = u64::from(turns) * all.saturating_sub(since) / all;
    u32::try_from(left).unwrap_or(turns)
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis(time: Instant) -> u64 {
    since_began(time) / 1_000_000
}

/// What one guest owes. Where it ends before that is given up, its skill does.
#[derive(Debug, Default)]
pub(super) struct Owed<'a> {
    /// Of its own.
    turns: u32,
    before: Option<Before<'a>>,
}

/// Of those before it.
#[derive(Debug)]
struct Before<'a> {
    skill: &'a Debt,
    turns: u32,
    since: Instant,
    /// From when on it is another's to give up: half of this one's time is its own.
    until: Instant,
}

impl<'a> Owed<'a> {
    /// Of a guest of this skill, that begins, and whose time is up at that time.
    pub fn by(skill: &'a Debt, deadline: Instant) -> Self {
        if !skill.is_any() {
            let now = deadline;
            return Owed::with(skill, 0, now, now);
        }
        let now = Instant::now();
        let half = deadline.saturating_duration_since(now) / 2;
        Owed::with(skill, skill.take(now), now, now + half)
    }

    fn with(skill: &'a Debt, turns: u32, since: Instant, until: Instant) -> Self {
        Owed {
            turns: 0,
            before: Some(Before {
                skill,
                turns,
                since,
                until,
            }),
        }
    }

    /// It has had so many turns of others'.
    pub fn add(&mut self, turns: u32) {
        self.turns = self.turns.saturating_add(turns);
    }

    /// Gives up one, if it owes any.
    pub fn give_up(&mut self, now: Instant) -> bool {
        let before = self.before.as_mut().filter(|before| now < before.until);
        let inherited = before.map(|before| &mut before.turns);
        for turns in inherited.into_iter().chain([&mut self.turns]) {
            if *turns > 0 {
                *turns -= 1;
                return true;
            }
        }
        false
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        if self.turns == 0 && before.turns == 0 {
            return;
        }
        let now = Instant::now();
        let since = millis_of(now.saturating_duration_since(before.since));
        let turns = left(before.turns, since).saturating_add(self.turns);
        before.skill.leave(turns, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn given_up(owed: &mut Owed<'_>, at: Instant) -> u32 {
        let mut turns = 0;
        while owed.give_up(at) {
            turns += 1;
        }
        turns
    }

    #[test]
    fn the_next_one_gives_up_what_is_left() {
        let skill = Debt::default();
        let by = || Owed::by(&skill, Instant::now() + LONG);
        let mut first = by();
        assert!(!first.give_up(Instant::now()));
        first.add(200);
        assert!(first.give_up(Instant::now()));
        drop(first);
        let mut second = by();
        // Less a thousandth with each millisecond.
        let turns = given_up(&mut second, Instant::now());
        assert!((1..=199).contains(&turns), "{turns}");
        drop(second);
        assert!(!by().give_up(Instant::now()));
    }

    #[test]
    fn half_of_its_time_is_its_own() {
        let skill = Debt::default();
        let now = Instant::now();
        let mut owed = Owed::with(&skill, 20, now, now + LONG / 2);
        owed.add(10);
        assert!(owed.give_up(now));
        // From there on it gives up what it owes itself, and leaves the other.
        assert_eq!(given_up(&mut owed, now + LONG / 2), 10);
        drop(owed);
        assert!(skill.take(Instant::now()) > 0);
        skill.leave(100, Instant::now());
        let owed = Owed::by(&skill, Instant::now() + LONG);
        let before = owed.before.as_ref().expect("it has a skill");
        let until = before.until - before.since;
        assert!(until <= LONG / 2 && until > LONG / 3, "{until:?}");
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
        assert_eq!(skill.take(now + FORGOTTEN_AFTER / 4), 150);
        skill.leave(200, now);
        assert_eq!(skill.take(now + FORGOTTEN_AFTER), 0);
    }

    /// Nor do guests keep it for ever that pass it on to each other, none of which comes to give it up.
    #[test]
    fn it_is_not_made_new_by_being_passed_on() {
        let skill = Debt::default();
        let mut now = Instant::now();
        skill.leave(MOST_OWED, now);
        let step = FORGOTTEN_AFTER / 50;
        let mut times = 0;
        loop {
            // Some is held by one, and some stands there; each adds a little of its own, as far as the sum shrinks.
            let turns = skill.take(now);
            if turns < 5 {
                break;
            }
            now += step;
            skill.leave(left(turns, millis_of(step)), now);
            times += 1;
        }
        assert!(times < 300, "{times}");
    }
}
