//! Whether to ask at all: nobody is bothered about what would not be admitted whatever is answered.

use std::sync::Arc;

use crate::execution::{Cause, Execute, ExecutionRequest, Failure, Rejection};

/// Why a request would not be admitted, where that is for what it is itself: its input, its grants, a ceiling. What
/// passes by itself (a rate, a circuit) is none.
pub(super) async fn refusal(
    inner: &Arc<dyn Execute>,
    request: &ExecutionRequest,
) -> Option<Failure> {
    let (inner, request) = (Arc::clone(inner), request.clone());
    // Whether directories are there is looked at on the disk.
    let looked = tokio::task::spawn_blocking(move || inner.can_execute(&request).refusal).await;
    looked.ok()?.filter(|refusal| {
        matches!(
            refusal.cause,
            Cause::InvalidInput { .. }
                | Cause::Rejected {
                    reason: Rejection::Grant | Rejection::Ceiling,
                    ..
                }
        )
    })
}
