//! `skillhost policy show`: what is granted, and to which digests.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde::Serialize;
use skillhost::grant::{Denial, Grants, command};
use skillhost::policy::{ApprovalPolicy, AuditPolicy, Consent, SkillPolicy};
use skillhost::skill::Installed;
use skillhost::text::printable;
use skillhost::{Policy, SkillIdentity};

use super::{PolicyFile, Standing, rules};
use crate::cli::complaint::{Complaint, show_hint};
use crate::cli::console::{BOLD, DIM, GOOD, WARNING, print, print_json, styled};
use crate::cli::exit::Exit;
use crate::cli::locate::SKILL_HELP;
use crate::cli::table::Table;
use crate::cli::{Session, explain, grants, units};

const EXAMPLES: &str = "\
Examples:
  skillhost policy show
  skillhost policy show csv-query --json | jq .grants";

/// Show what the policy grants, and to which digests
///
/// Of one skill, what it gets when it runs, and what it wants besides.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Shows the policy, or how one skill stands with it.
///
/// # Errors
/// Where the policy or the skill cannot be used.
pub fn show(args: &ShowArgs, session: &Session) -> anyhow::Result<Exit> {
    let file = session.policy_file()?;
    let policy = file.read()?;
    match &args.skill {
        Some(_) => one(args, session, &policy.unwrap_or_default()),
        None => all(args, session, &file, policy),
    }
}

#[derive(Serialize)]
struct OneSkill<'a> {
    #[serde(flatten)]
    skill: &'a SkillIdentity,
    #[serde(flatten)]
    standing: Standing,
}

fn one(args: &ShowArgs, session: &Session, policy: &Policy) -> anyhow::Result<Exit> {
    let typed = args.skill.as_deref().unwrap_or_else(|| "".as_ref());
    let (on, skill) = match super::load_on_host(typed, session) {
        Ok(loaded) => loaded,
        // What the policy says of a skill that is gone can still be shown.
        Err(error) => {
            let entry = typed
                .to_str()
                .and_then(|name| policy.skills.get_key_value(name));
            return match entry {
                Some((name, entry)) if args.json => {
                    let gone = Gone { name, entry };
                    print_json(session.console, &gone)?;
                    Ok(Exit::Success)
                }
                Some((name, entry)) => {
                    print(entry_text(name, entry, [].into_iter()))?;
                    session
                        .console
                        .warn(format_args!("it cannot be loaded: {error}"));
                    let complaint = error.downcast_ref::<Complaint>();
                    for hint in complaint.iter().flat_map(|complaint| &complaint.hints) {
                        if !session.console.quiet {
                            show_hint(hint);
                        }
                    }
                    Ok(Exit::Success)
                }
                None => Err(error),
            };
        }
    };
    on.host.set_policy(Some(policy.clone()));
    let mut standing = Standing::new(policy, &skill, typed);
    let folders = standing.from_policy.directories.iter();
    let unopenable: Vec<Denial> = folders
        .filter_map(|folder| super::unopenable(&on, folder))
        .collect();
    standing.denials.extend(unopenable);
    if args.json {
        let skill = skill.identity();
        print_json(session.console, &OneSkill { skill, standing })?;
        return Ok(Exit::Success);
    }
    let mut out = format!("{}\n", styled(BOLD, super::title(&skill)));
    let mut facts = Table::new(2);
    facts.row(["digest".into(), skill.digest().to_string()]);
    facts.row([
        "consent".into(),
        match standing.consent {
            Consent::Given => styled(GOOD, "given"),
            Consent::Missing => styled(WARNING, "missing: it is not run until it is confirmed"),
            Consent::NotNeeded => "not needed: the policy grants it nothing".into(),
        },
    ]);
    let _ = write!(
        out,
        "{facts}\n{}\n{standing}",
        styled(BOLD, "Granted by the policy")
    );
    let entry = policy.skills.get(&skill.identity().name);
    if let Some(said) = entry.map(rules::table)
        && !said.is_empty()
    {
        let _ = write!(out, "\n{}\n{said}", styled(BOLD, "Rules"));
    }
    if !standing.missing.is_empty() {
        let _ = writeln!(out, "\n{}", styled(BOLD, "Declared, and not granted"));
        if matches!(standing.consent, Consent::Missing) {
            let confirm =
                printable(&command("confirm", &typed.to_string_lossy()), false).into_owned();
            let _ = writeln!(out, "  First confirm what is granted already: `{confirm}`");
        }
        for denial in &standing.missing {
            let hint = printable(&denial.hint, false);
            let _ = writeln!(out, "  {}\n    {hint}", grants::missing(denial));
        }
    }
    // Each line came through `printable`.
    print(out)?;
    Ok(Exit::Success)
}

/// A skill that the policy speaks of, and that cannot be loaded.
#[derive(Serialize)]
struct Gone<'a> {
    name: &'a str,
    #[serde(flatten)]
    entry: &'a SkillPolicy,
}

#[derive(Serialize)]
struct Everything<'a> {
    path: &'a std::path::Path,
    exists: bool,
    policy: &'a Policy,
    /// Installed skills for whose names there are grants, and whether they are confirmed.
    installed: Vec<InstalledSkill>,
}

#[derive(Serialize)]
struct InstalledSkill {
    #[serde(flatten)]
    skill: Installed,
    consent: Consent,
}

