//! Values that take long to check, against schemas that are the skill's: the host's own work, which a skill can ask for
//! as much of as it likes.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::execution::Phase;
use skillhost::{ExecutionResult, Limit};

use crate::attack::{Attack, End, SHORT, TIMEOUT, wall_time};
use crate::handmade::{Answer, Description, Handmade, TOOL};
use crate::measure::alone;

/// Whether a number is a multiple of a fraction is worked out in exact fractions, of some 300 digits here. No number
/// takes longer.
const SLOW: &str = r#"{"multipleOf": 0.1}"#;
const NUMBER: &str = "1.7e308";
/// As many as fit in an output of 1 MiB. An input is written anew, with three times as many characters for each.
const NUMBERS: usize = 130_000;

/// What was begun goes on to its end, with what it holds.
fn checks_are_over() {
    let is_busy = || {
        let threads = fs::read_dir("/proc/self/task").expect("the system is Linux");
        threads.filter_map(Result::ok).any(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // `number (name) state …`, and a name has 15 characters at most.
            stat.contains("(skillhost-chec) R")
        })
    };
    while is_busy() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn says(result: ExecutionResult, during: &str) {
    let failure = result.failure.expect("it failed");
    assert!(failure.message.contains(during), "{failure}");
}

#[test]
fn an_output_that_takes_long_to_check() {
    let _alone = alone();
    let numbers = vec![NUMBER; NUMBERS].join(",");
    let skill = Handmade {
        memory: r#"(memory (export "memory") 400)"#.into(),
        realloc: "i32.const 26000000".into(),
        description: Description {
            output_schema: Some(format!(r#"{{"items": {SLOW}}}"#)),
            ..Handmade::default().description
        },
        answer: Answer {
            json: format!("[{numbers}]").into(),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    };
    let attack = Attack::by(skill).settled_by(checks_are_over);
    let result = attack.clone().under(wall_time(SHORT)).ends_with(TIMEOUT);
    says(result, "while the skill's output was checked");
    let result = attack
        .deadline(SHORT)
        .ends_with(End::Limit(Limit::Deadline, Phase::Run));
    says(result, "while the skill's output was checked");
}

/// It never comes to run.
#[test]
fn an_input_that_takes_long_to_check() {
    let _alone = alone();
    let schema = format!(r#"{{"properties": {{"numbers": {{"items": {SLOW}}}}}}}"#);
    let skill = Handmade {
        description: Description {
            tools: vec![(TOOL.into(), schema)],
            ..Handmade::default().description
        },
        ..Handmade::default()
    };
    let number: Value = serde_json::from_str(NUMBER).expect("a number");
    let attack = Attack::by(skill)
        .input(json!({"numbers": vec![number; NUMBERS / 3]}))
        .settled_by(checks_are_over);
    let waiting = |limit| End::Limit(limit, Phase::Waiting);
    let result = attack
        .clone()
        .under(wall_time(SHORT))
        .ends_with(waiting(Limit::WallTime));
    says(result, "while its input was checked");
    let result = attack.deadline(SHORT).ends_with(waiting(Limit::Deadline));
    says(result, "while its input was checked");
}
