//! Secrets that a skill uses and never holds: where their values come from, and how every trace of
//! them is taken out of what a skill says and hears.
//!
//! Which secret goes into which request is a [`SecretGrant`].
//! A value is read when the skill runs, and wiped from memory when that has ended.

mod error;
mod form;
mod passage;
mod read;
mod scrub;
mod spelled;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use error::SecretError;
pub(crate) use passage::Passage;
pub(crate) use scrub::Scrubber;
pub use store::SecretStore;

use crate::exhaustion::is_exhausted;
use crate::grant::{Capability, Denial, HttpTarget, Remedy, SecretGrant, check_secret_name};

/// The shortest value, in bytes. What is shorter would be found in text that has nothing to do with
/// it, and is guessed in no time.
pub const MIN_SECRET_BYTES: usize = 8;
/// The longest value, in bytes.
pub const MAX_SECRET_BYTES: usize = 8 << 10;
/// What stands in the place of a value that was taken out.
pub const MARKER: &str = "[secret]";

/// The value of a secret: 8 bytes to 8 KiB of visible ASCII, also with spaces within it. It is wiped from memory when it is
/// dropped, and has no form but that of a header's value: nothing prints or serialises it.
///
/// ```
/// use skillhost::secret::SecretValue;
///
/// let value = SecretValue::new("correct horse battery staple".to_owned())?;
/// assert_eq!(format!("{value:?}"), "SecretValue([secret])");
/// assert!(SecretValue::new("short".to_owned()).is_err());
/// # Ok::<(), skillhost::secret::SecretError>(())
/// ```
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes a value over.
    ///
    /// # Errors
    /// Where it is shorter than 8 bytes, longer than 8 KiB, or has anything but visible ASCII and
    /// inner spaces in it. The error does not repeat it.
    pub fn new(value: impl Into<Zeroizing<String>>) -> Result<Self, SecretError> {
        let value = value.into();
        if value.len() < MIN_SECRET_BYTES {
            return Err(SecretError::TooShort);
        }
        if value.len() > MAX_SECRET_BYTES {
            return Err(SecretError::TooLong);
        }
        let visible = |byte: u8| (b' '..=b'~').contains(&byte);
        if !value.bytes().all(visible) || value.trim().len() != value.len() {
            return Err(SecretError::Characters);
        }
        Ok(SecretValue(value))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({MARKER})")
    }
}

/// Where a secret's value comes from: `env:VARIABLE`, of the host's own environment, or
/// `file:/PATH`, which must be this user's or root's and closed to everybody else.
///
/// ```
/// use skillhost::secret::SecretSource;
///
/// let source: SecretSource = "env:GITHUB_TOKEN".parse()?;
/// assert_eq!(source, SecretSource::Environment("GITHUB_TOKEN".into()));
/// # Ok::<(), skillhost::secret::ParseSourceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum SecretSource {
    /// A variable of the host's environment.
    Environment(String),
    /// A file, by its absolute path. A newline at its end is no part of the value.
    File(PathBuf),
}

/// A text that names no source of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no source of a secret; write env:VARIABLE, or file:/PATH with a whole path")]
pub struct ParseSourceError(String);

impl FromStr for SecretSource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let source = match text.split_once(':') {
            Some(("env", name)) if crate::grant::check_name(name).is_ok() => {
                Some(SecretSource::Environment(name.to_owned()))
            }
            Some(("file", path)) if path.starts_with('/') => Some(SecretSource::File(path.into())),
            _ => None,
        };
        source.ok_or_else(|| {
            // What was typed may be the value itself, by mistake.
            ParseSourceError(match text.split_once(':') {
                Some((kind @ ("env" | "file"), _)) => format!("{kind}:…"),
                _ => "…".into(),
            })
        })
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Environment(name) => write!(f, "env:{name}"),
            SecretSource::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl TryFrom<String> for SecretSource {
    type Error = ParseSourceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretSource> for String {
    fn from(source: SecretSource) -> Self {
        source.to_string()
    }
}

/// Where a host finds secrets. Nowhere, unless it is said.
///
/// ```no_run
/// use skillhost::secret::{SecretSource, SecretStore, Secrets};
///
/// let secrets = Secrets::default()
///     .store(SecretStore::new("/var/lib/agent/secrets"))
///     .source("github", "env:GITHUB_TOKEN".parse()?);
/// let host = skillhost::Host::builder().secrets(secrets).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    kept: Option<SecretStore>,
    named: BTreeMap<String, Source>,
}

