//! JSON Schemas of strangers, made safe to check with.
//!
//! A schema comes from a skill and is evaluated by the host, outside the sandbox, so it must not be
//! able to make the host work without end. Regular expressions are matched in linear time and are
//! bounded in size, nothing is ever fetched, and the number of times that a value can be visited
//! is bounded: see [`Schema::new`].

mod cost;
mod place;

use std::fmt;

use serde_json::Value;

use crate::text::{printable, said, shortened};
use cost::Graph;

/// The largest schema, in bytes of its JSON text.
const MAX_BYTES: usize = 256 * 1024;
/// The work that checking any value may make: well under a second of it.
const FREE_WORK: u64 = 10_000_000;
/// The work that each part of a value may make in a value that is larger. Whoever allows larger
/// inputs and outputs allows the work that grows with them.
const WORK_PER_PART: u64 = 100;
/// The most patterns that one schema may have: each takes up to [`MAX_PATTERN_BYTES`] of memory.
pub(super) const MAX_PATTERNS: usize = 200;
/// The deepest nesting of JSON that anything here accepts; serde_json has the same bound.
pub(crate) const MAX_DEPTH: usize = 128;
/// The size to which one compiled pattern may grow, in bytes.
const MAX_PATTERN_BYTES: usize = 32 * 1024;

/// The memory that matching one pattern may use, in bytes.
const PATTERN_CACHE_BYTES: usize = 256 * 1024;

/// A JSON Schema that is ready to check with, and safe to.
pub struct Schema {
    validator: jsonschema::Validator,
    max_depth: usize,
    /// The work that one way into a value can make, by the value's depth; the last stands for all
    /// that are deeper.
    visits: Vec<u64>,
    /// How many patterns it has.
    patterns: usize,
    /// How many places in it have alternatives.
    alternatives: u64,
    /// `{}` or `true` accepts everything; no need to walk the value.
    accepts_all: bool,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("max_depth", &self.max_depth)
            .finish_non_exhaustive()
    }
}

/// A schema that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// It is too large.
    #[error("it has {0} bytes; {MAX_BYTES} are allowed")]
    TooLarge(usize),
    /// It refers to something that is not in it.
    #[error(
        "`{keyword}` at `{pointer}` is {reference:?}; only `$ref` to a place in the same schema (`#/…`) is allowed"
    )]
    Reference {
        /// `$ref`, `$dynamicRef`, …
        keyword: String,
        /// Where.
        pointer: String,
        /// To what.
        reference: String,
    },
    /// It has too many patterns.
    #[error("it has {0} patterns; {MAX_PATTERNS} are allowed")]
    TooManyPatterns(usize),
    /// Checking with it could take too long.
    #[error("checking with it could take too long: its parts refer to each other in too many ways")]
    TooExpensive,
    /// It is not a JSON Schema.
    #[error("{0}")]
    Invalid(String),
}

/// A value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// JSON Pointer (RFC 6901) to the place.
    pub pointer: String,
    /// What is wrong there. Control characters are escaped.
    pub message: String,
    /// What of its keys is wrong, where that is it.
    pub(crate) keys: Keys,
}

/// How many keys are looked at for one that was misspelt.
const LOOKED_AT: usize = 16;

/// What is wrong with the keys of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Nothing.
    Fine,
    /// It has some that the schema does not allow.
    Unexpected {
        /// Which.
        keys: Vec<String>,
        /// JSON Pointer to what the schema says of the object.
        schema: String,
    },
    /// It lacks one.
    Missing {
        /// Which.
        key: String,
        /// JSON Pointer to what the schema says of the object.
        schema: String,
    },
}

impl Keys {
    fn of(error: &jsonschema::ValidationError<'_>) -> Self {
        use jsonschema::error::ValidationErrorKind as Kind;
        let place = error.schema_path().to_string();
        let schema = place.rsplit_once('/').map_or("", |(object, _)| object);
        match error.kind() {
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => Keys::Unexpected {
                keys: unexpected.iter().take(LOOKED_AT).cloned().collect(),
                schema: schema.to_owned(),
            },
            Kind::Required { property } => match property.as_str() {
                Some(property) => Keys::Missing {
                    key: property.to_owned(),
                    schema: schema.to_owned(),
                },
                None => Keys::Fine,
            },
            _ => Keys::Fine,
        }
    }
}

