//! Guests that are hostile when they are asked what they are: code that breaks a limit in a start
//! function, in `describe` or after it, and descriptions that cannot be believed.

mod changing;

use std::time::Duration;

use serde_json::json;
use skillhost::execution::Phase;
use skillhost::skill::{DescriptionError, SchemaError};
use skillhost::{Cause, Fault, Host, Limit, Limits, LoadError, Status};

use crate::attack::{End, SHORT, builder};
use crate::computing::with_destructor;
use crate::handmade::{Description, Handmade, SPIN};
use crate::load::Load;
use crate::measure::alone;

/// Code that breaks a limit by itself, and which one.
const HOSTILE: [(&str, Limit); 8] = [
    (SPIN, Limit::Fuel),
    ("(drop (memory.grow (i32.const 2000)))", Limit::Memory),
    (
        "(drop (table.grow $table (ref.null func) (i32.const 200000)))",
        Limit::TableElements,
    ),
    ("(call $deeper)", Limit::Stack),
    (
        "(loop $more (drop (call $subscribe (i64.const -1))) (br $more))",
        Limit::Handles,
    ),
    (
        "(call $log (i32.const 2) (i32.const 0) (i32.const 8388608))",
        Limit::HostBytes,
    ),
    (
        "(call $block (call $subscribe (i64.const -1)))",
        Limit::WallTime,
    ),
    (
        "(loop $again (drop (call $now)) (br $again))",
        Limit::WallTime,
    ),
];

/// What the hostile code refers to.
const FIELDS: &str = "(table $table 1 funcref) (func $deeper (call $deeper))";

pub fn in_start(code: &str) -> Handmade {
    Handmade {
        fields: format!("{FIELDS} (func $start {code}) (start $start)"),
        ..Handmade::that_calls()
    }
}

fn in_describe(code: &str) -> Handmade {
    Handmade {
        fields: FIELDS.into(),
        describe: format!("{code} i32.const $description"),
        ..Handmade::that_calls()
    }
}

fn after_describe(code: &str) -> Handmade {
    Handmade {
        fields: FIELDS.into(),
        post_return: code.into(),
        ..Handmade::that_calls()
    }
}

/// A host under whose limits skills describe themselves. Whichever limit is meant, the others are
/// far away.
fn host(limit: Limit) -> Host {
    let limits = match limit {
        Limit::WallTime => Limits {
            wall_time: Duration::from_millis(200),
            fuel: Limits::ceiling().fuel,
            ..Limits::default()
        },
        _ => Limits {
            fuel: 10_000_000,
            handles: 100,
            ..Limits::default()
        },
    };
    builder().default_limits(limits).build().unwrap()
}

#[test]
fn what_breaks_a_limit_in_a_start_function() {
    let _alone = alone();
    for (code, limit) in HOSTILE {
        Load::by(&in_start(code))
            .on(&host(limit))
            .describing_ends_with(End::Limit(limit, Phase::Instantiation));
    }
}

#[test]
fn what_breaks_a_limit_in_describe() {
    let _alone = alone();
    for (code, limit) in HOSTILE {
        Load::by(&in_describe(code))
            .on(&host(limit))
            .describing_ends_with(End::Limit(limit, Phase::Run));
    }
}

/// Also where each of several memories stays below the limit.
#[test]
fn memories_that_break_it_together() {
    let _alone = alone();
    let code = "(drop (memory.grow $second (i32.const 600))) (drop (memory.grow (i32.const 600)))";
    for (mut skill, phase) in [
        (in_start(code), Phase::Instantiation),
        (in_describe(code), Phase::Run),
    ] {
        skill.fields.insert_str(0, "(memory $second 1) ");
        Load::by(&skill)
            .on(&host(Limit::Memory))
            .describing_ends_with(End::Limit(Limit::Memory, phase));
    }
}

#[test]
fn what_breaks_a_limit_after_describe() {
    let _alone = alone();
    for (code, limit) in HOSTILE {
        let calls_the_host = code.contains("(call $") && !code.contains("$deeper");
        let load = Load::by(&after_describe(code)).on(&host(limit));
        match calls_the_host {
            // No calls to the host are allowed there.
            true => load.describing_ends_with(End::Trap("cannot_leave_component")),
            false => load.describing_ends_with(End::Limit(limit, Phase::Run)),
        };
    }
}

/// A destructor that loops is stopped where `describe` drops what has one. Where it leaves that to the host,
/// nothing of the skill runs any more.
#[test]
fn a_loop_in_a_destructor() {
    let _alone = alone();
    let describing = |code: &str| Handmade {
        describe: format!("{code} i32.const $description"),
        ..with_destructor(SPIN, "i32.const $answer")
    };
    for limit in [Limit::Fuel, Limit::WallTime] {
        Load::by(&describing("(call $drop (call $new (i32.const 7)))"))
            .on(&host(limit))
            .describing_ends_with(End::Limit(limit, Phase::Run));
    }
    Load::by(&describing("(drop (call $new (i32.const 7)))"))
        .on(&host(Limit::Fuel))
        .succeeds();
}

