//! The tools, called as a host calls them.

use regex_search::skill;
use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

const NOTES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/notes");

fn call(tool: &str, input: Value) -> Result<Value, Failure> {
    skill().call(tool, input, &TestContext::new())
}

fn search(mut input: Value) -> Value {
    if input.get("path").is_none() {
        input["path"] = json!(NOTES);
    }
    call("search", input).unwrap()
}

/// The files of the matches, below the notes, with their lines.
fn places(found: &Value) -> Vec<(String, u64)> {
    let place = |found: &Value| {
        let path = found["path"]
            .as_str()
            .unwrap()
            .trim_start_matches(NOTES)
            .trim_start_matches('/');
        (path.to_owned(), found["line"].as_u64().unwrap())
    };
    found["matches"]
        .as_array()
        .unwrap()
        .iter()
        .map(place)
        .collect()
}

#[track_caller]
fn refused(result: Result<Value, Failure>, expected: &str, part: &str) {
    match result {
        Err(Failure::InvalidInput { pointer, message }) => {
            assert_eq!(pointer, expected);
            assert!(message.contains(part), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tree_is_searched_in_order() {
    let found = search(json!({ "pattern": r"TODO: \w+" }));
    let expected = [
        ("garden.md", 7),
        ("meetings/2025-02-11.md", 7),
        ("meetings/2025-03-11.md", 7),
        ("reading.txt", 7),
    ];
    assert_eq!(
        places(&found),
        expected.map(|(path, line)| (path.to_owned(), line))
    );
    assert_eq!(found["files_searched"], 6);
    assert_eq!(found["truncated"], false);
}

#[test]
fn a_match_has_its_context() {
    let found = search(json!({ "pattern": "council about", "context": 1 }));
    let found = &found["matches"][0];
    assert_eq!(
        found["text"],
        "- TODO: Dana writes to the council about the compost."
    );
    assert_eq!(found["column"], 28);
    assert_eq!(
        found["before"],
        json!(["- The shed roof leaks. Bo gets two offers."])
    );
    assert_eq!(found.get("after"), None);
}

#[test]
fn globs_select_files_by_name_or_path() {
    let files =
        |glob: Value| search(json!({ "pattern": "TODO", "glob": glob }))["files_searched"].clone();
    assert_eq!(files(json!(["*.txt"])), 1);
    assert_eq!(files(json!(["recipes/*", "*.txt"])), 3);
    assert_eq!(files(json!(["*/recipes/*"])), 0);
    assert_eq!(files(json!(["**/2025-0[23]-*.md"])), 2);
}

#[test]
fn case_and_literals_are_options() {
    assert_eq!(places(&search(json!({ "pattern": "todo" }))).len(), 0);
    assert_eq!(
        places(&search(json!({ "pattern": "todo", "ignore_case": true }))).len(),
        4
    );
    assert_eq!(
        places(&search(json!({ "pattern": "0.5 l", "literal": true }))).len(),
        1
    );
}

#[test]
fn it_stops_after_enough_matches() {
    let found = search(json!({ "pattern": "TODO", "max_matches": 2 }));
    assert_eq!(places(&found).len(), 2);
    assert_eq!(found["truncated"], true);
    assert_eq!(
        search(json!({ "pattern": "TODO", "max_matches": 4 }))["truncated"],
        false
    );
}

#[test]
fn binary_large_and_hidden_files_are_left_out() {
    let directory = std::env::temp_dir().join(format!("regex-search-{}", std::process::id()));
    std::fs::create_dir_all(directory.join(".git")).unwrap();
    for (name, content) in [
        ("a.txt", "needle"),
        ("b.bin", "needle\0"),
        ("c.txt", "a large needle"),
        (".git/d", "needle"),
    ] {
        std::fs::write(directory.join(name), content).unwrap();
    }
    let ctx = TestContext::new().config("max_file_bytes", "10");
    let search = |hidden: bool| {
        let input = json!({ "path": directory, "pattern": "needle", "hidden": hidden });
        skill().call("search", input, &ctx).unwrap()
    };
    let (found, all) = (search(false), search(true));
    let files = call("list_files", json!({ "path": directory })).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();

    assert_eq!(found["matches"].as_array().unwrap().len(), 1);
    assert_eq!(found["files_skipped"], 2);
    assert_eq!(all["matches"].as_array().unwrap().len(), 2);
    assert_eq!(files["count"], 3);
    assert!(ctx.logs()[0].message.ends_with("b.bin: binary"));
}

#[test]
fn a_single_file_can_be_searched() {
    let found = search(
        json!({ "path": format!("{NOTES}/garden.md"), "pattern": "apple", "glob": ["*.txt"] }),
    );
    assert_eq!(found["matches"][0]["line"], 3);
}

#[test]
fn files_are_listed() {
    let files = call(
        "list_files",
        json!({ "path": NOTES, "glob": ["recipes/*"], "max_files": 1 }),
    )
    .unwrap();
    assert_eq!(files["count"], 2);
    let path = format!("{NOTES}/recipes/sourdough.md");
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert_eq!(files["files"], json!([{ "path": path, "bytes": bytes }]));
    assert!(files["bytes"].as_u64().unwrap() > bytes);
}

#[test]
fn mistakes_are_located() {
    let search = |input| call("search", input);
    refused(
        search(json!({ "path": NOTES, "pattern": "(a" })),
        "/pattern",
        "unclosed group",
    );
    refused(
        search(json!({ "path": NOTES, "pattern": "a", "glob": ["a", "[b"] })),
        "/glob/1",
        "unclosed",
    );
    refused(
        search(json!({ "path": NOTES, "pattern": "a", "context": 21 })),
        "/context",
        "at most 20",
    );
    refused(
        search(json!({ "path": "none/such", "pattern": "a" })),
        "/path",
        "not granted (--dir)",
    );
    refused(
        call("list_files", json!({ "path": "none/such" })),
        "/path",
        "not granted (--dir)",
    );
}
