//! Queries JSON with jq filters and checks it against JSON Schemas.

mod jq;
mod source;

use skills_sdk::prelude::*;

use crate::jq::{Jq, Output};
use crate::source::Source;

/// How many faults of a document are listed.
const MAX_FAULTS: usize = 100;

/// What a filter made of the data.
#[derive(Serialize, JsonSchema)]
pub struct Results {
    /// The filter's outputs.
    results: Vec<Value>,
    /// Whether the filter had more to give than `max_results`.
    truncated: bool,
}

/// Runs a jq filter on JSON.
///
/// The JSON is `data`, or the file `path`, or else the first attachment. Several values in one
/// file (JSON Lines) go through the filter one after the other.
#[tool(
    title = "Query JSON with jq",
    read_only,
    idempotent,
    open_world = false
)]
pub fn query(
    /// The filter, in the jq language, for example `.people[] | select(.age > 30) | .name`.
    filter: String,
    /// The JSON itself; any value but `null`.
    data: Option<Value>,
    /// A JSON file, in a granted directory.
    path: Option<String>,
    /// At most this many outputs.
    #[tool(default = 1000)]
    max_results: usize,
    ctx: &Context,
) -> Result<Results, Failure> {
    let invalid = |message| Failure::invalid_input("/filter", message);
    let jq = Jq::new(&filter).map_err(invalid)?;
    let source = Source::open(
        data,
        path.as_deref(),
        ctx.attachments().first(),
        ("/data", "/path"),
    )?;

    let mut results = Vec::new();
    let mut truncated = false;
    source.each(|input| {
        for output in jq.run(input) {
            match output.map_err(invalid)? {
                Output::Halt => return Ok(false),
                Output::Value(_) if results.len() >= max_results => {
                    truncated = true;
                    return Ok(false);
                }
                Output::Value(value) => results.push(value),
            }
        }
        Ok(true)
    })?;
    Ok(Results { results, truncated })
}

/// Whether a document fits a schema.
#[derive(Serialize, JsonSchema)]
pub struct Verdict {
    valid: bool,
    /// What is wrong, at most 100 faults.
    faults: Vec<Fault>,
}

/// One way in which a document does not fit its schema.
#[derive(Serialize, JsonSchema)]
pub struct Fault {
    /// Where in the data, as a JSON Pointer.
    pointer: String,
    /// What is wrong there.
    message: String,
    /// Where in the schema that is demanded, as a JSON Pointer.
    schema_pointer: String,
}

/// Checks JSON against a JSON Schema, of any draft from 4 to 2020-12.
///
/// The JSON is `data`, or the file `path`, or else the first attachment. References out of the
/// schema are not followed.
#[tool(
    title = "Check JSON against a schema",
    read_only,
    idempotent,
    open_world = false
)]
pub fn validate(
    /// The schema itself.
    schema: Option<Value>,
    /// A file with the schema, in a granted directory.
    schema_path: Option<String>,
    /// The JSON itself; any value but `null`.
    data: Option<Value>,
    /// A JSON file, in a granted directory.
    path: Option<String>,
    ctx: &Context,
) -> Result<Verdict, Failure> {
    let is_inline = schema.is_some();
    let schema = Source::open(
        schema,
        schema_path.as_deref(),
        None,
        ("/schema", "/schema_path"),
    )?
    .single()?;
    let data = Source::open(
        data,
        path.as_deref(),
        ctx.attachments().first(),
        ("/data", "/path"),
    )?
    .single()?;

    let unusable = |error: jsonschema::ValidationError| {
        let pointer = if is_inline {
            format!("/schema{}", error.instance_path())
        } else {
            "/schema_path".to_owned()
        };
        Failure::invalid_input(pointer, format!("not a usable schema: {error}"))
    };
    let validator = jsonschema::options()
        .offline()
        .build(&schema)
        .map_err(unusable)?;
    let faults: Vec<Fault> = validator
        .iter_errors(&data)
        .take(MAX_FAULTS)
        .map(|error| Fault {
            pointer: error.instance_path().to_string(),
            message: error.to_string(),
            schema_pointer: error.schema_path().to_string(),
        })
        .collect();
    Ok(Verdict {
        valid: faults.is_empty(),
        faults,
    })
}

skills_sdk::skill! { tools: [query, validate] }
