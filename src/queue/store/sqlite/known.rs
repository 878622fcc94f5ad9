//! Jobs as this connection wrote them last: who claims or settles them need not read them again.
//!
//! It holds only as long as nobody else writes, which the transaction finds out as it begins; and it is
//! forgotten when a transaction is rolled back.

use std::collections::HashMap;

use super::super::{Body, Row};

/// The most jobs in one of the two parts.
const ROWS: usize = 8_192;
/// The most bytes of bodies in one of the two parts.
const BYTES: usize = 4 << 20;
/// Bodies of more bytes are read again: few of them would turn out all others.
const LARGE: usize = BYTES / 64;

/// Jobs that wait or run. When the young ones have become many they are the old ones, and what was old
/// before is forgotten.
#[derive(Default)]
pub(super) struct Known {
    young: Part,
    old: Part,
}

#[derive(Default)]
struct Part {
    rows: HashMap<i64, Row>,
    bodies: HashMap<i64, Body>,
    /// Of the bodies.
    bytes: usize,
}

impl Known {
    /// Keeps where a job stands.
    pub fn keep(&mut self, row: Row) {
        self.old.rows.remove(&row.seq);
        self.young.rows.insert(row.seq, row);
        self.turn();
    }

    /// Keeps what does not change of a job.
    pub fn keep_body(&mut self, seq: i64, body: &Body) {
        let bytes = bytes(body);
        if bytes > LARGE {
            return;
        }
        if self.young.bodies.insert(seq, body.clone()).is_none() {
            self.young.bytes += bytes;
        }
        self.turn();
    }

    fn turn(&mut self) {
        let young = &self.young;
        if young.rows.len() >= ROWS || young.bodies.len() >= ROWS || young.bytes >= BYTES {
            self.old = std::mem::take(&mut self.young);
        }
    }

    pub fn row(&self, seq: i64) -> Option<&Row> {
        self.young
            .rows
            .get(&seq)
            .or_else(|| self.old.rows.get(&seq))
    }

    pub fn body(&self, seq: i64) -> Option<&Body> {
        let young = self.young.bodies.get(&seq);
        young.or_else(|| self.old.bodies.get(&seq))
    }

    /// Forgets a job.
    pub fn forget(&mut self, seq: i64) {
        for part in [&mut self.young, &mut self.old] {
            part.rows.remove(&seq);
            if let Some(body) = part.bodies.remove(&seq) {
                part.bytes -= bytes(&body);
            }
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Known::default();
    }
}

fn bytes(body: &Body) -> usize {
    body.submitted.len() + body.retry.len()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use uuid::Uuid;

    use super::super::Sqlite;
    use super::*;
    use crate::queue::NewJob;
    use crate::queue::engine::submit::Prepared;
    use crate::queue::job::JobStatus;
    use crate::queue::prepare::prepare;

    fn job() -> Prepared {
        let job = NewJob::custom("nothing", Value::Null);
        prepare(&job, |_| Default::default(), usize::MAX, 0).expect("a job")
    }

    /// Stores jobs; their rows as they stand now.
    fn submit(store: &mut Sqlite, count: usize) -> Vec<Row> {
        let jobs: Vec<Prepared> = (0..count).map(|_| job()).collect();
        let given: Vec<(Row, &Body)> = jobs
            .iter()
            .map(|job| (job.row.clone(), &job.body))
            .collect();
        store.begin().expect("it begins");
        let seqs = store.insert_jobs_now(&given).expect("they are stored");
        store.commit().expect("it commits");
        let rows = given.into_iter().map(|(row, _)| row);
        rows.zip(seqs)
            .map(|(row, seq)| Row { seq, ..row })
            .collect()
    }

    fn read(store: &mut Sqlite, jobs: &[Row]) -> Vec<Row> {
        let seqs: Vec<i64> = jobs.iter().map(|job| job.seq).collect();
        store.begin().expect("it begins");
        let rows = store.jobs_by_seq_now(&seqs).expect("they are read");
        store.commit().expect("it commits");
        rows
    }

    fn write(store: &mut Sqlite, jobs: &[Row]) {
        store.begin().expect("it begins");
        store.update_jobs_now(jobs).expect("they are written");
        store.commit().expect("it commits");
    }

    fn running(job: &Row, worker: Uuid) -> Row {
        Row {
            status: JobStatus::Running,
            fence: job.fence + 1,
            worker: Some(worker),
            ..job.clone()
        }
    }

    #[test]
    fn what_somebody_else_wrote_is_not_what_was_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queue.db");
        let mut ours = Sqlite::open(&path).expect("it opens");
        let mut other = Sqlite::open(&path).expect("it opens");
        let jobs = submit(&mut ours, 3);
        assert!(jobs.iter().all(|job| ours.known.row(job.seq) == Some(job)));
        assert_eq!(read(&mut ours, &jobs), jobs);
        let taken = [running(&jobs[1], Uuid::now_v7())];
        write(&mut other, &taken);
        let expected = vec![jobs[0].clone(), taken[0].clone(), jobs[2].clone()];
        assert_eq!(read(&mut ours, &jobs), expected);
        assert_eq!(read(&mut other, &jobs), expected);
    }

