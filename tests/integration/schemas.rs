//! Schemas are a skill's own, and are checked by the host, outside of fuel and memory limits. So
//! what a hostile one can cost must be bounded, too.

use std::time::{Duration, Instant};

use serde_json::json;
use skillhost::skill::DescriptionError;
use skillhost::{ExecutionRequest, LimitOverrides, LoadError};

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
