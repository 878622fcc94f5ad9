//! A hostile guest for each limit: the same guest that succeeds within it is stopped past it.

mod chatter;
pub(super) mod counted;
mod files;
mod judge;
pub(super) mod network;
mod time;

use super::check::{Finding, Kind};
use super::grants::storage;
use super::ground::{Ground, Probe, Trouble};
use crate::execution::BoxFuture;

/// One entry or more for each field of `Limits`; a test sees to that.
pub(super) const PROBES: &[Probe] = &[
    limit("fuel", "a loop without end", |ground| {
        Box::pin(counted::fuel(ground))
    }),
    limit("memory_bytes", "growing one memory", |ground| {
        Box::pin(counted::memory(ground))
    }),
    limit("memory_bytes", "growing two memories in turn", |ground| {
        Box::pin(counted::memories(ground))
    }),
    limit("memory_bytes", "globals in many instances", |ground| {
        Box::pin(counted::contexts(ground))
    }),
    limit("table_elements", "growing two tables in turn", |ground| {
        Box::pin(counted::tables(ground))
    }),
    limit("instances", "consisting of 61 instances", |ground| {
        Box::pin(counted::instances(ground))
    }),
    limit("wall_time_ms", "a loop without end", |ground| {
        Box::pin(time::computing(ground))
    }),
    limit("wall_time_ms", "code that does not yield", |ground| {
        Box::pin(time::not_yielding(ground))
    }),
    limit("wall_time_ms", "waiting on a clock for ever", |ground| {
        Box::pin(time::waiting(ground))
    }),
    limit("wall_time_ms", "waiting on a silent server", |ground| {
        Box::pin(time::silent_server(ground))
    }),
    limit("wall_time_ms", "calling the host without end", |ground| {
        Box::pin(time::calling(ground))
    }),
    limit("wall_time_ms", "filling its memory at once", |ground| {
        Box::pin(time::filling(ground))
    }),
    limit("deadline", "a loop without end", |ground| {
        Box::pin(time::deadline(ground))
    }),
    limit("input_bytes", "an input a byte too long", |ground| {
        Box::pin(counted::input(ground))
    }),
    limit("output_bytes", "answering with a long text", |ground| {
        Box::pin(counted::output(ground))
    }),
    limit("attachment_bytes", "the same bytes many times", |ground| {
        Box::pin(counted::attachments(ground))
    }),
    limit("stdout_bytes", "printing without end", |ground| {
        Box::pin(chatter::stdout(ground))
    }),
    limit("stderr_bytes", "printing without end", |ground| {
        Box::pin(chatter::stderr(ground))
    }),
    limit("log_bytes", "logging without end", |ground| {
        Box::pin(chatter::log(ground))
    }),
    limit("progress_bytes", "reporting without end", |ground| {
        Box::pin(chatter::progress(ground))
    }),
    limit("host_bytes", "a long text in one call", |ground| {
        Box::pin(counted::host_bytes(ground))
    }),
    limit("handles", "opening clocks, closing none", |ground| {
        Box::pin(counted::handles(ground))
    }),
    limit("open_files", "opening, and closing none", |ground| {
        Box::pin(files::open(ground))
    }),
    limit("created_files", "making symlinks", |ground| {
        Box::pin(files::created(ground))
    }),
    limit("write_bytes", "writing a long file", |ground| {
        Box::pin(files::written(ground))
    }),
    limit("connections", "connecting again and again", |ground| {
        Box::pin(network::connections(ground))
    }),
    limit(
        "http_request_bytes",
        "a request with a long path",
        |ground| Box::pin(network::request_bytes(ground)),
    ),
    limit(
        "http_response_bytes",
        "an answer with a long head",
        |ground| Box::pin(network::response_bytes(ground)),
    ),
    limit("http_fields_bytes", "a head with a long field", |ground| {
        Box::pin(network::fields(ground))
    }),
    limit("socket_sent_bytes", "sending byte by byte", |ground| {
        Box::pin(network::sent(ground))
    }),
    limit("socket_read_bytes", "receiving byte by byte", |ground| {
        Box::pin(network::received(ground))
    }),
    limit("storage_keys", "keeping one key more", |ground| {
        Box::pin(storage::keys(ground))
    }),
    limit("storage_bytes", "keeping a byte too many", |ground| {
        Box::pin(storage::bytes(ground))
    }),
    limit("storage_value_bytes", "a value a byte too long", |ground| {
        Box::pin(storage::value_bytes(ground))
    }),
    limit("stack_bytes", "recursion without end", |ground| {
        Box::pin(counted::stack(ground))
    }),
];

const fn limit(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Limit,
        name,
        tried,
        probe,
    }
}
