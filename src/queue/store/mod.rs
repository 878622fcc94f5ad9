//! Where the queue is kept: the rows, and what can be done with them.
//!
//! The decisions are made above, once for every store ([`engine`](super::engine)): a store reads and
//! writes rows, many at a time, within one transaction. It also says whether its transactions are
//! *serial*. Some rows everybody would have to write: counters, the places of waiting jobs, the
//! numbers of events. A transaction that is not serial puts such changes aside ([`Rows::defer`]), and
//! the next serial one takes them in, so that writers do not wait for each other.

mod filter;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod reads;
pub(crate) mod sqlite;

pub use filter::Filter;
pub(crate) use filter::{LISTED_BYTES, LISTED_LANES, Listed};
pub(crate) use reads::Reads;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::counters::{Counter, Tally};
use super::error::QueueError;
use super::event::JobEventKind;
use super::fair::Head;
use super::job::{JobStatus, Kind, Priority};
use super::operation::Operation;
use super::time::Micros;
use crate::policy::{ApprovalStatus, Subject};

pub(crate) type Result<T> = std::result::Result<T, QueueError>;
/// What a store answers, now or later.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The state of one job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// In the order in which they were submitted. 0 before it is stored.
    pub seq: i64,
    pub id: Uuid,
    pub lane: i64,
    pub kind: Kind,
    pub status: JobStatus,
    pub cause: Option<String>,
    pub priority: Priority,
    pub attempts: u32,
    pub max_attempts: u32,
    /// How often it was claimed: the fencing token of the last claim.
    pub fence: i64,
    /// Whose claim that was.
    pub worker: Option<Uuid>,
    pub created: Micros,
    pub updated: Micros,
    /// When it was to run first.
    pub scheduled: Micros,
    /// When it may run next.
    pub due: Micros,
    pub started: Option<Micros>,
    pub completed: Option<Micros>,
    pub deadline: Option<Micros>,
    pub cancel_requested: bool,
    pub flags: Flags,
    /// Since when each worker that took it lacked its skill, or what else it takes.
    pub lacking_since: Option<Micros>,
}

/// What a job has, so that nobody has to look for it in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub i64);

impl Flags {
    /// An idempotency key that holds until it has ended.
    pub const KEY: Flags = Flags(1);
    /// A callback.
    pub const CALLBACK: Flags = Flags(2);
    /// A tool that is marked destructive and not idempotent.
    pub const DESTRUCTIVE: Flags = Flags(4);
    /// Nobody will ask for its output.
    pub const FORGET: Flags = Flags(8);
    /// Somebody said that it may run.
    pub const APPROVED: Flags = Flags(16);
    /// It is dead, and was submitted once more.
    pub const REPLAYED: Flags = Flags(32);

    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn with(self, other: Flags, on: bool) -> Flags {
        Flags(if on { self.0 | other.0 } else { self.0 })
    }
}

/// What does not change of a job, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body {
    /// The [`NewJob`](super::NewJob).
    pub submitted: Arc<str>,
    /// The [`Retry`](super::Retry).
    pub retry: Arc<str>,
}

/// One attempt that ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttemptRow {
    pub job: i64,
    pub fence: i64,
    /// Which attempt it was, counted from 1.
    pub number: u32,
    /// Whether it was used up.
    pub counted: bool,
    pub worker: Uuid,
    pub started: Micros,
    pub ended: Micros,
    /// How it ended: a status of an execution, or `released`, `snoozed`, `worker_lost`.
    pub status: String,
    /// Failure, usage, limits, digest and the like, as JSON.
    pub details: Arc<str>,
}

/// What an idempotency key points to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyRow {
    pub tenant: String,
    pub key: String,
    pub job: Uuid,
    /// Until when it holds; `None`: until the job has ended.
    pub until: Option<Micros>,
}

/// A queue, tenant and skill: what jobs have in common that stand in one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneKey {
    pub queue: String,
    /// Empty for none.
    pub tenant: String,
    /// Empty for none.
    pub skill: String,
}

/// A lane, with what it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    pub id: i64,
    pub share: i64,
    pub queue: i64,
    pub tenant: i64,
    pub skill: i64,
}

