//! JSON Schemas of strangers, made safe to check with.
//!
//! A schema comes from a skill and is evaluated by the host, outside the sandbox, so it must not be
//! able to make the host work without end. Regular expressions are matched in linear time and are
//! bounded in size, nothing is ever fetched, and the number of times that a value can be visited
//! is bounded: see [`Schema::new`].

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use crate::text::{printable, shortened};

/// The largest schema, in bytes of its JSON text.
const MAX_BYTES: usize = 256 * 1024;
/// The most work that the places along one way into a value may make, in units of [`Node::own`].
const MAX_VISITS: u64 = 50_000;
/// The work that checking any value may make: well under a second of it.
const FREE_WORK: u64 = 10_000_000;
/// The work that each part of a value may make in a value that is larger. Whoever allows larger
/// inputs and outputs allows the work that grows with them.
const WORK_PER_PART: u64 = 100;
/// The most patterns that one schema may have: each takes up to [`MAX_PATTERN_BYTES`] of memory.
pub(super) const MAX_PATTERNS: usize = 200;
/// The longest path to a place in a schema, in bytes.
const MAX_POINTER: usize = 8 * 1024;
/// The deepest nesting of JSON that anything here accepts; serde_json has the same bound.
pub(crate) const MAX_DEPTH: usize = 128;
/// The least depth that a schema must allow to be of use.
const MIN_DEPTH: usize = 4;
/// The size to which one compiled pattern may grow, in bytes.
const MAX_PATTERN_BYTES: usize = 128 * 1024;

/// A JSON Schema that is ready to check with, and safe to.
pub struct Schema {
    validator: jsonschema::Validator,
    max_depth: usize,
    /// The work that one way into a value can make, by the value's depth; the last stands for all
    /// that are deeper.
    visits: Vec<u64>,
    /// How many patterns it has.
    patterns: usize,
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
        let bytes = schema.to_string().len();
        if bytes > MAX_BYTES {
            return Err(SchemaError::TooLarge(bytes));
        }
        let graph = Graph::new(schema)?;
        if graph.patterns > MAX_PATTERNS {
            return Err(SchemaError::TooManyPatterns(graph.patterns));
        }
        let (max_depth, visits) = graph.visits()?;
        let patterns = graph.patterns;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(
                jsonschema::PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(schema)
            .map_err(|error| {
                SchemaError::Invalid(shortened(&printable(&error.to_string(), false), 300).into())
            })?;
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
    /// The first place that does not fit.
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
            });
        }
        let visits = self.visits[depth.min(self.visits.len() - 1)];
        if visits.saturating_mul(parts) > FREE_WORK.max(WORK_PER_PART.saturating_mul(parts)) {
            return Err(Mismatch {
                pointer: String::new(),
                message: "it is too large to be checked against a schema as complicated as this"
                    .into(),
            });
        }
        if self.validator.is_valid(value) {
            return Ok(());
        }
        match self.validator.validate(value) {
            Ok(()) => Ok(()),
            Err(error) => Err(Mismatch {
                pointer: error.instance_path().to_string(),
                message: shortened(&printable(&error.to_string(), false), 300).into_owned(),
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
    let mut extent = Extent { depth: 0, parts: 0 };
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        extent.parts += 1;
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(fields) => {
                extent.parts += fields.keys().map(text).sum::<u64>();
                open.extend(fields.values().map(|field| (field, level + 1)));
            }
            Value::String(string) => {
                extent.parts += text(string);
                continue;
            }
            _ => continue,
        }
        extent.depth = extent.depth.max(level + 1);
    }
    extent
}

/// How many levels of arrays and objects a value has: 0 for a number or a text.
pub(crate) fn depth(value: &Value) -> usize {
    extent(value).depth
}

/// The subschemas of a schema, and which of them meet where.
struct Graph<'a> {
    root: &'a Value,
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
    patterns: usize,
}

#[derive(Default)]
struct Node {
    /// What its own keywords cost: 1, and 1 more for each name and pattern that they list and for
    /// each 16 bytes that they compare with.
    own: u64,
    /// Checked against the same place.
    in_place: Vec<usize>,
    /// Checked against a child, several possibly against the same one.
    overlapping: Vec<usize>,
    /// Checked against a child, each against another.
    exclusive: Vec<usize>,
    /// In-place subschemas are walked a second time to find what they did not evaluate.
    twice: bool,
}

impl<'a> Graph<'a> {
    fn new(root: &'a Value) -> Result<Self, SchemaError> {
        let mut graph = Graph {
            root,
            nodes: Vec::new(),
            by_pointer: HashMap::new(),
            patterns: 0,
        };
        let mut open = vec![(String::new(), root)];
        graph.node("", &mut Vec::new(), root);
        while let Some((pointer, schema)) = open.pop() {
            graph.visit(&pointer, schema, &mut open)?;
        }
        Ok(graph)
    }

