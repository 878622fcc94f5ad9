//! What the tests share: the guests, a host, and ways to look at a result.

#[path = "guest.rs"]
mod guest;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skillhost::skill::Digest;
use skillhost::{
    Cause, Event, ExecutionRequest, ExecutionResult, Fault, Host, HostBuilder, Limit,
    LimitOverrides, Observer, Skill, Status,
};
use uuid::Uuid;

use crate::handmade::{Handmade, TOOL};

/// A page of linear memory, in bytes.
pub const PAGE: u64 = 64 << 10;
/// What a guest that is stopped in time may be late on a busy machine.
pub const LATE: Duration = Duration::from_secs(3);

/// No limit asked for: the host's own apply.
pub const NONE: LimitOverrides = LimitOverrides {
    fuel: None,
    memory_bytes: None,
    table_elements: None,
    instances: None,
    wall_time: None,
    input_bytes: None,
    output_bytes: None,
    attachment_bytes: None,
    stdout_bytes: None,
    stderr_bytes: None,
    log_bytes: None,
    progress_bytes: None,
    host_bytes: None,
    handles: None,
    open_files: None,
    created_files: None,
    write_bytes: None,
    connections: None,
    http_request_bytes: None,
    http_response_bytes: None,
    http_fields_bytes: None,
    socket_sent_bytes: None,
    socket_read_bytes: None,
    storage_keys: None,
    storage_bytes: None,
    storage_value_bytes: None,
};

/// The component of `tests/guests/behaviours`, built when it is first asked for.
pub fn behaviours_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| guests().join("behaviours.wasm"))
}

/// The component of `tests/guests/directories`, built when it is first asked for.
pub fn directories_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| guests().join("directories.wasm"))
}

/// The component of `skills-sdk/tests/guest`, built when it is first asked for.
pub fn sdk_guest_path() -> PathBuf {
    build("skills-sdk/tests/guest").join("sdk_guest.wasm")
}

/// Where the components of `tests/guests` are, built when they are first asked for.
fn guests() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("tests/guests"))
}

/// Builds the packages in a folder, and says where their components are.
fn build(folder: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    guest::build(&workspace, &[], &target)
}

/// The component of `tests/guests/network`, built with the other one.
pub fn network_path() -> PathBuf {
    behaviours_path().with_file_name("network.wasm")
}

/// Sets up a host with the compiled cache that all tests share.
pub fn builder() -> HostBuilder {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        assert!(made.is_ok() || folder.is_dir(), "{made:?}");
        folder
    });
    Host::builder()
        .concurrency(100)
        .cache(folder)
        .for_operator(true)
}

/// The host that most tests share.
pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| builder().build().expect("a host can be set up"))
}

/// A request for one of the behaviours.
pub async fn request(host: &Host, tool: &str, input: Value) -> ExecutionRequest {
    let skill = host.load(behaviours_path()).await.expect("it loads");
    ExecutionRequest::new(skill.digest(), input).tool(tool)
}

/// Runs one of the behaviours.
pub async fn run(host: &Host, tool: &str, input: Value, limits: LimitOverrides) -> ExecutionResult {
    let request = request(host, tool, input).await.limits(limits);
    execute(host, request).await
}

/// Runs a request, and checks what is true of every result.
pub async fn execute(host: &Host, request: ExecutionRequest) -> ExecutionResult {
    let result = host.execute(request).await.expect("the host is well");
    check_result(&result);
    result
}

/// Loads a skill made by hand. Each test's own text makes another skill.
pub async fn load(host: &Host, handmade: &Handmade) -> Skill {
    host.load_bytes(handmade.build())
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", handmade.text()))
}

/// Loads and runs a skill made by hand, on the host that most tests share.
pub async fn run_handmade(handmade: &Handmade, limits: LimitOverrides) -> ExecutionResult {
    let skill = load(host(), handmade).await;
    run_tool(host(), skill.digest(), limits).await
}

/// Runs the tool of a skill made by hand.
pub async fn run_tool(host: &Host, skill: Digest, limits: LimitOverrides) -> ExecutionResult {
    let request = ExecutionRequest::new(skill, json!({}))
        .tool(TOOL)
        .limits(limits);
    execute(host, request).await
}

/// What is true of every result.
pub fn check_result(result: &ExecutionResult) {
    let usage = &result.usage;
    match &result.failure {
        None => {
            assert_eq!(result.status, Status::Success);
            assert!(usage.wall_time < result.limits.wall_time, "{usage:?}");
        }
        Some(failure) => {
            assert_eq!(result.status, failure.status());
            assert_eq!(result.output, None);
            assert!(result.attachments.is_empty());
            assert!(!failure.message.is_empty());
            assert!(!failure.message.contains('\x1b'), "{}", failure.message);
        }
    }
    assert!(usage.fuel <= result.limits.fuel);
    assert!(usage.http_request_bytes <= result.limits.http_request_bytes);
    assert!(usage.http_response_bytes <= result.limits.http_response_bytes);
    assert!(usage.socket_sent_bytes <= result.limits.socket_sent_bytes);
    assert!(usage.socket_read_bytes <= result.limits.socket_read_bytes);
    assert!(usage.peak_memory_bytes <= result.limits.memory_bytes);
    assert_eq!(usage.peak_memory_bytes % PAGE, 0);
    assert_eq!(
        usage.instantiation_time + usage.run_time,
        usage.wall_time,
        "the split sums up"
    );
    assert!(result.stdout.len() as u64 <= result.limits.stdout_bytes);
    assert!(result.stderr.len() as u64 <= result.limits.stderr_bytes);
    let json = serde_json::to_string(result).expect("a result is JSON");
    let back: ExecutionResult = serde_json::from_str(&json).expect("a result comes back");
    assert_eq!(
        (back.status, &back.failure),
        (result.status, &result.failure)
    );
}