#[test]
fn what_computes_past_its_time() {
    let _alone = alone();
    let host = builder()
        .default_limits(Limits {
            wall_time: SHORT,
            fuel: Limits::ceiling().fuel,
            ..Limits::default()
        })
        .build()
        .unwrap();
    for (skill, phase) in [
        (in_start(SPIN), Phase::Instantiation),
        (in_describe(SPIN), Phase::Run),
        (after_describe(SPIN), Phase::Run),
    ] {
        let failure = Load::by(&skill)
            .on(&host)
            .describing_ends_with(End::Limit(Limit::WallTime, phase));
        let allowed = 60;
        let limit = Limit::WallTime;
        assert_eq!(
            failure.cause,
            Cause::Timeout {
                limit,
                allowed,
                phase
            }
        );
    }
}

/// Where the default limits are too small for what is declared, the skill cannot even describe
/// itself.
#[test]
fn what_declares_too_much() {
    let _alone = alone();
    let memory = Handmade {
        memory: r#"(memory (export "memory") 65536)"#.into(),
        ..Handmade::default()
    };
    let table = Handmade {
        fields: "(table 4000000000 funcref)".into(),
        ..Handmade::default()
    };
    let instances = Handmade {
        before: format!(
            "(core module $e) {}",
            "(core instance (instantiate $e))".repeat(900)
        ),
        ..Handmade::default()
    };
    for (skill, limit) in [
        (memory, Limit::Memory),
        (table, Limit::TableElements),
        (instances, Limit::Instances),
    ] {
        Load::by(&skill).describing_ends_with(End::Limit(limit, Phase::Instantiation));
    }
}

#[test]
fn what_traps_or_answers_from_nowhere() {
    let _alone = alone();
    for (describe, trap) in [
        ("unreachable", "unreachable_code_reached"),
        ("i32.const 7", "contract_violation"),
        ("i32.const -4", "contract_violation"),
    ] {
        let skill = Handmade {
            describe: describe.into(),
            ..Handmade::default()
        };
        let failure = Load::by(&skill).describing_ends_with(End::Trap(trap));
        assert!(failure.message.starts_with("the skill "), "{failure}");
    }
}

/// As much as the memory limit lets a guest say.
#[test]
fn a_description_as_large_as_the_memory() {
    let _alone = alone();
    let skill = Handmade {
        memory: r#"(memory (export "memory") 1000)"#.into(),
        // The description's name is made as long as the memory.
        describe: "(i32.store offset=4 (i32.const $description) (i32.const 60000000))
            (i32.store (i32.const $description) (i32.const 0))
            i32.const $description"
            .into(),
        ..Handmade::default()
    };
    Load::by(&skill).describing_ends_with(End::Limit(Limit::Output, Phase::Run));
}

/// It may say as much as an output has, and 64 KiB: what is just beyond that is not taken over, and what is just
/// within it is, and is too long for a text.
#[test]
fn a_description_a_little_longer_than_it_may_be() {
    let _alone = alone();
    let allowed = Limits::default().output_bytes + (64 << 10);
    let said = |bytes: u64| {
        described(Description {
            description: "x".repeat(bytes.try_into().expect("it fits in memory")),
            ..usual()
        })
    };
    Load::by(&said(allowed)).describing_ends_with(End::Limit(Limit::Output, Phase::Run));
    is_not_believed(said(allowed - (4 << 10)), |e| {
        matches!(e, DescriptionError::TextTooLong { .. })
    });
}

#[test]
fn ten_thousand_tools() {
    let _alone = alone();
    let tools = |count| {
        described(Description {
            tools: (0..count).map(|n| (format!("t{n}"), "{}".into())).collect(),
            ..usual()
        })
    };
    // More than the host takes over.
    Load::by(&tools(10_000)).describing_ends_with(End::Limit(Limit::Output, Phase::Run));
    is_not_believed(tools(2_000), |e| {
        matches!(e, DescriptionError::TooManyTools(2_000))
    });
}

fn usual() -> Description {
    Handmade::default().description
}

pub fn described(description: Description) -> Handmade {
    Handmade {
        memory: r#"(memory (export "memory") 400)"#.into(),
        realloc: "i32.const 26000000".into(),
        description,
        ..Handmade::default()
    }
}

#[track_caller]
fn is_not_believed(skill: Handmade, expected: impl Fn(&DescriptionError) -> bool) {
    let error = Load::by(&skill).fails();
    let LoadError::Description(description) = &error else {
        panic!("{error}")
    };
    assert!(expected(description), "{error}");
}

