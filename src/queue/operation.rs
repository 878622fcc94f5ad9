//! What is handed to whoever writes, and what becomes of it.
//!
//! Operations that wait at the same time are done in one transaction. Submissions are joined to one,
//! and so are settlements: a statement for many rows costs little more than one for one.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::engine::claim::{Claimed, Wanted, claim};
use super::engine::settle::{Ending, Settled, settle};
use super::engine::submit::{Prepared, Submitted, submit};
use super::error::QueueError;
use super::store::{Answer, Result, Rows};
use super::time::Micros;

/// The most jobs that one transaction touches, where there is a choice.
const FULL: usize = 1_024;

type Reply<T> = oneshot::Sender<Result<T>>;

/// Something to be done in a transaction.
///
/// What many jobs take is shared with whoever asked, who keeps it until the answer comes: it is not for
/// the one who writes to give back so much memory.
pub(crate) enum Operation {
    Submit(Arc<Vec<Prepared>>, Reply<Vec<Submitted>>),
    Settle(Arc<Vec<Ending>>, Reply<Vec<Settled>>),
    Claim(Wanted, Reply<Claimed>),
    Other(Box<dyn Step>),
}

/// Anything else. It may be run more than once, if a transaction had to be rolled back.
pub(crate) trait Step: Send {
    fn run<'a>(&'a mut self, rows: &'a mut dyn Rows, now: Micros) -> Answer<'a, ()>;
    /// Tells how it ended.
    fn finish(self: Box<Self>, error: Option<QueueError>);
}

struct Call<F, T> {
    call: F,
    answer: Option<T>,
    reply: Reply<T>,
}

impl<F, T> Step for Call<F, T>
where
    F: for<'a> FnMut(&'a mut dyn Rows, Micros) -> Answer<'a, T> + Send,
    T: Send,
{
    fn run<'a>(&'a mut self, rows: &'a mut dyn Rows, now: Micros) -> Answer<'a, ()> {
        Box::pin(async move {
            self.answer = Some((self.call)(rows, now).await?);
            Ok(())
        })
    }

    fn finish(self: Box<Self>, error: Option<QueueError>) {
        let answer = match (error, self.answer) {
            (Some(error), _) => Err(error),
            (None, Some(answer)) => Ok(answer),
            (None, None) => Err(QueueError::Internal("an operation was not run".to_owned())),
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(answer);
    }
}

impl Operation {
    /// Anything else, as a closure.
    pub fn other<F, T>(call: F) -> (Self, oneshot::Receiver<Result<T>>)
    where
        F: for<'a> FnMut(&'a mut dyn Rows, Micros) -> Answer<'a, T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Call {
            call,
            answer: None,
            reply,
        };
        (Operation::Other(Box::new(call)), answer)
    }

    /// Whether only one such transaction may run at a time.
    pub fn is_serial(&self) -> bool {
        matches!(self, Operation::Claim(..) | Operation::Other(_))
    }

    fn weight(&self) -> usize {
        match self {
            Operation::Submit(jobs, _) => jobs.len(),
            Operation::Settle(endings, _) => endings.len(),
            Operation::Claim(wanted, _) => wanted.most,
            Operation::Other(_) => 1,
        }
    }

    /// Tells that it was not done.
    pub fn fail(self, error: QueueError) {
        match self {
            Operation::Submit(_, reply) => drop(reply.send(Err(error))),
            Operation::Settle(_, reply) => drop(reply.send(Err(error))),
            Operation::Claim(_, reply) => drop(reply.send(Err(error))),
            Operation::Other(step) => step.finish(Some(error)),
        }
    }
}

/// Operations that are done together.
pub(crate) struct Group {
    operations: Vec<Operation>,
    weight: usize,
    answers: Answers,
}

/// What the operations of a group came to, in their order, each kind by itself.
#[derive(Default)]
struct Answers {
    submitted: Vec<Submitted>,
    settled: Vec<Settled>,
    claimed: Vec<Claimed>,
}

impl Group {
    pub fn new(first: Operation) -> Self {
        Group {
            weight: first.weight(),
            operations: vec![first],
            answers: Answers::default(),
        }
    }

    pub fn add(&mut self, next: Operation) {
        self.weight += next.weight();
        self.operations.push(next);
    }

    pub fn is_full(&self) -> bool {
        self.weight >= FULL
    }

    pub fn len(&self) -> usize {
        self.operations.len()
    }

    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    /// Does them all: what ends first, so that it makes room, then what comes, then who takes.
    pub fn run<'a>(&'a mut self, rows: &'a mut dyn Rows, now: Micros) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut answers = Answers::default();
            for operation in &mut self.operations {
                if let Operation::Other(step) = operation {
                    step.run(rows, now).await?;
                }
            }
            let mut endings: Vec<&Ending> = Vec::new();
            for operation in &self.operations {
                if let Operation::Settle(part, _) = operation {
                    endings.extend(part.iter());
                }
            }
            if !endings.is_empty() {
                answers.settled = settle(rows, &endings, now).await?;
            }
            let mut jobs: Vec<&Prepared> = Vec::new();
            for operation in &self.operations {
                if let Operation::Submit(part, _) = operation {
                    jobs.extend(part.iter());
                }
            }
            if !jobs.is_empty() {
                answers.submitted = submit(rows, &jobs, now).await?;
            }
            let mut wanted: Vec<Wanted> = Vec::new();
            for operation in &self.operations {
                if let Operation::Claim(asked, _) = operation {
                    wanted.push(asked.clone());
                }
            }
            for asked in wanted {
                answers.claimed.push(claim(rows, &asked, now).await?);
            }
            self.answers = answers;
            Ok(())
        })
    }

    /// Tells everybody what came of it, after it was committed.
    pub fn succeed(self) {
        let Answers {
            submitted,
            settled,
            claimed,
        } = self.answers;
        let (mut submitted, mut settled, mut claimed) = (
            submitted.into_iter(),
            settled.into_iter(),
            claimed.into_iter(),
        );
        // Whoever asked may have gone.
        for operation in self.operations {
            match operation {
                Operation::Submit(jobs, reply) => {
                    let part = submitted.by_ref().take(jobs.len()).collect();
                    // First, so that it is the one who asked that gives back what they took.
                    drop(jobs);
                    let _ = reply.send(Ok(part));
                }
                Operation::Settle(endings, reply) => {
                    let part = settled.by_ref().take(endings.len()).collect();
                    drop(endings);
                    let _ = reply.send(Ok(part));
                }
                Operation::Claim(_, reply) => {
                    let _ = reply.send(Ok(claimed.next().unwrap_or_default()));
                }
                Operation::Other(step) => step.finish(None),
            }
        }
    }

    pub fn fail(self, error: QueueError) {
        for operation in self.operations {
            operation.fail(error.clone());
        }
    }
}
