//! A way to what is read from bodies without a server, for the fuzz target `request`.

use super::executions::Execution;
use super::extract::{measured, parse};
use super::jobs::submit::{Batch, Submission};
use super::problem::Problem;
use super::schedules::NewSchedule;
use crate::queue::NewJob;
use crate::queue::callback::Callbacks;
use crate::serve::Caller;

/// The jobs that a body comes to for this caller, read as each of the bodies that there are; an execution as the
/// job that it would be. What it is not, it is refused as, with a problem.
pub fn jobs(
    body: &[u8],
    callbacks: &Callbacks,
    caller: &Caller,
) -> Vec<Result<NewJob, Box<Problem>>> {
    if let Err(problem) = measured(body) {
        return vec![Err(Box::new(problem))];
    }
    let execution = parse::<Execution>(body).map(|execution| execution.request(caller));
    let submissions = match parse::<Batch>(body) {
        Ok(batch) => batch.jobs,
        Err(_) => Vec::new(),
    };
    let submissions = submissions
        .into_iter()
        .map(Ok)
        .chain([parse::<Submission>(body)]);
    let schedule = parse::<NewSchedule>(body).err().map(Err);
    submissions
        .map(|submission| submission.and_then(|submission| submission.job(callbacks, caller)))
        .chain([execution.map(NewJob::execution)])
        .chain(schedule)
        .map(|job| job.map_err(Box::new))
        .collect()
}
