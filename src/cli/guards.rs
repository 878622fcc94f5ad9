//! What the policy puts around every execution, whichever command or door it comes through.

use std::sync::Arc;

use skillhost::Execute;
use skillhost::policy::CurrentPolicy;
use skillhost::policy::guard::Guards;

use super::Session;

/// The guards around what executes, going by the policy of the host that does so in the end, and by each
/// that takes its place.
///
/// # Errors
/// Where what a guard keeps cannot be opened.
pub fn around(
    inner: Arc<dyn Execute>,
    policy: CurrentPolicy,
    session: &Session,
) -> anyhow::Result<Arc<dyn Execute>> {
    let _ = session;
    Ok(Guards::new(policy).around(inner))
}
