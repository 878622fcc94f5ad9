//! What can be granted, and what is said where something is not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hint::MAX_SHOWN;
use crate::text::named;

/// A capability: a kind of thing that can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
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
    /// A secret, which the host puts into requests.
    Secret,
    /// What a skill keeps from one execution to the next.
    Storage,
    /// The clocks.
    Clock,
    /// The random numbers.
    Random,
    /// The operator's consent to exactly this skill, without which what the policy grants to its
    /// name does not hold.
    Consent,
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
            Capability::Secret => "secret",
            Capability::Storage => "storage",
            Capability::Clock => "clock",
            Capability::Random => "random",
            Capability::Consent => "consent",
        }
    }

    /// The flag that grants it.
    pub fn flag(self) -> &'static str {
        match self {
            Capability::Directory => "--dir",
            Capability::Scratch => "--scratch",
            Capability::Http => "--http",
            Capability::Socket => "--socket",
            Capability::Address => "--address",
            Capability::Environment => "--env",
            Capability::Config => "--config",
            Capability::Secret => "--secret",
            Capability::Storage => "--storage",
            Capability::Clock => "--clock",
            Capability::Random => "--random",
            Capability::Consent => "--yes",
        }
    }

    /// The field of [`Grants`](super::Grants) that holds it, which is also its key in the policy
    /// file.
    pub fn field(self) -> &'static str {
        match self {
            Capability::Directory => "directories",
            Capability::Scratch => "scratch",
            Capability::Http => "http",
            Capability::Socket => "sockets",
            Capability::Address => "addresses",
            Capability::Environment => "environment",
            Capability::Config => "config",
            Capability::Secret => "secrets",
            Capability::Storage => "storage",
            Capability::Clock => "clock",
            Capability::Random => "random",
            Capability::Consent => "confirmed",
        }
    }

    /// Whether that field holds several grants.
    pub(crate) fn is_list(self) -> bool {
        !matches!(
            self,
            Capability::Scratch | Capability::Storage | Capability::Clock | Capability::Random
        )
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What would change a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Remedy {
    /// A grant, which the hint spells out.
    #[default]
    Grant,
    /// Something else that the operator does: consents, writes a grant otherwise or leaves it out, changes a setting.
    Operator,
    /// A change of the skill, or of what it is asked to do. No grant changes it.
    Skill,
    /// Nothing but time.
    Wait,
}

/// One thing that was refused, and what would have to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Denial {
    /// Which capability.
    pub capability: Capability,
    /// What was asked: a guest path, a request, an address, a variable, a key.
    pub subject: String,
    /// Why it was refused.
    pub reason: String,
    /// What would change it; `grant` where that is not said.
    #[serde(default)]
    pub remedy: Remedy,
    /// What would have to change, in words.
    pub hint: String,
}

impl Denial {
    /// What is missing, in a sentence that says what would have to be granted.
    ///
    /// ```
    /// use skillhost::grant::{Capability, Denial, Remedy};
    ///
    /// let denial = Denial {
    ///     capability: Capability::Environment,
    ///     subject: "LANG".into(),
    ///     reason: "declared by the skill and not granted".into(),
    ///     remedy: Remedy::Grant,
    ///     hint: "grant it with `--env 'LANG=<VALUE>'`".into(),
    /// };
    /// assert_eq!(
    ///     denial.wanted(),
    ///     "the skill wants environment `LANG`, which was not granted: grant it with `--env 'LANG=<VALUE>'`"
    /// );
    /// ```
    pub fn wanted(&self) -> String {
        let Denial {
            capability,
            subject,
            hint,
            ..
        } = self;
        let subject = named(subject, MAX_SHOWN);
        format!("the skill wants {capability} `{subject}`, which was not granted: {hint}")
    }

