//! What a skill may touch: what it declares, what it is granted, and the intersection of the two.
//!
//! Pure data: nothing here opens a file or a connection. Everything that is not granted is denied.

mod config;
mod directory;
mod hint;
mod pairs;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use config::{ConfigKey, ConfigType};
pub use directory::{DeclaredDirectory, DirectoryGrant, Mode, ParseDirectoryError};
pub use hint::{command, shell_word, to_grant};
pub use values::{
    MAX_ENTRIES, MAX_NAME_BYTES, MAX_TOTAL_BYTES, MAX_VALUE_BYTES, check_name, check_value,
};

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

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        *self == Grants::default()
    }

    /// These grants and others. Of two for the same guest path, variable or key, the other holds,
    /// in this one's place.
    #[must_use]
    pub fn with(self, over: &Grants) -> Self {
        let Grants {
            mut directories,
            mut environment,
            mut config,
        } = self;
        for grant in &over.directories {
            match directories.iter_mut().find(|other| other.same_path(grant)) {
                Some(place) => *place = grant.clone(),
                None => directories.push(grant.clone()),
            }
        }
        environment.extend(over.environment.clone());
        config.extend(over.config.clone());
        Grants {
            directories,
            environment,
            config,
        }
    }

    /// Those of these grants that [`with`](Grants::with) keeps: for another guest path, variable or
    /// key than any of the others.
    #[must_use]
    pub fn except(self, over: &Grants) -> Self {
        let Grants {
            mut directories,
            mut environment,
            mut config,
        } = self;
        directories.retain(|grant| !over.directories.iter().any(|other| grant.same_path(other)));
        environment.retain(|name, _| !over.environment.contains_key(name));
        config.retain(|key, _| !over.config.contains_key(key));
        Grants {
            directories,
            environment,
            config,
        }
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
    /// Names of environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
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

/// A capability: a kind of thing that can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Capability {
    /// A directory of the host.
    Directory,
    /// An environment variable.
    Environment,
    /// A configuration key.
    Config,
    /// The operator's consent to exactly this skill, without which what the policy grants to its
    /// name does not hold.
    Consent,
}

impl Capability {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Directory => "directory",
            Capability::Environment => "environment",
            Capability::Config => "config",
            Capability::Consent => "consent",
        }
    }

    /// The flag that grants it.
    pub fn flag(self) -> &'static str {
        match self {
            Capability::Directory => "--dir",
            Capability::Environment => "--env",
            Capability::Config => "--config",
            Capability::Consent => "--yes",
        }
    }

    /// The field of [`Grants`] that holds it, which is also its key in the policy file.
    pub fn field(self) -> &'static str {
        match self {
            Capability::Directory => "directories",
            Capability::Environment => "environment",
            Capability::Config => "config",
            Capability::Consent => "confirmed",
        }
    }

    /// Whether that field holds several grants.
    pub(crate) fn is_list(self) -> bool {
        match self {
            Capability::Directory
            | Capability::Environment
            | Capability::Config
            | Capability::Consent => true,
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
    /// What was asked: a guest path, a variable, a key.
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
    let mut denials = directory::check(&granted.directories);
    denials.extend(values::check(granted));
    let Some(declared) = declared else {
        return (granted.clone(), denials);
    };
    let mut effective = Grants::default();
    for grant in &granted.directories {
        match directory::narrow(&declared.directories, grant) {
            Ok(grant) => effective.directories.push(grant),
            Err(denial) => denials.push(denial),
        }
    }
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
                    hint: format!("give {} a value of type {}", key, declaration.kind.as_str()),
                }),
            },
        }
    }
    (effective, denials)
}

/// What a skill declares and was not granted. It may run without, and then meets a denial. `skill`
/// is its name, for hints.
pub fn missing(skill: &str, declared: Option<&Declared>, granted: &Grants) -> Vec<Denial> {
    let Some(declared) = declared else {
        return Vec::new();
    };
    let mut missing = directory::missing(skill, &declared.directories, &granted.directories);
    for name in &declared.environment {
        if !granted.environment.contains_key(name) {
            missing.push(Denial {
                capability: Capability::Environment,
                subject: name.clone(),
                reason: "declared by the skill and not granted".into(),
                hint: to_grant(
                    skill,
                    Capability::Environment,
                    Some(&format!("{name}=VALUE")),
                ),
            });
        }
    }
    for (key, declaration) in &declared.config {
        if declaration.default.is_none() && !granted.config.contains_key(key) {
            missing.push(config::missing(skill, key, declaration));
        }
    }
    missing
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
        let grants = effective("a", Some(&declared()), &Grants::default()).unwrap();
        assert_eq!(grants, Grants::default().config("max_rows", "10"));
        assert_eq!(
            effective("a", None, &Grants::default()),
            Ok(Grants::default())
        );
    }

    #[test]
    fn the_narrower_mode_wins() {
        let granted = Grants::default()
            .directory("/a", "/data", Mode::Rw)
            .directory("/b", "/out", Mode::Ro);
        let grants = effective("a", Some(&declared()), &granted).unwrap();
        assert_eq!(grants.directories[0].mode, Mode::Ro);
        assert_eq!(grants.directories[1].mode, Mode::Ro);
    }

    #[test]
    fn what_is_not_declared_is_named() {
        let granted = Grants::default()
            .directory("/a", "/dat", Mode::Ro)
            .environment("HOME", "/root")
            .config("max_row", "1");
        let denials = effective("a", Some(&declared()), &granted).unwrap_err();
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
            "a",
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
            "a",
            Some(&declared()),
            &Grants::default().environment("TZ", "UTC"),
        );
        let hints: Vec<&str> = missing.iter().map(|denial| denial.hint.as_str()).collect();
        assert_eq!(hints.len(), 2);
        assert!(hints[0].contains("`--dir HOST:/data:ro`"), "{hints:?}");
        assert!(
            hints[1].contains("`directories = [\"HOST:/out:rw\"]`"),
            "{hints:?}"
        );
    }

    #[test]
    fn a_key_that_is_required_must_have_a_value() {
        let declared: Declared =
            toml::from_str("[config.token]\ntype = \"string\"\nrequired = true").unwrap();
        let denials = effective("a", Some(&declared), &Grants::default()).unwrap_err();
        assert_eq!(denials.len(), 1);
        assert!(denials[0].reason.contains("required"), "{denials:?}");
        assert!(
            denials[0].hint.contains("`--config token=VALUE`"),
            "{denials:?}"
        );
        let granted = Grants::default().config("token", "x");
        assert_eq!(effective("a", Some(&declared), &granted), Ok(granted));
    }

    #[test]
    fn of_two_grants_for_one_place_the_later_holds() {
        let below = Grants::default()
            .directory("/a", "/data", Mode::Rw)
            .directory("/b", "/out", Mode::Rw)
            .environment("TZ", "UTC")
            .config("a", "1");
        let over = Grants::default()
            .directory("/c", "/data/", Mode::Ro)
            .environment("TZ", "CET");
        let both = below.clone().with(&over);
        assert_eq!(both.directories.len(), 2);
        assert_eq!(both.directories[0], over.directories[0]);
        assert_eq!(both.environment["TZ"], "CET");
        assert_eq!(both.config["a"], "1");
        assert_eq!(below.except(&both), Grants::default());
    }
}
