//! How input is read, and what is said of input that does not fit.

use std::collections::BTreeMap;

use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Item {
    name: String,
    #[serde(default)]
    prices: Vec<u32>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Shape {
    Circle { radius: f64 },
    Point,
}

/// Answers with what it was given.
#[tool]
fn echo(
    text: String,
    #[tool(default = 3)] count: u8,
    #[tool(default = "en".to_owned() + "-GB")] language: String,
    #[tool(default)] items: Vec<Item>,
    note: Option<String>,
    #[serde(rename = "a/b~c")] odd: Option<BTreeMap<String, u8>>,
    shape: Option<Shape>,
) -> Value {
    json!({
        "text": text, "count": count, "language": language, "items": items,
        "note": note, "odd": odd, "shape": shape,
    })
}

/// Takes an item as the whole input.
#[tool]
fn whole(ctx: &Context, #[tool(input)] item: Item) -> String {
    format!("{} {}", item.name, ctx.attempt())
}

#[derive(Deserialize, JsonSchema)]
struct Labelled {
    name: String,
    #[serde(flatten)]
    labels: BTreeMap<String, u8>,
}

/// Takes any labels beside a name.
#[tool]
fn labelled(#[tool(input)] item: Labelled) -> String {
    format!("{} {:?}", item.name, item.labels)
}

/// Takes a map as the whole input.
#[tool]
fn map(#[tool(input)] map: BTreeMap<String, u8>) -> usize {
    map.len()
}

/// Has what serde makes the defaults of.
#[tool]
fn defaults(
    #[serde(skip)] skipped: u8,
    #[serde(rename = "words", default)] renamed: Vec<String>,
    #[serde(skip)]
    #[tool(default = 7)]
    fixed: u8,
) -> Value {
    json!([skipped, renamed, fixed])
}

skills_sdk::skill! { tools: [echo, whole, labelled, map, defaults], name: "echo", description: "Echoes." }

fn call(tool: &str, input: Value) -> Result<Value, Failure> {
    skill().call(tool, input, &TestContext::new())
}

#[track_caller]
fn refused(tool: &str, input: Value, pointer: &str, message: &str) {
    assert_eq!(
        call(tool, input),
        Err(Failure::invalid_input(pointer, message))
    );
}

#[test]
fn defaults_and_options_may_be_left_out() {
    assert_eq!(
        call("echo", json!({ "text": "a" })),
        Ok(json!({
            "text": "a", "count": 3, "language": "en-GB", "items": [],
            "note": null, "odd": null, "shape": null,
        }))
    );
}

#[test]
fn defaults_may_be_those_of_serde() {
    assert_eq!(call("defaults", json!({})), Ok(json!([0, [], 7])));
    assert_eq!(
        call("defaults", json!({ "words": ["a"] })),
        Ok(json!([0, ["a"], 7]))
    );
    refused(
        "defaults",
        json!({ "skipped": 1 }),
        "/skipped",
        "unknown field `skipped`, expected `words`",
    );
    let description = skill().describe();
    let schema = &description.tool("defaults").unwrap().input_schema;
    assert_eq!(
        schema["properties"],
        json!({ "words": { "type": "array", "items": { "type": "string" }, "default": [] } })
    );
}

#[test]
fn all_may_be_given() {
    let input = json!({
        "text": "a", "count": 5, "language": "de", "items": [{ "name": "x", "prices": [1, 2] }],
        "note": "n", "odd": { "k": 1 }, "shape": { "circle": { "radius": 0.5 } },
    });
    let mut output = input.clone();
    output["odd"] = Value::Null;
    let mut renamed = input;
    let odd = renamed.as_object_mut().unwrap().remove("odd").unwrap();
    renamed["a/b~c"] = odd.clone();
    output["odd"] = odd;
    assert_eq!(call("echo", renamed), Ok(output));
}

#[test]
fn wrong_type_is_pointed_at() {
    refused(
        "echo",
        json!({ "text": 5 }),
        "/text",
        "invalid type: integer `5`, expected a string",
    );
    refused(
        "echo",
        json!({ "text": "a", "count": 256 }),
        "/count",
        "invalid value: integer `256`, expected u8",
    );
}

#[test]
fn place_within_lists_is_pointed_at() {
    let items = json!([{ "name": "a" }, { "name": "b", "prices": [1, "two"] }]);
    refused(
        "echo",
        json!({ "text": "a", "items": items }),
        "/items/1/prices/1",
        "invalid type: string \"two\", expected u32",
    );
}

#[test]
fn missing_field_is_said_of_its_object() {
    refused("echo", json!({}), "", "missing field `text`");
    refused(
        "echo",
        json!({ "text": "a", "items": [{ "prices": [] }] }),
        "/items/0",
        "missing field `name`",
    );
}

#[test]
fn unknown_field_is_pointed_at() {
    refused(
        "echo",
        json!({ "text": "a", "txet": "b" }),
        "/txet",
        "unknown field `txet`, expected one of `text`, `count`, `language`, `items`, `note`, `a/b~c`, `shape`",
    );
    refused(
        "echo",
        json!({ "text": "a", "items": [{ "name": "x", "cost": 1 }] }),
        "/items/0/cost",
        "unknown field `cost`, expected `name` or `prices`",
    );
}

#[test]
fn pointer_is_escaped() {
    refused(
        "echo",
        json!({ "text": "a", "a/b~c": { "~/": "x" } }),
        "/a~1b~0c/~0~1",
        "invalid type: string \"x\", expected u8",
    );
}

#[test]
fn place_within_an_enum_is_pointed_at() {
    refused(
        "echo",
        json!({ "text": "a", "shape": { "circle": { "radius": "r" } } }),
        "/shape/circle/radius",
        "invalid type: string \"r\", expected f64",
    );
    refused(
        "echo",
        json!({ "text": "a", "shape": "square" }),
        "/shape",
        "unknown variant `square`, expected `circle` or `point`",
    );
}

#[test]
fn input_is_an_object() {
    for input in [json!(null), json!("a"), json!(["a", 3]), json!(1)] {
        refused("echo", input, "", "expected an object");
    }
}

#[test]
fn whole_input_is_one_value() {
    assert_eq!(
        call("whole", json!({ "name": "x", "prices": [1] })),
        Ok(json!("x 1"))
    );
    refused(
        "whole",
        json!({ "name": "x", "prices": [1, null] }),
        "/prices/1",
        "invalid type: null, expected u32",
    );
}

#[test]
fn whole_input_may_have_any_fields() {
    let description = skill().describe();
    let schema = |tool: &str| description.tool(tool).unwrap().input_schema.clone();
    assert_eq!(
        schema("labelled")["additionalProperties"]["type"],
        "integer"
    );
    assert_eq!(schema("map")["additionalProperties"]["type"], "integer");
    assert_eq!(
        call("labelled", json!({ "name": "x", "a": 1 })),
        Ok(json!("x {\"a\": 1}"))
    );
    assert_eq!(call("map", json!({ "a": 1, "b": 2 })), Ok(json!(2)));
}

#[test]
fn other_tool_is_unknown() {
    assert_eq!(call("ehco", json!({})), Err(Failure::UnknownTool));
}
