//! What a skill says of itself, checked before anybody believes it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::{NAME_RULE, is_name};
use super::schema::{MAX_COPIES, MAX_PATTERNS, Schema, SchemaError};
use crate::text::shortened;

/// The most tools that one skill may have.
const MAX_TOOLS: usize = 1_000;
/// The most bytes of one name, title or description.
const MAX_TEXT: usize = 16 * 1024;
/// A version is part of a folder's name. In bytes.
const MAX_VERSION: usize = 100;

/// What a skill says of itself: the answer of its `describe`, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Description {
    /// The skill's name: 1 to 64 of `a-z`, `0-9` and `-`, with no hyphen first, last or after
    /// another.
    pub name: String,
    /// Its version (semantic versioning 2.0.0).
    pub version: String,
    /// What it is for.
    pub description: String,
    /// Its tools, in its own order.
    pub tools: Vec<Tool>,
}

/// One callable operation of a skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Tool {
    /// Unique within the skill: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_` and `-`.
    pub name: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does and when to use it.
    pub description: String,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// JSON Schema of the output, where the skill declares one. It is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Its effects, as its author states them.
    pub annotations: Annotations,
    /// Whether its author marked it as destructive and not idempotent, rather than saying nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked_destructive: bool,
}

/// The effects of a tool. What its author does not state is taken as the more dangerous case, as
/// the Model Context Protocol does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Annotations {
    /// It changes nothing outside its own answer. False unless stated.
    pub read_only: bool,
    /// It may delete or overwrite what was there before. True unless stated or read-only.
    pub destructive: bool,
    /// A second call with the same input has no further effect. False unless stated or read-only.
    pub idempotent: bool,
    /// It talks to things beyond the host, such as the network. True unless stated.
    pub open_world: bool,
}

impl Annotations {
    /// The annotations that follow from what was stated.
    pub fn resolve(
        read_only: Option<bool>,
        destructive: Option<bool>,
        idempotent: Option<bool>,
        open_world: Option<bool>,
    ) -> Self {
        let read_only = read_only.unwrap_or(false);
        Annotations {
            read_only,
            destructive: destructive.unwrap_or(!read_only),
            idempotent: idempotent.unwrap_or(read_only),
            open_world: open_world.unwrap_or(true),
        }
    }
}

/// A description that cannot be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// The skill's name breaks the rule.
    #[error("the skill's name {0:?} cannot be one: a name is {NAME_RULE}")]
    Name(String),
    /// The version is not a semantic one.
    #[error("the skill's version {version:?} is not a semantic version: {reason}")]
    Version {
        /// What the skill says.
        version: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no tool.
    #[error("the skill has no tools")]
    NoTools,
    /// There are too many tools.
    #[error("the skill has {0} tools; {MAX_TOOLS} are allowed")]
    TooManyTools(usize),
    /// A tool's name breaks the rule.
    #[error("the tool name {0:?} is not 1 to 64 of a-z, A-Z, 0-9, _ and -")]
    ToolName(String),
    /// Two tools have one name.
    #[error("two tools are named {0:?}")]
    DuplicateTool(String),
    /// A text is too long.
    #[error("the {what} has {bytes} bytes; {MAX_TEXT} are allowed")]
    TextTooLong {
        /// Which text.
        what: String,
        /// How long it is.
        bytes: usize,
    },
    /// The schemas have too many patterns together.
    #[error("the schemas have {0} patterns together; {MAX_PATTERNS} are allowed")]
    TooManyPatterns(usize),
    /// The schemas keep too many copies of their parts together, to find out what was not evaluated.
    #[error(
        "what asks for what was not evaluated comes to {0} copies of the schemas' parts together; {MAX_COPIES} are allowed"
    )]
    TooManyCopies(u64),
    /// A schema cannot be used.
    #[error("the {which} schema of tool {tool:?} cannot be used: {source}")]
    Schema {
        /// `input` or `output`.
        which: &'static str,
        /// Whose.
        tool: String,
        /// Why.
        source: SchemaError,
    },
}

/// A tool's schemas, ready to check with. A thread that checks for long has them, too.
#[derive(Debug)]
pub(crate) struct ToolSchemas {
    pub input: Arc<Schema>,
    pub output: Option<Arc<Schema>>,
}

impl Description {
    /// Checks the description, and makes its schemas ready, in the order of the tools.
    pub(crate) fn check(&self) -> Result<Vec<ToolSchemas>, DescriptionError> {
        self.check_with(Schema::new)
    }

    /// [`check`](Description::check) of one that has passed it before.
    pub(crate) fn check_again(&self) -> Result<Vec<ToolSchemas>, DescriptionError> {
        self.check_with(Schema::known)
    }