/// The cause of a failure.
#[track_caller]
pub fn cause(result: &ExecutionResult) -> &Cause {
    match &result.failure {
        Some(failure) => &failure.cause,
        None => panic!("it succeeded: {result:?}"),
    }
}

/// The output of a success.
#[track_caller]
pub fn output(result: &ExecutionResult) -> &Value {
    match &result.output {
        Some(output) => output,
        None => panic!("it failed: {:?}\n{}", result.failure, result.stderr),
    }
}

/// Checks that a limit was met, and says what was asked for.
#[track_caller]
pub fn check_exhausted(result: &ExecutionResult, expected: Limit, value: u64) -> Option<u64> {
    let Cause::ResourceExhausted {
        limit,
        allowed,
        requested,
        ..
    } = cause(result)
    else {
        panic!("no limit was met: {:?}", result.failure);
    };
    assert_eq!(
        (*limit, *allowed),
        (expected, value),
        "{:?}",
        result.failure
    );
    assert_eq!(result.limits.get(expected), value);
    let failure = result.failure.as_ref().expect("there is one");
    assert_eq!(failure.fault, Fault::Limit);
    assert!(failure.hint.is_some());
    *requested
}

/// Checks that the wall time was up, and that the guest was stopped then.
#[track_caller]
pub fn check_timeout(result: &ExecutionResult, wall_time: Duration) {
    let Cause::Timeout { limit, allowed, .. } = cause(result) else {
        panic!("no timeout: {:?}", result.failure);
    };
    let expected = u64::try_from(wall_time.as_millis()).expect("it is short");
    assert_eq!((*limit, *allowed), (Limit::WallTime, expected));
    assert!(result.usage.wall_time >= wall_time, "{:?}", result.usage);
    assert!(
        result.usage.wall_time < wall_time + LATE,
        "{:?}",
        result.usage
    );
}

/// Checks that whatever ran before left the host as it was.
pub async fn check_undisturbed(host: &Host) {
    let result = run(host, "echo", json!({"a": 1}), LimitOverrides::default()).await;
    assert_eq!(output(&result), &json!({"a": 1}));
    assert!(result.usage.fuel > 0 && result.usage.peak_memory_bytes > 0);
}

/// Events as text, in their order: `admitted`, `started`, `log`, `finished success`, …
#[derive(Default)]
pub struct Record {
    events: Mutex<Vec<(Uuid, String)>>,
    usage: Mutex<Option<skillhost::ResourceUsage>>,
    came: tokio::sync::Notify,
}

impl Record {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn events(&self) -> Vec<String> {
        let events = self.events.lock().expect("nobody panics here");
        events.iter().map(|(_, event)| event.clone()).collect()
    }

    pub fn clear(&self) {
        self.events.lock().expect("nobody panics here").clear();
    }

    /// How many events of this name there were.
    pub fn count(&self, name: &str) -> usize {
        let events = self.events();
        events.iter().filter(|event| *event == name).count()
    }

    /// The usage that the last finished execution reported.
    pub fn usage(&self) -> Option<skillhost::ResourceUsage> {
        self.usage.lock().expect("nobody panics here").clone()
    }

    /// Waits until there were so many events of this name.
    pub async fn wait_for(&self, name: &str, count: usize) {
        let began = Instant::now();
        while self.count(name) < count {
            let patience = Duration::from_secs(30).saturating_sub(began.elapsed());
            let came = self.came.notified();
            if self.count(name) >= count {
                return;
            }
            assert!(
                tokio::time::timeout(patience, came).await.is_ok(),
                "{name} did not come {count} times: {:?}",
                self.events()
            );
        }
    }
}

impl Observer for Record {
    fn observe(&self, id: Uuid, event: &Event<'_>) {
        let name = match event {
            Event::Admitted { .. } => "admitted".to_owned(),
            Event::Started => "started".to_owned(),
            Event::Progress(progress) => format!("progress {}", progress.step),
            Event::Log { message, .. } => format!("log {message}"),
            Event::Finished { status, usage, .. } => {
                *self.usage.lock().expect("nobody panics here") = Some((*usage).clone());
                format!("finished {status}")
            }
            Event::Clamped { .. } => "clamped".to_owned(),
            _ => "unknown".to_owned(),
        };
        self.events
            .lock()
            .expect("nobody panics here")
            .push((id, name));
        self.came.notify_waiters();
        self.came.notify_one();
    }
}
