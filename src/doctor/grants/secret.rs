//! Secrets: the host puts one into the requests that it is for, and takes it out of all that a skill
//! says.

use serde_json::json;

use super::values::answering_with_variable;
use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Trouble, ended, numbered};
use crate::doctor::guests::{self, number};
use crate::doctor::http::{Server, guest};
use crate::doctor::limits::network::{asking, no_server};
use crate::execution::{ExecutionRequest, ExecutionResult};
use crate::grant::{Capability, Grants, SecretGrant};
use crate::secret::{MARKER, SecretValue, Secrets};

/// The name of the only secret here, and its value.
const NAME: &str = "doctor";
const VALUE: &str = "doctor-secret-value";

/// The secret, for the host that is tried.
pub(in crate::doctor) fn secrets() -> Secrets {
    match SecretValue::new(VALUE.to_owned()) {
        Ok(value) => Secrets::default().value(NAME, value),
        Err(_) => Secrets::default(),
    }
}

/// The secret in a header, for this server.
fn bound(to: impl std::fmt::Display) -> Option<SecretGrant> {
    format!("{NAME}=x-doctor:Bearer@http://{to}").parse().ok()
}

/// The guest's server gets the secret where it is for that server, and not where it is for another.
pub async fn another_host(ground: &Ground) -> Result<Finding, Trouble> {
    match Server::start() {
        Ok(server) => sent_to(ground, &server, bound("192.0.2.1")).await,
        Err(error) => Ok(no_server(&error)),
    }
}

async fn sent_to(
    ground: &Ground,
    server: &Server,
    other: Option<SecretGrant>,
) -> Result<Finding, Trouble> {
    let (Some(grants), Some(own), Some(other)) =
        (asking(server.address), bound(server.address), other)
    else {
        return Ok(Finding::unknown(
            "the server's address is none to be granted",
        ));
    };
    let skill = ground.load(&guest(&server.address.to_string())).await?;
    let request = |secret| numbered(&skill, 4).grants(grants.clone().secret(secret));
    let within = ground.request(request(own)).await?.result;
    let sent = format!("x-doctor: Bearer {VALUE}\r\n");
    if number(&within) != Some(0) || !server.heard(&sent) {
        let how = ended(&within);
        return Ok(Finding::unknown(format!(
            "what is granted did not arrive: {how}"
        )));
    }
    let past = ground.request(request(other)).await?.result;
    Ok(match number(&past) {
        _ if server.heard(VALUE) => Finding::broken("it reached another host"),
        Some(0) => Finding::holds("sent without"),
        _ => Finding::unknown(format!("the second request: {}", ended(&past))),
    })
}

/// The guest has the value from elsewhere, and answers with it.
pub async fn printed(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground
        .load(&answering_with_variable(guests::environment()))
        .await?;
    let Some(secret) = bound("192.0.2.1") else {
        return Ok(Finding::unknown("the grant is none"));
    };
    let leak = json!({ "leak": VALUE });
    let grants = Grants::default().environment("DOCTOR", leak.to_string());
    let request = |grants| ExecutionRequest::new(skill.digest(), json!({})).grants(grants);
    let without = ground.request(request(grants.clone())).await?.result;
    if without.output != Some(leak) {
        let how = ended(&without);
        return Ok(Finding::unknown(format!("the guest said nothing: {how}")));
    }
    let with = ground.request(request(grants.secret(secret))).await?.result;
    Ok(judge(&with))
}

fn judge(result: &ExecutionResult) -> Finding {
    match &result.output {
        Some(output) if *output == json!({ "leak": MARKER }) => Finding::holds("taken out"),
        Some(_) => Finding::broken("the value is in the answer"),
        None => Finding::broken(format!("it was not taken out: {}", ended(result))),
    }
}

pub async fn undeclared(ground: &Ground) -> Result<Finding, Trouble> {
    let grants = match bound("192.0.2.1") {
        Some(secret) => Grants::default().secret(secret),
        None => Grants::default(),
    };
    super::undeclared(ground, Capability::Secret, grants).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    fn ground() -> Ground {
        Ground::new(Isolation::InProcess, 1, None).unwrap()
    }

    /// As if it were sent to whichever server the guest asks.
    #[tokio::test]
    async fn a_secret_that_goes_elsewhere_is_noticed() {
        let server = Server::start().unwrap();
        let own = bound(server.address);
        let found = sent_to(&ground(), &server, own).await.unwrap();
        assert_eq!(found.verdict, Verdict::Broken, "{found:?}");
        assert_eq!(found.reason.as_deref(), Some("it reached another host"));
    }

    /// As if the host searched for another value than the guest has, or did not search.
    #[tokio::test]
    async fn a_secret_that_is_said_is_noticed() {
        let ground = ground();
        let guest = answering_with_variable(guests::environment());
        let skill = ground.load(&guest).await.unwrap();
        let secret = || Grants::default().secret(bound("192.0.2.1").unwrap());
        for (grants, leak, verdict) in [
            (secret(), VALUE, Verdict::Holds),
            (secret(), "another-secret-value", Verdict::Broken),
            (Grants::default(), VALUE, Verdict::Broken),
        ] {
            let grants = grants.environment("DOCTOR", json!({ "leak": leak }).to_string());
            let request = ExecutionRequest::new(skill.digest(), json!({})).grants(grants);
            let found = judge(&ground.request(request).await.unwrap().result);
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }
}
