//! Secrets: which one goes into which header of which requests. Its value is nowhere here.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::hint::MAX_SHOWN;
use super::{
    Capability, Declared, Denial, Grants, HttpGrant, HttpTarget, MAX_ENTRIES, Missing, Remedy,
    shell_word, undeclared,
};

/// The longest name of a secret, in bytes.
const MAX_NAME: usize = 64;
/// The longest text before the value, in bytes.
const MAX_PREFIX: usize = 64;

/// Headers that say how a message is sent, or to whom. No secret goes there.
pub(super) const FORBIDDEN: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// A secret that the host puts into a header of certain requests, without the skill ever holding it:
/// `github=authorization:Bearer@https://api.github.com`.
///
/// | part | meaning |
/// | --- | --- |
/// | name | of the secret: letters, digits, `_`, `-` and `.` |
/// | header | which header it goes into |
/// | prefix | what stands before it there, with a space after it; nothing where there is none |
/// | requests | as in an [`HttpGrant`]: inside TLS only, unless the scheme is `http` or `*` |
///
/// It grants no request: for that there is [`Grants::http`].
///
/// ```
/// use skillhost::grant::SecretGrant;
///
/// let grant: SecretGrant = "github=Authorization:Bearer@GET https://api.github.com".parse()?;
/// assert_eq!(grant.name(), "github");
/// assert_eq!(grant.to_string(), "github=authorization:Bearer@GET https://api.github.com/");
/// assert!("github=host@https://api.github.com".parse::<SecretGrant>().is_err());
/// # Ok::<(), skillhost::grant::ParseSecretError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretGrant {
    name: String,
    header: HeaderName,
    prefix: String,
    requests: HttpGrant,
}

/// A text that is no grant of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a grant of a secret: {reason}; write NAME=HEADER[:PREFIX]@[METHODS ]URL, \
     such as `github=authorization:Bearer@https://api.github.com`"
)]
pub struct ParseSecretError {
    text: String,
    reason: String,
}

impl SecretGrant {
    /// The secret's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The header that it goes into, in lower case.
    pub fn header(&self) -> &str {
        self.header.as_str()
    }

    /// The same, as it is put into a request.
    pub(crate) fn header_name(&self) -> &HeaderName {
        &self.header
    }

    /// What stands before the value in the header, without the space between them.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The requests that it goes into.
    pub fn requests(&self) -> &HttpGrant {
        &self.requests
    }

    /// Which secret goes where.
    fn place(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("{}={}", self.name, self.header),
            prefix => format!("{}={}:{prefix}", self.name, self.header),
        }
    }

    /// What both allow.
    fn intersection(&self, other: &SecretGrant) -> Option<SecretGrant> {
        if !self.is_alike(other) {
            return None;
        }
        Some(SecretGrant {
            requests: self.requests.intersection(&other.requests)?,
            ..self.clone()
        })
    }

    /// Whether both put the same into the same header.
    fn is_alike(&self, other: &SecretGrant) -> bool {
        (&self.name, &self.header, &self.prefix) == (&other.name, &other.header, &other.prefix)
    }

    /// Whether a request could be in want of both, and have a place for one.
    fn collides(&self, other: &SecretGrant) -> bool {
        self.header == other.header
            && !self.is_alike(other)
            && self.requests.intersection(&other.requests).is_some()
    }
}

/// Whether a text can be the name of a secret: 1 to 64 letters, digits, `_`, `-` and `.`.
///
/// # Errors
/// What is wrong with it.
pub fn check_secret_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() {
        Err("the name of the secret is empty".into())
    } else if name.len() > MAX_NAME {
        Err(format!(
            "the name of the secret is longer than {MAX_NAME} bytes"
        ))
    } else if !name.bytes().all(allowed) {
        Err("the name of a secret has letters, digits, `_`, `-` and `.` only".into())
    } else {
        Ok(())
    }
}

impl FromStr for SecretGrant {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseSecretError {
            // It may be the value that was written, behind the name or in place of it.
            text: match text.split_once('=') {
                // Behind a value in base64 there may be nothing else.
                Some((name, rest))
                    if check_secret_name(name).is_ok() && !rest.trim_matches('=').is_empty() =>
                {
                    format!("{name}=…")
                }
                _ => "…".to_owned(),
            },
            reason,
        })
    }
}

