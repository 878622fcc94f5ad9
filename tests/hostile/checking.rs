//! Values that take long to check, against schemas that are the skill's: the host's own work, which a skill can ask for
//! as much of as it likes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use skillhost::execution::{Cause, Phase};
use skillhost::secret::{SecretValue, Secrets};
use skillhost::{ExecutionRequest, ExecutionResult, Limit, LimitOverrides};

use crate::attack::{
    Attack, End, ROUNDS, SHARP, SHORT, TIMEOUT, builder, host, runtime, wall_time,
};
use crate::handmade::{Answer, Description, Handmade, TOOL};
use crate::measure::{Held, alone, check_leaves_nothing_but};
use crate::neighbour::Neighbour;
use crate::network;

/// Whether a number is a multiple of a fraction is worked out in exact fractions, of some 300 digits here. No number
/// takes longer.
const SLOW: &str = r#"{"multipleOf": 0.1}"#;
const NUMBER: &str = "1.7e308";
/// As many as fit in an output of 1 MiB.
const NUMBERS: usize = 130_000;

/// What was begun ends a moment after it is told to, and holds what it checks until then.
pub fn checks_are_over() {
    /// What one of them is doing, and the processor time that it has taken.
    fn of(thread: &Path) -> Option<(bool, Duration)> {
        let stat = fs::read_to_string(thread.join("stat")).ok()?;
        // `number (name) state …`: without anything to do, it sleeps.
        let state = stat.split_once("(skillhost-check) ")?.1;
        let thread = thread.file_name()?.to_str()?.parse().ok()?;
        Some((!state.starts_with('S'), ran(thread).unwrap_or_default()))
    }
    /// How long a thread has run, until now: `schedstat` says it as of the last tick of up to 10 ms.
    fn ran(thread: libc::clockid_t) -> Option<Duration> {
        // `CPUCLOCK_PERTHREAD` and `CPUCLOCK_SCHED`: what `pthread_getcpuclockid` makes of it.
        let clock = (!thread << 3) | 0b110;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: it writes to nothing but what it is given, which is there; of a clock that there is not, it says so.
        let told = unsafe { libc::clock_gettime(clock, &raw mut time) };
        let seconds = u64::try_from(time.tv_sec).ok()?;
        let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
        (told == 0).then(|| Duration::new(seconds, nanoseconds))
    }
    let look = || {
        let threads = fs::read_dir("/proc/self/task").expect("the system is Linux");
        let threads = threads.filter_map(|thread| of(&thread.ok()?.path()));
        threads.fold((false, Duration::ZERO), |(busy, all), (works, ran)| {
            (busy || works, all + ran)
        })
    };
    let (mut is_busy, mut ran) = look();
    let began = ran;
    while is_busy {
        std::thread::sleep(Duration::from_millis(1));
        (is_busy, ran) = look();
        let longer = ran.saturating_sub(began);
        assert!(longer <= SHARP, "it goes on for {longer:?} and more");
    }
}

#[track_caller]
fn says(result: ExecutionResult, during: &str) {
    let failure = result.failure.expect("it failed");
    assert!(failure.message.contains(during), "{failure}");
}

pub fn whose_output_takes_long_to_check() -> Handmade {
    let numbers = vec![NUMBER; NUMBERS].join(",");
    Handmade {
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
    }
}

#[test]
fn an_output_that_takes_long_to_check() {
    let _alone = alone();
    let attack = Attack::by(whose_output_takes_long_to_check()).settled_by(checks_are_over);
    let result = attack.clone().under(wall_time(SHORT)).ends_with(TIMEOUT);
    says(result, "while the skill's output was checked");
    let result = attack
        .deadline(SHORT)
        .ends_with(End::Limit(Limit::Deadline, Phase::Run));
    says(result, "while the skill's output was checked");
}

