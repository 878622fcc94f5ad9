//! Write agent skills in Rust: plain functions become tools, and a crate of
//! them becomes one WebAssembly component that `skillhost` runs in a sandbox.
//!
//! # A first skill
//!
//! A skill is a library crate. Its `Cargo.toml`:
//!
//! ```toml
//! [package]
//! name = "word-count"
//! version = "0.1.0"
//! edition = "2024"
//! description = "Counts the words of a text."
//!
//! [lib]
//! crate-type = ["cdylib", "rlib"] # a component to run, a library to test
//!
//! [dependencies]
//! skills-sdk = { path = "../skills-sdk" }
//! serde = { version = "1", features = ["derive"] } # where a type derives Serialize or Deserialize
//! schemars = "1"                                   # where a type derives JsonSchema
//!
//! [profile.release]
//! opt-level = "s"
//! lto = true
//! ```
//!
//! And its `src/lib.rs`:
//!
//! ```
//! use skills_sdk::prelude::*;
//!
//! /// How many words a text has.
//! #[derive(Serialize, JsonSchema)]
//! struct WordCount {
//!     words: usize,
//!     longest: Option<String>,
//! }
//!
//! /// Counts the words of a text.
//! #[tool(title = "Count words", read_only, idempotent)]
//! fn count_words(
//!     /// The text to count.
//!     text: String,
//!     /// Leave out words shorter than this.
//!     #[tool(default = 1)]
//!     min_length: usize,
//! ) -> WordCount {
//!     let words = text.split_whitespace().filter(|word| word.len() >= min_length);
//!     WordCount {
//!         words: words.clone().count(),
//!         longest: words.max_by_key(|word| word.len()).map(str::to_owned),
//!     }
//! }
//!
//! skills_sdk::skill! { tools: [count_words] }
//! # fn main() {}
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the component, in
//! `target/wasm32-wasip2/release/word_count.wasm`. Besides Rust itself this
//! takes the target alone (`rustup target add wasm32-wasip2`).
//!
//! [`#[tool]`](macro@tool) derives what the host tells a model from the
//! function: the tool's name, its description from the doc comment, a JSON
//! Schema of the input from the arguments, and one of the output from the
//! return type. [`skill!`] lists the tools, and takes the skill's name, version
//! and description from `Cargo.toml`.
//!
//! # Input
//!
//! Each argument is a field of the input, which is a JSON object. Its type
//! implements `serde::Deserialize` and `schemars::JsonSchema`, as numbers,
//! strings, lists, maps and options do. An `Option` may be left out, and so may
//! an argument with a default. Any other field is refused. A single argument
//! marked `#[tool(input)]` takes the whole object instead:
//!
//! ```
//! use skills_sdk::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Rectangle {
//!     width: f64,
//!     height: f64,
//! }
//!
//! /// Computes the area of a rectangle.
//! #[tool(read_only)]
//! fn area(#[tool(input)] rectangle: Rectangle) -> f64 {
//!     rectangle.width * rectangle.height
//! }
//! # fn main() {}
//! ```
//!
//! Input that does not fit never reaches the function: the caller learns the
//! place, as a JSON Pointer, and what was expected there.
//!
//! # Answers and failures
//!
//! A tool answers with any value that implements `serde::Serialize` and
//! `schemars::JsonSchema`, or with a `Result` of one. The error is a
//! [`Failure`], or any error that becomes one: `?` turns every
//! [`std::error::Error`] into a failure that is not tried again.
//!
//! ```
//! use std::time::Duration;
//! use skills_sdk::prelude::*;
//!
//! /// Looks up a country by its two-letter code.
//! #[tool(read_only)]
//! fn country(code: String) -> Result<String, Failure> {
//!     if code.len() != 2 {
//!         return Err(Failure::invalid_input("/code", "two letters are expected"));
//!     }
//!     let Ok(list) = std::fs::read_to_string("/data/countries.txt") else {
//!         return Err(Failure::retry("the list is not there yet").after(Duration::from_secs(60)));
//!     };
//!     list.lines()
//!         .find_map(|line| line.strip_prefix(&code)?.strip_prefix(' '))
//!         .map(str::to_owned)
//!         .ok_or_else(|| Failure::error("no such country").code("not-found"))
//! }
//! # fn main() {}
//! ```
//!
//! A panic ends the execution: its message goes to stderr, and the host reports
//! a trap, with that message.
//!
//! # The execution at hand
//!
//! A tool that takes `&Context`, in any place, can log, report progress, read
//! its configuration, and pass files in and out as [`Attachment`]s:
//!
//! ```
//! use skills_sdk::prelude::*;
//!
//! /// Makes the letters of a text file large.
//! #[tool]
//! fn enlarge(file: String, ctx: &Context) -> Result<usize, Failure> {
//!     let Some(input) = ctx.attachment(&file) else {
//!         return Err(Failure::invalid_input("/file", "no attachment has that name"));
//!     };
//!     ctx.info(format_args!("{} bytes to do", input.data.len()));
//!     let suffix = ctx.config("suffix")?.unwrap_or_else(|| ".large".to_owned());
//!     let text = String::from_utf8(input.data.clone())?.to_uppercase();
//!     let length = text.len();
//!     ctx.progress(100.0, "written");
//!     ctx.attach(Attachment::new(file + &suffix, "text/plain", text));
//!     Ok(length)
//! }
//!
//! skills_sdk::skill! {
//!     tools: [enlarge],
//!     name: "enlarge",
//!     description: "Makes letters large.",
//! }
//!
//! // In a test:
//! use skills_sdk::testing::TestContext;
//!
//! let ctx = TestContext::new()
//!     .config("suffix", ".up")
//!     .attachment(Attachment::new("a.txt", "text/plain", "abc"));
//! let answer = skill().call("enlarge", json!({ "file": "a.txt" }), &ctx);
//!
//! assert_eq!(answer, Ok(json!(3)));
//! assert_eq!(ctx.attached(), [Attachment::new("a.txt.up", "text/plain", "ABC")]);
//! assert_eq!(ctx.logs()[0].message, "3 bytes to do");
//! ```
//!
//! Files, clocks, random numbers and environment variables come through the
//! standard library, as far as the host grants them.
//!
//! # The network
//!
//! With the feature `http` a tool fetches what its operator grants:
//! `ctx.http().get("https://example.com/").send()?`. The module `http` has the
//! client, its errors and what it does about redirects.
//!
//! # Tests
//!
//! `cargo test` runs natively, without a host. The function can be called as it
//! is; `skill().call(...)` goes from JSON to JSON, as a real call does; a
//! [`TestContext`](testing::TestContext) plays the host. `skill().describe()`
//! shows what a model would read.
//!
//! What only the host does is not tested so. Before a call it checks the input
//! against the tool's schema, and after it the answer: `#[schemars(range(...))]`,
//! `length(...)`, `regex(...)` and their like, and fields by an alias, which
//! serde takes and no schema shows, matter only there. Nor are there limits or
//! grants. `skillhost run . TOOL --arg KEY=VALUE` makes a real call.
//!
//! # The name of this crate
//!
//! The macros expand to paths that begin with `::skills_sdk`. A crate that
//! depends on this one by another name (`sdk = { package = "skills-sdk", ... }`)
//! says so at its root: `extern crate sdk as skills_sdk;`.
//!
//! # Derives
//!
//! The derive macros of serde and schemars name their own crates, so a skill
//! that derives lists them in its `Cargo.toml`, as above. Where it must not,
//! each type says where to find them:
//!
//! ```
//! use skills_sdk::prelude::*;
//!
//! #[derive(Serialize, JsonSchema)]
//! #[serde(crate = "skills_sdk::serde")]
//! #[schemars(crate = "skills_sdk::schemars")]
//! struct Answer {
//!     text: String,
//! }
//! # fn main() {}
//! ```

