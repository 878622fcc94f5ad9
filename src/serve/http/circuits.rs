//! Circuits: what failed too often, and is left alone for a while.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Answer, Asks, Parameters};
use super::jobs::read::page;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::breaker::CircuitState;
use crate::policy::guard::CircuitSubject;
use crate::serve::caller::Scope;
use crate::skill::Digest;

/// What a circuit stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CircuitKind {
    /// A skill, by its digest.
    Skill,
    /// A host that skills send requests to.
    Host,
}

impl CircuitKind {
    pub fn as_str(self) -> &'static str {
        match self {
            CircuitKind::Skill => "skill",
            CircuitKind::Host => "host",
        }
    }
}

/// One circuit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Circuit {
    /// What it stands for.
    pub kind: CircuitKind,
    /// Which: of an installed skill `name@version`, of any other its digest; of a host its name and port.
    pub of: String,
    /// The digest, of a skill.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// How it stands: `closed`, `open` (nothing goes through), or `half_open` (one at a time does).
    #[schema(value_type = String)]
    pub state: CircuitState,
}

/// How bad a state is.
pub(super) fn severity(state: CircuitState) -> u8 {
    match state {
        CircuitState::Closed => 0,
        CircuitState::HalfOpen => 1,
        CircuitState::Open => 2,
    }
}

/// Those of this process, the open ones first, and of these skills first.
pub(super) async fn standing(service: &Service) -> Vec<Circuit> {
    let Some(breakers) = &service.inner.breakers else {
        return Vec::new();
    };
    let standings = breakers.standings();
    let listing = match &service.inner.skills {
        Some(skills) if !standings.is_empty() => skills.list().await.ok(),
        _ => None,
    };
    let mut circuits: Vec<Circuit> = standings
        .into_iter()
        .map(|standing| match standing.subject {
            CircuitSubject::Skill { digest } => {
                let listed = listing.as_ref().and_then(|all| all.find(&digest.into()));
                Circuit {
                    kind: CircuitKind::Skill,
                    of: match listed {
                        Some(skill) => {
                            format!("{}@{}", skill.identity.name, skill.identity.version)
                        }
                        None => digest.to_string(),
                    },
                    digest: Some(digest),
                    state: standing.state,
                }
            }
            CircuitSubject::Host { host } => Circuit {
                kind: CircuitKind::Host,
                of: host,
                digest: None,
                state: standing.state,
            },
        })
        .collect();
    // They come in order, which stays among those of one state.
    circuits.sort_by_key(|circuit| std::cmp::Reverse(severity(circuit.state)));
    circuits
}

/// Which circuits.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of skills, or of hosts.
    #[param(inline)]
    kind: Option<CircuitKind>,
    /// How many at most; 100 unless set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Circuits of one process.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CircuitList {
    /// The open ones first, then those that are tried again, then closed ones.
    circuits: Vec<Circuit>,
    /// How many there are in each state, whether they are shown or not.
    by_state: BTreeMap<&'static str, u64>,
}

/// See what is left alone for a while
///
/// A circuit opens where a skill, or a host that skills send requests to, fails too often, as far as the
/// policy says so. Each process has circuits of its own: these are those of the one that answers.
#[utoipa::path(
    get, path = "/v1/circuits", tag = "statistics",
    params(Which),
    responses((status = 200, description = "How the circuits stand", body = CircuitList))
)]
pub(super) async fn list(
    State(service): State<Service>,
    asks: Asks,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    if service.inner.breakers.is_none() {
        let detail = "this server has no circuits";
        return Err(Problem::new(ProblemKind::NotFound, detail));
    }
    let limit = page(which.limit)?;
    let mut circuits = standing(&service).await;
    circuits.retain(|circuit| which.kind.is_none_or(|kind| kind == circuit.kind));
    let mut by_state = BTreeMap::new();
    for circuit in &circuits {
        *by_state.entry(circuit.state.as_str()).or_default() += 1;
    }
    circuits.truncate(limit);
    Ok(Answer(CircuitList { circuits, by_state }).into_response())
}
