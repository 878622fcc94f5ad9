//! What is heard of an execution while it runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::prepare::MAX_DEPTH;
use super::reports::{Admitted, Reports, Whose};
use crate::execution::Ran;
use crate::grant::Grants;
use crate::skill::{SkillRef, depth};
use crate::{Event, Observer};

/// What was heard of an execution while it ran.
#[derive(Default)]
pub(super) struct Heard {
    /// What it was granted, as JSON, once that is known.
    grants: Mutex<Option<Value>>,
    ran: Ran,
}

impl Heard {
    fn grants(&self) -> MutexGuard<'_, Option<Value>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it was granted, as JSON, where that is known.
    pub fn take_grants(&self) -> Option<Value> {
        self.grants().take()
    }

    /// Which skill's guest may have run, if any; `asked` is which was asked for.
    pub fn what_began(&self, asked: &SkillRef) -> Option<SkillRef> {
        self.ran.what_began(asked)
    }
}

/// Hears an execution, and passes on what there is to say of it on the way.
pub(super) fn observer(reports: &Reports, whose: Whose, heard: Arc<Heard>) -> Arc<dyn Observer> {
    let reports = reports.clone();
    Arc::new(move |request: Uuid, event: &Event<'_>| {
        heard.ran.observe(request, event);
        if let Event::Admitted {
            skill,
            tool,
            limits,
            grants,
        } = event
        {
            let grants = (**grants != Grants::default()).then(|| without_values(grants));
            heard.grants().clone_from(&grants);
            let admitted = Admitted {
                skill: (*skill).clone(),
                tool: (*tool).to_owned(),
                limits: **limits,
                grants,
            };
            reports.admitted(whose, admitted);
        }
        if let Event::Progress(progress) = event {
            // The guest's own JSON, which nobody has looked at: kept as text unless it is.
            let details =
                progress
                    .details
                    .as_deref()
                    .map(|details| match crate::json::parse(details) {
                        Ok(value) if depth(&value) <= MAX_DEPTH => value,
                        _ => json!(details),
                    });
            let progress = json!({
                "percent": progress.percent.map(|percent| percent.clamp(0.0, 100.0)),
                "step": progress.step,
                "details": details,
            });
            reports.progress(whose, progress);
        }
    })
}

/// Grants as they are written down: of variables and configuration the names, for values may be secret.
fn without_values(grants: &Grants) -> Value {
    let mut grants = grants.clone();
    let pairs = grants.environment.values_mut();
    for value in pairs.chain(grants.config.values_mut()) {
        "…".clone_into(value);
    }
    json!(grants)
}