#![deny(missing_docs)]
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

mod attachment;
mod context;
mod failure;
#[cfg(feature = "http")]
pub mod http;
mod skill;
mod storage;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

mod derived;
#[cfg(target_arch = "wasm32")]
mod guest;
mod input;
mod output;
mod schema;

pub use attachment::Attachment;
pub use context::{Context, Level};
pub use failure::Failure;
pub use skill::{Annotations, Description, Skill, ToolDescription};
/// Makes the crate a skill: exports its tools to the host.
///
/// ```
/// # use skills_sdk::prelude::*;
/// /// Adds two numbers.
/// #[tool(read_only)]
/// fn add(left: i64, right: i64) -> i64 {
///     left + right
/// }
///
/// skills_sdk::skill! {
///     tools: [add],
///     name: "arithmetic",
///     version: "2.0.0",
///     description: "Calculates.",
/// }
///
/// assert_eq!(skill().describe().name, "arithmetic");
/// ```
///
/// | key | value | default |
/// | --- | --- | --- |
/// | `tools` | the paths of functions with [`#[tool]`](macro@tool), in the order in which they are described | none; required |
/// | `name` | 1 to 64 of `a-z`, `0-9` and `-`, with no hyphen first, last or after another | the package's name |
/// | `version` | a semantic version | the package's version |
/// | `description` | one paragraph on what the skill is for | the package's description |
///
/// It also makes `pub const fn skill() -> skills_sdk::Skill`, for tests. It is
/// written once in a crate, at the crate's root.
///
/// A name or version of another form, an empty description, and two tools of
/// the same name do not compile.
pub use skills_sdk_macros::skill;
/// Makes a function a tool.
///
/// The function stays an ordinary function. Its name is the tool's name, its
/// doc comment the tool's description (a tool without one does not compile),
/// its arguments are the fields of the input, and its return type is that of
/// the answer.
///
/// ```
/// use skills_sdk::prelude::*;
///
/// /// Cuts a text to a length.
/// ///
/// /// Use it for previews.
/// #[tool(title = "Shorten a text", read_only, idempotent, open_world = false)]
/// fn shorten(
///     /// The text to cut.
///     text: String,
///     /// How many characters to leave.
///     #[tool(default = 80)]
///     #[schemars(range(max = 1000))]
///     length: usize,
///     /// What to put in place of the rest.
///     ellipsis: Option<String>,
///     ctx: &Context,
/// ) -> Result<String, Failure> {
///     let Some((cut, _)) = text.char_indices().nth(length) else {
///         ctx.debug("nothing to cut");
///         return Ok(text);
///     };
///     Ok(format!("{}{}", &text[..cut], ellipsis.unwrap_or_default()))
/// }
/// # let ctx = skills_sdk::testing::TestContext::new();
/// # assert_eq!(shorten("abc".into(), 2, None, &ctx), Ok("ab".into()));
/// # assert_eq!(shorten("abc".into(), 3, None, &ctx), Ok("abc".into()));
/// # skills_sdk::skill! { tools: [shorten], description: "Shortens." }
/// # skill().describe();
/// ```
///
/// # Of the function
///
/// | key | meaning | default |
/// | --- | --- | --- |
/// | `name = "..."` | the tool's name: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_` and `-` | the function's name |
/// | `title = "..."` | a name for people | none |
/// | `read_only` | the tool changes nothing outside its own answer | not stated |
/// | `destructive` | the tool may delete or overwrite what was there before | not stated |
/// | `idempotent` | a second call with the same input has no further effect | not stated |
/// | `open_world` | the tool talks to things beyond the host, such as the network | not stated |
///
/// The last four take `= true` or `= false`; alone they mean `true`. Of what is
/// not stated the host assumes the more dangerous.
///
/// # Of an argument
///
/// An argument owns its value: `String` rather than `&str`. Only `&Context` is
/// a reference, and no part of the input. An `Option` may be left out of the
/// input. Doc comments become descriptions in the schema, and `#[serde(...)]`
/// and `#[schemars(...)]` apply as to a field of a struct, apart from
/// `#[serde(flatten)]` and `#[serde(alias = ...)]`, which do not compile: the
/// host lets no field through that is not an argument's. `#[tool(input)]`, with
/// a struct, may flatten.
///
/// | key | meaning |
/// | --- | --- |
/// | `#[tool(default = ...)]` | the argument may be left out, and has this value then. The schema shows it where the type implements `Serialize`, so it must always be the same. A literal text is converted to the type (`From<&str>`) |
/// | `#[tool(default)]` | the same with the type's `Default` |
/// | `#[tool(input)]` | the argument is the whole input, an object: a struct, or a map with texts as keys; besides it only `&Context` may be taken |
///
/// # Of the return type
///
/// `Result<T, E>` where `E` becomes a [`Failure`], or just `T`. `T` implements
/// `serde::Serialize` and `schemars::JsonSchema`. An alias of `Result` is known
/// by its name: `std::io::Result<T>` may fail, and a `type Answer = Result<...>`
/// would be taken for a plain value.
///
/// # The type beside the function
///
/// The macro puts an empty type of the function's name beside the function, so
/// that one `use` brings both. A module or type of that name can therefore not
/// stand in the same scope.
pub use skills_sdk_macros::tool;
pub use storage::{Storage, StorageError};
pub use {schemars, serde, serde_json};

