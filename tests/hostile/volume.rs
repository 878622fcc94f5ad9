//! Bombs: more than anybody wants to have, in everything that a guest can hand the host.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skillhost::grant::Grants;
use skillhost::policy::Policy;
use skillhost::policy::guard::Guards;
use skillhost::{Attachment, Cause, Event, ExecutionRequest, Limit, LimitOverrides};

use crate::attack::{Attack, End, NONE, builder, met, runtime};
use crate::handmade::{Answer, Handmade};
use crate::harness::PAGE;
use crate::measure::{Held, alone, check_leaves_nothing_but};

fn output(bytes: u64) -> LimitOverrides {
    LimitOverrides {
        output_bytes: Some(bytes),
        memory_bytes: Some(256 << 20),
        ..NONE
    }
}

#[test]
fn an_output_that_is_too_large() {
    let _alone = alone();
    let answer =
        |bytes: u64| Attack::with("answer_large", json!({ "bytes": bytes })).under(output(1000));
    let result = answer(1000).ends_with(End::Success);
    assert_eq!(result.usage.output_bytes, 1000);
    // Nothing of it is taken over into the host's memory, also where the attachments' limit has room for it.
    for bytes in [1001, 2 << 20, 15 << 20, 60 << 20] {
        let result = answer(bytes).ends_with(met(Limit::Output));
        assert_eq!(result.usage.output_bytes, 0);
        let cause = result.failure.expect("it failed").cause;
        let Cause::ResourceExhausted { requested, .. } = cause else {
            unreachable!()
        };
        assert_eq!(requested, Some(bytes));
    }
}

