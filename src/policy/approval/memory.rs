//! Approvals of one process.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Answer, Approval, ApprovalError, ApprovalFilter, ApprovalStatus, Approvals, Step, Subject,
    Wanted, decided, step,
};
use crate::execution::{BoxFuture, Decision};

type Result<T> = std::result::Result<T, ApprovalError>;

/// The most approvals that are kept; of more, those that are over go first.
const MAX_KEPT: usize = 100_000;

/// Approvals in memory: gone with the process, and known to no other. Cheap to clone; every clone is
/// the same.
#[derive(Clone)]
pub struct MemoryApprovals {
    inner: Arc<Inner>,
}

struct Inner {
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
    clock: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

/// What is kept, and where it is found without looking at the rest.
#[derive(Default)]
struct Kept {
    /// By id, and so in the order in which they were asked for.
    all: BTreeMap<Uuid, Approval>,
    /// What may still hold, or be answered.
    by_subject: HashMap<Subject, Vec<Uuid>>,
    /// The open questions of each tenant, by the time until which they can be answered.
    open: HashMap<Option<String>, BTreeSet<(DateTime<Utc>, Uuid)>>,
    /// All that is not used up, by the time until which it stands as it does.
    ends: BTreeSet<(DateTime<Utc>, Uuid)>,
    /// What was used up, the first one first.
    used: VecDeque<Uuid>,
}

impl Kept {
    /// Puts it in the place of what was kept under its id.
    fn put(&mut self, approval: Approval) {
        let id = approval.id;
        self.remove(id);
        if approval.status == ApprovalStatus::Used {
            self.used.push_back(id);
        } else {
            self.ends.insert((approval.until, id));
            let of_subject = self.by_subject.entry(approval.wanted.subject).or_default();
            of_subject.push(id);
        }
        if approval.status == ApprovalStatus::Pending {
            let of_tenant = self.open.entry(approval.wanted.tenant.clone()).or_default();
            of_tenant.insert((approval.until, id));
        }
        self.all.insert(id, approval);
    }

    fn remove(&mut self, id: Uuid) {
        let Some(approval) = self.all.remove(&id) else {
            return;
        };
        let at = (approval.until, id);
        self.ends.remove(&at);
        self.asks_no_more(&approval.wanted.tenant, at);
        if let Some(of_subject) = self.by_subject.get_mut(&approval.wanted.subject) {
            of_subject.retain(|other| *other != id);
            if of_subject.is_empty() {
                self.by_subject.remove(&approval.wanted.subject);
            }
        }
    }

    fn asks_no_more(&mut self, tenant: &Option<String>, at: (DateTime<Utc>, Uuid)) {
        if let Some(of_tenant) = self.open.get_mut(tenant) {
            of_tenant.remove(&at);
            if of_tenant.is_empty() {
                self.open.remove(tenant);
            }
        }
    }

    /// What is said about a subject. What no longer holds is not looked at again.
    fn on(&mut self, subject: &Subject, now: DateTime<Utc>) -> Vec<Approval> {
        let Some(ids) = self.by_subject.get_mut(subject) else {
            return Vec::new();
        };
        let all = &self.all;
        ids.retain(|id| all.get(id).is_some_and(|kept| kept.until > now));
        let found = ids.iter().filter_map(|id| all.get(id)).cloned().collect();
        if ids.is_empty() {
            self.by_subject.remove(subject);
        }
        found
    }

    /// One that was used up holds again.
    fn give_back(&mut self, id: Uuid) {
        let Some(approval) = self.all.get(&id).cloned() else {
            return;
        };
        if approval.status != ApprovalStatus::Used {
            return;
        }
        // It was used a moment ago.
        if let Some(at) = self.used.iter().rposition(|used| *used == id) {
            self.used.remove(at);
        }
        self.put(Approval {
            status: ApprovalStatus::Approved,
            ..approval
        });
    }

    /// How many questions of a tenant's can be answered. Those that no longer can are not looked at again.
    fn count_open(&mut self, tenant: &Option<String>, now: DateTime<Utc>) -> usize {
        while let Some(first) = self.open.get(tenant).and_then(BTreeSet::first).copied()
            && first.0 <= now
        {
            self.asks_no_more(tenant, first);
        }
        self.open.get(tenant).map_or(0, BTreeSet::len)
    }

