//! What the policy grants, and to which digests.

use std::fs;

use serde_json::{Value, json};
use skillhost::execution::Rejection;
use skillhost::grant::{Capability, Grants};
use skillhost::policy::{Confirmation, Consent, SkillPolicy};
use skillhost::skill::Package;
use skillhost::{Cause, ExecutionRequest, ExecutionResult, Host, Policy, Skill, Status};

use crate::harness::{behaviours_path, builder, cause, execute, output};

const MANIFEST: &str = r#"
    grants.environment = ["TZ", "LANG"]
    [config.rows]
    type = "integer"
    default = 10
"#;

/// The behaviours with a `skill.toml`, or as a lone component.
async fn load(host: &Host, manifest: Option<&str>) -> Skill {
    let component = fs::read(behaviours_path()).unwrap();
    let package = Package::from_parts(component, manifest.map(Into::into), None).unwrap();
    host.load_package(package).await.unwrap()
}

/// A policy with grants for the behaviours, given to these.
fn policy(grants: Grants, confirmed: &[&Skill]) -> Policy {
    let mut entry = SkillPolicy::default();
    entry.grants = grants;
    for skill in confirmed {
        entry.confirm(Confirmation {
            digest: skill.digest(),
            version: None,
            at: None,
            wanted: Some(skill.wants()),
        });
    }
    let mut policy = Policy::default();
    policy.skills.insert("behaviours".into(), entry);
    policy
}

async fn run(host: &Host, skill: &Skill, grants: Grants) -> ExecutionResult {
    let request = ExecutionRequest::new(skill.digest(), json!({}))
        .tool("environment")
        .grants(grants);
    let admission = host.can_execute(&request);
    let result = execute(host, request).await;
    assert_eq!(admission.refusal, result.failure);
    result
}

fn variables(result: &ExecutionResult) -> &Value {
    &output(result)["variables"]
}

#[tokio::test]
async fn what_the_policy_grants_holds_and_can_be_replaced() {
    let host = builder().build().unwrap();
    let skill = load(&host, Some(MANIFEST)).await;
    let none = Grants::default();
    assert_eq!(
        variables(&run(&host, &skill, none.clone()).await),
        &json!([])
    );

    let granted = Grants::default()
        .environment("TZ", "UTC")
        .environment("LANG", "C");
    host.set_policy(Some(policy(granted.clone(), &[&skill])));
    let result = run(&host, &skill, none.clone()).await;
    assert_eq!(variables(&result), &json!([["LANG", "C"], ["TZ", "UTC"]]));
    let over = Grants::default().environment("TZ", "CET");
    let result = run(&host, &skill, over.clone()).await;
    assert_eq!(variables(&result), &json!([["LANG", "C"], ["TZ", "CET"]]));

    let request = ExecutionRequest::new(skill.digest(), json!({})).tool("environment");
    let admission = host.can_execute(&request.grants(over));
    assert_eq!(
        admission.from_policy,
        Grants::default().environment("LANG", "C")
    );
    assert_eq!(admission.grants.config["rows"], "10");
    assert!(admission.missing.is_empty(), "{:?}", admission.missing);

    host.set_policy(None);
    assert_eq!(
        variables(&run(&host, &skill, none.clone()).await),
        &json!([])
    );
    let built = builder()
        .policy(policy(granted, &[&skill]))
        .build()
        .unwrap();
    let skill = load(&built, Some(MANIFEST)).await;
    let result = run(&built, &skill, none).await;
    assert_eq!(variables(&result), &json!([["LANG", "C"], ["TZ", "UTC"]]));
}