    fn check_with(
        &self,
        make: fn(&Value) -> Result<Schema, SchemaError>,
    ) -> Result<Vec<ToolSchemas>, DescriptionError> {
        let short = |text: &str| shortened(text, 100).into_owned();
        if !is_name(&self.name) {
            return Err(DescriptionError::Name(short(&self.name)));
        }
        if let Err(error) = semver::Version::parse(&self.version) {
            return Err(DescriptionError::Version {
                version: short(&self.version),
                reason: error.to_string(),
            });
        }
        if self.version.len() > MAX_VERSION {
            return Err(DescriptionError::Version {
                version: short(&self.version),
                reason: format!(
                    "it has {} bytes; {MAX_VERSION} are allowed",
                    self.version.len()
                ),
            });
        }
        length("skill's description", &self.description)?;
        if self.tools.is_empty() {
            return Err(DescriptionError::NoTools);
        }
        if self.tools.len() > MAX_TOOLS {
            return Err(DescriptionError::TooManyTools(self.tools.len()));
        }
        let mut names = std::collections::HashSet::new();
        let mut schemas = Vec::with_capacity(self.tools.len());
        let (mut patterns, mut copies) = (0, 0);
        for tool in &self.tools {
            if !is_tool_name(&tool.name) {
                return Err(DescriptionError::ToolName(short(&tool.name)));
            }
            if !names.insert(tool.name.as_str()) {
                return Err(DescriptionError::DuplicateTool(tool.name.clone()));
            }
            length(
                &format!("title of tool {:?}", tool.name),
                tool.title.as_deref().unwrap_or(""),
            )?;
            length(
                &format!("description of tool {:?}", tool.name),
                &tool.description,
            )?;
            let schema = |which, schema| {
                make(schema)
                    .map(Arc::new)
                    .map_err(|source| DescriptionError::Schema {
                        which,
                        tool: tool.name.clone(),
                        source,
                    })
            };
            let schema = ToolSchemas {
                input: schema("input", &tool.input_schema)?,
                output: match &tool.output_schema {
                    Some(output) => Some(schema("output", output)?),
                    None => None,
                },
            };
            patterns += schema.input.patterns();
            patterns += schema.output.as_deref().map_or(0, Schema::patterns);
            if patterns > MAX_PATTERNS {
                return Err(DescriptionError::TooManyPatterns(patterns));
            }
            copies += schema.input.copies();
            copies += schema.output.as_deref().map_or(0, Schema::copies);
            if copies > MAX_COPIES {
                return Err(DescriptionError::TooManyCopies(copies));
            }
            schemas.push(schema);
        }
        Ok(schemas)
    }
}

fn length(what: &str, text: &str) -> Result<(), DescriptionError> {
    if text.len() > MAX_TEXT {
        return Err(DescriptionError::TextTooLong {
            what: what.to_owned(),
            bytes: text.len(),
        });
    }
    Ok(())
}

/// A tool's name: 1 to 64 ASCII letters and digits, `_` and `-`.
pub(crate) fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn description(tools: &[&str]) -> Description {
        Description {
            name: "a".into(),
            version: "1.0.0".into(),
            description: String::new(),
            tools: tools
                .iter()
                .map(|name| Tool {
                    name: (*name).to_owned(),
                    title: None,
                    description: String::new(),
                    input_schema: json!({"type": "object"}),
                    output_schema: None,
                    annotations: Annotations::resolve(None, None, None, None),
                    marked_destructive: false,
                })
                .collect(),
        }
    }

    #[test]
    fn what_is_not_stated_is_dangerous() {
        let unstated = Annotations::resolve(None, None, None, None);
        assert!(!unstated.read_only && unstated.destructive);
        assert!(!unstated.idempotent && unstated.open_world);
        let read_only = Annotations::resolve(Some(true), None, None, Some(false));
        assert!(!read_only.destructive && read_only.idempotent && !read_only.open_world);
    }

    #[test]
    fn lies_are_found() {
        assert!(description(&["a", "b"]).check().is_ok());
        assert!(matches!(
            description(&[]).check(),
            Err(DescriptionError::NoTools)
        ));
        assert!(matches!(
            description(&["a", "a"]).check(),
            Err(DescriptionError::DuplicateTool(_))
        ));
        assert!(matches!(
            description(&["a b"]).check(),
            Err(DescriptionError::ToolName(_))
        ));
        let mut named = description(&["a"]);
        named.name = "../../etc".into();
        assert!(matches!(named.check(), Err(DescriptionError::Name(_))));
        named.name = "a-".into();
        assert_eq!(
            named.check().unwrap_err().to_string(),
            "the skill's name \"a-\" cannot be one: a name is 1 to 64 of a-z, 0-9 and -, with no \
             hyphen first, last or after another"
        );
        let mut versioned = description(&["a"]);
        versioned.version = "1".into();
        assert!(matches!(
            versioned.check(),
            Err(DescriptionError::Version { .. })
        ));
        versioned.version = format!("1.0.0-{}", "a".repeat(MAX_VERSION));
        let error = versioned.check().unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("it has 106 bytes; 100 are allowed"),
            "{error}"
        );
        let many = vec!["a"; MAX_TOOLS + 1];
        assert!(matches!(
            description(&many).check(),
            Err(DescriptionError::TooManyTools(_))
        ));
        let mut long = description(&["a"]);
        long.tools[0].description = "x".repeat(MAX_TEXT + 1);
        assert!(matches!(
            long.check(),
            Err(DescriptionError::TextTooLong { .. })
        ));
        let mut schema = description(&["a"]);
        schema.tools[0].input_schema = json!({"type": 7});
        assert!(matches!(
            schema.check(),
            Err(DescriptionError::Schema { .. })
        ));
    }
}
