//! A disk that makes whoever calls it wait, as a dead network drive would: a folder that somebody holds locked, in
//! which each rename and each link waits on a thread for the disk, for 100 ms.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use skillhost::grant::{Grants, Mode};
use skillhost::skill::Digest;
use skillhost::{Control, ExecutionRequest, ExecutionResult, Failure, Host, Limit, Status};
use tokio::task::JoinHandle;

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
        open(&[self])
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

/// How often this process has any of these open, beside their locks.
fn open(folders: &[&Locked]) -> usize {
    let own = folders.iter().map(|folder| folder.place.path());
    let own: Vec<PathBuf> = own
        .map(|path| path.canonicalize().expect("it is there"))
        .collect();
    let files = fs::read_dir("/proc/self/fd").expect("the system is Linux");
    let found = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    found.filter(|found| own.contains(found)).count() - own.len()
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

/// As many calls wait at a time, and as many of one tenant (`src/sandbox/disk.rs`).
const THREADS: usize = 16;
const EACH: usize = 12;
/// More than that.
const MANY: usize = 20;
const SOON: Duration = Duration::from_millis(500);
/// On a busy machine all of them may be late together.
const MOST_ROUNDS: usize = 5;

/// A host with room for all of them, and a skill that makes the calls that it is told to.
struct Crowd {
    host: Host,
    digest: Digest,
}

impl Crowd {
    fn new() -> Self {
        let host = crate::harness::builder().concurrency(64).build();
        let host = host.expect("a host can be set up");
        let skill = runtime().block_on(host.load(directories_path()));
        let digest = skill.expect("it loads").digest();
        Crowd { host, digest }
    }

    fn request(&self, tenant: &str, calls: Vec<Value>, grants: Grants) -> ExecutionRequest {
        let input = json!({ "calls": calls });
        let mut request = ExecutionRequest::new(self.digest, input).grants(grants);
        request.tenant = Some(tenant.into());
        request
    }

    /// Runs many of this tenant's, whose calls wait until their time is up.
    fn stuck(&self, tenant: &str, folder: &Locked) -> Vec<JoinHandle<ExecutionResult>> {
        let waiting: Vec<Value> = calls().into_iter().cycle().take(100).collect();
        let request = self.request(tenant, waiting, folder.granted());
        let request = request.limits(wall_time(4 * SOON));
        let run = |_| {
            let (host, request) = (self.host.clone(), request.clone());
            tokio::spawn(async move { host.execute(request).await.expect("the host is well") })
        };
        (0..MANY).map(run).collect()
    }

    /// Runs one that is to end well, and says how long that took.
    async fn served(&self, request: &ExecutionRequest) -> Duration {
        let result = self.host.execute(request.clone()).await;
        let result = result.expect("the host is well");
        assert_eq!(result.status, Status::Success, "{:?}", result.failure);
        result.usage.waiting_time + result.usage.wall_time
    }
}

/// Waits until so often any of these folders is open, which all of those that are stuck see to.
async fn all_there(stuck: &[JoinHandle<ExecutionResult>], folders: &[&Locked], times: usize) {
    while open(folders) < times {
        assert!(
            stuck.iter().all(|one| !one.is_finished()),
            "they were never all there"
        );
        tokio::task::yield_now().await;
    }
}

/// By how much an execution was late whose time was up.
#[track_caller]
fn late(result: &ExecutionResult) -> Duration {
    assert_eq!(result.status, Status::Timeout, "{:?}", result.failure);
    let limit = result.failure.as_ref().and_then(Failure::limit);
    assert_eq!(limit.map(|(limit, _)| limit), Some(Limit::WallTime));
    let (usage, limits) = (&result.usage, &result.limits);
    let by = usage.wall_time.saturating_sub(limits.wall_time);
    assert!(by < LATE, "{by:?}");
    by
}

/// The least of these.
async fn least_late(stuck: Vec<JoinHandle<ExecutionResult>>) -> Duration {
    let mut least = PATIENCE;
    for one in stuck {
        let result = one.await.expect("it does not panic");
        assert!(result.usage.fuel > 0, "it had begun: {:?}", result.usage);
        least = least.min(late(&result));
    }
    least
}

/// A folder with `a.txt` in it that nobody has locked, and so many calls in it.
fn well(crowd: &Crowd, count: usize) -> (tempfile::TempDir, ExecutionRequest) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    fs::write(folder.path().join("a.txt"), "content").expect("it can be written");
    let calls = vec![json!({"call": "stat", "at": 0, "path": "a.txt"}); count];
    let granted = Grants::default().directory(folder.path(), "/data", Mode::Rw);
    let request = crowd.request("b", calls, granted);
    (folder, request)
}

