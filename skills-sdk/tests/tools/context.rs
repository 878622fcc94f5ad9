//! What a tool learns from its context, and what it tells through it.

use std::time::Duration;

use skills_sdk::prelude::*;
use skills_sdk::testing::{LogRecord, ProgressReport, TestContext, Tokens};

/// Uses all there is.
#[tool]
fn use_all(ctx: &Context, width: u32) -> Result<String, Failure> {
    ctx.trace("t");
    ctx.debug("d");
    ctx.info(format_args!("width {width}"));
    ctx.warn("w");
    ctx.error("e");
    ctx.log(Level::Info, 'i');
    ctx.progress(None, "starting");
    ctx.progress(12.5, "reading");
    ctx.progress_with(Some(100.0), "done", &json!({ "pages": 3 }));
    ctx.add_tokens(10, 20);
    ctx.add_tokens(1, 2);
    for attachment in ctx.attachments() {
        let name = format!("copy of {}", attachment.name);
        ctx.attach(Attachment::new(
            name,
            &attachment.media_type,
            attachment.data.clone(),
        ));
    }
    Ok(format!("{} {}", ctx.request_id(), ctx.attempt()))
}

/// Reads its configuration.
#[tool]
fn configured(ctx: &Context) -> Result<(Option<String>, u32), Failure> {
    Ok((ctx.config("name")?, ctx.config_as("width")?.unwrap_or(80)))
}

/// Looks at one attachment.
#[tool]
fn size(name: String, ctx: &skills_sdk::Context) -> Option<usize> {
    ctx.attachment(&name)
        .map(|attachment| attachment.data.len())
}

/// Looks at the clock.
#[tool]
fn hurry(ctx: &Context) -> u64 {
    ctx.time_left().as_secs()
}

skills_sdk::skill! {
    tools: [use_all, configured, size, hurry],
    name: "context", description: "Uses its context.",
}

fn log(level: Level, message: &str) -> LogRecord {
    LogRecord {
        level,
        message: message.to_owned(),
    }
}

fn report(percent: Option<f64>, step: &str, details: Option<Value>) -> ProgressReport {
    ProgressReport {
        percent,
        step: step.to_owned(),
        details,
    }
}

#[test]
fn what_is_told_is_recorded() {
    let ctx = TestContext::new()
        .request_id("r-1")
        .attempt(2)
        .attachment(Attachment::new("a.txt", "text/plain", "abc"));
    let answer = skill().call("use_all", json!({ "width": 5 }), &ctx);
    assert_eq!(answer, Ok(json!("r-1 2")));
    assert_eq!(
        ctx.logs(),
        [
            log(Level::Trace, "t"),
            log(Level::Debug, "d"),
            log(Level::Info, "width 5"),
            log(Level::Warn, "w"),
            log(Level::Error, "e"),
            log(Level::Info, "i"),
        ]
    );
    assert_eq!(
        ctx.progress(),
        [
            report(None, "starting", None),
            report(Some(12.5), "reading", None),
            report(Some(100.0), "done", Some(json!({ "pages": 3 }))),
        ]
    );
    assert_eq!(
        ctx.tokens(),
        Tokens {
            input: 11,
            output: 22
        }
    );
    assert_eq!(
        ctx.attached(),
        [Attachment::new("copy of a.txt", "text/plain", "abc")]
    );
}

#[test]
fn configuration_is_read_and_parsed() {
    let call = |ctx: TestContext| skill().call("configured", json!({}), &ctx);
    assert_eq!(call(TestContext::new()), Ok(json!([null, 80])));
    assert_eq!(
        call(TestContext::new().config("name", "n").config("width", "12")),
        Ok(json!(["n", 12]))
    );
    assert_eq!(
        call(TestContext::new().config("width", "secret")),
        Err(
            Failure::error("configuration `width`: invalid digit found in string")
                .code("config-invalid")
        )
    );
}

#[test]
fn attachment_is_found_by_name() {
    let ctx = TestContext::new().attachment(Attachment::new("a.bin", "image/png", [1, 2, 3]));
    let call = |name: &str| skill().call("size", json!({ "name": name }), &ctx);
    assert_eq!(call("a.bin"), Ok(json!(3)));
    assert_eq!(call("b.bin"), Ok(Value::Null));
}

#[test]
fn time_left_counts_down_to_nothing() {
    let hour = TestContext::new().time_limit(Duration::from_secs(3600));
    assert!((3590..=3600).contains(&hurry(&hour)));
    let none = TestContext::new().time_limit(Duration::ZERO);
    assert_eq!(none.time_left(), Duration::ZERO);
    let endless = TestContext::new().time_limit(Duration::MAX);
    assert!(endless.time_left() > Duration::from_secs(1_000_000_000));
}

#[test]
fn attachment_shows_its_size_alone() {
    assert_eq!(
        format!("{:?}", Attachment::new("a", "b/c", [0; 9])),
        r#"Attachment { name: "a", media_type: "b/c", data: 9 bytes }"#
    );
}
