//! Trouble with the file: nobody may write it, somebody holds it, it is damaged, it is from a newer
//! release, there is no room.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use skillhost::queue::{JobStatus, NewJob, Queue, QueueError, Worker};

use crate::place::{good, job, scripted};

/// What a process of ours works on: a file or a folder.
const ON: &str = "SKILLHOST_TEST_FILE";

fn ours() -> Option<PathBuf> {
    std::env::var_os(ON).map(PathBuf::from)
}

/// This program again, with one test that finds the variable set. `around` is what runs it.
fn again(test: &str, path: &Path, around: &[&str]) -> Command {
    let program = std::env::current_exe().expect("it is running");
    let mut command = match around.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(["--exact", "--nocapture", test]).env(ON, path);
    command
}

async fn filled(path: &Path) -> uuid::Uuid {
    let queue = Queue::open(path).expect("it can be opened");
    queue.submit(good()).await.expect("it is accepted").id
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_an_error_that_says_so() {
    const TEST: &str = "files::a_file_that_may_not_be_written_is_an_error_that_says_so";
    if let Some(path) = ours() {
        let opened = Queue::open(&path);
        let error = match opened {
            Err(error) => error,
            Ok(queue) => queue.submit(good()).await.expect_err("it was written"),
        };
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("queue.db"), "{error}");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // The superuser may write everything, so that somebody else has to try.
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let around: &[&str] = if is_root() { &nobody } else { &[] };
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    for made in [true, false] {
        let inner = folder.path().join(if made { "made" } else { "empty" });
        fs::create_dir(&inner).expect("it is not there");
        let path = inner.join("queue.db");
        if made {
            filled(&path).await;
            mode(&path, 0o444);
        }
        mode(folder.path(), 0o755);
        mode(&inner, 0o555);
        let output = again(TEST, &path, around).output().expect("it runs");
        mode(&inner, 0o755);
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test]
async fn who_comes_while_somebody_holds_the_file_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let first = filled(&path).await;
    let queue = Queue::open(&path).expect("it can be opened");
    let holder = rusqlite::Connection::open(&path).expect("it can be opened");
    holder
        .execute_batch("BEGIN IMMEDIATE")
        .expect("nobody else writes");
    let submitting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.submit(good()).await }
    });
    // Who reads does not wait.
    assert_eq!(queue.job(first).await.unwrap().status, JobStatus::Pending);
    assert!(!submitting.is_finished());
    holder.execute_batch("ROLLBACK").expect("it was begun");
    let submitted = submitting.await.unwrap().expect("it is its turn");
    assert_eq!(
        queue.job(submitted.id).await.unwrap().status,
        JobStatus::Pending
    );
}

#[tokio::test]
async fn a_damaged_file_is_told_from_one_that_cannot_be_reached() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("notes.txt");
    fs::write(
        &other,
        "This is no database, but a text that is long enough. ".repeat(100),
    )
    .expect("it can be written");
    let error = Queue::open(&other).err().expect("it is none");
    assert!(matches!(error, QueueError::NoDatabase(_)), "{error:?}");
    assert!(error.to_string().contains("notes.txt"), "{error}");

    let path = folder.path().join("queue.db");
    filled(&path).await;
    let mut bytes = fs::read(&path).expect("it can be read");
    let page = 4_096;
    for byte in &mut bytes[page..] {
        *byte = 0xa5;
    }
    fs::write(&path, bytes).expect("it can be written");
    let error = match Queue::open(&path) {
        Err(error) => error,
        Ok(queue) => queue.submit(good()).await.expect_err("it is damaged"),
    };
    assert!(matches!(error, QueueError::Damaged(_)), "{error:?}");

    let error = Queue::open(folder.path()).err().expect("it is a folder");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
}