    #[test]
    fn what_was_rolled_back_is_not_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ours = Sqlite::open(&folder.path().join("queue.db")).expect("it opens");
        let jobs = submit(&mut ours, 1);
        ours.begin().expect("it begins");
        let taken = [running(&jobs[0], Uuid::now_v7())];
        ours.update_jobs_now(&taken).expect("it is written");
        assert_eq!(ours.known.row(jobs[0].seq), Some(&taken[0]));
        ours.roll_back();
        assert_eq!(read(&mut ours, &jobs), jobs);
    }

    #[test]
    fn what_is_written_at_once_is_as_if_it_were_written_one_by_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queue.db");
        let mut ours = Sqlite::open(&path).expect("it opens");
        let jobs = submit(&mut ours, 100);
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let mut changed: Vec<Row> = jobs
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 10 != 9)
            .map(|(number, job)| match number % 7 {
                0 => running(job, one),
                1 => Row {
                    status: JobStatus::Dead,
                    cause: Some("fuel".to_owned()),
                    completed: Some(7),
                    ..job.clone()
                },
                _ => running(job, two),
            })
            .collect();
        changed.reverse();
        write(&mut ours, &changed);
        let mut expected = jobs.clone();
        for job in changed {
            let at = expected.iter().position(|row| row.seq == job.seq);
            expected[at.expect("it is there")] = job;
        }
        let mut other = Sqlite::open(&path).expect("it opens");
        assert_eq!(read(&mut other, &jobs), expected);
        assert_eq!(read(&mut ours, &jobs), expected);
    }

    #[test]
    fn a_job_that_is_there_already_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ours = Sqlite::open(&folder.path().join("queue.db")).expect("it opens");
        let there = submit(&mut ours, 1);
        let mut jobs: Vec<Prepared> = (0..80).map(|_| job()).collect();
        jobs[70].row.id = there[0].id;
        let mut refused = |jobs: &[Prepared]| {
            let given: Vec<(Row, &Body)> = jobs
                .iter()
                .map(|job| (job.row.clone(), &job.body))
                .collect();
            ours.begin().expect("it begins");
            let error = ours.insert_jobs_now(&given).expect_err("it is there");
            ours.roll_back();
            error.to_string()
        };
        assert!(refused(&jobs).contains(&there[0].id.to_string()));
        // Of two that are the same, too.
        jobs[70].row.id = jobs[5].row.id;
        assert!(refused(&jobs).contains(&jobs[5].row.id.to_string()));
    }

    #[test]
    fn no_more_is_known_than_there_is_room_for() {
        let (mut known, prepared) = (Known::default(), job());
        for seq in 0..5 * ROWS as i64 {
            known.keep(Row {
                seq,
                ..prepared.row.clone()
            });
            known.keep_body(seq, &prepared.body);
        }
        let last = 5 * ROWS as i64 - 1;
        assert!(known.row(last).is_some() && known.row(0).is_none());
        for part in [&known.young, &known.old] {
            assert!(part.rows.len() <= ROWS && part.bodies.len() <= ROWS && part.bytes <= BYTES);
        }
        let large = Body {
            submitted: "x".repeat(LARGE + 1).into(),
            retry: "".into(),
        };
        known.keep_body(last + 1, &large);
        assert!(known.body(last + 1).is_none());
        for seq in 0..=last {
            known.forget(seq);
        }
        assert_eq!((known.young.bytes, known.old.bytes), (0, 0));
    }
}