/// Of what is in a list, each that does not fit is left at the first thing that it does not fit, and so before anything
/// that looks at the time there.
#[test]
fn an_output_of_which_nothing_is_what_it_is_to_contain() {
    let _alone = alone();
    let numbers = format!("[{}]", vec![NUMBER; NUMBERS].join(","));
    // Whether one was evaluated is looked at twice.
    let halved = format!("[{}]", vec![NUMBER; 35_000].join(","));
    let fewer = format!("[{}]", vec![NUMBER; 900].join(","));
    for (schema, json) in [
        (r#"{"contains": {"multipleOf": 0.3}}"#.to_owned(), &numbers),
        (
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"minContains": 2, "contains": {"multipleOf": 0.3}}}}"##.to_owned(),
            &numbers,
        ),
        (r#"{"unevaluatedItems": {"multipleOf": 0.3}}"#.to_owned(), &halved),
        (
            format!(r#"{{"items": {{"anyOf": [{}true]}}}}"#, r#"{"multipleOf": 0.3},"#.repeat(80)),
            &fewer,
        ),
    ] {
        let skill = Handmade {
            memory: r#"(memory (export "memory") 400)"#.into(),
            realloc: "i32.const 26000000".into(),
            description: Description {
                output_schema: Some(schema.clone()),
                ..Handmade::default().description
            },
            answer: Answer {
                json: json.as_str().into(),
                ..Handmade::default().answer
            },
            ..Handmade::default()
        };
        let attack = Attack::by(skill).settled_by(checks_are_over);
        let result = attack.under(wall_time(SHORT)).ends_with(TIMEOUT);
        assert!(result.usage.cpu_time > Duration::ZERO, "{schema}: {result:?}");
        says(result, "while the skill's output was checked");
    }
}

/// What is searched for secrets may be much, and all of it look like something that is escaped.
#[test]
fn an_answer_that_takes_long_to_search() {
    let _alone = alone();
    let value = SecretValue::new("correct horse".to_owned()).expect("it is a value");
    let secrets = Secrets::default().value("token", value);
    let host = builder().secrets(secrets).build().expect("a host");
    let grant = "token=authorization:Bearer@http://127.0.0.1:9";
    let granted = network::http(&["GET http://127.0.0.1:9"]);
    let granted = granted.secret(grant.parse().expect("it is a grant"));
    for of in ["&a;", "%41&#65;\\u0041"] {
        let attachments = json!({"count": 3, "bytes": 5 << 20, "of": of});
        let result = Attack::with("attach", attachments)
            .granted(granted.clone())
            .on(&host)
            .settled_by(checks_are_over)
            .under(wall_time(2 * SHORT))
            .ends_with(TIMEOUT);
        says(result, "while the skill's output was checked");
    }
    // Without a secret there is nothing to look for.
    let attachments = json!({"count": 3, "bytes": 5 << 20});
    let result = Attack::with("attach", attachments).ends_with(End::Success);
    assert_eq!(result.attachments.len(), 3);
    // What it fails with is searched alike, where it is allowed to be that much.
    let message = json!({"text": "%41&#65;\\u0041", "bytes": 4 << 20});
    let allowed = LimitOverrides {
        output_bytes: Some(64 << 20),
        memory_bytes: Some(256 << 20),
        ..wall_time(6 * SHORT)
    };
    let failing = Attack::with("fail_large", message).under(allowed);
    let result = failing
        .granted(granted)
        .on(&host)
        .settled_by(checks_are_over)
        .ends_with(TIMEOUT);
    says(result, "while the skill's output was checked");
}

