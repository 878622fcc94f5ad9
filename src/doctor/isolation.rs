//! What keeps a guest to itself: its memory, its instance, and limits wherever its code runs.

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble, ended, met};
use super::guests::{NUMBER, answering, number};
use super::handmade::{Handmade, SPIN};
use crate::execution::{BoxFuture, Cause};
use crate::host::LoadError;
use crate::limits::{Limit, LimitOverrides};

pub(super) const PROBES: &[Probe] = &[
    isolation("memory", "reading past its end", |ground| {
        Box::pin(past_the_end(ground))
    }),
    isolation("memory", "a function as another", |ground| {
        Box::pin(wrong_function(ground))
    }),
    isolation("instance", "finding what it left behind", |ground| {
        Box::pin(fresh(ground))
    }),
    isolation(
        "describe",
        "a loop without end",
        |_| Box::pin(in_describe()),
    ),
    isolation("start", "a loop without end", |_| Box::pin(in_start())),
    isolation("realloc", "a loop without end", |ground| {
        Box::pin(in_realloc(ground))
    }),
    isolation("post_return", "a loop without end", |ground| {
        Box::pin(in_post_return(ground))
    }),
    isolation("destructor", "a loop without end", |ground| {
        Box::pin(in_destructor(ground))
    }),
];

const fn isolation(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Isolation,
        name,
        tried,
        probe,
    }
}

/// A guest that traps where its number is not 0.
async fn trapping(ground: &Ground, guest: Handmade, expected: &str) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest).await?;
    let within = ground.run(&skill, 0, Default::default()).await?.result;
    if within.failure.is_some() {
        let how = ended(&within);
        return Ok(Finding::unknown(format!("the harmless guest: {how}")));
    }
    let past = ground.run(&skill, 1, Default::default()).await?.result;
    Ok(match past.failure.as_ref().map(|failure| &failure.cause) {
        Some(Cause::Trap { trap, .. }) if trap == expected => Finding::holds("trap"),
        _ => Finding::broken(format!("it did not trap: {}", ended(&past))),
    })
}

/// The address and the offset each at their largest: some 8 GiB past the beginning of the memory.
async fn past_the_end(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        execute: format!(
            "(if {NUMBER} (then (drop (i64.load offset=4294967295 (i32.const -1)))))
            i32.const $answer"
        ),
        ..Handmade::default()
    };
    trapping(ground, guest, "memory_out_of_bounds").await
}

/// A function of another type, called by its place in a table.
async fn wrong_function(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        fields: "(type $right (func)) (table $functions 2 2 funcref)
            (elem (table $functions) (i32.const 0) func $one $other)
            (func $one) (func $other (param i64) (result i64) (local.get 0))"
            .into(),
        execute: format!("(call_indirect $functions (type $right) {NUMBER}) i32.const $answer"),
        ..Handmade::default()
    };
    trapping(ground, guest, "bad_signature").await
}

/// It counts its runs in a global and in memory, and answers with the sum.
async fn fresh(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        fields: "(global $runs (mut i32) (i32.const 0))".into(),
        ..Handmade::default()
    };
    let guest = answering(
        guest,
        "(global.set $runs (i32.add (global.get $runs) (i32.const 1)))
        (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1)))
        (i32.store (i32.const 200000)
            (i32.add (i32.load (i32.const 200000)) (i32.const 1)))
        (i32.add (global.get $runs)
            (i32.add (i32.load (i32.const 64)) (i32.load (i32.const 200000))))",
    );
    finds_nothing(ground, &guest).await
}

/// Three traces of each run of its own, and none of another's.
async fn finds_nothing(ground: &Ground, guest: &Handmade) -> Result<Finding, Trouble> {
    let skill = ground.load(guest).await?;
    for _ in 0..20 {
        let result = ground.run(&skill, 1, Default::default()).await?.result;
        match number(&result) {
            Some(3) => {}
            Some(count) => return Ok(Finding::broken(format!("it found {} traces", count - 3))),
            None => return Ok(Finding::unknown(ended(&result))),
        }
    }
    Ok(Finding::holds("a fresh instance"))
}

/// Little fuel to spare, so that a loop soon ends.
const FUEL: u64 = 1_000_000;

