//! `skillhost audit`: what was written down, and whether it is still as it was written.

mod show;
mod verify;
mod written;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use skillhost::Policy;
use skillhost::audit::{Audit, AuditError, AuditSink, Entry};

use super::exit::Exit;
use super::{Session, explain};
pub use written::Written;

const EXAMPLES: &str = "\
Examples:
  Whether anybody changed anything:
    skillhost audit verify
  What was denied in the last hour, and what was granted for good:
    skillhost audit show --since 1h --outcome rejected
    skillhost audit show --kind grant

The audit is kept in the folder audit, beside the installed skills, unless the policy says otherwise
under `audit`.";

/// Show what was executed, approved and granted, and verify that the record is whole
///
/// Each execution, approval, change of a grant, use of a secret and change of a breaker is written down
/// as one line of JSON, without inputs and outputs, but with their hashes. The lines are chained, so
/// that one that was changed, removed, moved or repeated shows.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true, disable_help_subcommand = true)]
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

/// The folder of the policy as it is now.
fn current_folder(typed: Option<&PathBuf>, session: &Session) -> anyhow::Result<PathBuf> {
    match typed {
        Some(folder) => Ok(folder.clone()),
        None => folder(&session.policy_file()?.read()?.unwrap_or_default(), session),
    }
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
            session
                .console
                .warn(format_args!("no audit is kept: {error}"));
            None
        }
    };
    Ok(Written::new(audit, required, session.console))
}

/// What executions are written down in; `None` where none is kept. One that is required and cannot be
/// opened rejects them.
///
/// # Errors
/// Where this user has no home.
pub fn sink(policy: &Policy, session: &Session) -> anyhow::Result<Option<Arc<dyn AuditSink>>> {
    if !policy.audit.enabled {
        return Ok(None);
    }
    match Audit::open(folder(policy, session)?, policy.audit.settings()) {
        Ok(audit) => Ok(Some(Arc::new(audit))),
        Err(error) if policy.audit.required => Ok(Some(Arc::new(Unopened(error)))),
        Err(error) => {
            session
                .console
                .warn(format_args!("no audit is kept: {error}"));
            Ok(None)
        }
    }
}

/// An audit that is required and cannot be opened.
struct Unopened(AuditError);

impl AuditSink for Unopened {
    fn record(&self, _: &Entry<'_>) -> Result<(), AuditError> {
        Err(self.0.clone())
    }

    fn ready(&self) -> Result<(), AuditError> {
        Err(self.0.clone())
    }
}