/// What a skill's source usually needs: `use skills_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{Attachment, Context, Failure, Level, tool};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
}

/// What the macros expand to. No part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::derived::{Derived, Underived};
    pub use crate::input::parse;
    pub use crate::output::{Fallible, write};
    pub use crate::schema::{input_schema, output_schema};
    pub use crate::skill::{Tool, ToolEntry, check_unique};
    pub use skills_sdk_macros::each_tool_needs_the_attribute_tool;
    pub use {schemars, serde};

    #[cfg(target_arch = "wasm32")]
    pub mod guest {
        pub use crate::guest::{bindings, describe, execute, exports};
    }
}

/// Exports the `skill()` in scope as this component's. Natively there is
/// nothing to export to.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_arch = "wasm32"))]
macro_rules! __export {
    () => {};
}

/// Exports the `skill()` in scope as this component's.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "wasm32")]
macro_rules! __export {
    () => {
        const _: () = {
            use $crate::__private::guest;

            struct Component;

            impl guest::exports::Guest for Component {
                fn describe() -> guest::exports::Description {
                    guest::describe(skill())
                }

                fn execute(
                    tool: ::std::string::String,
                    input: ::std::string::String,
                    attachments: ::std::vec::Vec<guest::exports::Attachment>,
                    context: guest::exports::Context,
                ) -> ::core::result::Result<guest::exports::Output, guest::exports::Failure>
                {
                    guest::execute(skill(), &tool, &input, attachments, context)
                }
            }

            guest::bindings::export! { Component with_types_in guest::bindings }
        };
    };
}
