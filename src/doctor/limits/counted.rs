//! Limits on what can be counted. How far a guest gets is found by trying: the largest number with
//! which it still succeeds.

use std::ops::RangeInclusive;

use serde_json::json;

use super::judge;
use crate::doctor::check::{Figures, Finding, PAGE, Unit};
use crate::doctor::ground::{Ground, Run, Trouble, ended, met, numbered};
use crate::doctor::guests::{self, NUMBER, times};
use crate::doctor::handmade::{Answer, Handmade};
use crate::execution::{Attachment, ExecutionRequest, Status};
use crate::grant::Grants;
use crate::host::Skill;
use crate::limits::{Limit, LimitOverrides, Limits};

/// A guest that takes the more of something the larger its number is.
pub(in crate::doctor) struct Climb {
    pub guest: Handmade,
    pub grants: Grants,
    pub limits: LimitOverrides,
    pub limit: Limit,
    pub allowed: u64,
    /// The largest number that is within the limit, and one that is far past it.
    pub numbers: RangeInclusive<u32>,
}

impl Climb {
    /// What came of it within the limit and past it, and the largest number that succeeded.
    async fn climb(&self, ground: &Ground) -> Result<(Skill, Finding, u32), Trouble> {
        let skill = ground.load(&self.guest).await?;
        let (mut low, mut high) = self.numbers.clone().into_inner();
        let within = self.run(ground, &skill, low).await?;
        let past = self.run(ground, &skill, high).await?;
        let mut finding = judge::stopped(&within.result, &past.result, self.limit, self.allowed);
        if finding.verdict.is_failure() {
            return Ok((skill, finding, low));
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let Run { result, .. } = self.run(ground, &skill, middle).await?;
            if result.status == Status::Success {
                low = middle;
            } else {
                high = middle;
                if met(&result) != Some((self.limit, self.allowed)) {
                    finding = Finding::broken(format!("just past the limit: {}", ended(&result)));
                    break;
                }
            }
        }
        Ok((skill, finding, low))
    }

    async fn run(&self, ground: &Ground, skill: &Skill, number: u32) -> Result<Run, Trouble> {
        let request = numbered(skill, number).limits(self.limits);
        ground.request(request.grants(self.grants.clone())).await
    }

    /// The same, the number being what the limit counts after `amount`.
    pub async fn by(
        &self,
        ground: &Ground,
        amount: impl Fn(u64) -> u64,
        figures: fn(u64, u64) -> Figures,
    ) -> Result<Finding, Trouble> {
        let (_, finding, furthest) = self.climb(ground).await?;
        Ok(finding.figures(figures(self.allowed, amount(furthest.into()))))
    }
}

pub(super) fn count(limit: u64, reached: u64) -> Figures {
    Figures::exact(Unit::Count, limit, reached)
}

/// What the largest loop that ends within its fuel takes: its turns, by what each of them takes where
/// there is plenty.
pub async fn fuel(ground: &Ground) -> Result<Finding, Trouble> {
    const FUEL: u64 = 1_000_000;
    let climb = Climb {
        guest: Handmade {
            execute: times(""),
            ..Handmade::default()
        },
        grants: Grants::default(),
        limits: LimitOverrides {
            fuel: Some(FUEL),
            ..Default::default()
        },
        limit: Limit::Fuel,
        allowed: FUEL,
        // A turn of the loop takes some ten units.
        numbers: 10_000..=u32::MAX,
    };
    let (skill, finding, furthest) = climb.climb(ground).await?;
    let half = furthest / 2;
    let all = ground.run(&skill, furthest, Default::default()).await?;
    let some = ground.run(&skill, half, Default::default()).await?;
    let of_turns = (all.result.usage.fuel).saturating_sub(some.result.usage.fuel);
    let reached = of_turns * u64::from(furthest) / u64::from(furthest - half);
    Ok(finding.figures(count(FUEL, reached)))
}

const PAGES: u64 = 64;

