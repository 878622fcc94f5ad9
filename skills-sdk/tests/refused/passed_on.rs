use skills_sdk::prelude::*;

/// Misspells a key of serde.
#[tool]
fn misspelt_serde(
    /// A text.
    #[serde(renam = "words")]
    text: String,
) -> usize {
    text.len()
}

/// Gives serde a number for a name.
#[tool]
fn number_for_name(#[serde(rename = 1)] text: String) -> usize {
    text.len()
}

/// Gives serde a key twice.
#[tool]
fn name_twice(#[serde(rename = "a", rename = "b")] text: String) -> usize {
    text.len()
}

/// Tells serde nothing.
#[tool]
fn nothing(#[serde] text: String) -> usize {
    text.len()
}

/// Misspells a key of schemars.
#[tool]
fn misspelt_schemars(#[schemars(lenght(min = 1))] text: String) -> usize {
    text.len()
}

/// Misspells a key within a key of schemars.
#[tool]
fn misspelt_within(#[schemars(length(minimum = 1))] text: String) -> usize {
    text.len()
}

/// Misspells the attribute.
#[tool]
fn misspelt_attribute(#[sered(rename = "words")] text: String) -> usize {
    text.len()
}

/// Names a function that is none.
#[tool]
fn missing_function(#[serde(deserialize_with = "nowhere")] text: String) -> usize {
    text.len()
}

/// Names a type that is none.
#[tool]
fn missing_type(#[schemars(with = "Nowhere")] text: String) -> usize {
    text.len()
}

skills_sdk::skill! {
    tools: [
        misspelt_serde, number_for_name, name_twice, nothing, misspelt_schemars, misspelt_within, misspelt_attribute,
        missing_function, missing_type
    ],
    name: "refused", description: "Refused.",
}

fn main() {}
