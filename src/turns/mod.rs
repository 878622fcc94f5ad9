//! Turns between those who share what there is little of, so that none of them waits for all that another wants.

pub(crate) mod aside;
pub(crate) mod interrupt;
pub(crate) mod line;
pub(crate) mod threads;

use std::sync::Arc;

use line::Bounds;

/// One of those between whom there are turns: a tenant with all its skills, and where there is no tenant, a skill.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Party(Arc<str>);

impl Party {
    /// The one that a skill is of, where it does something for this tenant.
    pub fn of(tenant: Option<&str>, skill: &str) -> Self {
        Party(match tenant {
            // No skill's name has that in it.
            Some(tenant) => format!("={tenant}").into(),
            None => skill.into(),
        })
    }

    /// What tells it from every other.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// What a [`line`] knows a skill by where it is only between parties.
pub(crate) const ANYTHING: &str = "";

/// So many places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub all: u32,
    /// How many of them one party may have, where that is bounded.
    pub each: Option<u32>,
}

impl Bounds for Places {
    fn all(&self) -> u32 {
        self.all
    }

    fn tenant(&self, _: &str) -> (Option<u32>, u32) {
        (self.each, 1)
    }

    fn skill(&self, _: &str) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_no_skill_of_its_name() {
        let parties = [
            Party::of(None, "a"),
            Party::of(None, "b"),
            Party::of(Some(""), "a"),
            Party::of(Some("a"), "a"),
            Party::of(Some("b"), "a"),
        ];
        for (number, party) in parties.iter().enumerate() {
            assert!(!parties[number + 1..].contains(party), "{party:?}");
        }
        assert_eq!(Party::of(Some("a"), "a"), Party::of(Some("a"), "b"));
    }
}
