//! On whose behalf a request comes in, and what it may do.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{UnknownName, names};

/// What somebody may do who comes through a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Scope {
    /// Execute skills at once.
    Execute,
    /// Submit jobs and schedules, follow and change them; read events, results and dead letters.
    Jobs,
    /// Install and remove skills, for everybody.
    Install,
    /// Answer for jobs that wait for somebody's word.
    Approve,
    /// What concerns everybody: queues and their bounds, the policy, metrics, all statistics.
    Administer,
}
names!(Scope, "scope",
    Execute => "execute", Jobs => "jobs", Install => "install", Approve => "approve",
    Administer => "administer");

/// Whose jobs, events and results somebody may see and change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenancy {
    /// Everybody's: whoever runs the program, where no tokens are needed.
    Everybody,
    /// Those of one tenant.
    Tenant(Arc<str>),
}

/// On whose behalf a request comes in. Cheap to clone.
///
/// A door puts this into the request's extensions once it knows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose things may be seen.
    pub tenancy: Tenancy,
    /// What may be done.
    pub scopes: Scopes,
    /// The token's id, where there was one; no secret.
    pub token: Option<Arc<str>>,
    /// Who it is without a token, for the record: a user of the machine, where a door knows that.
    pub user: Option<Arc<str>>,
}

impl Caller {
    /// Whoever runs the program: everything is allowed.
    pub fn operator() -> Self {
        Caller {
            tenancy: Tenancy::Everybody,
            scopes: Scopes::all(),
            token: None,
            user: None,
        }
    }

    /// Says who it is, for the record, where there is no token.
    #[must_use]
    pub fn user(mut self, user: impl Into<Arc<str>>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Acts for this tenant alone.
    #[must_use]
    pub fn for_tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenancy = Tenancy::Tenant(tenant.into());
        self
    }

    /// The tenant that requests run and jobs are submitted for.
    pub fn tenant(&self) -> Option<&str> {
        match &self.tenancy {
            Tenancy::Everybody => None,
            Tenancy::Tenant(tenant) => Some(tenant),
        }
    }

    /// Whether what belongs to this tenant may be seen and changed.
    pub fn may_see(&self, tenant: Option<&str>) -> bool {
        match &self.tenancy {
            Tenancy::Everybody => true,
            Tenancy::Tenant(own) => tenant == Some(own),
        }
    }

    /// Who it is, for a record: of a token its id, which is no secret.
    pub fn name(&self) -> String {
        match (&self.token, &self.user) {
            (Some(token), _) => format!("token {token}"),
            (None, Some(user)) => user.to_string(),
            (None, None) => "operator".to_owned(),
        }
    }
}

/// Some of the [`Scope`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Every one of them.
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Whether this one is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .iter()
            .copied()
            .filter(move |scope| self.has(*scope))
    }
}

fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Scopes(scopes.into_iter().fold(0, |bits, scope| bits | bit(scope)))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeSet::<Scope>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

/// Why a text is no list of scopes.
pub type UnknownScope = UnknownName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_back_from_json() {
        let scopes: Scopes = [Scope::Jobs, Scope::Approve].into_iter().collect();
        let json = serde_json::to_string(&scopes).unwrap();
        assert_eq!(json, r#"["jobs","approve"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(&json).unwrap(), scopes);
        assert!(!scopes.has(Scope::Administer));
        assert_eq!(Scopes::all().iter().count(), Scope::ALL.len());
    }

    #[test]
    fn a_tenant_sees_its_own_and_nothing_else() {
        let caller = Caller::operator().for_tenant("acme");
        assert!(caller.may_see(Some("acme")));
        assert!(!caller.may_see(Some("other")));
        assert!(!caller.may_see(None));
        assert!(Caller::operator().may_see(None));
    }

    #[test]
    fn a_record_names_the_token_before_the_user() {
        assert_eq!(Caller::operator().name(), "operator");
        let caller = Caller::operator().user("uid 0 (root)");
        assert_eq!(caller.name(), "uid 0 (root)");
        let caller = Caller {
            token: Some("0f3a".into()),
            ..caller
        };
        assert_eq!(caller.name(), "token 0f3a");
    }
}
