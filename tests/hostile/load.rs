//! Attacks by what is to be loaded, run and checked as those of skills that run (see `attack`):
//! with whose fault it was, and where the skill was asked what it is, with what that cost.

use std::time::{Duration, Instant};

use skillhost::execution::Phase;
use skillhost::{
    Cause, CompileError, Failure, Fault, Host, Limit, Limits, LoadError, ResourceUsage, Skill,
    Status,
};

use crate::attack::{End, ROUNDS, SHARP, check_text, host, runtime};
use crate::handmade::Handmade;
use crate::harness::LATE;
use crate::measure::{Held, check_alone, check_leaves_nothing_but, time_to_write};
use crate::neighbour::Neighbour;

/// What loading may take of the host's heap: for any component, and for each of its bytes beside.
const HEAP: u64 = 16 << 20;
const HEAP_PER_BYTE: u64 = 3;

/// An attack by what is to be loaded.
pub struct Load {
    component: Vec<u8>,
    host: Host,
}

impl Load {
    /// Of this component.
    pub fn of(component: Vec<u8>) -> Self {
        Load {
            component,
            host: host().clone(),
        }
    }

    /// Of a skill made by hand.
    pub fn by(skill: &Handmade) -> Self {
        Load::of(skill.build())
    }

    /// On this host, which has one slot.
    pub fn on(mut self, host: &Host) -> Self {
        self.host = host.clone();
        self
    }

    /// Tries to load it, checks everything, and gives the reason why it was refused.
    #[track_caller]
    pub fn fails(self) -> LoadError {
        self.fails_within(LATE)
    }

    /// The same, in so much time.
    #[track_caller]
    pub fn fails_within(self, time: Duration) -> LoadError {
        self.run(time).expect_err("it must not load")
    }

    /// It is refused as larger than a component may be.
    #[track_caller]
    pub fn fails_as_too_large(self) {
        let error = self.fails();
        let expected = matches!(&error, LoadError::Compile(CompileError::TooLarge { .. }));
        assert!(expected, "{error}");
    }

    /// Loads it, and checks everything.
    #[track_caller]
    pub fn succeeds(self) {
        if let Err(error) = self.run(LATE) {
            panic!("{error}");
        }
    }

    /// Tries to load it: it may be refused or not, and must not do any harm.
    #[track_caller]
    pub fn does_no_harm(self) {
        let _ = self.run(LATE);
    }

    /// Asks it to describe itself, and checks that it was stopped by this.
    #[track_caller]
    pub fn describing_ends_with(self, end: End<'_>) -> Failure {
        let LoadError::Describe { failure, usage } = self.fails_within(2 * LATE) else {
            panic!("it was not asked")
        };
        check_usage(&failure, &usage);
        let (met, during, status) = match &failure.cause {
            Cause::Timeout { limit, phase, .. } => (*limit, Some(*phase), Status::Timeout),
            Cause::ResourceExhausted { limit, .. } => (*limit, None, Status::ResourceExhausted),
            cause => match end {
                End::Trap(name) => {
                    let Cause::Trap { trap, .. } = cause else {
                        panic!("{cause:?}")
                    };
                    assert_eq!(trap, name);
                    assert_eq!(
                        (failure.fault, failure.status()),
                        (Fault::Skill, Status::Failed)
                    );
                    return *failure;
                }
                _ => panic!("{end:?} expected: {cause:?}: {}", failure.message),
            },
        };
        let End::Limit(expected, phase) = end else {
            panic!("{end:?} expected: {}", failure.message)
        };
        assert_eq!(met, expected, "{}", failure.message);
        assert!(during.is_none_or(|during| during == phase), "{during:?}");
        let instantiated = failure.message.contains("while it was being instantiated")
            || failure
                .message
                .contains("while the skill was being instantiated");
        assert_eq!(
            instantiated,
            phase == Phase::Instantiation,
            "{}",
            failure.message
        );
        assert_eq!((failure.fault, failure.status()), (Fault::Limit, status));
        *failure
    }

