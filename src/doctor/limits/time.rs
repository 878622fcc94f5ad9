//! Limits on time: how late a guest is stopped that computes, waits, keeps the host busy, or is in
//! the middle of an instruction that nothing interrupts.

use std::time::Duration;

use chrono::Utc;

use super::judge;
use super::network::{asking, no_server};
use crate::doctor::check::{Figures, Finding};
use crate::doctor::ground::{Ground, Run, Trouble, numbered};
use crate::doctor::guests::{NUMBER, number, times};
use crate::doctor::handmade::{Handmade, SPIN};
use crate::doctor::http::{self, Server};
use crate::execution::ExecutionRequest;
use crate::host::Skill;
use crate::limits::{Limit, LimitOverrides, Limits};

/// The time that a guest is given.
const TIME: Duration = Duration::from_millis(30);
/// Where a guest is late, the time in which others had the processor is not counted. But they also use
/// its caches, and on a virtual machine the kernel does not see all of them, so the best of a few tries
/// counts.
const TRIES: u32 = 5;

fn limits() -> LimitOverrides {
    LimitOverrides {
        wall_time: Some(TIME),
        fuel: Some(Limits::ceiling().fuel),
        ..Default::default()
    }
}

/// The limit as it is told.
fn allowed() -> u64 {
    u64::try_from(TIME.as_millis()).unwrap_or(u64::MAX)
}

/// Tries it until it is in time, and gives the try that was least late.
async fn best(
    ground: &Ground,
    request: impl Fn() -> ExecutionRequest,
    uninterrupted: Duration,
) -> Result<(Run, Figures, u32), Trouble> {
    let mut tries = 0;
    let mut best: Option<(Run, Figures)> = None;
    loop {
        let run = ground.request(request()).await?;
        let mut figures = Figures::time(TIME, run.took, uninterrupted);
        if !figures.are_within() {
            let ran = run.took.saturating_sub(run.waited);
            figures = Figures::time(TIME, ran, uninterrupted);
        }
        tries += 1;
        let better = best
            .take_if(|(_, before)| before.past <= figures.past)
            .unwrap_or((run, figures));
        if better.1.are_within() || tries == TRIES {
            return Ok((better.0, better.1, tries));
        }
        best = Some(better);
    }
}

/// A guest that succeeds where its number is 0, and goes on for ever where it is another.
async fn overrun(
    ground: &Ground,
    guest: Handmade,
    uninterrupted: Duration,
) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest).await?;
    overrun_by(ground, &skill, uninterrupted).await
}

async fn overrun_by(
    ground: &Ground,
    skill: &Skill,
    uninterrupted: Duration,
) -> Result<Finding, Trouble> {
    let within = ground.run(skill, 0, limits()).await?.result;
    let request = || numbered(skill, 1).limits(limits());
    let (run, figures, tries) = best(ground, request, uninterrupted).await?;
    let finding = judge::stopped(&within, &run.result, Limit::WallTime, allowed());
    Ok(of_tries(finding.figures(figures), tries))
}

fn of_tries(finding: Finding, tries: u32) -> Finding {
    match (&finding.reason, tries) {
        (None, 2..) => finding.reason(format!(
            "in time at try {tries}: other work kept the processors busy"
        )),
        (Some(reason), 2..) => {
            let reason = format!("{reason} (the best of {tries} tries)");
            finding
                .reason(reason)
                .hint("is the machine busy? Try again when it is not")
        }
        _ => finding,
    }
}

/// Does something only where the number is not 0.
fn where_asked(code: &str) -> String {
    format!("(if {NUMBER} (then {code})) i32.const $answer")
}

pub async fn computing(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        execute: where_asked(SPIN),
        ..Handmade::default()
    };
    overrun(ground, guest, Duration::ZERO).await
}

