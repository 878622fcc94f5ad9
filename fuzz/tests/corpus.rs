//! What the fuzz targets begin from, and that all of them run.

use std::fs;
use std::path::{Path, PathBuf};

/// Where coverage is not counted, what is no seed is never changed, and of two that are the same one is idle.
#[test]
fn every_input_of_a_corpus_is_a_seed_of_its_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: PathBuf| {
        let entries = fs::read_dir(folder).expect("it can be read");
        entries.map(|entry| {
            let entry = entry.expect("it can be read");
            let name = entry.file_name().into_string();
            (name.expect("names are UTF-8"), entry.path())
        })
    };
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("it can be read");
    let steps = fuzz.with_file_name(".ci").join("run");
    let steps = fs::read_to_string(steps).expect("it can be read");
    let (_, steps) = steps.split_once("targets=(").expect("it fuzzes");
    let (listed, _) = steps.split_once(')').expect("it fuzzes");
    let listed: Vec<&str> = listed.split(' ').collect();
    let mut targets = Vec::new();
    for (target, corpus) in names(fuzz.join("corpus")) {
        let source = fuzz.join("fuzz_targets").join(format!("{target}.rs"));
        let source = fs::read_to_string(source).expect("each corpus has a target");
        let mut known: Vec<Vec<u8>> = Vec::new();
        for (name, path) in names(corpus) {
            let seed = format!("include_bytes!(\"../corpus/{target}/{name}\")");
            assert!(source.contains(&seed), "no seed of `{target}`: {name}");
            let bytes = fs::read(path).expect("it can be read");
            assert!(!known.contains(&bytes), "twice in `{target}`: {name}");
            known.push(bytes);
        }
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target}"
        );
        targets.push(target);
    }
    targets.sort();
    assert_eq!(listed, targets, "what `.ci/run` runs");
}
