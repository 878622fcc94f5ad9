//! Secrets that are granted, and are of no use so.

use skillhost::Policy;
use skillhost::grant::{Declared, Grants, HttpGrant, command, shell_word};
use skillhost::secret::{SecretError, Secrets};

use crate::cli::secrets::goes_nowhere;

/// What keeps those of `these` that are secrets from being used, each with what to do about it: of a skill of this name,
/// which declares that and is granted `all` for good.
pub fn idle(
    name: &str,
    declared: &[&Declared],
    these: &Grants,
    all: &Grants,
    policy: &Policy,
    secrets: &Secrets,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for grant in &these.secrets {
        let secret = grant.name();
        if !seen.contains(&secret) {
            seen.push(secret);
            if let Err(error) = secrets.check(secret, Some(&policy.secrets)) {
                let message = format!(
                    "the secret `{secret}` is granted and cannot be had, so that no request is admitted: {error}"
                );
                let hint = match &error {
                    SecretError::NotKept => from_policy(secret),
                    error => error.hint(secret),
                };
                found.push((message, hint));
            }
        }
        if let Some(message) = goes_nowhere(grant, &all.http) {
            let flags: String = proposed(declared, grant.requests())
                .iter()
                .map(|requests| format!(" --http {}", shell_word(requests)))
                .collect();
            let hint = format!("grant the requests: `{}{flags}`", command("grant", name));
            found.push((message, hint));
        }
    }
    found
}

/// How a secret of which nothing is kept is had by whoever goes by the policy.
fn from_policy(secret: &str) -> String {
    format!(
        "keep its value with `skillhost secrets set {}`, or say in the policy where it comes from, under \
         `[secrets]`: `{} = \"env:VARIABLE\"`",
        shell_word(secret),
        toml_edit::Key::new(secret).display_repr()
    )
}

/// What of the requests can be granted: what the skill declares of them, where it declares any.
fn proposed(declared: &[&Declared], requests: &HttpGrant) -> Vec<String> {
    let mut proposed = Vec::new();
    for http in declared.iter().flat_map(|declared| &declared.http) {
        if let Some(both) = http.intersection(requests) {
            let both = both.to_string();
            if !proposed.contains(&both) {
                proposed.push(both);
            }
        }
    }
    if proposed.is_empty() {
        proposed.push(requests.to_string());
    }
    proposed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proposed_is_what_the_skill_declares() {
        let declared = |http: &[&str]| Declared {
            http: http.iter().map(|http| http.parse().unwrap()).collect(),
            ..Declared::default()
        };
        let requests: HttpGrant = "http://127.0.0.1:8799/".parse().unwrap();
        let first = declared(&["GET http://127.0.0.1:8799/", "https://*"]);
        let second = declared(&["GET http://*", "POST http://127.0.0.1:8799/new"]);
        assert_eq!(
            proposed(&[&first, &second], &requests),
            [
                "GET http://127.0.0.1:8799/",
                "POST http://127.0.0.1:8799/new"
            ]
        );
        let other = declared(&["https://a.example"]);
        for declared in [&[][..], &[&other]] {
            assert_eq!(proposed(declared, &requests), ["http://127.0.0.1:8799/"]);
        }
    }

    #[test]
    fn the_line_of_the_policy_can_be_pasted() {
        for secret in ["shop", "shop.key"] {
            let hint = from_policy(secret);
            let line = hint.rsplit('`').nth(1).unwrap();
            let policy: Policy = format!("[secrets]\n{line}\n").parse().unwrap();
            let source = "env:VARIABLE".parse().unwrap();
            assert_eq!(policy.secrets.get(secret), Some(&source), "{hint}");
        }
    }
}
