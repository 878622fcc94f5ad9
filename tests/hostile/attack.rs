//! The one way in which every attack is run, and what is checked of each:
//!
//! - what stopped it: the exact cause and limit, and the status that goes with that;
//! - that the usage is there, and plausible;
//! - that it got no further past its limit than it may: 10 % or a page past bytes, nothing past fuel
//!   as it is reported, and that the host's own heap stayed within what the limits allow;
//! - that it was not late, whether it computes or waits: 10 ms, or the time to write its memory limit
//!   once, past its wall time or its deadline. Late is by how much its processor time is longer than
//!   the time it had, or its wall time less what all threads of this process together waited for a
//!   processor meanwhile, whichever is more. The round in which it was least late counts, of
//!   [`ROUNDS`] and up to [`MORE_ROUNDS`] more where it was late in all of them; in none of them does
//!   it take [`LATE`] more than its wall time;
//! - that the host's memory, its slots, its open files and its threads came back, and that nobody computes any more;
//! - that the next execution of another skill on the same host, which behaves well, is undisturbed:
//!   the right answer, at the same cost in fuel, without waiting for a slot, and in no more than twice the
//!   time and a millisecond: one of the next few after each round, and the very next one after one of the rounds (or of
//!   up to [`MORE_ROUNDS`] more).
//!
//! Each is run several times on one host with a single slot, so that anything left behind adds up,
//! and a slot that is not given back is missed at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use skillhost::execution::Phase;
use skillhost::grant::Grants;
use skillhost::{
    Attachment, Cause, Control, Event, ExecutionRequest, ExecutionResult, Fault, Host, HostBuilder,
    Limit, LimitOverrides, Limits, Observer, Skill, Status,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::handmade::{Handmade, TOOL};
pub use crate::harness::NONE;
use crate::harness::{self, LATE, PAGE, behaviours_path, check_result};
use crate::measure::{
    Held, check_alone, check_leaves_nothing_but, time_to_write, waited_for_a_processor,
};
use crate::neighbour::Neighbour;

/// Long enough to be well in the middle of things, short enough for a test.
pub const SHORT: Duration = Duration::from_millis(60);
/// What a guest may run or wait past its time: that it waits for the processor of a busy machine is
/// not its doing.
pub const SHARP: Duration = Duration::from_millis(10);
/// How often an attack is run after the first time.
pub const ROUNDS: usize = 3;
/// How often it is run again at most where it was late: other work uses the processor's caches, and on
/// a virtual machine the kernel does not see all of it. What is always late is so each time.
pub const MORE_ROUNDS: usize = 10;
/// How often an attack is run of which little stays: a leak of 900 bytes comes to more than may stay.
pub const OFTEN: usize = 300;
/// What nothing in this suite takes: whoever waits so long waits for something that was not given
/// back.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The heap that the host needs for an execution whatever it does, and what a million JSON values,
/// the most that it reads, take of it.
const OWN_HEAP: u64 = 48 << 20;

pub fn fuel(fuel: u64) -> LimitOverrides {
    LimitOverrides {
        fuel: Some(fuel),
        ..NONE
    }
}

/// By how much more than its time a guest computed, in each of so many runs, in order.
pub fn late(skill: &Handmade, limits: LimitOverrides, runs: usize) -> Vec<Duration> {
    let host = builder().build().unwrap();
    let neighbour = Neighbour::of(&host);
    let run = || {
        let result = runtime().block_on(async {
            let skill = harness::load(&host, skill).await;
            let request = ExecutionRequest::new(skill.digest(), json!({}));
            harness::execute(&host, request.limits(limits)).await
        });
        assert_eq!(result.status, Status::Timeout, "{:?}", result.failure);
        result.usage.cpu_time.saturating_sub(SHORT)
    };
    run();
    let mut late = Vec::new();
    check_leaves_nothing_but(0, || {
        late.clear();
        for _ in 0..runs {
            late.push(run());
            neighbour.check_undisturbed(&host);
        }
    });
    late.sort_unstable();
    late
}

pub fn memory(pages: u64) -> LimitOverrides {
    LimitOverrides {
        memory_bytes: Some(pages * PAGE),
        ..NONE
    }
}

/// So much time, and far more fuel than fits in it.
pub fn wall_time(wall_time: Duration) -> LimitOverrides {
    LimitOverrides {
        wall_time: Some(wall_time),
        fuel: Some(u64::MAX),
        ..NONE
    }
}

/// Sets up a host with a single slot.
pub fn builder() -> HostBuilder {
    harness::builder().concurrency(1)
}

/// What an attack ends with.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// This limit was met, or its wall time was up, at this point.
    Limit(Limit, Phase),
    /// A trap of this name.
    Trap(&'a str),
    /// Its answer is refused, because of what stands at this place in it.
    InvalidOutput(&'a str),
    /// Its answer is refused, wherever the reason stands in it.
    InvalidOutputAnywhere,
    /// The input is refused, because of what stands at this place in it.
    InvalidInput(&'a str),
    /// The input is refused before anything runs, wherever the reason stands in it.
    InvalidInputAnywhere,
    /// It says itself that it failed.
    SkillError,
    /// Code of the host panicked.
    HostPanic,
    /// It was cancelled at this point.
    Cancelled(Phase),
    /// It was not stopped: what it did too much of was dropped.
    Success,
}

/// This limit is met while the tool runs.
pub fn met(limit: Limit) -> End<'static> {
    End::Limit(limit, Phase::Run)
}

/// Its time is up while the tool runs.
pub const TIMEOUT: End<'static> = End::Limit(Limit::WallTime, Phase::Run);

/// It is past its deadline while the tool runs.
pub const DEADLINE: End<'static> = End::Limit(Limit::Deadline, Phase::Run);

/// An attack by a skill that runs.
#[derive(Clone)]
pub struct Attack {
    component: Component,
    /// Its text, for who looks into a failure.
    text: String,
    tool: &'static str,
    input: Value,
    attachments: Vec<Attachment>,
    limits: LimitOverrides,
    grants: Grants,
    deadline: Duration,
    observer: Option<Arc<dyn Observer>>,
    cancelled: bool,
    /// Waits until the test's own part in the attack is over.
    settled: Option<Arc<dyn Fn() + Send + Sync>>,
    host: Host,
}

/// What attacks.
#[derive(Clone)]
enum Component {
    /// A skill of this attack's own.
    Own(Vec<u8>),
    /// One that several attacks are made with.
    File(PathBuf),
}

impl fmt::Debug for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.input.to_string();
        write!(f, "{} {input:.1000} {}", self.tool, self.text)
    }
}

