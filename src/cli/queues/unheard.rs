//! Names that nobody has heard of, and that may be misspelt.

use skillhost::queue::{ScopeInfo, ScopeKind};
use skillhost::text::closest;

use crate::cli::Session;

/// A hint where there was no queue, tenant or skill of this name before; a skill is known once it is installed, too.
pub fn hint(
    kind: ScopeKind,
    name: &str,
    before: &[ScopeInfo],
    session: &Session,
) -> Option<String> {
    let installed = match kind {
        ScopeKind::Skill => session.places().ok()?.library().list().unwrap_or_default(),
        _ => Vec::new(),
    };
    let mut known: Vec<&str> = before.iter().map(|scope| scope.name.as_str()).collect();
    known.extend(installed.iter().map(|skill| skill.name.as_str()));
    if known.contains(&name) {
        return None;
    }
    let there = match kind {
        ScopeKind::Skill => "no skill of that name is installed".to_owned(),
        _ => format!("there was no {kind} of that name before"),
    };
    Some(match closest(name, known.into_iter()) {
        Some(close) => format!("{there}; did you mean `{close}`?"),
        None => format!("{there}; is it spelt right?"),
    })
}