fn pages(guest: Handmade, numbers: RangeInclusive<u32>) -> Climb {
    Climb {
        guest,
        grants: Grants::default(),
        limits: LimitOverrides {
            memory_bytes: Some(PAGES * PAGE),
            ..Default::default()
        },
        limit: Limit::Memory,
        allowed: PAGES * PAGE,
        numbers,
    }
}

/// In the pool. Each page is written to, so that it is there.
pub async fn memory(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        execute: times(
            "(i32.store
                (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)) (i32.const 1))",
        ),
        ..Handmade::default()
    };
    // It begins with 4.
    pages(guest, 60..=600)
        .by(ground, |number| (4 + number) * PAGE, Figures::bytes)
        .await
}

/// Outside the pool, which has room for one memory. They count in sum.
pub async fn memories(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        fields: "(memory $second 2)".into(),
        execute: times(
            "(if (i32.and (local.get $n) (i32.const 1))
                (then (drop (memory.grow (i32.const 1))))
                (else (drop (memory.grow $second (i32.const 1)))))",
        ),
        ..Handmade::default()
    };
    pages(guest, 58..=600)
        .by(ground, |number| (6 + number) * PAGE, Figures::bytes)
        .await
}

/// What the engine keeps for each instance is in the component's text, so it is the limit that changes:
/// how far past it the guest gets is by how much its globals, of 16 bytes each, and its own memory are
/// more than the least limit under which it runs.
pub async fn contexts(ground: &Ground) -> Result<Finding, Trouble> {
    const GLOBALS: usize = 7_350;
    const INSTANCES: usize = 20;
    /// Its own memory has 4 pages.
    const TAKEN: u64 = 4 * PAGE + (GLOBALS * INSTANCES * 16) as u64;
    let guest = Handmade {
        before: format!(
            "(core module $globals {}) {}",
            "(global i64 (i64.const 1))".repeat(GLOBALS),
            "(core instance (instantiate $globals))".repeat(INSTANCES)
        ),
        ..Handmade::default()
    };
    let skill = ground.load(&guest).await?;
    let pages = |pages| LimitOverrides {
        memory_bytes: Some(pages * PAGE),
        ..Default::default()
    };
    let (mut low, mut high) = (30, PAGES);
    let within = ground.run(&skill, 1, pages(high)).await?.result;
    let past = ground.run(&skill, 1, pages(low)).await?.result;
    let finding = judge::stopped(&within, &past, Limit::Memory, low * PAGE);
    if finding.verdict.is_failure() {
        return Ok(finding);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        let result = ground.run(&skill, 1, pages(middle)).await?.result;
        if result.status == Status::Success {
            high = middle;
        } else if result.usage.fuel > 0 {
            return Ok(Finding::broken("some of it ran all the same"));
        } else {
            low = middle;
        }
    }
    Ok(finding
        .figures(Figures::bytes(high * PAGE, TAKEN))
        .note("none of it runs where they do not fit"))
}

pub async fn tables(ground: &Ground) -> Result<Finding, Trouble> {
    let climb = Climb {
        guest: Handmade {
            fields: "(table $a 10 funcref) (table $b 10 funcref)".into(),
            execute: times(
                "(if (i32.and (local.get $n) (i32.const 1))
                    (then (drop (table.grow $a (ref.null func) (i32.const 1))))
                    (else (drop (table.grow $b (ref.null func) (i32.const 1)))))",
            ),
            ..Handmade::default()
        },
        grants: Grants::default(),
        limits: LimitOverrides {
            table_elements: Some(1_000),
            ..Default::default()
        },
        limit: Limit::TableElements,
        allowed: 1_000,
        numbers: 980..=10_000,
    };
    climb.by(ground, |number| 20 + number, count).await
}

/// A guest that consists of so many instances. Each says that it is there when it begins, to one that
/// counts them, and the last answers with the number.
fn counting(instances: usize) -> Handmade {
    let guest = Handmade {
        before: format!(
            r#"(core module $counter
                (global $count (mut i32) (i32.const 2))
                (func (export "add")
                    (global.set $count (i32.add (global.get $count) (i32.const 1))))
                (func (export "count") (result i32) (global.get $count)))
            (core instance $counter (instantiate $counter))
            (core module $one (import "counter" "add" (func $add)) (start $add))
            {}"#,
            r#"(core instance (instantiate $one (with "counter" (instance $counter))))"#
                .repeat(instances - 2)
        ),
        with: r#"(with "counter" (instance $counter))"#.into(),
        imports: r#"(import "counter" "count" (func $count (result i32)))"#.into(),
        ..Handmade::default()
    };
    guests::answering(guest, "(call $count)")
}

