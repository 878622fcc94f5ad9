//! `skillhost policy check`: whether the policy makes sense, with what is installed.

mod absent;
mod confirmed;
mod kept;
pub mod misspelt;
mod void;
pub mod wide;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skillhost::grant::{
    Capability, Declared, Denial, GrantNames, command, effective, intersection, shell_word,
};
use skillhost::policy::SkillPolicy;
use skillhost::skill::{Digest, SkillRef};
use skillhost::text::printable;
use skillhost::{CompileSettings, Policy};

use crate::cli::complaint::Complaint;
use crate::cli::console::{ERROR, GOOD, HINT, WARNING, print, print_json, styled};
use crate::cli::exit::Exit;
use crate::cli::host::CommandHost;
use crate::cli::repeated::in_text;
use crate::cli::secrets::SourceArgs;
use crate::cli::{Session, explain, units};

use super::grant::without_effect;
use super::secrets::idle;

const EXIT: &str = "\
Exit codes:
    0  nothing was found, or warnings alone without --strict
    2  the policy cannot be used
    3  something was found";

/// Check the policy, and hold it against what is installed
///
/// Found are grants that no version of the skill declares or that do not fit, folders that are not there or are the
/// host's own, installed skills for whose names there are grants that are not confirmed for them, secrets that are
/// kept and cannot be read where any is granted, and an audit that is required and cannot be kept. A folder that may
/// be written, and that no version declares so, is a warning, as are a method of HTTP that seems misspelt, rules about
/// a skill that is not installed or a tool that it does not have, a ceiling of one tenant or skill above the general
/// one, any ceiling above the host's own, secrets that have no value or go into no request that is granted, those that
/// are kept and cannot be read where none is granted, and an audit that is not required and cannot be kept. A skill
/// that is confirmed and not installed is noted: it may be run from its file.
#[derive(Debug, Args)]
#[command(after_help = EXIT)]
pub struct CheckArgs {
    /// End with code 3 for warnings, too
    #[arg(long)]
    strict: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    path: &'a Path,
    /// Whether nothing was found.
    sound: bool,
    findings: Vec<Finding>,
    /// What is as it may be, and does not do what one could think.
    warnings: Vec<Finding>,
    /// What is as it may be, and may be forgotten.
    notes: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Debug, Serialize)]
struct Finding {
    kind: Kind,
    #[serde(flatten)]
    about: About,
    message: String,
    hint: String,
}

