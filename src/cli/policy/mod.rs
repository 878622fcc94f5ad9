//! `skillhost policy`: what skills are granted for good.
//!
//! Modules, in the order in which to read them:

mod place;
mod standing;

mod check;
mod diff;
mod show;

mod edit;
mod record;
mod secrets;
mod text;

mod confirm;
mod grant;
mod revoke;
mod rules;

use std::path::Path;

use clap::{Args, Subcommand};
use skillhost::grant::{Declared, Denial, DirectoryGrant, Grants, intersection};
use skillhost::policy::Confirmation;
use skillhost::{Policy, Skill};

use super::Session;
use super::complaint::Complaint;
use super::console::{Console, print_json};
use super::database::DatabaseArgs;
use super::exit::Exit;
use super::host::{CommandHost, Settings, block_on};
use super::locate::locate;
pub use check::{first_finding, with_grants};
pub use place::PolicyFile;
pub use standing::Standing;

const EXAMPLES: &str = "\
Examples:
  Let an installed skill read a folder whenever it runs:
    skillhost policy grant csv-query --dir /srv/reports:/data
  See what it is granted, and what it wants besides:
    skillhost policy show csv-query
  After an update, see what it wants now, and consent to it:
    skillhost policy diff csv-query
    skillhost policy confirm csv-query

A grant is given to a digest: to exactly the component and the skill.toml that
were looked at. A skill that changed is not run until what the policy grants to
its name is confirmed for it, too.";

/// Show and change what skills are granted for good
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

/// What the help says of each stands with its arguments.
#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Show(show::ShowArgs),
    Check(check::CheckArgs),
    Grant(grant::PolicyGrantArgs),
    Revoke(revoke::RevokeArgs),
    Diff(diff::DiffArgs),
    Confirm(confirm::ConfirmArgs),
    /// Print the JSON Schema of the policy file
    ///
    /// Editors that know JSON Schema can check the file with it while it is written.
    Schema,
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the policy, or a skill that is named, cannot be used.
pub fn policy(args: PolicyArgs, session: &Session) -> anyhow::Result<Exit> {
    match args.command {
        PolicyCommand::Show(args) => show::show(&args, session),
        PolicyCommand::Check(args) => check::check(&args, session),
        PolicyCommand::Grant(args) => grant::grant(args, session),
        PolicyCommand::Revoke(args) => revoke::revoke(&args, session),
        PolicyCommand::Diff(args) => diff::diff(&args, session),
        PolicyCommand::Confirm(args) => confirm::confirm(&args, session),
        PolicyCommand::Schema => {
            print_json(session.console, &Policy::json_schema())?;
            Ok(Exit::Success)
        }
    }
}

/// Finds and loads the skill that was typed.
fn load(typed: &Path, session: &Session) -> anyhow::Result<Skill> {
    Ok(load_on_host(typed, session)?.1)
}

/// The same, with the host that it was loaded on.
fn load_on_host(typed: &Path, session: &Session) -> anyhow::Result<(CommandHost, Skill)> {
    let package = locate(typed, session)?;
    let on = CommandHost::open(session, settings(session))?;
    let skill = block_on(async |mut interrupts| on.load(package, typed, &mut interrupts).await)?;
    Ok((on, skill))
}

/// What a host must be told so that it knows all of its own files.
fn settings(session: &Session) -> Settings {
    Settings {
        database: DatabaseArgs::of_environment().database(session).ok(),
        for_operator: true,
        ..Settings::default()
    }
}

/// Why no run can open this folder, whatever is granted.
fn unopenable(on: &CommandHost, folder: &DirectoryGrant) -> Option<Denial> {
    let alone = Grants {
        directories: vec![folder.clone()],
        ..Grants::default()
    };
    on.host.openable(&alone).err()
}

/// The directories that are granted to be written, of which a skill that declares this is given no more
/// than reading.
fn wider_than_declared<'g>(
    declared: Option<&Declared>,
    granted: &'g Grants,
) -> Vec<&'g DirectoryGrant> {
    // Each by itself: of two at one path, neither is the narrower of the other.
    let narrowed = |grant: &&DirectoryGrant| {
        let alone = Grants::default().directory(&grant.host, &grant.guest, grant.mode);
        let given = intersection(declared, &alone).0.directories;
        given.iter().any(|given| given.mode < grant.mode)
    };
    granted.directories.iter().filter(narrowed).collect()
}

/// Says which directories are granted in a wider mode than the skill declares.
pub fn warn_of_narrowed(skill: &Skill, granted: &Grants, console: Console) {
    let declared = skill.manifest().map(|manifest| &manifest.grants);
    for grant in wider_than_declared(declared, granted) {
        console.warn(grant::without_effect(grant));
    }
}

/// `name@version`.
fn title(skill: &Skill) -> String {
    let identity = skill.identity();
    format!("{}@{}", identity.name, identity.version)
}

/// The confirmation of a skill as it is now.
fn confirmation(skill: &Skill) -> Confirmation {
    let identity = skill.identity();
    Confirmation {
        digest: identity.digest,
        version: Some(identity.version.to_string()),
        at: Some(now()),
        wanted: Some(skill.wants()),
    }
}

/// To the second: more would only be noise in the file.
fn now() -> chrono::DateTime<chrono::Utc> {
    let now = chrono::Utc::now();
    chrono::DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now)
}

/// The policy has no entry of this name.
fn unknown(name: &str, policy: &Policy, file: &PolicyFile) -> Complaint {
    let complaint = Complaint::usage(format!(
        "the policy `{}` says nothing of `{name}`",
        file.path().display()
    ));
    match skillhost::text::closest(name, policy.skills.keys().map(String::as_str)) {
        Some(close) => complaint.hint(format!("did you mean `{close}`?")),
        // Other verbs take a path, or a name with a version.
        None if name.contains(['/', '@']) => complaint.hint(
            "it is the skill's name alone that stands here; `skillhost policy show` lists all that it has",
        ),
        None => complaint.hint("`skillhost policy show` lists all that it has"),
    }
}

#[cfg(test)]
mod tests {
    use skillhost::grant::Mode;

    use super::*;

    #[test]
    fn of_two_grants_at_one_path_neither_narrows_the_other() {
        let declared: Declared =
            toml::from_str("directories = [{ path = \"/data\", mode = \"rw\" }, { path = \"/in\", mode = \"ro\" }]")
                .unwrap();
        let twice = Grants::default()
            .directory("/d", "/data", Mode::Ro)
            .directory("/d", "/data", Mode::Rw)
            .directory("/d", "/in", Mode::Rw);
        let wider = wider_than_declared(Some(&declared), &twice);
        assert_eq!(wider, [&twice.directories[2]]);
    }
}