pub async fn instances(ground: &Ground) -> Result<Finding, Trouble> {
    const ALLOWED: usize = 60;
    let limits = LimitOverrides {
        instances: Some(ALLOWED as u64),
        ..Default::default()
    };
    let within = ground.load(&counting(ALLOWED)).await?;
    let within = ground.run(&within, 1, limits).await?.result;
    let past = ground.load(&counting(ALLOWED + 1)).await?;
    let past = ground.run(&past, 1, limits).await?.result;
    let finding = judge::stopped(&within, &past, Limit::Instances, ALLOWED as u64);
    Ok(match guests::number(&within) {
        Some(counted) => finding.figures(count(ALLOWED as u64, counted)),
        None => finding,
    })
}

pub async fn input(ground: &Ground) -> Result<Finding, Trouble> {
    const BYTES: u64 = 10_000;
    let skill = ground.load(&Handmade::default()).await?;
    let request = |bytes: u64| {
        // The input is `{}`, the attachment has neither name nor type.
        let padding = vec![b' '; usize::try_from(bytes - 2).unwrap_or_default()];
        ExecutionRequest::new(skill.digest(), json!({}))
            .attach(Attachment::new("", "", padding))
            .limits(LimitOverrides {
                input_bytes: Some(BYTES),
                ..Default::default()
            })
    };
    let within = ground.request(request(BYTES)).await?.result;
    let past = ground.request(request(BYTES + 1)).await?.result;
    if past.usage.fuel > 0 || past.usage.input_bytes > 0 {
        return Ok(Finding::broken("it was handed to the guest all the same"));
    }
    Ok(judge::stopped(&within, &past, Limit::Input, BYTES)
        .figures(Figures::exact(Unit::Bytes, BYTES, within.usage.input_bytes))
        .note("refused before anything runs"))
}

/// Neither a little too much nor so much that it must not be copied is let through; what the host
/// has read of it before it knew counts as how far it got. The output is `beside` attachments.
async fn answer(
    ground: &Ground,
    guest: Handmade,
    limits: LimitOverrides,
    limit: Limit,
    (allowed, beside): (u64, u64),
    [within, past, far_past]: [u32; 3],
) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest).await?;
    let within = ground.run(&skill, within, limits).await?.result;
    let past = ground.run(&skill, past, limits).await?.result;
    let far_past = ground.run(&skill, far_past, limits).await?.result;
    let finding = judge::stopped(&within, &past, limit, allowed);
    if far_past.status != Status::ResourceExhausted {
        return Ok(Finding::broken(format!(
            "far past it: {}",
            ended(&far_past)
        )));
    }
    let read = [&within, &past, &far_past].map(|result| result.usage.output_bytes);
    let reached = read.into_iter().max().unwrap_or_default();
    Ok(finding.figures(Figures::bytes(allowed, reached.saturating_sub(beside))))
}

pub async fn output(ground: &Ground) -> Result<Finding, Trouble> {
    const BYTES: u32 = 100_000;
    let guest = Handmade {
        memory: r#"(memory (export "memory") 200)"#.into(),
        execute: format!(
            "(memory.fill (i32.const 1000000) (i32.const 32) {NUMBER})
            (i32.store16 (i32.const 1000000) (i32.const 0x7d7b))
            (i32.store offset=8 (i32.const $answer) (i32.const 1000000))
            (i32.store offset=12 (i32.const $answer) {NUMBER})
            i32.const $answer"
        ),
        ..Handmade::default()
    };
    let limits = LimitOverrides {
        output_bytes: Some(BYTES.into()),
        ..Default::default()
    };
    let numbers = [BYTES, BYTES + 1, 100 * BYTES];
    let most = (BYTES.into(), 0);
    answer(ground, guest, limits, Limit::Output, most, numbers).await
}

