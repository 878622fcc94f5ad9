//! No name of an author's meets one of the macros'.

use skills_sdk::testing::TestContext;
use skills_sdk::{serde_json::json, tool};

/// A type with the name of an argument's type inside the macro.
#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Input {
    input: u8,
}

type String = std::string::String;
#[allow(dead_code)]
struct Result;
#[allow(dead_code)]
struct Option;

mod elsewhere {
    use super::Input;
    use skills_sdk::Context;

    /// Is called like a local of the macro's.
    #[skills_sdk::tool]
    pub fn input(input: Input, context: u8, ctx: &Context) -> std::string::String {
        format!("{} {context} {}", input.input, ctx.attempt())
    }
}

use elsewhere::input;

/// Is called like a method of the macro's.
#[tool]
fn call(call: u8) -> u8 {
    call
}

/// Is called like another method, and takes a mutable argument.
#[tool(name = "Describe-It")]
fn describe(mut describe: u8) -> u8 {
    describe += 1;
    describe
}

/// Has the name of a keyword.
#[tool]
fn r#match(r#type: String) -> String {
    r#type
}

/// Is there only where it is asked for.
#[tool]
#[cfg(any())]
fn absent() -> Absent {}

macro_rules! constant {
    ($name:ident, $ty:ty, $context:ty) => {
        /// Comes from a macro.
        #[tool]
        fn $name(value: $ty, _ctx: $context) -> $ty {
            value
        }
    };
}

constant!(text, String, &skills_sdk::Context);

skills_sdk::skill! {
    tools: [input, call, describe, r#match, text],
    description: "Names.",
}

#[test]
fn each_answers() {
    let ctx = TestContext::new();
    let call = |tool: &str, input| skill().call(tool, input, &ctx);
    assert_eq!(
        call("input", json!({ "input": { "input": 1 }, "context": 2 })),
        Ok(json!("1 2 1"))
    );
    assert_eq!(call("call", json!({ "call": 3 })), Ok(json!(3)));
    assert_eq!(call("Describe-It", json!({ "describe": 4 })), Ok(json!(5)));
    assert_eq!(call("match", json!({ "type": "t" })), Ok(json!("t")));
    assert_eq!(call("text", json!({ "value": "v" })), Ok(json!("v")));
}

#[test]
fn package_gives_what_is_not_given() {
    let description = skill().describe();
    assert_eq!(description.name, "skills-sdk");
    assert_eq!(description.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(description.description, "Names.");
}