/// Where a guest has its texts in another encoding, they are as long as they are in UTF-8.
#[test]
fn an_output_that_is_too_large_in_another_encoding() {
    let _alone = alone();
    let text = |character: &str| format!(r#"{{"a":"{}"}}"#, character.repeat(40_000));
    let utf16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let (accents, euros, faces) = (text("é"), text("€"), text("🙂"));
    let latin1 = accents.chars().map(|one| one as u8).collect();
    for (encoding, text, bytes, mark) in [
        ("utf16", &accents, utf16(&accents), 0),
        ("utf16", &faces, utf16(&faces), 0),
        ("latin1+utf16", &accents, latin1, 0),
        ("latin1+utf16", &euros, utf16(&euros), 1 << 31),
    ] {
        let units = match encoding == "utf16" || mark > 0 {
            true => bytes.len() / 2,
            false => bytes.len(),
        };
        let answering = Handmade {
            answer: Answer {
                json: bytes,
                json_length: Some(u32::try_from(units).unwrap() | mark),
                ..Handmade::default().answer
            },
            memory: r#"(memory (export "memory") 8)"#.into(),
            encoding,
            // Behind the answer.
            realloc: "i32.const 500000".into(),
            ..Handmade::default()
        };
        let length = text.len() as u64;
        // With no room for attachments: what the texts take over in their encoding is not held against them.
        let answer = |most| {
            Attack::by(answering.clone()).under(LimitOverrides {
                attachment_bytes: Some(0),
                ..output(most)
            })
        };
        let result = answer(length).ends_with(End::Success);
        assert_eq!(result.usage.output_bytes, length);
        assert_eq!(result.output.unwrap().to_string(), *text);
        for most in [length - 1, 1_000] {
            let result = answer(most).ends_with(met(Limit::Output));
            assert_eq!(result.usage.output_bytes, 0);
        }
    }
}

/// As many attachments as are allowed, of which the engine counts the texts twice, and the list as well.
#[test]
fn attachments_that_fit_in_another_encoding() {
    let _alone = alone();
    let answer = |count: u32, bytes| {
        let skill = Handmade {
            execute: format!(
                "(local $at i32) (local.set $at (i32.const 200000))
                (i32.store16 (i32.const 199000) (i32.const 110))
                (loop $next
                    (i32.store (local.get $at) (i32.const 199000))
                    (i32.store offset=4 (local.get $at) (i32.const 1))
                    (local.set $at (i32.add (local.get $at) (i32.const 24)))
                    (br_if $next (i32.lt_u (local.get $at) (i32.const {}))))
                i32.const $answer",
                200_000 + 24 * count
            ),
            answer: Answer {
                json: b"{\0}\0".to_vec(),
                json_length: Some(2),
                attachments: (200_000, count),
                ..Handmade::default().answer
            },
            memory: r#"(memory (export "memory") 8)"#.into(),
            encoding: "utf16",
            realloc: "i32.const 500000".into(),
            ..Handmade::default()
        };
        Attack::by(skill).under(LimitOverrides {
            attachment_bytes: Some(bytes),
            ..output(2)
        })
    };
    let result = answer(920, 920).ends_with(End::Success);
    assert_eq!(result.attachments.len(), 920);
    assert_eq!(result.usage.output_bytes, 922);
    answer(1_000, 1_000).ends_with(End::Success);
    answer(920, 919).ends_with(met(Limit::Attachments));
    // Of more than that none is taken over.
    for count in [1_001, 13_000] {
        let result = answer(count, 1 << 20).ends_with(End::InvalidOutput(""));
        assert_eq!(result.usage.output_bytes, 2);
    }
    answer(1_001, 1_001).ends_with(End::InvalidOutput(""));
}

#[test]
fn an_error_text_that_is_too_long() {
    let _alone = alone();
    let fail =
        |bytes: u64| Attack::with("fail_large", json!({ "bytes": bytes })).under(output(100_000));
    for bytes in [100_001, 2 << 20, 15 << 20, 60 << 20] {
        let result = fail(bytes).ends_with(met(Limit::Output));
        assert_eq!(result.usage.output_bytes, 0);
    }
    let result = fail(100_000).ends_with(End::SkillError);
    assert!(result.failure.expect("it failed").message.len() < 10_000);
}

/// Of characters each of which takes several to be shown.
#[test]
fn an_error_text_that_grows_when_it_is_escaped() {
    let _alone = alone();
    let text = "\u{1}".repeat(1 << 20);
    let input = json!({"message": text, "code": text, "details": null});
    let result = Attack::with("fail", input)
        .under(output(4 << 20))
        .ends_with(End::SkillError);
    let failure = result.failure.expect("it failed");
    assert!(failure.message.len() < 60_000, "{}", failure.message.len());
    let Cause::SkillError {
        code: Some(code), ..
    } = failure.cause
    else {
        unreachable!()
    };
    assert!(code.len() < 2_000, "{}", code.len());
    // As long as the limit allows, and not six times as long on the way.
    let input = json!({"text": "\u{1}", "bytes": 60 << 20});
    Attack::with("fail_large", input)
        .under(output(64 << 20))
        .ends_with(End::SkillError);
}

/// Details that are JSON with as many values as fit.
#[test]
fn details_that_blow_up() {
    let _alone = alone();
    for details in [
        format!("[{}0]", "0,".repeat(500_000)),
        "[".repeat(500_000),
        format!("{}{}", "[{\"a\":".repeat(100_000), "1"),
    ] {
        let input = json!({"message": "", "code": "", "details": details});
        let result = Attack::with("fail", input)
            .under(output(4 << 20))
            .ends_with(End::SkillError);
        assert!(result.failure.expect("it failed").hint.is_none());
    }
}

#[test]
fn attachments_that_are_too_large() {
    let _alone = alone();
    let attach = |bytes: u64| {
        let limits = LimitOverrides {
            attachment_bytes: Some(3000),
            ..NONE
        };
        Attack::with("attach", json!({"count": 3, "bytes": bytes})).under(limits)
    };
    let result = attach(998).ends_with(End::Success);
    assert_eq!(
        (result.attachments.len(), result.usage.output_bytes),
        (3, 3002)
    );
    // None of them is taken over, also where the output's limit has room for them.
    for bytes in [999, 300_000, 10 << 20] {
        let result = attach(bytes).ends_with(met(Limit::Attachments));
        assert_eq!(result.usage.output_bytes, 2, "the JSON was");
        let cause = result.failure.expect("it failed").cause;
        let Cause::ResourceExhausted { requested, .. } = cause else {
            unreachable!()
        };
        assert_eq!(requested, Some(3 * bytes + 6), "with their names and types");
    }
}

/// What is read until the first lie is held to the limit as well.
#[test]
fn attachments_that_are_too_large_before_one_that_lies() {
    let _alone = alone();
    let answer = |bytes: u32| {
        let skill = Handmade {
            execute: format!(
                "(i32.store offset=20 (i32.const 200000) (i32.const {bytes}))
                (i32.store offset=24 (i32.const 200000) (i32.const -16))
                (i32.store offset=28 (i32.const 200000) (i32.const 100))
                i32.const $answer"
            ),
            answer: Answer {
                attachments: (200_000, 2),
                ..Handmade::default().answer
            },
            ..Handmade::default()
        };
        Attack::by(skill).under(LimitOverrides {
            attachment_bytes: Some(1000),
            ..NONE
        })
    };
    answer(900).ends_with(End::Trap("contract_violation"));
    answer(1001).ends_with(met(Limit::Attachments));
}

#[test]
fn more_attachments_than_anybody_can_look_at() {
    let _alone = alone();
    Attack::with("attach", json!({"count": 1001, "bytes": 0})).ends_with(End::InvalidOutput(""));
    // As many empty ones as fit in the guest's memory: nothing by their bytes, and yet each of them
    // is something that the host must hold.
    let skill = Handmade {
        memory: r#"(memory (export "memory") 400)"#.into(),
        answer: Answer {
            attachments: (200_000, 700_000),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    };
    Attack::by(skill).ends_with(met(Limit::Attachments));
}

/// 100,000 attachments that all stand at the same 1 MiB: small for the guest, 100 GiB for a host
/// that copies first and counts later.
#[test]
fn a_list_that_overlaps_itself() {
    let _alone = alone();
    let skill = Handmade {
        memory: r#"(memory (export "memory") 80)"#.into(),
        execute: "(local $at i32) (local.set $at (i32.const 2000000))
            (loop $next
                (i32.store offset=16 (local.get $at) (i32.const 0))
                (i32.store offset=20 (local.get $at) (i32.const 1048576))
                (local.set $at (i32.add (local.get $at) (i32.const 24)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 4400000))))
            i32.const $answer"
            .into(),
        realloc: "i32.const 0".into(),
        answer: Answer {
            attachments: (2_000_000, 100_000),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    };
    Attack::by(skill).ends_with(met(Limit::Attachments));
}

/// The bytes of what observers hear.
pub fn heard() -> (
    Arc<Mutex<u64>>,
    impl Fn(uuid::Uuid, &Event<'_>) + Send + Sync,
) {
    let sum = Arc::new(Mutex::new(0));
    let hear = {
        let sum = Arc::clone(&sum);
        move |_: uuid::Uuid, event: &Event<'_>| {
            let bytes = match event {
                // Each execution is counted by itself.
                Event::Admitted { .. } => {
                    *sum.lock().expect("nobody panics here") = 0;
                    0
                }
                Event::Log { message, .. } => message.len() + 16,
                Event::Progress(progress) => progress.step.len() + 16,
                _ => 0,
            };
            *sum.lock().expect("nobody panics here") += bytes as u64;
        }
    };
    (sum, hear)
}

/// Chatter past its limit is dropped and counted, and the run goes on.
#[test]
fn log_records_and_progress_reports_without_end() {
    let _alone = alone();
    let limits = LimitOverrides {
        log_bytes: Some(1000),
        progress_bytes: Some(1000),
        ..NONE
    };
    for tool in ["log", "progress"] {
        for (count, bytes) in [(100, 9), (100_000, 0), (50, 1 << 20)] {
            let (sum, hear) = heard();
            let result = Attack::with(tool, json!({"count": count, "bytes": bytes}))
                .under(limits)
                .watched_by(Arc::new(hear))
                .ends_with(End::Success);
            let sum = *sum.lock().expect("nobody panics here");
            assert!(sum <= 1000, "{sum} bytes of {tool} were heard");
            let dropped = result.usage.dropped;
            let total = count * (bytes + 16);
            assert_eq!(dropped.log_bytes + dropped.progress_bytes + sum, total);
        }
    }
}

#[test]
fn standard_output_and_standard_error_without_end() {
    let _alone = alone();
    let limits = LimitOverrides {
        stdout_bytes: Some(25),
        stderr_bytes: Some(7),
        ..NONE
    };
    let input = json!({"count": 10, "stdout": "0123456789\n", "stderr": "abc"});
    let result = Attack::with("print", input)
        .under(limits)
        .ends_with(End::Success);
    assert_eq!(result.stdout, "0123456789\n0123456789\n012");
    assert_eq!(result.stderr, "abcabca");
    let dropped = result.usage.dropped;
    assert_eq!(
        (dropped.stdout_bytes, dropped.stderr_bytes),
        (110 - 25, 30 - 7)
    );

    let input = json!({"count": 20_000, "stdout": "x".repeat(1000), "stderr": "\n"});
    let result = Attack::with("print", input).ends_with(End::Success);
    assert_eq!(result.stdout.len() as u64, result.limits.stdout_bytes);
}

/// Bytes that are no text: each would become three, as the mark for what cannot be read.
#[test]
fn standard_output_that_is_no_text() {
    let _alone = alone();
    let limits = LimitOverrides {
        stdout_bytes: Some(1000),
        ..NONE
    };
    let result = Attack::with("print_raw", json!({"byte": 0xff, "bytes": 5_000}))
        .under(limits)
        .ends_with(End::Success);
    assert_eq!(result.stdout, "\u{fffd}".repeat(333));
    assert_eq!(result.usage.dropped.stdout_bytes, 5_000 - 333);
}

/// More zeros in one call than the stream says that it takes.
#[test]
fn zeros_that_nobody_has_room_for() {
    let _alone = alone();
    for bytes in [1 << 20, 1 << 40, u64::MAX] {
        Attack::with("print_zeros", json!({ "bytes": bytes }))
            .ends_with(End::Trap("contract_violation"));
    }
}

#[test]
fn a_call_that_carries_too_much() {
    let _alone = alone();
    let limits = LimitOverrides {
        host_bytes: Some(1 << 20),
        memory_bytes: Some(256 << 20),
        ..NONE
    };
    for tool in ["log_large", "log_after_random", "print_large"] {
        let call = |bytes: u64| Attack::with(tool, json!({ "bytes": bytes })).under(limits);
        // A stream may say for itself that it takes less at once.
        if tool != "print_large" {
            call(1 << 20).ends_with(End::Success);
        }
        call(2 << 20).ends_with(met(Limit::HostBytes));
        call(60 << 20).ends_with(met(Limit::HostBytes));
    }
}

/// A text that is Latin-1 in the guest's memory and twice as long in the host's.
#[test]
fn a_text_that_grows_when_it_is_read() {
    let _alone = alone();
    let calls = Handmade::that_calls();
    let skill = Handmade {
        before: calls
            .before
            .replace(
                r#"(memory (core memory $heap "memory"))))"#,
                r#"(memory (core memory $heap "memory")) string-encoding=latin1+utf16))"#,
            )
            .replace(
                r#"(memory (export "memory") 128)"#,
                r#"(memory (export "memory") 128)
                (func $fill (memory.fill (i32.const 0) (i32.const 0xe9) (i32.const 8388608)))
                (start $fill)"#,
            ),
        execute: "(call $log (i32.const 2) (i32.const 0) (i32.const 4194304)) i32.const $answer"
            .into(),
        ..calls
    };
    let result = Attack::by(skill).ends_with(End::Success);
    assert_eq!(result.usage.dropped.log_bytes, 2 * (4 << 20) + 16);
}

/// Random bytes, all that there are.
#[test]
fn a_question_with_a_huge_answer() {
    let _alone = alone();
    for bytes in [1 << 30, u64::MAX] {
        Attack::with("many_random", json!({"count": 1, "bytes": bytes}))
            .ends_with(End::Trap("contract_violation"));
    }
}

/// It is granted more than it has memory for, and asks for all of it again and again.
#[test]
fn a_grant_that_is_larger_than_the_guest() {
    let _alone = alone();
    // As much as can be granted, and twice as much as the guest can hold.
    let value = "x".repeat(31 << 10);
    let all = || (0..30).map(|number| format!("KEY{number}"));
    let limits = LimitOverrides {
        memory_bytes: Some(24 * PAGE),
        ..NONE
    };
    let grants = all().fold(Grants::default(), |grants, key| grants.config(key, &value));
    let attack = Attack::with("config", json!({"key": "KEY0"})).granted(grants);
    attack.under(limits).ends_with(met(Limit::Memory));
    let grants = all().fold(Grants::default(), |grants, key| {
        grants.environment(key, &value)
    });
    let attack = Attack::with("environment", json!({})).granted(grants);
    attack.under(limits).ends_with(met(Limit::Memory));
}

/// The other way round: whoever asks is hostile, and not the skill.
#[test]
fn an_input_that_is_too_large() {
    let _alone = alone();
    let limits = LimitOverrides {
        input_bytes: Some(100),
        ..NONE
    };
    let echo = |input: Value| Attack::with("echo", input).under(limits);
    echo(json!({"a": "x".repeat(92)})).ends_with(End::Success);
    echo(json!({"a": "x".repeat(93)})).ends_with(met(Limit::Input));
    echo(json!({}))
        .attach(Attachment::new("a", "b", vec![0; 97]))
        .ends_with(met(Limit::Input));
    echo(json!({"a": "x".repeat(20 << 20)})).ends_with(met(Limit::Input));
}

/// A skill that takes an input and does nothing with it; and one as large as inputs may be, of what takes the most memory
/// for its size.
pub fn with_very_many_values() -> (Handmade, Value) {
    let skill = Handmade {
        memory: r#"(memory (export "memory") 300)"#.into(),
        ..Handmade::default()
    };
    let values = (16 << 20) / "[],".len() - 2;
    (skill, json!({"a": vec![Value::Array(Vec::new()); values]}))
}

/// What of it the caller made is his own.
#[test]
fn an_input_of_very_many_small_values() {
    let _alone = alone();
    let (skill, input) = with_very_many_values();
    let result = Attack::by(skill).input(input).ends_with(End::Success);
    assert!(result.usage.input_bytes > (16 << 20) - 16);
}

/// Whoever only asks whether it would be admitted, by way of all that stands around a host, has no copy made of it.
#[test]
fn whether_an_input_of_very_many_small_values_would_do() {
    let _alone = alone();
    let policy: Policy = "general.ceilings.fuel = 1_000_000"
        .parse()
        .expect("it is one");
    let host = builder().policy(policy).build().expect("a host");
    let guards = Guards::new(host.current_policy().clone());
    let guarded = guards.around(Arc::new(host.clone()));
    let (skill, input) = with_very_many_values();
    let loaded = runtime().block_on(host.load_bytes(skill.build()));
    let request = ExecutionRequest::new(loaded.expect("it loads").digest(), input);
    check_leaves_nothing_but(0, || {
        let began = Held::now();
        let resolved = guarded.resolve(&request).expect("it is there");
        assert_eq!(resolved.limits.fuel, 1_000_000);
        assert!(began.heap_peak() < 1 << 20, "{}", began.heap_peak());
        let admission = guarded.can_execute(&request);
        assert!(admission.is_admitted(), "{:?}", admission.refusal);
        assert_eq!(admission.limits.fuel, 1_000_000);
        // Its text, and the same while that is made longer.
        assert!(began.heap_peak() < 64 << 20, "{}", began.heap_peak());
    });
}

#[test]
fn an_input_that_is_nested_deeply() {
    let _alone = alone();
    let mut input = json!(0);
    for _ in 0..200 {
        input = json!([input]);
    }
    Attack::with("echo", json!({ "a": input })).ends_with(End::InvalidInput(""));
}
