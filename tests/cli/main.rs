//! Tests of the command, as its users see it: exit code, standard output, standard error.
//!
//! `SNAPSHOTS=overwrite cargo test --profile quick --test cli` writes what the command says now into the
//! tests; then read the difference.

#[path = "../integration/handmade.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, and each uses its part"
)]
mod handmade;
mod harness;
#[path = "../mcp/installed.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of MCP, and each uses its part"
)]
mod installed;
mod mounts;
#[path = "../integration/network/tls.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, and each uses its part"
)]
mod tls;

mod help;

mod each_limit;
mod input;
mod limits;
mod output;
mod run;
mod source;

mod apart;
mod attachments;
mod dry_run;
mod grants;
mod hints;
mod network;
mod policy;
mod secrets;
mod storage;

mod find;
mod inspect;
mod library;
mod new;

mod doctor;
mod hostile;

mod compiling;
mod interrupt;
mod terminal;

#[path = "../queue/postgres/mod.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the queue, and each uses its part"
)]
mod postgres;

mod approvals;
mod audit;
mod jobs;
mod queues;
mod retries;
mod scenario;
mod schedules;
mod worker;

mod agent;
mod embedding;
mod examples;
mod languages;
mod readme;
mod tour;
