//! `skillhost audit`: what was written down, and whether it is still as it was written.

mod show;
mod unknown;
mod verify;
mod written;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use skillhost::Policy;
use skillhost::audit::{self, Audit, AuditError, AuditSettings, AuditSink, Entry};

use super::complaint::{Complaint, show_hint};
use super::console::Console;
use super::exit::Exit;
use super::{Session, explain};
pub use unknown::{record_unknown, unknown};
pub use written::Written;

const EXAMPLES: &str = "\
Examples:
  Whether anybody changed anything:
    skillhost audit verify
  What was denied in the last hour, and what was granted for good:
    skillhost audit show --since 1h --outcome rejected
    skillhost audit show --kind grant

The audit is kept in the folder audit, beside the installed skills, unless the
policy says otherwise under `audit`.";

/// Show what was executed, approved and granted, and verify that the record is whole
///
/// Each execution, approval, change of a grant, use of a secret and change of a breaker is written down
/// as one line of JSON, without inputs and outputs, but with their hashes. The lines are chained, so
/// that one that was changed, removed, moved or repeated shows.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

/// What the help says of each stands with its arguments.
#[derive(Debug, Subcommand)]
enum AuditCommand {
    Verify(verify::VerifyArgs),
    Show(show::ShowArgs),
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the audit cannot be read.
pub fn audit(args: AuditArgs, session: &Session) -> anyhow::Result<Exit> {
    match args.command {
        AuditCommand::Verify(args) => verify::verify(&args, session),
        AuditCommand::Show(args) => show::show(&args, session),
    }
}

/// The folder that the policy names, or the usual one.
fn folder(policy: &Policy, session: &Session) -> anyhow::Result<PathBuf> {
    match &policy.audit.folder {
        Some(folder) => Ok(folder.clone()),
        None => Ok(session.places()?.audit()),
    }
}

/// The folder that was typed, which must be there, or that of the policy as it is now.
fn current_folder(typed: Option<&PathBuf>, session: &Session) -> anyhow::Result<PathBuf> {
    let usual = || folder(&session.policy_file()?.read()?.unwrap_or_default(), session);
    let Some(typed) = typed else {
        return usual();
    };
    let reason = match std::fs::metadata(typed) {
        Ok(found) if found.is_dir() => match audit::is_in(typed) {
            Ok(false) => "nothing of one is in it",
            // What is in the way is said by whoever reads it.
            Ok(true) | Err(_) => return Ok(typed.clone()),
        },
        Ok(_) => "it is no folder",
        Err(error) if error.kind() == ErrorKind::NotFound => "there is no such folder",
        Err(_) => return Ok(typed.clone()),
    };
    let complaint = Complaint::usage(format!("no audit in `{}`: {reason}", typed.display()));
    Err(match usual() {
        Ok(usual) => complaint.hint(format!(
            "without `--folder`, it is the one in `{}`",
            usual.display()
        )),
        Err(_) => complaint,
    }
    .into())
}

/// Opens the audit for what a person does.
///
/// # Errors
/// Where it is required and cannot be written.
pub fn open(session: &Session) -> anyhow::Result<Written> {
    let policy = session.policy_file()?.read()?.unwrap_or_default();
    open_for(&policy, session)
}

/// As [`open`], by a policy that was read.
///
/// # Errors
/// As there.
pub fn open_for(policy: &Policy, session: &Session) -> anyhow::Result<Written> {
    let required = policy.audit.required;
    if !policy.audit.enabled {
        return Ok(Written::new(None, required, session.console));
    }
    let audit = match Audit::open(folder(policy, session)?, policy.audit.settings()) {
        Ok(audit) => Some(Arc::new(audit) as Arc<dyn AuditSink>),
        Err(error) if required => return Err(explain::audit(&error).into()),
        Err(error) => {
            warn(&error, session.console);
            None
        }
    };
    Ok(Written::new(audit, required, session.console))
}

/// Whether the audit can be kept, where one is to be, as far as that shows without keeping one. One that is required
/// lets nothing run otherwise.
///
/// # Errors
/// What is in the way.
pub fn can_be_kept(policy: &Policy, session: &Session) -> anyhow::Result<()> {
    if !policy.audit.enabled {
        return Ok(());
    }
    let folder = folder(policy, session)?;
    Audit::check(folder).map_err(|error| unusable(&error).into())
}

/// An audit that cannot be read, or kept, with what to do about it.
fn unusable(error: &AuditError) -> Complaint {
    let complaint = explain::audit(error);
    match complaint.hints.is_empty() {
        true => complaint.hint("name another folder: `folder` in `[audit]`, in the policy"),
        false => complaint,
    }
}

/// Whether a folder is not there yet, as it may be where none was typed.
///
/// # Errors
/// Where it cannot be made.
fn is_to_be_made(typed: Option<&PathBuf>, folder: &Path) -> anyhow::Result<bool> {
    if typed.is_some() || folder.exists() {
        return Ok(false);
    }
    Audit::check(folder).map_err(|error| unusable(&error))?;
    Ok(true)
}

/// What executions are written down in; `None` where none is kept. One that cannot be opened is tried
/// again later; until then, one that is required rejects them.
///
/// # Errors
/// Where this user has no home.
pub fn sink(policy: &Policy, session: &Session) -> anyhow::Result<Option<Arc<dyn AuditSink>>> {
    if !policy.audit.enabled {
        return Ok(None);
    }
    let folder = folder(policy, session)?;
    match Audit::open(&folder, policy.audit.settings()) {
        Ok(audit) => Ok(Some(Arc::new(audit))),
        Err(error) => {
            if !policy.audit.required {
                warn(&error, session.console);
            }
            Ok(Some(Arc::new(Late {
                folder,
                settings: policy.audit.settings(),
                audit: OnceLock::new(),
                tried: Mutex::new((Instant::now(), error)),
                lost: Mutex::default(),
            })))
        }
    }
}

/// Says that none is kept, and what to do about it.
fn warn(error: &AuditError, console: Console) {
    console.warn(format_args!("no audit is kept: {error}"));
    if !console.quiet {
        unusable(error)
            .hints
            .iter()
            .for_each(|hint| show_hint(hint));
    }
}

/// How long to wait before an audit that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// An audit that could not be opened yet.
struct Late {
    folder: PathBuf,
    settings: AuditSettings,
    audit: OnceLock<Audit>,
    /// When it was last tried, and what was in the way.
    tried: Mutex<(Instant, AuditError)>,
    /// Entries that could not be written, and since when, of which nothing tells yet.
    lost: Mutex<Option<(u64, DateTime<Utc>)>>,
}

impl Late {
    fn get(&self) -> Result<&Audit, AuditError> {
        if let Some(audit) = self.audit.get() {
            return Ok(audit);
        }
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(audit) = self.audit.get() {
            return Ok(audit);
        }
        if tried.0.elapsed() < AGAIN {
            return Err(tried.1.clone());
        }
        match Audit::open(&self.folder, self.settings) {
            Ok(audit) => {
                tracing::info!("the audit can be written now");
                Ok(self.audit.get_or_init(|| audit))
            }
            Err(error) => {
                *tried = (Instant::now(), error.clone());
                Err(error)
            }
        }
    }
}

impl Late {
    /// Counts an entry that could not be written.
    fn lose(&self) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let (entries, since) =
            lost.map_or_else(|| (1, Utc::now()), |(more, since)| (more + 1, since));
        *lost = match Audit::lost_in(&self.folder, entries, since) {
            true => None,
            false => Some((entries, since)),
        };
    }
}

