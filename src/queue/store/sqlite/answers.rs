//! The rows of [`super::super`], each answered at once.

use std::future;
use std::sync::Arc;

use uuid::Uuid;

use super::super::{
    Answer, ApprovalRow, AttemptRow, Body, EventRow, KeyRow, Lane, LaneKey, NoteRow, Place,
    PolicyRow, Row, Rows, ScheduleRow, Scope, ScopeKind, ShareRow, Shared, WaitingLane, WorkerRow,
};
use super::Sqlite;
use crate::policy::Subject;
use crate::queue::counters::{Counter, Tally};
use crate::queue::fair::Head;
use crate::queue::job::JobStatus;
use crate::queue::time::Micros;

impl Rows for Sqlite {
    fn is_serial(&self) -> bool {
        true
    }

    fn take_deferred(&mut self) -> Answer<'_, Option<Shared>> {
        Box::pin(future::ready(Ok(None)))
    }

    fn lanes<'a>(&'a mut self, keys: &'a [LaneKey]) -> Answer<'a, Vec<Lane>> {
        Box::pin(future::ready(self.lanes_now(keys)))
    }

    fn lanes_by_id<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Vec<Lane>> {
        Box::pin(future::ready(self.lanes_by_id_now(ids)))
    }

    fn insert_jobs<'a>(&'a mut self, jobs: &'a [(Row, &'a Body)]) -> Answer<'a, Vec<i64>> {
        Box::pin(future::ready(self.insert_jobs_now(jobs)))
    }

    fn insert_tags<'a>(&'a mut self, tags: &'a [(i64, &'a str)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.insert_tags_now(tags)))
    }

    fn jobs<'a>(&'a mut self, ids: &'a [Uuid]) -> Answer<'a, Vec<Row>> {
        Box::pin(future::ready(self.jobs_now(ids)))
    }

    fn jobs_by_seq<'a>(&'a mut self, seqs: &'a [i64]) -> Answer<'a, Vec<Row>> {
        Box::pin(future::ready(self.jobs_by_seq_now(seqs)))
    }

    fn overdue(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<Row>> {
        Box::pin(future::ready(self.overdue_now(now, most)))
    }

    fn jobs_of(&mut self, worker: Uuid, most: usize) -> Answer<'_, Vec<Row>> {
        Box::pin(future::ready(self.jobs_of_now(worker, most)))
    }

    fn update_jobs<'a>(&'a mut self, jobs: &'a [Row]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.update_jobs_now(jobs)))
    }

    fn delete_jobs<'a>(&'a mut self, jobs: &'a [Row]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.delete_jobs_now(jobs)))
    }

    fn bodies<'a>(&'a mut self, seqs: &'a [i64]) -> Answer<'a, Vec<(i64, Body)>> {
        Box::pin(future::ready(self.bodies_now(seqs)))
    }

    fn take_keys<'a>(
        &'a mut self,
        keys: &'a [KeyRow],
        now: Micros,
    ) -> Answer<'a, Vec<Option<Uuid>>> {
        Box::pin(future::ready(self.take_keys_now(keys, now)))
    }

    fn insert_callbacks<'a>(&'a mut self, callbacks: &'a [(i64, i64)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.insert_callbacks_now(callbacks)))
    }

    fn remove_callbacks<'a>(&'a mut self, callbacks: &'a [i64]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.remove_callbacks_now(callbacks)))
    }

    fn release_keys<'a>(&'a mut self, jobs: &'a [Uuid]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.release_keys_now(jobs)))
    }

    fn insert_attempts<'a>(&'a mut self, attempts: &'a [AttemptRow]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.insert_attempts_now(attempts)))
    }

    fn insert_results<'a>(&'a mut self, results: &'a [(i64, Arc<str>)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.insert_results_now(results)))
    }

    fn put_admissions<'a>(&'a mut self, admissions: &'a [(i64, i64, String)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.put_admissions_now(admissions)))
    }

    fn admissions<'a>(&'a mut self, seqs: &'a [i64]) -> Answer<'a, Vec<(i64, i64, String)>> {
        Box::pin(future::ready(self.admissions_now(seqs)))
    }

    fn put_progress<'a>(&'a mut self, progress: &'a [(i64, String)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.put_progress_now(progress)))
    }

    fn defer<'a>(&'a mut self, shared: &'a Shared) -> Answer<'a, ()> {
        Box::pin(future::ready(self.defer_now(shared)))
    }

    fn put_policy<'a>(&'a mut self, policy: &'a PolicyRow) -> Answer<'a, ()> {
        Box::pin(future::ready(self.put_policy_now(policy)))
    }

    fn remove_policy<'a>(&'a mut self, kind: &'a str, name: &'a str) -> Answer<'a, bool> {
        Box::pin(future::ready(self.remove_policy_now(kind, name)))
    }

    fn put_note<'a>(&'a mut self, note: &'a NoteRow) -> Answer<'a, ()> {
        Box::pin(future::ready(self.put_note_now(note)))
    }

    fn add_note<'a>(&'a mut self, note: &'a NoteRow, now: Micros) -> Answer<'a, bool> {
        Box::pin(future::ready(self.add_note_now(note, now)))
    }

    fn change_note<'a>(&'a mut self, note: &'a NoteRow, was: &'a str) -> Answer<'a, bool> {
        Box::pin(future::ready(self.change_note_now(note, was)))
    }

    fn remove_note<'a>(&'a mut self, note: &'a NoteRow) -> Answer<'a, bool> {
        Box::pin(future::ready(self.remove_note_now(note)))
    }

    fn forget_notes(&mut self, now: Micros, most: usize) -> Answer<'_, ()> {
        Box::pin(future::ready(self.forget_notes_now(now, most)))
    }

    fn add_counters<'a>(&'a mut self, tally: &'a Tally) -> Answer<'a, ()> {
        Box::pin(future::ready(self.add_counters_now(tally)))
    }

    fn counters<'a>(&'a mut self, counters: &'a [Counter]) -> Answer<'a, Vec<i64>> {
        Box::pin(future::ready(self.counters_now(counters)))
    }

    fn insert_events<'a>(&'a mut self, events: &'a [EventRow]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.insert_events_now(events)))
    }

    fn insert_ready<'a>(&'a mut self, ready: &'a [(i64, Head)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.insert_ready_now(ready)))
    }

    fn remove_ready<'a>(&'a mut self, ready: &'a [(i64, Head)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.remove_ready_now(ready)))
    }

    fn insert_later<'a>(&'a mut self, places: &'a [Place]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.insert_later_now(places)))
    }

    fn remove_later<'a>(&'a mut self, places: &'a [(Micros, i64)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.remove_later_now(places)))
    }

    fn take_due(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<Place>> {
        Box::pin(future::ready(self.take_due_now(now, most)))
    }

    fn approval(&mut self, id: Uuid) -> Answer<'_, Option<ApprovalRow>> {
        Box::pin(future::ready(self.approval_now(id)))
    }

    fn approvals_on<'a>(&'a mut self, subject: &'a Subject) -> Answer<'a, Vec<ApprovalRow>> {
        Box::pin(future::ready(self.approvals_on_now(subject)))
    }

    fn approvals_of_job(&mut self, job: Uuid) -> Answer<'_, Vec<ApprovalRow>> {
        Box::pin(future::ready(self.approvals_of_job_now(job)))
    }

    fn put_approval<'a>(&'a mut self, row: &'a ApprovalRow) -> Answer<'a, ()> {
        Box::pin(future::ready(self.put_approval_now(row)))
    }

    fn pending_approvals<'a>(&'a mut self, tenant: &'a str, now: Micros) -> Answer<'a, i64> {
        Box::pin(future::ready(self.pending_approvals_now(tenant, now)))
    }

    fn awaited_approvals(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<ApprovalRow>> {
        Box::pin(future::ready(self.awaited_approvals_now(now, most)))
    }

    fn forget_approvals(&mut self, before: Micros, most: usize) -> Answer<'_, usize> {
        Box::pin(future::ready(self.forget_approvals_now(before, most)))
    }

    fn scopes<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Vec<Scope>> {
        Box::pin(future::ready(self.scopes_now(ids)))
    }

    fn scope<'a>(&'a mut self, kind: ScopeKind, name: &'a str) -> Answer<'a, Scope> {
        Box::pin(future::ready(self.scope_now(kind, name)))
    }

    fn update_scope<'a>(&'a mut self, scope: &'a Scope) -> Answer<'a, ()> {
        Box::pin(future::ready(self.update_scope_now(scope)))
    }

    fn scopes_to_reopen(&mut self, now: Micros) -> Answer<'_, Vec<Scope>> {
        Box::pin(future::ready(self.scopes_to_reopen_now(now)))
    }

    fn open_queues<'a>(
        &'a mut self,
        names: Option<&'a [String]>,
        after: i64,
        most: usize,
    ) -> Answer<'a, Vec<Scope>> {
        Box::pin(future::ready(self.open_queues_now(names, after, most)))
    }

    fn open_shares<'a>(
        &'a mut self,
        queue: i64,
        without: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<ShareRow>> {
        Box::pin(future::ready(self.open_shares_now(queue, without, most)))
    }

    fn shares<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Vec<ShareRow>> {
        Box::pin(future::ready(self.shares_now(ids)))
    }

    fn set_virtual_time<'a>(&'a mut self, shares: &'a [(i64, i64)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.set_virtual_time_now(shares)))
    }

    fn close_tenant(&mut self, tenant: i64, closed: bool) -> Answer<'_, ()> {
        Box::pin(future::ready(self.close_tenant_now(tenant, closed)))
    }

    fn waiting_lanes<'a>(
        &'a mut self,
        shares: &'a [i64],
        without: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<WaitingLane>> {
        Box::pin(future::ready(self.waiting_lanes_now(shares, without, most)))
    }

    fn raise_low<'a>(&'a mut self, lanes: &'a [(i64, Micros)]) -> Answer<'a, ()> {
        Box::pin(future::ready(self.raise_low_now(lanes)))
    }

    fn heads<'a>(&'a mut self, lanes: &'a [i64], most: usize) -> Answer<'a, Vec<Vec<Head>>> {
        Box::pin(future::ready(self.heads_now(lanes, most)))
    }

    fn set_waiting<'a>(&'a mut self, lanes: &'a [i64], waiting: bool) -> Answer<'a, Vec<i64>> {
        Box::pin(future::ready(self.set_waiting_now(lanes, waiting)))
    }

    fn put_schedule<'a>(&'a mut self, schedule: &'a ScheduleRow) -> Answer<'a, ()> {
        Box::pin(future::ready(self.put_schedule_now(schedule)))
    }

    fn schedules_beside<'a>(&'a mut self, tenant: &'a str, name: &'a str) -> Answer<'a, usize> {
        Box::pin(future::ready(self.schedules_beside_now(tenant, name)))
    }

    fn remove_schedule<'a>(&'a mut self, name: &'a str) -> Answer<'a, bool> {
        Box::pin(future::ready(self.remove_schedule_now(name)))
    }

    fn due_schedules(&mut self, now: Micros, most: usize) -> Answer<'_, Vec<ScheduleRow>> {
        Box::pin(future::ready(self.due_schedules_now(now, most)))
    }

    fn ended<'a>(
        &'a mut self,
        statuses: &'a [JobStatus],
        before: Micros,
        most: usize,
    ) -> Answer<'a, Vec<Row>> {
        Box::pin(future::ready(self.ended_now(statuses, before, most)))
    }

    fn forget_events(&mut self, before: Micros, most: usize) -> Answer<'_, usize> {
        Box::pin(future::ready(self.forget_events_now(before, most)))
    }

    fn forget_keys(&mut self, now: Micros, most: usize) -> Answer<'_, usize> {
        Box::pin(future::ready(self.forget_keys_now(now, most)))
    }

    fn forget_hours(&mut self, before: i64) -> Answer<'_, ()> {
        Box::pin(future::ready(self.forget_hours_now(before)))
    }

    fn shrink(&mut self, pages: usize) -> Answer<'_, usize> {
        Box::pin(future::ready(self.shrink_now(pages)))
    }

    fn put_worker<'a>(&'a mut self, worker: &'a WorkerRow) -> Answer<'a, ()> {
        Box::pin(future::ready(self.put_worker_now(worker)))
    }

    fn renew(&mut self, worker: Uuid, until: Micros) -> Answer<'_, bool> {
        Box::pin(future::ready(self.renew_now(worker, until)))
    }

    fn remove_worker(&mut self, worker: Uuid) -> Answer<'_, ()> {
        Box::pin(future::ready(self.remove_worker_now(worker)))
    }

    fn expired_workers(&mut self, now: Micros) -> Answer<'_, Vec<Uuid>> {
        Box::pin(future::ready(self.expired_workers_now(now)))
    }
}
