//! The door for HTTP in a tokio program of one's own, beside a route of that program.
//!
//! ```console
//! $ cargo build --release -p text-stats --target wasm32-wasip2
//! $ cargo run --release --example serve -- target/wasm32-wasip2/release/text_stats.wasm
//! ```

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use skillhost::Host;
use skillhost::queue::{Queue, Worker};
use skillhost::serve::{Server, Service, guarded};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a skill")?;
    let host = Host::builder().build()?;
    let skill = host.load(path).await?;
    let folder = std::env::temp_dir().join(format!("skillhost-example-{}", std::process::id()));
    let queue = Queue::open(folder.join("queue.db"))?;

    let service = Service::builder(Arc::new(host), queue.clone()).build()?;
    // What is added passes the same checks as the routes of the door.
    let own = Router::new().route("/hello", get(async || "hello"));
    let router = guarded(&service, own);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    println!("curl -s http://{address}/v1/executions -H 'content-type: application/json' \\");
    println!(
        "    -d '{{\"skill\": \"{}\", \"input\": {{\"text\": \"to be\"}}}}'",
        skill.digest()
    );

    let stop = || async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let worker = Worker::builder(queue).execute(service.executor()).build();
    let server = Server::new(service, router);
    let (_, done) = tokio::join!(
        server.run(listener, stop(), std::future::pending()),
        worker.run(stop()),
    );
    println!("{} jobs completed", done?.completed);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