/// What can be paused, and bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum ScopeKind {
    /// A queue.
    Queue,
    /// A tenant.
    Tenant,
    /// A skill, by name or as jobs refer to it.
    Skill,
}
super::job::names!(ScopeKind, "kind of scope", Queue => "queue", Tenant => "tenant", Skill => "skill");

/// A queue, tenant or skill.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scope {
    pub id: i64,
    pub kind: ScopeKind,
    pub name: String,
    pub paused: bool,
    /// How many of its jobs may run at once.
    pub concurrency: Option<i64>,
    /// How many of its jobs may start in a period.
    pub rate: Option<Rate>,
    /// A tenant's part, against others: at least 1.
    pub weight: i64,
    /// Where newcomers to a queue begin; see [`fair`](super::fair).
    pub clock: i64,
    /// Closed until then, for its rate; 0 for not.
    pub closed_until: Micros,
    /// Closed for its concurrency.
    pub full: bool,
}

impl Scope {
    /// Whether none of its jobs may start now.
    pub fn is_closed(&self, now: Micros) -> bool {
        // Nobody is closed for longer than a period: else a clock was set back.
        let period = self.rate.map_or(0, |rate| rate.period);
        let closed = self.closed_until > now && self.closed_until <= now.saturating_add(period);
        self.paused || self.full || closed
    }
}

/// How many may start in a period, with a bucket of tokens that fills evenly and holds one period's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    pub count: i64,
    pub period: Micros,
    /// When the bucket was, or will be, empty and began to fill: the generic cell rate algorithm's
    /// theoretical arrival time (ITU-T I.371).
    pub arrival: Micros,
}

/// One tenant in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareRow {
    pub id: i64,
    pub tenant: i64,
    pub virtual_time: i64,
}

/// A lane that has waiting jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitingLane {
    pub id: i64,
    pub share: i64,
    pub skill: i64,
    /// No job in it has a lower rank.
    pub low: Micros,
}

/// A job's place among those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub seq: i64,
    pub lane: i64,
    pub priority: Priority,
    pub due: Micros,
}

/// One event that has no number yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EventRow {
    pub job: Uuid,
    pub kind: JobEventKind,
    pub at: Micros,
    pub attempt: Option<u32>,
    /// JSON, or empty.
    pub data: String,
}

/// Changes to what everybody writes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shared {
    pub tally: Tally,
    /// Jobs that begin to wait.
    pub places: Vec<Place>,
    pub events: Vec<EventRow>,
}

impl Shared {
    pub fn is_empty(&self) -> bool {
        self.tally.0.is_empty() && self.places.is_empty() && self.events.is_empty()
    }
}

/// A worker that lives, or did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkerRow {
    pub id: Uuid,
    /// A name for people: host and process.
    pub name: String,
    pub started: Micros,
    /// Until when its claims hold.
    pub lease_until: Micros,
}

/// All of a job but its attempts and result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub row: Row,
    pub body: Body,
    pub lane: LaneKey,
    /// What went wrong last, where that matters still.
    pub error: Option<String>,
}

/// Work that comes up again and again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScheduleRow {
    pub name: String,
    /// The [`Recurrence`](super::Recurrence), as JSON.
    pub recurrence: String,
    /// Whose jobs it submits; empty for nobody's.
    pub tenant: String,
    /// The [`NewJob`](super::NewJob) that each firing submits, as JSON.
    pub job: String,
    /// The same without what may be large of it; `None` where an earlier release wrote it.
    pub outline: Option<String>,
    pub created: Micros,
    /// The last firing.
    pub last: Option<Micros>,
    /// The next; `None`: none any more.
    pub next: Option<Micros>,
}

/// How jobs are tried again that do not say so themselves: of a queue, or of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PolicyRow {
    /// `queue` or `tool`.
    pub kind: String,
    /// The queue's name; or the skill's, a slash and the tool's.
    pub name: String,
    /// The [`RetryPolicy`](super::RetryPolicy), as JSON.
    pub policy: String,
}

/// A small thing that a door keeps beside the jobs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NoteRow {
    /// What it is for.
    pub kind: String,
    pub name: String,
    /// JSON.
    pub value: String,
    /// When it may be forgotten; `None`: never.
    pub until: Option<Micros>,
}