fn parse(text: &str) -> Result<SecretGrant, String> {
    let Some((name, rest)) = text.split_once('=') else {
        return Err("there is no `=` behind the name".into());
    };
    check_secret_name(name)?;
    let Some((header, requests)) = rest.split_once('@') else {
        return Err("there is no `@` before the requests that it is for".into());
    };
    let (header, prefix) = header.split_once(':').unwrap_or((header, ""));
    let header = HeaderName::from_bytes(header.as_bytes())
        .map_err(|_| "what stands before the `@` is no name of a header".to_owned())?;
    if FORBIDDEN.contains(&header.as_str()) {
        return Err(format!("a secret cannot go into the header `{header}`"));
    }
    let visible = |byte: u8| (b' '..=b'~').contains(&byte);
    if prefix.len() > MAX_PREFIX || !prefix.bytes().all(visible) || prefix.trim() != prefix {
        return Err(format!(
            "what stands before the value is at most {MAX_PREFIX} bytes of visible ASCII"
        ));
    }
    Ok(SecretGrant {
        name: name.to_owned(),
        header,
        prefix: prefix.to_owned(),
        requests: requests.parse().map_err(|error: super::ParseHttpError| {
            // It may still be a part of a value.
            match requests.contains("://") && !requests.contains(' ') {
                true => format!("behind the `@`: {}", error.reason()),
                false => {
                    "behind the `@` there is no scheme, such as `https://`, or no method before it"
                        .to_owned()
                }
            }
        })?,
    })
}

impl fmt::Display for SecretGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.place(), self.requests)
    }
}

super::as_text!(SecretGrant, ParseSecretError, secret);

/// What is granted that cannot be, whatever is declared.
pub(super) fn check(granted: &Grants) -> Vec<Denial> {
    let denial = |subject: String, reason: String, hint: &str| Denial {
        capability: Capability::Secret,
        subject,
        reason,
        remedy: Remedy::Operator,
        grant: None,
        hint: hint.to_owned(),
    };
    let secrets = &granted.secrets;
    let mut denials = Vec::new();
    for (index, grant) in secrets.iter().enumerate() {
        if grant.requests.is_for_all_hosts() {
            denials.push(denial(
                grant.to_string(),
                "the host `*` can be declared, and not granted".into(),
                "name the hosts: a name, `*.name` for all below it, or an address",
            ));
        }
        if let Some(other) = secrets[..index].iter().find(|other| grant.collides(other)) {
            denials.push(denial(
                grant.to_string(),
                format!("for some requests, `{other}` goes into the same header"),
                "grant one of them, or each for its own hosts",
            ));
        }
    }
    if secrets.len() > MAX_ENTRIES {
        denials.push(denial(
            "*".into(),
            format!("more than {MAX_ENTRIES} are granted"),
            "grant fewer",
        ));
    }
    denials
}

/// Adds what is both declared and granted.
pub(super) fn narrow(
    declared: &Declared,
    granted: &Grants,
    effective: &mut Grants,
    denials: &mut Vec<Denial>,
) {
    for grant in &granted.secrets {
        let before = effective.secrets.len();
        let both = super::common(
            &declared.secrets,
            grant,
            |_, _| false,
            SecretGrant::intersection,
        );
        let fits = !both.is_empty();
        for both in both {
            if !effective.secrets[..before].contains(&both) {
                effective.secrets.push(both);
            }
        }
        if !fits {
            let declared: Vec<String> = declared.secrets.iter().map(ToString::to_string).collect();
            denials.push(undeclared(
                Capability::Secret,
                &grant.to_string(),
                declared.iter(),
            ));
        }
    }
}

/// The grant of a secret that is declared so.
fn to_be_granted(wanted: &SecretGrant) -> String {
    format!("{}@{}", wanted.place(), wanted.requests.to_be_granted())
}

