//! `skillhost policy grant`: for good, and to a digest.

use std::path::{Component, Path, PathBuf};

use clap::{Args, ValueHint};
use skillhost::grant::{DirectoryGrant, Grants, Mode, command, intersection};
use skillhost::policy::Consent;
use skillhost::text::printable;
use skillhost::{Policy, Skill};

use crate::cli::complaint::Complaint;
use crate::cli::console::{Console, GOOD, HINT, styled};
use crate::cli::exit::Exit;
use crate::cli::grants::{self, GrantArgs};
use crate::cli::host::CommandHost;
use crate::cli::locate::SKILL_HELP;
use crate::cli::secrets::SourceArgs;
use crate::cli::{Session, explain};

use super::PolicyFile;
use super::check::{misspelt, wide};
use super::secrets::idle;

const EXAMPLES: &str = "\
Examples:
  skillhost policy grant csv-query --dir /srv/reports:/data --config max_rows=50
  skillhost policy grant ./my-skill --env TZ=UTC";

/// Grant a skill something for good
///
/// The grants are those of `skillhost run`, and are added to the policy; one for the same guest path,
/// variable or key takes the other's place. They are given to the digest that the skill has now, and to
/// every other digest that is confirmed for its name. What its skill.toml does not declare cannot be
/// granted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PolicyGrantArgs {
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: PathBuf,
    /// What is granted.
    #[command(flatten)]
    grants: GrantArgs,
}

/// Adds grants to the policy.
///
/// # Errors
/// Where the skill does not declare them, or has grants that are not confirmed for this digest.
pub fn grant(args: PolicyGrantArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut granted = args.grants.grants()?;
    if granted == Grants::default() {
        let complaint = Complaint::usage("nothing is named that is to be granted");
        let hint = format!(
            "`{}` lists what the skill wants, and how to grant it",
            command("show", &args.skill.to_string_lossy())
        );
        return Err(complaint.hint(hint).into());
    }
    for directory in &mut granted.directories {
        make_absolute(directory)?;
    }
    let (on, skill) = super::load_on_host(&args.skill, session)?;
    declares(&skill, &granted)?;
    let file = session.policy_file()?;
    if !granted.directories.is_empty() {
        // By it skills may write where links stand.
        let policy = Policy::read(file.path()).map_err(explain::policy)?;
        on.host.set_policy(policy);
    }
    on.host.openable(&granted).map_err(|denial| {
        Complaint::new(Exit::Rejected, format!("cannot be granted: {denial}")).hint(denial.hint)
    })?;
    let record = super::record::Record::open(session)?;
    super::warn_of_narrowed(&skill, &granted, session.console);
    let (mut before, mut was_confirmed) = (Grants::default(), false);
    let entry = super::edit::edit(&file, |policy| {
        let entry = policy.skills.get(&*skill.identity().name);
        before = entry.map_or_else(Grants::default, |entry| entry.grants.clone());
        was_confirmed = entry.is_some_and(|entry| entry.confirmation(&skill.digest()).is_some());
        add(policy, &skill, &args.skill, &granted)
    })?;
    let is_new = entry != before || !was_confirmed;
    let had_nothing = before == Grants::default();
    if is_new {
        let names = super::record::names(&granted);
        record.given("grant", skill.identity(), &names)?;
    }
    let console = session.console;
    let title = super::title(&skill);
    console.note(format_args!(
        "{} {title} is {} granted, in `{}`:",
        styled(GOOD, "✓"),
        if is_new { "now" } else { "already" },
        file.path().display()
    ));
    // Those of the whole entry that were named here.
    let kept = entry.clone().except(&granted);
    let added = entry.clone().except(&kept);
    console.note(
        grants::table(&added, &Grants::default())
            .to_string()
            .trim_end(),
    );
    let replaced = replaced(before, &granted);
    if !replaced.is_empty() {
        let table = grants::table(&replaced, &Grants::default()).to_string();
        console.note(format_args!("in place of:\n{}", table.trim_end()));
    }
    warn_of_led(&on, &granted, &file, console);
    for message in granted.addresses.iter().filter_map(wide::said) {
        let label = styled(HINT, "hint");
        console.warn(format_args!("{message}\n  {label}: {}", wide::NARROW));
    }
    for (message, hint) in granted.http.iter().filter_map(misspelt::said) {
        let label = styled(HINT, "hint");
        console.warn(format_args!("{message}\n  {label}: {hint}"));
    }
    for directory in &granted.directories {
        let may = rustix::fs::access(&directory.host, rustix::fs::Access::WRITE_OK).is_ok();
        if directory.mode == Mode::Rw && !may {
            console.warn(format_args!(
                "this user cannot write in `{}`, and so no skill can",
                directory.host.display()
            ));
        }
    }
    if had_nothing {
        warn_of_stopped(session, &file, &skill);
    }
    let others = others_confirmed(&file.read()?.unwrap_or_default(), &skill);
    if is_new && !others.is_empty() {
        console.note(format_args!(
            "so is every other version that is confirmed and declares it: {}",
            others.join(", ")
        ));
    }
    if !granted.secrets.is_empty() {
        let secrets = SourceArgs::default().secrets(session)?;
        let policy = file.read()?.unwrap_or_default();
        let typed = args.skill.to_string_lossy();
        let declared = skill.manifest().map(|manifest| &manifest.grants);
        let declared = declared.as_slice();
        for (message, hint) in idle(&typed, declared, &granted, &entry, &policy, &secrets) {
            let label = styled(HINT, "hint");
            console.warn(format_args!("{message}\n  {label}: {hint}"));
        }
    }
    Ok(Exit::Success)
}

