//! Clocks and random numbers as they are granted, and the scratch directory.

use serde_json::json;

use super::directory;
use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Trouble, ended};
use crate::doctor::guests::{answering, calling, number};
use crate::doctor::handmade::Handmade;
use crate::execution::{ExecutionRequest, ExecutionResult};
use crate::grant::{Capability, Clock, Grants, Random};

/// Answers with 1 where the clock goes on while it computes, and with 0 where it stands still.
fn watching() -> Handmade {
    let guest = calling(
        r#"
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (export "now" (func (result u64)))))
        (core func $now (canon lower (func $clock "now")))"#,
        &[("now", "(result i64)")],
    );
    answering(
        guest,
        "(local $began i64)
        (local.set $began (call $now))
        (loop $more
            (local.set $a (i32.add (local.get $a) (i32.const 1)))
            (br_if $more (i32.and
                (i64.eq (call $now) (local.get $began))
                (i32.lt_u (local.get $a) (i32.const 10000)))))
        (i64.ne (call $now) (local.get $began))",
    )
}

/// Answers with the lowest 6 bits of a random number.
fn drawing() -> Handmade {
    let guest = calling(
        r#"
        (import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-u64" (func (result u64)))))
        (core func $draw (canon lower (func $random "get-random-u64")))"#,
        &[("draw", "(result i64)")],
    );
    answering(
        guest,
        "(i32.and (i32.wrap_i64 (call $draw)) (i32.const 63))",
    )
}

async fn numbers<const N: usize>(
    ground: &Ground,
    guest: &Handmade,
    grants: [Grants; N],
) -> Result<[ExecutionResult; N], Trouble> {
    let skill = ground.load(guest).await?;
    let mut results = Vec::new();
    for grants in grants {
        let request = ExecutionRequest::new(skill.digest(), json!({})).grants(grants);
        results.push(ground.request(request).await?.result);
    }
    results
        .try_into()
        .map_err(|_| Trouble::Text("runs were lost".into()))
}

pub async fn clock(ground: &Ground) -> Result<Finding, Trouble> {
    let still = Clock::Still(chrono::DateTime::UNIX_EPOCH);
    let grants = [Grants::default(), Grants::default().clock(still)];
    let [system, still] = numbers(ground, &watching(), grants).await?;
    Ok(judge_clock(&system, &still))
}

fn judge_clock(system: &ExecutionResult, still: &ExecutionResult) -> Finding {
    match (number(system), number(still)) {
        (Some(1), Some(0)) => Finding::holds("it stands still"),
        (Some(1), _) => Finding::broken(format!("the clock goes on: {}", ended(still))),
        _ => Finding::unknown(format!("the system's clock: {}", ended(system))),
    }
}

pub async fn random(ground: &Ground) -> Result<Finding, Trouble> {
    let seeded = || Grants::default().random(Random::Seed(7));
    draws(ground, [seeded(), seeded()], Grants::default()).await
}

/// Two runs that are to draw the same, and what is granted where each is to draw something else.
async fn draws(ground: &Ground, same: [Grants; 2], system: Grants) -> Result<Finding, Trouble> {
    let [first, second] = numbers(ground, &drawing(), same).await?;
    if number(&first).is_none() {
        let how = ended(&first);
        return Ok(Finding::unknown(format!("nothing was drawn: {how}")));
    }
    if number(&first) != number(&second) {
        return Ok(Finding::broken(
            "two runs with one seed draw different numbers",
        ));
    }
    // That eight draws of 64 are all the same happens once in 4,000,000,000,000 times.
    let drawn = numbers(ground, &drawing(), [(); 8].map(|()| system.clone())).await?;
    Ok(
        if drawn.iter().all(|one| number(one) == number(&drawn[0])) {
            Finding::broken("without a seed each run draws the same")
        } else {
            Finding::holds("the same each time")
        },
    )
}

/// What one run leaves there, the next must not find.
pub async fn scratch(ground: &Ground) -> Result<Finding, Trouble> {
    directory::scratch(ground).await
}

pub async fn undeclared_scratch(ground: &Ground) -> Result<Finding, Trouble> {
    super::undeclared(ground, Capability::Scratch, Grants::default().scratch()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    fn ground() -> Ground {
        Ground::new(Isolation::InProcess, 1, None).unwrap()
    }

    #[tokio::test]
    async fn a_clock_that_goes_on_is_noticed() {
        let still = Grants::default().clock(Clock::Still(chrono::DateTime::UNIX_EPOCH));
        let grants = [Grants::default(), Grants::default(), still];
        let [system, goes_on, still] = numbers(&ground(), &watching(), grants).await.unwrap();
        assert_eq!(judge_clock(&system, &still).verdict, Verdict::Holds);
        assert_eq!(judge_clock(&system, &goes_on).verdict, Verdict::Broken);
        assert_eq!(judge_clock(&still, &still).verdict, Verdict::Unknown);
    }

    #[tokio::test]
    async fn random_numbers_that_are_not_as_granted_are_noticed() {
        let ground = ground();
        let seed = |seed| Grants::default().random(Random::Seed(seed));
        // As if the seed were left out, and as if there always were one.
        for (same, system, reason) in [
            (
                [seed(7), seed(8)],
                Grants::default(),
                "two runs with one seed",
            ),
            ([seed(7), seed(7)], seed(7), "without a seed"),
        ] {
            let found = draws(&ground, same, system).await.unwrap();
            assert_eq!(found.verdict, Verdict::Broken, "{found:?}");
            assert!(found.reason.unwrap().starts_with(reason));
        }
    }
}
