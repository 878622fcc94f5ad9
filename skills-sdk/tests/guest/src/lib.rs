//! A skill that uses all that the SDK gives a tool, for `tests/integration/sdk.rs`, which runs it in the
//! sandbox.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use skills_sdk::prelude::*;

/// What a tool learned from its context.
#[derive(Serialize, JsonSchema)]
pub struct Learned {
    request_id: String,
    attempt: u32,
    /// Before the deadline was asked for.
    time_left_ms: u64,
    /// From now to the deadline.
    deadline_ms: u64,
    name: Option<String>,
    width: u32,
    /// The bytes of the attachment `second`, where there is one.
    second: Option<usize>,
}

/// Tells the host all that a context can tell, and says what it learned from it.
///
/// Gives back a copy of each attachment.
#[tool(
    title = "Use the context",
    read_only,
    destructive = false,
    idempotent,
    open_world = false
)]
pub fn use_context(
    /// What is logged.
    word: String,
    ctx: &Context,
) -> Result<Learned, Failure> {
    ctx.trace("trace");
    ctx.debug("debug");
    ctx.info(format_args!("info {word}"));
    ctx.warn("warn");
    ctx.error("error");
    ctx.log(Level::Info, 'i');
    ctx.progress(None, "starting");
    ctx.progress(12.5, "reading");
    ctx.progress_with(Some(100.0), "done", &json!({ "pages": 3 }));
    ctx.add_tokens(10, 20);
    ctx.add_tokens(1, 2);
    for attachment in ctx.attachments() {
        ctx.attach(Attachment::new(
            format!("copy of {}", attachment.name),
            &attachment.media_type,
            attachment.data.clone(),
        ));
    }
    let time_left_ms = milliseconds(ctx.time_left());
    Ok(Learned {
        request_id: ctx.request_id().to_owned(),
        attempt: ctx.attempt(),
        time_left_ms,
        deadline_ms: milliseconds(ctx.deadline() - Instant::now()),
        name: ctx.config("name")?,
        width: ctx.config_as("width")?.unwrap_or(80),
        second: ctx.attachment("second").map(|second| second.data.len()),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How to fail.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    UnknownTool,
    InvalidInput,
    Retry,
    RetryAfter,
    Error,
    ErrorWithCode,
    /// By `?`, of an error of the standard library's.
    Other,
}

/// Attaches something, and fails.
#[tool(destructive)]
pub fn fail(kind: Kind, ctx: &Context) -> Result<(), Failure> {
    ctx.attach(Attachment::new("lost", "text/plain", "nobody gets it"));
    Err(match kind {
        Kind::UnknownTool => Failure::UnknownTool,
        Kind::InvalidInput => Failure::invalid_input("/items/2", "not that one"),
        Kind::Retry => Failure::retry("not yet"),
        Kind::RetryAfter => Failure::retry("not yet").after(Duration::from_micros(1_500_900)),
        Kind::Error => Failure::error("no"),
        Kind::ErrorWithCode => Failure::error("no")
            .code("not-found")
            .details(json!({ "id": 7 })),
        Kind::Other => {
            return "seven".parse::<u32>().map(|_| ()).map_err(Failure::from);
        }
    })
}

/// A whole input.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// To a schema they are texts.
    addresses: Vec<Ipv4Addr>,
}

/// Counts the addresses that lead back to the machine.
#[tool]
pub fn count_loopback(#[tool(input)] input: Addresses) -> usize {
    let addresses = input.addresses.iter();
    addresses.filter(|address| address.is_loopback()).count()
}

skills_sdk::skill! { tools: [use_context, fail, count_loopback] }