    /// The index of the node at a pointer; it is put on the list of open ones when it is new.
    fn node(
        &mut self,
        pointer: &str,
        open: &mut Vec<(String, &'a Value)>,
        schema: &'a Value,
    ) -> usize {
        if let Some(&index) = self.by_pointer.get(pointer) {
            return index;
        }
        let index = self.nodes.len();
        self.nodes.push(Node::default());
        self.by_pointer.insert(pointer.to_owned(), index);
        open.push((pointer.to_owned(), schema));
        index
    }

    fn visit(
        &mut self,
        pointer: &str,
        schema: &'a Value,
        open: &mut Vec<(String, &'a Value)>,
    ) -> Result<(), SchemaError> {
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        let mut node = Node {
            own: 1,
            ..Node::default()
        };
        for (keyword, value) in keywords {
            let place = format!("{pointer}/{}", escape(keyword));
            if place.len() > MAX_POINTER {
                return Err(SchemaError::Invalid(
                    "it has a name in it that is too long".into(),
                ));
            }
            let list = match keyword.as_str() {
                "$ref" => {
                    let target = self.resolve(&place, keyword, value)?;
                    let index = self.node(&target.0, open, target.1);
                    node.in_place.push(index);
                    continue;
                }
                "$dynamicRef" | "$recursiveRef" | "$id" | "id" if value.is_string() => {
                    // A root may name itself: that changes nothing, as nothing is looked up by it.
                    if pointer.is_empty() && matches!(keyword.as_str(), "$id" | "id") {
                        continue;
                    }
                    return Err(reference(keyword, &place, value));
                }
                "unevaluatedProperties" | "unevaluatedItems" => {
                    node.twice = true;
                    &mut node.overlapping
                }
                "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else"
                | "dependentSchemas" | "dependencies" => &mut node.in_place,
                "patternProperties" | "contains" | "propertyNames" => &mut node.overlapping,
                "properties"
                | "additionalProperties"
                | "items"
                | "prefixItems"
                | "additionalItems" => &mut node.exclusive,
                "title" | "description" | "$comment" | "default" | "examples" | "$defs"
                | "definitions" => continue,
                keyword => {
                    self.patterns += usize::from(keyword == "pattern");
                    node.own += 1 + value.to_string().len() as u64 / 16;
                    continue;
                }
            };
            let named = matches!(
                keyword.as_str(),
                "properties" | "patternProperties" | "dependentSchemas" | "dependencies"
            );
            match value {
                Value::Object(schemas) if named => {
                    node.own += schemas.len() as u64;
                    if keyword == "patternProperties" {
                        self.patterns += schemas.len();
                    }
                    for (key, schema) in schemas {
                        let place = format!("{place}/{}", escape(key));
                        list.push(self.node(&place, open, schema));
                    }
                }
                Value::Array(schemas) => {
                    for (index, schema) in schemas.iter().enumerate() {
                        list.push(self.node(&format!("{place}/{index}"), open, schema));
                    }
                }
                schema => list.push(self.node(&place, open, schema)),
            }
        }
        let index = self.by_pointer[pointer];
        self.nodes[index] = node;
        Ok(())
    }

    fn resolve(
        &self,
        place: &str,
        keyword: &str,
        value: &Value,
    ) -> Result<(String, &'a Value), SchemaError> {
        let pointer = value
            .as_str()
            .and_then(|text| text.strip_prefix('#'))
            .filter(|pointer| pointer.is_empty() || pointer.starts_with('/'))
            .filter(|pointer| !pointer.contains('%'));
        pointer
            .and_then(|pointer| Some((pointer.to_owned(), self.root.pointer(pointer)?)))
            .ok_or_else(|| reference(keyword, place, value))
    }

    /// The deepest value for which no way into it makes more than [`MAX_VISITS`], and what each
    /// depth up to there makes.
    fn visits(&self) -> Result<(usize, Vec<u64>), SchemaError> {
        let order = self.in_place_order()?;
        let mut below = vec![0_u64; self.nodes.len()];
        let mut visits = Vec::new();
        for depth in 0..=MAX_DEPTH {
            let mut here = vec![0_u64; self.nodes.len()];
            for &index in &order {
                let node = &self.nodes[index];
                let sum = |list: &[usize], of: &[u64]| {
                    list.iter()
                        .fold(0_u64, |sum, &index| sum.saturating_add(of[index]))
                };
                let in_place = sum(&node.in_place, &here);
                let in_place = if node.twice {
                    in_place.saturating_mul(2)
                } else {
                    in_place
                };
                let exclusive = node.exclusive.iter().map(|&index| below[index]).max();
                here[index] = node
                    .own
                    .saturating_add(in_place)
                    .saturating_add(sum(&node.overlapping, &below))
                    .saturating_add(exclusive.unwrap_or(0));
            }
            if here[0] > MAX_VISITS {
                return match depth.checked_sub(1) {
                    Some(depth) if depth >= MIN_DEPTH => Ok((depth, visits)),
                    _ => Err(SchemaError::TooExpensive),
                };
            }
            visits.push(here[0]);
            if here == below {
                break;
            }
            below = here;
        }
        Ok((MAX_DEPTH, visits))
    }

    /// The nodes, each after those it checks in place. A cycle there would never end.
    fn in_place_order(&self) -> Result<Vec<usize>, SchemaError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        for start in 0..self.nodes.len() {
            let mut stack = vec![(start, 0)];
            while let Some((index, next)) = stack.pop() {
                if next == 0 {
                    match marks[index] {
                        Mark::Done => continue,
                        Mark::Open => return Err(SchemaError::TooExpensive),
                        Mark::New => marks[index] = Mark::Open,
                    }
                }
                match self.nodes[index].in_place.get(next) {
                    Some(&child) => {
                        stack.push((index, next + 1));
                        stack.push((child, 0));
                    }
                    None => {
                        marks[index] = Mark::Done;
                        order.push(index);
                    }
                }
            }
        }
        Ok(order)
    }
}

fn reference(keyword: &str, place: &str, value: &Value) -> SchemaError {
    SchemaError::Reference {
        keyword: keyword.to_owned(),
        pointer: shortened(&printable(place, false), 200).into_owned(),
        reference: shortened(value.as_str().unwrap_or("not a text"), 200).into_owned(),
    }
}

/// A key as it stands in a JSON Pointer (RFC 6901, section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
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
    fn depth_counts_levels() {
        assert_eq!(depth(&json!(1)), 0);
        assert_eq!(depth(&json!([])), 1);
        assert_eq!(depth(&json!({"a": [{}]})), 3);
    }
}