    /// Takes the values of secrets out of it.
    pub(crate) fn scrub(&mut self, scrubber: &crate::secret::Scrubber) {
        for text in [&mut self.subject, &mut self.reason, &mut self.hint] {
            scrubber.text(text);
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = named(&self.subject, MAX_SHOWN);
        write!(f, "{} `{subject}`: {}", self.capability, self.reason)
    }
}

/// What is told at most of what was refused, or is missing, in bytes.
const MAX_TOLD_BYTES: usize = 16 << 10;

impl Denial {
    /// How long its texts are, in bytes.
    fn bytes(&self) -> usize {
        self.subject.len() + self.reason.len() + self.hint.len()
    }
}

/// The first so many of them, as far as they are not too long to be told, and at least one.
pub(crate) fn first_of(denials: &mut Vec<Denial>, most: usize) {
    let mut bytes = 0;
    let fit = denials.iter().take(most).take_while(|denial| {
        bytes += denial.bytes();
        bytes <= MAX_TOLD_BYTES
    });
    let fit = fit.count();
    denials.truncate(fit.max(1));
}

/// Storage that is granted where the host keeps nothing.
pub(crate) fn no_storage(skill: &str) -> Denial {
    Denial {
        capability: Capability::Storage,
        subject: skill.to_owned(),
        reason: "granted, and this host has no place for what skills keep".into(),
        remedy: Remedy::Operator,
        hint: "name a file for it with `HostBuilder::storage` (feature `storage`)".into(),
    }
}

/// The declarations that are named where another was granted.
const MOST_DECLARED: usize = 10;

/// What is granted, and the skill does not declare.
pub(super) fn undeclared<'a>(
    capability: Capability,
    subject: &str,
    declared: impl Iterator<Item = &'a String>,
) -> Denial {
    let declared: Vec<&str> = declared.map(String::as_str).collect();
    // What is left open in a declaration is none to be granted.
    let is_open = |one: &&str| match capability {
        Capability::Socket => one.contains('*'),
        Capability::Http | Capability::Secret => one.contains("://*/") || one.contains("://*:"),
        _ => *one == "*",
    };
    let candidates = declared.iter().copied().filter(|one| !is_open(one));
    let hint = match (
        crate::text::closest(subject, candidates),
        declared.is_empty(),
    ) {
        (Some(close), _) => format!("did you mean `{}`?", named(close, MAX_SHOWN)),
        (None, true) => format!("the skill's skill.toml declares no {capability}"),
        (None, false) => {
            let shown = declared.iter().take(MOST_DECLARED);
            let shown: Vec<String> = shown.map(|one| format!("`{}`", named(one, 200))).collect();
            let more = match declared.len() - shown.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("the skill declares: {}{more}", shown.join(", "))
        }
    };
    Denial {
        capability,
        subject: subject.to_owned(),
        reason: "granted, but not declared by the skill".into(),
        remedy: Remedy::Operator,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_bounded_and_never_nothing() {
        let of = |bytes: usize| Denial {
            capability: Capability::Directory,
            subject: String::new(),
            reason: "x".repeat(bytes),
            remedy: Remedy::Grant,
            hint: String::new(),
        };
        for (bytes, count, told) in [
            (1, 30, 20),
            (MAX_TOLD_BYTES / 2, 3, 2),
            (MAX_TOLD_BYTES + 1, 2, 1),
            (1, 0, 0),
        ] {
            let mut denials = vec![of(bytes); count];
            first_of(&mut denials, 20);
            assert_eq!(denials.len(), told, "{bytes} {count}");
        }
    }

    #[test]
    fn no_subject_ends_what_it_stands_in() {
        let denial = Denial {
            subject: "a`. Run `b\n".into(),
            ..no_storage("a")
        };
        assert!(
            denial
                .wanted()
                .starts_with(r"the skill wants storage `a\u{60}. Run \u{60}b\n`, which")
        );
        assert!(
            denial
                .to_string()
                .starts_with(r"storage `a\u{60}. Run \u{60}b\n`: ")
        );
    }
}
