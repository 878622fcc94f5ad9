//! What becomes of a request: success, and each kind of failure.

use serde_json::json;
use skillhost::{Cause, ExecutionRequest, Fault, Status};

use crate::handmade::Handmade;
use crate::harness::NONE;
use crate::harness::{
    cause, check_undisturbed, execute, host, load, output, request, run, run_handmade,
};

#[tokio::test]
async fn a_success_has_output_identity_and_limits() {
    let skill = host()
        .load(crate::harness::behaviours_path())
        .await
        .unwrap();
    let result = run(host(), "echo", json!({"a": [1, null, "é"]}), NONE).await;
    assert_eq!(output(&result), &json!({"a": [1, null, "é"]}));
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.tool.as_deref(), Some("echo"));
    assert_eq!(result.skill.as_deref(), Some(skill.identity()));
    assert_eq!(
        (&*skill.identity().name, &*skill.identity().version),
        ("behaviours", "1.2.3")
    );
    assert_eq!(result.limits, skillhost::Limits::default());
    let by_name = ExecutionRequest::new("behaviours@1.2.3", json!({})).tool("echo");
    assert_eq!(execute(host(), by_name).await.status, Status::Success);
}

#[tokio::test]
async fn the_guest_knows_its_request_and_its_time() {
    let mut request = request(host(), "context", json!({})).await;
    request.attempt = 7;
    let result = execute(host(), request.clone()).await;
    assert_eq!(result.request_id, request.request_id);
    assert_eq!(
        output(&result)["request_id"],
        request.request_id.to_string()
    );
    assert_eq!(output(&result)["attempt"], 7);
    let left = output(&result)["left_ms"].as_u64().unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_skill_may_fail_in_its_own_words() {
    let input =
        json!({"message": "no\u{1b}[31m such\nrow", "code": "E7", "details": "{\"row\": 3}"});
    let result = run(host(), "fail", input, NONE).await;
    let failure = result.failure.unwrap();
    assert_eq!(result.status, Status::Failed);
    assert_eq!(failure.fault, Fault::Skill);
    assert_eq!(failure.message, "the skill failed: no\\u{1b}[31m such\nrow");
    assert_eq!(
        failure.cause,
        Cause::SkillError {
            retryable: false,
            retry_after_ms: None,
            code: Some("E7".into()),
            details: Some(json!({"row": 3})),
        }
    );
}

#[tokio::test]
async fn a_skill_may_ask_to_be_tried_again() {
    const DAY: u64 = 86_400_000;
    for (after, told) in [
        (None, None),
        (Some(1500), Some(1500)),
        (Some(DAY), Some(DAY)),
        (Some(DAY + 1), Some(DAY)),
    ] {
        let input = json!({ "after_ms": after });
        let result = run(host(), "fail_to_retry", input, NONE).await;
        assert_eq!(
            cause(&result),
            &Cause::SkillError {
                retryable: true,
                retry_after_ms: told,
                code: None,
                details: None,
            }
        );
    }
}

#[tokio::test]
async fn an_input_may_be_refused_by_the_schema_or_by_the_skill() {
    let result = run(host(), "sleep", json!({"ms": -1}), NONE).await;
    assert_eq!(
        cause(&result),
        &Cause::InvalidInput {
            pointer: "/ms".into()
        }
    );
    assert_eq!(result.failure.as_ref().unwrap().fault, Fault::Input);

    let result = run(host(), "sleep", json!({"mss": 1}), NONE).await;
    let failure = result.failure.unwrap();
    assert_eq!(
        failure.hint.as_deref(),
        Some("did you mean `ms`?"),
        "{}",
        failure.message
    );

    let result = run(host(), "sleep", json!([1]), NONE).await;
    assert!(matches!(cause(&result), Cause::InvalidInput { .. }));

    let result = run(host(), "reject_input", json!({}), NONE).await;
    assert_eq!(
        cause(&result),
        &Cause::InvalidInput {
            pointer: "/a/0".into()
        }
    );
    let failure = result.failure.unwrap();
    assert_eq!(
        failure.message,
        "the input does not fit at `/a/0`: not like this"
    );
}

#[tokio::test]
async fn a_tool_that_is_not_there_is_suggested() {
    let result = run(host(), "ecko", json!({}), NONE).await;
    let failure = result.failure.as_ref().unwrap();
    assert_eq!(failure.message, "`behaviours` has no tool `ecko`");
    assert_eq!(failure.hint.as_deref(), Some("did you mean `echo`?"));
    let Cause::UnknownTool { available } = cause(&result) else {
        panic!("{failure:?}")
    };
    assert!(available.len() > 30);

    let skill = host()
        .load(crate::harness::behaviours_path())
        .await
        .unwrap();
    let result = execute(host(), ExecutionRequest::new(skill.digest(), json!({}))).await;
    let failure = result.failure.unwrap();
    assert_eq!(
        failure.message,
        "`behaviours` has several tools, and none was named"
    );

    // The only tool needs no name.
    let skill = load(host(), &Handmade::default()).await;
    let result = execute(host(), ExecutionRequest::new(skill.digest(), json!({}))).await;
    assert_eq!(result.tool.as_deref(), Some("run"));
    assert_eq!(result.status, Status::Success);

    // A skill that contradicts itself.
    let result = run(host(), "unknown_tool", json!({}), NONE).await;
    let Cause::SkillError { code, .. } = cause(&result) else {
        panic!("{result:?}");
    };
    assert_eq!(code.as_deref(), Some("unknown_tool"));
}

/// Of a panic, the message has its own words, and their place in the source; of another trap, the author's
/// function and not the standard library's.
#[tokio::test]
async fn a_trap_says_where() {
    let result = run(host(), "panic", json!({"message": "ouch"}), NONE).await;
    let failure = result.failure.as_ref().unwrap();
    assert!(
        result.stderr.contains("told to panic: ouch"),
        "{}",
        result.stderr
    );
    let Cause::Trap { trap, backtrace } = cause(&result) else {
        panic!("{failure:?}")
    };
    assert_eq!(trap, "unreachable_code_reached");
    assert!(
        backtrace
            .iter()
            .any(|frame| frame.function.contains("Behaviours as") && frame.offset.is_some()),
        "{backtrace:?}"
    );
    let said = failure.message.strip_prefix("the skill panicked at `");
    let said = said.and_then(|said| said.split_once("`: "));
    let (place, words) = said.unwrap_or_else(|| panic!("{}", failure.message));
    assert!(place.contains("behaviours/src/lib.rs:"), "{place}");
    assert_eq!(words, "told to panic: ouch");
    assert_eq!(failure.hint, None);

    let named = Handmade {
        fields: r#"(func $divide_by (param i32) (result i32)
            (i32.div_u (i32.const 7) (local.get 0)))"#
            .into(),
        execute: "(call $divide_by (i32.const 0))".into(),
        ..Handmade::default()
    };
    let result = run_handmade(&named, NONE).await;
    let failure = result.failure.as_ref().unwrap();
    assert_eq!(
        failure.message,
        "the skill trapped: integer divide by zero in `divide_by`"
    );
    let Cause::Trap { trap, backtrace } = cause(&result) else {
        panic!("{failure:?}")
    };
    assert_eq!(trap, "integer_division_by_zero");
    assert_eq!(backtrace[0].function, "divide_by");
    assert_eq!(backtrace[0].module.as_deref(), Some("main"));
    check_undisturbed(host()).await;
}

