use super::*;
use crate::skill::{Annotations, Tool};

fn description(version: &str) -> Description {
    Description {
        name: "words".into(),
        version: version.into(),
        description: "Counts.".into(),
        tools: vec![Tool {
            name: "count".into(),
            title: None,
            description: String::new(),
            input_schema: serde_json::json!({}),
            output_schema: None,
            annotations: Annotations::resolve(None, None, None, None),
            marked_destructive: false,
        }],
    }
}

fn package(bytes: &str) -> Package {
    Package::from_parts(bytes.as_bytes(), Some("[limits]\nfuel = 1".into()), None).unwrap()
}

#[test]
fn many_replace_one_another_at_once_and_one_of_them_stays() {
    let folder = tempfile::tempdir().unwrap();
    // As if a process had been killed half way.
    let left = folder.path().join(".installing-x");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("skill.wasm"), "").unwrap();
    let library = Library::new(folder.path());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let library = &library;
            scope.spawn(move || {
                let package = package(&format!("component {number}"));
                for _ in 0..20 {
                    library
                        .install(&package, &description("1.0.0"), true)
                        .unwrap();
                    assert_eq!(library.list().unwrap().len(), 1);
                }
            });
        }
    });
    assert!(library.read(&"words".parse().unwrap(), 1 << 20).is_ok());
    let names = fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the skill and the lock: {names:?}");
}

#[test]
fn versions_stand_side_by_side_and_the_newest_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path().join("skills"));
    assert_eq!(library.list().unwrap(), []);
    for version in ["1.9.0", "1.10.0"] {
        library
            .install(&package(version), &description(version), false)
            .unwrap();
    }
    let found = library.find(&"words".into()).unwrap();
    assert_eq!(found.version, "1.10.0");
    assert_eq!(
        library.read(&"words@1.9.0".into(), 100).unwrap().digest,
        package("1.9.0").digest
    );
    assert_eq!(library.find(&found.digest.into()).unwrap(), found);
    assert!(matches!(
        library.remove(&"words".into()),
        Err(LibraryError::Ambiguous { .. })
    ));
    library.remove(&"words@1.10.0".into()).unwrap();
    assert_eq!(library.find(&"words".into()).unwrap().version, "1.9.0");
    let left: Vec<_> = fs::read_dir(folder.path().join("skills"))
        .unwrap()
        .collect();
    assert_eq!(
        left.len(),
        2,
        "nothing but the lock is left behind: {left:?}"
    );
}

#[test]
fn another_skill_under_the_same_version_needs_to_be_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    library
        .install(&package("one"), &description("1.0.0"), false)
        .unwrap();
    library
        .install(&package("one"), &description("1.0.0"), false)
        .unwrap();
    assert!(matches!(
        library.install(&package("two"), &description("1.0.0"), false),
        Err(LibraryError::Occupied { .. })
    ));
    library
        .install(&package("two"), &description("1.0.0"), true)
        .unwrap();
    assert_eq!(
        library.find(&"words".into()).unwrap().digest,
        package("two").digest
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// On a file system without the exchange of two folders, whoever replaces one may be killed
/// between the two steps.
#[test]
fn a_version_whose_replacement_was_broken_off_is_still_installed() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let install = |bytes: &str, replace| {
        library
            .install(&package(bytes), &description("1.0.0"), replace)
            .unwrap()
    };
    let old = install("one", false);
    let path = |name: &str| folder.path().join(name);
    fs::rename(path("words@1.0.0"), path(".replaced-words@1.0.0")).unwrap();
    assert_eq!(library.list().unwrap(), std::slice::from_ref(&old));
    let read = library.read(&"words@1.0.0".into(), 100).unwrap();
    assert_eq!(read.digest, old.digest);
    let new = install("two", true);
    assert_eq!(library.list().unwrap(), [new]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_change_on_disk_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    library
        .install(&package("one"), &description("1.0.0"), false)
        .unwrap();
    fs::write(
        folder.path().join("words@1.0.0/skill.toml"),
        "[limits]\nfuel = 2",
    )
    .unwrap();
    assert!(matches!(
        library.read(&"words".into(), 100),
        Err(LibraryError::Changed { .. })
    ));
}

#[test]
fn a_misspelt_name_is_answered_with_what_comes_close() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    library
        .install(&package("one"), &description("1.0.0"), false)
        .unwrap();
    let error = library.find(&"wrods".into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no skill `wrods` is installed (there is words@1.0.0)"
    );
}