/// Keys that are matched with patterns are matched to the end, so that there may only be as many as that takes no time.
#[test]
fn an_output_of_which_no_key_fits() {
    let _alone = alone();
    let of = |keys: usize| {
        let pattern = "(a|b|ab)*a[ab]{60}c";
        let keys: Vec<String> = (0..keys)
            .map(|n| format!(r#""{}{n}":0"#, "ab".repeat(30)))
            .collect();
        Attack::by(Handmade {
            memory: r#"(memory (export "memory") 400)"#.into(),
            realloc: "i32.const 26000000".into(),
            description: Description {
                output_schema: Some(format!(
                    r#"{{"patternProperties": {{"{pattern}": {{}}}}, "additionalProperties": {{"multipleOf": 0.1}}}}"#
                )),
                ..Handmade::default().description
            },
            answer: Answer {
                json: format!("{{{}}}", keys.join(",")).into(),
                ..Handmade::default().answer
            },
            ..Handmade::default()
        })
        .settled_by(checks_are_over)
    };
    of(100).under(wall_time(SHORT)).ends_with(End::Success);
    let result = of(10_000)
        .under(wall_time(SHORT))
        .ends_with(End::InvalidOutput(""));
    says(result, "too large to be checked");
}

/// The library makes a copy of each subschema for every way that leads to it: of a pattern there is one for all.
#[test]
fn a_pattern_with_many_copies() {
    let _alone = alone();
    let pattern = json!({"pattern": "[a-z]{3}[ab]{290}"});
    let copies: Vec<Value> = (0..40)
        .map(|_| json!({"$ref": "#/$defs/many", "unevaluatedProperties": false}))
        .collect();
    let properties: Value = (0..60).map(|n| (n.to_string(), pattern.clone())).collect();
    let schema = json!({
        "allOf": copies,
        "$defs": {"many": {"allOf": [{"properties": properties}]}},
    });
    let skill = Handmade {
        description: Description {
            output_schema: Some(schema.to_string()),
            ..Handmade::default().description
        },
        ..Handmade::default()
    };
    check_leaves_nothing_but(0, || {
        let neighbour = Neighbour::of(host());
        let began = Held::now();
        let loaded = runtime().block_on(host().load_bytes(skill.build()));
        let peak = began.heap_peak();
        let loaded = loaded.expect("it is a skill");
        host().unload(&loaded.digest());
        assert!(peak < 32 << 20, "{peak} bytes");
        neighbour.check_undisturbed(host());
    });
}

/// A skill whose input takes long to check, and such an input.
fn with_a_slow_input() -> (Handmade, Value) {
    let schema = format!(r#"{{"properties": {{"numbers": {{"items": {SLOW}}}}}}}"#);
    let skill = Handmade {
        description: Description {
            tools: vec![(TOOL.into(), schema)],
            ..Handmade::default().description
        },
        ..Handmade::default()
    };
    let number: Value = serde_json::from_str(NUMBER).expect("a number");
    (skill, json!({"numbers": vec![number; NUMBERS]}))
}

/// It never comes to run.
#[test]
fn an_input_that_takes_long_to_check() {
    let _alone = alone();
    let (skill, input) = with_a_slow_input();
    let attack = Attack::by(skill).input(input).settled_by(checks_are_over);
    let waiting = |limit| End::Limit(limit, Phase::Waiting);
    let result = attack
        .clone()
        .under(wall_time(SHORT))
        .ends_with(waiting(Limit::WallTime));
    says(result, "while its input was checked");
    let result = attack.deadline(SHORT).ends_with(waiting(Limit::Deadline));
    says(result, "while its input was checked");
}

/// Nor does whoever asks beforehand wait for longer.
#[test]
fn what_would_come_of_an_input_that_takes_long_to_check() {
    let _alone = alone();
    let (skill, input) = with_a_slow_input();
    let loaded = runtime().block_on(host().load_bytes(skill.build()));
    let skill = loaded.expect("it is a skill");
    let ask = || {
        let request = ExecutionRequest::new(skill.digest(), input.clone())
            .tool(TOOL)
            .deadline(Utc::now() + SHORT);
        let admission = host().can_execute(&request);
        let refusal = admission.refusal.expect("it is not admitted");
        let by_deadline = Cause::Timeout {
            limit: Limit::Deadline,
            allowed: 0,
            phase: Phase::Waiting,
        };
        assert_eq!(refusal.cause, by_deadline, "{refusal}");
    };
    let neighbour = Neighbour::of(host());
    ask();
    check_leaves_nothing_but(0, || {
        for _ in 0..ROUNDS {
            ask();
            neighbour.check_undisturbed(host());
        }
    });
    host().unload(&skill.digest());
}

/// Each of these was counted as little, and done at once, outside of any limit. What cannot be told apart by the
/// library's hashes is, and a pattern of many states is left in the middle of a text.
#[test]
fn an_output_that_looks_as_if_it_took_no_time() {
    let _alone = alone();
    let mut shapes = vec!["[]".to_owned()];
    for number in 1..5_000 {
        let inner = shapes[number / 2].clone();
        shapes.push(match number % 2 {
            0 => format!("[{inner}]"),
            _ => format!("[{inner},[]]"),
        });
    }
    let states: String = (0..2_900_u32)
        .map(|n| {
            if (n * n / 7 + n / 3).is_multiple_of(2) {
                'a'
            } else {
                'b'
            }
        })
        .collect();
    for (schema, json) in [
        (
            r#"{"uniqueItems": true}"#,
            format!("[{}]", shapes.join(",")),
        ),
        (
            r#"{"pattern": "(a|b|ab)*a[ab]{400}c"}"#,
            format!("\"{states}\""),
        ),
        (
            r#"{"$schema": "http://json-schema.org/draft-07/schema#", "contentMediaType": "application/json"}"#,
            format!(
                "\"[{}[]]\"",
                "{'':0},".repeat(100_000).replace('\'', "\\\"")
            ),
        ),
    ] {
        let skill = Handmade {
            memory: r#"(memory (export "memory") 400)"#.into(),
            realloc: "i32.const 26000000".into(),
            description: Description {
                output_schema: Some(schema.into()),
                ..Handmade::default().description
            },
            answer: Answer {
                json: json.into(),
                ..Handmade::default().answer
            },
            ..Handmade::default()
        };
        let attack = Attack::by(skill).settled_by(checks_are_over);
        let result = attack.clone().under(wall_time(SHORT));
        match schema.contains("pattern") {
            true => result.ends_with(End::InvalidOutput("")),
            false => result.ends_with(End::Success),
        };
    }
}