/// One approval; see [`Approval`](crate::policy::Approval).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApprovalRow {
    pub id: Uuid,
    pub subject: Subject,
    pub status: ApprovalStatus,
    /// Empty for none.
    pub tenant: String,
    pub skill: String,
    pub job: Option<Uuid>,
    pub asked: Micros,
    /// Until when the status holds.
    pub until: Micros,
    pub once: bool,
    pub decided: Option<Micros>,
    pub decided_by: Option<String>,
    /// Whether a job waits for it, or may come to.
    pub awaited: bool,
    /// The [`Wanted`](crate::policy::Wanted), as JSON.
    pub wanted: String,
}

/// Which approvals to list. All that are named must hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApprovalQuery {
    /// One of these, as they are now; any where empty.
    pub status: Vec<ApprovalStatus>,
    pub tenant: Option<String>,
    pub skill: Option<String>,
    pub job: Option<Uuid>,
    pub before: Option<Uuid>,
    pub most: usize,
    pub now: Micros,
}

/// Where a queue is kept.
pub(crate) trait Store: Send + Sync {
    /// Hands over something to be written.
    fn send(&self, operation: Operation);
    /// Reads beside those who write.
    fn reads(&self) -> &dyn Reads;
    /// Gives room back to the file system, as far as that is not for [`Rows::shrink`].
    fn vacuum(&self) -> Answer<'_, ()>;
    /// Whether settlements that are handed over together cost less than each by itself, and wait for
    /// nothing that one of them alone would not wait for.
    fn settles_together(&self) -> bool {
        false
    }
    /// Waits until other processes know of what was written.
    fn flush(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Itself, where it is one in PostgreSQL.
    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&postgres::PostgresStore> {
        None
    }
}

/// One transaction.
///
/// Rows come back in the order in which they were asked for, those that are not there being left
/// out, unless it says otherwise. Rows of jobs that are read stay as they are until the transaction
/// ends.
pub(crate) trait Rows: Send {
    /// Whether no other serial transaction runs meanwhile.
    fn is_serial(&self) -> bool;

    /// Finds or makes lanes, one for each key.
    fn lanes<'a>(&'a mut self, keys: &'a [LaneKey]) -> Answer<'a, Vec<Lane>>;
    fn lanes_by_id<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Vec<Lane>>;