/// A body may be large, and that of a thousand jobs is asked for at once.
#[tokio::test]
async fn whose_a_job_is_is_said_without_its_body() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let queue = Queue::open(&path).expect("it can be opened");
    let submitted = queue.submit(good().tenant("acme")).await;
    let id = submitted.expect("it is accepted").id;
    let database = rusqlite::Connection::open(&path).expect("it can be opened");
    database
        .execute("DELETE FROM bodies", [])
        .expect("it can be written");
    queue.job(id).await.expect_err("it has no body");
    let tenants = queue.tenants(&[id]).await.expect("it can be read");
    assert_eq!(tenants[&id].as_deref(), Some("acme"));
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    filled(&path).await;
    let database = rusqlite::Connection::open(&path).expect("it can be opened");
    database
        .pragma_update(None, "user_version", 99)
        .expect("it can be written");
    drop(database);
    let before = fs::read(&path).expect("it can be read");
    let error = Queue::open(&path).err().expect("it is newer");
    assert!(
        matches!(error, QueueError::TooNew { found: 99, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("use a newer release"), "{error}");
    assert_eq!(fs::read(&path).expect("it can be read"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_a_new_file_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queue.db");
        let openers: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                tokio::task::spawn_blocking(move || Queue::open(path))
            })
            .collect();
        let mut queues = Vec::new();
        for opener in openers {
            queues.push(opener.await.unwrap().expect("it can be opened"));
        }
        for queue in &queues {
            queue.submit(good()).await.expect("it is accepted");
        }
        assert_eq!(queues[0].statistics(1).await.unwrap().total, 8);
    }
}

