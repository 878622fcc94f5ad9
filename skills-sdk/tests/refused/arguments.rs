use skills_sdk::prelude::*;

/// Has a pattern for a name.
#[tool]
fn pattern((left, right): (u32, u32)) -> u32 {
    left + right
}

/// Borrows its text.
#[tool]
fn borrowed(text: &str) -> usize {
    text.len()
}

/// Borrows its list.
#[tool]
fn borrowed_list(list: &[u32]) -> usize {
    list.len()
}

/// Wants to change the context.
#[tool]
fn changed(ctx: &mut Context) -> u32 {
    ctx.attempt()
}

/// Hides the type of its text.
#[tool]
fn hidden(text: impl AsRef<str>) -> usize {
    text.as_ref().len()
}

/// Takes the whole input, and more.
#[tool]
fn whole(#[tool(input)] all: Value, more: u32) -> (Value, u32) {
    (all, more)
}

struct Owner;

impl Owner {
    /// Belongs to a type.
    #[tool]
    fn method(&self, text: String) -> usize {
        text.len()
    }
}

skills_sdk::skill! {
    tools: [pattern, borrowed, borrowed_list, changed, hidden, whole],
    name: "refused", description: "Refused.",
}

fn main() {}
