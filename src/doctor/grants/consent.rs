//! Consent: what the policy grants to a name is given to a digest.

use serde_json::json;

use super::with_manifest;
use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Trouble, ended};
use crate::doctor::guests;
use crate::doctor::handmade::Handmade;
use crate::execution::ExecutionRequest;
use crate::grant::Capability;
use crate::host::Skill;
use crate::policy::Policy;

/// A name that no other guest has.
const NAME: &str = "doctor-consent";

fn guest(description: &str) -> Handmade {
    let mut guest = super::values::answering_with_variable(guests::environment());
    guest.description.name = NAME.into();
    guest.description.description = description.into();
    guest
}

/// A guest takes the name of another one, to which the policy grants something.
pub async fn stolen_name(ground: &Ground) -> Result<Finding, Trouble> {
    let rightful = ground.load(&guest("The one that was looked at.")).await?;
    let thief = ground.load(&guest("Another one.")).await?;
    given_to(ground, &rightful, &thief).await
}

/// The same component comes with another `skill.toml` than the one that was looked at.
pub async fn changed_declaration(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = guest("The one whose declaration changes.");
    let declaring = |names| format!("[grants]\nenvironment = {names}\n");
    let before = declaring(r#"["DOCTOR"]"#);
    let before = with_manifest(ground, &guest, &before).await?;
    let after = declaring(r#"["DOCTOR", "MORE"]"#);
    let after = with_manifest(ground, &guest, &after).await?;
    given_to(ground, &before, &after).await
}

/// What is given to the one is not given to the other.
async fn given_to(ground: &Ground, rightful: &Skill, other: &Skill) -> Result<Finding, Trouble> {
    let policy = format!(
        "[skills.{NAME}.grants]\nenvironment = {{ DOCTOR = '{}' }}\n\
         [[skills.{NAME}.confirmed]]\ndigest = \"{}\"\n",
        super::values::VALUE,
        rightful.digest()
    );
    let policy: Policy = policy
        .parse()
        .map_err(|error| Trouble::Text(format!("the probe's own policy is refused: {error}")))?;
    let before = ground.host.policy();
    ground.host.set_policy(Some(policy));
    let run = |skill: &Skill| ground.request(ExecutionRequest::new(skill.digest(), json!({})));
    let ends = (run(rightful).await, run(other).await);
    ground
        .host
        .set_policy(before.map(|policy| Policy::clone(&policy)));
    let (granted, stolen) = (ends.0?.result, ends.1?.result);
    if granted.output != Some(json!({"granted": true})) {
        return Ok(Finding::unknown(format!(
            "what was granted did not arrive: {}",
            ended(&granted)
        )));
    }
    let is_refused = stolen.failure.as_ref().is_some_and(|failure| {
        let mut denials = failure.denials.iter();
        denials.any(|denial| denial.capability == Capability::Consent)
    });
    Ok(if is_refused {
        Finding::holds("it was not admitted")
    } else {
        Finding::broken(format!("another digest was admitted: {}", ended(&stolen)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    /// As if the digest of the thief were confirmed.
    #[tokio::test]
    async fn a_thief_that_is_admitted_is_noticed() {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let rightful = ground.load(&guest("The rightful one.")).await.unwrap();
        let thief = ground.load(&guest("The thief.")).await.unwrap();
        let found = given_to(&ground, &thief, &thief).await.unwrap();
        assert_eq!(found.verdict, Verdict::Broken, "{found:?}");
        let found = given_to(&ground, &rightful, &thief).await.unwrap();
        assert_eq!(found.verdict, Verdict::Holds, "{found:?}");
    }
}