    /// Stores new jobs and gives their numbers.
    fn insert_jobs<'a>(&'a mut self, jobs: &'a [(Row, &'a Body)]) -> Answer<'a, Vec<i64>>;
    fn insert_tags<'a>(&'a mut self, tags: &'a [(i64, &'a str)]) -> Answer<'a, ()>;
    fn jobs<'a>(&'a mut self, ids: &'a [Uuid]) -> Answer<'a, Vec<Row>>;
    fn jobs_by_seq<'a>(&'a mut self, seqs: &'a [i64]) -> Answer<'a, Vec<Row>>;
    /// Waiting or paused jobs whose deadline has passed.
    fn overdue(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<Row>>;
    /// Running jobs of a worker.
    fn jobs_of(&mut self, worker: Uuid, most: usize) -> Answer<'_, Vec<Row>>;
    fn update_jobs<'a>(&'a mut self, jobs: &'a [Row]) -> Answer<'a, ()>;
    /// Removes jobs with all that belongs to them, their events aside, and keys that hold for a
    /// period.
    fn delete_jobs<'a>(&'a mut self, jobs: &'a [Row]) -> Answer<'a, ()>;
    fn bodies<'a>(&'a mut self, seqs: &'a [i64]) -> Answer<'a, Vec<(i64, Body)>>;

    /// Takes keys for jobs; where one is taken, the job that has it.
    fn take_keys<'a>(
        &'a mut self,
        keys: &'a [KeyRow],
        now: Micros,
    ) -> Answer<'a, Vec<Option<Uuid>>>;
    /// Notes callbacks that are on their way: the number of each, and of the job that it tells of.
    fn insert_callbacks<'a>(&'a mut self, callbacks: &'a [(i64, i64)]) -> Answer<'a, ()>;
    /// Callbacks of these numbers are over.
    fn remove_callbacks<'a>(&'a mut self, callbacks: &'a [i64]) -> Answer<'a, ()>;
    /// Gives back keys that hold until their job has ended.
    fn release_keys<'a>(&'a mut self, jobs: &'a [Uuid]) -> Answer<'a, ()>;

    fn insert_attempts<'a>(&'a mut self, attempts: &'a [AttemptRow]) -> Answer<'a, ()>;
    /// Keeps results, JSON each.
    fn insert_results<'a>(&'a mut self, results: &'a [(i64, Arc<str>)]) -> Answer<'a, ()>;
    /// Keeps the last word on how far jobs have come, JSON each.
    fn put_progress<'a>(&'a mut self, progress: &'a [(i64, String)]) -> Answer<'a, ()>;

    /// Keeps what runs in the last attempt at jobs: their numbers, those of the claims, and JSON each.
    fn put_admissions<'a>(&'a mut self, admissions: &'a [(i64, i64, String)]) -> Answer<'a, ()>;
    /// What is kept of that; in no order.
    fn admissions<'a>(&'a mut self, seqs: &'a [i64]) -> Answer<'a, Vec<(i64, i64, String)>>;

    /// Puts changes aside for the next serial transaction.
    fn defer<'a>(&'a mut self, shared: &'a Shared) -> Answer<'a, ()>;
    /// Takes what was put aside, in order and a part at a time; `None` once there is no more.
    fn take_deferred(&mut self) -> Answer<'_, Option<Shared>>;

    /// Sets how jobs are tried again that do not say so themselves.
    fn put_policy<'a>(&'a mut self, policy: &'a PolicyRow) -> Answer<'a, ()>;
    fn remove_policy<'a>(&'a mut self, kind: &'a str, name: &'a str) -> Answer<'a, bool>;

    /// Keeps a note in the place of the one of its name.
    fn put_note<'a>(&'a mut self, note: &'a NoteRow) -> Answer<'a, ()>;
    /// Keeps a note unless there is one of its name that may not be forgotten yet; whether it was
    /// kept.
    fn add_note<'a>(&'a mut self, note: &'a NoteRow, now: Micros) -> Answer<'a, bool>;
    /// Keeps a note in the place of the one of its name that says this; whether there was one.
    fn change_note<'a>(&'a mut self, note: &'a NoteRow, was: &'a str) -> Answer<'a, bool>;
    /// Removes a note that says just this; whether there was one.
    fn remove_note<'a>(&'a mut self, note: &'a NoteRow) -> Answer<'a, bool>;
    /// Removes notes that may be forgotten.
    fn forget_notes(&mut self, now: Micros, most: usize) -> Answer<'_, ()>;

    // Only within a serial transaction.

    fn add_counters<'a>(&'a mut self, tally: &'a Tally) -> Answer<'a, ()>;
    fn counters<'a>(&'a mut self, counters: &'a [Counter]) -> Answer<'a, Vec<i64>>;
    fn insert_events<'a>(&'a mut self, events: &'a [EventRow]) -> Answer<'a, ()>;
    /// Puts jobs in line: their lane, head and share.
    fn insert_ready<'a>(&'a mut self, ready: &'a [(i64, Head)]) -> Answer<'a, ()>;
    /// Takes jobs out of line, where they are in it.
    fn remove_ready<'a>(&'a mut self, ready: &'a [(i64, Head)]) -> Answer<'a, ()>;
    /// Keeps jobs until they are due.
    fn insert_later<'a>(&'a mut self, places: &'a [Place]) -> Answer<'a, ()>;
    fn remove_later<'a>(&'a mut self, places: &'a [(Micros, i64)]) -> Answer<'a, ()>;
    /// Takes those that are due.
    fn take_due(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<Place>>;

    fn approval(&mut self, id: Uuid) -> Answer<'_, Option<ApprovalRow>>;
    fn approvals_on<'a>(&'a mut self, subject: &'a Subject) -> Answer<'a, Vec<ApprovalRow>>;
    fn approvals_of_job(&mut self, job: Uuid) -> Answer<'_, Vec<ApprovalRow>>;
    /// Adds an approval, or replaces it.
    fn put_approval<'a>(&'a mut self, row: &'a ApprovalRow) -> Answer<'a, ()>;
    /// How many questions are open for a tenant.
    fn pending_approvals<'a>(&'a mut self, tenant: &'a str, now: Micros) -> Answer<'a, i64>;
    /// Approvals that are awaited, and were answered or can be answered no more.
    fn awaited_approvals(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<ApprovalRow>>;
    /// Removes approvals whose status held until before then; gives how many.
    fn forget_approvals(&mut self, before: Micros, most: usize) -> Answer<'_, usize>;

    fn scopes<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Vec<Scope>>;
    /// Finds or makes a scope.
    fn scope<'a>(&'a mut self, kind: ScopeKind, name: &'a str) -> Answer<'a, Scope>;
    fn update_scope<'a>(&'a mut self, scope: &'a Scope) -> Answer<'a, ()>;
    /// Scopes that are closed for their rate until then or before, or for longer than its period.
    fn scopes_to_reopen(&mut self, now: Micros) -> Answer<'_, Vec<Scope>>;
    /// Queues after this one that have somebody in line, or those of these, in order.
    fn open_queues<'a>(
        &'a mut self,
        names: Option<&'a [String]>,
        after: i64,
        most: usize,
    ) -> Answer<'a, Vec<Scope>>;
    /// Tenants of a queue that have jobs in line of which some may start, who has had least first.
    /// Jobs of a skill of the name `without` do not count.
    fn open_shares<'a>(
        &'a mut self,
        queue: i64,
        without: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<ShareRow>>;
    fn shares<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Vec<ShareRow>>;
    fn set_virtual_time<'a>(&'a mut self, shares: &'a [(i64, i64)]) -> Answer<'a, ()>;
    /// Closes or opens a tenant's shares.
    fn close_tenant(&mut self, tenant: i64, closed: bool) -> Answer<'_, ()>;
    /// Lanes of these shares with jobs in line, those of closed skills and of the skill `without`
    /// left out: of each share at most so many, the lowest first.
    fn waiting_lanes<'a>(
        &'a mut self,
        shares: &'a [i64],
        without: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<WaitingLane>>;
    /// Writes down that no job in these lanes has a lower rank.
    fn raise_low<'a>(&'a mut self, lanes: &'a [(i64, Micros)]) -> Answer<'a, ()>;
    /// The first jobs in each of these lanes.
    fn heads<'a>(&'a mut self, lanes: &'a [i64], most: usize) -> Answer<'a, Vec<Vec<Head>>>;
    /// Marks lanes as empty or not, and their shares with them; gives the shares that were empty
    /// before.
    fn set_waiting<'a>(&'a mut self, lanes: &'a [i64], waiting: bool) -> Answer<'a, Vec<i64>>;

    /// Makes a schedule, or replaces it.
    fn put_schedule<'a>(&'a mut self, schedule: &'a ScheduleRow) -> Answer<'a, ()>;
    /// How many schedules a tenant has beside the one of this name.
    fn schedules_beside<'a>(&'a mut self, tenant: &'a str, name: &'a str) -> Answer<'a, usize>;
    fn remove_schedule<'a>(&'a mut self, name: &'a str) -> Answer<'a, bool>;
    /// Schedules whose next firing is then or before: of tenants in turn, of each the earliest first.
    fn due_schedules(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<ScheduleRow>>;

    /// Jobs of these statuses that ended before then, the first first; but those that a callback is
    /// still to tell of.
    fn ended<'a>(
        &'a mut self,
        statuses: &'a [JobStatus],
        before: Micros,
        most: usize,
    ) -> Answer<'a, Vec<Row>>;
    /// Removes events from before then, the first first; gives how many.
    fn forget_events(&mut self, before: Micros, most: usize) -> Answer<'_, usize>;
    /// Removes keys whose period ended by then; gives how many.
    fn forget_keys(&mut self, now: Micros, most: usize) -> Answer<'_, usize>;
    /// Removes counters of hours before this one.
    fn forget_hours(&mut self, before: i64) -> Answer<'_, ()>;

    /// Gives up to so many pages that nothing is in back to the file system; how many are left.
    fn shrink(&mut self, pages: usize) -> Answer<'_, usize>;

    fn put_worker<'a>(&'a mut self, worker: &'a WorkerRow) -> Answer<'a, ()>;
    /// Renews a lease; whether it was there to renew.
    fn renew(&mut self, worker: Uuid, until: Micros) -> Answer<'_, bool>;
    fn remove_worker(&mut self, worker: Uuid) -> Answer<'_, ()>;
    /// Workers whose lease has expired.
    fn expired_workers(&mut self, now: Micros) -> Answer<'_, Vec<Uuid>>;
}
