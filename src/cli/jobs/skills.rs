//! The skills of jobs that are to be submitted: found, loaded and asked once each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use skillhost::audit::AuditSink;
use skillhost::execution::Rejection;
use skillhost::policy::MemoryApprovals;
use skillhost::queue::{Due, NewJob};
use skillhost::skill::{Package, Packages, SkillRef};
use skillhost::{Cause, Control, Execute, Failure, Skill};

use super::asked::JobArgs;
use crate::cli::Session;
use crate::cli::audit::record_unknown;
use crate::cli::complaint::Complaint;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::grants::Typed;
use crate::cli::guards::{self, user};
use crate::cli::host::{CommandHost, Interrupts, Settings};
use crate::cli::locate;
use crate::cli::run::{Asked, denied_in};
use crate::cli::secrets::SourceArgs;

/// Loads the skills of jobs, and checks jobs against them.
pub struct Skills<'s> {
    session: &'s Session,
    host: CommandHost,
    /// The same, with the policy's guards around it.
    guarded: Arc<dyn Execute>,
    /// Where it is written down what is refused.
    audit: Option<Arc<dyn AuditSink>>,
    packages: Packages,
    known: HashMap<PathBuf, Known>,
}

/// A skill by what was typed for it.
struct Known {
    skill: Skill,
    /// How jobs refer to it.
    reference: SkillRef,
    /// What must be kept, where a path was typed.
    package: Option<Package>,
}

/// A job that may be submitted, and what must be kept for it.
pub struct Checked {
    /// The job.
    pub job: NewJob,
    /// What was typed for its skill.
    pub typed: PathBuf,
}

impl<'s> Skills<'s> {
    /// A host that skills are loaded with. The policy holds for it, as it will for the worker.
    ///
    /// # Errors
    /// Where the host or the policy cannot be used.
    pub fn open(session: &'s Session) -> anyhow::Result<Self> {
        let settings = Settings {
            secrets: SourceArgs::default().secrets(session)?,
            for_operator: true,
            ..Settings::default()
        };
        let host = CommandHost::open(session, settings)?;
        host.host.set_policy(session.policy_file()?.read()?);
        let guards::Guarded { execute, audit } = guards::around(
            Arc::new(host.host.clone()),
            host.host.current_policy().clone(),
            // Nobody is asked: it is only said whether a job would be admitted.
            Arc::new(MemoryApprovals::default()),
            None,
            session,
        )?;
        Ok(Skills {
            session,
            guarded: execute,
            audit: audit.map(|(audit, _)| audit),
            host,
            packages: Packages::new(session.places()?.packages()),
            known: HashMap::new(),
        })
    }