/// Where one is found.
#[derive(Debug, Clone)]
enum Source {
    From(SecretSource),
    Here(Arc<SecretValue>),
    Kept(SecretStore),
    Nowhere,
}

impl Secrets {
    /// Looks here for whatever no source is named for.
    #[must_use]
    pub fn store(mut self, store: SecretStore) -> Self {
        self.kept = Some(store);
        self
    }

    /// Takes the secret of this name from there, whatever the policy says.
    #[must_use]
    pub fn source(mut self, name: impl Into<String>, source: SecretSource) -> Self {
        self.named.insert(name.into(), Source::From(source));
        self
    }

    /// Gives the secret of this name a value.
    #[must_use]
    pub fn value(mut self, name: impl Into<String>, value: SecretValue) -> Self {
        let value = Arc::new(value);
        self.named.insert(name.into(), Source::Here(value));
        self
    }

    /// The files that sources of it name.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.named.values().filter_map(|source| match source {
            Source::From(SecretSource::File(path)) => Some(path.as_path()),
            _ => None,
        })
    }

    /// Where the secrets of these grants are. What the policy names goes before what is kept.
    pub(crate) fn wanted(
        &self,
        grants: &[SecretGrant],
        policy: Option<&BTreeMap<String, SecretSource>>,
    ) -> Vec<Wanted> {
        let wanted = |grant: &SecretGrant| Wanted {
            source: self.of(grant.name(), policy),
            grant: grant.clone(),
        };
        grants.iter().map(wanted).collect()
    }

    /// Where the secret of this name is.
    fn of(&self, name: &str, policy: Option<&BTreeMap<String, SecretSource>>) -> Source {
        match self.named.get(name) {
            Some(source) => source.clone(),
            None => match (policy.and_then(|policy| policy.get(name)), &self.kept) {
                (Some(source), _) => Source::From(source.clone()),
                (None, Some(store)) => Source::Kept(store.clone()),
                (None, None) => Source::Nowhere,
            },
        }
    }
}

/// A secret that is granted, not read yet.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    grant: SecretGrant,
    source: Source,
}

/// Why a secret cannot be had.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is not there, or its source is not as it must be.
    Denied(Denial),
    /// The host has no more files, or no more memory, for now.
    Exhausted(String),
}

/// Reads those that are wanted. Blocks on the disk. What cannot be had names paths of the host to the operator alone.
///
/// # Errors
/// The first one that cannot be had.
pub(crate) fn read(wanted: &[Wanted], for_operator: bool) -> Result<Held, Unread> {
    let mut bound: Vec<Bound> = Vec::with_capacity(wanted.len());
    for Wanted { grant, source } in wanted {
        let known = bound
            .iter()
            .find(|other| other.grant.name() == grant.name());
        let value = match known {
            Some(known) => Arc::clone(&known.value),
            None => value(grant.name(), source)
                .map_err(|error| unread(grant.name(), &error, for_operator))?,
        };
        bound.push(Bound {
            grant: grant.clone(),
            value,
        });
    }
    Ok(Held {
        scrubber: Scrubber::new(
            bound
                .iter()
                .map(|bound| (bound.grant.name(), bound.value.as_bytes())),
        ),
        bound,
    })
}

