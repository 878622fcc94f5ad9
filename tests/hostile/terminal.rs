//! Text that would do something to a terminal, or forge a line of a log: it is data wherever the
//! library makes a message of it. (What the command prints is tested in `tests/cli/hostile.rs`.)

use serde_json::json;
use skillhost::{Cause, Level};

use crate::attack::{Attack, End, ROUNDS, check_text};
use crate::describing::described;
use crate::handmade::{Answer, Description, Handmade};
use crate::load::Load;
use crate::measure::alone;

/// Clears the screen, forges a line, writes backwards, is invisible, and ends a program's string.
const EVIL: &str = "\u{1b}[2J\r\nerror: forged\u{202e}\u{200b}\u{9b}31m\u{7}\0`\"";

/// What it is proposed in place of.
const GIVEN: &str = "near-by-name-of-it";
const CLOSE: &str = "near-by-name-of-it\u{1b}\r\n\u{202e}\u{9b}`";

#[test]
fn in_an_error() {
    let _alone = alone();
    let input = json!({"message": EVIL, "code": EVIL, "details": EVIL});
    let result = Attack::with("fail", input).ends_with(End::SkillError);
    let Some(Cause::SkillError {
        code: Some(code),
        details,
        ..
    }) = result.failure.map(|f| f.cause)
    else {
        unreachable!()
    };
    check_text(&code);
    // Data for programs, as it was given.
    assert_eq!(details, Some(json!(EVIL)));
}

#[test]
fn in_a_place_in_the_input() {
    let _alone = alone();
    let input = json!({"pointer": EVIL, "message": EVIL});
    let pointer = skillhost::text::printable(EVIL, false);
    Attack::with("reject_input", input).ends_with(End::InvalidInput(&pointer));
}

/// A guest that names its functions like the engine's own messages, or like a terminal's commands.
#[test]
fn in_names_of_functions() {
    let _alone = alone();
    for name in [
        "fuel allocated for hostcalls has been exhausted",
        "store handle limit exceeded",
        "resource limit exceeded: ",
        "all fuel consumed by WebAssembly",
        "the time is up",
        "\\1b[2J\\0d\\0a\\e2\\80\\ae\\c2\\9b",
    ] {
        let skill = Handmade {
            fields: format!("(func $\"{name}\" unreachable)"),
            execute: format!("(call $\"{name}\") i32.const $answer"),
            ..Handmade::default()
        };
        let result = Attack::by(skill).ends_with(End::Trap("unreachable_code_reached"));
        let failure = result.failure.expect("it failed");
        assert!(!failure.message.contains('\n'), "{failure}");
        let Cause::Trap { backtrace, .. } = failure.cause else {
            unreachable!()
        };
        for frame in backtrace {
            check_text(&frame.function);
            assert!(!frame.function.contains('\n'));
        }
    }
}

/// Names of functions that compilers shorten: each parameter is a pair of the one before, twice, so
/// that written out the name would be longer than any memory. It must not be, whatever stops the guest.
#[test]
fn in_names_that_stand_for_longer_ones() {
    let _alone = alone();
    let pairs: String = (0..60)
        .map(|before| match before {
            0 => "S_IS0_S0_E".to_owned(),
            _ => format!("S_IS{0}_S{0}_E", base_36(before)),
        })
        .collect();
    let name = format!("_Z1fSt4pairIiiE{pairs}");
    for (does, end) in [
        ("unreachable", End::Trap("unreachable_code_reached")),
        // A handle that it does not have.
        (
            "(call $drop (i32.const 77))",
            End::Trap("contract_violation"),
        ),
    ] {
        let skill = Handmade {
            fields: format!("(func $\"{name}\" {does})"),
            execute: format!("(call $\"{name}\") i32.const $answer"),
            ..Handmade::that_calls()
        };
        Attack::by(skill).ends_with(end);
    }
}

fn base_36(mut number: u32) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        digits.extend(char::from_digit(number % 36, 36));
        number /= 36;
    }
    digits.iter().rev().collect::<String>().to_uppercase()
}

