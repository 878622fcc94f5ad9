//! `skillhost run`: one tool, once.

mod args;
mod asked;
mod attachments;
mod backtrace;
mod dry_run;
mod input;
mod plan;
mod prompt;
mod report;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skillhost::execution::{Ask, Phase, Rejection};
use skillhost::grant::{Grants, SecretGrant};
use skillhost::{
    Admission, Cause, Control, ExecutionResult, Failure, Limits, Policy, ResourceUsage,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::approvals::LazyApprovals;
use super::audit::{record_unknown, unknown};
use super::complaint::Complaint;
use super::console::print_json;
use super::exit::Exit;
use super::explain;
use super::grants::Typed;
use super::guards::{self, user};
use super::host::{CommandHost, Interrupts, block_on};
use super::locate::locate;
use super::secrets::{warn_of_idle, warn_of_ungranted};
use super::{Session, audit, tenant};
pub use args::{LimitArgs, RequestArgs, RunArgs, TrustArgs};
pub use asked::{Asked, limits};
pub use attachments::check_out;
use plan::Plan;
use prompt::Prompt;
pub use report::{Report, denied_in, raise};
pub use view::View;

/// Runs a tool as the arguments say.
///
/// # Errors
/// Where there is no result: wrong arguments, a skill that cannot be loaded, a broken host.
pub fn run(args: RunArgs, session: &Session) -> anyhow::Result<Exit> {
    let plan = Plan::new(args, session)?;
    plan.asked.warn_of_ceiling(session.console);
    let (json, dry_run) = (plan.json, plan.dry_run);
    let mut limits = Limits::resolve(
        &Limits::ceiling(),
        &[&plan.asked.limits],
        &Limits::default(),
    );
    limits.stack_bytes = plan.asked.stack_bytes.unwrap_or(limits.stack_bytes);
    let mut loading = None;
    let ended = carry_out(plan, session, &mut loading);
    if json
        && let Err(error) = &ended
        && let Some(complaint) = error.downcast_ref::<Complaint>()
    {
        // A program that asked for a result gets one.
        let took = loading.map_or(Duration::ZERO, |began: Instant| began.elapsed());
        print_unloaded(complaint, limits, dry_run, took, session)?;
    }
    ended
}

/// How long the command, once it has shown the result, waits for scratch directories to be removed.
const TIDYING: Duration = Duration::from_secs(5);

/// Notes when it began to load the skill.
fn carry_out(
    mut plan: Plan,
    session: &Session,
    loading: &mut Option<Instant>,
) -> anyhow::Result<Exit> {
    let package = match locate(&plan.skill, session) {
        Ok(package) => package,
        Err(error) => return Err(not_found(plan, error, session)),
    };
    let policy = match plan.no_policy {
        true => None,
        false => session.policy_file()?.read()?,
    };
    if let Some(tenant) = &plan.tenant {
        tenant::warn_of_misspelt(tenant, policy.as_ref(), session.console);
    }
    // What is wrong with it is said to whoever goes by it.
    let left_out = plan.no_policy.then(|| {
        let policy = session.policy_file().and_then(|file| file.read());
        policy.ok().flatten().unwrap_or_default()
    });
    let policy_path = match plan.no_policy {
        true => None,
        false => Some(session.policy_file()?.path().to_owned()),
    };
    let own = plan.asked.grants.directories.clone();
    let mut policies = policy.iter().flat_map(|policy| policy.skills.values());
    let scratch = plan.asked.grants.scratch || policies.any(|policy| policy.grants.scratch);
    // What is wrong with it is said where it is needed.
    plan.settings.database = plan.database.database(session).ok();
    let command_host = CommandHost::open(session, std::mem::take(&mut plan.settings))?;
    command_host.host.set_policy(policy);
    let host = command_host.host.clone();
    let current = host.current_policy().clone();
    let approvals = LazyApprovals::new(&plan.database, session)?;
    let ask = Prompt::new().map(|prompt| Arc::new(prompt) as Arc<dyn Ask>);
    let guards::Guarded {
        execute: guarded,
        audit,
    } = guards::around(Arc::new(host), current, approvals, ask, session)?;
    let ended = block_on(async |mut interrupts| {
        interrupts.count_termination()?;
        *loading = Some(Instant::now());
        let loaded = command_host
            .load(package, &plan.skill, &mut interrupts)
            .await;
        let skill = match loaded {
            Ok(skill) => skill,
            Err(error) => {
                if let Some((sink, _)) = audit.filter(|_| !plan.dry_run) {
                    record_unknown(&*sink, &plan.skill, plan.asked, plan.tenant, &error);
                }
                return Err(error);
            }
        };
        let host = &command_host.host;
        let (dry_run, json) = (plan.dry_run, plan.json);
        let (typed, out): (PathBuf, Option<PathBuf>) = (plan.skill.clone(), plan.out.clone());
        let (mut request, input_hints) = plan.asked.request(&skill);
        request.tenant = plan.tenant.take();
        crate::cli::policy::warn_of_narrowed(&skill, &request.grants, session.console);
        let policy = host.policy();
        let granted = policy
            .as_ref()
            .and_then(|policy| policy.skills.get(&*skill.identity().name));
        let granted: Vec<&Grants> = granted
            .map(|policy| &policy.grants)
            .into_iter()
            .chain([&request.grants])
            .collect();
        let declared = skill.manifest().map(|manifest| &manifest.grants);
        warn_of_idle(&request.grants, &granted, declared, session.console);
        let granted: Vec<&str> = granted
            .into_iter()
            .flat_map(|grants| &grants.secrets)
            .map(SecretGrant::name)
            .collect();
        warn_of_ungranted(&plan.secrets_from, &granted, session.console);
        let hints = Typed::new(&skill.identity().name, &typed).leaving_out(left_out.as_ref());
        if dry_run {
            if interrupts.end().await {
                let cancelled = "cancelled before it was said what a run would come to";
                return Err(Complaint::new(Exit::Cancelled, cancelled).into());
            }
            let mut admission = guarded.can_execute(&request);
            hints.in_admission(&mut admission);
            if let Some(failure) = &mut admission.refusal {
                of_audit(failure, policy.as_deref(), session);
            }
            return dry_run::show(session.console, json, &admission);
        }
        let view = Arc::new(View::new(session.console, &skill.identity().name));
        let ending = interrupts.ending();
        let cancellation = cancelled_by(interrupts);
        let control = Control::default()
            .cancellation(cancellation.clone())
            .observer(Arc::clone(&view) as Arc<_>)
            .caller(user());
        let asked = request.limits;
        let mut result = guarded
            .execute(request, control)
            .await
            .map_err(|error| explain::host(&error))?;
        // The signal that cancelled it may come twice.
        if !cancellation.is_cancelled() {
            ending.at_once();
        }
        // A guard that refuses before anything is looked up does not say what it refused.
        result
            .skill
            .get_or_insert_with(|| Arc::new(skill.identity().clone()));
        if let Some(failure) = &mut result.failure {
            hints.in_failure(failure);
            of_audit(failure, policy.as_deref(), session);
            // A guard that refuses may not know of it.
            result.usage.compile_time += skill.unreported_compile_time();
        }
        let shown = Report {
            console: session.console,
            json,
            out: out.as_deref(),
            typed: &typed,
            policy: policy_path.as_deref(),
            asked,
            denials_told: session.console.verbose > 0,
            input_hints: &input_hints,
            own: &own,
            is_job: false,
        }
        .show(&result, &view);
        if scratch {
            // Rather than to leave them to the next host; not for ever, on a disk that does not answer.
            let _ = tokio::time::timeout(TIDYING, host.cleared()).await;
        }
        shown
    });
    command_host.host.close_storage();
    if !scratch {
        // The process ends here, and the kernel is quicker to take back what a host has mapped. Only
        // scratch directories would outlive it.
        std::mem::forget(command_host);
    }
    ended
}

/// What to do where it was refused for want of an audit: what is in the way of one, where that shows.
fn of_audit(failure: &mut Failure, policy: Option<&Policy>, session: &Session) {
    let is_for_audit = matches!(
        failure.cause,
        Cause::Rejected {
            reason: Rejection::Audit,
            ..
        }
    );
    if let Some(policy) = policy.filter(|_| is_for_audit)
        && let Err(error) = audit::can_be_kept(policy, session)
        && let Some(complaint) = error.downcast_ref::<Complaint>()
        && let Some(hint) = complaint.hints.first()
    {
        failure.hint = Some(hint.clone());
    }
}

/// Writes down that there is no such skill, where a run of one would be: with `--no-policy` in the usual folder. Where
/// the policy cannot be read, nothing would run. Gives the error back.
fn not_found(plan: Plan, error: anyhow::Error, session: &Session) -> anyhow::Error {
    if plan.dry_run || unknown(&error).is_none() {
        return error;
    }
    let policy = match plan.no_policy {
        true => Ok(None),
        false => session.policy_file().and_then(|file| file.read()),
    };
    let sink = policy.and_then(|policy| audit::sink(&policy.unwrap_or_default(), session));
    if let Ok(Some(sink)) = sink {
        record_unknown(&*sink, &plan.skill, plan.asked, plan.tenant, &error);
    }
    error
}

/// A token that Ctrl-C cancels, or what else tells the command to end.
fn cancelled_by(mut interrupts: Interrupts) -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        interrupts.next().await;
        cancelled.cancel();
    });
    token
}

