//! What is done to a queue, by chance.

use skillhost::queue::ScopeKind;

use super::LEASE;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Script {
    Succeeds,
    Fails,
    /// Fails, and succeeds at this attempt.
    Until(u32),
    Snoozes,
}

#[derive(Debug, Clone, Copy)]
pub enum Action {
    Cancel,
    Pause,
    Resume,
    Snooze,
    Urgent,
}

#[derive(Debug, Clone, Copy)]
pub enum Op {
    Submit {
        script: Script,
        queue: usize,
        tenant: usize,
        key: Option<u64>,
        /// For how long the key holds, in seconds; until the job has ended where it is not said.
        period: Option<u64>,
        delay: u64,
        deadline: Option<u64>,
        attempts: u32,
        backoff: u64,
        paused: bool,
    },
    Act(Action, usize),
    Replay(usize),
    Discard(usize),
    Scope(ScopeKind, usize, bool),
    Advance(u64),
    SetBack(u64),
    Work(usize),
    /// A worker takes so many jobs and dies.
    Crash(usize),
    /// One of two workers takes so many jobs, and has them while other things happen.
    Begin(usize, usize),
    /// It ends what it has, as far as that is still its own.
    Finish(usize),
    /// A tenant may have so many running; any number where it is not said.
    Bound(usize, Option<u32>),
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("it is small")
    }

    fn op(&mut self) -> Op {
        match self.below(26) {
            0..7 => Op::Submit {
                script: match self.below(7) {
                    0..3 => Script::Succeeds,
                    3 => Script::Fails,
                    4 => Script::Snoozes,
                    _ => Script::Until(2 + self.below(3) as u32),
                },
                queue: self.index(2),
                tenant: self.index(3),
                key: (self.below(4) == 0).then(|| self.below(2)),
                period: (self.below(2) == 0).then(|| 100 + self.below(500)),
                delay: [0, 0, 50][self.index(3)],
                deadline: (self.below(4) == 0).then(|| 1 + self.below(300)),
                attempts: 1 + self.below(3) as u32,
                backoff: [0, 60][self.index(2)],
                paused: self.below(10) == 0,
            },
            7..11 => {
                use Action::{Cancel, Pause, Resume, Snooze, Urgent};
                let action = [Cancel, Pause, Resume, Snooze, Urgent][self.index(5)];
                Op::Act(action, self.index(12))
            }
            11 => Op::Replay(self.index(12)),
            12 => Op::Discard(self.index(12)),
            13 => match self.below(2) {
                0 => Op::Scope(ScopeKind::Queue, self.index(2), self.below(2) == 0),
                _ => Op::Scope(ScopeKind::Tenant, self.index(3), self.below(2) == 0),
            },
            14 => Op::Advance([1, 60, 400, 2 * LEASE][self.index(4)]),
            15 => Op::SetBack([1, 60, 400][self.index(3)]),
            16..19 => Op::Work(1 + self.index(4)),
            19 => Op::Crash(1 + self.index(3)),
            20..23 => Op::Begin(self.index(2), 1 + self.index(3)),
            23..25 => Op::Finish(self.index(2)),
            _ => Op::Bound(self.index(3), [None, Some(1), Some(2)][self.index(3)]),
        }
    }
}

/// The operations of a seed.
pub fn ops(seed: u64) -> Vec<Op> {
    let mut random = Random(seed);
    let count = 4 + random.below(28);
    (0..count).map(|_| random.op()).collect()
}
