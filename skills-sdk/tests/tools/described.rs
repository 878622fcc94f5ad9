//! What `describe` says.

use std::collections::BTreeMap;

use skills_sdk::prelude::*;
use skills_sdk::{Annotations, ToolDescription};

/// Where something is.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Place {
    /// Degrees north.
    latitude: f64,
    /// Degrees east.
    longitude: f64,
    /// What people call it.
    short_name: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Metres,
    Miles,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Area {
    /// All within a radius.
    Circle { centre: Place, radius: f64 },
    /// The whole world.
    World,
}

/// How a search went.
#[derive(Serialize, JsonSchema)]
struct Found {
    places: Vec<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Finds places.
///
/// Use it before planning a route:
///
/// - near a place
/// - anywhere
#[tool(
    title = "Find places",
    read_only,
    destructive = false,
    idempotent = true
)]
#[allow(clippy::too_many_arguments)]
fn find_places(
    /// What to look for.
    ///
    /// Any language.
    query: String,
    /// Where to look.
    area: Area,
    /// Places to leave out.
    #[tool(default)]
    except: Vec<Place>,
    #[tool(default = 10)]
    #[schemars(range(min = 1, max = 50))]
    limit: u8,
    #[tool(default = Unit::Metres)] unit: Unit,
    #[tool(default = "en")] language: String,
    exact: bool,
    #[serde(rename = "minScore")] min_score: Option<f32>,
    tags: BTreeMap<String, i64>,
    home: Option<Place>,
    r#type: Value,
    _ctx: &Context,
) -> Result<Found, Failure> {
    let _ = (
        query, area, limit, unit, language, exact, min_score, tags, home, r#type,
    );
    Ok(Found {
        places: except,
        note: None,
    })
}

/// Has neither input nor answer.
#[tool(open_world)]
fn nothing() {}

/// Takes one of two shapes.
#[tool(name = "by-shape")]
fn by_shape(#[tool(input)] area: Area) -> Value {
    json!(matches!(area, Area::World))
}

/// Before the file.
#[doc = include_str!("described.txt")]
/// After the file:
///
///     indented
#[tool]
fn described_elsewhere() {}

skills_sdk::skill! {
    tools: [find_places, nothing, by_shape, described_elsewhere],
    name: "places",
    version: "1.2.3-beta.1",
    description: "Finds places.",
}

fn described(tool: &str) -> ToolDescription {
    skill().describe().tool(tool).unwrap().clone()
}

#[test]
fn skill_is_as_given() {
    let description = skill().describe();
    assert_eq!(description.name, "places");
    assert_eq!(description.version, "1.2.3-beta.1");
    assert_eq!(description.description, "Finds places.");
    let tools: Vec<&str> = description.tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(
        tools,
        ["find_places", "nothing", "by-shape", "described_elsewhere"]
    );
}

#[test]
fn description_is_the_doc_comment() {
    let tool = described("find_places");
    assert_eq!(tool.title.as_deref(), Some("Find places"));
    assert_eq!(
        tool.description,
        "Finds places.\n\nUse it before planning a route:\n\n- near a place\n- anywhere"
    );
    assert_eq!(
        described("described_elsewhere").description,
        "Before the file.\nFrom the file.\n\nAfter the file:\n\n    indented"
    );
}

#[test]
fn annotations_are_as_written() {
    assert_eq!(
        described("find_places").annotations,
        Annotations {
            read_only: Some(true),
            destructive: Some(false),
            idempotent: Some(true),
            open_world: None,
        }
    );
    assert_eq!(
        described("nothing").annotations,
        Annotations {
            open_world: Some(true),
            ..Annotations::default()
        }
    );
}