/// Who makes a file goes on holding it: another process that comes and goes does not take what is
/// written for a leftover.
#[tokio::test]
async fn who_comes_and_goes_takes_nothing_away() {
    const TEST: &str = "files::who_comes_and_goes_takes_nothing_away";
    if let Some(path) = ours() {
        let queue = Queue::open(path).expect("it can be opened");
        println!("\nopen");
        for line in std::io::stdin().lines() {
            line.expect("it can be read");
            let submitted = queue.submit(good()).await.expect("it is accepted");
            println!("job {}", submitted.id);
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let mut child = again(TEST, &path, &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("it is piped");
    let output = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "open"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        drop(Queue::open(&path).expect("it can be opened"));
        writeln!(input).expect("it listens");
        let id = lines.find_map(|line| line.strip_prefix("job ").map(str::to_owned));
        ids.push(id.expect("it submits").parse().expect("it is an id"));
    }
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    let queue = Queue::open(&path).expect("it can be opened");
    for id in ids {
        queue.job(id).await.expect("it was acknowledged");
    }
}

/// Runs the rest in a file system of 8 MiB.
const SMALL: &str = r#"mount -t tmpfs -o size=8m none "$0" && exec "$@""#;
/// Where nothing may be mounted: with files of at most 3 MiB.
const SHORT: &str = r#"ulimit -S -f 6144; exec "$@""#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_it_goes_on_once_there_is_room() {
    const TEST: &str = "files::a_full_disk_loses_nothing_and_it_goes_on_once_there_is_room";
    if let Some(folder) = ours() {
        return full(&folder).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("it is UTF-8");
    let unshare: &[&str] = match is_root() {
        true => &["unshare", "--mount"],
        false => &["unshare", "--user", "--map-root-user", "--mount"],
    };
    let small = |script| [unshare, &["sh", "-c", script, place]].concat();
    let probe = small("mount -t tmpfs -o size=8m none \"$0\"");
    let mounts = Command::new(probe[0])
        .args(&probe[1..])
        .output()
        .is_ok_and(|output| output.status.success());
    let around = match mounts {
        true => small(SMALL),
        false => vec!["bash", "-c", SHORT, place],
    };
    let output = again(TEST, folder.path(), &around)
        .env("SKILLHOST_TEST_MOUNTS", mounts.to_string())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

async fn full(folder: &Path) {
    let mounts = std::env::var("SKILLHOST_TEST_MOUNTS").as_deref() == Ok("true");
    let ballast = folder.join("ballast");
    if mounts {
        fs::write(&ballast, vec![1; 5 << 20]).expect("there is room");
    }
    let queue = Queue::open(folder.join("queue.db")).expect("there is room");
    let mut kept = Vec::new();
    let error = loop {
        assert!(kept.len() < 10_000, "it is never full");
        match queue.submit(job(json!("x".repeat(20_000)))).await {
            Ok(submitted) => kept.push(submitted.id),
            Err(error) => break error,
        }
    };
    // A limit on the size of a file is told as a failure to write.
    match mounts {
        true => assert!(matches!(error, QueueError::Full(_)), "{error:?}"),
        false => assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}"),
    }
    assert!(!kept.is_empty());
    let worker = Worker::builder(queue.clone()).handler("work", scripted);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // What reads goes on; what writes is refused again, and nothing of it stays.
    let total = queue.statistics(1).await.expect("it can be read").total;
    assert_eq!(total, kept.len() as u64);
    let many: Vec<NewJob> = (0..500).map(|_| job(json!("x".repeat(20_000)))).collect();
    queue.submit_all(many).await.expect_err("there is no room");
    if mounts {
        fs::remove_file(&ballast).expect("it is there");
    } else {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
        limit.current = limit.maximum;
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).expect("it is raised");
    }
    let working = tokio::spawn(worker.build().run(async {
        let _ = stopped.await;
    }));
    for id in &kept {
        let ended = queue.wait(*id).await.expect("it is there");
        assert_eq!(ended.status, JobStatus::Completed);
    }
    let _ = stop.send(());
    working.await.expect("no panic").expect("it works");
    let statistics = queue.statistics(1).await.expect("it can be read");
    assert_eq!(statistics.total, kept.len() as u64);
    drop(queue);
    let database = rusqlite::Connection::open(folder.join("queue.db")).expect("it is there");
    let verdict: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it answers");
    assert_eq!(verdict, "ok");
}

/// What undoes each step, the last first.
const UNDO: [&str; 4] = [
    "DROP INDEX jobs_waiting; DROP TABLE admissions; DROP INDEX events_of_people;",
    "DROP INDEX jobs_of_lane; DROP INDEX jobs_dead_of_lane; DROP INDEX keys_by_until;
     ALTER TABLE jobs DROP COLUMN lacking_since; DROP TABLE callbacks;
     DROP INDEX schedules_of_tenant; ALTER TABLE schedules DROP COLUMN tenant;
     ALTER TABLE schedules DROP COLUMN outline;
     DROP INDEX approvals_awaited; ALTER TABLE approvals DROP COLUMN awaited;",
    "DROP TABLE notes;",
    "DROP TABLE approvals; DROP INDEX lanes_waiting; ALTER TABLE lanes DROP COLUMN low;
     CREATE INDEX lanes_waiting ON lanes (share) WHERE waiting = 1;",
];

/// Tables, columns and indexes: what there is.
fn shape(database: &rusqlite::Connection) -> Vec<String> {
    let mut select = database
        .prepare(
            "SELECT tables.name || '.' || columns.name || ' ' || columns.type AS what \
             FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns \
             WHERE tables.type = 'table' \
             UNION ALL SELECT coalesce(sql, name) FROM sqlite_master WHERE type = 'index' \
             ORDER BY what",
        )
        .expect("it can be asked");
    let rows = select.query_map([], |row| row.get(0)).expect("it answers");
    rows.map(|row| row.expect("it answers")).collect()
}

/// Of every release that there was: as if it had left it so.
#[tokio::test]
async fn a_file_of_an_older_release_is_brought_up_to_date() {
    use skillhost::policy::{ApprovalFilter, Approvals as _};
    for undone in 1..=UNDO.len() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queue.db");
        let id = filled(&path).await;
        let newest = i64::try_from(UNDO.len() + 1).expect("it is small");
        assert_eq!(
            pragma(&path, "user_version"),
            newest,
            "each step can be undone"
        );
        let database = rusqlite::Connection::open(&path).expect("it can be opened");
        let before = shape(&database);
        let undo = UNDO[..undone].concat();
        database.execute_batch(&undo).expect("it can be written");
        let left = newest - i64::try_from(undone).expect("it is small");
        database
            .pragma_update(None, "user_version", left)
            .expect("it can be written");
        drop(database);
        let queue = Queue::open(&path).expect("it can be brought up to date");
        assert_eq!(queue.job(id).await.unwrap().status, JobStatus::Pending);
        let filter = ApprovalFilter::default();
        assert_eq!(queue.approvals(&filter).await.expect("it can be read"), []);
        drop(queue);
        assert_eq!(pragma(&path, "user_version"), newest);
        let database = rusqlite::Connection::open(&path).expect("it can be opened");
        assert_eq!(shape(&database), before, "from step {left}");
    }
}

