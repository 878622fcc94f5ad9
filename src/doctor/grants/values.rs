//! Environment variables and configuration keys.

use serde_json::json;

use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Trouble, ended};
use crate::doctor::guests;
use crate::doctor::handmade::Handmade;
use crate::execution::{ExecutionRequest, ExecutionResult};
use crate::grant::{Capability, Grants};

/// The value that is granted, which the guest answers with.
pub(super) const VALUE: &str = r#"{"granted":true}"#;

/// Answers with the value of the only variable or key, with `{}` where there is none, and with
/// `{"all":…}` where there are more. `list` is the address of the list.
fn answering_with_value(guest: Handmade, list: u32) -> Handmade {
    Handmade {
        fields: r#"(data (i32.const 128) "{\22all\22:true}")"#.into(),
        execute: format!(
            "(local $count i32) (local $at i32)
            (call $all (i32.const 64))
            (local.set $count (i32.load offset=4 (i32.const {list})))
            (if (i32.gt_u (local.get $count) (i32.const 1)) (then
                (i32.store offset=8 (i32.const $answer) (i32.const 128))
                (i32.store offset=12 (i32.const $answer) (i32.const 12))
                (return (i32.const $answer))))
            (if (local.get $count) (then
                (local.set $at (i32.load (i32.const {list})))
                (i32.store offset=8 (i32.const $answer) (i32.load offset=8 (local.get $at)))
                (i32.store offset=12 (i32.const $answer) (i32.load offset=12 (local.get $at)))))
            i32.const $answer"
        ),
        ..guest
    }
}

/// Answers with the value of the only variable.
pub(super) fn answering_with_variable(guest: Handmade) -> Handmade {
    answering_with_value(guest, 64)
}

/// With nothing granted there is nothing, and with one value there is that one.
async fn exactly(ground: &Ground, guest: Handmade, grants: Grants) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest).await?;
    let request = || ExecutionRequest::new(skill.digest(), json!({}));
    let granted = ground.request(request().grants(grants)).await?.result;
    let nothing = ground.request(request()).await?.result;
    Ok(judge(&granted, &nothing))
}

fn judge(granted: &ExecutionResult, nothing: &ExecutionResult) -> Finding {
    // What the host has of its own may be no JSON.
    let is_empty = |result: &ExecutionResult| result.output == Some(json!({}));
    if !is_empty(nothing) {
        let how = ended(nothing);
        return Finding::broken(format!("with nothing granted, something is there: {how}"));
    }
    if is_empty(granted) {
        return Finding::unknown("what was granted did not arrive");
    }
    match &granted.output {
        Some(output) if *output == json!({"granted": true}) => Finding::holds("nothing is there"),
        _ => Finding::broken(format!(
            "more is there than what was granted: {}",
            ended(granted)
        )),
    }
}

pub async fn environment(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = answering_with_variable(guests::environment());
    let grants = Grants::default().environment("DOCTOR", VALUE);
    exactly(ground, guest, grants).await
}

pub async fn config(ground: &Ground) -> Result<Finding, Trouble> {
    // Behind whether it could be read at all.
    let guest = answering_with_value(guests::config(), 68);
    let grants = Grants::default().config("doctor", VALUE);
    exactly(ground, guest, grants).await
}

pub async fn undeclared_environment(ground: &Ground) -> Result<Finding, Trouble> {
    let grants = Grants::default().environment("DOCTOR", VALUE);
    super::undeclared(ground, Capability::Environment, grants).await
}

pub async fn undeclared_config(ground: &Ground) -> Result<Finding, Trouble> {
    let grants = Grants::default().config("doctor", VALUE);
    super::undeclared(ground, Capability::Config, grants).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    /// What the guest sees of so many variables, judged as if one or none had been granted.
    async fn seen<const N: usize>(variables: [&str; N]) -> ExecutionResult {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let guest = answering_with_variable(guests::environment());
        let skill = ground.load(&guest).await.unwrap();
        let grants = variables
            .into_iter()
            .fold(Grants::default(), |grants, name| {
                grants.environment(name, VALUE)
            });
        let request = ExecutionRequest::new(skill.digest(), json!({})).grants(grants);
        ground.request(request).await.unwrap().result
    }

    #[tokio::test]
    async fn a_leak_is_noticed() {
        let (none, one, two) = (seen([]).await, seen(["A"]).await, seen(["A", "B"]).await);
        assert_eq!(two.output, Some(json!({"all": true})));
        assert_eq!(judge(&one, &none).verdict, Verdict::Holds);
        assert_eq!(judge(&one, &one).verdict, Verdict::Broken);
        assert_eq!(judge(&two, &none).verdict, Verdict::Broken);
        assert_eq!(judge(&none, &none).verdict, Verdict::Unknown);
    }
}
