use skills_sdk::prelude::*;

/// Misspells a key.
#[tool(title = "Misspelt", readonly)]
fn misspelt() {}

/// Has a name that no tool can have.
#[tool(name = "no spaces")]
fn named() {}

/// Gives a key twice.
#[tool(idempotent, idempotent = false)]
fn twice() {}

/// Contradicts itself.
#[tool(read_only, destructive)]
fn contradictory() {}

/// Gives a text for a flag.
#[tool(open_world = "yes")]
fn text_for_flag() {}

/// Misspells the key of an argument.
#[tool]
fn misspelt_argument(#[tool(defualt = 1)] count: u32) -> u32 {
    count
}

/// Gives no name.
#[tool(
    title = "Without a name",
    name,
)]
fn no_name() {}

/// Gives no title.
#[tool(title = )]
fn no_title() {}

/// Is a tool twice.
#[tool]
#[tool(read_only)]
fn tool_twice() {}

/// Gives a default twice.
#[tool]
fn default_twice(
    #[tool(default = 1)]
    #[serde(default)]
    count: u32,
) -> u32 {
    count
}

/// Gives no value for a default.
#[tool]
fn no_default(#[tool(default = )] count: u32) -> u32 {
    count
}

/// Says nothing of an argument.
#[tool]
fn bare(#[tool] count: u32) -> u32 {
    count
}

/// Says something of the context.
#[tool]
fn default_context(#[tool(default)] ctx: &Context) -> u32 {
    ctx.attempt()
}

skills_sdk::skill! {
    tools: [misspelt, named, twice, contradictory, text_for_flag, misspelt_argument, default_context, no_name, no_title, tool_twice,
            default_twice, no_default, bare],
    name: "refused", description: "Refused.",
}

fn main() {}