/// What a number of the file is.
fn pragma(path: &Path, name: &str) -> i64 {
    let database = rusqlite::Connection::open(path).expect("it can be opened");
    let read = database.pragma_query_value(None, name, |row| row.get(0));
    read.expect("it can be read")
}

#[tokio::test]
async fn room_is_given_back_in_steps_and_old_files_learn_it() {
    for old in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queue.db");
        filled(&path).await;
        if old {
            let database = rusqlite::Connection::open(&path).expect("it can be opened");
            database
                .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM;")
                .expect("it can be written");
        }
        assert_eq!(pragma(&path, "auto_vacuum"), if old { 0 } else { 2 });
        let queue = Queue::open(&path).expect("it can be opened");
        let large = (0..20).map(|_| job(json!("x".repeat(1 << 20)))).collect();
        let jobs = queue.submit_all(large).await.expect("they are accepted");
        let ids: Vec<uuid::Uuid> = jobs.iter().map(|job| job.id).collect();
        queue.cancel(&ids).await.expect("it can be written");
        let keep = skillhost::queue::Keep {
            completed: Some(std::time::Duration::ZERO),
            dead: None,
            events: None,
        };
        assert_eq!(queue.prune(keep).await.expect("it can be written").jobs, 20);
        let before = pragma(&path, "page_count");
        let task = NewJob::maintenance(skillhost::queue::Maintenance::Vacuum);
        let id = queue.submit(task).await.expect("it is accepted").id;
        let worker = Worker::builder(queue.clone()).handler("work", scripted);
        let worker = worker.until_empty().build();
        worker.run(std::future::pending()).await.expect("it works");
        let done = queue.job(id).await.expect("it is there");
        assert_eq!(done.status, JobStatus::Completed);
        assert_eq!(pragma(&path, "freelist_count"), 0);
        let after = pragma(&path, "page_count");
        assert!(after * 10 < before, "{before} pages, {after} after");
        assert_eq!(pragma(&path, "auto_vacuum"), 2);
    }
}

#[tokio::test]
async fn keys_that_are_over_are_removed_however_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let clock = crate::place::TestClock::new();
    let builder = Queue::builder().clock(clock.clone());
    let queue = builder.open(&path).expect("it can be opened");
    let minute = std::time::Duration::from_secs(60);
    let keyed = (0..1_200).map(|number| good().key_for(format!("key {number}"), minute));
    queue
        .submit_all(keyed.collect())
        .await
        .expect("they are accepted");
    clock.advance(minute);
    let keep = skillhost::queue::Keep {
        completed: None,
        dead: None,
        events: None,
    };
    queue.prune(keep).await.expect("it can be written");
    let database = rusqlite::Connection::open(&path).expect("it can be opened");
    let left: i64 = database
        .query_row("SELECT count(*) FROM keys", [], |row| row.get(0))
        .expect("it can be read");
    assert_eq!(left, 0);
}