fn value(name: &str, source: &Source) -> Result<Arc<SecretValue>, SecretError> {
    check_secret_name(name).map_err(SecretError::Name)?;
    let value = match source {
        Source::Here(value) => return Ok(Arc::clone(value)),
        Source::From(SecretSource::Environment(variable)) => read::variable(variable)?,
        Source::From(SecretSource::File(path)) => read::file(path)?,
        Source::Kept(store) => store.get(name)?.ok_or(SecretError::NotKept)?,
        Source::Nowhere => return Err(SecretError::NotKept),
    };
    Ok(Arc::new(value))
}

fn unread(name: &str, error: &SecretError, for_operator: bool) -> Unread {
    match error {
        SecretError::Io { source, .. } if is_exhausted(source) => Unread::Exhausted(format!(
            "the secret `{name}` cannot be read at the moment: {source}"
        )),
        _ => Unread::Denied(denied(name, error, for_operator)),
    }
}

fn denied(name: &str, error: &SecretError, for_operator: bool) -> Denial {
    let shown = crate::grant::shell_word(name);
    let (reason, hint) = match error {
        _ if for_operator => (error.to_string(), error.hint(name)),
        SecretError::NotKept => (
            error.to_string(),
            format!("keep its value with `skillhost secrets set {shown}`"),
        ),
        // Where it comes from is no stranger's business.
        _ => {
            tracing::warn!(secret = name, %error, "a secret cannot be read");
            (
                "where it comes from, it cannot be read".to_owned(),
                "the log of the host says why".to_owned(),
            )
        }
    };
    Denial {
        capability: Capability::Secret,
        subject: name.to_owned(),
        reason,
        remedy: Remedy::Operator,
        grant: None,
        hint,
    }
}

/// The secrets of one execution.
#[derive(Debug)]
pub(crate) struct Held {
    bound: Vec<Bound>,
    /// Takes them out of whatever they must not stand in.
    pub scrubber: Scrubber,
}

/// A value, and the requests that it is for.
#[derive(Debug)]
pub(crate) struct Bound {
    pub grant: SecretGrant,
    value: Arc<SecretValue>,
}

/// Bytes that are wiped when the last who holds them lets go.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Held {
    /// Those that go into a request, one for each header.
    pub fn for_request(&self, target: &HttpTarget) -> Vec<&Bound> {
        let mut found: Vec<&Bound> = Vec::new();
        for bound in &self.bound {
            let taken = |other: &&Bound| other.grant.header() == bound.grant.header();
            if bound.grant.requests().allows(target) && !found.iter().any(taken) {
                found.push(bound);
            }
        }
        found
    }
}

