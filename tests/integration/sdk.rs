//! The SDK's side of the contract, as a component in the sandbox: what a tool tells through its context
//! arrives, what it asks is answered, and each of its failures is told from the others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::grant::Grants;
use skillhost::{
    Attachment, Cause, Control, Event, ExecutionRequest, ExecutionResult, Fault, LimitOverrides,
    Skill,
};

use crate::harness::{NONE, cause, check_result, host, output, sdk_guest_path};

const WALL_TIME: Duration = Duration::from_secs(7);

async fn guest() -> Skill {
    host().load(sdk_guest_path()).await.expect("it loads")
}

/// A request for one of its tools.
async fn request(tool: &str, input: Value) -> ExecutionRequest {
    let limits = LimitOverrides {
        wall_time: Some(WALL_TIME),
        ..NONE
    };
    ExecutionRequest::new(guest().await.digest(), input)
        .tool(tool)
        .limits(limits)
}

/// Runs it, and gives the result with what an observer heard in between, as JSON.
async fn observed(request: ExecutionRequest) -> (ExecutionResult, Vec<Value>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let control = Control::default().observer(Arc::new(move |_: uuid::Uuid, event: &Event<'_>| {
        if matches!(event, Event::Log { .. } | Event::Progress(_)) {
            let event = serde_json::to_value(event).expect("an event is JSON");
            hear.lock().expect("nobody panics here").push(event);
        }
    }));
    let result = host().execute_with(request, control).await;
    let result = result.expect("the host is well");
    check_result(&result);
    let heard = heard.lock().expect("nobody panics here").clone();
    (result, heard)
}

