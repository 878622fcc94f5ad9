//! What a skill may touch: what it declares, what it is granted, and the intersection of the two.
//!
//! Pure data: nothing here opens a file or a connection. Everything that is not granted is denied.

/// A type that travels as its text form, in JSON and TOML alike.
macro_rules! as_text {
    ($type:ty, $error:ty, $schema:ident) => {
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

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::grant::pattern::$schema()
            }
        }
    };
}

mod address;
mod asker;
mod config;
mod denial;
mod directory;
mod hint;
mod http;
mod names;
mod network;
mod pairs;
#[cfg(feature = "schema")]
pub(crate) mod pattern;
mod readings;
mod reproducible;
mod secret;
mod socket;
mod sought;
mod target;
mod values;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use address::canonical;
pub use address::{AddressGrant, ParseAddressError, not_public};
use as_text;
pub(crate) use asker::{Asker, Ended, says_plainly};
pub use config::{ConfigKey, ConfigType};
use denial::undeclared;
pub use denial::{Capability, Denial, Remedy};
pub(crate) use denial::{first_of, no_storage};
pub use directory::{DeclaredDirectory, DirectoryGrant, Mode, ParseDirectoryError, leads_out};
pub use secret::{ParseSecretError, SecretGrant, check_secret_name};
pub(crate) use secret::{not_written, sends_secret, sets_header};

pub use reproducible::{Clock, ParseClockError, ParseRandomError, Random};

pub use hint::{command, for_good, for_this_run, shell_word, to_grant};
pub use http::{HttpGrant, ParseHttpError};
pub use names::{GrantNames, by_flag};
pub(crate) use network::host_left_alone;
pub use socket::{ParseSocketError, Protocol, SocketGrant};
pub(crate) use sought::{Sought, names};
pub use target::{HostName, HttpTarget, Scheme, TargetError};
pub use values::{
    MAX_ENTRIES, MAX_NAME_BYTES, MAX_TOTAL_BYTES, MAX_VALUE_BYTES, check_name, check_value,
};

/// The guest path of the scratch directory.
pub const SCRATCH: &str = "/scratch";

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
///
/// In JSON and TOML a directory is a table or the text of `--dir`, and the environment and the
/// configuration are tables or lists of texts `NAME=VALUE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "pairs::read"
    )]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pairs::schema"))]
    pub environment: BTreeMap<String, String>,
    /// Configuration keys and their values, read by the guest through `wasi:config`.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "pairs::read"
    )]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pairs::schema"))]
    pub config: BTreeMap<String, String>,
    /// Secrets, each for certain requests and one header of theirs. Only their names: the values
    /// stay with the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretGrant>,
    /// Storage: keys and values that are there again the next time, for each skill and tenant.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub storage: bool,
    /// The clocks, where it is said which; else the system's. A skill need not declare that it reads them.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[cfg_attr(feature = "schema", schemars(with = "Clock"))]
    pub clock: Option<Clock>,
    /// The random numbers, where it is said which; else the system's. A skill need not declare that it draws
    /// them.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[cfg_attr(feature = "schema", schemars(with = "Random"))]
    pub random: Option<Random>,
}

/// Nothing. It is there rather than made, as it is what most executions are granted.
pub(crate) static NO_GRANTS: Grants = Grants {
    directories: Vec::new(),
    scratch: false,
    http: Vec::new(),
    sockets: Vec::new(),
    addresses: Vec::new(),
    environment: BTreeMap::new(),
    config: BTreeMap::new(),
    secrets: Vec::new(),
    storage: false,
    clock: None,
    random: None,
};