impl Attack {
    /// By a skill made by hand.
    pub fn by(skill: Handmade) -> Self {
        Attack {
            text: skill.text(),
            ..Attack::of(skill.build())
        }
    }

    /// By this component.
    pub fn of(component: Vec<u8>) -> Self {
        Attack {
            component: Component::Own(component),
            ..Attack::with(TOOL, json!({}))
        }
    }

    /// By one of the behaviours.
    pub fn with(tool: &'static str, input: Value) -> Self {
        Attack::from(behaviours_path(), tool, input)
    }

    /// By a tool of the guest in this file.
    pub fn from(component: &Path, tool: &'static str, input: Value) -> Self {
        Attack {
            component: Component::File(component.to_owned()),
            text: String::new(),
            tool,
            input,
            attachments: Vec::new(),
            limits: NONE,
            grants: Grants::default(),
            deadline: PATIENCE,
            observer: None,
            cancelled: false,
            settled: None,
            host: host().clone(),
        }
    }

    /// Under these limits.
    pub fn under(mut self, limits: LimitOverrides) -> Self {
        self.limits = limits;
        self
    }

    /// With what these grants give.
    pub fn granted(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// With a deadline so long after the request is made.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With this input.
    pub fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// With this beside the input.
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// On this host, which has one slot.
    pub fn on(mut self, host: &Host) -> Self {
        self.host = host.clone();
        self
    }

    /// Watched by this observer.
    pub fn watched_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Cancelled while it logs its first record.
    pub fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    /// Waits for this after each execution. What a server or a thread of the test holds meanwhile is
    /// held by the same process, and must have come back before what the host holds is measured.
    pub fn settled_by(mut self, settled: impl Fn() + Send + Sync + 'static) -> Self {
        self.settled = Some(Arc::new(settled));
        self
    }

    /// Runs the attack, checks everything, and gives the last result for what else is to be said
    /// of it.
    #[track_caller]
    pub fn ends_with(self, end: End<'_>) -> ExecutionResult {
        check_alone();
        let neighbour = Neighbour::of(&self.host);
        let skill = self.load();
        let (mut last, mut late) = self.run(self.request(&skill));
        self.check_end(&last, end);
        let mut next = Duration::MAX;
        check_leaves_nothing_but(0, || {
            for _ in 0..ROUNDS {
                let request = self.request(&skill);
                let began = Held::now();
                let (result, by) = self.run(request);
                self.check_end(&result, end);
                self.check_heap(&result, end, began.heap_peak());
                (last, late) = (result, late.min(by));
                next = next.min(neighbour.check_undisturbed(&self.host));
            }
        });
        neighbour.check_next(&self.host, next, || {
            self.run(self.request(&skill));
        });
        self.check_in_time(&skill, &last, late);
        if matches!(self.component, Component::Own(_)) {
            self.host.unload(&skill.digest());
        }
        last
    }

    /// By how much it is late in each of so many runs, in order.
    #[track_caller]
    pub fn lateness(self, end: End<'_>, runs: usize) -> Vec<Duration> {
        check_alone();
        let skill = self.load();
        let run = || {
            let (result, late) = self.run(self.request(&skill));
            self.check_end(&result, end);
            late
        };
        run();
        let mut late: Vec<Duration> = (0..runs).map(|_| run()).collect();
        late.sort_unstable();
        late
    }

    /// Runs the attack very often, and checks that all of it together leaves no more behind than once may.
    #[track_caller]
    pub fn leaves_nothing_over_and_over(self, status: Status) {
        check_alone();
        let skill = self.load();
        let many = |times: usize| {
            for _ in 0..times {
                let (result, _) = self.run(self.request(&skill));
                assert_eq!(result.status, status, "{:?}\n{self:?}", result.failure);
            }
        };
        many(OFTEN / 10);
        check_leaves_nothing_but(0, || many(OFTEN));
    }

    fn load(&self) -> Skill {
        let loaded = runtime().block_on(async {
            match &self.component {
                Component::Own(bytes) => self.host.load_bytes(bytes.clone()).await,
                Component::File(path) => self.host.load(path).await,
            }
        });
        loaded.unwrap_or_else(|error| panic!("{error}\n{self:?}"))
    }

    fn request(&self, skill: &Skill) -> ExecutionRequest {
        let mut request = ExecutionRequest::new(skill.digest(), self.input.clone())
            .tool(self.tool)
            .limits(self.limits)
            .grants(self.grants.clone())
            .deadline(Utc::now() + self.deadline);
        request.attachments = self.attachments.clone();
        request
    }

    /// What came of it, and how late it was stopped.
    fn run(&self, request: ExecutionRequest) -> (ExecutionResult, Duration) {
        let mut control = Control {
            observer: self.observer.clone(),
            ..Control::default()
        };
        // When it was cancelled, and how long had been waited for a processor by then.
        let cancelled = Arc::new(OnceLock::new());
        if self.cancelled {
            let token = CancellationToken::new();
            let cancel = {
                let (token, cancelled) = (token.clone(), Arc::clone(&cancelled));
                move |_: Uuid, event: &Event<'_>| {
                    if matches!(event, Event::Log { .. }) {
                        // The time last: to look at what was waited for takes some.
                        cancelled.get_or_init(|| {
                            let waited = waited_for_a_processor();
                            (Instant::now(), waited)
                        });
                        token.cancel();
                    }
                }
            };
            control = control.cancellation(token).observer(Arc::new(cancel));
        }
        let waited = waited_for_a_processor();
        let result = runtime().block_on(self.host.execute_with(request, control));
        let since_cancelled = cancelled.get().map(|(at, waited)| {
            let waited = waited_for_a_processor().saturating_sub(*waited);
            at.elapsed().saturating_sub(waited)
        });
        let waited = waited_for_a_processor().saturating_sub(waited);
        let result = result.expect("the host is well");
        assert_eq!(since_cancelled.is_some(), self.cancelled, "{self:?}");
        check_result(&result);
        if let Some(settled) = &self.settled {
            settled();
        }
        let usage = &result.usage;
        let took = (usage.waiting_time + usage.wall_time).saturating_sub(waited);
        let took = took.max(usage.cpu_time);
        let late = took.saturating_sub(result.limits.wall_time.min(self.deadline));
        (result, late.max(since_cancelled.unwrap_or_default()))
    }

