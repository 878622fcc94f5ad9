//! What can be granted, and what is said where something is not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hint::{MAX_SHOWN, grant_text, to_grant};
use crate::text::{named, shortened};

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
    /// Every one of them.
    pub(crate) const ALL: [Capability; 12] = [
        Capability::Directory,
        Capability::Scratch,
        Capability::Http,
        Capability::Socket,
        Capability::Address,
        Capability::Environment,
        Capability::Config,
        Capability::Secret,
        Capability::Storage,
        Capability::Clock,
        Capability::Random,
        Capability::Consent,
    ];

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
    /// The grant that would change it, where one would: as the flag, the policy and `grants` in JSON have it, such as
    /// `TZ=UTC`, or `true` for what has no text. What only the operator knows stands between angle brackets, such as
    /// `<HOST>`. None where it is longer than 1,000 bytes, or has characters that no line can show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// What would have to change, in words.
    pub hint: String,
}

impl Denial {
    /// What this grant would change, in the form that flag and file share.
    pub(super) fn lacking(
        skill: &str,
        capability: Capability,
        subject: String,
        reason: String,
        text: Option<&str>,
    ) -> Self {
        Denial {
            capability,
            subject,
            reason,
            remedy: Remedy::Grant,
            grant: grant_text(text),
            hint: to_grant(skill, capability, text),
        }
    }

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
    ///     grant: Some("LANG=<VALUE>".into()),
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
        let lacks = match self.remedy {
            // There is no grant of it.
            Remedy::Skill => "it does not have",
            _ => "was not granted",
        };
        format!("the skill wants {capability} `{subject}`, which {lacks}: {hint}")
    }

    /// The same of what was only seen to be looked for, and may not be why.
    pub(crate) fn perhaps(&self) -> String {
        format!("{}; if that is why, {}", self.reason, self.hint)
    }

    /// Whether a hint is about this, and says what would have to change.
    ///
    /// ```
    /// use skillhost::grant::{Capability, Denial, Remedy};
    ///
    /// let denial = Denial {
    ///     capability: Capability::Storage,
    ///     subject: "notes".into(),
    ///     reason: "declared by the skill and not granted".into(),
    ///     remedy: Remedy::Grant,
    ///     grant: Some("true".into()),
    ///     hint: "grant it with `--storage`".into(),
    /// };
    /// assert!(denial.is_said_in(&denial.wanted()));
    /// assert!(!denial.is_said_in("raise that limit"));
    /// ```
    pub fn is_said_in(&self, hint: &str) -> bool {
        hint == self.hint || hint == self.wanted() || hint == self.perhaps()
    }

    /// Without what only a command line has: its hint has no flag of it.
    pub(crate) fn without_flag(&mut self) {
        if let Some(other) = super::for_good(&self.hint) {
            self.hint = other;
        }
    }

    /// All that it says in words.
    pub(crate) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let texts = [&mut self.subject, &mut self.reason, &mut self.hint];
        texts.into_iter().chain(&mut self.grant)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = named(&self.subject, MAX_SHOWN);
        write!(f, "{} `{subject}`: {}", self.capability, self.reason)
    }
}

/// What hints may take at most of what was refused, or is missing, in bytes.
const MAX_HINTS_BYTES: usize = 12 << 10;
/// The longest subject and reason of those, in bytes.
const MAX_SUBJECT: usize = 500;
const MAX_REASON: usize = 700;

/// The first so many of them, each with what it is and why. Of hints that are too long to be told, that is said: what
/// comes first hides nothing that comes behind it.
pub(crate) fn first_of(denials: &mut Vec<Denial>, most: usize) {
    denials.truncate(most.max(1));
    let mut left = MAX_HINTS_BYTES;
    for denial in denials {
        for (text, most) in [
            (&mut denial.subject, MAX_SUBJECT),
            (&mut denial.reason, MAX_REASON),
        ] {
            if text.len() > most {
                *text = shortened(text, most).into_owned();
            }
        }
        match left.checked_sub(denial.hint.len()) {
            Some(rest) => left = rest,
            None => {
                denial.hint = "what would change that is too long to be told".into();
                denial.grant = None;
            }
        }
    }
}