/// A skill says its name itself, and a manifest that asks for more makes another digest: neither
/// gets what was given to what the operator looked at.
#[tokio::test]
async fn another_digest_gets_nothing_and_does_not_run() {
    let host = builder().build().unwrap();
    let skill = load(&host, Some(MANIFEST)).await;
    let more = load(
        &host,
        Some("grants.environment = [\"TZ\", \"LANG\", \"SECRET\"]"),
    )
    .await;
    let lone = load(&host, None).await;
    let granted = Grants::default().environment("TZ", "UTC");
    host.set_policy(Some(policy(granted.clone(), &[&skill])));
    for other in [&more, &lone] {
        assert_eq!(other.identity().name, skill.identity().name);
        for requested in [Grants::default(), granted.clone()] {
            let result = run(&host, other, requested).await;
            assert_eq!(result.status, Status::Rejected);
            assert!(matches!(
                cause(&result),
                Cause::Rejected {
                    reason: Rejection::Grant,
                    ..
                }
            ));
            let failure = result.failure.as_ref().unwrap();
            assert_eq!(failure.denials.len(), 1);
            assert_eq!(failure.denials[0].capability, Capability::Consent);
            let hint = failure.hint.as_deref().unwrap();
            assert!(
                hint.contains("`skillhost policy diff behaviours`"),
                "{hint}"
            );
            assert!(
                hint.contains("`skillhost policy confirm behaviours`"),
                "{hint}"
            );
            assert_eq!(result.usage.fuel, 0);
        }
    }
    let result = run(&host, &more, Grants::default()).await;
    let message = &result.failure.as_ref().unwrap().message;
    assert!(message.contains("added environment SECRET"), "{message}");

    // Both side by side, once both are confirmed.
    host.set_policy(Some(policy(granted, &[&skill, &more])));
    for one in [&skill, &more] {
        let result = run(&host, one, Grants::default()).await;
        assert_eq!(variables(&result), &json!([["TZ", "UTC"]]));
    }
    let policy = host.policy().unwrap();
    assert_eq!(
        policy.consent("behaviours", &lone.digest()),
        Consent::Missing
    );
}

#[tokio::test]
async fn a_policy_without_grants_for_a_skill_changes_nothing_for_it() {
    let host = builder().build().unwrap();
    let skill = load(&host, Some(MANIFEST)).await;
    host.set_policy(Some(policy(Grants::default(), &[])));
    let result = run(&host, &skill, Grants::default().environment("TZ", "UTC")).await;
    assert_eq!(variables(&result), &json!([["TZ", "UTC"]]));
}

#[tokio::test]
async fn a_policy_grant_that_no_version_declares_is_an_error() {
    let host = builder().build().unwrap();
    let skill = load(&host, Some(MANIFEST)).await;
    let misspelt = Grants::default().environment("TX", "UTC");
    host.set_policy(Some(policy(misspelt, &[&skill])));
    let result = run(&host, &skill, Grants::default()).await;
    let failure = result.failure.as_ref().unwrap();
    assert!(
        failure
            .message
            .contains("in the policy: granted, but not declared")
    );
    let hint = failure.hint.as_deref().unwrap();
    assert!(
        hint.contains("`skillhost policy revoke behaviours TX`"),
        "{hint}"
    );
}

#[tokio::test]
async fn a_key_that_is_required_is_asked_for_before_anything_runs() {
    let host = builder().build().unwrap();
    let manifest = "[config.token]\ntype = \"string\"\nrequired = true";
    let skill = load(&host, Some(manifest)).await;
    let result = run(&host, &skill, Grants::default()).await;
    assert_eq!(result.status, Status::Rejected);
    let failure = result.failure.as_ref().unwrap();
    assert_eq!(failure.denials[0].subject, "token");
    assert!(
        failure
            .hint
            .as_deref()
            .unwrap()
            .contains("`--config 'token=<VALUE>'`")
    );
    let result = run(&host, &skill, Grants::default().config("token", "x")).await;
    assert_eq!(result.status, Status::Success);
}

#[tokio::test]
async fn what_no_environment_can_hold_is_refused() {
    let host = builder().build().unwrap();
    let lone = load(&host, None).await;
    let declared = load(&host, Some("grants.environment = [\"A\"]")).await;
    for (skill, name, value) in [
        (&lone, "A=B", "x".to_owned()),
        (&lone, "", "x".to_owned()),
        (&lone, "A\0", "x".to_owned()),
        (&lone, "A", "x\0y".to_owned()),
        (&declared, "A", "x".repeat(1 << 20)),
    ] {
        let result = run(&host, skill, Grants::default().environment(name, value)).await;
        assert_eq!(result.status, Status::Rejected, "{name:?}");
        let failure = result.failure.as_ref().unwrap();
        assert_eq!(failure.denials[0].capability, Capability::Environment);
        assert!(!failure.message.contains('\0'));
    }
}