    /// It is late, if at all, by no more than it may.
    #[track_caller]
    fn check_in_time(&self, skill: &Skill, last: &ExecutionResult, mut late: Duration) {
        if late.is_zero() {
            return;
        }
        let allowed = SHARP.max(time_to_write(last.limits.memory_bytes));
        for _ in 0..MORE_ROUNDS {
            if late <= allowed {
                return;
            }
            late = late.min(self.run(self.request(skill)).1);
        }
        assert!(
            late <= allowed,
            "{late:?} past its time, {allowed:?} allowed\n{self:?}"
        );
    }

    #[track_caller]
    fn check_end(&self, result: &ExecutionResult, end: End<'_>) {
        let what = || format!("{end:?} expected: {:?}\n{self:?}", result.failure);
        let cause = result.failure.as_ref().map(|failure| &failure.cause);
        let (is_end, status) = match (end, cause) {
            (End::Success, None) => (true, Status::Success),
            (
                End::Limit(expected @ (Limit::WallTime | Limit::Deadline), during),
                Some(Cause::Timeout {
                    limit,
                    allowed,
                    phase,
                }),
            ) => {
                let value = result.limits.get(expected);
                let is_it = (*limit, *allowed, *phase) == (expected, value, during);
                (is_it, Status::Timeout)
            }
            (End::Limit(expected, _), Some(Cause::ResourceExhausted { limit, allowed, .. })) => {
                let value = result.limits.get(expected);
                (
                    (*limit, *allowed) == (expected, value),
                    Status::ResourceExhausted,
                )
            }
            (End::Trap(name), Some(Cause::Trap { trap, .. })) => (trap == name, Status::Failed),
            (End::InvalidOutput(place), Some(Cause::InvalidOutput { pointer }))
            | (End::InvalidInput(place), Some(Cause::InvalidInput { pointer })) => {
                (pointer == place, Status::Failed)
            }
            (End::InvalidOutputAnywhere, Some(Cause::InvalidOutput { .. }))
            | (End::InvalidInputAnywhere, Some(Cause::InvalidInput { .. }))
            | (End::SkillError, Some(Cause::SkillError { .. }))
            | (End::HostPanic, Some(Cause::HostPanic)) => (true, Status::Failed),
            (End::Cancelled(during), Some(Cause::Cancelled { phase })) => {
                (*phase == during, Status::Cancelled)
            }
            _ => (false, result.status),
        };
        assert!(is_end, "{}", what());
        assert_eq!(result.status, status, "{}", what());
        if let Some(failure) = &result.failure {
            let fault = match end {
                End::Limit(..) => Fault::Limit,
                End::HostPanic => Fault::Host,
                End::Cancelled(_) => Fault::Caller,
                End::InvalidInput(_) | End::InvalidInputAnywhere => Fault::Input,
                _ => Fault::Skill,
            };
            assert_eq!(failure.fault, fault, "{}", what());
            check_text(&failure.message);
            if let Some(hint) = &failure.hint {
                check_text(hint);
            }
        }
        self.check_usage(result, end);
        self.check_overshoot(result, end);
    }