/// What it is found at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum About {
    /// A skill, by its name.
    Skill(String),
    /// A tenant, by its name.
    Tenant(String),
    /// A table of the policy that is about no single one.
    Table(&'static str),
    /// The policy's file.
    Policy(PathBuf),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            About::Skill(name) => printable(name, false),
            About::Tenant(name) => format!("tenant {}", printable(name, false)).into(),
            About::Table(name) => (*name).into(),
            About::Policy(path) => path.display().to_string().into(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// It is granted, and cannot be.
    Grant,
    /// A folder is not there, or is never granted.
    Directory,
    /// A grant is wider than what is declared.
    Wider,
    /// A grant is so wide that it names nothing.
    Wide,
    /// A grant has a method that is like one of HTTP's, and is none.
    Misspelt,
    /// An installed skill is not confirmed.
    Unconfirmed,
    /// An installed skill cannot be read.
    Unreadable,
    /// A rule is about a skill that is not installed, or a tool that it does not have.
    Absent,
    /// A skill is confirmed, and not installed.
    Uninstalled,
    /// A ceiling is above the general one, or the host's, which holds.
    Void,
    /// A secret is granted, and has no value, or goes into no request that is granted.
    Secret,
    /// An audit is required, and cannot be kept.
    Audit,
    /// An audit is to be kept, not required, and cannot be kept.
    Unaudited,
    /// The secrets that are kept cannot be read, and some are granted.
    Store,
    /// The secrets that are kept cannot be read, and none is granted.
    Unneeded,
    /// The policy cannot be used.
    Unusable,
}

impl Kind {
    /// Whether it may be so, and does not do what one could think.
    fn is_warning(self) -> bool {
        matches!(
            self,
            Kind::Wider
                | Kind::Wide
                | Kind::Misspelt
                | Kind::Absent
                | Kind::Void
                | Kind::Secret
                | Kind::Unaudited
                | Kind::Unneeded
        )
    }

    /// Whether it may be so, and may be forgotten.
    fn is_note(self) -> bool {
        matches!(self, Kind::Uninstalled)
    }
}

/// Checks the policy.
///
/// # Errors
/// Where it cannot be used.
pub fn check(args: &CheckArgs, session: &Session) -> anyhow::Result<Exit> {
    let file = session.policy_file()?;
    let policy = match file.read() {
        Err(error) if args.json => {
            let path = file.path();
            print_json(
                session.console,
                &Report {
                    path,
                    sound: false,
                    findings: vec![unusable(path, &error)],
                    warnings: Vec::new(),
                    notes: Vec::new(),
                },
            )?;
            return Err(error);
        }
        policy => policy?,
    };
    let is_there = policy.is_some();
    let policy = policy.unwrap_or_default();
    let (mut notes, found) = findings(&policy, session)?
        .into_iter()
        .partition::<Vec<_>, _>(|finding| finding.kind.is_note());
    let (mut warnings, mut findings) = found
        .into_iter()
        .partition::<Vec<_>, _>(|finding| finding.kind.is_warning());
    let sound = findings.is_empty();
    let warned = warnings.len();
    let exit = exit(sound && !(args.strict && warned > 0));
    if args.json {
        let all = notes.iter_mut().chain(&mut warnings).chain(&mut findings);
        for Finding { hint, .. } in all {
            *hint = in_text(hint).into_owned();
        }
        let path = file.path();
        print_json(
            session.console,
            &Report {
                path,
                sound,
                findings,
                warnings,
                notes,
            },
        )?;
        return Ok(exit);
    }
    for Finding {
        about,
        message,
        hint,
        ..
    } in &notes
    {
        let label = styled(HINT, "hint");
        session
            .console
            .note(format_args!("note: {about}: {message}\n  {label}: {hint}"));
    }
    for Finding {
        about,
        message,
        hint,
        ..
    } in &warnings
    {
        let label = styled(HINT, "hint");
        session
            .console
            .warn(format_args!("{about}: {message}\n  {label}: {hint}"));
    }
    if sound && !is_there {
        session.console.note(format_args!(
            "there is no policy `{}`, and so nothing is granted for good",
            file.path().display()
        ));
    } else if sound {
        let count = with_grants(&policy);
        session.console.note(format_args!(
            "{} the policy `{}` is sound, {}{}",
            match warned {
                0 => styled(GOOD, "✓"),
                _ => styled(WARNING, "!"),
            },
            file.path().display(),
            match count {
                0 => "with no grants".to_owned(),
                _ => format!("with grants for {}", units::counted(count as u64, "skill")),
            },
            match warned {
                0 => String::new(),
                _ => format!(", and {}", units::counted(warned as u64, "warning")),
            }
        ));
    } else {
        for Finding {
            about,
            message,
            hint,
            ..
        } in &findings
        {
            let (found, label) = (styled(WARNING, "found"), styled(HINT, "hint"));
            let message = printable(message, false);
            let hint = printable(hint, false);
            let hint = in_text(&hint);
            print(format_args!(
                "{found}: {about}: {message}\n  {label}: {hint}\n"
            ))?;
        }
        session.console.note(format_args!(
            "{} the policy `{}`: {} found{}",
            styled(ERROR, "✗"),
            file.path().display(),
            findings.len(),
            match warned {
                0 => String::new(),
                _ => format!(", and {}", units::counted(warned as u64, "warning")),
            }
        ));
    }
    Ok(exit)
}

/// What whoever reads JSON is told of a policy that cannot be used.
fn unusable(path: &Path, error: &anyhow::Error) -> Finding {
    let (message, hint) = told(error);
    Finding {
        kind: Kind::Unusable,
        about: About::Policy(path.to_owned()),
        message,
        hint,
    }
}

/// An error and what to do about it, each as one text.
fn told(error: &anyhow::Error) -> (String, String) {
    let (details, hints) = match error.downcast_ref::<Complaint>() {
        Some(complaint) => (complaint.details.as_slice(), complaint.hints.as_slice()),
        None => Default::default(),
    };
    let said = error.chain().map(ToString::to_string);
    let message: Vec<String> = said.chain(details.iter().cloned()).collect();
    (message.join("\n"), hints.join("\n"))
}

/// The skills that the policy grants something to.
pub fn with_grants(policy: &Policy) -> usize {
    let entries = policy.skills.values();
    entries.filter(|entry| !entry.grants.is_empty()).count()
}

fn exit(sound: bool) -> Exit {
    if sound { Exit::Success } else { Exit::Rejected }
}

/// An installed version of a skill.
struct Version {
    version: String,
    digest: Digest,
    declared: Option<Declared>,
}

/// What there is to find in a policy, for whoever only wants to know whether it is sound: how many findings, an audit
/// that is not kept and secrets that cannot be had among them, and the first of them with what to do about it.
///
/// # Errors
/// Where the installed skills cannot be read.
pub fn first_finding(
    policy: &Policy,
    session: &Session,
) -> anyhow::Result<Option<(usize, String, String)>> {
    let mut findings = findings(policy, session)?;
    findings.retain(|Finding { kind, .. }| {
        matches!(kind, Kind::Unaudited | Kind::Unneeded | Kind::Secret)
            || !kind.is_warning() && !kind.is_note()
    });
    let count = findings.len();
    let first = findings.into_iter().next();
    Ok(first.map(|first| {
        (
            count,
            format!("{}: {}", first.about, first.message),
            first.hint,
        )
    }))
}

fn findings(policy: &Policy, session: &Session) -> anyhow::Result<Vec<Finding>> {
    let library = session.places()?.library();
    let secrets = SourceArgs::default().secrets(session)?;
    let installed = library.list().map_err(explain::library)?;
    let unreadable = absent::Unreadable::of(&library)?;
    let mut findings = Vec::new();
    let mut entries = policy.skills.values();
    // It knows its own folders. Where no folder is granted, it need not be asked.
    let on = match entries.any(|entry| !entry.grants.directories.is_empty()) {
        true => {
            let on = CommandHost::open(session, super::settings(session))?;
            // By it skills may write where links stand.
            on.host.set_policy(Some(policy.clone()));
            Some(on)
        }
        false => None,
    };
    for (name, entry) in &policy.skills {
        let mut versions = Vec::new();
        for skill in installed.iter().filter(|skill| skill.name == *name) {
            let reference = SkillRef::Name {
                name: name.clone(),
                version: Some(skill.version.clone()),
            };
            match library.read(&reference, CompileSettings::default().max_component_bytes) {
                Ok(package) => versions.push(Version {
                    version: skill.version.clone(),
                    digest: skill.digest,
                    declared: package.manifest.map(|manifest| manifest.grants),
                }),
                Err(error) => findings.push(Finding {
                    kind: Kind::Unreadable,
                    about: About::Skill(name.clone()),
                    message: error.to_string(),
                    hint: format!(
                        "install it anew, or remove it with `skillhost remove {}`",
                        shell_word(&reference.to_string())
                    ),
                }),
            }
        }
        about(name, entry, &versions, on.as_ref(), &mut findings);
        wide::addresses(name, entry, &mut findings);
        misspelt::methods(name, entry, &mut findings);
        if !unreadable.has(name) {
            confirmed::not_installed(name, entry, &installed, &mut findings);
        }
        if !installed.iter().any(|skill| skill.name == *name) && !unreadable.has(name) {
            absent::entry(name, entry, &installed, &mut findings);
        }
        let declared: Vec<&Declared> = declarations(entry, &versions).flatten().collect();
        let all = &entry.grants;
        for (message, hint) in idle(name, &declared, all, all, policy, &secrets) {
            findings.push(Finding {
                kind: Kind::Secret,
                about: About::Skill(name.clone()),
                message,
                hint,
            });
        }
    }
    findings.extend(kept::audit(policy, session));
    findings.extend(kept::secrets(policy, session));
    absent::rules(policy, &installed, &unreadable, &mut findings);
    findings.extend(unreadable.findings(policy));
    void::ceilings(policy, &mut findings);
    Ok(findings)
}

/// What there is to find in one entry.
fn about(
    name: &str,
    entry: &SkillPolicy,
    versions: &[Version],
    on: Option<&CommandHost>,
    findings: &mut Vec<Finding>,
) {
    let mut find = |kind, message: String, hint: String| {
        findings.push(Finding {
            kind,
            about: About::Skill(name.to_owned()),
            message,
            hint,
        });
    };
    let names = GrantNames::of(&entry.grants);
    for denial in denials(name, entry, versions) {
        let hint = match names.to_take_out(name, &denial) {
            Some(command) => format!("{}; to take it out: `{command}`", denial.hint),
            // It is one that is needed.
            None => denial.hint.clone(),
        };
        find(Kind::Grant, denial.to_string(), hint);
    }
    let mut declared = declarations(entry, versions);
    if let Some(first) = declared.next() {
        let mut wider = super::wider_than_declared(first, &entry.grants);
        for other in declared {
            let also = super::wider_than_declared(other, &entry.grants);
            wider.retain(|grant| also.contains(grant));
        }
        for grant in wider {
            let hint = "grant it `ro`, or have `mode = \"rw\"` declared".to_owned();
            find(Kind::Wider, without_effect(grant), hint);
        }
    }
    for directory in &entry.grants.directories {
        let to_take_out = names.to_revoke(name, Capability::Directory, &directory.guest);
        if let Some(on) = on.filter(|_| directory.host.is_dir())
            && let Some(denial) = super::unopenable(on, directory)
        {
            let hint = match &to_take_out {
                Some(command) => format!("{}; to take it out: `{command}`", denial.hint),
                None => denial.hint.clone(),
            };
            find(Kind::Directory, denial.to_string(), hint);
        }
        if !directory.host.is_dir() {
            find(
                Kind::Directory,
                format!(
                    "`{}` is not a folder that is there",
                    directory.host.display()
                ),
                match &to_take_out {
                    Some(command) => format!("make it, or take the grant out: `{command}`"),
                    None => "make it, or take the grant out".to_owned(),
                },
            );
        }
    }
    if entry.grants.is_empty() {
        return;
    }
    for Version {
        version, digest, ..
    } in versions
    {
        if entry.confirmation(digest).is_none() {
            let full = format!("{name}@{version}");
            find(
                Kind::Unconfirmed,
                format!("{full} is installed and not confirmed ({digest})"),
                format!(
                    "`{}` shows what it wants, `{}` confirms it",
                    command("diff", &full),
                    command("confirm", &full)
                ),
            );
        }
    }
}

/// What each version declares, of those that are installed or were confirmed.
fn declarations<'v>(
    entry: &'v SkillPolicy,
    versions: &'v [Version],
) -> impl Iterator<Item = Option<&'v Declared>> {
    let installed = versions.iter().map(|version| version.declared.as_ref());
    let confirmed = entry.confirmed.iter().filter_map(|confirmed| {
        let wanted = confirmed.wanted.as_ref()?;
        Some(wanted.declared.as_ref())
    });
    installed.chain(confirmed)
}

/// Grants that no version takes, of those that are installed or were confirmed; and keys that an
/// installed and confirmed one requires.
fn denials(name: &str, entry: &SkillPolicy, versions: &[Version]) -> Vec<Denial> {
    let mut refused =
        declarations(entry, versions).map(|declared| intersection(declared, &entry.grants).1);
    let mut denials = refused.next().unwrap_or_default();
    let about = |denial: &Denial| (denial.capability, denial.subject.clone());
    for other in refused {
        let other: HashSet<_> = other.iter().map(about).collect();
        denials.retain(|denial| other.contains(&about(denial)));
    }
    for version in versions {
        if entry.confirmation(&version.digest).is_some() {
            let declared = version.declared.as_ref();
            let (fitting, _) = intersection(declared, &entry.grants);
            denials.extend(
                effective(name, declared, &fitting)
                    .err()
                    .unwrap_or_default(),
            );
        }
    }
    denials
}
