use skills_sdk::prelude::*;

struct Bare;

#[derive(JsonSchema)]
struct Described;

#[derive(Deserialize, Serialize)]
struct Readable;

/// Takes a type that cannot be read.
#[tool]
fn not_read(#[tool(input)] _value: Described) {}

/// Takes a type that has no schema.
#[tool]
fn no_schema(_value: Readable) {}

/// Takes, beside others, a type that cannot be read.
#[tool]
fn one_not_read(
    /// Can be read.
    _text: String,
    _value: Described,
) {
}

/// Takes types that can neither be read nor have a schema.
#[tool]
fn neither_within(_list: Vec<Bare>, #[serde(rename = "other")] _one: Option<Bare>) {}

/// Takes another context.
#[tool]
fn other_context(_ctx: &std::task::Context) {}

/// Takes the context as a value.
#[tool]
fn owned_context(_ctx: Context) {}

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

/// Fails, by an alias, with a type that is no error.
#[tool]
fn no_error_of_alias() -> alias::Result<u32> {
    Err(Bare)
}

/// Answers with what is only called a result.
#[tool]
fn no_result() -> called::Result {
    called::Result
}

mod alias {
    pub type Result<T> = std::result::Result<T, super::Bare>;
}

mod called {
    pub struct Result;
}

fn main() {}