    /// The job that does what was asked, if it would be admitted now.
    ///
    /// # Errors
    /// What `run` would answer that does not even begin: no such skill or tool, an input that does
    /// not fit, a grant that the skill does not declare.
    pub async fn check(
        &mut self,
        typed: &Path,
        asked: Asked,
        job: JobArgs,
        now: DateTime<Utc>,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Checked> {
        if asked.stack_bytes.is_some() {
            return Err(
                Complaint::usage("the size of the stack is the worker's, not the job's")
                    .hint("`skillhost worker --stack SIZE`")
                    .into(),
            );
        }
        let known = match self.known(typed, interrupts).await {
            Ok(known) => known,
            Err(error) => {
                if let Some(audit) = &self.audit {
                    record_unknown(&**audit, typed, asked, job.tenant, &error);
                }
                return Err(error);
            }
        };
        let (reference, skill) = (known.reference.clone(), known.skill.clone());
        let (mut request, hints) = asked.request(&skill);
        request.tenant = job.tenant.clone();
        // Where an approval is needed, the job waits for it.
        if let Some(failure) = self.guarded.can_execute(&request).refusal
            && !needs_approval(&failure)
        {
            if let Some(audit) = &self.audit {
                let control = Control::default().caller(user());
                // What is refused stays refused, and why is what matters.
                let known = Some(Arc::new(skill.identity().clone()));
                let written =
                    skillhost::audit::refused(&**audit, &request, known, &control, &failure);
                if let Err(error) = written {
                    tracing::warn!(%error, "a refusal is not in the audit");
                }
            }
            let policy = self.session.policy_file()?;
            return Err(refused(&failure, &hints, &skill, typed, policy.path()).into());
        }
        request.skill = reference;
        // It is the job that has one.
        request.tenant = None;
        let mut new = job.apply(NewJob::execution(request), now)?;
        new.skill = Some(skill.identity().name.clone());
        Ok(Checked {
            job: new,
            typed: typed.to_owned(),
        })
    }

    async fn known(&mut self, typed: &Path, interrupts: &mut Interrupts) -> anyhow::Result<&Known> {
        if !self.known.contains_key(typed) {
            let located = locate::find(typed, self.session)?;
            let skill = self
                .host
                .load(located.package.clone(), typed, interrupts)
                .await?;
            let known = match located.installed {
                // The name stays a name: what a worker has installed by then is what is meant.
                Some(reference) => Known {
                    skill,
                    reference,
                    package: None,
                },
                None => Known {
                    reference: skill.digest().into(),
                    skill,
                    package: Some(located.package),
                },
            };
            self.known.insert(typed.to_owned(), known);
        }
        self.known
            .get(typed)
            .ok_or_else(|| Complaint::new(Exit::Host, "a skill was lost").into())
    }

    /// Keeps what workers will need, where that is not installed.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep(&self, checked: &[Checked], now: DateTime<Utc>) -> anyhow::Result<()> {
        let mut until: HashMap<&Path, DateTime<Utc>> = HashMap::new();
        for Checked { job, typed } in checked {
            let due = match job.due {
                Due::Now => now,
                Due::AfterMs(delay) => i64::try_from(delay)
                    .ok()
                    .and_then(|delay| {
                        now.checked_add_signed(chrono::TimeDelta::milliseconds(delay))
                    })
                    .unwrap_or(now),
                Due::At(at) => at,
            };
            let entry = until.entry(typed).or_insert(now);
            *entry = due.max(*entry);
        }
        for (typed, until) in until {
            if let Some(package) = self
                .known
                .get(typed)
                .and_then(|known| known.package.as_ref())
            {
                let kept = self.packages.keep(package, SystemTime::from(until));
                kept.map_err(explain::library)?;
            }
        }
        Ok(())
    }
}

/// A job for a skill that is not here, as it was asked, and unchecked.
///
/// # Errors
/// Where the skill is named by a path.
pub fn unchecked(
    typed: &Path,
    asked: Asked,
    job: JobArgs,
    now: DateTime<Utc>,
) -> anyhow::Result<NewJob> {
    let reference: Option<SkillRef> = typed.to_str().and_then(|text| text.parse().ok());
    let Some(reference) = reference else {
        let message = format!(
            "`{}` is no name of a skill, and --unchecked takes nothing else",
            typed.display()
        );
        return Err(Complaint::usage(message).into());
    };
    let request = asked.request_for(reference);
    Ok(job.apply(NewJob::execution(request), now)?)
}

/// Why a job is not even submitted.
fn refused(
    failure: &Failure,
    hints: &[String],
    skill: &Skill,
    typed: &Path,
    policy: &Path,
) -> Complaint {
    let complaint = Complaint::new(
        Exit::of(failure.status(), Some(failure)),
        failure.message.clone(),
    );
    let mut all: Vec<String> = failure.hint.iter().cloned().collect();
    all.extend(failure.denials.iter().map(|denial| denial.hint.clone()));
    all.extend(denied_in(failure, policy));
    let is_input = matches!(failure.cause, Cause::InvalidInput { .. });
    if is_input || matches!(failure.cause, Cause::UnknownTool { .. }) {
        all.extend_from_slice(hints);
    }
    all.dedup();
    if all.is_empty() && is_input {
        all.push(format!(
            "`skillhost inspect {}` shows what the tool takes",
            typed.display()
        ));
    }
    let typed = Typed::new(&skill.identity().name, typed);
    all.iter().fold(complaint, |complaint, hint| {
        let mut hint = hint.to_string();
        typed.in_hint(&mut hint);
        complaint.hint(hint)
    })
}

/// Whether only an approval is missing.
fn needs_approval(failure: &Failure) -> bool {
    matches!(
        failure.cause,
        Cause::Rejected {
            reason: Rejection::Approval,
            ..
        }
    )
}
