//! What a skill that failed may have failed for want of.

use std::cell::Cell;

use super::{Host, Skill};
use crate::execution::{Cause, Failure, MAX_MISSING};
use crate::grant::{Asker, Capability, Denial, Ended, Grants, Sought, first_of};
use crate::sandbox::Flight;

impl Host {
    /// A failure of the skill's own, with what it looked for in vain, and what may help.
    pub(super) fn with_what_it_lacks(
        &self,
        skill: &Skill,
        requested: &Grants,
        flight: &Flight,
        failure: Failure,
    ) -> Failure {
        let (known, sought) = (&skill.inner.known, &flight.sought);
        let lacked = self.lacked(skill, requested, sought, &failure);
        let mut failure = failure.without(lacked);
        let of_input = match failure.cause {
            Cause::InvalidInput { .. } => true,
            Cause::SkillError { .. } | Cause::Trap { .. } => false,
            // What it lacked is no reason for anything else.
            _ => return failure,
        };
        let mut wanting = known.asker.found_wanting(
            sought,
            &Ended {
                message: &failure.message,
                of_input,
                given: &|name| {
                    let granted = self.granted(known, requested).grants;
                    granted.environment.contains_key(name)
                },
            },
        );
        if failure
            .missing
            .iter()
            .any(|one| one.capability == Capability::Environment)
        {
            // It is known which it is.
            wanting.retain(|one| one.capability != Capability::Environment);
        }
        let scrub = |text: &mut String| {
            if let Some(held) = &flight.secrets {
                held.scrubber.text(text);
            }
        };
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
        // No more are told.
        let left = Cell::new(MAX_MISSING);
        self.missing_if(&skill.inner.known, requested, &|missing| {
            let lacks = left.get() > 0 && sought.lacks(missing, panicked);
            left.set(left.get() - usize::from(lacks));
            lacks
        })
    }
}