    /// Makes room for one more, of what is over. Whether there is room.
    fn make_room(&mut self, now: DateTime<Utc>) -> bool {
        while self.all.len() >= MAX_KEPT {
            if let Some(id) = self.used.pop_front() {
                self.remove(id);
            } else if let Some((until, id)) = self.ends.first().copied()
                && until <= now
            {
                self.remove(id);
            } else {
                return false;
            }
        }
        true
    }
}

impl Default for MemoryApprovals {
    fn default() -> Self {
        MemoryApprovals::with_clock(Utc::now)
    }
}

impl std::fmt::Debug for MemoryApprovals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryApprovals")
            .field("kept", &self.lock().all.len())
            .finish_non_exhaustive()
    }
}

impl MemoryApprovals {
    /// Told the time by this.
    pub fn with_clock(clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        MemoryApprovals {
            inner: Arc::new(Inner {
                kept: Mutex::default(),
                changed: watch::Sender::new(0),
                clock: Box::new(clock),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.inner
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.inner
            .changed
            .send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    fn ask_now(&self, wanted: Wanted, expires: Duration, max_pending: u32) -> Result<Answer> {
        let now = self.now();
        let mut kept = self.lock();
        let mut found = kept.on(&wanted.subject, now);
        match step(&found, wanted.job, now) {
            Step::Use(index) => {
                let approval = found.swap_remove(index);
                if approval.once {
                    kept.put(Approval {
                        status: ApprovalStatus::Used,
                        ..approval.clone()
                    });
                }
                Ok(Answer::Approved(approval))
            }
            Step::Refused(index) => Ok(Answer::Refused(found.swap_remove(index))),
            Step::Pending(index) => Ok(Answer::Pending(found.swap_remove(index))),
            Step::New => {
                if kept.count_open(&wanted.tenant, now) >= max_pending as usize {
                    return Err(ApprovalError::Full(max_pending));
                }
                if !kept.make_room(now) {
                    return Err(ApprovalError::Store("there are too many".to_owned()));
                }
                let approval = Approval::new(wanted, expires, now);
                kept.put(approval.clone());
                Ok(Answer::Asked(approval))
            }
        }
    }

    fn find(&self, id: Uuid) -> Result<Approval> {
        let found = self.lock().all.get(&id).cloned();
        found.ok_or(ApprovalError::NotFound(id))
    }
}

impl Approvals for MemoryApprovals {
    fn ask<'a>(
        &'a self,
        wanted: Wanted,
        expires: Duration,
        max_pending: u32,
    ) -> BoxFuture<'a, Result<Answer>> {
        let answer = self.ask_now(wanted, expires, max_pending);
        self.tell();
        Box::pin(std::future::ready(answer))
    }

    fn give_back(&self, id: Uuid) -> BoxFuture<'_, Result<()>> {
        self.lock().give_back(id);
        Box::pin(std::future::ready(Ok(())))
    }

    fn decide<'a>(
        &'a self,
        id: Uuid,
        decision: Decision,
        by: &'a str,
    ) -> BoxFuture<'a, Result<Approval>> {
        let now = self.now();
        let mut kept = self.lock();
        let answer = match kept.all.get(&id) {
            None => Err(ApprovalError::NotFound(id)),
            Some(approval) => match decided(approval, decision, by, now) {
                Some(after) => {
                    kept.put(after.clone());
                    Ok(after)
                }
                None => Err(ApprovalError::Over {
                    id,
                    status: approval.status_at(now),
                }),
            },
        };
        drop(kept);
        self.tell();
        Box::pin(std::future::ready(answer))
    }

    fn approval(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        Box::pin(std::future::ready(self.find(id)))
    }

    fn approvals<'a>(&'a self, filter: &'a ApprovalFilter) -> BoxFuture<'a, Result<Vec<Approval>>> {
        let now = self.now();
        let kept = self.lock();
        let found = kept
            .all
            .values()
            .rev()
            .filter(|approval| filter.fits(approval, now));
        let found = found.take(filter.most()).cloned().collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn answered(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        let mut changed = self.inner.changed.subscribe();
        Box::pin(async move {
            loop {
                changed.mark_unchanged();
                let approval = self.find(id)?;
                if approval.status_at(self.now()) != ApprovalStatus::Pending {
                    return Ok(approval);
                }
                if changed.changed().await.is_err() {
                    return Ok(approval);
                }
            }
        })
    }

    fn forget(&self, before: DateTime<Utc>) -> BoxFuture<'_, Result<usize>> {
        let mut kept = self.lock();
        let over = kept.all.values().filter(|approval| {
            let used = approval.status == ApprovalStatus::Used;
            let since = match approval.decided_at {
                Some(at) if used => at,
                _ => approval.until,
            };
            since < before
        });
        let over: Vec<Uuid> = over.map(|approval| approval.id).collect();
        for id in &over {
            kept.remove(*id);
        }
        let Kept { all, used, .. } = &mut *kept;
        used.retain(|id| all.contains_key(id));
        Box::pin(std::future::ready(Ok(over.len())))
    }

    fn now(&self) -> DateTime<Utc> {
        (self.inner.clock)()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::execution::{ExecutionRequest, SkillIdentity};
    use crate::skill::Digest;

    const DAY: Duration = Duration::from_secs(86_400);

    fn wanted(number: u32) -> Wanted {
        let mut subject = [0; 32];
        subject[..4].copy_from_slice(&number.to_be_bytes());
        let request = ExecutionRequest::new("some", json!({}));
        Wanted {
            subject: Subject::from_bytes(subject),
            skill: Arc::new(SkillIdentity {
                name: "some".to_owned(),
                version: "1.0.0".to_owned(),
                digest: Digest::of_component(b"some"),
            }),
            tool: "tool".to_owned(),
            tenant: None,
            user: None,
            session: None,
            request: request.request_id,
            job: None,
            input: "{}".to_owned(),
            input_bytes: 2,
            attachments: Vec::new(),
            grants: request.grants,
            rule: "approval rule 1".to_owned(),
        }
    }

    fn at(time: Arc<Mutex<DateTime<Utc>>>) -> MemoryApprovals {
        MemoryApprovals::with_clock(move || *time.lock().unwrap())
    }

    fn opened(approvals: &MemoryApprovals, number: u32) -> Uuid {
        match approvals.ask_now(wanted(number), DAY, u32::MAX).unwrap() {
            Answer::Asked(approval) => approval.id,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_over_is_looked_at_no_more_and_makes_room() {
        let now = Arc::new(Mutex::new(Utc::now()));
        let approvals = at(Arc::clone(&now));
        let first = opened(&approvals, 0);
        let again = approvals.ask_now(wanted(0), DAY, 1).unwrap();
        assert!(matches!(again, Answer::Pending(approval) if approval.id == first));
        let full = approvals.ask_now(wanted(1), DAY, 1);
        assert_eq!(full, Err(ApprovalError::Full(1)));
        approvals
            .decide(first, Decision::Once, "ann")
            .await
            .unwrap();
        for _ in 0..3 {
            let used = approvals.ask_now(wanted(0), DAY, 1).unwrap();
            assert!(matches!(used, Answer::Approved(_)));
            approvals.give_back(first).await.unwrap();
        }
        assert!(approvals.lock().used.is_empty());
        assert!(matches!(
            approvals.ask_now(wanted(0), DAY, 1),
            Ok(Answer::Approved(_))
        ));
        for number in 1..MAX_KEPT as u32 {
            opened(&approvals, number);
        }
        // The one that was used up goes, and then there is no room as long as all can be answered.
        opened(&approvals, MAX_KEPT as u32);
        assert_eq!(
            approvals.approval(first).await,
            Err(ApprovalError::NotFound(first))
        );
        let full = approvals.ask_now(wanted(u32::MAX), DAY, u32::MAX);
        assert!(matches!(full, Err(ApprovalError::Store(_))), "{full:?}");
        *now.lock().unwrap() += DAY;
        let next = opened(&approvals, 1);
        assert!(matches!(
            approvals.ask_now(wanted(2), DAY, 1),
            Err(ApprovalError::Full(1))
        ));
        {
            let kept = approvals.lock();
            assert_eq!(kept.all.len(), MAX_KEPT);
            assert_eq!(kept.open[&None].len(), 1, "the others are over");
            assert_eq!(kept.by_subject[&wanted(1).subject], [next]);
        }
        let over = now
            .lock()
            .unwrap()
            .checked_add_signed(chrono::TimeDelta::seconds(1));
        assert_eq!(approvals.forget(over.unwrap()).await, Ok(MAX_KEPT - 1));
        let kept = approvals.lock();
        assert_eq!(kept.all.len(), 1);
        assert_eq!((kept.by_subject.len(), kept.ends.len()), (1, 1));
    }
}