/// A guest that computes for ever in a place that no tool's code is in.
async fn out_of_fuel(ground: &Ground, guest: Handmade) -> Result<Finding, Trouble> {
    let limits = LimitOverrides {
        fuel: Some(FUEL),
        ..Default::default()
    };
    let skill = ground.load(&guest).await?;
    let result = ground.run(&skill, 1, limits).await?.result;
    Ok(match met(&result) {
        Some((Limit::Fuel, FUEL)) => Finding::holds("fuel"),
        _ => Finding::broken(format!("its fuel did not stop it: {}", ended(&result))),
    })
}

/// Where it cannot even be loaded, under the limits that hold for that.
async fn in_describe() -> Result<Finding, Trouble> {
    not_loaded(Handmade {
        describe: SPIN.into(),
        ..Handmade::default()
    })
    .await
}

async fn in_start() -> Result<Finding, Trouble> {
    not_loaded(Handmade {
        fields: format!("(func $start {SPIN}) (start $start)"),
        ..Handmade::default()
    })
    .await
}

async fn not_loaded(guest: Handmade) -> Result<Finding, Trouble> {
    // The default limits hold there, and 10,000,000,000 units of fuel take seconds.
    let frugal = crate::Host::builder()
        .concurrency(1)
        .default_limits(crate::Limits {
            fuel: FUEL,
            ..crate::Limits::default()
        })
        .build()?;
    let component = guest.component().map_err(Trouble::Text)?;
    let harmless = Handmade::default().component().map_err(Trouble::Text)?;
    frugal.load_bytes(harmless).await?;
    Ok(match frugal.load_bytes(component).await {
        Err(LoadError::Describe { failure, .. }) => match failure.cause {
            Cause::ResourceExhausted {
                limit: Limit::Fuel, ..
            } => Finding::holds("fuel"),
            _ => Finding::broken(format!("its fuel did not stop it: {}", failure.message)),
        },
        Err(error) => Finding::unknown(error.to_string()),
        Ok(_) => Finding::broken("it was loaded"),
    })
}

async fn in_realloc(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        realloc: SPIN.into(),
        ..Handmade::default()
    };
    out_of_fuel(ground, guest).await
}

async fn in_post_return(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        // `describe` has one, too, and must come back: it has another address.
        post_return: format!("(if (i32.eq (local.get 0) (i32.const $answer)) (then {SPIN}))"),
        ..Handmade::default()
    };
    out_of_fuel(ground, guest).await
}

async fn in_destructor(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        before: format!(
            r#"(core module $d (func (export "drop") (param i32) {SPIN}))
            (core instance $d (instantiate $d))
            (type $r (resource (rep i32) (dtor (core func $d "drop"))))
            (core func $new (canon resource.new $r))
            (core func $drop (canon resource.drop $r))"#
        ),
        with: r#"(with "r" (instance (export "new" (func $new)) (export "drop" (func $drop))))"#
            .into(),
        imports: r#"(import "r" "new" (func $new (param i32) (result i32)))
            (import "r" "drop" (func $drop (param i32)))"#
            .into(),
        execute: "(call $drop (call $new (i32.const 7))) i32.const $answer".into(),
        ..Handmade::default()
    };
    out_of_fuel(ground, guest).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;

    /// Guests that do nothing, and so are not stopped by anything, or that find what nobody left.
    #[tokio::test]
    async fn what_does_not_keep_a_guest_to_itself_is_noticed() {
        let ground = Ground::new(crate::sandbox::Isolation::InProcess, 1, None).unwrap();
        let harmless = Handmade::default;
        let traps = || Handmade {
            execute: "unreachable".into(),
            ..harmless()
        };
        let traps_otherwise = || Handmade {
            execute: format!("(if {NUMBER} (then unreachable)) i32.const $answer"),
            ..harmless()
        };
        let finds = |count: u32| answering(harmless(), &format!("(i32.const {count})"));
        let bounds = "memory_out_of_bounds";
        for (found, verdict) in [
            (trapping(&ground, harmless(), bounds).await, Verdict::Broken),
            (
                trapping(&ground, traps_otherwise(), bounds).await,
                Verdict::Broken,
            ),
            (trapping(&ground, traps(), bounds).await, Verdict::Unknown),
            (finds_nothing(&ground, &finds(4)).await, Verdict::Broken),
            (finds_nothing(&ground, &traps()).await, Verdict::Unknown),
            (out_of_fuel(&ground, harmless()).await, Verdict::Broken),
            (out_of_fuel(&ground, traps()).await, Verdict::Broken),
            (not_loaded(harmless()).await, Verdict::Broken),
        ] {
            let found = found.unwrap();
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }
}
