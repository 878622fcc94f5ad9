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

/// Borrows within its type.
#[tool]
fn borrowed_within(words: Vec<(u8, &str)>) -> usize {
    words.len()
}

/// Borrows for ever.
#[tool]
fn borrowed_for_ever(word: Option<&'static str>) -> usize {
    word.map_or(0, str::len)
}

/// Borrows within the whole input.
#[tool]
fn borrowed_whole(#[tool(input)] words: std::collections::BTreeMap<String, &'static str>) -> usize {
    words.len()
}

/// Borrows by serde's key.
#[tool]
fn borrowed_key(#[serde(borrow)] text: std::borrow::Cow<'static, str>) -> usize {
    text.len()
}

/// Takes a text without a size.
#[tool]
fn no_size(_text: str) {}

/// Takes any text.
#[tool]
fn any(_text: dyn AsRef<str>) {}

/// Takes the context where there is one.
#[tool]
fn perhaps_context(ctx: Option<&Context>) -> bool {
    ctx.is_some()
}

/// Keeps the context.
#[tool]
fn kept_context(ctx: &'static Context) -> u32 {
    ctx.attempt()
}

/// Has no name for its text.
#[tool]
fn no_name(_: String) {}

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

/// Takes a list as the whole input.
#[tool]
fn list(#[tool(input)] bytes: Vec<u8>) -> usize {
    bytes.len()
}

/// Takes a pair as the whole input.
#[tool]
fn pair(#[tool(input)] pair: (u8, std::string::String)) -> usize {
    pair.1.len()
}

/// Has two fields of one name.
#[tool]
fn same_name(#[serde(rename = "b")] a: u8, b: u8) -> u8 {
    a + b
}

/// Has two fields of one name in the input alone.
#[tool]
fn same_name_read(r#type: u8, #[serde(rename(serialize = "x", deserialize = "type"))] b: u8) -> u8 {
    r#type + b
}

/// Flattens an argument.
#[tool]
fn flattened(#[serde(default, flatten)] rest: std::collections::BTreeMap<String, u8>) -> usize {
    rest.len()
}

/// Has a second name for an argument.
#[tool]
fn second_name(#[serde(alias = "words")] text: String) -> usize {
    text.len()
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
    tools: [
        pattern, borrowed, borrowed_list, changed, hidden, whole, list, pair, same_name, same_name_read, flattened,
        second_name, borrowed_within, borrowed_for_ever, borrowed_whole, borrowed_key, no_size, any, perhaps_context,
        kept_context, no_name
    ],
    name: "refused", description: "Refused.",
}

fn main() {}