/// Storage that is granted where the host keeps nothing.
pub(crate) fn no_storage(skill: &str) -> Denial {
    Denial {
        capability: Capability::Storage,
        subject: skill.to_owned(),
        reason: "granted, and this host has no place for what skills keep".into(),
        remedy: Remedy::Operator,
        grant: None,
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
    // What is near to another host is often somebody else's: none is proposed in its place.
    let is_a_place = matches!(
        capability,
        Capability::Http | Capability::Socket | Capability::Secret
    );
    // Nor is what is left open, which is none to be granted.
    let candidates = declared.iter().copied();
    let candidates = candidates.filter(|one| !is_a_place && *one != "*");
    let hint = match (
        crate::text::closest(subject, candidates),
        declared.is_empty(),
    ) {
        // The path alone would grant the host's of that name.
        (Some(close), _) if capability == Capability::Directory => {
            format!(
                "did you mean `{}`?",
                named(&format!("HOST:{close}"), MAX_SHOWN)
            )
        }
        (Some(close), _) => format!("did you mean `{}`?", named(close, MAX_SHOWN)),
        (None, true) => {
            let none = format!("the skill's skill.toml declares no {capability}");
            match super::hint::declaration(capability, subject) {
                Some(line) => {
                    format!("{none}: leave it out, or add `{line}` to `[grants]` there")
                }
                None => none,
            }
        }
        (None, false) => {
            let shown = declared.iter().take(MOST_DECLARED);
            let shown: Vec<String> = shown.map(|one| format!("`{}`", named(one, 200))).collect();
            let more = match declared.len() - shown.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let shown = shown.join(", ");
            match (capability, declared.as_slice()) {
                (Capability::Directory, [path]) => format!(
                    "the skill declares: {shown}; a directory of the host's is granted under that path as `{}`",
                    named(&format!("HOST:{path}"), MAX_SHOWN)
                ),
                _ => format!("the skill declares: {shown}{more}"),
            }
        }
    };
    Denial {
        capability,
        subject: subject.to_owned(),
        reason: "granted, but not declared by the skill".into(),
        remedy: Remedy::Operator,
        grant: None,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_bounded_and_hides_nothing() {
        let of = |number: usize, bytes: usize| Denial {
            capability: Capability::Http,
            subject: format!("{number} {}", "x".repeat(bytes)),
            reason: "x".repeat(bytes),
            remedy: Remedy::Grant,
            grant: None,
            hint: "x".repeat(bytes),
        };
        for bytes in [1, 1_000, 9_000, 100_000] {
            let mut denials: Vec<Denial> = (0..30).map(|number| of(number, bytes)).collect();
            first_of(&mut denials, 20);
            assert_eq!(denials.len(), 20);
            for (number, denial) in denials.iter().enumerate() {
                let subject = format!("{number} x");
                assert!(denial.subject.starts_with(&subject), "{denial:?}");
                assert!(!denial.reason.is_empty() && !denial.hint.is_empty());
            }
            let told = serde_json::to_string(&denials).unwrap();
            assert!(told.len() < 40_000, "{}", told.len());
            let whole = of(0, bytes).hint;
            assert_eq!(denials[0].hint == whole, bytes < MAX_HINTS_BYTES);
            assert_eq!(denials[19].hint == whole, bytes == 1);
        }
        let mut denials = vec![of(0, 1)];
        first_of(&mut denials, 0);
        assert_eq!(denials, [of(0, 1)]);
    }

    #[test]
    fn nobody_elses_host_is_proposed() {
        let declared = |text: &str| [text.to_owned()];
        for (capability, subject, near) in [
            (
                Capability::Http,
                "https://api.github.com/",
                "https://api.githuh.com/",
            ),
            (
                Capability::Socket,
                "tcp://10.1.2.3:5432",
                "tcp://10.1.2.33:5432",
            ),
            (
                Capability::Secret,
                "a=authorization@https://api.github.com/",
                "a=authorization@https://api.githuh.com/",
            ),
        ] {
            let hint = undeclared(capability, subject, declared(near).iter()).hint;
            assert_eq!(hint, format!("the skill declares: `{near}`"));
        }
        let hint = undeclared(Capability::Config, "max_row", declared("max_rows").iter()).hint;
        assert_eq!(hint, "did you mean `max_rows`?");
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
