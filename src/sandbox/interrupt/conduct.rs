//! How guests of a skill have behaved, so far as it concerns the next ones.

use std::hash::{BuildHasher as _, RandomState};

use super::debt::Debt;
use super::gate::Known;
use super::pace::Pace;

/// How many kinds of tenants are told apart.
const KINDS: usize = 16;

/// How guests of one skill have behaved, for one tenant or a few.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Conduct {
    /// Whether they are known to keep their threads for long.
    pub known: Known,
    /// What those that have ended owe.
    pub debt: Debt,
    /// How far apart their looks at the clock are.
    pub pace: Pace,
}

/// How guests of one skill have behaved.
///
/// A skill does what its input says, and that is its tenant's: what comes of one tenant's requests is not for another's
/// to bear. There may be any number of tenants, so several share one conduct, and which ones nobody can tell: it
/// is by a hash with keys of its own. Whoever has no tenant shares with nobody that has.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Conducts {
    keys: RandomState,
    of_none: Conduct,
    of_tenants: [Conduct; KINDS],
}

impl Conducts {
    /// How those of this tenant did.
    pub fn of(&self, tenant: Option<&str>) -> &Conduct {
        match tenant {
            None => &self.of_none,
            Some(tenant) => {
                let kinds = KINDS as u64;
                &self.of_tenants[(self.keys.hash_one(tenant) % kinds) as usize]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_tenant_does_not_bear_what_another_did() {
        let conducts = Conducts::default();
        let at = |tenant: Option<&str>| std::ptr::from_ref(conducts.of(tenant)).addr();
        assert_eq!(at(Some("acme")), at(Some("acme")));
        let names: Vec<_> = (0..1_000)
            .map(|number| format!("tenant-{number}"))
            .collect();
        let places: BTreeSet<_> = names.iter().map(|name| at(Some(name))).collect();
        assert_eq!(places.len(), KINDS);
        assert!(!places.contains(&at(None)));
        // Nobody knows with whom, as that is another one each time.
        let others = Conducts::default();
        let of = |conducts: &Conducts, name: &str| {
            let first = std::ptr::from_ref(&conducts.of_tenants[0]).addr();
            std::ptr::from_ref(conducts.of(Some(name))).addr() - first
        };
        assert!(
            names
                .iter()
                .any(|name| of(&conducts, name) != of(&others, name))
        );
    }
}
