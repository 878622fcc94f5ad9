//! What grants are called where they are taken back.

use std::collections::HashMap;

use super::hint::{as_flag, command, shell_word};
use super::{Capability, Denial, Grants};
use crate::text::named;

/// What each of some grants is called by whoever takes it back: by its guest path, its name or key, its text, or
/// for what there is one of alone, by the capability.
///
/// ```
/// use skillhost::grant::{Capability, GrantNames, Grants};
///
/// let names = GrantNames::of(&Grants::default().environment("TZ", "UTC").storage());
/// assert_eq!(names.kinds("TZ"), [Capability::Environment]);
/// assert_eq!(names.kinds("storage"), [Capability::Storage]);
/// ```
#[derive(Debug, Default)]
pub struct GrantNames(HashMap<String, Vec<Capability>>);

impl GrantNames {
    /// Those of these grants.
    pub fn of(grants: &Grants) -> Self {
        let Grants {
            directories,
            scratch,
            http,
            sockets,
            addresses,
            environment,
            config,
            secrets,
            storage,
            clock,
            random,
        } = grants;
        let mut names = GrantNames::default();
        for grant in directories {
            names.add(Capability::Directory, grant.guest.clone());
        }
        names.add_all(Capability::Http, http);
        names.add_all(Capability::Socket, sockets);
        names.add_all(Capability::Address, addresses);
        names.add_all(Capability::Environment, environment.keys());
        names.add_all(Capability::Config, config.keys());
        names.add_all(Capability::Secret, secrets);
        for (capability, is_granted) in [
            (Capability::Scratch, *scratch),
            (Capability::Storage, *storage),
            (Capability::Clock, clock.is_some()),
            (Capability::Random, random.is_some()),
        ] {
            if is_granted {
                names.add(capability, capability.field().to_owned());
            }
        }
        names
    }

    /// Of which kinds the grants of this name are: mostly of one.
    pub fn kinds(&self, name: &str) -> &[Capability] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// What takes back the grant that was refused so, where it is one of these.
    pub fn to_take_out(&self, skill: &str, refused: &Denial) -> Option<String> {
        let name = match refused.capability {
            Capability::Scratch => Capability::Scratch.field(),
            _ => &refused.subject,
        };
        self.to_revoke(skill, refused.capability, name)
    }

    /// The command that takes back the grant of this kind and name, where it is one of these, and can be typed as it
    /// is shown.
    pub fn to_revoke(&self, skill: &str, capability: Capability, name: &str) -> Option<String> {
        let kinds = self.kinds(name);
        if !kinds.contains(&capability) || named(name, usize::MAX) != name {
            return None;
        }
        let what = match kinds.len() == 1 && !name.starts_with('-') {
            true => shell_word(name).into_owned(),
            false => by_flag(capability, name),
        };
        Some(format!("{} {what}", command("revoke", skill)))
    }

    fn add(&mut self, capability: Capability, name: String) {
        let kinds = self.0.entry(name).or_default();
        if !kinds.contains(&capability) {
            kinds.push(capability);
        }
    }

    fn add_all<T: ToString>(
        &mut self,
        capability: Capability,
        grants: impl IntoIterator<Item = T>,
    ) {
        for grant in grants {
            self.add(capability, grant.to_string());
        }
    }
}

/// A grant as it is named where others have the same name.
pub fn by_flag(capability: Capability, name: &str) -> String {
    match capability {
        Capability::Scratch | Capability::Storage | Capability::Clock | Capability::Random => {
            capability.flag().to_owned()
        }
        _ => as_flag(capability, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_alike_is_told_apart() {
        let grants = Grants::default()
            .environment("TZ", "UTC")
            .environment("-x", "1")
            .environment("--all", "1")
            .environment("a`b", "1")
            .environment("storage", "1")
            .config("clock", "1")
            .scratch()
            .storage();
        let names = GrantNames::of(&grants);
        for (capability, name, command) in [
            (Capability::Environment, "TZ", Some("TZ")),
            (Capability::Environment, "-x", Some("--env=-x")),
            (Capability::Environment, "--all", Some("--env=--all")),
            (Capability::Environment, "storage", Some("--env storage")),
            (Capability::Storage, "storage", Some("--storage")),
            // There is no other.
            (Capability::Config, "clock", Some("clock")),
            (Capability::Scratch, "scratch", Some("scratch")),
            (Capability::Config, "TZ", None),
            (Capability::Clock, "clock", None),
            (Capability::Environment, "LANG", None),
            (Capability::Environment, "a`b", None),
        ] {
            let whole = command.map(|end| format!("skillhost policy revoke a {end}"));
            assert_eq!(names.to_revoke("a", capability, name), whole, "{name}");
        }
    }
}