    #[track_caller]
    fn run(self, time: Duration) -> Result<Skill, LoadError> {
        check_alone();
        let neighbour = Neighbour::of(&self.host);
        let loaded = self.host.skills().len();
        let mut last = self.load(time);
        let mut late = vec![late(&last)];
        let mut next = Duration::MAX;
        check_leaves_nothing_but(0, || {
            for _ in 0..ROUNDS {
                let began = Held::now();
                last = self.load(time);
                self.check_heap(began.heap_peak());
                late.push(self::late(&last));
                next = next.min(neighbour.check_undisturbed(&self.host));
            }
        });
        neighbour.check_next(&self.host, next, || drop(self.load(time)));
        // As where tools run, the round counts in which it was least late.
        let least = late.into_iter().min().unwrap_or_default();
        let allowed = SHARP.max(time_to_write(Limits::default().memory_bytes));
        assert!(
            least <= allowed,
            "late by {least:?}, and {allowed:?} is allowed"
        );
        if let Err(error) = &last {
            check_text(&error.to_string());
            match error {
                LoadError::Describe { failure, usage } => {
                    assert_eq!(error.fault(), failure.fault);
                    check_usage(failure, usage);
                }
                _ => assert_eq!(error.fault(), Fault::Skill, "{error}"),
            }
            assert!(error.to_string().len() < 2_000, "{error}");
        }
        assert_eq!(self.host.skills().len(), loaded, "nothing of it stays");
        last
    }

    /// What the host itself held meanwhile: the component, what is made of it, and what the skill said of itself.
    #[track_caller]
    fn check_heap(&self, peak: u64) {
        let size = self.component.len() as u64;
        let allowed = HEAP + HEAP_PER_BYTE * size;
        assert!(
            peak <= allowed,
            "{peak} bytes on the heap for {size}, {allowed} allowed"
        );
    }

    #[track_caller]
    fn load(&self, time: Duration) -> Result<Skill, LoadError> {
        let began = Instant::now();
        let loaded = runtime().block_on(self.host.load_bytes(self.component.clone()));
        assert!(began.elapsed() < time, "{:?}: {loaded:?}", began.elapsed());
        if let Ok(skill) = &loaded {
            self.host.unload(&skill.digest());
        }
        loaded
    }
}

/// By how much longer than it may a skill that was asked what it is computed; or was there, where it waited.
fn late(loaded: &Result<Skill, LoadError>) -> Duration {
    let Err(LoadError::Describe { failure, usage }) = loaded else {
        return Duration::ZERO;
    };
    match failure.cause {
        Cause::Timeout { allowed, .. } => {
            let allowed = Duration::from_millis(allowed);
            let waited = usage.cpu_time < allowed / 2;
            let took = if waited {
                usage.wall_time
            } else {
                usage.cpu_time
            };
            took.saturating_sub(allowed)
        }
        _ => Duration::ZERO,
    }
}

/// What asking a skill cost is there, and no more than the limits allow.
#[track_caller]
fn check_usage(failure: &Failure, usage: &ResourceUsage) {
    let limits = Limits::default();
    assert!(usage.fuel <= limits.fuel, "{usage:?}");
    assert!(usage.peak_memory_bytes <= limits.memory_bytes, "{usage:?}");
    assert!(!usage.wall_time.is_zero(), "{usage:?}");
    assert_eq!(
        usage.wall_time,
        usage.instantiation_time + usage.run_time,
        "{usage:?}"
    );
    // Nothing is granted to it, and nobody listens.
    assert_eq!(
        (usage.connections, usage.created_files),
        (0, 0),
        "{usage:?}"
    );
    match &failure.cause {
        Cause::ResourceExhausted { limit, allowed, .. } if *limit == Limit::Fuel => {
            assert_eq!(usage.fuel, *allowed);
        }
        Cause::Timeout { allowed, .. } => {
            let allowed = Duration::from_millis(*allowed);
            assert!(usage.wall_time >= allowed, "{usage:?}");
        }
        _ => {}
    }
}
