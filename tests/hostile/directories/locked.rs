//! A disk that makes whoever calls it wait, as a dead network drive would: a folder that somebody holds locked, in
//! which each rename and each link waits on a thread for the disk, for 100 ms.

use std::cell::Cell;
use std::fs::{self, File};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use skillhost::grant::{Grants, Mode};
use skillhost::{Control, ExecutionRequest, Status};

use super::calling;
use crate::attack::{
    DEADLINE, PATIENCE, ROUNDS, SHARP, SHORT, TIMEOUT, builder, runtime, wall_time,
};
use crate::harness::{LATE, Record, directories_path};
use crate::measure::{alone, check_leaves_nothing_but};
use crate::waiting::check_mostly_in_time;

/// A folder with `a.txt` in it, which is locked for as long as this lives.
struct Locked {
    place: tempfile::TempDir,
    #[allow(dead_code, reason = "held, not used")]
    lock: File,
}

impl Locked {
    fn new() -> Arc<Self> {
        let place = tempfile::tempdir().expect("a folder can be made");
        fs::write(place.path().join("a.txt"), "content").expect("it can be written");
        let lock = File::open(place.path()).expect("it is there");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody else has it");
        Arc::new(Locked { place, lock })
    }

    fn granted(&self) -> Grants {
        Grants::default().directory(self.place.path(), "/data", Mode::Rw)
    }

    /// How often this process has it open, beside the lock.
    fn open(&self) -> usize {
        let own = self.place.path().canonicalize().expect("it is there");
        let files = fs::read_dir("/proc/self/fd").expect("the system is Linux");
        let found = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        found.filter(|found| *found == own).count() - 1
    }

    /// Whether a call that gives something in it another name is on its way. It has the folder open as it was granted,
    /// and as that of both names.
    fn is_waited_for(&self) -> bool {
        self.open() >= 3
    }

    /// Waits until no call is on its way, and checks that none of them did anything.
    fn settle(&self) {
        let began = Instant::now();
        while self.open() > 0 {
            assert!(began.elapsed() < PATIENCE, "somebody has it open");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut left = Vec::new();
        super::list(self.place.path(), "", &mut left);
        assert_eq!(left, ["a.txt 7"]);
    }
}

/// Calls that wait.
fn calls() -> [Value; 2] {
    ["rename", "link"]
        .map(|call| json!({"call": call, "at": 0, "path": "a.txt", "to": 0, "new_path": "b.txt"}))
}

/// A guest is stopped in the middle of a call, and nobody waits for that.
#[test]
fn a_call_that_waits_past_its_time() {
    let _alone = alone();
    let folder = Locked::new();
    for call in calls() {
        let settled = Arc::clone(&folder);
        let attack = calling(json!([call]))
            .granted(folder.granted())
            .settled_by(move || settled.settle());
        let result = attack.clone().under(wall_time(SHORT)).ends_with(TIMEOUT);
        assert!(result.usage.host_calls > 0);
        check_mostly_in_time(attack.clone());
        attack.deadline(SHORT).ends_with(DEADLINE);
    }
}

/// When the host and its runtime are gone, the call is still on its way: neither of them waits for it. On a busy
/// machine it may have come to its end meanwhile, so that one round in which it has not is enough.
#[test]
fn a_host_that_goes_while_a_call_waits() {
    const MOST_ROUNDS: usize = 20;
    let _alone = alone();
    let folder = Locked::new();
    let outlived = Cell::new(false);
    let round = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be set up");
        let host = builder().build().expect("a host can be set up");
        let skill = runtime.block_on(host.load(directories_path()));
        let skill = skill.expect("it loads");
        // One after the other, so that there is one on its way at any time.
        let calls: Vec<Value> = calls().into_iter().cycle().take(100).collect();
        let request = ExecutionRequest::new(skill.digest(), json!({ "calls": calls }))
            .grants(folder.granted());
        let record = Record::new();
        let control = Control::default().observer(record.clone());
        let execution = runtime.spawn({
            let host = host.clone();
            async move { host.execute_with(request, control).await }
        });
        runtime.block_on(record.wait_for("started", 1));
        while !folder.is_waited_for() {
            assert!(!execution.is_finished(), "no call waited");
            std::thread::yield_now();
        }
        drop((skill, host));
        drop(runtime);
        assert!(execution.is_finished(), "it went with its runtime");
        if folder.is_waited_for() {
            outlived.set(true);
        }
        folder.settle();
    };
    round();
    check_leaves_nothing_but(0, || (0..ROUNDS).for_each(|_| round()));
    for _ in 0..MOST_ROUNDS {
        if outlived.get() {
            return;
        }
        round();
    }
    panic!("no call was on its way any more when its host was gone");
}

