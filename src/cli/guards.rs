//! What the policy puts around every execution, whichever command or door it comes through.

use std::sync::Arc;

use skillhost::Execute;
use skillhost::audit::AuditSink;
use skillhost::execution::Ask;
use skillhost::policy::guard::Guards;
use skillhost::policy::{Approvals, Approving, CurrentPolicy};

use super::{Session, audit};

/// What executes, guarded.
pub struct Guarded {
    /// The guards around it.
    pub execute: Arc<dyn Execute>,
    /// Where it is written down, and whether nothing may go on that cannot be.
    pub audit: Option<(Arc<dyn AuditSink>, bool)>,
}

/// The guards around what executes, going by the policy of the host that does so in the end, and by each
/// that takes its place. The audit is that of the policy at this time; approvals are kept in `approvals`,
/// and `ask` is asked first.
///
/// # Errors
/// Where what a guard keeps cannot be opened.
pub fn around(
    inner: Arc<dyn Execute>,
    policy: CurrentPolicy,
    approvals: Arc<dyn Approvals>,
    ask: Option<Arc<dyn Ask>>,
    session: &Session,
) -> anyhow::Result<Guarded> {
    let now = policy.get();
    let now = now.as_deref().cloned().unwrap_or_default();
    let sink = audit::sink(&now, session)?;
    let mut guards = Guards::new(policy.clone());
    let written = sink.clone();
    guards = guards.approval(move |inner| {
        let mut approving = Approving::new(inner, policy, approvals);
        if let Some(ask) = ask {
            approving = approving.ask(ask);
        }
        if let Some(audit) = written {
            approving = approving.audit(audit);
        }
        Arc::new(approving)
    });
    let required = now.audit.required;
    if let Some(sink) = &sink {
        guards = guards.audit(Arc::clone(sink), required);
    }
    Ok(Guarded {
        execute: guards.around(inner),
        audit: sink.map(|sink| (sink, required)),
    })
}

/// What a person is called who runs this command and does not say so: as the environment says, else by the number.
pub fn user_name() -> String {
    match std::env::var("USER") {
        Ok(name) if !name.trim().is_empty() => name,
        _ => user(),
    }
}

/// Who runs this command, for the record: the user's number, with the name that the environment says.
pub fn user() -> String {
    let number = rustix::process::getuid().as_raw();
    match std::env::var("USER") {
        Ok(name) if !name.is_empty() => format!("uid {number} ({name})"),
        _ => format!("uid {number}"),
    }
}
