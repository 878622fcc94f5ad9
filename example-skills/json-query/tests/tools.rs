//! The tools, called as a host calls them.

use json_query::skill;
use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

const PEOPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/people.json");
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/schema.json");

fn call(tool: &str, input: Value) -> Result<Value, Failure> {
    skill().call(tool, input, &TestContext::new())
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
fn filters_run_on_values_files_and_attachments() {
    let results = call(
        "query",
        json!({ "data": { "a": [1, 2] }, "filter": ".a[]" }),
    )
    .unwrap();
    assert_eq!(results, json!({ "results": [1, 2], "truncated": false }));

    let filter = ".people | map(select(.age > 40).name)";
    let results = call("query", json!({ "path": PEOPLE, "filter": filter })).unwrap();
    assert_eq!(results["results"], json!([["Ada", "Dana"]]));

    let lines = Attachment::new("log.jsonl", "application/jsonl", "{\"n\":1}\n{\"n\":2}\n");
    let ctx = TestContext::new().attachment(lines);
    let results = skill()
        .call("query", json!({ "filter": ".n" }), &ctx)
        .unwrap();
    assert_eq!(results["results"], json!([1, 2]));
}

#[test]
fn endless_filters_are_cut_off() {
    let results = call(
        "query",
        json!({ "data": 1, "filter": "recurse(. * 2)", "max_results": 3 }),
    )
    .unwrap();
    assert_eq!(results, json!({ "results": [1, 2, 4], "truncated": true }));
    let results = call(
        "query",
        json!({ "data": 1, "filter": "., .", "max_results": 2 }),
    )
    .unwrap();
    assert_eq!(results["truncated"], false);
}

#[test]
fn filters_that_cannot_work_are_located() {
    let query = |filter: &str| call("query", json!({ "data": [1], "filter": filter }));
    refused(query(".a |"), "/filter", "expected term at the end");
    refused(query(".[] | .b"), "/filter", "cannot index 1 with \"b\"");
}

#[test]
fn data_that_cannot_be_read_is_located() {
    let query = |mut input: Value| {
        input["filter"] = json!(".");
        call("query", input)
    };
    refused(query(json!({})), "", "give `data` or `path`");
    refused(
        query(json!({ "data": 1, "path": "a" })),
        "/path",
        "not both",
    );
    refused(
        query(json!({ "path": "none/such.json" })),
        "/path",
        "not granted (--dir)",
    );
    refused(
        query(json!({ "path": concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml") })),
        "/path",
        "not JSON: ",
    );
}

#[test]
fn data_that_fit_are_valid() {
    let verdict = call("validate", json!({ "path": PEOPLE, "schema_path": SCHEMA })).unwrap();
    assert_eq!(verdict, json!({ "valid": true, "faults": [] }));
}

#[test]
fn faults_are_listed_with_their_places() {
    let data = json!({ "team": "x", "people": [{ "name": "Eve", "email": "nowhere", "age": -1 }] });
    let verdict = call("validate", json!({ "data": data, "schema_path": SCHEMA })).unwrap();
    assert_eq!(verdict["valid"], false);
    assert_eq!(
        verdict["faults"][0],
        json!({
            "pointer": "/people/0/age",
            "message": "-1 is less than the minimum of 0",
            "schema_pointer": "/$defs/person/properties/age/minimum",
        })
    );
    assert_eq!(verdict["faults"][1]["pointer"], "/people/0/email");
}

#[test]
fn unusable_schemas_are_located() {
    let validate = |schema: Value| call("validate", json!({ "data": 1, "schema": schema }));
    refused(
        validate(json!({ "items": { "type": "strnig" } })),
        "/schema/items/type",
        "strnig",
    );
    refused(
        validate(json!({ "$ref": "https://example.org/x.json" })),
        "/schema",
        "Retrieval is disabled",
    );
    refused(
        validate(json!({ "$ref": "file:///etc/passwd" })),
        "/schema",
        "Retrieval is disabled",
    );
    refused(
        call("validate", json!({ "data": 1 })),
        "",
        "give `schema` or `schema_path`",
    );
    refused(
        call("validate", json!({ "data": 1, "schema_path": "none" })),
        "/schema_path",
        "not granted (--dir)",
    );
}
