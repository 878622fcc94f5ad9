//! Secrets that are granted, and are of no use so.

use skillhost::Policy;
use skillhost::grant::{Grants, command, shell_word};
use skillhost::secret::Secrets;

/// What keeps those of `these` that are secrets from being used, each with what to do about it: of a skill of this name,
/// which is granted `all` for good.
pub fn idle(
    name: &str,
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
                found.push((message, error.hint(secret)));
            }
        }
        let requests = grant.requests();
        if !all
            .http
            .iter()
            .any(|http| http.intersection(requests).is_some())
        {
            let message = format!(
                "the secret `{secret}` is granted for `{requests}`, and no such request is: it goes nowhere"
            );
            let hint = format!(
                "grant the requests: `{} --http {}`",
                command("grant", name),
                shell_word(&requests.to_string())
            );
            found.push((message, hint));
        }
    }
    found
}
