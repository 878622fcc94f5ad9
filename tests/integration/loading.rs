//! Loading: from a file, a folder and from memory, and everything that cannot be loaded.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use skillhost::skill::{DescriptionError, Package, PackageError, SchemaError};
use skillhost::{Cause, CompileError, CompileSettings, Host, Limits, LoadError, Misfit, Status};

use crate::handmade::{Description, Handmade};
use crate::harness::{behaviours_path, builder, check_undisturbed, host, load, output, run_tool};
use crate::limits::NONE;

/// The error of what cannot be loaded. It must not take long, and must not break anything.
async fn error(host: &Host, component: Vec<u8>) -> LoadError {
    let began = Instant::now();
    let error = host
        .load_bytes(component)
        .await
        .expect_err("it must not load");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?} {error}",
        began.elapsed()
    );
    let text = error.to_string();
    assert!(
        !text.is_empty() && text.len() < 2_000 && !text.contains('\x1b'),
        "{text}"
    );
    check_undisturbed(host).await;
    error
}

#[tokio::test]
async fn a_skill_comes_from_a_file_a_folder_or_memory() {
    let host = builder().build().unwrap();
    let component = fs::read(behaviours_path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("skill.wasm"), &component).unwrap();
    let file = host.load(behaviours_path()).await.unwrap();
    let bytes = host.load_bytes(component.clone()).await.unwrap();
    let lone = host.load(folder.path()).await.unwrap();
    assert_eq!(file.digest(), bytes.digest());
    assert_eq!(file.digest(), lone.digest());
    assert_eq!(host.skills().len(), 1);
    assert_eq!(file.component_bytes(), component.len() as u64);
    assert!(
        file.surface()
            .imports
            .iter()
            .any(|name| name.starts_with("wasi:clocks/"))
    );

    // With a manifest it is another skill; the document alone changes nothing.
    fs::write(folder.path().join("skill.toml"), "[limits]\nfuel = 1000000").unwrap();
    let declared = host.load(folder.path()).await.unwrap();
    assert_ne!(declared.digest(), file.digest());
    fs::write(
        folder.path().join("SKILL.md"),
        "---\nname: behaviours\ndescription: b\n---\n",
    )
    .unwrap();
    assert_eq!(
        host.load(folder.path()).await.unwrap().digest(),
        declared.digest()
    );
    assert_eq!(host.skills().len(), 2);
    // The one that was loaded last is meant by the name.
    let named = host.skill(&"behaviours".parse().unwrap()).unwrap();
    assert_eq!(named.digest(), declared.digest());
}

#[tokio::test]
async fn what_cannot_be_read_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let error = host()
        .load(folder.path().join("nothing"))
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::Package(PackageError::Io { .. })));
    let error = host().load(folder.path()).await.unwrap_err();
    assert!(matches!(
        error,
        LoadError::Package(PackageError::NoComponent { .. })
    ));
    fs::write(
        folder.path().join("skill.wasm"),
        Handmade::default().build(),
    )
    .unwrap();
    fs::write(
        folder.path().join("SKILL.md"),
        "---\nname: other\ndescription: b\n---\n",
    )
    .unwrap();
    let error = host().load(folder.path()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "its SKILL.md names it \"other\", and the component says \"handmade\""
    );
    fs::write(folder.path().join("skill.toml"), "[grants]\nnetwork = true").unwrap();
    let error = host().load(folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("skill.toml"), "{error}");
}

