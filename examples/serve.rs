//! All doors in a tokio program of one's own, beside a route of that program: HTTP, MCP at `/mcp`, and a
//! worker, over what is installed in a folder.
//!
//! ```console
//! $ cargo build --release -p text-stats --target wasm32-wasip2
//! $ cargo run --release --example serve -- target/wasm32-wasip2/release/text_stats.wasm
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use skillhost::audit::{Audit, AuditSettings};
use skillhost::policy::Approving;
use skillhost::policy::guard::Guards;
use skillhost::queue::{Queue, Worker};
use skillhost::serve::mcp::{McpServer, Tasks};
use skillhost::serve::{Server, Service, guarded, mcp_route};
use skillhost::skill::{Library, Package, Packages};
use skillhost::{Host, InstalledSkills};
use tokio::net::TcpListener;

/// The largest component that is read, in bytes.
const MAX_COMPONENT: u64 = 64 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a skill")?;
    let folder = std::env::temp_dir().join(format!("skillhost-example-{}", std::process::id()));
    let host = Host::builder().build()?;
    let policy = host.current_policy().clone();
    let skills = InstalledSkills::builder(host, Library::new(folder.join("skills")))
        .packages(Packages::new(folder.join("packages")))
        .build();
    let installed = skills
        .install(Package::read(Path::new(&path), MAX_COMPONENT)?, false)
        .await?;
    let queue = Queue::open(folder.join("queue.db"))?;

    // What every door and the worker execute with: the skills, behind what the policy says. What a rule
    // asks about waits in the queue for an answer, and everything is written down.
    let audit = Arc::new(Audit::open(folder.join("audit"), AuditSettings::default())?);
    let breakers = policy.breakers();
    let (current, approvals, written) = (policy.clone(), queue.clone(), audit.clone());
    let execute = Guards::new(policy)
        .approval(move |inner| {
            Arc::new(Approving::new(inner, current, Arc::new(approvals)).audit(written))
        })
        .audit(audit.clone(), false)
        .around(Arc::new(skills.clone()));
    let service = Service::builder(execute, queue.clone())
        .skills(skills.clone())
        .breakers(breakers)
        .audit(audit.clone(), false)
        .build()?;
    // The service's own executor counts for the metrics.
    let agents = McpServer::builder(service.executor(), skills)
        .tasks(Tasks::new(queue.clone()).audit(audit, false))
        .build();
    // What is added passes the same checks as the routes of the door.
    let own = Router::new().route("/hello", get(async || "hello"));
    let router = guarded(&service, mcp_route(&service, &agents).merge(own));
    let worker = Worker::builder(queue).execute(service.executor()).build();

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    println!("curl -s http://{address}/v1/executions -H 'content-type: application/json' \\");
    let name = &installed.name;
    println!("    -d '{{\"skill\": \"{name}\", \"input\": {{\"text\": \"to be\"}}}}'");
    println!("for an agent: {{\"type\": \"http\", \"url\": \"http://{address}/mcp\"}}");

    let stop = || async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let server = Server::new(service, router);
    let (_, done) = tokio::join!(
        server.run(listener, stop(), std::future::pending()),
        worker.run(stop()),
    );
    agents.idle().await;
    println!("{} jobs completed", done?.completed);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
