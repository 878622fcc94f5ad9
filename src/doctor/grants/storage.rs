//! What skills keep: nothing without a grant, nothing of another's, and no more than its quota.

use crate::doctor::check::{Figures, Finding, Unit};
use crate::doctor::ground::{Ground, Trouble, ended, numbered};
use crate::doctor::guests::{NUMBER, answering, calling, number, times};
use crate::doctor::handmade::{Description, Handmade};
use crate::doctor::limits::counted::Climb;
use crate::execution::ExecutionResult;
use crate::grant::{Capability, Grants};
use crate::limits::{Limit, LimitOverrides};

/// `$open` (of a name), `$set` (of a bucket, a key and a value) and `$exists` (of a bucket and a key),
/// each with the address of the outcome last.
fn keyvalue(name: &str) -> Handmade {
    let guest = calling(
        r#"
        (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
            (type $a (variant (case "no-such-store") (case "access-denied") (case "other" string)))
            (export "error" (type $error (eq $a)))
            (export "bucket" (type $bucket (sub resource)))
            (export "open" (func (param "identifier" string)
                (result (result (own $bucket) (error $error)))))
            (export "[method]bucket.set" (func (param "self" (borrow $bucket))
                (param "key" string) (param "value" (list u8))
                (result (result (error $error)))))
            (export "[method]bucket.exists" (func (param "self" (borrow $bucket))
                (param "key" string) (result (result bool (error $error)))))))
        (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
        (core func $set (canon lower (func $store "[method]bucket.set")
            (memory $memory) (realloc $realloc)))
        (core func $exists (canon lower (func $store "[method]bucket.exists")
            (memory $memory) (realloc $realloc)))"#,
        &[
            ("open", "(param i32 i32 i32)"),
            ("set", "(param i32 i32 i32 i32 i32 i32)"),
            ("exists", "(param i32 i32 i32 i32)"),
        ],
    );
    Handmade {
        description: Description {
            name: name.into(),
            ..guest.description
        },
        ..guest
    }
}

/// Sets its key where its number is 1, and says whether it is there: with 10, or with 11. With 1 and up
/// for an error.
fn guest(name: &str) -> Handmade {
    let failed = |at: u32| {
        format!(
            "(if (i32.load8_u (i32.const 64))
                (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const {at}))))))"
        )
    };
    let failed = failed(68);
    let code = format!(
        "(block $done (result i32)
            (i32.store8 (i32.const 128) (i32.const 107))
            (call $open (i32.const 0) (i32.const 0) (i32.const 64))
            {failed}
            (local.set $a (i32.load (i32.const 68)))
            (if (i32.eq {NUMBER} (i32.const 1)) (then
                (call $set (local.get $a) (i32.const 128) (i32.const 1) (i32.const 128)
                    (i32.const 1) (i32.const 64))
                {failed}))
            (call $exists (local.get $a) (i32.const 128) (i32.const 1) (i32.const 64))
            {failed}
            (i32.add (i32.const 10) (i32.load8_u (i32.const 68))))"
    );
    answering(keyvalue(name), &code)
}

pub async fn nothing_granted(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest("storage-a")).await?;
    let granted = numbered(&skill, 1).grants(Grants::default().storage());
    let within = ground.request(granted).await?.result;
    if number(&within) != Some(11) {
        let how = ended(&within);
        return Ok(Finding::unknown(format!(
            "what is granted does not work: {how}"
        )));
    }
    let past = ground.request(numbered(&skill, 2)).await?.result;
    Ok(judge_denied(&past))
}

fn judge_denied(past: &ExecutionResult) -> Finding {
    match number(past) {
        // The second error is `access-denied`.
        Some(2) => Finding::holds("access-denied"),
        _ => Finding::broken(format!("it was not refused: {}", ended(past))),
    }
}

/// The same key, of another skill and of another tenant.
pub async fn another(ground: &Ground) -> Result<Finding, Trouble> {
    let (one, other) = (
        ground.load(&guest("storage-b")).await?,
        ground.load(&guest("storage-c")).await?,
    );
    let request = |skill, number| numbered(skill, number).grants(Grants::default().storage());
    let within = ground.request(request(&one, 1)).await?.result;
    if number(&within) != Some(11) {
        let how = ended(&within);
        return Ok(Finding::unknown(format!(
            "what is granted does not work: {how}"
        )));
    }
    let mut for_another = request(&one, 2);
    for_another.tenant = Some("another".into());
    let of_another = ground.request(request(&other, 2)).await?.result;
    let for_another = ground.request(for_another).await?.result;
    Ok(judge(&[of_another, for_another]))
}