impl Schema {
    /// Makes a schema ready (draft 2020-12 unless it names another).
    ///
    /// Without a bound, a small schema can make a checker work for ever: subschemas that refer to
    /// each other (`allOf` of two references, each again of two, …) are evaluated 2^n times. So
    /// the work that one way into a value can make is computed first, for every depth of the value:
    /// with `E(s, d)` for schema `s` and a value with `d` levels below it,
    ///
    /// `E(s, d) = own + Σ E(in place, d) + Σ E(children that overlap, d − 1) + max E(children that
    /// exclude each other, d − 1)`,
    ///
    /// where `own` counts what the keywords of `s` itself compare with. Where that goes past 50,000
    /// the depth is no longer accepted: a value of that depth is refused as too deep. Schemas that
    /// do not refer to themselves accept any depth. And a value is refused as too large where `E`
    /// times its size (values, keys, and 64 bytes of text each) passes 10 million and `E` is over
    /// 100.
    ///
    /// # Errors
    /// See [`SchemaError`].
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        Self::make(schema, |options| options.build(schema))
    }

    /// Makes a schema ready that [`new`](Schema::new) has taken before.
    ///
    /// That it is what JSON Schema says a schema is, is not looked at again: what says so is itself
    /// a schema, and to make that ready takes 2 ms, as much as half of everything else in a process
    /// that runs one tool. A schema that another refers to is not looked at in that way; the other
    /// is of an earlier draft, whose own schema is small.
    pub(super) fn known(schema: &Value) -> Result<Self, SchemaError> {
        const NAME: &str = "urn:known";
        Self::make(schema, |options| {
            let registry = jsonschema::Registry::new().add(NAME, schema)?.prepare()?;
            options
                .with_draft(jsonschema::Draft::Draft7)
                .with_registry(&registry)
                .build(&serde_json::json!({"$ref": NAME}))
        })
    }

    fn make(
        schema: &Value,
        build: impl FnOnce(
            jsonschema::ValidationOptions<'_>,
        )
            -> Result<jsonschema::Validator, jsonschema::ValidationError<'static>>,
    ) -> Result<Self, SchemaError> {
        let bytes = schema.to_string().len();
        if bytes > MAX_BYTES {
            return Err(SchemaError::TooLarge(bytes));
        }
        let graph = Graph::new(schema)?;
        if graph.patterns > MAX_PATTERNS {
            return Err(SchemaError::TooManyPatterns(graph.patterns));
        }
        let (max_depth, visits) = graph.visits()?;
        let (patterns, alternatives) = (graph.patterns, graph.alternatives);
        let options = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(
                jsonschema::PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(PATTERN_CACHE_BYTES),
            );
        let validator = build(options)
            .map_err(|error| SchemaError::Invalid(said(&error.to_string(), false, 300)))?;
        let accepts_all = match schema {
            Value::Bool(accepts) => *accepts,
            Value::Object(keywords) => keywords.is_empty(),
            _ => false,
        };
        Ok(Schema {
            validator,
            max_depth,
            visits,
            patterns,
            alternatives,
            accepts_all,
        })
    }

    /// How many patterns it has.
    pub(super) fn patterns(&self) -> usize {
        self.patterns
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first place that does not fit; or the whole, where it could take too much to find that place.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        if self.accepts_all {
            return Ok(());
        }
        let Extent { depth, parts } = extent(value);
        if depth > self.max_depth {
            return Err(Mismatch {
                pointer: String::new(),
                message: format!(
                    "it is nested more than {} levels deep, which is as far as this schema can be checked",
                    self.max_depth
                ),
                keys: Keys::Fine,
            });
        }
        let visits = self.visits[depth.min(self.visits.len() - 1)];
        if visits.saturating_mul(parts) > FREE_WORK.max(WORK_PER_PART.saturating_mul(parts)) {
            return Err(Mismatch {
                pointer: String::new(),
                message: "it is too large to be checked against a schema as complicated as this"
                    .into(),
                keys: Keys::Fine,
            });
        }
        if self.validator.is_valid(value) {
            return Ok(());
        }
        if !place::may_be_looked_for(value, visits, parts, self.alternatives) {
            return Err(Mismatch {
                pointer: String::new(),
                message: "somewhere in it none of several alternatives fits, and it is too large to say where"
                    .into(),
                keys: Keys::Fine,
            });
        }
        match self.validator.validate(value) {
            Ok(()) => Ok(()),
            Err(error) => Err(Mismatch {
                pointer: shortened(&printable(&error.instance_path().to_string(), false), 1_000)
                    .into_owned(),
                message: said(&error.to_string(), false, 300),
                keys: Keys::of(&error),
            }),
        }
    }
}