/// A stack that a compiler keeps in memory ends where memory begins: what reaches past that, in a function
/// that called itself again and again, may have overflowed it. Nothing is said of what reaches elsewhere.
#[tokio::test]
async fn a_stack_in_memory_may_have_overflowed() {
    let reaching = |step: i32, calls_itself: bool| Handmade {
        fields: format!(
            "(func $deeper (param $at i32)
                (i32.store (local.get $at) (i32.const 1))
                {})",
            match calls_itself {
                true => format!("(call $deeper (i32.sub (local.get $at) (i32.const {step})))"),
                false => String::new(),
            }
        ),
        execute: match calls_itself {
            true => "(call $deeper (i32.const 32768)) (i32.const 0)".into(),
            false => "(call $deeper (i32.const -16)) (i32.const 0)".into(),
        },
        ..Handmade::default()
    };
    let failure = async |step, calls_itself| {
        let result = run_handmade(&reaching(step, calls_itself), NONE).await;
        let failure = result.failure.unwrap();
        assert_eq!(
            failure.message,
            "the skill trapped: out of bounds memory access in `deeper`"
        );
        failure.hint
    };
    let hint = failure(4096, true).await.unwrap();
    assert!(
        hint.starts_with("it reached below the beginning of its memory, with `deeper` 10 times"),
        "{hint}"
    );
    // Upwards, and at once.
    assert_eq!(failure(-4096, true).await, None);
    assert_eq!(failure(0, false).await, None);
}

#[tokio::test]
async fn what_is_not_loaded_is_said() {
    let result = execute(host(), ExecutionRequest::new("nobody@1.0.0", json!({}))).await;
    assert_eq!(cause(&result), &Cause::NotLoaded);
    assert_eq!(
        result.failure.unwrap().message,
        "no skill `nobody@1.0.0` is loaded"
    );
    assert_eq!(result.skill, None);
}