impl AuditSink for Late {
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        let audit = self.get().inspect_err(|_| self.lose())?;
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((entries, since)) = lost.take() {
            audit.lost(entries, since);
        }
        drop(lost);
        audit.record(entry)
    }

    fn ready(&self) -> Result<(), AuditError> {
        self.get()?.ready()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use skillhost::audit::{What, Who};

    use super::*;

    #[test]
    fn an_audit_that_could_not_be_opened_is_tried_again() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("audit");
        std::fs::create_dir(&folder).unwrap();
        let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode));
        mode(0o755).unwrap();
        let settings = AuditSettings::default();
        let error = Audit::open(&folder, settings).unwrap_err();
        let late = Late {
            folder: folder.clone(),
            settings,
            audit: OnceLock::new(),
            tried: Mutex::new((Instant::now(), error.clone())),
            lost: Mutex::default(),
        };
        let breaker = || {
            let what = What::Breaker {
                of: "x",
                from: "closed",
                to: "open",
            };
            let who = Who::default();
            late.record(&Entry { who, what })
        };
        mode(0o700).unwrap();
        // Not at every request.
        assert_eq!(late.ready(), Err(error.clone()));
        assert_eq!(breaker(), Err(error));
        late.tried.lock().unwrap().0 = Instant::now().checked_sub(AGAIN).unwrap();
        breaker().unwrap();
        assert_eq!(late.ready(), Ok(()));
        // One says what could not be written before.
        let verification = skillhost::audit::verify(&folder).unwrap();
        assert_eq!(verification.entries(), 3);
        let told = verification.findings[0].to_string();
        assert!(
            told.contains("line 2: 1 entry could not be written"),
            "{told}"
        );
    }
}
