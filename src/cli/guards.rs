//! What the policy puts around every execution, whichever command or door it comes through.

use std::sync::Arc;

use skillhost::policy::guard::Guards;
use skillhost::{Execute, Host};

use super::Session;

/// The guards around what executes, which is this host in the end. They go by the policy that it goes
/// by, and by each that takes its place.
///
/// # Errors
/// Where what a guard keeps cannot be opened.
pub fn around(
    inner: Arc<dyn Execute>,
    host: &Host,
    session: &Session,
) -> anyhow::Result<Arc<dyn Execute>> {
    let _ = session;
    let guards = Guards::new(host.breakers().clone()).capacity(host.concurrency());
    Ok(guards.around(inner))
}