fn judge(results: &[ExecutionResult]) -> Finding {
    for result in results {
        match number(result) {
            Some(10) => {}
            Some(11) => return Finding::broken("it sees what is another's"),
            _ => return Finding::unknown(format!("it could not look: {}", ended(result))),
        }
    }
    Finding::holds("nothing is there")
}

pub async fn undeclared(ground: &Ground) -> Result<Finding, Trouble> {
    super::undeclared(ground, Capability::Storage, Grants::default().storage()).await
}

/// What it keeps is still there in the next run, so all of these keep the same again.
fn climb(name: &str, code: String, limit: Limit, limits: LimitOverrides, allowed: u32) -> Climb {
    Climb {
        guest: Handmade {
            execute: code,
            ..keyvalue(name)
        },
        grants: Grants::default().storage(),
        limits,
        limit,
        allowed: allowed.into(),
        numbers: allowed - 10..=2 * allowed,
    }
}

/// Sets as many keys as its number, each of four letters.
pub async fn keys(ground: &Ground) -> Result<Finding, Trouble> {
    const KEYS: u32 = 50;
    let letter = |at: u32| {
        format!(
            "(i32.store8 (i32.const {}) (i32.add (i32.const 65)
                (i32.and (i32.shr_u (local.get $n) (i32.const {})) (i32.const 15))))",
            128 + at,
            4 * at
        )
    };
    let letters: String = (0..4).map(letter).collect();
    let code = times(&format!(
        "(call $open (i32.const 0) (i32.const 0) (i32.const 64))
        {letters}
        (call $set (i32.load (i32.const 68)) (i32.const 128) (i32.const 4) (i32.const 128)
            (i32.const 1) (i32.const 80))"
    ));
    let limits = LimitOverrides {
        storage_keys: Some(KEYS.into()),
        ..Default::default()
    };
    let climb = climb("storage-keys", code, Limit::StorageKeys, limits, KEYS);
    let count = |limit, reached| Figures::exact(Unit::Count, limit, reached);
    climb.by(ground, |number| number, count).await
}

/// Sets a value of as many bytes as its number, under a key of one.
fn value() -> String {
    format!(
        "(i32.store8 (i32.const 128) (i32.const 107))
        (call $open (i32.const 0) (i32.const 0) (i32.const 64))
        (call $set (i32.load (i32.const 68)) (i32.const 128) (i32.const 1) (i32.const 1024)
            {NUMBER} (i32.const 80))
        i32.const $answer"
    )
}

fn bytes_exactly(limit: u64, reached: u64) -> Figures {
    Figures::exact(Unit::Bytes, limit, reached)
}

pub async fn bytes(ground: &Ground) -> Result<Finding, Trouble> {
    const BYTES: u32 = 1_000;
    let limits = LimitOverrides {
        storage_bytes: Some(BYTES.into()),
        ..Default::default()
    };
    let climb = climb("storage-bytes", value(), Limit::StorageBytes, limits, BYTES);
    climb.by(ground, |number| number + 1, bytes_exactly).await
}

pub async fn value_bytes(ground: &Ground) -> Result<Finding, Trouble> {
    const BYTES: u32 = 1_000;
    let limits = LimitOverrides {
        storage_value_bytes: Some(BYTES.into()),
        ..Default::default()
    };
    let limit = Limit::StorageValueBytes;
    let climb = climb("storage-value", value(), limit, limits, BYTES);
    climb.by(ground, |number| number, bytes_exactly).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    /// As if what is granted to one, or kept by one, were there for another.
    #[tokio::test]
    async fn what_is_there_for_another_is_noticed() {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let skill = ground.load(&guest("storage-there")).await.unwrap();
        let run = async |number, grants| {
            let request = numbered(&skill, number).grants(grants);
            ground.request(request).await.unwrap().result
        };
        let storage = || Grants::default().storage();
        let before = run(2, storage()).await;
        assert_eq!(judge(std::slice::from_ref(&before)).verdict, Verdict::Holds);
        let kept = run(1, storage()).await;
        assert_eq!(judge(&[before, kept]).verdict, Verdict::Broken);
        let there = run(2, storage()).await;
        assert_eq!(judge_denied(&there).verdict, Verdict::Broken);
        assert_eq!(judge(&[there]).verdict, Verdict::Broken);
        let denied = run(2, Grants::default()).await;
        assert_eq!(judge_denied(&denied).verdict, Verdict::Holds);
        assert_eq!(judge(&[denied]).verdict, Verdict::Unknown);
    }
}
