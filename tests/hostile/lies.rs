//! Guests that break the rules of the game: answers that are not what they say they are, or not
//! there at all.

use serde_json::json;
use skillhost::{Cause, Limit, LimitOverrides};

use crate::attack::{Attack, End, NONE, met};
use crate::handmade::{Answer, Description, Handmade};
use crate::measure::alone;

fn that_answers(answer: Answer) -> Attack {
    Attack::by(Handmade {
        answer,
        ..Handmade::default()
    })
}

fn usual() -> Answer {
    Handmade::default().answer
}

const VIOLATION: End<'static> = End::Trap("contract_violation");

#[test]
fn text_that_is_no_text() {
    let _alone = alone();
    for json in [
        &[0xff, 0xfe][..],
        b"\"\xc3\"",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ] {
        that_answers(Answer {
            json: json.to_vec(),
            ..usual()
        })
        .ends_with(VIOLATION);
    }
}

#[test]
fn a_text_that_is_longer_than_the_memory() {
    let _alone = alone();
    for length in [1 << 20, i32::MAX as u32, u32::MAX - 8] {
        that_answers(Answer {
            json_length: Some(length),
            ..usual()
        })
        .ends_with(VIOLATION);
    }
}

#[test]
fn a_list_that_is_longer_than_the_memory() {
    let _alone = alone();
    for list in [
        (0xffff_ff00, 100),
        (8, u32::MAX),
        (8, 0x0aaa_aaab),
        (262_140, 1),
    ] {
        that_answers(Answer {
            attachments: list,
            ..usual()
        })
        .ends_with(VIOLATION);
    }
}

#[test]
fn a_list_that_is_not_aligned() {
    let _alone = alone();
    that_answers(Answer {
        attachments: (3, 1),
        ..usual()
    })
    .ends_with(VIOLATION);
}

#[test]
fn a_case_that_does_not_exist() {
    let _alone = alone();
    for case in [2, 7, 255] {
        that_answers(Answer { case, ..usual() }).ends_with(VIOLATION);
    }
}

#[test]
fn an_answer_that_is_nowhere() {
    let _alone = alone();
    for execute in ["i32.const 3", "i32.const -8", "i32.const 262140"] {
        Attack::by(Handmade {
            execute: execute.into(),
            ..Handmade::default()
        })
        .ends_with(VIOLATION);
    }
}

#[test]
fn memory_that_was_never_allocated() {
    let _alone = alone();
    for realloc in ["i32.const -8", "i32.const 3", "i32.const 262143"] {
        Attack::by(Handmade {
            realloc: realloc.into(),
            ..Handmade::default()
        })
        .ends_with(VIOLATION);
    }
}

/// The host calls the allocator, and that calls the host.
#[test]
fn calls_where_none_are_allowed() {
    let _alone = alone();
    let calls = |realloc: &str, post_return: &str| Handmade {
        realloc: format!("{realloc} i32.const 131072"),
        post_return: post_return.into(),
        ..Handmade::that_calls()
    };
    let log = "(call $log (i32.const 2) (i32.const 0) (i32.const 10))";
    Attack::by(calls(log, "")).ends_with(End::Trap("cannot_leave_component"));
    let after = format!("(if (i32.eq (local.get 0) (i32.const $answer)) (then {log}))");
    Attack::by(calls("", &after)).ends_with(End::Trap("cannot_leave_component"));
}

/// A handle that was given back, one that was never given, and one of another kind.
#[test]
fn handles_that_are_not_held() {
    let _alone = alone();
    for execute in [
        "(local $p i32) (local.set $p (call $subscribe (i64.const 1)))
            (call $drop (local.get $p)) (call $drop (local.get $p))",
        "(local $p i32) (local.set $p (call $subscribe (i64.const 1)))
            (call $drop (local.get $p)) (call $block (local.get $p))",
        "(call $block (i32.const 7))",
        "(call $drop (i32.const -1))",
    ] {
        Attack::by(Handmade {
            execute: format!("{execute} i32.const $answer"),
            ..Handmade::that_calls()
        })
        .ends_with(VIOLATION);
    }
}

#[test]
fn a_level_that_does_not_exist() {
    let _alone = alone();
    Attack::by(Handmade {
        execute: "(call $log (i32.const 5) (i32.const 0) (i32.const 1)) i32.const $answer".into(),
        ..Handmade::that_calls()
    })
    .ends_with(VIOLATION);
}

/// Text beyond the memory's end, handed to the host.
#[test]
fn an_argument_that_is_nowhere() {
    let _alone = alone();
    for (pointer, length) in [(8_388_600, 9), (-1, 1), (1, -1)] {
        Attack::by(Handmade {
            execute: format!(
                "(call $log (i32.const 2) (i32.const {pointer}) (i32.const {length}))
                i32.const $answer"
            ),
            ..Handmade::that_calls()
        })
        .ends_with(VIOLATION);
    }
}

fn large_output() -> LimitOverrides {
    LimitOverrides {
        output_bytes: Some(8 << 20),
        ..NONE
    }
}

#[test]
fn output_that_is_no_json() {
    let _alone = alone();
    for text in [
        "not JSON",
        "",
        "{} {}",
        "\u{feff}{}",
        "NaN",
        "{\"a\": 1e99999}",
        "'a'",
        "[1,]",
    ] {
        let result =
            Attack::with("answer", json!({ "json": text })).ends_with(End::InvalidOutput(""));
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains("cannot be read"), "{failure}");
    }
}

