use serde_json::Value;

use crate::{Context, Failure};

/// A skill: what it is, and its tools. [`skill!`](crate::skill!) makes it.
#[derive(Clone, Copy, Debug)]
pub struct Skill {
    name: &'static str,
    version: &'static str,
    description: &'static str,
    tools: &'static [ToolEntry],
}

/// A tool in the list of its skill, which is made at compile time.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ToolEntry {
    name: &'static str,
    describe: fn() -> ToolDescription,
    call: fn(&str, &Context) -> Result<String, Failure>,
}

/// What `#[tool]` makes of a function, for a type of the function's name.
#[doc(hidden)]
pub trait Tool {
    /// The tool's name.
    const NAME: &'static str;

    /// The tool in its skill's list.
    const ENTRY: ToolEntry = ToolEntry {
        name: Self::NAME,
        describe: Self::describe,
        call: Self::call,
    };

    /// What the tool tells about itself.
    fn describe() -> ToolDescription;

    /// Reads the input, runs the function and writes its answer.
    fn call(input: &str, context: &Context) -> Result<String, Failure>;
}

/// Refuses, at compile time, that the tool at `index` has a name that one before it has.
#[doc(hidden)]
pub const fn check_unique(tools: &[ToolEntry], index: usize) {
    let mut before = 0;
    while before < index {
        if equal(tools[before].name.as_bytes(), tools[index].name.as_bytes()) {
            panic!("another tool of this skill has the same name");
        }
        before += 1;
    }
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// What a skill is and which tools it has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// The skill's name: 1 to 64 of `a-z`, `0-9` and `-`, with no hyphen first, last or after
    /// another.
    pub name: String,
    /// The skill's version (semantic versioning 2.0.0).
    pub version: String,
    /// One paragraph on what the skill is for.
    pub description: String,
    /// The skill's tools, in the order in which `skill!` lists them.
    pub tools: Vec<ToolDescription>,
}

impl Description {
    /// The description of the tool called `name`.
    pub fn tool(&self, name: &str) -> Option<&ToolDescription> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

/// What one tool does and takes.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolDescription {
    /// Unique within the skill: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_` and `-`.
    pub name: String,
    /// A name for people.
    pub title: Option<String>,
    /// What the tool does and when to use it.
    pub description: String,
    /// JSON Schema (draft 2020-12) of the input, which is an object.
    pub input_schema: Value,
    /// JSON Schema (draft 2020-12) of the output; `None` where the type allows
    /// any JSON, as [`Value`] does.
    pub output_schema: Option<Value>,
    /// The tool's effects.
    pub annotations: Annotations,
}

/// What a tool's author says about its effects. `None` means "not stated"; the
/// host then assumes the more dangerous case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// The tool changes nothing outside its own answer.
    pub read_only: Option<bool>,
    /// The tool may delete or overwrite what was there before.
    pub destructive: Option<bool>,
    /// A second call with the same input has no further effect.
    pub idempotent: Option<bool>,
    /// The tool talks to things beyond the host, such as the network.
    pub open_world: Option<bool>,
}

impl Skill {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        version: &'static str,
        description: &'static str,
        tools: &'static [ToolEntry],
    ) -> Self {
        Self {
            name,
            version,
            description,
            tools,
        }
    }

    /// What the skill tells the host about itself; always the same.
    ///
    /// # Panics
    /// Where the type of a `#[tool(input)]` argument is not an object in JSON;
    /// the message names the tool.
    pub fn describe(&self) -> Description {
        Description {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            description: self.description.to_owned(),
            tools: self.tools.iter().map(|tool| (tool.describe)()).collect(),
        }
    }

    /// Runs a tool from JSON to JSON, in a test: writes the input as JSON text,
    /// parses it, calls the function, and reads the answer's JSON text.
    ///
    /// Of a call by the host it leaves out the check of the input, and of the
    /// answer, against the tool's schemas. So it takes what only the schema
    /// refuses: a value out of its `#[schemars(range(...))]`, `length(...)` or
    /// `regex(...)`, say, or a field by its `#[serde(alias = ...)]`. It knows
    /// neither limits nor grants, and a panic passes through it.
    ///
    /// # Errors
    /// What the tool answers; [`Failure::UnknownTool`] where `tool` names none;
    /// [`Failure::InvalidInput`] where the input does not fit its arguments.
    pub fn call(&self, tool: &str, input: Value, context: &Context) -> Result<Value, Failure> {
        let output = self.execute(tool, &input.to_string(), context)?;
        Ok(serde_json::from_str(&output)?)
    }

    /// Runs a tool on JSON text and answers in JSON text.
    pub(crate) fn execute(
        &self,
        tool: &str,
        input: &str,
        context: &Context,
    ) -> Result<String, Failure> {
        let tool = self
            .tools
            .iter()
            .find(|entry| entry.name == tool)
            .ok_or(Failure::UnknownTool)?;
        (tool.call)(input, context)
    }
}
