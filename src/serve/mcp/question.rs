//! Questions that clients were given to ask, each of which is answered once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rmcp::ErrorData;
use tokio::time::Instant;
use uuid::Uuid;

use super::Inner;
use super::call::Who;
use super::kept::Owner;

/// The most questions that wait for an answer in this process; the oldest are forgotten first.
const MAX_WAITING: usize = 1_024;

/// Gives a question for the client to ask: the state that it brings back with the answer.
///
/// # Errors
/// Where it cannot be kept.
pub(super) async fn ask(server: &Inner, who: &Who, call: [u8; 32]) -> Result<String, ErrorData> {
    let wait = server.settings.approval_wait;
    #[cfg(feature = "serve")]
    if let Some(queue) = beside_the_jobs(server, who) {
        return shared::ask(queue, &who.owner, call, wait).await;
    }
    Ok(server.questions.ask(&who.owner, call, wait))
}

/// Whether this question was asked, by this owner, about exactly this call. It is then answered.
///
/// # Errors
/// Where it cannot be looked up.
pub(super) async fn take(
    server: &Inner,
    who: &Who,
    state: &str,
    call: [u8; 32],
) -> Result<bool, ErrorData> {
    #[cfg(feature = "serve")]
    if let Some(queue) = beside_the_jobs(server, who) {
        return shared::take(queue, state, &who.owner, call).await;
    }
    Ok(server.questions.take(state, &who.owner, call))
}

/// Those that this process knows of.
#[derive(Default)]
pub(super) struct Questions {
    waiting: Mutex<HashMap<String, Waiting>>,
}

struct Waiting {
    owner: Owner,
    /// Of exactly which call.
    call: [u8; 32],
    until: Instant,
}

impl Questions {
    fn ask(&self, owner: &Owner, call: [u8; 32], wait: Duration) -> String {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        waiting.retain(|_, question| question.until > now);
        while waiting.len() >= MAX_WAITING {
            let oldest = waiting.iter().min_by_key(|(_, question)| question.until);
            let Some(oldest) = oldest.map(|(state, _)| state.clone()) else {
                break;
            };
            waiting.remove(&oldest);
        }
        let state = Uuid::new_v4().simple().to_string();
        let question = Waiting {
            owner: Owner::clone(owner),
            call,
            until: now + wait,
        };
        waiting.insert(state.clone(), question);
        state
    }

    /// Whether this question was asked, by this owner, about exactly this call. It is then answered.
    fn take(&self, state: &str, owner: &Owner, call: [u8; 32]) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = waiting.get(state).is_some_and(|question| {
            question.owner == *owner && question.call == call && question.until > Instant::now()
        });
        if asked {
            waiting.remove(state);
        }
        asked
    }
}

/// The same kept beside the jobs, so that a client can bring its answer to any process: one note for each
/// call of each owner, whose secret the client is given.
#[cfg(feature = "serve")]
mod shared {
    use std::time::Duration;

    use rmcp::ErrorData;
    use sha2::{Digest as _, Sha256};
    use subtle::ConstantTimeEq as _;
    use uuid::Uuid;

    use super::Owner;
    use crate::queue::{Note, Queue, QueueError};

    /// The kind of the notes.
    const KIND: &str = "question";

    fn name(owner: &Owner, call: [u8; 32]) -> String {
        let mut hasher = Sha256::new();
        hasher.update(call);
        hasher.update(owner.as_bytes());
        hex::encode(hasher.finalize())
    }

    fn failed(error: QueueError) -> ErrorData {
        tracing::error!("a question cannot be kept: {error}");
        ErrorData::internal_error("the queue cannot be used", None)
    }

    /// Asks, once for all who ask about the same call meanwhile: the approval is for one of them.
    pub async fn ask(
        queue: &Queue,
        owner: &Owner,
        call: [u8; 32],
        wait: Duration,
    ) -> Result<String, ErrorData> {
        let name = name(owner, call);
        let before = queue.note::<String>(KIND, &name).await.map_err(failed)?;
        let is_first = before.is_none();
        let state = match before {
            Some(before) => before.value,
            None => Uuid::new_v4().simple().to_string(),
        };
        let question = Note {
            name,
            value: state.clone(),
            until: Some(queue.now() + wait),
        };
        // Adding one removes some whose time is over.
        if !queue.add_note(KIND, &question).await.map_err(failed)? {
            // Somebody asked about it at the same time.
            let now = queue.note::<String>(KIND, &question.name);
            if is_first && let Some(now) = now.await.map_err(failed)? {
                return Ok(now.value);
            }
            queue.put_note(KIND, &question).await.map_err(failed)?;
        }
        Ok(state)
    }

    /// As [`Questions::take`](super::Questions::take).
    pub async fn take(
        queue: &Queue,
        state: &str,
        owner: &Owner,
        call: [u8; 32],
    ) -> Result<bool, ErrorData> {
        let name = name(owner, call);
        let Some(asked) = queue.note::<String>(KIND, &name).await.map_err(failed)? else {
            return Ok(false);
        };
        if !bool::from(asked.value.as_bytes().ct_eq(state.as_bytes())) {
            return Ok(false);
        }
        // Only one removes it.
        queue.remove_note(KIND, &asked).await.map_err(failed)
    }
}

/// The queue where a question is to be kept that other processes should know.
#[cfg(feature = "serve")]
fn beside_the_jobs<'s>(server: &'s Inner, who: &Who) -> Option<&'s crate::queue::Queue> {
    server.tasks.as_ref().filter(|_| who.shared)?.opened()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_answered_once_by_whom_it_was_given_to() {
        let questions = Questions::default();
        let (owner, other): (Owner, Owner) = ("one".into(), "other".into());
        let wait = Duration::from_secs(10);
        let state = questions.ask(&owner, [1; 32], wait);
        assert!(!questions.take(&state, &other, [1; 32]));
        assert!(!questions.take(&state, &owner, [2; 32]), "another call");
        assert!(!questions.take("guessed", &owner, [1; 32]));
        assert!(questions.take(&state, &owner, [1; 32]));
        assert!(!questions.take(&state, &owner, [1; 32]), "only once");
        let late = questions.ask(&owner, [1; 32], wait);
        tokio::time::advance(wait * 2).await;
        assert!(!questions.take(&late, &owner, [1; 32]));
        for _ in 0..MAX_WAITING + 10 {
            questions.ask(&owner, [1; 32], wait);
        }
        assert_eq!(questions.waiting.lock().unwrap().len(), MAX_WAITING);
    }
}