impl Bound {
    /// The header's whole value, marked as sensitive.
    pub fn header_value(&self) -> Option<HeaderValue> {
        let prefix = self.grant.prefix();
        let length = prefix.len() + 1 + self.value.as_bytes().len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        if !prefix.is_empty() {
            bytes.extend_from_slice(prefix.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(self.value.as_bytes());
        let bytes = bytes::Bytes::from_owner(Wiped(bytes));
        let mut value = HeaderValue::from_maybe_shared(bytes).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_held_to_its_bounds_and_never_shown() {
        let new = |text: &str| SecretValue::new(text.to_owned());
        assert!(matches!(new("1234567"), Err(SecretError::TooShort)));
        assert!(matches!(new(&"x".repeat(8193)), Err(SecretError::TooLong)));
        for odd in [
            "with\nnewline",
            "umläut-here",
            " leading",
            "trailing ",
            "a\0bcdefgh",
        ] {
            let error = new(odd).unwrap_err();
            assert!(matches!(error, SecretError::Characters), "{error}");
            assert!(!error.to_string().contains(odd));
        }
        let value = new("12345678").unwrap();
        assert!(!format!("{value:?}").contains("1234"));
    }

    #[test]
    fn a_source_that_is_none_does_not_repeat_what_was_typed() {
        for text in [
            "hunter2hunter2",
            "env:",
            "file:relative",
            "env:A=hunter2hunter2",
        ] {
            let error = text.parse::<SecretSource>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let source: SecretSource = "file:/run/secrets/x".parse().unwrap();
        assert_eq!(source.to_string(), "file:/run/secrets/x");
    }

    #[test]
    fn what_is_named_goes_before_the_policy_and_that_before_what_is_kept() {
        let grants = [
            "a=x@https://a.example",
            "b=y@https://a.example",
            "c=z@https://a.example",
        ]
        .map(|text| text.parse().unwrap());
        let policy = [("a", "env:POLICY_A"), ("b", "env:POLICY_B")]
            .map(|(name, source)| (name.to_owned(), source.parse().unwrap()));
        let policy = BTreeMap::from(policy);
        let secrets = Secrets::default()
            .store(SecretStore::new("/nowhere"))
            .source("a", "env:OWN".parse().unwrap());
        let wanted = secrets.wanted(&grants, Some(&policy));
        let sources: Vec<String> = wanted
            .iter()
            .map(|wanted| match &wanted.source {
                Source::From(source) => source.to_string(),
                Source::Kept(_) => "kept".into(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(sources, ["env:OWN", "env:POLICY_B", "kept"]);
        let denied = |result| match result {
            Err(Unread::Denied(denial)) => denial,
            other => panic!("{other:?}"),
        };
        let denial = denied(read(&Secrets::default().wanted(&grants, None), true));
        assert_eq!(denial.subject, "a");
        assert!(
            denial.hint.contains("skillhost secrets set a"),
            "{}",
            denial.hint
        );
        // A path of the host is named where that was wanted.
        let source = SecretSource::File("/nowhere/secret".into());
        for for_operator in [true, false] {
            let secrets = Secrets::default().source("a", source.clone());
            let denial = denied(read(&secrets.wanted(&grants, None), for_operator));
            assert_eq!(
                denial.reason.contains("/nowhere"),
                for_operator,
                "{denial:?}"
            );
            let variable = SecretSource::Environment("NO_SUCH_VARIABLE".into());
            let secrets = Secrets::default().source("a", variable);
            let unset = format!("{:?}", read(&secrets.wanted(&grants, None), for_operator));
            assert_eq!(unset.contains("NO_SUCH_VARIABLE"), for_operator, "{unset}");
            let unkept = read(&Secrets::default().wanted(&grants, None), for_operator);
            let unkept = format!("{unkept:?}");
            assert_eq!(unkept.contains("--secret-from"), for_operator, "{unkept}");
            assert_eq!(denial.remedy, Remedy::Operator);
        }
    }

    /// What others hold for now is no fault of the grant's.
    #[test]
    fn files_that_have_run_out_are_told_from_a_file_that_is_not_there() {
        let error = |source: rustix::io::Errno| SecretError::Io {
            what: "cannot read",
            path: "/srv/secret".into(),
            source: source.into(),
        };
        match unread("a", &error(rustix::io::Errno::MFILE), false) {
            Unread::Exhausted(why) => {
                assert!(why.starts_with("the secret `a` cannot be read at the moment"));
                assert!(!why.contains("/srv"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        let missing = unread("a", &error(rustix::io::Errno::NOENT), false);
        assert!(matches!(missing, Unread::Denied(_)), "{missing:?}");
    }

    #[test]
    fn a_header_value_has_its_prefix_and_is_not_shown() {
        let grants = ["a=authorization:Bearer@https://a.example".parse().unwrap()];
        let value = SecretValue::new("correct-horse".to_owned()).unwrap();
        let held = read(
            &Secrets::default().value("a", value).wanted(&grants, None),
            true,
        )
        .unwrap();
        let to = |url: &str| HttpTarget::new("GET", url).unwrap();
        let bound = held.for_request(&to("https://a.example/x"));
        let header = bound[0].header_value().unwrap();
        assert_eq!(header.as_bytes(), b"Bearer correct-horse");
        assert!(!format!("{header:?} {held:?}").contains("correct-horse"));
        assert!(held.for_request(&to("http://a.example/")).is_empty());
        assert!(held.for_request(&to("https://b.example/")).is_empty());
    }
}