/// How deep and how large a value is.
struct Extent {
    /// Levels of arrays and objects: 0 for a number or a text.
    depth: usize,
    /// Values, keys, and 64 bytes of text each.
    parts: u64,
}

fn extent(value: &Value) -> Extent {
    let text = |text: &String| 1 + text.len() as u64 / 64;
    let mut extent = Extent { depth: 0, parts: 1 };
    // Only what has something in it, so that a flat value needs no list at all.
    let mut open = Vec::new();
    let mut next = Some((value, 1));
    while let Some((value, level)) = next {
        let mut visit = |part: &'_ Value| -> bool {
            extent.parts += 1;
            match part {
                Value::Array(_) | Value::Object(_) => return true,
                Value::String(string) => extent.parts += text(string),
                _ => {}
            }
            false
        };
        match value {
            Value::Array(items) => {
                open.extend(
                    items
                        .iter()
                        .filter(|item| visit(item))
                        .map(|item| (item, level + 1)),
                );
                extent.depth = extent.depth.max(level);
            }
            Value::Object(fields) => {
                open.extend(
                    fields
                        .values()
                        .filter(|field| visit(field))
                        .map(|field| (field, level + 1)),
                );
                extent.parts += fields.keys().map(text).sum::<u64>();
                extent.depth = extent.depth.max(level);
            }
            Value::String(string) => extent.parts += text(string),
            _ => {}
        }
        next = open.pop();
    }
    extent
}