    /// What it used up to its end is there.
    #[track_caller]
    fn check_usage(&self, result: &ExecutionResult, end: End<'_>) {
        let usage = &result.usage;
        let what = || format!("{usage:?}\n{self:?}");
        assert!(
            usage.waiting_time < LATE,
            "its slot was not free: {}",
            what()
        );
        // What is refused by the host was never run; what the skill refuses was.
        let refused = match end {
            End::InvalidInputAnywhere
            | End::Limit(Limit::Input, _)
            | End::Limit(_, Phase::Waiting) => true,
            End::InvalidInput(_) => usage.wall_time.is_zero(),
            _ => false,
        };
        if refused {
            assert_eq!(
                (usage.fuel, usage.wall_time),
                (0, Duration::ZERO),
                "{}",
                what()
            );
            return;
        }
        assert!(
            !usage.wall_time.is_zero() && !usage.cpu_time.is_zero(),
            "{}",
            what()
        );
        match end {
            End::Cancelled(Phase::Instantiation) => {
                assert!(usage.fuel > 0 && usage.run_time.is_zero(), "{}", what());
            }
            End::Limit(limit, Phase::Instantiation) => {
                assert!(usage.run_time.is_zero(), "{}", what());
                let declared = matches!(
                    limit,
                    Limit::Memory | Limit::TableElements | Limit::Instances
                );
                assert!(usage.fuel > 0 || declared, "{}", what());
            }
            _ => {
                assert!(usage.fuel > 0 && usage.peak_memory_bytes > 0, "{}", what());
                assert!(
                    usage.input_bytes > 0 && !usage.run_time.is_zero(),
                    "{}",
                    what()
                );
            }
        }
    }

