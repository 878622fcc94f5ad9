//! What a queue does, each figure beside a floor of the same run.
//!
//! - `through`: jobs a second from submission to settlement, on SQLite and on PostgreSQL; without work
//!   and with a sandboxed execution in each; beside bare clients that write the same rows in batches
//!   of the same size.
//! - `claim`: what taking jobs costs with a thousand waiting, and with a million of which all but a
//!   few cannot start.
//! - `latency`: from submission to start on an idle queue, within a process and between two.
//! - `apalis`: jobs a second queued and worked off, beside `apalis-sqlite`; only where `APALIS` names
//!   its program, which `cargo build --release --manifest-path benches/apalis/Cargo.toml` makes as
//!   `benches/apalis/target/release/bench-apalis`.
//!
//! `cargo bench --bench queue`, with `-- --smoke` to see only whether it works, and with the name of a
//! part to run that alone.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "shared with the tests, and each uses its part")]
#[path = "../../tests/queue/postgres/mod.rs"]
mod postgres;

mod apalis;
mod claim;
mod floor;
mod larger;
mod latency;
mod through;

use std::process::ExitCode;

use ::skillhost::queue::{HandlerFailure, Queue, Task};
use postgres::{Durability, Postgres};

/// Where a queue is kept while it is measured.
pub enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Place {
    /// A file that is not there yet.
    pub fn sqlite() -> Self {
        Place::Sqlite(tempfile::tempdir().expect("a folder"))
    }

    /// A new database on the server.
    pub async fn postgres(server: &Postgres) -> Self {
        let database = server.database().await;
        let url = database.url();
        // It goes with the server.
        std::mem::forget(database);
        Place::Postgres(url)
    }

    pub fn url(&self) -> String {
        match self {
            Place::Sqlite(folder) => folder.path().join("queue.db").display().to_string(),
            Place::Postgres(url) => url.clone(),
        }
    }

    pub async fn queue(&self) -> Queue {
        Queue::at(&self.url()).await.expect("a queue")
    }
}

/// Does nothing.
pub async fn nothing(_: Task) -> Result<serde_json::Value, HandlerFailure> {
    Ok(serde_json::Value::Null)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if let [first, url, count, ..] = arguments.as_slice()
        && first == "latency-submitter"
    {
        runtime.block_on(latency::submit(url, count.parse().expect("a number")));
        return ExitCode::SUCCESS;
    }
    let parts = ["through", "claim", "latency", "apalis"];
    let apalis = apalis::program();
    let wanted: Vec<&str> = parts
        .into_iter()
        .filter(|part| arguments.iter().any(|argument| argument == part))
        .collect();
    assert!(
        apalis.is_some() || !wanted.contains(&"apalis"),
        "`apalis` needs APALIS, the path of its program"
    );
    let wanted = if wanted.is_empty() {
        parts.to_vec()
    } else {
        wanted
    };
    let server = Postgres::start(Durability::Full);
    let mut figures = serde_json::Map::new();
    figures.insert("benchmark".to_owned(), "queue".into());
    for part in wanted {
        let figure = match part {
            "through" => through::measure(&runtime, &server),
            "claim" => claim::measure(&runtime, &server),
            "latency" => latency::measure(&runtime, &server),
            _ => match &apalis {
                Some(program) => apalis::measure(&runtime, program),
                None => continue,
            },
        };
        figures.insert(part.to_owned(), figure);
    }
    support::finish(serde_json::Value::Object(figures))
}
