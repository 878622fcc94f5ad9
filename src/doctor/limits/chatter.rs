//! Limits on what a guest says: past them it is dropped and counted, and the guest goes on.

use super::judge;
use crate::doctor::check::{Figures, Finding, Unit};
use crate::doctor::ground::{Ground, RECORD, Run, Trouble};
use crate::doctor::guests::{self, times};
use crate::doctor::handmade::Handmade;
use crate::limits::LimitOverrides;

/// What each piece has, in bytes.
const PIECE: u64 = 1_000;
/// What is allowed: two pieces and a half.
const ALLOWED: u64 = 2_500;
const WITHIN: u32 = 2;
const PAST: u32 = 100;

/// A guest that says as many pieces as its number; and what of it was kept and dropped.
async fn say(
    ground: &Ground,
    guest: Handmade,
    limits: LimitOverrides,
    kept: fn(&Run) -> u64,
    dropped: fn(&Run) -> u64,
) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest).await?;
    let within = ground.run(&skill, WITHIN, limits).await?;
    let past = ground.run(&skill, PAST, limits).await?;
    let all = u64::from(WITHIN) * PIECE;
    if kept(&within) != all {
        return Ok(Finding::unknown(format!(
            "of the {all} bytes within the limit {} were kept",
            kept(&within)
        )));
    }
    let (kept, dropped) = (kept(&past), dropped(&past));
    let sent = u64::from(PAST) * PIECE;
    let finding = judge::cut(&within.result, &past.result, ALLOWED, sent, kept, dropped);
    Ok(finding.figures(Figures::exact(Unit::Bytes, ALLOWED, kept)))
}

fn printing(which: &str) -> Handmade {
    Handmade {
        fields: "(global $opened (mut i32) (i32.const 0))".into(),
        execute: times(&format!(
            "(if (i32.eq (local.get $n) (i32.const 1))
                (then (global.set $opened (call $stream))))
            (call $write (global.get $opened) (i32.const 65536) (i32.const {PIECE})
                (i32.const 64))
            (if (i32.load8_u (i32.const 64)) (then unreachable))"
        )),
        ..guests::stream(which)
    }
}

pub async fn stdout(ground: &Ground) -> Result<Finding, Trouble> {
    let limits = LimitOverrides {
        stdout_bytes: Some(ALLOWED),
        ..Default::default()
    };
    say(
        ground,
        printing("stdout"),
        limits,
        |run| run.result.stdout.len() as u64,
        |run| run.result.usage.dropped.stdout_bytes,
    )
    .await
}

pub async fn stderr(ground: &Ground) -> Result<Finding, Trouble> {
    let limits = LimitOverrides {
        stderr_bytes: Some(ALLOWED),
        ..Default::default()
    };
    say(
        ground,
        printing("stderr"),
        limits,
        |run| run.result.stderr.len() as u64,
        |run| run.result.usage.dropped.stderr_bytes,
    )
    .await
}

pub async fn log(ground: &Ground) -> Result<Finding, Trouble> {
    let limits = LimitOverrides {
        log_bytes: Some(ALLOWED),
        ..Default::default()
    };
    let guest = Handmade {
        execute: times(&format!(
            "(call $log (i32.const 2) (i32.const 65536) (i32.const {}))",
            PIECE - RECORD
        )),
        ..guests::log()
    };
    say(
        ground,
        guest,
        limits,
        |run| run.heard.log_bytes,
        |run| run.result.usage.dropped.log_bytes,
    )
    .await
}

pub async fn progress(ground: &Ground) -> Result<Finding, Trouble> {
    let limits = LimitOverrides {
        progress_bytes: Some(ALLOWED),
        ..Default::default()
    };
    let guest = Handmade {
        execute: times(&format!(
            "(call $report (i32.const 0) (f64.const 0) (i32.const 65536) (i32.const {})
                (i32.const 0) (i32.const 0) (i32.const 0))",
            PIECE - RECORD
        )),
        ..guests::progress()
    };
    say(
        ground,
        guest,
        limits,
        |run| run.heard.progress_bytes,
        |run| run.result.usage.dropped.progress_bytes,
    )
    .await
}