/// Says which installed versions have run without a confirmation so far, and do no longer: nothing was granted to the name.
fn warn_of_stopped(session: &Session, file: &PolicyFile, skill: &Skill) {
    // It is granted, and whoever reads either next says what is wrong with it by now.
    let (Ok(places), Ok(policy)) = (session.places(), file.read()) else {
        return;
    };
    let policy = policy.unwrap_or_default();
    let identity = skill.identity();
    for other in places.library().list().unwrap_or_default() {
        let is_stopped = *other.name == *identity.name
            && other.digest != identity.digest
            && policy.consent(&other.name, &other.digest) == Consent::Missing;
        if is_stopped {
            let reference = format!("{}@{}", other.name, other.version);
            let label = styled(HINT, "hint");
            session.console.warn(format_args!(
                "{reference}, which is installed, is not run any more until it is confirmed, too: what is granted to a \
                 name is given to confirmed digests alone\n  {label}: `{}` confirms it",
                command("confirm", &reference)
            ));
        }
    }
}

/// The other versions that are confirmed, and so get what is granted.
fn others_confirmed(policy: &Policy, skill: &Skill) -> Vec<String> {
    let identity = skill.identity();
    let entry = policy.skills.get(&*identity.name);
    let confirmed = entry.into_iter().flat_map(|entry| &entry.confirmed);
    let others = confirmed.filter(|other| other.digest != identity.digest);
    let others = others.map(|other| match &other.version {
        Some(version) => printable(version, false).into_owned(),
        None => other.digest.to_string(),
    });
    others.collect()
}

/// Says which directories of other skills can no longer be opened, as this one may write where their links stand.
fn warn_of_led(on: &CommandHost, granted: &Grants, file: &PolicyFile, console: Console) {
    let mut directories = granted.directories.iter();
    if !directories.any(|directory| directory.mode == Mode::Rw) {
        return;
    }
    // It is granted, and whoever reads the policy next says what is wrong with it by now.
    let Ok(after) = file.read().map(Option::unwrap_or_default) else {
        return;
    };
    let all = after.skills.iter().flat_map(|(name, entry)| {
        let directories = entry.grants.directories.iter();
        directories.map(move |directory| (name, directory))
    });
    let all = all.filter(|(_, directory)| !granted.directories.contains(directory));
    let could: Vec<_> = all
        .filter(|(_, directory)| super::unopenable(on, directory).is_none())
        .collect();
    on.host.set_policy(Some(after.clone()));
    for (name, directory) in could {
        if let Some(denial) = super::unopenable(on, directory) {
            let label = styled(HINT, "hint");
            let name = printable(name, false);
            console.warn(format_args!(
                "with this, what is granted to {name} cannot be opened: {denial}\n  {label}: {}",
                denial.hint
            ));
        }
    }
}

