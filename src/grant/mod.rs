//! What a skill may touch: what it declares, what it is granted, and the intersection of the two.
//!
//! Pure data: nothing here opens a file or a connection. Everything that is not granted is denied.

/// A type that travels as its text form, in JSON and TOML alike.
macro_rules! as_text {
    ($type:ty, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

mod address;
mod config;
mod directory;
mod http;
mod network;
mod reproducible;
mod socket;
mod target;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use address::canonical;
pub use address::{AddressGrant, ParseAddressError, not_public};
use as_text;
pub use config::{ConfigKey, ConfigType};
pub use directory::{DeclaredDirectory, DirectoryGrant, Mode, ParseDirectoryError};
pub use reproducible::{Clock, ParseClockError, ParseRandomError, Random};

/// The guest path of the scratch directory.
pub const SCRATCH: &str = "/scratch";
pub use http::{HttpGrant, ParseHttpError};
pub(crate) use network::{address_denied, http_denied, socket_denied};
pub use socket::{ParseSocketError, Protocol, SocketGrant};
pub use target::{HostName, HttpTarget, Scheme, TargetError};

/// What an operator grants for one execution. Empty by default: nothing is granted.
///
/// ```
/// use skillhost::grant::{Grants, Mode};
///
/// let grants = Grants::default()
///     .directory("./reports", "/data", Mode::Ro)
///     .environment("TZ", "UTC")
///     .config("max_rows", "50");
/// assert_eq!(grants.directories[0].guest, "/data");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Directories of the host, under guest paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<DirectoryGrant>,
    /// A directory at [`SCRATCH`] that is empty at first, that nobody else sees, and that is gone
    /// after the execution.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
    /// HTTP requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    /// Sockets, each to one address and port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketGrant>,
    /// Addresses that are not public and that the names in `http` may still resolve to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressGrant>,
    /// Environment variables and their values. Nothing of the host's environment is inherited.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Configuration keys and their values, read by the guest through `wasi:config`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// The clocks. A skill need not declare that it reads them.
    #[serde(skip_serializing_if = "is_default")]
    pub clock: Clock,
    /// The random numbers. A skill need not declare that it draws them.
    #[serde(skip_serializing_if = "is_default")]
    pub random: Random,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Grants {
    /// Adds a directory of the host under a guest path.
    #[must_use]
    pub fn directory(
        mut self,
        host: impl Into<std::path::PathBuf>,
        guest: impl Into<String>,
        mode: Mode,
    ) -> Self {
        self.directories.push(DirectoryGrant {
            host: host.into(),
            guest: guest.into(),
            mode,
        });
        self
    }

    /// Gives a scratch directory.
    #[must_use]
    pub fn scratch(mut self) -> Self {
        self.scratch = true;
        self
    }

    /// Sets the clocks.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random numbers.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Adds HTTP requests.
    #[must_use]
    pub fn http(mut self, grant: HttpGrant) -> Self {
        self.http.push(grant);
        self
    }

    /// Adds a socket.
    #[must_use]
    pub fn socket(mut self, grant: SocketGrant) -> Self {
        self.sockets.push(grant);
        self
    }

    /// Adds addresses that granted names may resolve to though they are not public.
    #[must_use]
    pub fn address(mut self, grant: AddressGrant) -> Self {
        self.addresses.push(grant);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn environment(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(key.into(), value.into());
        self
    }

    /// Adds a configuration key.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }
}

/// What a skill declares that it wants, in its `skill.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// Directories, each a guest path and a mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<DeclaredDirectory>,
    /// A scratch directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
    /// HTTP requests. The host `*` stands for all hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    /// Sockets. `*` stands for every address, or every port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketGrant>,
    /// Names of environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// Configuration keys with their types and defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, ConfigKey>,
}

/// A capability: a kind of thing that can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Capability {
    /// A directory of the host.
    Directory,
    /// A scratch directory.
    Scratch,
    /// An outgoing HTTP request.
    Http,
    /// A socket below HTTP.
    Socket,
    /// An address that is not public, to which a name resolved.
    Address,
    /// An environment variable.
    Environment,
    /// A configuration key.
    Config,
    /// The clocks.
    Clock,
    /// The random numbers.
    Random,
}

impl Capability {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Directory => "directory",
            Capability::Scratch => "scratch",
            Capability::Http => "http",
            Capability::Socket => "socket",
            Capability::Address => "address",
            Capability::Environment => "environment",
            Capability::Config => "config",
            Capability::Clock => "clock",
            Capability::Random => "random",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that was refused, and what would have to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Which capability.
    pub capability: Capability,
    /// What was asked: a guest path, a request, an address, a variable, a key.
    pub subject: String,
    /// Why it was refused.
    pub reason: String,
    /// What would have to change.
    pub hint: String,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.capability, self.subject, self.reason)
    }
}

