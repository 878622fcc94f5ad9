//! What a skill that failed may have failed for want of.

use std::cell::{Cell, OnceCell};

use super::{Host, Skill};
use crate::execution::{Cause, Failure, MAX_MISSING};
use crate::grant::{
    Asker, Capability, Denial, Ended, Grants, Missing, Sought, first_of, names, says_plainly,
};
use crate::sandbox::Flight;

impl Host {
    /// A failure of the skill's own, with what it looked for in vain, and what may help.
    pub(super) fn with_what_it_lacks(
        &self,
        skill: &Skill,
        requested: &Grants,
        flight: &Flight,
        mut failure: Failure,
    ) -> Failure {
        let (known, sought) = (&skill.inner.known, &flight.sought);
        let mut lacked = self.lacked(skill, requested, sought, &failure);
        let of_input = match failure.cause {
            Cause::InvalidInput { .. } => true,
            Cause::SkillError { .. } | Cause::Trap { .. } => false,
            // What it lacked is no reason for anything else.
            _ => return failure.without(lacked),
        };
        let granted = OnceCell::new();
        let mut wanting = known.asker.found_wanting(
            sought,
            &Ended {
                message: &failure.message,
                of_input,
                given: &|name| {
                    let all = || self.granted(known, requested).grants.environment;
                    granted.get_or_init(all).contains_key(name)
                },
            },
        );
        let is_variable = |one: &Denial| one.capability == Capability::Environment;
        // It gets all variables at once, and which of them it looked for is what it says itself.
        let is_named = |one: &Denial| names(&failure.message, &one.subject);
        let is_plain =
            |one: &Denial| is_variable(one) && says_plainly(&failure.message, &one.subject);
        let names_a_variable = lacked.iter().any(|one| is_variable(one) && is_named(one));
        if names_a_variable {
            wanting.retain(|one| !is_variable(one) || is_plain(one));
            lacked.sort_by_key(|one| !(is_variable(one) && is_named(one)));
        }
        let scrub = |text: &mut String| {
            if let Some(held) = &flight.secrets {
                held.scrubber.text(text);
            }
        };
        // Scratch of which it says nothing it may do without, where the path that it was given is in none that it has.
        let is_unnamed = |one: &Denial| one.capability == Capability::Scratch && !is_named(one);
        let telling = match lacked.is_empty() || names_a_variable {
            true => None,
            false => {
                let variable = wanting.iter().find(|one| is_plain(one));
                let elsewhere = || match lacked.iter().all(is_unnamed) {
                    true => sought.elsewhere(),
                    false => None,
                };
                variable.map(Denial::perhaps).or_else(elsewhere)
            }
        };
        if (failure.wants_a_hint() || of_input && failure.hint.is_none())
            && failure.denials.is_empty()
            && let Some(mut help) = telling
        {
            scrub(&mut help);
            failure.hint = Some(help);
        }
        failure = failure.without(lacked);
        // They may name what the guest made up of a secret's parts.
        wanting.iter_mut().flat_map(Denial::texts).for_each(scrub);
        // A hint says no more than what is told of each.
        first_of(&mut wanting, MAX_MISSING);
        // What it was given may have been a path.
        let may_be_a_path = of_input && failure.denials.is_empty() && failure.missing.is_empty();
        if (failure.wants_a_hint() || may_be_a_path)
            && let Some(mut help) = Asker::looked_in_vain(sought, &wanting)
        {
            scrub(&mut help);
            failure.hint = Some(help);
        }
        failure.found_wanting(wanting)
    }

    /// What is missing and may be why a skill fails: what it declares and was not granted, and looked for
    /// while it ran.
    ///
    /// A skill often declares more than anybody wants to grant, and what it never looked for is no reason.
    fn lacked(
        &self,
        skill: &Skill,
        requested: &Grants,
        sought: &Sought,
        failure: &Failure,
    ) -> Vec<Denial> {
        let panicked = match failure.cause {
            Cause::Trap { .. } => Some(failure.message.as_str()),
            _ => None,
        };
        // No more are told, and of variables those first that are named.
        let (left, named) = (Cell::new(MAX_MISSING), Cell::new(MAX_MISSING));
        self.missing_if(&skill.inner.known, requested, &|missing| {
            let of = match missing {
                Missing::Environment(name) if names(&failure.message, name) => &named,
                _ => &left,
            };
            let lacks = of.get() > 0 && sought.lacks(missing, panicked);
            of.set(of.get() - usize::from(lacks));
            lacks
        })
    }
}
