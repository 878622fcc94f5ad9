use skills_sdk::prelude::*;

/// Waits.
#[tool]
async fn waits(text: String) -> usize {
    text.len()
}

/// Takes anything.
#[tool]
fn generic<T>(value: Vec<T>) -> usize {
    value.len()
}

/// Is unsafe.
#[tool]
unsafe fn reckless(text: String) -> usize {
    text.len()
}

/// Hides its answer.
#[tool]
fn hides() -> Result<impl Serialize, Failure> {
    Ok(1)
}

#[tool]
fn undescribed(text: String) -> usize {
    text.len()
}

/// Is no function.
#[tool]
struct NoFunction;

skills_sdk::skill! {
    tools: [waits, generic, reckless, hides, undescribed],
    name: "refused", description: "Refused.",
}

fn main() {}
