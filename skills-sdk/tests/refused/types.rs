use skills_sdk::prelude::*;

struct Bare;

#[derive(JsonSchema)]
struct Described;

#[derive(Deserialize, Serialize)]
struct Readable;

#[derive(Deserialize, JsonSchema)]
struct Count;

/// Takes a type that cannot be read.
#[tool]
fn not_read(#[tool(input)] _value: Described) {}

/// Takes a type that has no schema.
#[tool]
fn no_schema(_value: Readable) {}

/// Answers with a type that cannot be written.
#[tool]
fn not_written() -> Result<Described, Failure> {
    Ok(Described)
}

/// Answers with a type that has no schema.
#[tool]
fn not_described() -> Readable {
    Readable
}

/// Fails with a type that is no error.
#[tool]
fn no_error() -> Result<u32, Bare> {
    Err(Bare)
}

/// Has a default of another type.
#[tool]
fn other_default(#[tool(default = "many")] _count: Count) {}

fn main() {}