fn all(
    args: &ShowArgs,
    session: &Session,
    file: &PolicyFile,
    policy: Option<Policy>,
) -> anyhow::Result<Exit> {
    let exists = policy.is_some();
    let policy = policy.unwrap_or_default();
    let installed = session
        .places()?
        .library()
        .list()
        .map_err(explain::library)?;
    let installed: Vec<InstalledSkill> = installed
        .into_iter()
        .filter(|skill| policy.skills.contains_key(&skill.name))
        .map(|skill| InstalledSkill {
            consent: policy.consent(&skill.name, &skill.digest),
            skill,
        })
        .collect();
    if args.json {
        let everything = Everything {
            path: file.path(),
            exists,
            policy: &policy,
            installed,
        };
        print_json(session.console, &everything)?;
        return Ok(Exit::Success);
    }
    let path = file.path().display();
    if policy == Policy::default() {
        let what = match exists {
            true => format!("the policy `{path}` grants nothing"),
            false => format!("there is no policy `{path}`, and so nothing is granted for good"),
        };
        session.console.note(what);
        if !session.console.quiet {
            show_hint("`skillhost policy grant SKILL` grants something");
        }
        return Ok(Exit::Success);
    }
    let mut out = format!("{}\n", styled(DIM, path));
    let tenants = policy.tenants.iter();
    let tenants = tenants.map(|(name, said)| (printable(name, false), rules::table(said)));
    let scopes = [
        ("in general".into(), rules::table(&policy.general)),
        ("each tenant".into(), rules::table(&policy.each_tenant)),
    ];
    let rest = [
        ("each skill".into(), rules::table(&policy.each_skill)),
        ("each host".into(), rules::table(&policy.each_host)),
    ];
    let tenants = tenants.map(|(name, said)| (format!("tenant {name}").into(), said));
    for (title, said) in scopes.into_iter().chain(tenants).chain(rest) {
        let title: std::borrow::Cow<'_, str> = title;
        if !said.is_empty() {
            let _ = write!(out, "\n{}\n{said}", styled(BOLD, title));
        }
    }
    for (title, said) in [("approval", approval(&policy)), ("audit", audit(&policy))] {
        if !said.is_empty() {
            let _ = write!(out, "\n{}\n{said}", styled(BOLD, title));
        }
    }
    for (name, entry) in &policy.skills {
        let versions = installed.iter().filter(|other| other.skill.name == *name);
        let _ = write!(out, "\n{}", entry_text(name, entry, versions));
    }
    print(out)?;
    let mut without_sources = policy;
    without_sources.secrets.clear();
    if without_sources == Policy::default() {
        let what = "it grants nothing; it says where secrets come from";
        session.console.note(what);
    }
    Ok(Exit::Success)
}

/// The rules that ask and deny, in their order.
fn approval(policy: &Policy) -> Table {
    let approval = &policy.approval;
    let mut table = Table::new(2);
    if *approval == ApprovalPolicy::default() {
        return table;
    }
    for (index, rule) in approval.rules.iter().enumerate() {
        let mut named = match serde_json::to_value(rule) {
            Ok(serde_json::Value::Object(named)) => named,
            _ => serde_json::Map::new(),
        };
        named.remove("action");
        named.remove("name");
        let named: Vec<String> = named
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let matches = match named.is_empty() {
            true => "everything".to_owned(),
            false => named.join(", "),
        };
        let name = rule.name.as_deref().unwrap_or_default();
        let title = format!("{} {name}", index + 1);
        table.row([
            printable(title.trim_end(), false).into_owned(),
            rule.action.as_str().to_owned(),
            printable(&matches, false).into_owned(),
        ]);
    }
    table.row([
        "questions".to_owned(),
        format!("{} a tenant", approval.max_pending),
        format!(
            "wait {}, expire after {}",
            units::duration(approval.wait),
            units::duration(approval.expires)
        ),
    ]);
    table
}

/// What is kept of the audit, where the policy says something about it.
fn audit(policy: &Policy) -> Table {
    let audit = &policy.audit;
    let mut table = Table::new(2);
    if *audit == AuditPolicy::default() {
        return table;
    }
    let mut row = |name: &str, value: String| {
        table.row([name.to_owned(), printable(&value, false).into_owned()]);
    };
    row("enabled", audit.enabled.to_string());
    row("required", audit.required.to_string());
    if let Some(folder) = &audit.folder {
        row("folder", folder.display().to_string());
    }
    row("keep", units::duration(audit.keep));
    row(
        "max_file_bytes",
        skillhost::limits::exact_bytes(audit.max_file_bytes),
    );
    table
}

fn entry_text<'a>(
    name: &str,
    entry: &SkillPolicy,
    installed: impl Iterator<Item = &'a InstalledSkill>,
) -> String {
    let mut out = format!("{}\n", styled(BOLD, name));
    let granted = grants::table(&entry.grants, &Grants::default());
    if granted.is_empty() {
        out.push_str("  nothing granted\n");
    }
    out.push_str(&granted.to_string());
    out.push_str(&rules::table(entry).to_string());
    let mut digests = Table::new(2);
    for confirmed in &entry.confirmed {
        digests.row([
            "confirmed".to_owned(),
            printable(confirmed.version.as_deref().unwrap_or("-"), false).into_owned(),
            confirmed.digest.to_string(),
        ]);
    }
    for other in installed {
        let InstalledSkill { skill, consent } = other;
        if *consent == Consent::Missing {
            digests.row([
                "installed".to_owned(),
                skill.version.clone(),
                format!("{} {}", skill.digest, styled(WARNING, "not confirmed")),
            ]);
        }
    }
    out.push_str(&digests.to_string());
    out
}
