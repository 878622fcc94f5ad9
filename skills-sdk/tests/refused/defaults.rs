use skills_sdk::prelude::*;

#[derive(Deserialize, JsonSchema)]
struct Count;

/// Has a default of another type.
#[tool]
fn other_default(#[tool(default = "many")] _count: Count) {}

/// Has a number for a text.
#[tool]
fn number(#[tool(default = 3)] _text: String) {}

/// Has a value of another type.
#[tool]
fn other_value(#[tool(default = "three".len() + 1)] _count: u8) {}

/// Has a default that its type does not hold.
#[tool]
fn too_large(#[tool(default = 300)] _count: u8) {}

/// Has a default of nothing known.
#[tool]
fn unknown(#[tool(default = LIMIT)] _count: u8) {}

/// Has a type without a default.
#[tool]
fn no_default(#[tool(default)] _count: Count) {}

/// Has a type without a default, as serde says it.
#[tool]
fn no_default_of_serde(_text: String, #[serde(rename = "count", default)] _count: Count) {}

/// Skips a type without a default.
#[tool]
fn skipped(_text: String, #[serde(skip)] _count: Count) {}

/// Does not read a type without a default.
#[tool]
fn not_read(_text: String, #[serde(skip_deserializing)] _count: Count) {}

fn main() {}