/// Code that the compiler makes so much more of than it is paid for that it comes to no look at the clock for 100 ms: what
/// is needed in many places, none of which comes before the others, is computed in each of them.
pub async fn not_yielding(ground: &Ground) -> Result<Finding, Trouble> {
    const ROOTS: usize = 600;
    const PLACES: usize = 600;
    let roots = "f64.sqrt ".repeat(ROOTS);
    let places = "(if (global.get $always) (then (f64.store (i32.const 0) (local.get $root))))";
    let guest = Handmade {
        fields: format!(
            "(global $always (mut i32) (i32.const 1))
            (func $compute (param f64) (local $root f64)
                local.get 0 {roots} local.set $root {})",
            places.repeat(PLACES)
        ),
        execute: where_asked(
            "(loop $again (call $compute (f64.convert_i64_u (i64.const 7))) (br $again))",
        ),
        ..Handmade::default()
    };
    overrun(ground, guest, Duration::ZERO).await
}

pub async fn waiting(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        execute: where_asked("(call $block (call $subscribe (i64.const -1)))"),
        ..Handmade::that_calls()
    };
    overrun(ground, guest, Duration::ZERO).await
}

/// A server that takes the request and never answers. Where one answers, the same guest succeeds.
pub async fn silent_server(ground: &Ground) -> Result<Finding, Trouble> {
    let servers = Server::start().and_then(|well| Ok((well, Server::silent()?)));
    let (well, silent) = match servers {
        Ok(servers) => servers,
        Err(error) => return Ok(no_server(&error)),
    };
    let (Some(asking_well), Some(asking_silent)) = (asking(well.address), asking(silent.address))
    else {
        return Ok(Finding::unknown(
            "the server's address is none to be granted",
        ));
    };
    // The number is the length of the path that is asked for.
    let skill = ground.load(&http::guest(&well.address.to_string())).await?;
    let within = ground.request(numbered(&skill, 1).grants(asking_well));
    let within = within.await?.result;
    let skill = http::guest(&silent.address.to_string());
    let skill = ground.load(&skill).await?;
    let request = numbered(&skill, 1).grants(asking_silent).limits(limits());
    let (run, figures, tries) = best(ground, || request.clone(), Duration::ZERO).await?;
    if number(&within) != Some(0) || silent.connections() == 0 {
        return Ok(Finding::unknown("what is granted does not work"));
    }
    let finding = judge::stopped(&within, &run.result, Limit::WallTime, allowed());
    Ok(of_tries(finding.figures(figures), tries))
}

/// Cheap calls: the guest itself hardly computes, so that its fuel tells nothing.
pub async fn calling(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        execute: where_asked("(loop $again (drop (call $now)) (br $again))"),
        ..Handmade::that_calls()
    };
    overrun(ground, guest, Duration::ZERO).await
}

/// One instruction that writes all memory that the guest may have, which nothing interrupts. So the
/// guest may be late by the time that writing its memory once takes.
pub async fn filling(ground: &Ground) -> Result<Finding, Trouble> {
    let bytes = Limits::default().memory_bytes;
    let whole = format!(
        "(memory.fill (i32.const 65536) (i32.const 7) (i32.const {}))",
        bytes - 65_536
    );
    let guest = |execute| Handmade {
        memory: format!(r#"(memory (export "memory") {})"#, bytes >> 16),
        execute,
        ..Handmade::default()
    };
    let once = ground.load(&guest(times(&whole))).await?;
    let measured = ground.run(&once, 1, LimitOverrides::default()).await?;
    let uninterrupted = measured.took.saturating_sub(measured.waited);
    let skill = ground
        .load(&guest(where_asked(&format!(
            "(loop $again {whole} (br $again))"
        ))))
        .await?;
    overrun_by(ground, &skill, uninterrupted).await
}

/// The deadline that the caller set, where it comes before the wall time is up.
pub async fn deadline(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground
        .load(&Handmade {
            execute: where_asked(SPIN),
            ..Handmade::default()
        })
        .await?;
    let request = |number| {
        let limits = LimitOverrides {
            wall_time: None,
            ..limits()
        };
        let request = numbered(&skill, number).limits(limits);
        request.deadline(Utc::now() + TIME)
    };
    let within = ground.request(request(0)).await?.result;
    let (run, figures, tries) = best(ground, || request(1), Duration::ZERO).await?;
    // A deadline is a moment, and has no value of its own.
    let finding = judge::stopped(&within, &run.result, Limit::Deadline, 0);
    Ok(of_tries(finding.figures(figures), tries))
}
