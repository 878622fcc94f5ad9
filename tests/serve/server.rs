//! A server in this process, with a worker beside it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use skillhost::queue::{Queue, Worker};
use skillhost::serve::mcp::{McpServer, Tasks};
use skillhost::serve::{
    NewToken, Scope, Server, Service, ServiceBuilder, Settings, guarded, mcp_route,
};
use skillhost::skill::Library;
use skillhost::{Execute, Host, InstalledSkills};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::harness::{behaviours_path, builder};

/// What is asked of a server.
pub struct Wanted {
    pub settings: Settings,
    pub host: Option<Host>,
    pub queue: Option<Queue>,
    pub worker: bool,
    /// What is put around the installed skills.
    pub around: fn(Arc<dyn Execute>) -> Arc<dyn Execute>,
    pub change: fn(ServiceBuilder) -> ServiceBuilder,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted {
            settings: Settings::default(),
            host: None,
            queue: None,
            worker: true,
            around: |inner| inner,
            change: |builder| builder,
        }
    }
}

/// A server that runs until it is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub service: Service,
    pub queue: Queue,
    pub stop: CancellationToken,
    pub serving: Option<JoinHandle<skillhost::serve::Stopped>>,
    working: Option<JoinHandle<()>>,
    folder: TempDir,
}

/// Starts one, with the skill `behaviours` installed.
pub async fn start(wanted: Wanted) -> Running {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let host = match wanted.host {
        Some(host) => host,
        None => builder().build().expect("a host can be set up"),
    };
    let queue = match wanted.queue {
        Some(queue) => queue,
        None => Queue::open(folder.path().join("queue.db")).expect("it can be opened"),
    };
    let skills = InstalledSkills::builder(host.clone(), Library::new(folder.path().join("skills")));
    let skills = skills.build();
    let package = skillhost::skill::Package::read(behaviours_path(), 64 << 20);
    let package = package.expect("it was built");
    let loaded = host.load_package(package.clone()).await.expect("it loads");
    let installed = skills
        .library()
        .install(&package, loaded.description(), false);
    installed.expect("it can be installed");
    let execute = (wanted.around)(Arc::new(skills.clone()));
    let built = Service::builder(execute, queue.clone())
        .skills(skills.clone())
        .policy(move || host.policy())
        .settings(wanted.settings);
    let service = (wanted.change)(built).build().expect("it can be built");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("there is a port");
    let address = listener.local_addr().expect("it listens");
    let stop = CancellationToken::new();
    let agents = McpServer::builder(service.executor(), skills.clone())
        .tasks(Tasks::new(queue.clone()))
        .build();
    let routes = guarded(&service, mcp_route(&service, &agents));
    let server = Server::new(service.clone(), routes);
    let told = stop.clone().cancelled_owned();
    let serving = tokio::spawn(server.run(listener, told, std::future::pending()));
    let working = wanted.worker.then(|| {
        let worker = Worker::builder(queue.clone())
            .execute(service.executor())
            .concurrency(4)
            .build();
        let told = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            worker.run(told).await.expect("it works");
        })
    });
    Running {
        address,
        service,
        queue,
        stop,
        serving: Some(serving),
        working,
        folder,
    }
}

impl Running {
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A client with a new token.
    pub async fn client_of(&self, tenant: &str, scopes: &[Scope]) -> Client {
        let token = NewToken {
            name: String::new(),
            tenant: tenant.to_owned(),
            scopes: scopes.iter().copied().collect(),
            expires_at: None,
        };
        let (token, _) = self.service.tokens().create(token).await.expect("it can");
        self.client().with(token.reveal())
    }

    /// Stops it, and waits until it has.
    pub async fn end(mut self) -> skillhost::serve::Stopped {
        self.stop.cancel();
        if let Some(working) = self.working.take() {
            working.await.expect("it ends");
        }
        let serving = self.serving.take().expect("it was started");
        let stopped = serving.await.expect("it ends");
        drop(self.folder);
        stopped
    }
}

/// A request for one of the behaviours.
pub fn behaviour(tool: &str, input: Value) -> Value {
    json!({"skill": "behaviours", "tool": tool, "input": input})
}
