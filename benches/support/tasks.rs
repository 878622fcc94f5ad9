//! Executions as tasks of a runtime with two threads, as a server has them.

use std::path::Path;
use std::time::Instant;

use skillhost::{Control, ExecutionRequest, ExecutionResult, Host, LimitOverrides, Skill};
use tokio::runtime::Runtime;

/// A host with one skill, and a runtime.
pub struct Tasks {
    pub runtime: Runtime,
    pub host: Host,
    skill: Skill,
}

impl Tasks {
    /// With this guest.
    pub fn new(guest: &Path) -> Self {
        let host = Host::builder().build().expect("the host can be set up");
        let skill = host.load_blocking(guest).expect("the guest loads");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .expect("a runtime");
        Tasks {
            runtime,
            host,
            skill,
        }
    }

    /// A request of the guest.
    pub fn request(&self, tool: &str, n: u64, limits: LimitOverrides) -> ExecutionRequest {
        ExecutionRequest::new(self.skill.digest(), serde_json::json!({ "n": n }))
            .tool(tool)
            .limits(limits)
    }

    /// Starts an execution as a task of its own. Gives the result, and when it was there.
    pub fn start(
        &self,
        request: ExecutionRequest,
        control: Control,
    ) -> impl Future<Output = (ExecutionResult, Instant)> + use<> {
        let host = self.host.clone();
        let task = self.runtime.spawn(async move {
            let result = host.execute_with(request, control).await;
            (result.expect("the host works"), Instant::now())
        });
        async { task.await.expect("no panic") }
    }

    /// Starts one, and waits for its result.
    pub fn run(&self, request: ExecutionRequest) -> (ExecutionResult, Instant) {
        self.runtime
            .block_on(self.start(request, Control::default()))
    }
}