/// The effective grants: those that are both declared and granted.
///
/// With no declaration (a component without `skill.toml`) the grants hold as they are. A directory
/// gets the narrower of the two modes; configuration keys that are not granted get their declared
/// defaults.
///
/// # Errors
/// Every grant that the skill does not declare or that does not fit its declaration. They are
/// errors rather than ignored, so that a misspelt grant is noticed.
pub fn effective(declared: Option<&Declared>, granted: &Grants) -> Result<Grants, Vec<Denial>> {
    let mut denials = directory::check(granted);
    denials.extend(network::check(granted));
    let Some(declared) = declared else {
        return if denials.is_empty() {
            Ok(granted.clone())
        } else {
            Err(denials)
        };
    };
    let mut effective = Grants {
        scratch: granted.scratch,
        clock: granted.clock,
        random: granted.random,
        ..Grants::default()
    };
    if granted.scratch && !declared.scratch {
        denials.push(Denial {
            capability: Capability::Scratch,
            subject: SCRATCH.into(),
            reason: "granted, but not declared by the skill".into(),
            hint: "leave it out, or add `scratch = true` to `[grants]` in the skill's skill.toml"
                .into(),
        });
    }
    for grant in &granted.directories {
        match directory::narrow(&declared.directories, grant) {
            Ok(grant) => effective.directories.push(grant),
            Err(denial) => denials.push(denial),
        }
    }
    network::narrow(declared, granted, &mut effective, &mut denials);
    for (name, value) in &granted.environment {
        if declared.environment.contains(name) {
            effective.environment.insert(name.clone(), value.clone());
        } else {
            denials.push(undeclared(
                Capability::Environment,
                name,
                declared.environment.iter(),
            ));
        }
    }
    for (key, declaration) in &declared.config {
        if let Some(default) = &declaration.default {
            effective.config.insert(key.clone(), config::text(default));
        }
    }
    for (key, value) in &granted.config {
        match declared.config.get(key) {
            None => denials.push(undeclared(Capability::Config, key, declared.config.keys())),
            Some(declaration) => match declaration.check(value) {
                Ok(()) => {
                    effective.config.insert(key.clone(), value.clone());
                }
                Err(reason) => denials.push(Denial {
                    capability: Capability::Config,
                    subject: key.clone(),
                    reason,
                    hint: format!("give {} a value of type {}", key, declaration.kind.as_str()),
                }),
            },
        }
    }
    if denials.is_empty() {
        Ok(effective)
    } else {
        Err(denials)
    }
}

/// What a skill declares and was not granted. It may run without, and then meets a denial.
pub fn missing(declared: Option<&Declared>, granted: &Grants) -> Vec<Denial> {
    let Some(declared) = declared else {
        return Vec::new();
    };
    let mut missing = directory::missing(&declared.directories, &granted.directories);
    if declared.scratch && !granted.scratch {
        missing.push(Denial {
            capability: Capability::Scratch,
            subject: SCRATCH.into(),
            reason: "declared by the skill and not granted".into(),
            hint: "--scratch".into(),
        });
    }
    missing.extend(network::missing(declared, granted));
    for name in &declared.environment {
        if !granted.environment.contains_key(name) {
            missing.push(Denial {
                capability: Capability::Environment,
                subject: name.clone(),
                reason: "declared by the skill and not granted".into(),
                hint: format!("--env {name}=VALUE"),
            });
        }
    }
    for (key, declaration) in &declared.config {
        if declaration.default.is_none() && !granted.config.contains_key(key) {
            missing.push(Denial {
                capability: Capability::Config,
                subject: key.clone(),
                reason: "declared by the skill without a default, and not granted".into(),
                hint: format!("--config {key}=VALUE"),
            });
        }
    }
    missing
}

