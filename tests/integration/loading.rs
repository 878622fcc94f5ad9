//! Loading: from a file, a folder and from memory, and everything that cannot be loaded.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use skillhost::skill::{Package, PackageError};
use skillhost::{Host, Limits, LoadError, Misfit};

use crate::handmade::Handmade;
use crate::harness::NONE;
use crate::harness::{behaviours_path, builder, check_undisturbed, host, load, output, run_tool};

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
            imports("wasi:http/incoming-handler@0.2.0"),
            "it imports `wasi:http/incoming-handler` in version 0.2.0, which this host does not offer",
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

/// A patch changes no function: what was built against a later one runs.
#[tokio::test]
async fn a_patch_of_the_contract_does_not_matter() {
    let mut skill = Handmade {
        execute: "(call $log (i32.const 2) (i32.const 0) (i32.const 3)) i32.const $answer".into(),
        ..Handmade::that_calls()
    };
    let logging = "skillhost:skill/logging@1.0.0";
    assert!(skill.before.contains(logging));
    skill.before = skill
        .before
        .replace(logging, "skillhost:skill/logging@1.0.9");
    skill.contract = "1.0.7";
    let record = crate::harness::Record::new();
    let host = builder().observer(record.clone()).build().unwrap();
    let loaded = load(&host, &skill).await;
    let imports = &loaded.surface().imports;
    assert!(
        imports.contains(&"skillhost:skill/logging@1.0.9".to_owned()),
        "{imports:?}"
    );
    let result = run_tool(&host, loaded.digest(), NONE).await;
    assert_eq!(output(&result), &json!({}));
    let events = record.events();
    let logged = events.iter().filter(|event| event.starts_with("log"));
    assert_eq!(logged.count(), 1, "{events:?}");

    // What the later one has and this one has not is named.
    skill.before = skill.before.replace(
        r#"(export "level" (type $level (eq $l)))"#,
        r#"(export "level" (type $level (eq $l))) (export "flush" (func))"#,
    );
    let error = error(&host, skill.build()).await;
    assert!(
        matches!(&error, LoadError::Misfit(Misfit::Import { .. })),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("`skillhost:skill/logging` in version 1.0.9"),
        "{error}"
    );
}

#[tokio::test]
async fn what_exports_the_tools_otherwise_names_interface_and_versions() {
    let text = Handmade::default().text();
    let exported = r#"(export "describe" (func $describe)) "#;
    assert!(text.contains(exported), "{text}");
    for (text, reason) in [
        (
            text.replace(exported, ""),
            "instance export `skillhost:skill/tools@1.0.0` does not have export `describe`",
        ),
        (
            text.replace(r#"(export "execute" (func $execute))"#, ""),
            "instance export `skillhost:skill/tools@1.0.0` does not have export `execute`",
        ),
    ] {
        let component = wat::parse_str(text).unwrap();
        let error = error(host(), component).await;
        let LoadError::Misfit(misfit) = &error else {
            panic!("{error}")
        };
        let Misfit::Export {
            interface,
            exported,
            expected,
            ..
        } = misfit
        else {
            panic!("{misfit:?}")
        };
        let named = [interface, exported, expected];
        assert_eq!(named, ["skillhost:skill/tools", "1.0.0", "1.0.0"]);
        let message = "it exports `skillhost:skill/tools` in version 1.0.0, and not as this host's \
                       version 1.0.0 has it: ";
        let said = misfit.to_string();
        let why = said.strip_prefix(message);
        assert!(
            why.is_some_and(|why| why.contains(reason) && !why.is_empty()),
            "{said}"
        );
    }
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