/// A tenant has more calls on their way than it gets threads for: it is stopped in time all the same, and whoever uses
/// another folder has threads of its own.
#[test]
fn all_the_threads_that_one_tenant_gets() {
    const MANY: usize = 20;
    /// As many calls of one tenant are on their way at a time (`src/sandbox/disk.rs`).
    const THREADS: usize = 12;
    /// So many calls wait for some seconds where each of them waits for a thread that waits.
    const CALLS: usize = 60;
    const SOON: Duration = Duration::from_millis(500);
    /// On a busy machine all of them may be late together.
    const MOST_ROUNDS: usize = 5;
    let _alone = alone();
    let folder = Locked::new();
    let other = tempfile::tempdir().expect("a folder can be made");
    fs::write(other.path().join("a.txt"), "content").expect("it can be written");
    let host = crate::harness::builder().concurrency(64).build();
    let host = host.expect("a host can be set up");
    let skill = runtime().block_on(host.load(directories_path()));
    let digest = skill.expect("it loads").digest();
    let request = |tenant: &str, calls: Vec<Value>, grants: Grants| {
        let input = json!({ "calls": calls });
        let mut request = ExecutionRequest::new(digest, input).grants(grants);
        request.tenant = Some(tenant.into());
        request
    };
    let waiting: Vec<Value> = calls().into_iter().cycle().take(100).collect();
    let stuck = request("a", waiting, folder.granted()).limits(wall_time(4 * SOON));
    let calls = vec![json!({"call": "stat", "at": 0, "path": "a.txt"}); CALLS];
    let granted = Grants::default().directory(other.path(), "/data", Mode::Rw);
    let well = request("b", calls, granted);
    let least_late = Cell::new(PATIENCE);
    let round = || {
        runtime().block_on(async {
            let stuck = (0..MANY).map(|_| {
                let (host, request) = (host.clone(), stuck.clone());
                tokio::spawn(async move { host.execute(request).await.expect("the host is well") })
            });
            let stuck: Vec<_> = stuck.collect();
            // Each execution has the folder open, and each call that is on its way has it open twice more.
            while folder.open() < MANY + 2 * THREADS {
                assert!(
                    stuck.iter().all(|one| !one.is_finished()),
                    "they were never all there"
                );
                tokio::task::yield_now().await;
            }
            let mut least = PATIENCE;
            while stuck.iter().all(|one| !one.is_finished()) {
                let result = host.execute(well.clone()).await.expect("the host is well");
                assert_eq!(result.status, Status::Success, "{:?}", result.failure);
                least = least.min(result.usage.waiting_time + result.usage.wall_time);
            }
            assert!(least < SOON, "{least:?}");
            let mut late = PATIENCE;
            for one in stuck {
                let result = one.await.expect("it does not panic");
                assert_eq!(result.status, Status::Timeout, "{:?}", result.failure);
                let by = result
                    .usage
                    .wall_time
                    .saturating_sub(result.limits.wall_time);
                assert!(by < LATE, "{by:?}");
                late = late.min(by);
            }
            least_late.set(least_late.get().min(late));
        });
        folder.settle();
    };
    round();
    check_leaves_nothing_but(0, round);
    for _ in 0..MOST_ROUNDS {
        if least_late.get() <= SHARP {
            return;
        }
        round();
    }
    panic!("late by {:?}", least_late.get());
}
