//! The door for HTTP: real servers, on ports of their own, and real clients.

mod answers;
mod approvals;
mod bounds;
mod client;
mod configured;
mod executions;
mod idempotency;
mod jobs;
mod limits;
mod load;
mod mcp;
mod news;
mod policies;
mod process;
mod routes;
mod server;
mod shared;
mod strangers;
mod stream;
mod tenants;
mod watching;
mod who;

#[path = "../integration/handmade.rs"]
#[allow(dead_code, reason = "the tests of the host use all of it")]
mod handmade;
#[path = "../integration/harness.rs"]
#[allow(dead_code, reason = "the tests of the host use all of it")]
mod harness;
#[path = "../queue/postgres/mod.rs"]
#[allow(dead_code, reason = "the tests of the queue use all of it")]
mod postgres;
