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
        Err(LibraryError::Changed { skill, .. }) if skill == "words@1.0.0"
    ));
}

#[test]
fn what_was_changed_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let install = |replace| library.install(&package("one"), &description("1.0.0"), replace);
    let path = |file: &str| folder.path().join("words@1.0.0").join(file);
    let first = install(false).unwrap();
    assert_eq!(install(true).unwrap(), first);
    for file in ["skill.toml", "skill.wasm", "description.json"] {
        for change in [
            |path: PathBuf| fs::remove_file(path),
            |path: PathBuf| fs::write(path, ""),
        ] {
            change(path(file)).unwrap();
            let again = install(false).unwrap();
            assert!(again.installed_at > first.installed_at, "{file}");
            assert_eq!(
                library.read(&"words".into(), 100).unwrap().digest,
                first.digest
            );
            assert_eq!(
                library.description(&again).unwrap(),
                Some(description("1.0.0"))
            );
            assert_eq!(install(false).unwrap(), again);
        }
    }
    for replace in [false, true] {
        fs::write(path("installed.json"), "{").unwrap();
        let again = install(replace).unwrap();
        assert_eq!(library.list().unwrap(), [again]);
    }
}

/// It is in no list, and still something that is installed: it is found, told from another, and removed.
#[test]
fn a_skill_whose_record_cannot_be_read_is_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let install = |component: &[u8], version: &str| {
        let package = Package::from_parts(component.to_vec(), None, None).unwrap();
        library.install(&package, &description(version), false)
    };
    let damage = |version: &str| {
        let record = format!("words@{version}/installed.json");
        fs::write(folder.path().join(record), "{").unwrap();
    };
    install(b"component", "1.0.0").unwrap();
    damage("1.0.0");
    assert_eq!(library.list().unwrap(), []);
    for reference in ["words", "words@1.0.0"] {
        let error = library.find(&reference.parse().unwrap()).unwrap_err();
        assert!(
            matches!(&error, LibraryError::Record { skill, .. } if skill == "words@1.0.0"),
            "{error}"
        );
    }
    assert!(matches!(
        library.find(&"words@2.0.0".parse().unwrap()),
        Err(LibraryError::NotInstalled { .. })
    ));
    // Another one needs to be told that it may take the place, whatever else of the one that is there is damaged.
    let is_occupied = || {
        let occupied = |error| matches!(error, LibraryError::Occupied { .. });
        install(b"another", "1.0.0").is_err_and(occupied)
    };
    assert!(is_occupied());
    let manifest = folder.path().join("words@1.0.0/skill.toml");
    fs::write(&manifest, "[").unwrap();
    assert!(is_occupied());
    fs::remove_file(manifest).unwrap();
    install(b"component", "1.0.0").unwrap();
    assert!(library.unreadable().unwrap().is_empty());
    damage("1.0.0");
    install(b"component", "1.1.0").unwrap();
    // A bare name would mean the only one that can be read.
    let ambiguous = library.remove(&"words".into()).unwrap_err();
    let is_ambiguous = |error: &LibraryError| matches!(error, LibraryError::Ambiguous { versions, .. } if versions.len() == 2);
    assert!(is_ambiguous(&ambiguous), "{ambiguous}");
    damage("1.1.0");
    let ambiguous = library.remove_unreadable(&"words".into()).unwrap_err();
    assert!(is_ambiguous(&ambiguous), "{ambiguous}");
    for version in ["1.0.0", "1.1.0"] {
        let reference = format!("words@{version}").parse().unwrap();
        let removed = library.remove_unreadable(&reference).unwrap();
        assert_eq!(removed, format!("words@{version}"));
    }
    assert!(library.unreadable().unwrap().is_empty());
    assert!(matches!(
        library.remove_unreadable(&"words".into()),
        Err(LibraryError::NotInstalled { .. })
    ));
}