/// What is there must be of the type: nothing stands for none.
fn said<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
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
        self.clock = Some(clock);
        self
    }

    /// Sets the source of random numbers.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
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

    /// Adds a secret, for certain requests and one header of theirs.
    #[must_use]
    pub fn secret(mut self, grant: SecretGrant) -> Self {
        self.secrets.push(grant);
        self
    }

    /// Gives storage.
    #[must_use]
    pub fn storage(mut self) -> Self {
        self.storage = true;
        self
    }

    /// Whether nothing is granted. The system's clocks and random numbers are what every skill has.
    pub fn is_empty(&self) -> bool {
        if self.clock.is_none() && self.random.is_none() {
            return *self == NO_GRANTS;
        }
        let are_the_systems = self.clock.unwrap_or_default() == Clock::System
            && self.random.unwrap_or_default() == Random::System;
        let others = || Grants {
            clock: None,
            random: None,
            ..self.clone()
        };
        are_the_systems && others() == NO_GRANTS
    }

    /// These grants and others. Of two for the same guest path, variable or key, the other holds,
    /// in this one's place; so do the other's clocks and random numbers, where it is said which.
    #[must_use]
    pub fn with(mut self, over: &Grants) -> Self {
        fn add<T: Clone + PartialEq>(all: &mut Vec<T>, more: &[T]) {
            for one in more {
                if !all.contains(one) {
                    all.push(one.clone());
                }
            }
        }
        let mut own = vec![true; self.directories.len()];
        for grant in &over.directories {
            let mut all = self.directories.iter_mut().zip(&mut own);
            match all.find(|(other, own)| **own && other.same_path(grant)) {
                Some((place, own)) => (*place, *own) = (grant.clone(), false),
                // Also where it comes twice: that the two cannot both hold is for whoever checks them.
                None => self.directories.push(grant.clone()),
            }
        }
        self.scratch |= over.scratch;
        self.storage |= over.storage;
        add(&mut self.http, &over.http);
        add(&mut self.sockets, &over.sockets);
        add(&mut self.addresses, &over.addresses);
        add(&mut self.secrets, &over.secrets);
        self.environment.extend(over.environment.clone());
        self.config.extend(over.config.clone());
        self.clock = over.clock.or(self.clock);
        self.random = over.random.or(self.random);
        self
    }

    /// Those of these grants that [`with`](Grants::with) keeps and that the others do not hold
    /// themselves.
    #[must_use]
    pub fn except(mut self, over: &Grants) -> Self {
        self.directories
            .retain(|grant| !over.directories.iter().any(|other| grant.same_path(other)));
        self.scratch &= !over.scratch;
        self.storage &= !over.storage;
        self.http.retain(|grant| !over.http.contains(grant));
        self.sockets.retain(|grant| !over.sockets.contains(grant));
        self.addresses
            .retain(|grant| !over.addresses.contains(grant));
        self.secrets.retain(|grant| !over.secrets.contains(grant));
        self.environment
            .retain(|name, _| !over.environment.contains_key(name));
        self.config.retain(|key, _| !over.config.contains_key(key));
        self.clock = self.clock.filter(|_| over.clock.is_none());
        self.random = self.random.filter(|_| over.random.is_none());
        self
    }
}

/// What a skill declares that it wants, in its `skill.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Directories, each a guest path and a mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<DeclaredDirectory>,
    /// A scratch directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
    /// Storage: keys and values that are there again the next time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub storage: bool,
    /// HTTP requests. The host `*` stands for all hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    /// Sockets. `*` stands for every address, or every port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketGrant>,
    /// Names of environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// Secrets, each for certain requests and one header of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretGrant>,
    /// Configuration keys with their types and defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, ConfigKey>,
}

impl Declared {
    /// Leaves out what only a person reads.
    pub(crate) fn forget_descriptions(&mut self) {
        for directory in &mut self.directories {
            directory.description = None;
        }
        for key in self.config.values_mut() {
            key.description = None;
        }
    }
}

/// The effective grants: those that are both declared and granted. `skill` is its name, for hints.
///
/// With no declaration (a component without `skill.toml`) the grants hold as they are. A directory
/// gets the narrower of the two modes; configuration keys that are not granted get their declared
/// defaults.
///
/// # Errors
/// Every grant that the skill does not declare or that does not fit its declaration, and every
/// configuration key that it requires and that has no value. They are errors rather than ignored,
/// so that a misspelt grant is noticed.
pub fn effective(
    skill: &str,
    declared: Option<&Declared>,
    granted: &Grants,
) -> Result<Grants, Vec<Denial>> {
    let (mut effective, mut denials) = intersection(declared, granted);
    for (key, declaration) in declared.iter().flat_map(|declared| &declared.config) {
        if effective.config.contains_key(key) {
            continue;
        }
        if let Some(default) = &declaration.default {
            effective.config.insert(key.clone(), config::text(default));
        } else if declaration.required && !granted.config.contains_key(key) {
            denials.push(config::missing(skill, key, declaration));
        }
    }
    if denials.is_empty() {
        Ok(effective)
    } else {
        Err(denials)
    }
}

