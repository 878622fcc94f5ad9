//! A mistake in the function itself is shown alone.

use skills_sdk::{skill, tool};

/// Divides.
#[tool]
fn in_the_body(
    /// By what.
    #[tool(default = 2)]
    by: u8,
) -> u8 {
    let x = ;
    10 / by
}

/// Adds.
#[tool]
fn in_the_arguments(
    /// One.
    #[schemars(range(min = 1))]
    one: u8
    /// Another.
    other: u8,
) -> u8 {
    one + other
}

skill! { description: "Computes.", tools: [in_the_body, in_the_arguments] }

fn main() {}
