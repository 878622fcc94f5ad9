//! Everything that is parsed from strangers' text: requests, results, manifests, documents, grants,
//! schemas. None of it panics, and what was read reads the same again.

#![no_main]

mod seeds;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::grant::DirectoryGrant;
use skillhost::skill::{Digest, Document, Manifest, Schema, SkillRef};
use skillhost::{ExecutionRequest, ExecutionResult, LimitOverrides};

/// What inputs are made from.
const SEEDS: [&[u8]; 5] = [
    include_bytes!("../corpus/input/directory.txt"),
    include_bytes!("../corpus/input/document.md"),
    include_bytes!("../corpus/input/manifest.toml"),
    include_bytes!("../corpus/input/request.json"),
    include_bytes!("../corpus/input/schema.txt"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<ExecutionRequest>(bytes) {
        let text = serde_json::to_string(&request).expect("a request can be written");
        let again: ExecutionRequest = serde_json::from_str(&text).expect("and be read again");
        assert_eq!(request.skill, again.skill);
        assert_eq!(request.input, again.input);
    }
    let _ = serde_json::from_slice::<ExecutionResult>(bytes);
    let _ = serde_json::from_slice::<LimitOverrides>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = text.parse::<Manifest>();
    let _ = text.parse::<Document>();
    let _ = text.parse::<DirectoryGrant>();
    let _ = text.parse::<Digest>();
    if let Ok(reference) = text.parse::<SkillRef>() {
        assert_eq!(
            reference.to_string().parse::<SkillRef>().as_ref(),
            Ok(&reference)
        );
    }
    let _ = skillhost::parse_bytes(text);
    let _ = skillhost::parse_duration(text);
    let printable = skillhost::text::printable(text, false);
    assert!(!printable.chars().any(char::is_control));
    // A schema, and a value to check with it.
    let (schema, value) = text.split_once('\n').unwrap_or((text, "{}"));
    if let (Ok(schema), Ok(value)) = (serde_json::from_str(schema), serde_json::from_str(value))
        && let Ok(schema) = Schema::new(&schema)
    {
        let _ = schema.check(&value);
    }
});