/// Attachments of 1,000 bytes, all of the same place in the guest's memory.
pub async fn attachments(ground: &Ground) -> Result<Finding, Trouble> {
    const COUNT: u32 = 100;
    let guest = Handmade {
        memory: r#"(memory (export "memory") 80)"#.into(),
        execute: format!(
            "(local $at i32) (local.set $at (i32.const 2000000))
            (loop $next
                (i32.store offset=16 (local.get $at) (i32.const 0))
                (i32.store offset=20 (local.get $at) (i32.const 1000))
                (local.set $at (i32.add (local.get $at) (i32.const 24)))
                (br_if $next (i32.lt_u (local.get $at)
                    (i32.add (i32.const 2000000) (i32.mul {NUMBER} (i32.const 24))))))
            (i32.store offset=20 (i32.const $answer) {NUMBER})
            i32.const $answer"
        ),
        realloc: "i32.const 0".into(),
        answer: Answer {
            attachments: (2_000_000, 0),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    };
    let allowed = u64::from(COUNT) * 1_000;
    let limits = LimitOverrides {
        attachment_bytes: Some(allowed),
        ..Default::default()
    };
    let numbers = [COUNT, COUNT + 1, 100 * COUNT];
    // `{}`
    let most = (allowed, 2);
    answer(ground, guest, limits, Limit::Attachments, most, numbers).await
}

pub async fn host_bytes(ground: &Ground) -> Result<Finding, Trouble> {
    const BYTES: u32 = 200_000;
    let climb = Climb {
        guest: Handmade {
            execute: format!(
                "(call $log (i32.const 2) (i32.const 65536) {NUMBER}) i32.const $answer"
            ),
            ..guests::log()
        },
        grants: Grants::default(),
        limits: LimitOverrides {
            host_bytes: Some(BYTES.into()),
            log_bytes: Some(0),
            ..Default::default()
        },
        limit: Limit::HostBytes,
        allowed: BYTES.into(),
        numbers: BYTES..=2 * BYTES,
    };
    climb.by(ground, |number| number, Figures::bytes).await
}

pub async fn handles(ground: &Ground) -> Result<Finding, Trouble> {
    let climb = Climb {
        guest: Handmade {
            execute: times("(drop (call $subscribe (i64.const -1)))"),
            ..Handmade::that_calls()
        },
        grants: Grants::default(),
        limits: LimitOverrides {
            handles: Some(100),
            ..Default::default()
        },
        limit: Limit::Handles,
        allowed: 100,
        // Of a hundred the host may need some itself.
        numbers: 50..=10_000,
    };
    climb.by(ground, |number| number, count).await
}

/// A frame's size is not known, but twice as much stack holds so many frames more. From that follows
/// how much stack the deepest recursion that succeeds takes.
pub async fn stack(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        fields: "(func $deeper (param i32)
            (if (local.get 0) (then (call $deeper (i32.sub (local.get 0) (i32.const 1))))))"
            .into(),
        execute: format!("(call $deeper {NUMBER}) i32.const $answer"),
        ..Handmade::default()
    };
    let climb = |allowed| Climb {
        guest: guest.clone(),
        grants: Grants::default(),
        limits: LimitOverrides::default(),
        limit: Limit::Stack,
        allowed,
        numbers: 500..=u32::MAX,
    };
    let allowed = Limits::default().stack_bytes;
    let (_, finding, deep) = climb(allowed).climb(ground).await?;
    if finding.verdict.is_failure() {
        return Ok(finding);
    }
    let half = ground.with_stack(allowed / 2)?;
    let (_, finding, less_deep) = climb(allowed / 2).climb(&half).await?;
    let (deep, less_deep) = (u64::from(deep), u64::from(less_deep));
    let frames = deep.saturating_sub(less_deep);
    if frames == 0 {
        return Ok(Finding::unknown("half the stack is as deep"));
    }
    let reached = deep * (allowed / 2) / frames;
    Ok(finding.figures(Figures::bytes(allowed, reached)))
}
