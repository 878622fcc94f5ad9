//! Schemas are a skill's own, and are checked by the host, outside of fuel and memory limits. So
//! what a hostile one can cost must be bounded, too, and checking is within the execution's time.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::json;
use skillhost::skill::DescriptionError;
use skillhost::{Control, ExecutionRequest, LimitOverrides, LoadError, Skill, Status};
use tokio_util::sync::CancellationToken;

use crate::handmade::{Answer, Description, Handmade};
use crate::harness::NONE;
use crate::harness::{builder, execute};

/// What loading a skill or checking one value may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

fn skill(output_schema: String, answer: String) -> Handmade {
    Handmade {
        memory: r#"(memory (export "memory") 400)"#.into(),
        realloc: "i32.const 26000000".into(),
        description: Description {
            output_schema: Some(output_schema),
            ..Handmade::default().description
        },
        answer: Answer {
            json: answer.into(),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    }
}

/// Loads a skill and, where it loads, runs it. Neither may take long.
async fn check(what: &str, output_schema: String, answer: String) {
    let host = builder().concurrency(1).build().unwrap();
    let component = skill(output_schema, answer).build();
    let began = Instant::now();
    let loaded = host.load_bytes(component).await;
    assert!(
        began.elapsed() < PATIENCE,
        "{what}: loading took {:?}",
        began.elapsed()
    );
    let Ok(skill) = loaded else { return };
    let limits = LimitOverrides {
        wall_time: Some(Duration::from_secs(1)),
        ..NONE
    };
    let began = Instant::now();
    let _ = execute(
        &host,
        ExecutionRequest::new(skill.digest(), json!({})).limits(limits),
    )
    .await;
    assert!(
        began.elapsed() < PATIENCE,
        "{what}: running took {:?}",
        began.elapsed()
    );
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

/// Each is allowed by itself; together they would take a gigabyte.
#[tokio::test]
async fn many_large_patterns_are_refused() {
    let patterns = list(6_000, |n| {
        format!(r#""p{n}":{{"pattern":"[^a]{{150}}{n}"}}"#)
    });
    let schema = format!(r#"{{"properties":{{{patterns}}}}}"#);
    let host = builder().concurrency(1).build().unwrap();
    let error = host
        .load_bytes(skill(schema, "{}".into()).build())
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            LoadError::Description(DescriptionError::Schema { .. })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn many_patterns_for_one_long_text_are_bounded() {
    let patterns = list(4_000, |n| {
        format!(
            r#"{{"not":{{"pattern":"x[a-z]*[0-9]{{{}}}[a-y]{}"}}}}"#,
            n % 100,
            n
        )
    });
    let text = format!(r#""{}""#, "x".repeat(1_000_000));
    check("one text", format!(r#"{{"allOf":[{patterns}]}}"#), text).await;
}

#[tokio::test]
async fn many_patterns_for_many_keys_are_bounded() {
    let patterns = list(15_000, |n| format!(r#""^{n}x":false"#));
    let answer = format!("{{{}}}", list(90_000, |n| format!(r#""k{n}":0"#)));
    check(
        "keys",
        format!(r#"{{"patternProperties":{{{patterns}}}}}"#),
        answer,
    )
    .await;
}

#[tokio::test]
async fn a_long_list_of_choices_for_many_items_is_bounded() {
    let choices = list(30_000, |n| format!(r#""c{n}""#));
    let answer = format!("[{}]", list(140_000, |_| r#""none""#.into()));
    check(
        "enum",
        format!(r#"{{"items":{{"anyOf":[{{"enum":[{choices}]}},{{"type":"string"}}]}}}}"#),
        answer,
    )
    .await;
}

#[tokio::test]
async fn unique_items_are_bounded() {
    let answer = format!("[{}]", list(140_000, |n| n.to_string()));
    check("unique", r#"{"uniqueItems":true}"#.into(), answer).await;
    let answer = format!("[{}]", list(60_000, |n| format!(r#"{{"a":[{n}]}}"#)));
    check("unique objects", r#"{"uniqueItems":true}"#.into(), answer).await;
}

/// Its output takes some tenths of a second to check: whether a number is a multiple of a fraction is worked out in
/// exact fractions.
fn slow() -> Handmade {
    let numbers = list(100_000, |_| "1.7e308".into());
    let schema = r#"{"items": {"multipleOf": 0.1}}"#;
    skill(schema.into(), format!("[{numbers}]"))
}

/// On one thread, which both need.
#[tokio::test]
async fn what_takes_long_to_check_is_in_nobodys_way() {
    let host = builder().concurrency(2).build().unwrap();
    let slow = host.load_bytes(slow().build()).await.unwrap();
    let other = host.load_bytes(Handmade::default().build()).await.unwrap();
    let ended = Mutex::new(Vec::new());
    let run = async |name: &'static str, skill: &Skill| {
        let result = execute(&host, ExecutionRequest::new(skill.digest(), json!({}))).await;
        ended.lock().unwrap().push(name);
        result
    };
    let (checked, _) = tokio::join!(run("slow", &slow), run("other", &other));
    assert_eq!(*ended.lock().unwrap(), ["other", "slow"]);
    // It is the execution's, and counts as that.
    assert_eq!(checked.status, Status::Success);
    let usage = &checked.usage;
    let least = Duration::from_millis(20);
    assert!(usage.cpu_time > least, "{usage:?}");
    assert!(usage.run_time > least, "{usage:?}");
    let parts = usage.instantiation_time + usage.run_time;
    assert_eq!(usage.wall_time, parts, "{usage:?}");
}

#[tokio::test]
async fn a_check_is_cancelled_like_anything_else() {
    let host = builder().concurrency(1).build().unwrap();
    let slow = host.load_bytes(slow().build()).await.unwrap();
    // The guest itself never waits, but may have to take turns.
    loop {
        let token = CancellationToken::new();
        let control = Control::default().cancellation(token.clone());
        let request = ExecutionRequest::new(slow.digest(), json!({}));
        let mut run = pin!(host.execute_with(request, control));
        let first = std::future::poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await;
        assert!(first.is_pending());
        token.cancel();
        let result = run.await.unwrap();
        assert_eq!(result.status, Status::Cancelled);
        let message = result.failure.unwrap().message;
        if message.contains("output was checked") || message.contains("waited to be checked") {
            break;
        }
        assert!(message.contains("the skill ran"), "{message}");
    }
}
