//! Writing down requests for skills that are not known.

use std::path::Path;

use skillhost::audit::AuditSink;
use skillhost::skill::SkillRef;
use skillhost::{Cause, Control, Failure};

use crate::cli::complaint::Complaint;
use crate::cli::exit::Exit;
use crate::cli::guards::user;
use crate::cli::run::Asked;

/// What an error says of a skill that there is none of, or that cannot be loaded; `None` of any other error.
pub fn unknown(error: &anyhow::Error) -> Option<&Complaint> {
    let complaint = error.downcast_ref::<Complaint>()?;
    (complaint.exit == Exit::NotLoaded).then_some(complaint)
}

/// Writes down that something was asked of a skill that is [`unknown`]. Any other error is not written down.
pub fn record_unknown(
    sink: &dyn AuditSink,
    typed: &Path,
    asked: Asked,
    tenant: Option<String>,
    error: &anyhow::Error,
) {
    let Some(complaint) = unknown(error) else {
        return;
    };
    let typed = typed.to_string_lossy();
    let reference = typed.parse().unwrap_or_else(|_| SkillRef::Name {
        name: typed.into_owned(),
        version: None,
    });
    let mut request = asked.request_for(reference);
    request.tenant = tenant;
    let mut failure = Failure::new(Cause::NotLoaded, complaint.message.clone());
    if let Some(spent) = &complaint.spent {
        failure.fault = spent.0;
    }
    let control = Control::default().caller(user());
    let written = skillhost::audit::refused(sink, &request, None, &control, &failure);
    if let Err(error) = written {
        tracing::warn!(%error, "a request for a skill that is not known is not in the audit");
    }
}
