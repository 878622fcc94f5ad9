//! What calls answer: values, and failures of each kind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

/// Answers with a plain value.
#[tool]
fn plain(number: u32) -> (u32, Option<u32>) {
    (number, None)
}

/// Answers with nothing.
#[tool]
fn nothing() -> Result<(), Failure> {
    Ok(())
}

/// Parses a number; any error becomes a failure.
#[tool]
fn parse(text: String) -> Result<u32, Failure> {
    Ok(text.parse()?)
}

/// Has an error type of its own.
#[tool]
fn own_error() -> Result<u32, Outer> {
    Err(Outer(Inner))
}

/// Has an alias for its result.
#[tool]
fn alias(fail: bool) -> std::io::Result<u32> {
    if fail {
        Err(std::io::Error::other("disk full"))
    } else {
        Ok(1)
    }
}

/// Fails as it is told.
#[tool]
fn fail(kind: String) -> Result<(), Failure> {
    Err(match kind.as_str() {
        "input" => Failure::invalid_input("/kind", "not that one"),
        "retry" => Failure::retry("busy").after(Duration::from_millis(1500)),
        _ => Failure::error("broken")
            .code("broken")
            .details(json!({ "part": 1 })),
    })
}

/// Answers with what JSON cannot say.
#[tool]
fn unwritable() -> BTreeMap<(u8, u8), u8> {
    BTreeMap::from([((1, 2), 3)])
}

skills_sdk::skill! {
    tools: [plain, nothing, parse, own_error, alias, fail, unwritable],
    name: "answers", description: "Answers.",
}

#[derive(Debug)]
struct Outer(Inner);

#[derive(Debug)]
struct Inner;

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot open the door")
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key is lost")
    }
}

impl std::error::Error for Inner {}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn call(tool: &str, input: Value) -> Result<Value, Failure> {
    skill().call(tool, input, &TestContext::new())
}

#[test]
fn plain_value_is_the_answer() {
    assert_eq!(call("plain", json!({ "number": 7 })), Ok(json!([7, null])));
    assert_eq!(call("nothing", json!({})), Ok(Value::Null));
}

#[test]
fn function_stays_a_function() {
    assert_eq!(plain(7), (7, None));
    assert_eq!(parse("8".to_owned()), Ok(8));
}

#[test]
fn error_becomes_a_failure() {
    assert_eq!(
        call("parse", json!({ "text": "x" })),
        Err(Failure::error("invalid digit found in string"))
    );
    assert_eq!(
        call("own_error", json!({})),
        Err(Failure::error("cannot open the door: the key is lost"))
    );
}

#[test]
fn alias_of_result_may_fail() {
    assert_eq!(call("alias", json!({ "fail": false })), Ok(json!(1)));
    assert_eq!(
        call("alias", json!({ "fail": true })),
        Err(Failure::error("disk full"))
    );
}

#[test]
fn failure_arrives_whole() {
    assert_eq!(
        call("fail", json!({ "kind": "input" })),
        Err(Failure::InvalidInput {
            pointer: "/kind".to_owned(),
            message: "not that one".to_owned(),
        })
    );
    assert_eq!(
        call("fail", json!({ "kind": "retry" })),
        Err(Failure::Retryable {
            message: "busy".to_owned(),
            after: Some(Duration::from_millis(1500)),
        })
    );
    assert_eq!(
        call("fail", json!({ "kind": "error" })),
        Err(Failure::Error {
            message: "broken".to_owned(),
            code: Some("broken".to_owned()),
            details: Some(json!({ "part": 1 })),
        })
    );
}

#[test]
fn answer_without_json_form_is_an_error() {
    assert_eq!(
        call("unwritable", json!({})),
        Err(Failure::error(
            "the answer has no JSON form: key must be a string"
        ))
    );
}

#[test]
fn failure_reads_as_a_sentence() {
    let text = |failure: Failure| failure.to_string();
    assert_eq!(text(Failure::UnknownTool), "the skill has no such tool");
    assert_eq!(
        text(Failure::invalid_input("", "empty")),
        "invalid input: empty"
    );
    assert_eq!(
        text(Failure::invalid_input("/a/0", "too long")),
        "invalid input at /a/0: too long"
    );
    assert_eq!(text(Failure::retry("busy")), "busy");
}

#[test]
fn what_does_not_apply_changes_nothing() {
    let failure = Failure::retry("busy").code("c").details(json!(1));
    assert_eq!(failure, Failure::retry("busy"));
    let failure = Failure::error("broken").after(Duration::from_secs(1));
    assert_eq!(failure, Failure::error("broken"));
}
