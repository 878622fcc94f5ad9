//! Names that nobody has heard of, and that may be misspelt.

use skillhost::queue::{DEFAULT_QUEUE, ScopeInfo, ScopeKind};
use skillhost::text::closest;

use crate::cli::Session;

/// A hint where there was no queue, tenant or skill of this name before; a skill is known once it is installed, too, and
/// one queue is always there.
pub fn hint(
    kind: ScopeKind,
    name: &str,
    before: &[ScopeInfo],
    session: &Session,
) -> Option<String> {
    let built_in = (kind == ScopeKind::Queue).then_some(DEFAULT_QUEUE);
    let installed = match kind {
        ScopeKind::Skill => session.places().ok()?.library().list().unwrap_or_default(),
        _ => Vec::new(),
    };
    let mut known: Vec<&str> = before.iter().map(|scope| scope.name.as_str()).collect();
    known.extend(installed.iter().map(|skill| skill.name.as_str()));
    if known.contains(&name) || built_in == Some(name) {
        return None;
    }
    let there = match kind {
        ScopeKind::Skill => "no skill of that name is installed".to_owned(),
        _ => format!("there was no {kind} of that name before"),
    };
    // What was set by another slip before is as close as it gets, and need not be what is meant.
    let built_in = closest(name, built_in.into_iter());
    let close = closest(name, known.into_iter()).filter(|close| built_in != Some(*close));
    Some(match (built_in, close) {
        (Some(one), Some(other)) => format!("{there}; did you mean `{one}` or `{other}`?"),
        (Some(close), None) | (None, Some(close)) => format!("{there}; did you mean `{close}`?"),
        (None, None) => format!("{there}; is it spelt right?"),
    })
}