/// They are in no digest, and are what a model reads.
#[test]
fn another_document_or_file_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let at = |name: &str| folder.path().join("words@1.0.0").join(name);
    let document = |text: &str| format!("---\nname: words\ndescription: Counts.\n---\n{text}\n");
    let with = |text: &str, files: &[(&str, &str)]| {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
            .collect();
        let package = Package::from_parts(b"component".to_vec(), None, Some(document(text)));
        package.unwrap().with_files(files).unwrap()
    };
    let install = |package: &Package| {
        library
            .install(package, &description("1.0.0"), false)
            .unwrap()
    };
    let first = with("One.", &[("references/a.md", "a"), ("scripts/b/c", "c")]);
    let installed = install(&first);
    assert_eq!(fs::read(at("references/a.md")).unwrap(), b"a");
    assert_eq!(fs::read(at("scripts/b/c")).unwrap(), b"c");
    assert_eq!(install(&first), installed, "nothing is changed");
    install(&with(
        "Two.",
        &[("references/a.md", "a"), ("scripts/b/c", "c")],
    ));
    assert_eq!(
        fs::read_to_string(at("SKILL.md")).unwrap(),
        document("Two.")
    );
    install(&with("Two.", &[("references/a.md", "b")]));
    assert_eq!(fs::read(at("references/a.md")).unwrap(), b"b");
    assert!(!at("scripts").exists());
    // As it stands in a folder that is then changed.
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("assets")).unwrap();
    for (name, text) in [("skill.wasm", "component"), ("SKILL.md", &document("Two."))] {
        fs::write(source.path().join(name), text).unwrap();
    }
    for text in ["d", "e"] {
        fs::write(source.path().join("assets/d"), text).unwrap();
        install(&Package::read(source.path(), 1 << 20).unwrap());
        assert_eq!(fs::read_to_string(at("assets/d")).unwrap(), text);
    }
    install(&Package::from_bytes(b"component".to_vec()));
    assert!(!at("SKILL.md").exists() && !at("assets").exists());
}

#[test]
fn files_without_a_document_are_refused() {
    let files = [("assets/a".to_owned(), Vec::new())].into();
    let error = package("a").with_files(files).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`assets/a` cannot belong to a skill: there is no `SKILL.md` that refers to it"
    );
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

/// The beginning of a digest stands for it, where it is that of one alone.
#[test]
fn a_digest_may_be_cut() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    // Two whose digests begin alike: of so many there are.
    let mut seen = std::collections::HashMap::new();
    let (first, second) = (0..)
        .map(|number: u32| number.to_string())
        .find_map(|bytes| {
            let digits = package(&bytes).digest.hex()[..8].to_owned();
            let other = seen.insert(digits, bytes.clone())?;
            Some((other, bytes))
        })
        .unwrap();
    let digests = [(&first, "1.0.0"), (&second, "2.0.0")].map(|(bytes, version)| {
        let package = package(bytes);
        library
            .install(&package, &description(version), false)
            .unwrap();
        package.digest
    });
    let hex = digests.map(|digest| digest.hex());
    assert_eq!(hex[0][..8], hex[1][..8]);
    let more = (8..=64)
        .find(|end| hex[0][..*end] != hex[1][..*end])
        .unwrap();
    for (digest, hex) in digests.iter().zip(&hex) {
        for text in [
            hex[..more].to_owned(),
            format!("sha256:{}", &hex[..more]),
            hex[..more].to_uppercase(),
            hex.clone(),
            digest.to_string(),
        ] {
            let meant = library.reference(&text).unwrap();
            assert_eq!(meant, Some(SkillRef::Digest(*digest)), "{text}");
        }
    }
    let ambiguous = library.reference(&hex[0][..8]).unwrap_err().to_string();
    for part in ["words@1.0.0", "words@2.0.0", &hex[1]] {
        assert!(ambiguous.contains(part), "{ambiguous}");
    }
    // Seven digits are a name, and what nothing begins with is one, or nothing.
    let name = |text: &str| Some(text.parse::<SkillRef>().unwrap());
    assert_eq!(library.reference(&hex[0][..7]).unwrap(), name(&hex[0][..7]));
    let other = if hex[0].starts_with("00") {
        "ffffffff"
    } else {
        "00000000"
    };
    assert_eq!(library.reference(other).unwrap(), name(other));
    let other = format!("sha256:{other}");
    assert_eq!(library.reference(&other).unwrap(), None);
    // A name that others' digits begin with means neither; each can still be meant.
    let named = Description {
        name: hex[0][..more].to_owned(),
        ..description("3.0.0")
    };
    library.install(&package("named"), &named, false).unwrap();
    let both = library.reference(&named.name).unwrap_err().to_string();
    let (one, other) = (
        format!("{}@3.0.0", named.name),
        format!("sha256:{}", named.name),
    );
    for part in [&one, &other, &digests[0].to_string()] {
        assert!(both.contains(part.as_str()), "{both}");
    }
    assert_eq!(library.reference(&one).unwrap(), name(&one));
    let meant = Some(SkillRef::Digest(digests[0]));
    assert_eq!(library.reference(&other).unwrap(), meant);
    // As a digest, upper case is no name.
    let upper = named.name.to_uppercase();
    if upper != named.name {
        assert_eq!(library.reference(&upper).unwrap(), meant);
    }
    // Nothing else begins like that: it is the name.
    library.remove(&digests[0].into()).unwrap();
    assert_eq!(library.reference(&named.name).unwrap(), name(&named.name));
}
