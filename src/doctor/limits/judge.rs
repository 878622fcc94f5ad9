//! How a limit is shown to hold: judged by what was seen, and by nothing else.

use crate::doctor::check::Finding;
use crate::doctor::ground::{ended, met};
use crate::execution::{ExecutionResult, Status};
use crate::limits::Limit;

/// Within the limit the guest succeeds, and past it that very limit stops it.
pub(super) fn stopped(
    within: &ExecutionResult,
    past: &ExecutionResult,
    limit: Limit,
    allowed: u64,
) -> Finding {
    // A guest that never runs is stopped by nothing.
    if within.status != Status::Success {
        let how = ended(within);
        return Finding::unknown(format!("the same guest within the limit: {how}"));
    }
    match met(past) {
        Some(met) if met == (limit, allowed) => Finding::holds(limit.as_str()),
        _ => Finding::broken(format!(
            "the guest past the limit of {allowed} was not stopped by it: {}",
            ended(past)
        )),
    }
}

/// Of what the guest said, no more than the limit was kept, and the rest was counted.
pub(super) fn cut(
    within: &ExecutionResult,
    past: &ExecutionResult,
    allowed: u64,
    sent: u64,
    kept: u64,
    dropped: u64,
) -> Finding {
    if within.status != Status::Success {
        let how = ended(within);
        return Finding::unknown(format!("the same guest within the limit: {how}"));
    }
    if past.status != Status::Success {
        let how = ended(past);
        return Finding::broken(format!("the guest should have gone on, but {how}"));
    }
    if kept.checked_add(dropped) != Some(sent) {
        return Finding::broken(format!(
            "of {sent} bytes {kept} were kept and {dropped} counted as dropped"
        ));
    }
    if dropped == 0 {
        return Finding::broken(format!("all {sent} bytes were kept; {allowed} are allowed"));
    }
    Finding::holds("cut and counted")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::check::{Figures, PAGE, Verdict};
    use crate::doctor::ground::Ground;
    use crate::doctor::guests::times;
    use crate::doctor::handmade::{Handmade, SPIN};
    use crate::limits::LimitOverrides;
    use crate::sandbox::Isolation;

    /// What guests really did, to be judged as if something else had been expected of them.
    async fn runs<const N: usize>(
        guest: Handmade,
        runs: [(u32, LimitOverrides); N],
    ) -> [ExecutionResult; N] {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let skill = ground.load(&guest).await.unwrap();
        let mut results = Vec::new();
        for (number, limits) in runs {
            results.push(ground.run(&skill, number, limits).await.unwrap().result);
        }
        results.try_into().unwrap()
    }

    fn growing() -> Handmade {
        Handmade {
            execute: times("(drop (memory.grow (i32.const 1)))"),
            ..Handmade::default()
        }
    }

    fn pages(pages: u64) -> LimitOverrides {
        LimitOverrides {
            memory_bytes: Some(pages * PAGE),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_guest_that_is_stopped_by_its_limit_holds() {
        let [within, past] = runs(growing(), [(1, pages(10)), (100, pages(10))]).await;
        let finding = stopped(&within, &past, Limit::Memory, 10 * PAGE);
        assert_eq!(finding, Finding::holds("memory_bytes"));
    }

    /// The guest really grows to 50 pages; were its limit 10, that would be too far.
    #[tokio::test]
    async fn a_guest_that_gets_too_far_is_noticed() {
        let [within, past] = runs(growing(), [(1, pages(50)), (100, pages(50))]).await;
        let reached = past.usage.peak_memory_bytes;
        assert_eq!(reached, 50 * PAGE);
        let finding = stopped(&within, &past, Limit::Memory, 50 * PAGE);
        let finding = finding.figures(Figures::bytes(10 * PAGE, reached));
        assert_eq!(finding.verdict, Verdict::Broken);
        assert_eq!(
            finding.reason.as_deref(),
            Some("it got to 3,276,800 B; the limit is 655,360 B, and 65,536 B past it are allowed")
        );
    }

    #[tokio::test]
    async fn a_guest_that_is_not_stopped_is_noticed() {
        let [within, past] = runs(growing(), [(1, pages(50)), (20, pages(50))]).await;
        let finding = stopped(&within, &past, Limit::Memory, 10 * PAGE);
        assert_eq!(finding.verdict, Verdict::Broken);
        assert_eq!(
            finding.reason.as_deref(),
            Some("the guest past the limit of 655360 was not stopped by it: it succeeded")
        );
    }

    /// Another limit than the one that is tried, or that limit at another value, proves nothing.
    #[tokio::test]
    async fn only_the_limit_that_is_meant_counts() {
        let [within, past] = runs(growing(), [(1, pages(10)), (100, pages(10))]).await;
        let finding = stopped(&within, &past, Limit::Fuel, 10 * PAGE);
        assert_eq!(finding.verdict, Verdict::Broken);
        let finding = stopped(&within, &past, Limit::Memory, 11 * PAGE);
        assert_eq!(finding.verdict, Verdict::Broken);
    }

    #[tokio::test]
    async fn a_guest_that_never_runs_proves_nothing() {
        let guest = Handmade {
            execute: "unreachable".into(),
            ..Handmade::default()
        };
        let [within, past] = runs(guest, [(1, pages(10)), (100, pages(10))]).await;
        let finding = stopped(&within, &past, Limit::Memory, 10 * PAGE);
        assert_eq!(finding.verdict, Verdict::Unknown);
        let reason = finding.reason.unwrap();
        assert!(
            reason.contains("within the limit: it ended with `failed`"),
            "{reason}"
        );
    }

    #[tokio::test]
    async fn a_guest_that_is_stopped_late_is_noticed() {
        let limits = LimitOverrides {
            wall_time: Some(Duration::from_millis(40)),
            ..Default::default()
        };
        let guest = Handmade {
            execute: format!("(if (local.get 8) (then {SPIN})) i32.const $answer"),
            ..Handmade::default()
        };
        let [within, past] = runs(guest, [(0, limits), (1, limits)]).await;
        let took = past.usage.wall_time;
        let finding = stopped(&within, &past, Limit::WallTime, 40);
        assert_eq!(finding.verdict, Verdict::Holds);
        // As if it had been given 10 ms.
        let given = Duration::from_millis(10);
        let finding = finding.figures(Figures::time(given, took, Duration::ZERO));
        assert_eq!(finding.verdict, Verdict::Broken);
    }

    #[tokio::test]
    async fn what_is_kept_and_dropped_must_be_what_was_said() {
        let [within, past] = runs(growing(), [(1, pages(10)), (2, pages(10))]).await;
        let finding = |sent, kept, dropped| cut(&within, &past, 100, sent, kept, dropped).verdict;
        assert_eq!(finding(1_000, 100, 900), Verdict::Holds);
        assert_eq!(
            finding(1_000, 100, 800),
            Verdict::Broken,
            "not all is counted"
        );
        assert_eq!(
            finding(1_000, 1_000, 0),
            Verdict::Broken,
            "nothing is dropped"
        );
        let kept = Figures::exact(crate::doctor::Unit::Bytes, 100, 101);
        let late = cut(&within, &past, 100, 1_000, 101, 899).figures(kept);
        assert_eq!(late.verdict, Verdict::Broken, "a byte too many is kept");
    }

    #[tokio::test]
    async fn chatter_does_not_end_a_guest() {
        let [within, past] = runs(growing(), [(1, pages(10)), (100, pages(10))]).await;
        let finding = cut(&within, &past, 100, 1_000, 100, 900);
        assert_eq!(finding.verdict, Verdict::Broken);
    }
}