#[tokio::test]
async fn what_is_no_component_is_not_loaded() {
    let module = wat::parse_str("(module)").unwrap();
    let component = Handmade::default().build();
    for (bytes, message) in [
        (Vec::new(), "it is empty"),
        (module, "core module"),
        (b"(component)".to_vec(), "WebAssembly text"),
        (b"#!/bin/sh".to_vec(), "does not begin with"),
    ] {
        let error = error(host(), bytes).await;
        assert!(matches!(
            &error,
            LoadError::Compile(CompileError::NotAComponent(_))
        ));
        assert!(error.to_string().contains(message), "{error}");
    }
    // Cut off anywhere, and with any byte flipped, it is refused or still a component, never a
    // crash.
    for length in (8..component.len()).step_by(7) {
        let _ = host().load_bytes(&component[..length]).await;
    }
    for at in (0..component.len()).step_by(11) {
        let mut broken = component.clone();
        broken[at] ^= 0x41;
        let _ = host().load_bytes(broken).await;
    }
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn what_does_not_fit_the_contract_names_interface_and_versions() {
    let imports = |name: &str| Handmade {
        before: format!(r#"(import "{name}" (instance (export "f" (func))))"#),
        ..Handmade::default()
    };
    let exports = |contract| Handmade {
        contract,
        ..Handmade::default()
    };
    for (skill, message) in [
        (
            exports("2.0.0"),
            "it exports `skillhost:skill/tools` in version 2.0.0; this host speaks version 1.0.0",
        ),
        (
            exports("1.9.0"),
            "it exports `skillhost:skill/tools` in version 1.9.0; this host speaks version 1.0.0",
        ),
        (
            imports("wasi:cli/exit@0.3.0"),
            "it imports `wasi:cli/exit` in version 0.3.0; this host offers version 0.2",
        ),
        (
            imports("acme:x/y@0.1.0"),
            "it imports `acme:x/y` in version 0.1.0, which this host does not offer",
        ),
        (
            imports("skillhost:skill/logging@1.3.0"),
            "it imports `skillhost:skill/logging` in version 1.3.0; this host offers version 1.0.0",
        ),
        (
            imports("wasi:http/outgoing-handler@0.2.0"),
            "it imports `wasi:http/outgoing-handler` in version 0.2.0, which this host does not offer",
        ),
    ] {
        let error = error(host(), skill.build()).await;
        assert!(matches!(&error, LoadError::Misfit(_)), "{error}");
        assert_eq!(
            error.to_string(),
            format!("it does not fit this host: {message}")
        );
        let package = Package::from_bytes(skill.build());
        let (_, misfit) = host().surface(&package).unwrap();
        assert_eq!(misfit.unwrap().to_string(), message);
    }
    let empty = wat::parse_str("(component)").unwrap();
    let error = error(host(), empty).await;
    assert!(matches!(error, LoadError::Misfit(Misfit::NoTools)));
}

/// The names fit, and what stands behind them does not.
#[tokio::test]
async fn what_does_not_fit_in_its_types_is_not_loaded() {
    let missing = Handmade {
        before: r#"(import "wasi:cli/exit@0.2.0" (instance (export "leave" (func))))"#.into(),
        ..Handmade::default()
    };
    let other = Handmade {
        before: r#"(import "wasi:cli/exit@0.2.0" (instance
            (export "exit" (func (param "status" string)))))"#
            .into(),
        ..Handmade::default()
    };
    let no_functions = wat::parse_str(
        r#"(component (instance $i) (export "skillhost:skill/tools@1.0.0" (instance $i)))"#,
    )
    .unwrap();
    for component in [missing.build(), other.build(), no_functions] {
        let error = error(host(), component).await;
        assert!(
            matches!(&error, LoadError::Misfit(Misfit::Shape(_))),
            "{error}"
        );
    }
}