#[test]
fn input_schema_has_every_kind_of_argument() {
    assert_eq!(
        described("find_places").input_schema,
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "query": {
                    "description": "What to look for.\n\nAny language.",
                    "type": "string",
                },
                "area": { "description": "Where to look.", "$ref": "#/$defs/Area" },
                "except": {
                    "description": "Places to leave out.",
                    "type": "array",
                    "items": { "$ref": "#/$defs/Place" },
                    "default": [],
                },
                "limit": {
                    "type": "integer",
                    "format": "uint8",
                    "minimum": 1,
                    "maximum": 50,
                    "default": 10,
                },
                "unit": { "$ref": "#/$defs/Unit", "default": "metres" },
                "language": { "type": "string", "default": "en" },
                "exact": { "type": "boolean" },
                "minScore": { "type": ["number", "null"], "format": "float" },
                "tags": {
                    "type": "object",
                    "additionalProperties": { "type": "integer", "format": "int64" },
                },
                "home": { "anyOf": [{ "$ref": "#/$defs/Place" }, { "type": "null" }] },
                "type": true,
            },
            "required": ["query", "area", "exact", "tags", "type"],
            "additionalProperties": false,
            "$defs": {
                "Place": {
                    "description": "Where something is.",
                    "type": "object",
                    "properties": {
                        "latitude": {
                            "description": "Degrees north.",
                            "type": "number",
                            "format": "double",
                        },
                        "longitude": {
                            "description": "Degrees east.",
                            "type": "number",
                            "format": "double",
                        },
                        "shortName": {
                            "description": "What people call it.",
                            "type": ["string", "null"],
                        },
                    },
                    "required": ["latitude", "longitude"],
                    "additionalProperties": false,
                },
                "Unit": { "type": "string", "enum": ["metres", "miles"] },
                "Area": {
                    "oneOf": [
                        {
                            "description": "All within a radius.",
                            "type": "object",
                            "properties": {
                                "kind": { "type": "string", "const": "circle" },
                                "centre": { "$ref": "#/$defs/Place" },
                                "radius": { "type": "number", "format": "double" },
                            },
                            "required": ["kind", "centre", "radius"],
                        },
                        {
                            "description": "The whole world.",
                            "type": "object",
                            "properties": { "kind": { "type": "string", "const": "world" } },
                            "required": ["kind"],
                        },
                    ],
                },
            },
        })
    );
}

#[test]
fn output_schema_is_that_of_what_is_written() {
    let schema = described("find_places").output_schema.unwrap();
    assert_eq!(schema["description"], "How a search went.");
    assert_eq!(schema["required"], json!(["places"]));
    assert_eq!(
        schema["$defs"]["Place"]["required"],
        json!(["latitude", "longitude", "shortName"])
    );
    assert_eq!(schema.get("title"), None);
}

#[test]
fn no_input_is_an_empty_object() {
    let tool = described("nothing");
    assert_eq!(
        tool.input_schema,
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
        })
    );
    assert_eq!(
        tool.output_schema,
        Some(json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "null",
        }))
    );
}

#[test]
fn whole_input_is_an_object_too() {
    let tool = described("by-shape");
    assert_eq!(tool.input_schema["type"], "object");
    assert_eq!(tool.input_schema["oneOf"].as_array().map(Vec::len), Some(2));
    assert_eq!(tool.output_schema, None);
}

#[test]
fn description_is_always_the_same() {
    assert_eq!(
        format!("{:?}", skill().describe()),
        format!("{:?}", skill().describe())
    );
}

mod not_an_object {
    use skills_sdk::prelude::*;

    #[derive(Deserialize, JsonSchema)]
    struct List(Vec<u32>);

    /// Takes a list where an object should be.
    #[tool]
    fn takes_list(#[tool(input)] list: List) -> usize {
        list.0.len()
    }

    skills_sdk::skill! { tools: [takes_list], name: "list", description: "Takes a list." }

    #[test]
    #[should_panic = "the input of the tool `takes_list` must be an object in JSON, as a struct \
                      is, or a map with texts as keys; its type, \
                      `tools::described::not_an_object::List`, is \"array\" there"]
    fn is_refused() {
        skill().describe();
    }
}
