//! `skillhost approvals show`: exactly what would run.

use clap::Args;
use skillhost::Policy;
use skillhost::grant::Grants;
use skillhost::limits::display_bytes;
use skillhost::policy::Approval;
use skillhost::text::printable;

use super::found::{Found, one};
use crate::cli::Session;
use crate::cli::console::{BOLD, print, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::grants;
use crate::cli::jobs::{short, what, written};
use crate::cli::table::Table;

/// Show exactly what an approval is for
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which approval, or which job that waits for one
    #[arg(value_name = "ID")]
    id: String,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Shows an approval.
///
/// # Errors
/// Where there is none, or it or the policy cannot be read.
pub fn show(args: &ShowArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    let policy = session.policy_file()?.read()?.unwrap_or_default();
    database.with(session, async |queue, _| {
        let found = one(&queue, &args.id).await?;
        match &found {
            _ if args.json => print_json(session.console, &found)?,
            Found::Approval(approval) => print(text(approval, &policy))?,
            Found::Job(job) => print(format_args!(
                "job {}: {}; `skillhost jobs show {}` shows it\n",
                job.id,
                what(job),
                short(&job.id)
            ))?,
        }
        Ok(Exit::Success)
    })
}

fn text(approval: &Approval, policy: &Policy) -> String {
    let wanted = &approval.wanted;
    let mut facts = Table::new(2);
    let mut fact = |name: &str, value: String| {
        facts.row([name.to_owned(), printable(&value, false).into_owned()]);
    };
    fact("status", approval.status.to_string());
    fact("rule", wanted.rule.clone());
    fact(
        "skill",
        format!("{}@{}", wanted.skill.name, wanted.skill.version),
    );
    fact("digest", wanted.skill.digest.to_string());
    fact("tool", wanted.tool.clone());
    for (name, value) in [
        ("tenant", &wanted.tenant),
        ("user", &wanted.user),
        ("session", &wanted.session),
    ] {
        if let Some(value) = value {
            fact(name, value.clone());
        }
    }
    fact("request", wanted.request.to_string());
    if let Some(job) = wanted.job {
        fact("job", job.to_string());
    }
    fact("asked", written(approval.asked_at));
    fact("until", written(approval.until));
    if let (Some(at), Some(by)) = (approval.decided_at, &approval.decided_by) {
        fact("answered", format!("{} by {by}", written(at)));
        if approval.status.is_open() {
            let holds = if approval.once { "once" } else { "for a time" };
            fact("holds", holds.to_owned());
        }
    }
    for attachment in &wanted.attachments {
        let size = display_bytes(attachment.bytes);
        fact(
            "attachment",
            format!("{} ({}, {size})", attachment.name, attachment.media_type),
        );
    }
    fact("input", wanted.input.clone());
    let mut text = format!(
        "{}\n{facts}",
        styled(BOLD, format_args!("approval {}", approval.id))
    );
    let of_policy = policy.skills.get(&wanted.skill.name);
    for (title, granted) in [
        ("grants that it asks for", Some(&wanted.grants)),
        (
            "what the policy here grants the skill",
            of_policy.map(|entry| &entry.grants),
        ),
    ] {
        if let Some(granted) = granted.filter(|granted| **granted != Grants::default()) {
            text.push_str(&format!(
                "{}\n{}",
                styled(BOLD, title),
                grants::table(granted, &Grants::default())
            ));
        }
    }
    text
}
