//! `skillhost audit show`: what was written down.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueHint};
use serde_json::Value;
use skillhost::Status;
use skillhost::audit::{self, Filter, Kind, Record};
use skillhost::limits::{display_bytes, grouped};
use skillhost::text::{named, printable};
use uuid::Uuid;

use crate::cli::complaint::show_hint;
use crate::cli::console::{print, print_json};
use crate::cli::exit::Exit;
use crate::cli::jobs::moment;
use crate::cli::table::Table;
use crate::cli::{Session, explain};

const EXAMPLES: &str = "\
Examples:
  skillhost audit show
  skillhost audit show --since 1h --outcome rejected
  skillhost audit show --kind execution --skill text-stats --json |
      jq '.[].entry.usage.fuel'";

/// Show the last entries
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// Not older than that: a time such as 2026-01-31T12:00:00Z, or a duration such as 1h
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = past,
        help_heading = "Filter"
    )]
    since: Option<DateTime<Utc>>,
    /// Older than that
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = past,
        help_heading = "Filter"
    )]
    until: Option<DateTime<Utc>>,
    /// Of this tenant
    #[arg(long, value_name = "NAME", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// Of this skill, by its name, NAME@VERSION or digest (its first 8 digits will do); what was taken back from it, by
    /// its name alone
    #[arg(long, value_name = "SKILL", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    skill: Option<String>,
    /// Of this kind: execution, approval_asked, approval_decided, grant, policy, secret, breaker, opened
    /// or resumed; may be given several times. All unless set, but in the table those that say that a process began to
    /// write (opened)
    #[arg(long, value_name = "KIND", value_parser = str::parse::<Kind>, help_heading = "Filter")]
    kind: Vec<Kind>,
    /// That ended so: success, failed, timeout, cancelled, rejected or resource_exhausted
    #[arg(long, value_name = "STATUS", value_parser = str::parse::<Status>, help_heading = "Filter")]
    outcome: Option<Status>,
    /// Of this request
    #[arg(long, value_name = "ID", help_heading = "Filter")]
    request: Option<Uuid>,
    /// At most so many, the last ones
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    limit: u32,
    /// The folder, where it is another than the policy's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: Option<PathBuf>,
    /// Print the entries as JSON, with their files and lines
    #[arg(long)]
    json: bool,
}

/// A moment in the past.
fn past(text: &str) -> Result<DateTime<Utc>, String> {
    let now = Utc::now();
    match moment(text)? {
        moment @ crate::cli::jobs::Moment::At(_) => Ok(moment.from(now)),
        crate::cli::jobs::Moment::In(ago) => Ok(chrono::TimeDelta::from_std(ago)
            .ok()
            .and_then(|ago| now.checked_sub_signed(ago))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)),
    }
}

/// Shows entries.
///
/// # Errors
/// Where the audit cannot be read.
pub fn show(args: &ShowArgs, session: &Session) -> anyhow::Result<Exit> {
    let folder = super::current_folder(args.folder.as_ref(), session)?;
    let mut kinds = args.kind.clone();
    if kinds.is_empty() && !args.json {
        kinds.extend(Kind::ALL.into_iter().filter(|kind| *kind != Kind::Opened));
    }
    let filter = Filter {
        since: args.since,
        until: args.until,
        tenant: args.tenant.clone(),
        skill: args.skill.clone(),
        kinds,
        outcome: args.outcome.map(|status| status.to_string()),
        request: args.request,
        limit: Some(args.limit as usize),
    };
    let records = match super::is_to_be_made(args.folder.as_ref(), &folder)? {
        true => Vec::new(),
        false => audit::read(&folder, &filter).map_err(|error| explain::audit(&error))?,
    };
    if args.json {
        print_json(session.console, &records)?;
    } else if records.is_empty() {
        session.console.note("no entries");
        if args.skill.is_some() && !session.console.quiet {
            show_hint(
                "`--skill` takes a name, NAME@VERSION, or a digest, of which the first 8 digits will do and no fewer",
            );
        }
    } else {
        print(table(&records))?;
        if records.len() == args.limit as usize {
            session.console.note(format_args!(
                "there may be older ones: these are the last {}, and `--limit N` shows more",
                args.limit
            ));
        }
    }
    Ok(Exit::Success)
}

