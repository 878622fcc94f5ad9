//! `skillhost remove`: out of the library of skills.

use clap::Args;
use skillhost::grant::{Grants, command};
use skillhost::policy::SkillPolicy;
use skillhost::skill::{Digest, Installed, Library, LibraryError};

use super::complaint::Complaint;
use super::console::{GOOD, styled};
use super::exit::Exit;
use super::{Session, explain};

const EXAMPLES: &str = "\
Examples:
  skillhost remove word-count
  skillhost remove word-count@0.1.0";

/// Remove an installed skill
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RemoveArgs {
    /// Which one: NAME, NAME@VERSION where there are several versions, or a digest, as `list` shows it
    #[arg(value_name = "NAME[@VERSION]")]
    skill: String,
}

/// Removes an installed skill.
///
/// # Errors
/// Where there is none of that name, or several versions of it.
pub fn remove(args: &RemoveArgs, session: &Session) -> anyhow::Result<Exit> {
    let library = session.places()?.library();
    let typed = &args.skill;
    let digits = || explain::too_few_digits(typed, &library);
    let reference = library.reference(typed).map_err(explain::library)?;
    let reference = reference.ok_or_else(|| {
        let hint = digits().unwrap_or_else(|| {
            "write NAME, NAME@VERSION, or the first 8 digits of a digest or more; `skillhost list` shows them"
                .to_owned()
        });
        Complaint::usage(format!("`{typed}` is no installed skill")).hint(hint)
    })?;
    let explained = |error| {
        let digits = match error {
            LibraryError::NotInstalled { .. } => digits(),
            _ => None,
        };
        let mut complaint = explain::library(error);
        if let Some(hint) = digits {
            complaint.hints = vec![hint];
        }
        complaint
    };
    let (title, digest) = match library.remove(&reference) {
        Ok(Installed {
            name,
            version,
            digest,
            ..
        }) => (format!("{name}@{version}"), Some(digest)),
        Err(LibraryError::Record { .. }) => {
            let removed = library.remove_unreadable(&reference).map_err(explained)?;
            (removed, None)
        }
        Err(error) => return Err(explained(error).into()),
    };
    let known = match digest {
        Some(digest) => digest.to_string(),
        None => "its record could not be read".to_owned(),
    };
    session.console.note(format_args!(
        "{} {title} is removed ({known})",
        styled(GOOD, "✓")
    ));
    let name = title.split('@').next().unwrap_or_default();
    if let Some(left) = left(name, digest, &library, session) {
        session.console.note(left);
    }
    Ok(Exit::Success)
}

/// What the policy still has of a skill of which no version is installed now, or of the one that was, and how it is taken away. Of a policy
/// that cannot be used says so whoever uses it.
fn left(
    name: &str,
    removed: Option<Digest>,
    library: &Library,
    session: &Session,
) -> Option<String> {
    let file = session.policy_file().ok()?;
    let policy = file.read().ok()??;
    let entry = policy.skills.get(name)?;
    let installed = library.list().ok()?;
    if installed.iter().any(|other| other.name == name) {
        // Whoever has its file runs it as before.
        let confirmed = removed.filter(|digest| entry.confirmation(digest).is_some())?;
        return Some(format!(
            "note: that it is confirmed stays in the policy `{}`; `{}` takes that back",
            file.path().display(),
            command("revoke", &confirmed.to_string())
        ));
    }
    let (stays, away) = match (entry.grants.is_empty(), entry.confirmed.is_empty()) {
        (false, _) => ("its grants stay", "takes them away"),
        (true, false) => ("that it is confirmed stays", "takes that away"),
        (true, true) => return None,
    };
    let mut rules = entry.clone();
    rules.grants = Grants::default();
    rules.confirmed.clear();
    let too = match rules == SkillPolicy::default() {
        true => "",
        false => ", and with them all else that is said of it there, such as its ceilings",
    };
    Some(format!(
        "note: {stays} in the policy `{}`; `{} --all` {away}{too}",
        file.path().display(),
        command("revoke", name)
    ))
}