#[test]
fn names_and_texts_that_are_none() {
    let _alone = alone();
    for name in ["../etc\x1b", "", "a\0", "ü", &"x".repeat(1 << 20)] {
        let name = name.to_owned();
        let skill = described(Description { name, ..usual() });
        is_not_believed(skill, |e| matches!(e, DescriptionError::Name(_)));
    }
    for version in ["one", "", "1.0", "1.0.0\x1b[2J", &"9".repeat(100_000)] {
        let version = version.to_owned();
        let skill = described(Description { version, ..usual() });
        is_not_believed(skill, |e| matches!(e, DescriptionError::Version { .. }));
    }
    let skill = described(Description {
        description: "x".repeat(1 << 20),
        ..usual()
    });
    is_not_believed(skill, |e| matches!(e, DescriptionError::TextTooLong { .. }));
}

fn with_tools(tools: &[(&str, &str)]) -> Handmade {
    let tools = tools
        .iter()
        .map(|(name, schema)| ((*name).into(), (*schema).into()));
    described(Description {
        tools: tools.collect(),
        ..usual()
    })
}

#[test]
fn tools_that_are_none() {
    let _alone = alone();
    is_not_believed(with_tools(&[]), |e| matches!(e, DescriptionError::NoTools));
    let twice = with_tools(&[("a", "{}"), ("a", "{}")]);
    is_not_believed(twice, |e| matches!(e, DescriptionError::DuplicateTool(_)));
    for name in ["a b", "", "a\x1b[2J", &"x".repeat(65)] {
        is_not_believed(with_tools(&[(name, "{}")]), |e| {
            matches!(e, DescriptionError::ToolName(_))
        });
    }
}

#[test]
fn schemas_that_are_none() {
    let _alone = alone();
    for schema in [
        r#"{"type": 7}"#,
        "7",
        "[]",
        r#"{"pattern": "((a{1000}){1000}){1000}"}"#,
        r#"{"pattern": "(\u001b[2J"}"#,
        r#"{"type": "\u001b[2J\u202e"}"#,
    ] {
        is_not_believed(with_tools(&[("a", schema)]), |e| {
            matches!(e, DescriptionError::Schema { .. })
        });
    }
    let output = described(Description {
        output_schema: Some(r#"{"type": "nothing"}"#.into()),
        ..usual()
    });
    is_not_believed(output, |e| {
        matches!(
            e,
            DescriptionError::Schema {
                which: "output",
                ..
            }
        )
    });
    let long = format!(r#"{{"description": "{}"}}"#, "x".repeat(300_000));
    is_not_believed(with_tools(&[("a", &long)]), |e| {
        matches!(
            e,
            DescriptionError::Schema {
                source: SchemaError::TooLarge(_),
                ..
            }
        )
    });
}

/// No JSON, or so deep that a parser would run out of stack.
#[test]
fn schemas_that_cannot_be_parsed() {
    let _alone = alone();
    let deep = format!(
        "{}{{}}{}",
        r#"{"not":"#.repeat(100_000),
        "}".repeat(100_000)
    );
    for (schema, why) in [
        ("{", "it is not JSON"),
        ("", "it is not JSON"),
        (&deep, "it is nested too deep"),
    ] {
        let error = Load::by(&with_tools(&[("a", schema)])).fails();
        let LoadError::Describe { failure, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(failure.status(), Status::Failed);
        assert_eq!(failure.fault, Fault::Skill);
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// References out of the schema, which the host would have to fetch.
#[test]
fn schemas_that_lead_elsewhere() {
    let _alone = alone();
    for reference in [
        "https://example.com/schema",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "../other",
        "\u{1b}[2J",
    ] {
        let schema = json!({ "$ref": reference }).to_string();
        is_not_believed(with_tools(&[("a", &schema)]), |e| {
            matches!(
                e,
                DescriptionError::Schema {
                    source: SchemaError::Reference { .. },
                    ..
                }
            )
        });
    }
}

#[test]
fn schemas_that_take_for_ever() {
    let _alone = alone();
    let exponential = {
        let mut defs = serde_json::Map::new();
        for level in 0..64 {
            let next = format!("#/$defs/l{}", level + 1);
            defs.insert(
                format!("l{level}"),
                json!({"allOf": [{"$ref": next}, {"$ref": next}]}),
            );
        }
        defs.insert("l64".into(), json!({"type": "object"}));
        json!({"$ref": "#/$defs/l0", "$defs": defs}).to_string()
    };
    for schema in [&exponential, r##"{"$ref": "#"}"##] {
        is_not_believed(with_tools(&[("a", schema)]), |e| {
            matches!(
                e,
                DescriptionError::Schema {
                    source: SchemaError::TooExpensive,
                    ..
                }
            )
        });
    }
}