fn table(records: &[Record]) -> Table {
    let mut table = Table::new(0);
    table.row(["time", "tenant", "kind", "what"].map(str::to_owned));
    for Record { entry, .. } in records {
        let text = |value: &Value| {
            let text = value.as_str().unwrap_or("-");
            printable(text, false).into_owned()
        };
        let at = text(&entry["at"]);
        table.row([
            // To the second.
            format!("{}Z", at.split('.').next().unwrap_or_default()),
            text(&entry["tenant"]),
            text(&entry["kind"]),
            printable(&said(entry), false).into_owned(),
        ]);
    }
    table
}

/// The rest of an entry, in a few words.
fn said(entry: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    // Two versions may be side by side.
    let skill = &entry["skill"];
    let version = skill["version"].as_str();
    let whole = skill["name"].as_str().zip(version);
    match whole.filter(|(_, version)| !version.is_empty()) {
        Some((name, version)) => words.push(format!("{name}@{version}")),
        None => words.extend(skill["name"].as_str().map(str::to_owned)),
    }
    let mut add = |value: &Value| {
        if let Some(text) = value.as_str() {
            words.push(text.to_owned());
        }
    };
    for field in ["asked", "skill_name", "tool", "outcome"] {
        add(&entry[field]);
    }
    // What was rejected is of that cause as well.
    if entry["cause"] != entry["outcome"] {
        add(&entry["cause"]);
    }
    for field in ["reason", "limit", "action"] {
        add(&entry[field]);
    }
    for field in [
        "secret", "host", "of", "from", "to", "decision", "by", "rule", "version",
    ] {
        add(&entry[field]);
    }
    if let Some(lost) = entry["lost"].as_u64() {
        let since = entry["lost_since"].as_str().unwrap_or_default();
        let entries = if lost == 1 { "entry" } else { "entries" };
        words.push(format!("{} {entries} lost, from {since} on", grouped(lost)));
    }
    if let Some(grants) = entry["grants"].as_array() {
        words.extend(grants.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    if let Some(denials) = entry["denials"].as_array() {
        for denial in denials {
            let part = |name: &str| denial[name].as_str().unwrap_or_default().to_owned();
            let subject = named(&part("subject"), 200);
            words.push(format!("{} `{subject}`", part("capability")));
        }
    }
    if entry["kind"] == "policy" {
        words.push(policy(&entry["policy"]));
    }
    words.join(" · ")
}

/// Which policy holds from then on: by the first digits of its hash, and its size as JSON.
fn policy(hashed: &Value) -> String {
    let (hash, bytes) = (hashed["sha256"].as_str(), hashed["bytes"].as_u64());
    match (hash, bytes) {
        (_, Some(0)) => "none".to_owned(),
        (Some(hash), Some(bytes)) => {
            let digits = hash.strip_prefix("sha256:").unwrap_or(hash);
            let digits = digits.get(..12).unwrap_or(digits);
            format!("{digits} · {}", display_bytes(bytes))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_refused_says_what_was_asked_for_and_that_once() {
        let rejected = json!({"kind": "execution", "skill": {"name": "notes"}, "tool": "add",
            "outcome": "rejected", "cause": "rejected", "reason": "ceiling"});
        assert_eq!(said(&rejected), "notes · add · rejected · ceiling");
        let unknown = json!({"kind": "execution", "asked": "text-stat", "outcome": "failed",
            "cause": "not_loaded"});
        assert_eq!(said(&unknown), "text-stat · failed · not_loaded");
    }

    #[test]
    fn a_change_of_the_policy_says_which_holds() {
        let entry = |hash: &str, bytes: u64| json!({"kind": "policy", "policy": {"sha256": hash, "bytes": bytes}});
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(said(&entry(hash, 215)), "ba7816bf8f01 · 215 B");
        assert_eq!(said(&entry(hash, 0)), "none");
    }
}
