//! Who lives beside an attacker.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use skillhost::{Attachment, ExecutionRequest, ExecutionResult, Host, Status};

use crate::attack::{MORE_ROUNDS, PATIENCE, runtime};
use crate::harness::{LATE, behaviours_path};

/// Another skill on the same host, that behaves well.
pub struct Neighbour {
    request: ExecutionRequest,
    expected: ExecutionResult,
    /// The least that it took of some runs.
    least: Duration,
}

/// How often it is run before an attack.
const BEFORE: usize = 5;
/// How often it is run afterwards at most, until it takes no longer than it may: that it waits for the processor of a
/// busy machine is not the attack's doing. What is always late is so each time.
const AFTER: usize = 30;

/// A skill with the tools of the behaviours, and a digest of its own, as none that attacks has it.
fn a_skill_of_its_own() -> Vec<u8> {
    let mut component = std::fs::read(behaviours_path()).expect("it was built");
    // A custom section, of nine bytes: the length of its name, the name, and nothing.
    component.extend_from_slice(b"\x00\x0a\x09neighbour");
    component
}

impl Neighbour {
    pub fn of(host: &Host) -> Self {
        runtime().block_on(Neighbour::loaded(host))
    }

    pub async fn loaded(host: &Host) -> Self {
        let skill = host.load_bytes(a_skill_of_its_own()).await;
        let request =
            ExecutionRequest::new(skill.expect("it loads").digest(), json!({"a": [1, "é"]}))
                .tool("echo")
                .attach(Attachment::new("name", "text/plain", *b"12345"));
        let expected = run_well(host, &request).await;
        assert_eq!(expected.status, Status::Success);
        assert_eq!(expected.output.as_ref(), Some(&request.input));
        let mut least = took(&expected);
        for _ in 1..BEFORE {
            least = least.min(took(&run_well(host, &request).await));
        }
        Neighbour {
            request,
            expected,
            least,
        }
    }

    /// It takes no more than twice the time that it took before, and a millisecond.
    fn allowed(&self) -> Duration {
        2 * self.least + Duration::from_millis(1)
    }

    /// It is as it was before, if not at once then soon. Gives how long the very next run took.
    #[track_caller]
    pub fn check_undisturbed(&self, host: &Host) -> Duration {
        let next = self.run(host);
        let mut least = next;
        for _ in 1..AFTER {
            if least <= self.allowed() {
                return next;
            }
            least = least.min(self.run(host));
        }
        assert!(
            least <= self.allowed(),
            "{least:?}, and {:?} before",
            self.least
        );
        next
    }

    /// The very next run after an attack takes no longer either: this is the least of what it took after each of some
    /// attacks. Where it took longer after all of them, the attack is made again.
    #[track_caller]
    pub fn check_next(&self, host: &Host, mut least: Duration, attack: impl Fn()) {
        let allowed = self.allowed();
        for _ in 0..MORE_ROUNDS {
            if least <= allowed {
                return;
            }
            attack();
            least = least.min(self.run(host));
        }
        assert!(
            least <= allowed,
            "the next takes {least:?}, and {:?} before",
            self.least
        );
    }

    #[track_caller]
    fn run(&self, host: &Host) -> Duration {
        let result = runtime().block_on(run_well(host, &self.request));
        self.check(&result);
        took(&result)
    }

    /// The same on another runtime.
    pub async fn checked(&self, host: &Host) {
        self.check(&run_well(host, &self.request).await);
    }

    #[track_caller]
    fn check(&self, result: &ExecutionResult) {
        let Neighbour { expected, .. } = self;
        assert_eq!(result.status, Status::Success, "{:?}", result.failure);
        assert_eq!(result.output, expected.output);
        assert_eq!(result.attachments, expected.attachments);
        assert_eq!(
            (&result.stdout, &result.stderr),
            (&expected.stdout, &expected.stderr)
        );
        assert_eq!(result.usage.fuel, expected.usage.fuel);
        assert_eq!(
            result.usage.peak_memory_bytes,
            expected.usage.peak_memory_bytes
        );
        assert!(result.usage.waiting_time < LATE, "{:?}", result.usage);
    }
}

/// From when it was asked for until it ended.
fn took(result: &ExecutionResult) -> Duration {
    result.usage.waiting_time + result.usage.wall_time
}

async fn run_well(host: &Host, request: &ExecutionRequest) -> ExecutionResult {
    let request = request.clone().deadline(Utc::now() + PATIENCE);
    host.execute(request).await.expect("the host is well")
}
