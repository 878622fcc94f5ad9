//! Approval: what was approved runs, once, and nothing else does.

use std::sync::Arc;

use serde_json::json;

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble, ended};
use super::handmade::{Handmade, TOOL};
use crate::execution::{
    BoxFuture, Cause, Control, Decision, Execute, ExecutionRequest, ExecutionResult, Rejection,
    Status,
};
use crate::policy::{ApprovalFilter, Approvals, Approving, CurrentPolicy, MemoryApprovals, Policy};

pub(super) const PROBES: &[Probe] = &[
    probe("approval", "running without one", |ground| {
        Box::pin(unapproved(ground))
    }),
    probe("approval", "one for another input", |ground| {
        Box::pin(replayed(ground))
    }),
    probe("approval", "using one twice", |ground| {
        Box::pin(twice(ground))
    }),
];

const fn probe(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Guard,
        name,
        tried,
        probe,
    }
}

/// A guest that runs only once it is approved.
struct Asking {
    approving: Approving,
    approvals: MemoryApprovals,
    request: ExecutionRequest,
}

impl Asking {
    async fn new(ground: &Ground) -> Result<Self, Trouble> {
        let skill = ground.load(&Handmade::default()).await?;
        let policy: Policy = "[[approval.rules]]\naction = 'ask'"
            .parse()
            .map_err(|error| {
                Trouble::Text(format!("the probe's own policy is refused: {error}"))
            })?;
        let approvals = MemoryApprovals::default();
        Ok(Asking {
            approving: Approving::new(
                Arc::new(ground.host.clone()),
                CurrentPolicy::new(Some(policy)),
                Arc::new(approvals.clone()),
            ),
            approvals,
            request: ExecutionRequest::new(skill.digest(), json!({"a": 1})).tool(TOOL),
        })
    }

    async fn run(&self, request: ExecutionRequest) -> Result<ExecutionResult, Trouble> {
        Ok(self.approving.execute(request, Control::default()).await?)
    }

    /// Asks, and approves that.
    async fn approve(&self, decision: Decision) -> Result<(), Trouble> {
        let asked = self.run(self.request.clone()).await?;
        let text = |error: crate::policy::ApprovalError| Trouble::Text(error.to_string());
        let filter = ApprovalFilter::default();
        let open = self.approvals.approvals(&filter).await.map_err(text)?;
        let Some(approval) = open.first() else {
            return Err(Trouble::Text(format!(
                "nobody was asked: {}",
                ended(&asked)
            )));
        };
        let decided = self.approvals.decide(approval.id, decision, "doctor").await;
        decided.map_err(text)?;
        Ok(())
    }
}

fn judge(past: &ExecutionResult) -> Finding {
    let asks = past.failure.as_ref().is_some_and(|failure| {
        matches!(
            failure.cause,
            Cause::Rejected {
                reason: Rejection::Approval,
                ..
            }
        )
    });
    match asks && past.usage.fuel == 0 {
        true => Finding::holds("rejected, and asked"),
        false => Finding::broken(format!("it was not asked about: {}", ended(past))),
    }
}

async fn unapproved(ground: &Ground) -> Result<Finding, Trouble> {
    let asking = Asking::new(ground).await?;
    let past = asking.run(asking.request.clone()).await?;
    asking.approve(Decision::Once).await?;
    let within = asking.run(asking.request.clone()).await?;
    if within.status != Status::Success {
        return Ok(Finding::unknown(format!("approved: {}", ended(&within))));
    }
    Ok(judge(&past))
}

async fn replayed(ground: &Ground) -> Result<Finding, Trouble> {
    let asking = Asking::new(ground).await?;
    let hour = std::time::Duration::from_secs(3_600);
    asking.approve(Decision::For(hour)).await?;
    let within = asking.run(asking.request.clone()).await?;
    if within.status != Status::Success {
        return Ok(Finding::unknown(format!("approved: {}", ended(&within))));
    }
    let mut other = asking.request.clone();
    other.input = json!({"a": 2});
    Ok(judge(&asking.run(other).await?))
}

async fn twice(ground: &Ground) -> Result<Finding, Trouble> {
    let asking = Asking::new(ground).await?;
    asking.approve(Decision::Once).await?;
    let within = asking.run(asking.request.clone()).await?;
    if within.status != Status::Success {
        return Ok(Finding::unknown(format!("approved: {}", ended(&within))));
    }
    Ok(judge(&asking.run(asking.request.clone()).await?))
}
