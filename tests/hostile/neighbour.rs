//! Who lives beside an attacker.

use chrono::Utc;
use serde_json::json;
use skillhost::{Attachment, ExecutionRequest, ExecutionResult, Host, Status};

use crate::attack::{PATIENCE, runtime};
use crate::harness::{LATE, behaviours_path};

/// Another skill on the same host, that behaves well.
pub struct Neighbour {
    request: ExecutionRequest,
    expected: ExecutionResult,
}

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
        Neighbour { request, expected }
    }

    #[track_caller]
    pub fn check_undisturbed(&self, host: &Host) {
        self.check(&runtime().block_on(run_well(host, &self.request)));
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

async fn run_well(host: &Host, request: &ExecutionRequest) -> ExecutionResult {
    let request = request.clone().deadline(Utc::now() + PATIENCE);
    host.execute(request).await.expect("the host is well")
}
