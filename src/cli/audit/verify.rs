//! `skillhost audit verify`: whether it is still as it was written.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde::Serialize;
use skillhost::audit::{self, Audit, FindingKind, Verification};
use skillhost::text::printable;

use crate::cli::complaint::show_hint;
use crate::cli::console::{ERROR, GOOD, WARNING, print, print_json, styled};
use crate::cli::exit::Exit;
use crate::cli::{Session, explain, units};

const EXIT: &str = "\
Exit codes:
    0  every line is there, as it was written; or none was written yet
    2  the audit cannot be read, or --folder has none
    7  something was changed, removed, moved, repeated or added";

/// Verify that nothing in the audit was changed
///
/// Names the file and the line where a line was changed, is missing, stands elsewhere, or is there
/// twice, where a tail was cut off, or a file is gone. A last line that a process which died left
/// unfinished is reported and is no damage, and so is it that entries could not be written, as on a full disk: that is
/// known where something could be written later, or the head could be. It can be verified while it is written.
#[derive(Debug, Args)]
#[command(after_help = EXIT)]
pub struct VerifyArgs {
    /// The folder, where it is another than the policy's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    folder: &'a PathBuf,
    sound: bool,
    entries: u64,
    #[serde(flatten)]
    verification: &'a Verification,
}

/// Verifies the audit.
///
/// # Errors
/// Where it cannot be read.
pub fn verify(args: &VerifyArgs, session: &Session) -> anyhow::Result<Exit> {
    let folder = super::current_folder(args.folder.as_ref(), session)?;
    let verification = match super::is_to_be_made(args.folder.as_ref(), &folder)? {
        // Nothing was written yet.
        true => Verification::default(),
        false => audit::verify(&folder).map_err(|error| explain::audit(&error))?,
    };
    let (sound, entries) = (verification.is_sound(), verification.entries());
    let is_none = sound && verification.chains.is_empty();
    if is_none {
        // Nor can anything be, where that fails.
        Audit::check(&folder).map_err(|error| super::unusable(&error))?;
    }
    if args.json {
        let report = Report {
            folder: &folder,
            sound,
            entries,
            verification: &verification,
        };
        print_json(session.console, &report)?;
    } else {
        show(&verification, session)?;
        if is_none {
            session.console.note(format_args!(
                "note: there is no audit in `{}`: nothing was written yet",
                folder.display()
            ));
        }
    }
    Ok(if sound { Exit::Success } else { Exit::Unsound })
}

fn show(verification: &Verification, session: &Session) -> anyhow::Result<()> {
    for finding in &verification.findings {
        let label = match finding.kind.is_damage() {
            true => styled(ERROR, finding.kind.as_str()),
            false => styled(WARNING, finding.kind.as_str()),
        };
        print(format_args!(
            "{label}: {}\n",
            printable(&finding.to_string(), false)
        ))?;
    }
    if verification.more_findings > 0 {
        let more = skillhost::limits::grouped(verification.more_findings);
        print(format_args!("and {more} more\n"))?;
    }
    let what = format!(
        "{} in {}",
        match verification.entries() {
            1 => "1 entry".to_owned(),
            entries => format!("{} entries", skillhost::limits::grouped(entries)),
        },
        units::counted(verification.chains.len() as u64, "chain")
    );
    match verification.damages() {
        0 if verification.chains.is_empty() => {}
        0 => {
            let mut findings = verification.findings.iter();
            let lost = findings.any(|finding| finding.kind == FindingKind::Lost);
            session.console.note(format_args!(
                "{} {what}, as they were written{}",
                if lost {
                    styled(WARNING, "!")
                } else {
                    styled(GOOD, "✓")
                },
                if lost {
                    ", and some that could not be"
                } else {
                    ""
                },
            ));
        }
        count => {
            session.console.note(format_args!(
                "{} {what}, and {} that cannot be explained by a crash",
                styled(ERROR, "✗"),
                units::counted(count, "finding")
            ));
            if !session.console.quiet {
                show_hint(
                    "keep a copy of the folder as evidence; once the folder is moved away, a new chain begins in its place",
                );
            }
        }
    }
    Ok(())
}
