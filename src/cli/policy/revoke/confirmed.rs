//! Taking back that one digest is confirmed.

use std::collections::BTreeSet;

use skillhost::Policy;
use skillhost::grant::{Capability, GrantNames, command};
use skillhost::policy::{Confirmation, SkillPolicy};
use skillhost::skill::Digest;
use skillhost::text::{named, printable};

use super::RevokeArgs;
use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::{GOOD, styled};
use crate::cli::exit::Exit;
use crate::cli::policy::{edit, record, unknown};

/// Which confirmation is meant.
pub enum Which {
    Version(String),
    Digest(Digest),
    /// By the first digits of the digest, in lower case.
    Begins(String),
}

impl Which {
    fn is(&self, confirmed: &Confirmation) -> bool {
        match self {
            Which::Version(version) => confirmed.version.as_ref() == Some(version),
            Which::Digest(digest) => confirmed.digest == *digest,
            Which::Begins(digits) => confirmed.digest.hex().starts_with(digits),
        }
    }

    /// What it is called, of a skill of this name.
    fn of(&self, name: &str) -> String {
        match self {
            Which::Version(version) => format!("{name}@{version}"),
            Which::Digest(digest) => format!("{name} {digest}"),
            Which::Begins(digits) => format!("{name} {digits}"),
        }
    }

    /// The digest, or what it begins with, that is typed: no fewer digits than find an installed skill.
    fn digest(typed: &str) -> Option<Self> {
        const FEWEST: usize = 8;
        if let Ok(digest) = typed.parse() {
            return Some(Which::Digest(digest));
        }
        let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
        let is_beginning = (FEWEST..=64).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_beginning.then(|| Which::Begins(digits.to_ascii_lowercase()))
    }
}

/// Whether a confirmation is meant, and not what is granted: of which skill, where its name is typed, and which.
///
/// The name of something that the policy has goes before what a digest begins with.
pub fn meant<'a>(
    typed: &'a str,
    wanted: &[(Option<Capability>, String)],
    all: bool,
    policy: &Policy,
) -> Option<(Option<&'a str>, Which)> {
    let more = all || !wanted.is_empty();
    match Which::digest(typed) {
        Some(Which::Begins(_)) if more || policy.skills.contains_key(typed) => {}
        Some(which) => return Some((None, which)),
        None => {}
    }
    if let Some((name, version)) = typed
        .split_once('@')
        .filter(|(name, _)| !name.contains('/'))
    {
        return Some((Some(name), Which::Version(version.to_owned())));
    }
    match wanted {
        [(None, subject)] => {
            let entry = policy.skills.get(typed);
            let is_granted = |entry: &SkillPolicy| {
                let names = GrantNames::of(&entry.grants);
                let mut secrets = entry.grants.secrets.iter();
                !names.kinds(subject).is_empty()
                    || secrets.any(|secret| secret.name() == subject.as_str())
            };
            let which = Which::digest(subject)?;
            (!entry.is_some_and(is_granted)).then_some((Some(typed), which))
        }
        _ => None,
    }
}

/// Takes it back.
///
/// # Errors
/// Where it is not confirmed, or more is named.
pub fn revoke(
    name: Option<&str>,
    which: &Which,
    args: &RevokeArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    let is_alone = match args.subjects.as_slice() {
        [] => args.wanted().is_empty(),
        [subject] => Which::digest(subject).is_some() && name == Some(args.name.as_str()),
        _ => false,
    };
    if !is_alone || args.all {
        let message = "what is granted is granted to all versions that are confirmed";
        return Err(Complaint::usage(message)
            .hint("name the skill alone to take a grant back, or the version alone to take back that it is confirmed")
            .into());
    }
    let file = session.policy_file()?;
    let record = record::Record::open(session)?;
    let (name, taken, left) = edit::edit(&file, |policy| {
        let of = |entry: &str| name.is_none_or(|name| entry == name);
        let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
        for (entry, skill) in policy.skills.iter().filter(|(entry, _)| of(entry)) {
            for confirmed in skill.confirmed.iter().filter(|one| which.is(one)) {
                names.insert(named(entry, 100));
                digests.insert(confirmed.digest.to_string());
            }
        }
        let listed = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join(", ");
        if matches!(which, Which::Begins(_)) && digests.len() > 1 {
            return Err(
                Complaint::usage("several digests that are confirmed begin so")
                    .hint(format!("type more of one: {}", listed(digests)))
                    .into(),
            );
        }
        if names.len() > 1 {
            return Err(
                Complaint::usage("this digest is confirmed under several names")
                    .hint(format!("type one of them before it: {}", listed(names)))
                    .into(),
            );
        }
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                let mut entries = policy.skills.iter();
                let found =
                    entries.find(|(_, entry)| entry.confirmed.iter().any(|one| which.is(one)));
                let (name, _) = found.ok_or_else(|| {
                    Complaint::usage("this digest is not confirmed in the policy")
                        .hint("`skillhost policy show` lists all that is")
                })?;
                name.clone()
            }
        };
        let Some(entry) = policy.skills.get_mut(&name) else {
            return Err(unknown(&name, policy, &file).into());
        };
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut entry.confirmed)
            .into_iter()
            .partition(|one| which.is(one));
        entry.confirmed = kept;
        if taken.is_empty() {
            return Err(not_confirmed(&which.of(&name), entry).into());
        }
        let left = (!entry.grants.is_empty()).then_some(entry.confirmed.len());
        if *entry == SkillPolicy::default() {
            policy.skills.remove(&name);
        }
        Ok((name, taken, left))
    })?;
    let said: Vec<String> = taken.iter().map(confirmation).collect();
    record.taken(&name, &said)?;
    let more = match left {
        None => String::new(),
        Some(0) => format!(
            "; its grants stay in the policy, and no version is confirmed to get them: `{} --all` takes those out, too",
            command("revoke", &name)
        ),
        Some(1) => "; one other digest has what is granted".to_owned(),
        Some(others) => format!("; {others} other digests have what is granted"),
    };
    session.console.note(format_args!(
        "{} taken from {}: {}{more}",
        styled(GOOD, "✓"),
        printable(&name, false),
        said.join(", ")
    ));
    Ok(Exit::Success)
}

fn not_confirmed(what: &str, entry: &SkillPolicy) -> Complaint {
    let complaint = Complaint::usage(format!("`{}` is not confirmed", named(what, 200)));
    match entry.confirmed.is_empty() {
        true => complaint.hint("no digest of it is"),
        false => {
            let all: Vec<String> = entry.confirmed.iter().map(confirmation).collect();
            complaint.hint(format!("there is: {}", all.join(", ")))
        }
    }
}

/// What it is called.
pub fn confirmation(confirmed: &Confirmation) -> String {
    let version = confirmed.version.as_deref();
    let version = version.map_or_else(String::new, |version| format!("{} ", named(version, 100)));
    format!("the confirmation of {version}({})", confirmed.digest)
}