/// The exact text that would grant something: as a flag, and as a line of the policy file.
pub(crate) fn hint(flag: &str, key: &str, grant: &str) -> String {
    // Quoted where a shell would take it apart.
    let quote = if grant.contains([' ', '*', '[']) {
        "'"
    } else {
        ""
    };
    format!(
        "grant it for this run with `{flag} {quote}{grant}{quote}`, or for good with \
         `skillhost policy grant NAME {flag} {quote}{grant}{quote}` (in the policy: \
         `{key} = [\"{grant}\"]`)"
    )
}

/// A text as it may stand in a message.
fn quoted(text: &str) -> String {
    crate::text::shortened(&crate::text::printable(text, false), 200).into_owned()
}

fn undeclared<'a>(
    capability: Capability,
    subject: &str,
    declared: impl Iterator<Item = &'a String>,
) -> Denial {
    let declared: Vec<&str> = declared.map(String::as_str).collect();
    let hint = match (
        crate::text::closest(subject, declared.iter().copied()),
        declared.is_empty(),
    ) {
        (Some(close), _) => format!("did you mean `{close}`?"),
        (None, true) => format!("the skill's skill.toml declares no {capability}"),
        (None, false) => format!("the skill declares: {}", declared.join(", ")),
    };
    Denial {
        capability,
        subject: subject.to_owned(),
        reason: "granted, but not declared by the skill".into(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Declared {
        toml::from_str(
            r#"
            environment = ["TZ"]
            directories = [{ path = "/data", mode = "ro" }, { path = "/out", mode = "rw" }]
            [config.max_rows]
            type = "integer"
            default = 10
            "#,
        )
        .unwrap()
    }

    #[test]
    fn nothing_granted_is_nothing_but_defaults() {
        let grants = effective(Some(&declared()), &Grants::default()).unwrap();
        assert_eq!(grants, Grants::default().config("max_rows", "10"));
        assert_eq!(effective(None, &Grants::default()), Ok(Grants::default()));
    }

    #[test]
    fn the_narrower_mode_wins() {
        let granted = Grants::default()
            .directory("/a", "/data", Mode::Rw)
            .directory("/b", "/out", Mode::Ro);
        let grants = effective(Some(&declared()), &granted).unwrap();
        assert_eq!(grants.directories[0].mode, Mode::Ro);
        assert_eq!(grants.directories[1].mode, Mode::Ro);
    }

    #[test]
    fn what_is_not_declared_is_named() {
        let granted = Grants::default()
            .directory("/a", "/dat", Mode::Ro)
            .environment("HOME", "/root")
            .config("max_row", "1");
        let denials = effective(Some(&declared()), &granted).unwrap_err();
        let subjects: Vec<&str> = denials
            .iter()
            .map(|denial| denial.subject.as_str())
            .collect();
        assert_eq!(subjects, ["/dat", "HOME", "max_row"]);
        assert_eq!(denials[2].hint, "did you mean `max_rows`?");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused() {
        let denials = effective(
            Some(&declared()),
            &Grants::default().config("max_rows", "many"),
        )
        .unwrap_err();
        assert!(
            denials[0].reason.contains("integer"),
            "{}",
            denials[0].reason
        );
    }

    #[test]
    fn what_is_missing_comes_with_the_flag_to_add() {
        let missing = missing(
            Some(&declared()),
            &Grants::default().environment("TZ", "UTC"),
        );
        let hints: Vec<&str> = missing.iter().map(|denial| denial.hint.as_str()).collect();
        assert_eq!(hints, ["--dir HOST:/data:ro", "--dir HOST:/out:rw"]);
    }
}