/// The result of a run that never began, as its skill could not be loaded.
fn print_unloaded(
    complaint: &Complaint,
    limits: Limits,
    dry_run: bool,
    took: Duration,
    session: &Session,
) -> anyhow::Result<()> {
    let cause = match complaint.exit {
        Exit::NotLoaded => Cause::NotLoaded,
        Exit::Cancelled => Cause::Cancelled {
            phase: Phase::Waiting,
        },
        // Of a broken host there is nothing to say about the request.
        _ => return Ok(()),
    };
    let mut message = complaint.message.clone();
    for detail in &complaint.details {
        message.push_str("; ");
        message.push_str(detail);
    }
    let mut failure = Failure::new(cause, message);
    failure.hint = complaint.hints.first().cloned();
    let mut spent = ResourceUsage {
        compile_time: took,
        ..ResourceUsage::default()
    };
    if let Some(known) = &complaint.spent {
        failure.fault = known.0;
        if !known.1.wall_time.is_zero() {
            // It ran, to say what it is.
            spent = known.1.clone();
        }
    }
    if dry_run {
        let admission = Admission {
            refusal: Some(failure),
            limits,
            clamped: Vec::new(),
            skill: None,
            tool: None,
            grants: Grants::default(),
            from_policy: Grants::default(),
            missing: Vec::new(),
        };
        return Ok(print_json(session.console, &admission)?);
    }
    let mut result = without_run(failure, limits);
    result.usage = spent;
    Ok(print_json(session.console, &result)?)
}

/// The result of a request that never ran.
pub fn without_run(failure: Failure, limits: Limits) -> ExecutionResult {
    ExecutionResult {
        request_id: Uuid::now_v7(),
        status: failure.status(),
        tool: None,
        output: None,
        attachments: Vec::new(),
        failure: Some(failure),
        usage: ResourceUsage::default(),
        limits,
        clamped: Vec::new(),
        skill: None,
        stdout: String::new(),
        stderr: String::new(),
    }
}