/// The messages about an output that does not fit show it.
#[test]
fn in_an_output_that_does_not_fit() {
    let _alone = alone();
    for (schema, output) in [
        (json!({"type": "integer"}), json!(EVIL)),
        (json!({"const": EVIL}), json!({})),
        (json!({"enum": [EVIL]}), json!({})),
        // It is proposed, as it is close.
        (json!({"enum": [CLOSE]}), json!(GIVEN)),
        (json!({"required": [EVIL]}), json!({})),
        (json!({"pattern": "^\u{1b}\\[2J\r\n\u{202e}$"}), json!("")),
        (json!({"properties": {EVIL: false}}), json!({EVIL: 1})),
        (json!({"additionalProperties": false}), json!({EVIL: EVIL})),
        (
            json!({"propertyNames": {"maxLength": 1}}),
            json!({EVIL: EVIL}),
        ),
    ] {
        let skill = Handmade {
            description: Description {
                output_schema: Some(schema.to_string()),
                ..Handmade::default().description
            },
            answer: Answer {
                json: output.to_string().into(),
                ..Handmade::default().answer
            },
            ..Handmade::default()
        };
        Attack::by(skill).ends_with(End::InvalidOutputAnywhere);
    }
}

/// And the messages about an input show what the schema says.
#[test]
fn in_the_schema_of_an_input() {
    let _alone = alone();
    let near = format!("near{EVIL}");
    let one = json!({"near": 1});
    for (schema, input) in [
        (
            json!({"properties": {&near: {}}, "additionalProperties": false}),
            &one,
        ),
        (json!({"required": [EVIL]}), &one),
        (json!({"properties": {"near": {"const": EVIL}}}), &one),
        (json!({"properties": {"near": {"enum": [EVIL]}}}), &one),
        (
            json!({"properties": {"near": {"enum": [CLOSE]}}}),
            &json!({"near": GIVEN}),
        ),
    ] {
        let skill = described(Description {
            tools: vec![("run".into(), schema.to_string())],
            ..Handmade::default().description
        });
        let result = Attack::by(skill)
            .input(input.clone())
            .ends_with(End::InvalidInputAnywhere);
        if input != &one {
            let message = result.failure.expect("it failed").message;
            assert!(message.contains("did you mean"), "{message}");
        }
    }
}

/// What a skill logs is handed on as it is: escaping it is up to whoever shows it, and each record
/// is one event.
#[test]
fn in_a_record() {
    let _alone = alone();
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let hear = move |_: uuid::Uuid, event: &skillhost::Event<'_>| {
        if let skillhost::Event::Log { level, message } = event {
            let sender = sender.lock().expect("nobody panics here");
            let _ = sender.send((*level, message.to_string()));
        }
    };
    Attack::with("log_text", json!({ "text": EVIL }))
        .watched_by(std::sync::Arc::new(hear))
        .ends_with(End::Success);
    let records: Vec<_> = receiver.try_iter().collect();
    assert!(records.len() > ROUNDS, "each of them");
    for record in records {
        assert_eq!(record, (Level::Warn, EVIL.to_owned()));
    }
}

#[test]
fn in_a_description() {
    let _alone = alone();
    for description in [
        Description {
            name: EVIL.into(),
            ..Handmade::default().description
        },
        Description {
            version: EVIL.into(),
            ..Handmade::default().description
        },
        Description {
            tools: vec![(EVIL.into(), "{}".into())],
            ..Handmade::default().description
        },
        Description {
            tools: vec![("a".into(), json!({"type": EVIL}).to_string())],
            ..Handmade::default().description
        },
        Description {
            tools: vec![("a".into(), json!({"$ref": EVIL}).to_string())],
            ..Handmade::default().description
        },
        Description {
            tools: vec![(
                "a".into(),
                json!({"pattern": format!("({EVIL}")}).to_string(),
            )],
            ..Handmade::default().description
        },
    ] {
        Load::by(&described(description)).fails();
    }
}