/// A tenant has more calls on their way than it gets threads for: it is stopped in time all the same, and whoever uses
/// another folder has threads of its own.
#[test]
fn all_the_threads_that_one_tenant_gets() {
    /// So many calls wait for some seconds where each of them waits for a thread that waits.
    const CALLS: usize = 60;
    let _alone = alone();
    let folder = Locked::new();
    let crowd = Crowd::new();
    let (_other, well) = well(&crowd, CALLS);
    let least_of_all = Cell::new(PATIENCE);
    let round = || {
        runtime().block_on(async {
            let stuck = crowd.stuck("a", &folder);
            // Each execution has the folder open, and each call that is on its way has it open twice more.
            all_there(&stuck, &[&folder], MANY + 2 * EACH).await;
            let mut least = PATIENCE;
            while stuck.iter().all(|one| !one.is_finished()) {
                least = least.min(crowd.served(&well).await);
            }
            assert!(least < SOON, "{least:?}");
            let late = least_late(stuck).await;
            least_of_all.set(least_of_all.get().min(late));
        });
        folder.settle();
    };
    round();
    check_leaves_nothing_but(0, round);
    for _ in 0..MOST_ROUNDS {
        if least_of_all.get() <= SHARP {
            return;
        }
        round();
    }
    panic!("late by {:?}", least_of_all.get());
}

/// Two tenants have every thread that there is: each execution is stopped in time, also that of a third one who comes
/// meanwhile; whoever uses no folder is served at once; and when their time is up, so is whoever uses one.
#[test]
fn all_the_threads_that_there_are() {
    /// More than come to an end in its time where each waits for a thread: one that waits does so for 100 ms.
    const CALLS: usize = 60;
    let _alone = alone();
    let (one, other) = (Locked::new(), Locked::new());
    let crowd = Crowd::new();
    let (_third, well) = well(&crowd, CALLS);
    let short = well.clone().limits(wall_time(SHORT));
    let elsewhere = crowd.request("c", Vec::new(), Grants::default());
    // The least of all rounds: by how much those were late who were stuck, and who came; and how long it took whoever
    // uses no folder meanwhile, and whoever uses one afterwards.
    let least = Cell::new([PATIENCE; 4]);
    let round = || {
        runtime().block_on(async {
            let mut stuck = crowd.stuck("a", &one);
            stuck.extend(crowd.stuck("z", &other));
            all_there(&stuck, &[&one, &other], 2 * (MANY + THREADS)).await;
            let came = crowd.host.execute(short.clone()).await;
            let came = late(&came.expect("the host is well"));
            let aside = crowd.served(&elsewhere).await;
            assert!(stuck.iter().all(|one| !one.is_finished()), "it waited");
            let stuck = least_late(stuck).await;
            one.settle();
            other.settle();
            let after = crowd.served(&well).await;
            let mut all = least.get();
            for (all, told) in all.iter_mut().zip([stuck, came, aside, after]) {
                *all = told.min(*all);
            }
            least.set(all);
        });
    };
    round();
    check_leaves_nothing_but(0, round);
    let allowed = [SHARP, SHARP, SOON, SOON];
    let is_in_time = || {
        least
            .get()
            .iter()
            .zip(allowed)
            .all(|(it, most)| *it <= most)
    };
    for _ in 0..MOST_ROUNDS {
        if is_in_time() {
            return;
        }
        round();
    }
    panic!("{:?}, and {allowed:?} are allowed", least.get());
}
