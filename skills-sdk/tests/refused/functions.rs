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

/// Hides how it fails.
#[tool]
fn hides_failure() -> Result<u8, impl std::error::Error> {
    Err(std::fmt::Error)
}

/// Answers with a text without a size.
#[tool]
fn no_size() -> str {
    todo!()
}

/// Answers with anything.
#[tool]
fn anything() -> Result<dyn std::fmt::Debug, Failure> {
    todo!()
}

/// Lives as long as its text.
#[tool]
fn lives<'a>(text: std::borrow::Cow<'a, str>) -> usize {
    text.len()
}

#[tool]
fn undescribed(text: String) -> usize {
    text.len()
}

/// Is no function.
#[tool]
struct NoFunction;

/// Fails with a text.
#[tool]
fn says(text: String) -> Result<usize, String> {
    Err(text)
}

/// Fails with a text that it does not own.
#[tool]
fn says_so() -> Result<usize, &'static str> {
    Err("no")
}

/// Takes the context for itself.
#[tool]
fn keeps(text: String, ctx: Context) -> usize {
    ctx.progress(0.5, &text);
    text.len()
}

skills_sdk::skill! {
    tools: [
        waits, generic, reckless, hides, undescribed, hides_failure, no_size, anything, lives, says, says_so, keeps,
    ],
    name: "refused", description: "Refused.",
}

fn main() {}