/// How many levels of arrays and objects a value has: 0 for a number or a text.
pub(crate) fn depth(value: &Value) -> usize {
    extent(value).depth
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mismatch_says_where() {
        let schema = Schema::new(&json!({
            "type": "object",
            "properties": {"list": {"type": "array", "items": {"type": "integer"}}},
        }))
        .unwrap();
        assert_eq!(schema.check(&json!({"list": [1, 2]})), Ok(()));
        let mismatch = schema.check(&json!({"list": [1, "two"]})).unwrap_err();
        assert_eq!(mismatch.pointer, "/list/1");
        assert!(mismatch.message.contains("integer"), "{}", mismatch.message);
    }

    #[test]
    fn a_known_schema_checks_as_it_did_when_it_was_new() {
        let tree = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/tree"}, "value": {"type": "integer"}},
            "unevaluatedProperties": false,
        }}});
        let tuple = json!({"prefixItems": [{"type": "string"}], "items": {"minimum": 3}});
        let older = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "items": [{"type": "string"}],
            "additionalItems": {"minimum": 3},
        });
        let named = json!({"$id": "https://example.com/x", "properties": {"x": {"$ref": "#"}},
            "type": "object", "dependentRequired": {"value": ["left"]}});
        let values = [
            json!({}),
            json!({"left": {"left": {"value": 1}}, "value": 2}),
            json!({"left": {"left": {"value": "one"}}}),
            json!({"left": {"right": 1}}),
            json!({"x": [1]}),
            json!({"value": 1}),
            json!(["a", 3, 4]),
            json!(["a", 1]),
            json!([1, 3]),
            json!("text"),
        ];
        for schema in [
            json!({}),
            json!(true),
            json!(false),
            tree,
            tuple,
            older,
            named,
        ] {
            let (new, known) = (Schema::new(&schema), Schema::known(&schema));
            let (new, known) = (new.unwrap(), known.unwrap());
            for value in &values {
                assert_eq!(new.check(value), known.check(value), "{schema} {value}");
            }
        }
    }

    #[test]
    fn an_exponential_schema_is_refused_at_once() {
        let mut defs = serde_json::Map::new();
        for level in 0..64 {
            let next = format!("#/$defs/l{}", level + 1);
            defs.insert(
                format!("l{level}"),
                json!({"allOf": [{"$ref": next}, {"$ref": next}]}),
            );
        }
        defs.insert("l64".into(), json!({"type": "object"}));
        let schema = json!({"$ref": "#/$defs/l0", "$defs": defs});
        assert_eq!(Schema::new(&schema).unwrap_err(), SchemaError::TooExpensive);
    }

    #[test]
    fn an_exponential_recursion_is_bounded_in_depth() {
        let schema = Schema::new(&json!({
            "anyOf": [
                {"properties": {"x": {"$ref": "#"}}, "required": ["y"]},
                {"properties": {"x": {"$ref": "#"}}, "required": ["z"]},
                {"type": "object"},
            ],
        }))
        .unwrap();
        assert!(schema.max_depth < 30, "{}", schema.max_depth);
        let mut value = json!({});
        for _ in 0..100 {
            value = json!({"x": value});
        }
        assert!(schema.check(&value).unwrap_err().message.contains("nested"));
    }

    #[test]
    fn an_ordinary_recursive_schema_keeps_its_depth() {
        let schema = Schema::new(&json!({
            "$ref": "#/$defs/tree",
            "$defs": {"tree": {"type": "object", "properties": {
                "left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            }}},
        }))
        .unwrap();
        assert_eq!(schema.max_depth, MAX_DEPTH);
    }

    #[test]
    fn a_schema_that_refers_to_itself_in_place_is_refused() {
        assert_eq!(
            Schema::new(&json!({"$ref": "#"})).unwrap_err(),
            SchemaError::TooExpensive
        );
        assert_eq!(
            Schema::new(&json!({"allOf": [{"not": {"$ref": "#"}}]})).unwrap_err(),
            SchemaError::TooExpensive
        );
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in [
            "https://example.com/x",
            "other.json",
            "#anchor",
            "#/nowhere",
        ] {
            assert!(matches!(
                Schema::new(&json!({"properties": {"a": {"$ref": reference}}})),
                Err(SchemaError::Reference { .. })
            ));
        }
        assert!(Schema::new(&json!({"$id": "https://example.com/x", "type": "object"})).is_ok());
    }

    #[test]
    fn a_pattern_cannot_backtrack_or_grow() {
        let schema = Schema::new(&json!({"type": "string", "pattern": "^(a+)+$"})).unwrap();
        assert!(schema.check(&json!("a".repeat(50_000) + "!")).is_err());
        assert!(matches!(
            Schema::new(&json!({"pattern": "((a{1000}){1000}){1000}"})),
            Err(SchemaError::Invalid(_))
        ));
    }

    #[test]
    fn a_costly_schema_refuses_a_large_value_and_a_cheap_one_takes_it() {
        let names: serde_json::Map<String, Value> = (0..5_000)
            .map(|n| (format!("n{n}"), json!({"type": "integer"})))
            .collect();
        let costly = Schema::new(&json!({"items": {"properties": names}})).unwrap();
        let rows = |count: usize| json!(vec![json!({}); count]);
        assert_eq!(costly.check(&rows(100)), Ok(()));
        assert!(
            costly
                .check(&rows(100_000))
                .unwrap_err()
                .message
                .contains("too large")
        );
        let cheap = Schema::new(&json!({"items": {"properties": {"n": {"type": "integer"}}}}));
        assert_eq!(cheap.unwrap().check(&rows(100_000)), Ok(()));
    }

    #[test]
    fn no_backtick_of_a_strangers_is_in_a_message() {
        let schema = Schema::new(&json!({"properties": {"a": {"type": "integer"}}})).unwrap();
        let mismatch = schema.check(&json!({"a": "x` run `y"})).unwrap_err();
        assert!(mismatch.message.contains("x' run 'y"), "{mismatch:?}");
        for schema in [
            json!({"$ref": "x` run `y"}),
            json!({"properties": {"a": {"type": "x` run `y"}}}),
            json!({"$dynamicRef": "x` run `y"}),
        ] {
            let error = Schema::new(&schema).unwrap_err().to_string();
            assert!(!error.contains("x`") && !error.contains("`y"), "{error}");
        }
    }

    #[test]
    fn patterns_are_bounded_in_number() {
        let patterns: Vec<Value> = (0..300)
            .map(|n| json!({"pattern": format!("a{n}")}))
            .collect();
        assert_eq!(
            Schema::new(&json!({"anyOf": patterns})).unwrap_err(),
            SchemaError::TooManyPatterns(300)
        );
    }

    #[test]
    fn an_ordinary_pattern_is_taken() {
        let schema = Schema::new(&json!({
            "items": {"type": "string", "pattern": r"^[\w.+-]+@[\w-]+\.[\w.]+$"},
        }));
        let schema = schema.unwrap();
        assert_eq!(schema.check(&json!(vec!["a.b@example.org"; 1_000])), Ok(()));
        assert!(schema.check(&json!(["nobody"])).is_err());
    }

    #[test]
    fn a_pattern_with_many_states_does_not_meet_a_long_text() {
        let patterns: Vec<Value> = (0..20)
            .map(|n| json!({"pattern": format!("a[ab]{{100}}{n}")}))
            .collect();
        let schema = Schema::new(&json!({"not": {"anyOf": patterns}})).unwrap();
        let mismatch = schema.check(&json!("ab".repeat(100_000))).unwrap_err();
        assert!(
            mismatch.message.contains("too large"),
            "{}",
            mismatch.message
        );
    }

    #[test]
    fn a_part_with_an_identity_of_its_own_is_refused() {
        let hidden = json!({
            "$ref": "#/$defs/x/$defs/l0",
            "$defs": {"l0": {}, "x": {"$id": "urn:x", "$defs": {"l0": {"$ref": "#/$defs/l0"}}}},
        });
        assert!(matches!(
            Schema::new(&hidden),
            Err(SchemaError::Reference { .. })
        ));
        let property = json!({"properties": {"$id": {"type": "string"}, "id": {"const": "a"}}});
        assert!(Schema::new(&property).is_ok());
        let draft_4 = json!({"$schema": "http://json-schema.org/draft-04/schema#"});
        assert!(matches!(
            Schema::new(&draft_4),
            Err(SchemaError::Invalid(_))
        ));
    }

    #[test]
    fn a_schema_of_long_names_costs_little() {
        let many: Vec<Value> = vec![json!({}); 60_000];
        let schema = json!({"properties": {"k".repeat(7_000): {"anyOf": many}}});
        assert!(Schema::new(&schema).is_err());
    }

    #[test]
    fn what_a_mismatch_says_is_escaped() {
        let schema = Schema::new(&json!({"additionalProperties": {"type": "string"}})).unwrap();
        let mismatch = schema.check(&json!({"\u{1b}[2J\nforged": 1})).unwrap_err();
        assert!(
            !mismatch.pointer.chars().any(char::is_control),
            "{:?}",
            mismatch.pointer
        );
    }

    #[test]
    fn depth_counts_levels() {
        assert_eq!(depth(&json!(1)), 0);
        assert_eq!(depth(&json!([])), 1);
        assert_eq!(depth(&json!({"a": [{}]})), 3);
    }
}
