//! What answers take that are made, and that their clients have not taken.
//!
//! An answer waits in memory until its client has read it; in a session of an older client also behind all that came
//! before it there and is not read. So answers are weighed: where those of one take as much as they may, or those of
//! all, it gets no further one that is as large until it has read some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, Extensions, GetTaskResult, ReadResourceResult,
    ResourceContents, TaskPayload,
};

use super::content;
use super::kept::Owner;
use super::settings::UntakenBounds;
use crate::json::weight;
use crate::limits::display_bytes;

/// What answers take, of each and of all.
#[derive(Debug)]
pub(super) struct Answers {
    bounds: UntakenBounds,
    take: Mutex<Take>,
}

#[derive(Debug, Default)]
struct Take {
    all: u64,
    of_each: HashMap<Owner, u64>,
}

/// What one answer takes.
#[derive(Debug)]
struct Weight {
    answers: Arc<Answers>,
    owner: Owner,
    bytes: u64,
}

/// Stands with a request for as long as its answer is anywhere: whoever has it keeps a clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Untaken {
    weight: Arc<Mutex<Option<Weight>>>,
}

impl Answers {
    pub fn new(bounds: UntakenBounds) -> Arc<Self> {
        Arc::new(Answers {
            bounds,
            take: Mutex::default(),
        })
    }

    /// So much of an answer; `None` where that is too much beside others. Whoever has read all that it was answered gets
    /// the next one, however large it is.
    fn weighs(self: &Arc<Self>, owner: &Owner, bytes: u64) -> Result<Weight, u64> {
        let mut take = self.lock();
        let own = take.of_each.get(owner).copied().unwrap_or_default();
        let fits = |taken: u64, most: u64| taken.saturating_add(bytes) <= most;
        let fit = fits(own, self.bounds.bytes) && fits(take.all, self.bounds.total_bytes);
        if own > 0 && !fit {
            return Err(own);
        }
        take.all = take.all.saturating_add(bytes);
        take.of_each
            .insert(Owner::clone(owner), own.saturating_add(bytes));
        Ok(Weight {
            answers: Arc::clone(self),
            owner: Owner::clone(owner),
            bytes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Take> {
        self.take.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        let mut take = self.answers.lock();
        take.all = take.all.saturating_sub(self.bytes);
        if let Some(own) = take.of_each.get_mut(&self.owner) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                take.of_each.remove(&self.owner);
            }
        }
    }
}

impl Untaken {
    /// What stands with a request that came over HTTP.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        let parts = extensions.get::<http::request::Parts>()?;
        parts.extensions.get::<Untaken>().cloned()
    }

    /// Whether nobody else has it.
    #[cfg(feature = "serve")]
    pub fn is_of_nobody_else(&self) -> bool {
        Arc::strong_count(&self.weight) == 1
    }

    /// The answer, weighed; what is said in its place where it weighs too much.
    pub fn weighed<A: Answered>(
        self,
        answers: &Arc<Answers>,
        owner: &Owner,
        answer: A,
    ) -> Result<A, ErrorData> {
        let bytes = answer.weight();
        match answers.weighs(owner, bytes) {
            Ok(weight) => {
                let mut held = self.weight.lock().unwrap_or_else(PoisonError::into_inner);
                *held = Some(weight);
                Ok(answer)
            }
            Err(own) => answer.too_heavy(format!(
                "answers to earlier requests, of {}, wait to be read, and this one of {} is too much beside them: read \
                 those, or end their sessions, then ask again",
                display_bytes(own),
                display_bytes(bytes)
            )),
        }
    }
}

/// What a client is answered.
pub(super) trait Answered: Sized {
    /// What it takes in memory, in bytes.
    fn weight(&self) -> u64;

    /// What is answered in its place.
    fn too_heavy(self, why: String) -> Result<Self, ErrorData> {
        Err(ErrorData::internal_error(why, None))
    }
}

impl Answered for CallToolResponse {
    fn weight(&self) -> u64 {
        match self {
            CallToolResponse::Complete(result) => of_result(result),
            // It is bounded otherwise, and small.
            _ => 1,
        }
    }

    fn too_heavy(self, why: String) -> Result<Self, ErrorData> {
        let message = format!("the tool has run, and its answer is not given: {why}");
        Ok(content::error(message).into())
    }
}

impl Answered for ReadResourceResult {
    fn weight(&self) -> u64 {
        1 + self.contents.iter().map(of_contents).sum::<u64>()
    }
}

impl Answered for GetTaskResult {
    fn weight(&self) -> u64 {
        match &self.task.payload {
            TaskPayload::Completed { result } => 1 + result.values().map(weight).sum::<u64>(),
            _ => 1,
        }
    }
}

fn of_result(result: &CallToolResult) -> u64 {
    let blocks = result.content.iter().map(|block| match block {
        ContentBlock::Text(text) => text.text.len() as u64,
        ContentBlock::Image(image) => image.data.len() as u64,
        ContentBlock::Audio(audio) => audio.data.len() as u64,
        ContentBlock::Resource(resource) => of_contents(&resource.resource),
        _ => 0,
    });
    1 + blocks.sum::<u64>() + result.structured_content.as_ref().map_or(0, weight)
}

fn of_contents(contents: &ResourceContents) -> u64 {
    match contents {
        ResourceContents::TextResourceContents { text, .. } => text.len() as u64,
        ResourceContents::BlobResourceContents { blob, .. } => blob.len() as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_is_bounded_of_each_and_of_all() {
        let answers = Answers::new(UntakenBounds {
            bytes: 100,
            total_bytes: 150,
        });
        let (a, b): (Owner, Owner) = ("a".into(), "b".into());
        let first = answers.weighs(&a, 60).ok().unwrap();
        assert_eq!(answers.weighs(&a, 41).err(), Some(60));
        let second = answers.weighs(&a, 40).ok().unwrap();
        assert_eq!(answers.weighs(&a, 1).err(), Some(100));
        // Whoever has nothing that waits gets something, and no more beside the others.
        let theirs = answers.weighs(&b, 200).ok().unwrap();
        assert_eq!(answers.weighs(&b, 1).err(), Some(200));
        drop((first, second));
        drop(theirs);
        let one = answers.weighs(&b, 50).ok().unwrap();
        let other = answers.weighs(&a, 90).ok().unwrap();
        assert_eq!(answers.weighs(&b, 20).err(), Some(50));
        drop(other);
        assert!(answers.weighs(&b, 20).is_ok());
        drop(one);
        let take = answers.lock();
        assert!(take.all == 0 && take.of_each.is_empty());
    }

    #[test]
    fn an_answer_weighs_what_it_takes() {
        let mut result = CallToolResult::success(vec![
            ContentBlock::text("x".repeat(1_000)),
            ContentBlock::image("x".repeat(2_000), "image/png"),
            ContentBlock::resource(ResourceContents::text("x".repeat(4_000), "a:b")),
        ]);
        let plain = of_result(&result);
        assert!((7_000..7_100).contains(&plain), "{plain}");
        result.structured_content = Some(json!(vec![0; 1_000]));
        let more = of_result(&result) - plain;
        assert!(
            more >= 1_000 * size_of::<serde_json::Value>() as u64,
            "{more}"
        );
    }
}
