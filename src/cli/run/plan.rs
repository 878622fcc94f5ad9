//! What `skillhost run` was told to do: checked, and with everything read that it takes.

use std::path::PathBuf;

use super::args::{RunArgs, TrustArgs};
use super::asked::{Asked, read_certificates};
use super::attachments::check_out;
use crate::cli::Session;
use crate::cli::database::DatabaseArgs;
use crate::cli::host::Settings;

/// A run, ready to be carried out once the skill is there.
#[derive(Debug)]
pub struct Plan {
    /// What was typed for the skill.
    pub skill: PathBuf,
    /// What is asked of it.
    pub asked: Asked,
    /// What is set for the whole host.
    pub settings: Settings,
    /// The secrets of which is said where they come from.
    pub secrets_from: Vec<String>,
    /// Where attachments go.
    pub out: Option<PathBuf>,
    /// Whether nothing is to be run.
    pub dry_run: bool,
    /// Where approvals are kept.
    pub database: DatabaseArgs,
    /// On whose behalf it runs.
    pub tenant: Option<String>,
    /// Whether the policy is left out.
    pub no_policy: bool,
    /// Whether a program reads the result.
    pub json: bool,
}

impl Plan {
    /// Checks what was typed, and reads the files that it names.
    ///
    /// # Errors
    /// What does not go together, or cannot be read.
    pub fn new(args: RunArgs, session: &Session) -> anyhow::Result<Self> {
        let asked = Asked::new(args.tool, args.request)?;
        let settings = Settings {
            stack_bytes: asked.stack_bytes,
            for_operator: true,
            secrets: args.sources.secrets(session)?,
            ..Settings::trusting(&args.trust)?
        };
        if let Some(out) = &args.out
            && !args.dry_run
        {
            // Before anything runs: what was paid for should not be lost.
            check_out(out)?;
        }
        Ok(Plan {
            skill: args.skill,
            asked,
            settings,
            secrets_from: args.sources.names(),
            out: args.out,
            dry_run: args.dry_run,
            database: args.database,
            tenant: args.tenant,
            no_policy: args.no_policy,
            json: args.json,
        })
    }
}

impl Settings {
    /// Of a host that trusts these certificates.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn trusting(trust: &TrustArgs) -> anyhow::Result<Self> {
        Ok(Settings {
            roots: trust.roots.into(),
            certificates: trust
                .certificate
                .iter()
                .map(|path| read_certificates(path, "--certificate"))
                .collect::<anyhow::Result<_>>()?,
            ..Settings::default()
        })
    }
}