#[tokio::test]
async fn a_context_tells_the_host_all_that_it_can() {
    let (result, heard) = observed(
        request("use_context", json!({"word": "é"}))
            .await
            .attach(Attachment::new("first", "text/plain", "abc"))
            .attach(Attachment::new("second", "image/x-ours", [0_u8, 255])),
    )
    .await;
    output(&result);
    let log =
        |level: &str, message: &str| json!({"event": "log", "level": level, "message": message});
    let progress = |percent: Option<f64>, step: &str, details: Option<&str>| json!({"event": "progress", "percent": percent, "step": step, "details": details});
    assert_eq!(
        heard,
        [
            log("trace", "trace"),
            log("debug", "debug"),
            log("info", "info é"),
            log("warn", "warn"),
            log("error", "error"),
            log("info", "i"),
            progress(None, "starting", None),
            progress(Some(12.5), "reading", None),
            progress(Some(100.0), "done", Some(r#"{"pages":3}"#)),
        ]
    );
    let tokens = result.usage.tokens;
    assert_eq!((tokens.input, tokens.output), (11, 22));
    assert_eq!(
        result.attachments,
        [
            Attachment::new("copy of first", "text/plain", "abc"),
            Attachment::new("copy of second", "image/x-ours", [0_u8, 255]),
        ]
    );
}

#[tokio::test]
async fn a_context_is_told_what_it_asks() {
    let mut asked = request("use_context", json!({"word": ""}))
        .await
        .attach(Attachment::new("first", "", []))
        .attach(Attachment::new("second", "", [1_u8, 2, 3]))
        .grants(
            Grants::default()
                .config("name", "ours")
                .config("width", "12"),
        );
    asked.attempt = 3;
    let id = asked.request_id.to_string();
    let (result, _) = observed(asked).await;
    let learned = output(&result);
    assert_eq!(learned["request_id"], id);
    assert_eq!(learned["attempt"], 3);
    assert_eq!(
        (&learned["name"], &learned["width"]),
        (&json!("ours"), &json!(12))
    );
    assert_eq!(learned["second"], 3);
    // It asked some time within the execution, and then for the deadline.
    let milliseconds = |name: &str| {
        let number = learned[name].as_u64().expect("a number");
        Duration::from_millis(number)
    };
    let (left, deadline) = (milliseconds("time_left_ms"), milliseconds("deadline_ms"));
    assert!(deadline <= left && left <= WALL_TIME, "{learned}");
    let least = WALL_TIME.saturating_sub(result.usage.wall_time + Duration::from_millis(2));
    assert!(deadline >= least, "{learned}: {:?}", result.usage);
}

#[tokio::test]
async fn configuration_that_is_not_there_or_does_not_parse() {
    let (result, _) = observed(request("use_context", json!({"word": ""})).await).await;
    let learned = output(&result);
    assert_eq!(
        (&learned["name"], &learned["width"], &learned["second"]),
        (&Value::Null, &json!(80), &Value::Null)
    );
    let grants = Grants::default().config("width", "correct-horse");
    let asked = request("use_context", json!({"word": ""})).await;
    let (result, _) = observed(asked.grants(grants)).await;
    let code = Some("config-invalid".to_owned());
    assert_eq!(
        cause(&result),
        &Cause::SkillError {
            retryable: false,
            retry_after_ms: None,
            code,
            details: None
        }
    );
    let message = &result.failure.as_ref().expect("it failed").message;
    assert!(
        message.contains("`width`") && !message.contains("correct-horse"),
        "{message}"
    );
}

/// Fails in this way, and checks that nothing but the failure comes of it.
async fn failed(kind: &str, message: &str, fault: Fault) -> Cause {
    let (result, _) = observed(request("fail", json!({"kind": kind})).await).await;
    let failure = result.failure.as_ref().unwrap_or_else(|| panic!("{kind}"));
    assert!(failure.message.contains(message), "{}", failure.message);
    assert_eq!(failure.fault, fault, "{kind}");
    assert!(result.attachments.is_empty(), "{kind}");
    failure.cause.clone()
}

#[tokio::test]
async fn each_failure_is_told_from_the_others() {
    let error = |retryable, retry_after_ms, code: Option<&str>, details| Cause::SkillError {
        retryable,
        retry_after_ms,
        code: code.map(str::to_owned),
        details,
    };
    for (kind, message, expected) in [
        ("retry", "not yet", error(true, None, None, None)),
        // In whole milliseconds.
        (
            "retry_after",
            "not yet",
            error(true, Some(1500), None, None),
        ),
        ("error", "no", error(false, None, None, None)),
        (
            "error_with_code",
            "no",
            error(false, None, Some("not-found"), Some(json!({"id": 7}))),
        ),
        (
            "other",
            "invalid digit found in string",
            error(false, None, None, None),
        ),
    ] {
        assert_eq!(
            failed(kind, message, Fault::Skill).await,
            expected,
            "{kind}"
        );
    }
    let pointer = "/items/2".to_owned();
    assert_eq!(
        failed("invalid_input", "not that one", Fault::Input).await,
        Cause::InvalidInput { pointer }
    );
    let denied = failed("unknown_tool", "", Fault::Input).await;
    assert!(matches!(denied, Cause::UnknownTool { .. }), "{denied:?}");
}

/// What the schema cannot say, the SDK checks as it parses.
#[tokio::test]
async fn an_input_that_the_schema_lets_pass_is_checked_in_the_guest() {
    let call = async |addresses: Value| {
        let input = json!({ "addresses": addresses });
        observed(request("count_loopback", input).await).await.0
    };
    let result = call(json!(["127.0.0.1", "10.0.0.1", "127.9.9.9"])).await;
    assert_eq!(output(&result), &json!(2));
    let result = call(json!(["127.0.0.1", "nowhere"])).await;
    let pointer = "/addresses/1".to_owned();
    assert_eq!(cause(&result), &Cause::InvalidInput { pointer });
    assert!(result.usage.fuel > 0, "the host let it pass");
}

#[tokio::test]
async fn it_describes_itself_as_its_author_wrote_it() {
    let skill = guest().await;
    let description = skill.description();
    assert_eq!(
        (description.name.as_str(), description.description.as_str()),
        ("sdk-guest", "Uses all that the SDK gives a tool")
    );
    let [tool, fail, count] = &description.tools[..] else {
        panic!("{:?}", description.tools);
    };
    assert_eq!(tool.title.as_deref(), Some("Use the context"));
    assert_eq!(
        tool.description,
        "Tells the host all that a context can tell, and says what it learned from it.\n\n\
         Gives back a copy of each attachment."
    );
    let effects = |tool: &skillhost::skill::Tool| {
        let effects = &tool.annotations;
        [
            effects.read_only,
            effects.destructive,
            effects.idempotent,
            effects.open_world,
        ]
    };
    assert_eq!(effects(tool), [true, false, true, false]);
    // What is not said is taken as the more dangerous case.
    for (tool, marked) in [(fail, true), (count, false)] {
        assert_eq!(effects(tool), [false, true, false, true]);
        assert_eq!(tool.marked_destructive, marked, "{}", tool.name);
    }
    let schema = &tool.input_schema;
    assert_eq!(
        schema["properties"]["word"]["description"],
        "What is logged."
    );
    assert_eq!(schema["required"], json!(["word"]));
    let answer = count
        .output_schema
        .as_ref()
        .expect("it says what it answers");
    assert_eq!(answer["type"], "integer");
}
