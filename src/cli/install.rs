//! `skillhost install`: into the library of skills.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use skillhost::skill::{LibraryError, SkillRef};
use skillhost::text::printable;

use super::complaint::Complaint;
use super::console::{GOOD, styled};
use super::exit::Exit;
use super::host::{CommandHost, Settings, block_on};
use super::locate::{SKILL_HELP, locate_new};
use super::policy::Standing;
use super::{Session, explain};

const EXAMPLES: &str = "\
Examples:
  Install a skill from its source, and run it by name:
    skillhost install ./word-count
    skillhost run word-count
  Put another build in the place of the one with the same version:
    skillhost install word-count.wasm --replace";

/// Install a skill, so that it can be run by its name
///
/// Several versions can stand side by side; a bare name means the highest. What is run later is
/// exactly what was installed: a change of the component, of skill.toml or of the record of it on disk is noticed, and
/// installing the skill again puts it right.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InstallArgs {
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: PathBuf,
    /// Put it in the place of another skill of the same name and version
    #[arg(long)]
    replace: bool,
}

/// Installs a skill.
///
/// # Errors
/// Where it cannot be loaded, or another one stands in its place.
pub fn install(args: &InstallArgs, session: &Session) -> anyhow::Result<Exit> {
    let package = locate_new(&args.skill, session)?;
    let command_host = CommandHost::open(session, Settings::default())?;
    let skill = block_on(async |mut interrupts| {
        interrupts.count_termination()?;
        let loaded = command_host.load(package.clone(), &args.skill, &mut interrupts);
        let loaded = loaded.await?;
        if interrupts.end().await {
            let cancelled = "cancelled before the skill was installed";
            return Err(Complaint::new(Exit::Cancelled, cancelled).into());
        }
        Ok(loaded)
    })?;
    let library = session.places()?.library();
    let identity = skill.identity();
    let before = library.find(&SkillRef::Name {
        name: identity.name.to_string(),
        version: Some(identity.version.to_string()),
    });
    let installed = library
        .install(&package, skill.description(), args.replace)
        .map_err(explain::library)?;
    let what = match before {
        Ok(before) if before == installed => "was installed already",
        Ok(before) if before.digest == installed.digest => {
            "is installed anew, as what stood there differed"
        }
        Ok(_) => "is now installed in the other's place",
        Err(LibraryError::Record { .. }) => "is installed anew, as what stood there was damaged",
        Err(_) => "is now installed",
    };
    session.console.note(format_args!(
        "{} {}@{} {what} ({})",
        styled(GOOD, "✓"),
        installed.name,
        installed.version,
        installed.digest
    ));
    // It is installed all the same where the policy cannot be read, which is told once it is run.
    if let Ok(Some(policy)) = session.policy_file().and_then(|file| file.read()) {
        // What its bare name means may be another version.
        let bare = SkillRef::Name {
            name: installed.name.clone(),
            version: None,
        };
        let typed = match library.find(&bare) {
            Ok(meant) if meant.digest == installed.digest => installed.name.clone(),
            _ => format!("{}@{}", installed.name, installed.version),
        };
        let standing = Standing::new(&policy, &skill, Path::new(&typed));
        if let Some(todo) = standing.unconfirmed() {
            session.console.warn(format_args!(
                "it is not run until what the policy grants to it is confirmed for this digest: {}",
                printable(todo, false)
            ));
        }
    }
    Ok(Exit::Success)
}