/// What is both declared and granted, without defaults, and what is granted and cannot be.
pub fn intersection(declared: Option<&Declared>, granted: &Grants) -> (Grants, Vec<Denial>) {
    let mut denials = directory::check(granted);
    denials.extend(values::check(granted));
    denials.extend(network::check(granted));
    denials.extend(secret::check(granted));
    let Some(declared) = declared else {
        return (granted.clone(), denials);
    };
    let mut effective = Grants {
        scratch: granted.scratch && declared.scratch,
        storage: granted.storage && declared.storage,
        clock: granted.clock,
        random: granted.random,
        ..Grants::default()
    };
    if granted.scratch && !declared.scratch {
        denials.push(Denial {
            capability: Capability::Scratch,
            subject: SCRATCH.into(),
            reason: "granted, but not declared by the skill".into(),
            remedy: Remedy::Operator,
            grant: None,
            hint: "leave it out, or add `scratch = true` to `[grants]` in the skill's skill.toml"
                .into(),
        });
    }
    if granted.storage && !declared.storage {
        denials.push(Denial {
            capability: Capability::Storage,
            subject: "storage".into(),
            reason: "granted, but not declared by the skill".into(),
            remedy: Remedy::Operator,
            grant: None,
            hint: "leave it out, or add `storage = true` to `[grants]` in the skill's skill.toml"
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
    secret::narrow(declared, granted, &mut effective, &mut denials);
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
                    remedy: Remedy::Operator,
                    grant: None,
                    hint: format!(
                        "give `{}` a value of type {}",
                        quoted(key),
                        match declaration.kind {
                            ConfigType::Boolean => "boolean: true or false",
                            kind => kind.as_str(),
                        }
                    ),
                }),
            },
        }
    }
    (effective, denials)
}

/// What a grant has in common with all that is declared. Where one declaration has all of it, what the others have is
/// a part of that: what was narrowed once is not taken apart further, as nested declarations would be, each with each.
fn common<G: PartialEq + Clone>(
    declared: &[G],
    grant: &G,
    covers: impl Fn(&G, &G) -> bool,
    intersection: impl Fn(&G, &G) -> Option<G>,
) -> Vec<G> {
    if declared.iter().any(|wanted| covers(wanted, grant)) {
        return vec![grant.clone()];
    }
    let mut common = Vec::new();
    for wanted in declared {
        match intersection(wanted, grant) {
            Some(both) if both == *grant => return vec![both],
            Some(both) => common.push(both),
            None => {}
        }
    }
    common
}

/// What a skill declares and was not granted. It may run without, and then meets a denial. `skill`
/// is its name, for hints.
pub fn missing(skill: &str, declared: Option<&Declared>, granted: &Grants) -> Vec<Denial> {
    missing_if(skill, declared, granted, &|_| true)
}

/// Something that is missing, as far as it takes to say whether a skill looked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Missing<'a> {
    /// A directory, or a scratch directory.
    Directory,
    /// A variable.
    Environment(&'a str),
    /// A key.
    Config(&'a str),
    /// A secret.
    Secret(&'a SecretGrant),
    /// What a skill is told where it asks for it: requests, sockets and storage.
    Told,
}

/// Of what is [missing], that of which this is so. No more is made than that: a skill may declare hundreds.
pub(crate) fn missing_if(
    skill: &str,
    declared: Option<&Declared>,
    granted: &Grants,
    which: &dyn Fn(Missing<'_>) -> bool,
) -> Vec<Denial> {
    let Some(declared) = declared else {
        return Vec::new();
    };
    let lacking = |capability, subject: &str, text: Option<&str>| {
        let reason = "declared by the skill and not granted".to_owned();
        Denial::lacking(skill, capability, subject.to_owned(), reason, text)
    };
    let mut missing = directory::missing(skill, declared, granted, which);
    if declared.scratch && !granted.scratch && which(Missing::Directory) {
        missing.push(lacking(Capability::Scratch, SCRATCH, None));
    }
    if declared.storage && !granted.storage && which(Missing::Told) {
        missing.push(lacking(Capability::Storage, "storage", None));
    }
    missing.extend(network::missing(skill, declared, granted, which));
    missing.extend(secret::missing(skill, declared, granted, which));
    for name in &declared.environment {
        if !granted.environment.contains_key(name) && which(Missing::Environment(name)) {
            let text = format!("{name}={}", hint::NO_VALUE);
            missing.push(lacking(Capability::Environment, name, Some(&text)));
        }
    }
    for (key, declaration) in &declared.config {
        let has_one = declaration.default.is_some() || granted.config.contains_key(key);
        if !has_one && which(Missing::Config(key)) {
            missing.push(config::missing(skill, key, declaration));
        }
    }
    missing
}

/// The longest text that stands in a message, in bytes.
const MAX_QUOTED: usize = 200;

/// A text as it may stand in a message.
fn quoted(text: &str) -> String {
    crate::text::named(text, MAX_QUOTED)
}

#[cfg(test)]
mod tests;