/// What takes long to compile is refused before.
#[tokio::test]
async fn what_is_too_large_to_compile_is_not_loaded() {
    let host = builder()
        .compile(CompileSettings {
            max_component_bytes: 1 << 20,
            max_functions: 1_000,
            max_function_bytes: 10_000,
            ..CompileSettings::default()
        })
        .build()
        .unwrap();
    let large = Handmade {
        fields: format!("(data \"{}\")", "x".repeat(1 << 20)),
        ..Handmade::default()
    };
    let many = Handmade {
        fields: "(func)".repeat(1_000),
        ..Handmade::default()
    };
    let long = Handmade {
        fields: format!("(func {})", "(drop (i32.const 1))".repeat(10_000)),
        ..Handmade::default()
    };
    for (skill, message) in [
        (large, "it has a size of 1.0 MiB; 1 MiB are allowed"),
        (
            many,
            "it has a number of functions of more than 1,000; 1,000 are allowed",
        ),
        (long, "it has a function of"),
    ] {
        let error = error_of(&host, &skill).await;
        assert!(
            matches!(&error, LoadError::Compile(CompileError::TooLarge { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(message), "{error}");
    }
}

async fn error_of(host: &Host, skill: &Handmade) -> LoadError {
    error(host, skill.build()).await
}

/// Components in components in components, blocks in blocks in blocks.
#[tokio::test]
async fn absurd_nesting_is_not_loaded() {
    let mut nested = String::new();
    let depth = 2_000;
    // The binary by hand: a parser of text would have to be as deep.
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..depth {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        let mut length = component.len();
        while length >= 0x80 {
            outer.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(&component);
        component = outer;
    }
    let error = error(host(), component).await;
    assert!(
        matches!(error, LoadError::Compile(_) | LoadError::Misfit(_)),
        "{error}"
    );

    for _ in 0..5_000 {
        nested.push_str("block ");
    }
    nested.push_str(&"end ".repeat(5_000));
    let blocks = Handmade {
        fields: format!("(func {nested})"),
        ..Handmade::default()
    };
    let text = blocks.text();
    // On a thread of its own, whose stack holds what parsing and compiling this takes.
    let component = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || wat::parse_str(text).unwrap())
        .unwrap()
        .join()
        .unwrap();
    // Deep, and still legal: it loads or it is refused, in bounded time.
    let _ = host().load_bytes(component).await;
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_skill_that_fails_to_describe_itself_is_not_loaded() {
    let trap = Handmade {
        describe: "unreachable".into(),
        ..Handmade::default()
    };
    let nonsense = Handmade {
        describe: "i32.const 7".into(),
        ..Handmade::default()
    };
    let outside = Handmade {
        describe: "i32.const -4".into(),
        ..Handmade::default()
    };
    for skill in [trap, nonsense, outside] {
        let error = error_of(host(), &skill).await;
        let LoadError::Describe(failure) = &error else {
            panic!("{error}")
        };
        assert!(matches!(failure.cause, Cause::Trap { .. }));
        assert!(
            error
                .to_string()
                .starts_with("it did not describe itself: the skill "),
            "{error}"
        );
    }
}

fn described(description: Description) -> Handmade {
    Handmade {
        memory: r#"(memory (export "memory") 400)"#.into(),
        fields: String::new(),
        realloc: "i32.const 26000000".into(),
        description,
        ..Handmade::default()
    }
}

#[tokio::test]
async fn a_description_that_cannot_be_believed_is_not_loaded() {
    let usual = || Handmade::default().description;
    let tool = |name: &str, schema: &str| Description {
        tools: vec![(name.into(), schema.into())],
        ..usual()
    };
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
    let deep = format!(
        "{}{{}}{}",
        r#"{"not":"#.repeat(100_000),
        "}".repeat(100_000)
    );
    type Is = fn(&DescriptionError) -> bool;
    let cases: Vec<(Description, Is)> = vec![
        (
            Description {
                name: "../etc\x1b".into(),
                ..usual()
            },
            |e| matches!(e, DescriptionError::Name(_)),
        ),
        (
            Description {
                name: String::new(),
                ..usual()
            },
            |e| matches!(e, DescriptionError::Name(_)),
        ),
        (
            Description {
                name: "x".repeat(1 << 20),
                ..usual()
            },
            |e| matches!(e, DescriptionError::Name(_)),
        ),
        (
            Description {
                version: "one".into(),
                ..usual()
            },
            |e| matches!(e, DescriptionError::Version { .. }),
        ),
        (
            Description {
                description: "x".repeat(1 << 20),
                ..usual()
            },
            |e| matches!(e, DescriptionError::TextTooLong { .. }),
        ),
        (
            Description {
                tools: Vec::new(),
                ..usual()
            },
            |e| matches!(e, DescriptionError::NoTools),
        ),
        (
            Description {
                tools: (0..2_000).map(|n| (format!("t{n}"), "{}".into())).collect(),
                ..usual()
            },
            |e| matches!(e, DescriptionError::TooManyTools(2_000)),
        ),
        (
            Description {
                tools: vec![("a".into(), "{}".into()), ("a".into(), "{}".into())],
                ..usual()
            },
            |e| matches!(e, DescriptionError::DuplicateTool(_)),
        ),
        (tool("a b", "{}"), |e| {
            matches!(e, DescriptionError::ToolName(_))
        }),
        (tool("", "{}"), |e| {
            matches!(e, DescriptionError::ToolName(_))
        }),
        (tool("a", r#"{"type": 7}"#), |e| {
            matches!(e, DescriptionError::Schema { .. })
        }),
        (tool("a", "7"), |e| {
            matches!(e, DescriptionError::Schema { .. })
        }),
        (tool("a", &exponential), |e| {
            matches!(
                e,
                DescriptionError::Schema {
                    source: SchemaError::TooExpensive,
                    ..
                }
            )
        }),
        (tool("a", r##"{"$ref": "#"}"##), |e| {
            matches!(
                e,
                DescriptionError::Schema {
                    source: SchemaError::TooExpensive,
                    ..
                }
            )
        }),
        (
            tool("a", r#"{"$ref": "https://example.com/schema"}"#),
            |e| {
                matches!(
                    e,
                    DescriptionError::Schema {
                        source: SchemaError::Reference { .. },
                        ..
                    }
                )
            },
        ),
        (tool("a", r#"{"$ref": "file:///etc/passwd"}"#), |e| {
            matches!(
                e,
                DescriptionError::Schema {
                    source: SchemaError::Reference { .. },
                    ..
                }
            )
        }),
        (
            tool("a", r#"{"pattern": "((a{1000}){1000}){1000}"}"#),
            |e| matches!(e, DescriptionError::Schema { .. }),
        ),
        (
            tool(
                "a",
                &format!(r#"{{"description": "{}"}}"#, "x".repeat(300_000)),
            ),
            |e| {
                matches!(
                    e,
                    DescriptionError::Schema {
                        source: SchemaError::TooLarge(_),
                        ..
                    }
                )
            },
        ),
        (
            Description {
                output_schema: Some(r#"{"type": "nothing"}"#.into()),
                ..usual()
            },
            |e| {
                matches!(
                    e,
                    DescriptionError::Schema {
                        which: "output",
                        ..
                    }
                )
            },
        ),
    ];
    for (number, (description, expected)) in cases.into_iter().enumerate() {
        let error = error_of(host(), &described(description)).await;
        let LoadError::Description(description) = &error else {
            panic!("case {number}: {error}")
        };
        assert!(expected(description), "case {number}: {error}");
    }
    // More tools than the host takes over.
    let tools = (0..10_000)
        .map(|n| (format!("t{n}"), "{}".into()))
        .collect();
    let error = error_of(host(), &described(Description { tools, ..usual() })).await;
    let LoadError::Describe(failure) = &error else {
        panic!("{error}")
    };
    assert_eq!(failure.status(), Status::ResourceExhausted, "{error}");
    // A schema that is no JSON, or so deep that a parser would run out of stack.
    for schema in ["{", "", &deep] {
        let error = error_of(host(), &described(tool("a", schema))).await;
        assert!(matches!(&error, LoadError::Describe(_)), "{error}");
        assert!(error.to_string().contains("is not JSON"), "{error}");
    }
}

/// As much as the memory limit lets a guest say.
#[tokio::test]
async fn a_huge_description_is_not_taken_over() {
    let usual = || Handmade::default().description;
    let skill = Handmade {
        memory: r#"(memory (export "memory") 1000)"#.into(),
        description: Description {
            name: "x".into(),
            ..usual()
        },
        // The description's name is made as long as the memory.
        describe: "(i32.store offset=4 (i32.const $description) (i32.const 60000000))
            (i32.store (i32.const $description) (i32.const 0))
            i32.const $description"
            .into(),
        ..Handmade::default()
    };
    let error = error_of(host(), &skill).await;
    let LoadError::Describe(failure) = &error else {
        panic!("{error}")
    };
    assert_eq!(failure.status(), Status::ResourceExhausted, "{error}");
}

/// It has no grants, nobody hears what it logs, and it may still be loaded.
#[tokio::test]
async fn describing_sees_nothing_and_is_heard_by_nobody() {
    let record = crate::harness::Record::new();
    let host = builder().observer(record.clone()).build().unwrap();
    let skill = Handmade {
        describe: "(local $n i32) (loop $more
                (call $log (i32.const 2) (i32.const 0) (i32.const 1000))
                (br_if $more (i32.lt_u
                    (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
            i32.const $description"
            .into(),
        ..Handmade::that_calls()
    };
    let skill = load(&host, &skill).await;
    assert_eq!(record.events(), Vec::<String>::new());
    let result = run_tool(&host, skill.digest(), NONE).await;
    assert_eq!(output(&result), &json!({}));
    assert_eq!(result.limits, Limits::default());
}
