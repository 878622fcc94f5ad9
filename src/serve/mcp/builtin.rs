//! The door's own tools: reading on in large outputs, and with many skills, searching for tools.

use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::catalog::Catalog;
use super::{Inner, content};
use crate::text::shortened;

/// Reads on in an output that was cut. As the names of skills' tools have either `__` or no `_`, none
/// of them is one of these.
pub(super) const READ_OUTPUT: &str = "read_output";
/// Searches for tools.
pub(super) const SEARCH: &str = "search_tools";
/// Calls one that was found.
pub(super) const CALL: &str = "call_tool";

/// How many tools are found where nothing is said, and at most.
const FOUND: u64 = 8;
const MOST: u64 = 50;

/// The definitions of those that are offered.
pub(super) fn tools(search: bool) -> Vec<Tool> {
    let mut tools = Vec::new();
    if search {
        tools.push(
            tool(
                CALL,
                "Calls a tool that was found with `search_tools`, in a sandbox.",
                json!({
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "description": "The tool's name, as found."},
                        "arguments": {"type": "object", "description": "What the tool's input schema asks for."}
                    },
                    "required": ["name"],
                    "additionalProperties": false
                }),
            )
            .with_annotations(ToolAnnotations::new().read_only(false).destructive(true)),
        );
    }
    tools.push(
        tool(
            READ_OUTPUT,
            "Reads on in an output that was too large for one answer and was cut.",
            json!({
                "type": "object",
                "properties": {
                    "uri": {"type": "string", "description": "The address that stands where it was cut."},
                    "offset": {"type": "integer", "minimum": 0, "description": "The byte to begin at."}
                },
                "required": ["uri"],
                "additionalProperties": false
            }),
        )
        .with_annotations(harmless()),
    );
    if search {
        tools.push(
            tool(
                SEARCH,
                "Searches the tools that there are, by what they do. Gives names, descriptions and \
                 input schemas, the best first; call one with `call_tool`.",
                json!({
                    "type": "object",
                    "properties": {
                        "query": {"type": "string", "description": "A few words on what is to be done."},
                        "limit": {"type": "integer", "minimum": 1, "maximum": MOST}
                    },
                    "required": ["query"],
                    "additionalProperties": false
                }),
            )
            .with_annotations(harmless()),
        );
    }
    tools
}

fn harmless() -> ToolAnnotations {
    ToolAnnotations::new()
        .read_only(true)
        .destructive(false)
        .idempotent(true)
        .open_world(false)
}

fn tool(name: &'static str, description: &'static str, schema: Value) -> Tool {
    let schema = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    Tool::new(name, description, Arc::new(schema))
}

/// Answers a search.
pub(super) fn search(
    server: &Inner,
    catalog: &Arc<Catalog>,
    arguments: Option<JsonObject>,
) -> CallToolResult {
    let arguments = arguments.unwrap_or_default();
    let Some(query) = arguments.get("query").and_then(Value::as_str) else {
        return content::error("`query` is missing: a few words on what is to be done");
    };
    let limit = arguments.get("limit").and_then(Value::as_u64);
    let limit = limit.unwrap_or(FOUND).clamp(1, MOST);
    let found = match server
        .index
        .search(catalog, &shortened(query, 1_000), limit)
    {
        Ok(found) => found,
        Err(error) => {
            tracing::error!("tools cannot be searched: {error}");
            return content::error("tools cannot be searched");
        }
    };
    let found: Vec<Value> = found
        .into_iter()
        .filter_map(|index| catalog.tools.get(index))
        .map(|entry| {
            json!({
                "name": entry.definition.name,
                "skill": entry.skill.identity.name,
                "description": entry.definition.description,
                "inputSchema": *entry.definition.input_schema,
            })
        })
        .collect();
    let answer = json!({"tools": found, "of": catalog.tools.len()});
    let mut result = CallToolResult::success(vec![ContentBlock::text(answer.to_string())]);
    result.structured_content = Some(answer);
    result
}

/// The name and arguments of the call within a call.
///
/// # Errors
/// What is wrong with it, for whoever called.
pub(super) fn unwrap(arguments: Option<JsonObject>) -> Result<(String, JsonObject), String> {
    let mut arguments = arguments.unwrap_or_default();
    let Some(Value::String(name)) = arguments.remove("name") else {
        return Err("`name` is missing: the name of a tool, as `search_tools` gives it".to_owned());
    };
    match arguments.remove("arguments") {
        None | Some(Value::Null) => Ok((name, JsonObject::new())),
        Some(Value::Object(inner)) => Ok((name, inner)),
        Some(_) => Err("`arguments` is an object, as the tool's input schema says".to_owned()),
    }
}