/// What was granted for the same guest path, variable or key as something that is granted now, and otherwise.
fn replaced(mut before: Grants, granted: &Grants) -> Grants {
    let kept = before.clone().except(granted);
    before = before.except(&kept);
    Grants {
        directories: before
            .directories
            .into_iter()
            .filter(|grant| !granted.directories.contains(grant))
            .collect(),
        environment: before
            .environment
            .into_iter()
            .filter(|(name, value)| granted.environment.get(name) != Some(value))
            .collect(),
        config: before
            .config
            .into_iter()
            .filter(|(key, value)| granted.config.get(key) != Some(value))
            .collect(),
        clock: before.clock.filter(|clock| granted.clock != Some(*clock)),
        random: before
            .random
            .filter(|random| granted.random != Some(*random)),
        ..Grants::default()
    }
}

/// What to say of a directory that is granted in a wider mode than is declared.
pub fn without_effect(grant: &DirectoryGrant) -> String {
    format!(
        "`{}` is granted to be written, and the skill's skill.toml declares it `ro`: it is opened for reading only",
        printable(&grant.guest, false)
    )
}

/// A policy holds wherever the command is run.
fn make_absolute(directory: &mut DirectoryGrant) -> anyhow::Result<()> {
    let typed = &directory.host;
    if !typed.is_dir() {
        if typed.exists() {
            let message = format!("`{}` is no folder", typed.display());
            let hint = "grant the folder that it is in; what a skill is granted is folders";
            return Err(Complaint::usage(message).hint(hint).into());
        }
        let message = format!("`{}` is not a folder that is there", typed.display());
        return Err(Complaint::usage(message)
            .hint("grant a directory that exists and that this user may read")
            .into());
    }
    if typed.to_str().is_none() {
        let message = format!("`{}` is not UTF-8, as a policy is", typed.display());
        return Err(Complaint::usage(message).into());
    }
    directory.host = without_parents(typed)?;
    Ok(())
}

/// The whole path, without the `..` in it, which would need what stands before it to be there for good. Links stay
/// links behind that: what they lead to is for whoever changes them.
fn without_parents(path: &Path) -> std::io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let mut clean = PathBuf::new();
    for part in whole.components() {
        clean.push(part);
        if part == Component::ParentDir {
            clean = clean.canonicalize()?;
        }
    }
    Ok(clean)
}

/// Whether the skill declares all of it.
fn declares(skill: &Skill, granted: &Grants) -> Result<(), Complaint> {
    let declared = skill.manifest().map(|manifest| &manifest.grants);
    let (_, denials) = intersection(declared, granted);
    let Some(first) = denials.first() else {
        return Ok(());
    };
    let mut complaint = Complaint::new(Exit::Rejected, format!("cannot be granted: {first}"));
    for denial in &denials[1..] {
        complaint = complaint.detail(denial.to_string());
    }
    for (message, hint) in granted.http.iter().filter_map(misspelt::said) {
        complaint = complaint.hint(format!("{message}; {hint}"));
    }
    for denial in &denials {
        if !complaint.hints.contains(&denial.hint) {
            complaint = complaint.hint(&denial.hint);
        }
    }
    Err(complaint)
}

/// Adds the grants, and gives all that the skill then has.
fn add(
    policy: &mut Policy,
    skill: &Skill,
    typed: &Path,
    granted: &Grants,
) -> anyhow::Result<Grants> {
    let identity = skill.identity();
    if policy.consent(&identity.name, &identity.digest) == Consent::Missing {
        // To add one grant must not be to consent to the others.
        let typed = typed.to_string_lossy();
        return Err(Complaint::new(
            Exit::Rejected,
            format!(
                "what the policy grants to `{}` is not confirmed for this digest",
                identity.name
            ),
        )
        .hint(format!(
            "see what it wants now with `{}`, and confirm it with `{}` first",
            command("diff", &typed),
            command("confirm", &typed)
        ))
        .into());
    }
    let entry = policy.skills.entry(identity.name.to_string()).or_default();
    entry.grants = std::mem::take(&mut entry.grants).with(granted);
    if entry.confirmation(&identity.digest).is_none() {
        entry.confirm(super::confirmation(skill));
    }
    Ok(entry.grants.clone())
}