/// What is declared and not granted.
pub(super) fn missing(
    skill: &str,
    declared: &Declared,
    granted: &Grants,
    which: &dyn Fn(Missing<'_>) -> bool,
) -> Vec<Denial> {
    declared
        .secrets
        .iter()
        .filter(|wanted| {
            let met = |grant: &SecretGrant| wanted.intersection(grant).is_some();
            !granted.secrets.iter().any(met)
        })
        .filter(|wanted| which(Missing::Secret(wanted)))
        .map(|wanted| {
            let text = to_be_granted(wanted);
            let shown = shell_word(&wanted.name);
            let (subject, reason) = (wanted.name.clone(), "declared by the skill and not granted");
            let capability = Capability::Secret;
            let denial = Denial::lacking(skill, capability, subject, reason.into(), Some(&text));
            let keep = format!("keep its value with `skillhost secrets set {shown}`");
            Denial {
                hint: format!("{keep}, and {}", denial.hint),
                ..denial
            }
        })
        .collect()
}

/// A request in which the skill itself has set the header that a secret goes into.
pub(crate) fn sets_header(grant: &SecretGrant, target: &HttpTarget) -> Denial {
    Denial {
        capability: Capability::Secret,
        subject: grant.name.clone(),
        reason: format!(
            "the skill set the header `{}` itself, in a request to `{}` that the secret goes into",
            grant.header,
            target.host()
        ),
        remedy: Remedy::Operator,
        grant: None,
        hint: "the skill must leave that header to the host; or grant it the secret for other requests only"
            .into(),
    }
}

/// A request in which a skill wants to send the value of a secret.
pub(crate) fn sends_secret(name: &str, target: &HttpTarget) -> Denial {
    // With its port: the secret may be for another one of the same host.
    let host = target.authority().to_string();
    let host = crate::text::shortened(&host, MAX_SHOWN);
    Denial {
        capability: Capability::Secret,
        subject: name.to_owned(),
        reason: format!("the skill wanted to send its value in a request to `{host}`"),
        remedy: Remedy::Skill,
        grant: None,
        hint: "nothing can be granted for that; the host alone puts a secret into a request".into(),
    }
}

/// That the use of a secret must be written down, and cannot be.
pub(crate) fn not_written(grant: &SecretGrant, target: &HttpTarget) -> Denial {
    let host = target.host().to_string();
    let host = crate::text::shortened(&host, MAX_SHOWN);
    Denial {
        capability: Capability::Secret,
        subject: grant.name().to_owned(),
        reason: format!("that it goes to `{host}` must be written down, and cannot be"),
        remedy: Remedy::Operator,
        grant: None,
        hint: "the policy requires an audit: see that its folder can be written".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_of_a_request_says_who_can_change_it() {
        let grant: SecretGrant = "a=authorization:Bearer@https://a.example".parse().unwrap();
        let target = HttpTarget::new("GET", "https://a.example/x").unwrap();
        for (denial, remedy, reason) in [
            (
                sets_header(&grant, &target),
                Remedy::Operator,
                "the skill set the header `authorization` itself",
            ),
            (
                sends_secret("a", &target),
                Remedy::Skill,
                "the skill wanted to send its value",
            ),
            (
                not_written(&grant, &target),
                Remedy::Operator,
                "that it goes to `a.example` must be written down",
            ),
        ] {
            assert_eq!(
                (denial.remedy, &*denial.subject),
                (remedy, "a"),
                "{denial:?}"
            );
            assert!(denial.reason.starts_with(reason), "{denial:?}");
        }
    }

    fn grant(text: &str) -> SecretGrant {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_text_form_goes_both_ways() {
        for (text, plain) in [
            (
                "a=X-Api-Key@https://a.example",
                "a=x-api-key@https://a.example/",
            ),
            (
                "a.b-c_1=authorization:Token token@GET,HEAD http://127.0.0.1:80/x",
                "a.b-c_1=authorization:Token token@GET,HEAD http://127.0.0.1/x",
            ),
        ] {
            assert_eq!(grant(text).to_string(), plain);
            let json = serde_json::to_string(&grant(text)).unwrap();
            assert_eq!(
                serde_json::from_str::<SecretGrant>(&json).unwrap(),
                grant(plain)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("github", "no `=`"),
            ("=authorization@https://a.example", "is empty"),
            ("a b=authorization@https://a.example", "letters, digits"),
            ("a=authorization", "no `@`"),
            ("a=@https://a.example", "no name of a header"),
            ("a=x y@https://a.example", "no name of a header"),
            (
                "a=Host@https://a.example",
                "cannot go into the header `host`",
            ),
            (
                "a=Range@https://a.example",
                "cannot go into the header `range`",
            ),
            ("a=x: Bearer@https://a.example", "visible ASCII"),
            ("a=x:\r\ny@https://a.example", "visible ASCII"),
            ("a=x@a.example", "no scheme"),
            ("a=x@https://user@a.example", "user name"),
        ] {
            let error = text.parse::<SecretGrant>().unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        // What may be a value is not shown.
        for text in [
            "hunter2",
            "a=hunter2",
            "a=b hunter2@c",
            "a=b@hunter2 x",
            "a=b@hunter2 https://c.example",
            "hunter2@x=b",
            "hunter2=",
            "hunter2==",
        ] {
            let error = text.parse::<SecretGrant>().unwrap_err().to_string();
            assert!(!error.to_lowercase().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_narrower_wins_and_what_differs_is_refused() {
        let declared: Declared = toml::from_str(
            r#"secrets = ["a=authorization:Bearer@GET https://*", "b=x-key@https://b.example/api"]"#,
        )
        .unwrap();
        let effective = |text: &str| {
            let granted = Grants::default().secret(grant(text));
            super::super::effective("s", Some(&declared), &granted)
                .map(|grants| grants.secrets.iter().map(ToString::to_string).collect())
                .map_err(|denials| denials.into_iter().map(|denial| denial.reason).collect())
        };
        let both = |texts: &[&str]| -> Result<Vec<String>, Vec<String>> {
            Ok(texts.iter().map(|text| (*text).to_owned()).collect())
        };
        assert_eq!(
            effective("a=authorization:Bearer@https://a.example/x"),
            both(&["a=authorization:Bearer@GET https://a.example/x"])
        );
        assert_eq!(
            effective("b=x-key@https://b.example"),
            both(&["b=x-key@https://b.example/api"])
        );
        for refused in [
            "a=authorization@https://a.example",
            "a=x-key@https://a.example",
            "a=authorization:Bearer@http://a.example",
            "b=x-key@https://c.example",
            "c=x-key@https://b.example",
        ] {
            let reasons: Vec<String> = effective(refused).unwrap_err();
            assert_eq!(
                reasons,
                ["granted, but not declared by the skill"],
                "{refused}"
            );
        }
    }

    #[test]
    fn one_header_takes_one_secret_and_no_grant_is_for_all_hosts() {
        let reasons = |texts: &[&str]| -> Vec<String> {
            let add = |grants: Grants, text: &&str| grants.secret(grant(text));
            let granted = texts.iter().fold(Grants::default(), add);
            check(&granted)
                .into_iter()
                .map(|denial| denial.reason)
                .collect()
        };
        assert!(reasons(&["a=x@https://a.example", "b=x@https://b.example"]).is_empty());
        assert!(reasons(&["a=x@https://a.example", "b=y@https://a.example"]).is_empty());
        assert!(reasons(&["a=x@https://a.example", "a=x@https://*.example.com"]).is_empty());
        let both = reasons(&["a=x@https://*.a.example", "b=x@https://b.a.example/y"]);
        assert!(both[0].contains("the same header"), "{both:?}");
        assert!(reasons(&["a=x@https://*"])[0].contains("can be declared"));
    }

    #[test]
    fn what_is_missing_says_what_to_add() {
        let declared: Declared =
            toml::from_str(r#"secrets = ["a=authorization:Bearer@https://*"]"#).unwrap();
        let missing = missing("s", &declared, &Grants::default(), &|_| true);
        assert!(missing[0].hint.contains("`skillhost secrets set a`"));
        assert!(
            missing[0]
                .hint
                .contains("`--secret 'a=authorization:Bearer@https://<HOST>/'`"),
            "{missing:?}"
        );
        let granted = Grants::default().secret(grant("a=authorization:Bearer@https://a.example"));
        assert_eq!(super::missing("s", &declared, &granted, &|_| true), []);
    }
}