    /// It got no further than it may. By how much it is late is judged over all rounds.
    #[track_caller]
    fn check_overshoot(&self, result: &ExecutionResult, end: End<'_>) {
        let (usage, limits) = (&result.usage, &result.limits);
        let what = || format!("{usage:?}\n{self:?}");
        if let End::Limit(Limit::WallTime, during) = end {
            let took = match during {
                Phase::Waiting => usage.waiting_time,
                _ => usage.wall_time,
            };
            assert!(took >= limits.wall_time, "{}", what());
        }
        assert!(usage.wall_time < limits.wall_time + LATE, "{}", what());
        assert!(usage.fuel <= limits.fuel, "{}", what());
        assert!(
            usage.created_files <= limits.created_files && usage.write_bytes <= limits.write_bytes,
            "{}",
            what()
        );
        if let End::Limit(Limit::Fuel, _) = end {
            assert_eq!(usage.fuel, limits.fuel, "{}", what());
        }
        // Pages are given out whole.
        assert!(usage.peak_memory_bytes <= limits.memory_bytes, "{}", what());
        // Of what is past its limit nothing is taken over; attachments come after the output.
        assert!(
            usage.output_bytes <= most_taken_over(limits, end),
            "{}",
            what()
        );
        assert!(
            result.stdout.len() as u64 <= limits.stdout_bytes,
            "{}",
            what()
        );
        assert!(
            result.stderr.len() as u64 <= limits.stderr_bytes,
            "{}",
            what()
        );
    }

    /// What the host itself held meanwhile, as the guest's memory is no part of the heap: the
    /// input in two forms, what one call may carry and, as text that was not UTF-8, become, an
    /// answer and what was made of it, and chatter.
    #[track_caller]
    fn check_heap(&self, result: &ExecutionResult, end: End<'_>, peak: u64) {
        let limits = &result.limits;
        let texts = limits.stdout_bytes + limits.stderr_bytes + limits.log_bytes;
        let allowed = OWN_HEAP
            + a_little_more(2 * usage_of_input(result))
            + a_little_more(2 * limits.host_bytes)
            + a_little_more(2 * most_taken_over(limits, end))
            + a_little_more(2 * (texts + limits.progress_bytes));
        assert!(
            peak <= allowed,
            "{peak} bytes on the heap, {allowed} allowed\n{self:?}"
        );
    }
}

/// The most that may be taken over of an answer, in bytes, where an execution ends like that.
fn most_taken_over(limits: &Limits, end: End<'_>) -> u64 {
    match end {
        End::Limit(Limit::Output, _) => 0,
        End::Limit(Limit::Attachments, _) => limits.output_bytes,
        _ => limits.output_bytes + limits.attachment_bytes,
    }
}

fn usage_of_input(result: &ExecutionResult) -> u64 {
    result.usage.input_bytes.max(result.limits.input_bytes)
}

/// What 10 % or a page past a limit is.
fn a_little_more(bytes: u64) -> u64 {
    bytes + (bytes / 10).max(PAGE)
}

/// Checks that a text that a person will see cannot do anything but be read.
#[track_caller]
pub fn check_text(text: &str) {
    assert!(!text.is_empty());
    assert!(text.len() < 64 << 10, "{} bytes", text.len());
    let printable = skillhost::text::printable(text, true);
    assert_eq!(printable, text, "it must be escaped");
}

/// The host that most attacks are made on.
pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| builder().build().expect("a host can be set up"))
}

/// What everything runs on.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be set up")
    })
}