/// Small as a text, large as values.
#[test]
fn output_that_blows_up() {
    let _alone = alone();
    for (text, message) in [
        (
            format!("[{}0]", "0,".repeat(1_500_000)),
            "values; 1000000 are allowed",
        ),
        (
            format!("{{{}\"a\":0}}", "\"\":0,".repeat(700_000)),
            "values; 1000000 are allowed",
        ),
        (
            format!("[{}0]", "{\"\":0},".repeat(149_000)),
            "bytes of memory; 67108864 are allowed",
        ),
        (
            format!("[{}0]", "[0],".repeat(349_000)),
            "bytes of memory; 67108864 are allowed",
        ),
        (
            // What the host would read once more, after it was looked at.
            format!(
                "{{\"$serde_json::private::RawValue\":\"[{}0]\"}}",
                "[],".repeat(1_500_000)
            ),
            "mean something to the host",
        ),
    ] {
        let result = Attack::with("answer", json!({ "json": text }))
            .under(large_output())
            .ends_with(End::InvalidOutput(""));
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains(message), "{failure}");
    }
}

#[test]
fn output_that_is_nested_deeply() {
    let _alone = alone();
    for text in [
        format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)),
        "[".repeat(4_000_000),
        "{\"a\":".repeat(800_000),
    ] {
        let result = Attack::with("answer", json!({ "json": text }))
            .under(large_output())
            .ends_with(End::InvalidOutput(""));
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains("recursion limit"), "{failure}");
    }
}

#[test]
fn output_that_does_not_fit_its_own_schema() {
    let _alone = alone();
    Attack::with("answer", json!({"json": "[1]"})).ends_with(End::InvalidOutput(""));
    let within = Handmade {
        description: Description {
            output_schema: Some(r#"{"properties": {"a": {"items": {"type": "integer"}}}}"#.into()),
            ..Handmade::default().description
        },
        answer: Answer {
            json: br#"{"a": [1, "two"]}"#.to_vec(),
            ..usual()
        },
        ..Handmade::default()
    };
    Attack::by(within).ends_with(End::InvalidOutput("/a/1"));
}

/// What is wrong with each item by each alternative, with the path to it written out, would be gigabytes.
#[test]
fn output_that_fits_no_alternative() {
    let _alone = alone();
    let schema = r#"{"anyOf": [{"additionalProperties": {"items": {"type": "string"}}},
        {"type": "string"}]}"#;
    let of = |key: usize, items: usize| Handmade {
        memory: r#"(memory (export "memory") 400)"#.into(),
        realloc: "i32.const 26000000".into(),
        description: Description {
            output_schema: Some(schema.into()),
            ..Handmade::default().description
        },
        answer: Answer {
            json: format!(r#"{{"{}": [{}1]}}"#, "k".repeat(key), "1,".repeat(items)).into(),
            ..usual()
        },
        ..Handmade::default()
    };
    for (key, items) in [(100_000, 20_000), (250_000, 250_000), (10, 300_000)] {
        let result = Attack::by(of(key, items)).ends_with(End::InvalidOutput(""));
        let failure = result.failure.expect("it failed");
        assert!(
            failure.message.contains("too large to say where"),
            "{failure}"
        );
    }
    // Of what is small it is said, by the alternative that was meant: it is an object.
    let result = Attack::by(of(10, 3)).ends_with(End::InvalidOutput("/kkkkkkkkkk/0"));
    let failure = result.failure.expect("it failed");
    let said = "1 is not of type \"string\"";
    assert!(failure.message.ends_with(said), "{failure}");
}

/// It describes a tool, and then has none of that name.
#[test]
fn a_tool_that_is_denied() {
    let _alone = alone();
    Attack::with("unknown_tool", json!({})).ends_with(End::SkillError);
}

/// It exits, well or badly, and answers nothing.
#[test]
fn an_exit_in_place_of_an_answer() {
    let _alone = alone();
    for (code, said) in [
        (0, "the skill exited instead of answering"),
        (3, "the skill exited with a failure instead of answering"),
    ] {
        let result = Attack::with("exit", json!({ "code": code })).ends_with(End::Trap("exit"));
        let failure = result.failure.expect("it failed");
        assert_eq!(failure.message, said);
    }
}

#[test]
fn a_panic() {
    let _alone = alone();
    let result = Attack::with("panic", json!({"message": "ouch"}))
        .ends_with(End::Trap("unreachable_code_reached"));
    assert!(
        result.stderr.contains("told to panic: ouch"),
        "{}",
        result.stderr
    );
}

/// An hour that a skill asks for is a wish, whatever its length.
#[test]
fn a_wish_to_be_tried_again_at_the_end_of_time() {
    let _alone = alone();
    let result =
        Attack::with("fail_to_retry", json!({"after_ms": u64::MAX})).ends_with(End::SkillError);
    let Some(Cause::SkillError { retry_after_ms, .. }) = result.failure.map(|f| f.cause) else {
        unreachable!()
    };
    assert_eq!(retry_after_ms, Some(86_400_000), "a day");
}

/// More tokens than there are numbers for, and a percentage that is none.
#[test]
fn figures_that_are_none() {
    let _alone = alone();
    let most = json!({"input": u64::MAX, "output": u64::MAX});
    let result = Attack::with("add_tokens", most).ends_with(End::Success);
    assert_eq!(result.usage.tokens.input, u64::MAX);
    Attack::with("progress", json!({"count": 10, "bytes": 3})).ends_with(End::Success);
}

/// The limit of one call is a limit of each call.
#[test]
fn many_calls_in_place_of_a_large_one() {
    let _alone = alone();
    let limits = LimitOverrides {
        host_bytes: Some(1000),
        ..NONE
    };
    Attack::with("log", json!({"count": 1000, "bytes": 900}))
        .under(limits)
        .ends_with(End::Success);
    let beyond = json!({"count": 1, "bytes": 100_000});
    Attack::with("log", beyond)
        .under(limits)
        .ends_with(met(Limit::HostBytes));
}
