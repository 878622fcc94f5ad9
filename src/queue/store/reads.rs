//! Reading beside those who write.

use uuid::Uuid;

use super::{
    Answer, ApprovalQuery, ApprovalRow, AttemptRow, EventRow, Filter, Found, LaneKey, Listed,
    NoteRow, PolicyRow, ScheduleRow, Scope, ScopeKind, WorkerRow,
};
use crate::queue::job::JobStatus;
use crate::queue::time::Micros;

/// What people do to a job: the events that [`Reads::history`] gives, written out as the index on them
/// has it.
pub(super) const BY_PEOPLE: &str = "kind IN ('snoozed', 'paused', 'resumed', 'approved', \
    'reprioritized', 'cancel_requested', 'cancelled', 'dead', 'replayed')";

/// What is read beside those who write, each as of one moment.
pub(crate) trait Reads: Send + Sync {
    /// Jobs, the last submitted first: no more of them once their bodies come to [`LISTED_BYTES`].
    /// Where to begin is said by [`Filter::cursor`] alone.
    fn list<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Listed<Found>>;
    /// Numbers and ids of jobs, in the same way.
    fn ids<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Listed<(i64, Uuid)>>;
    /// These jobs, in this order, those that are not there being left out.
    fn find<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Vec<Found>>;
    /// In which queue these jobs are, whose and of what skill, in any order and without reading their bodies, those
    /// that are not there being left out.
    fn belongings<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Vec<(Uuid, LaneKey)>>;
    /// Where a job stands, and its deadline.
    fn status(&self, id: Uuid) -> Answer<'_, Option<(JobStatus, Option<Micros>)>>;
    /// Attempts at a job, in order.
    fn attempts(&self, seq: i64) -> Answer<'_, Vec<AttemptRow>>;
    /// A job's result and the last word on how far it has come, as JSON.
    fn result(&self, seq: i64) -> Answer<'_, (Option<String>, Option<String>)>;
    /// Events after this one, in order, with their numbers.
    fn events(&self, after: i64, most: usize) -> Answer<'_, Vec<(i64, EventRow)>>;
    /// What people did to a job, in order: the last of it.
    fn history(&self, job: Uuid, most: usize) -> Answer<'_, Vec<(i64, EventRow)>>;
    /// The first event that is kept, and the last that there was; 0 for none.
    fn event_bounds(&self) -> Answer<'_, (i64, i64)>;
    /// Every counter of these kinds: kind, number, name, value. What was put aside is counted in.
    fn counters<'a>(
        &'a self,
        kinds: &'a [&'static str],
    ) -> Answer<'a, Vec<(String, i64, String, i64)>>;
    /// Every lane.
    fn lanes(&self) -> Answer<'_, Vec<(i64, LaneKey)>>;
    /// Every scope of a kind.
    fn scopes(&self, kind: ScopeKind) -> Answer<'_, Vec<Scope>>;
    /// Since when the job has been due that has been so longest.
    fn oldest(&self, now: Micros) -> Answer<'_, Option<Micros>>;
    /// Every worker whose lease holds.
    fn workers(&self, now: Micros) -> Answer<'_, Vec<WorkerRow>>;
    /// Jobs that this worker has, and somebody asked to cancel.
    fn cancels(&self, worker: Uuid) -> Answer<'_, Vec<Uuid>>;
    /// When the next job that waits for its time is due, or the next schedule.
    fn next_due(&self) -> Answer<'_, Option<Micros>>;
    /// Schedules of a tenant, or of everybody, by name. Of their jobs, the outlines.
    fn schedules<'a>(&'a self, tenant: Option<&'a str>) -> Answer<'a, Vec<ScheduleRow>>;
    /// The schedule of this name, whole.
    fn schedule<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ScheduleRow>>;
    /// Every retry policy.
    fn policies(&self) -> Answer<'_, Vec<PolicyRow>>;
    /// Every note of a kind, or the one of this name, by name.
    fn notes<'a>(&'a self, kind: &'a str, name: Option<&'a str>) -> Answer<'a, Vec<NoteRow>>;
    /// Approvals, the last asked for first.
    fn approvals<'a>(&'a self, query: &'a ApprovalQuery) -> Answer<'a, Vec<ApprovalRow>>;
    /// One approval.
    fn approval(&self, id: Uuid) -> Answer<'_, Option<ApprovalRow>>;
}
