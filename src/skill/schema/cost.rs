//! What checking with a schema can cost, found out before anything is checked.

use std::collections::HashMap;

use serde_json::Value;

use super::copies;
use super::{MAX_DEPTH, SchemaError};
use crate::text::{is_backtick, named, shortened};

/// The most work that the places along one way into a value may make, in units of [`Node::own`].
const MAX_VISITS: u64 = 50_000;
/// The longest path to a place in a schema, in bytes, and the most subschemas: together they bound
/// the memory that looking at a schema takes.
const MAX_POINTER: usize = 1024;
const MAX_NODES: usize = 10_000;
/// What matching one pattern with a key costs for 64 bytes of it: matching is linear in the text, but takes
/// time for every state that the pattern can be in.
const PATTERN_WORK: u64 = 1_000;
/// The same for a text, which it usually takes. It can be stopped.
const TEXT_PATTERN_WORK: u64 = 50;
/// What it costs to see whether a number is a multiple of a whole one, and of any other: that is worked out in exact
/// fractions, of as many digits as the two have.
const WHOLE_MULTIPLE_WORK: u64 = 8;
const MULTIPLE_WORK: u64 = 64;
/// The least depth that a schema must allow to be of use.
const MIN_DEPTH: usize = 4;

/// The subschemas of a schema, and which of them meet where.
pub(super) struct Graph<'a> {
    root: &'a Value,
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
    /// How many patterns the schema has, a long one counting as several.
    pub patterns: usize,
    /// How many places in it have alternatives.
    pub alternatives: u64,
    /// How long all is together that stands under a `not`, once for each that it stands under, in bytes of JSON.
    negated: u64,
}

#[derive(Default)]
pub(super) struct Node {
    /// What its own keywords cost: 1, and 1 more for each name and pattern that they list and for
    /// each 16 bytes that they compare with.
    own: u64,
    /// Checked against the same place.
    pub in_place: Vec<usize>,
    /// Those of them that it refers to.
    pub refs: Vec<usize>,
    /// Checked against a child, several possibly against the same one.
    pub overlapping: Vec<usize>,
    /// Those of them that are checked against what was not evaluated.
    pub unevaluated: Vec<usize>,
    /// Checked against a child, each against another.
    pub exclusive: Vec<usize>,
    /// Those of them that are for children of a name.
    pub named: Vec<usize>,
    /// How long its own keywords and names are, in bytes of JSON.
    pub bytes: u64,
}

impl<'a> Graph<'a> {
    pub fn new(root: &'a Value) -> Result<Self, SchemaError> {
        let mut graph = Graph {
            root,
            nodes: Vec::new(),
            by_pointer: HashMap::new(),
            patterns: 0,
            alternatives: 0,
            negated: 0,
        };
        closed(root)?;
        let mut open = vec![(String::new(), root)];
        graph.node("", &mut Vec::new(), root);
        while let Some((pointer, schema)) = open.pop() {
            graph.visit(&pointer, schema, &mut open)?;
            if graph.nodes.len() > MAX_NODES {
                return Err(SchemaError::TooExpensive);
            }
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
            self.alternatives += u64::from(matches!(keyword.as_str(), "anyOf" | "oneOf"));
            if keyword == "not" {
                self.negated += value.to_string().len() as u64;
            }
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
                    node.refs.push(index);
                    continue;
                }
                "unevaluatedProperties" | "unevaluatedItems" => {
                    let index = self.node(&place, open, value);
                    node.overlapping.push(index);
                    node.unevaluated.push(index);
                    continue;
                }
                "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else"
                | "dependentSchemas" | "dependencies" => &mut node.in_place,
                "patternProperties" | "contains" | "propertyNames" => &mut node.overlapping,
                "properties"
                | "additionalProperties"
                | "items"
                | "prefixItems"
                | "additionalItems" => &mut node.exclusive,
                "$defs" | "definitions" => continue,
                "$id" | "$schema" | "title" | "description" | "$comment" | "default"
                | "examples" => {
                    node.bytes += value.to_string().len() as u64;
                    continue;
                }
                keyword => {
                    if keyword == "pattern" {
                        self.patterns += count_of(value.as_str().unwrap_or_default());
                        node.own += TEXT_PATTERN_WORK;
                    }
                    if keyword == "multipleOf" {
                        let is_whole = value.as_f64().is_some_and(|of| of.fract() == 0.0);
                        node.own += match is_whole {
                            true => WHOLE_MULTIPLE_WORK,
                            false => MULTIPLE_WORK,
                        };
                    }
                    let bytes = value.to_string().len() as u64;
                    node.bytes += bytes;
                    node.own += 1 + bytes / 16;
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
                        self.patterns += schemas.keys().map(|key| count_of(key)).sum::<usize>();
                        node.own += schemas.len() as u64 * PATTERN_WORK;
                    }
                    for (key, schema) in schemas {
                        node.bytes += key.len() as u64 + 8;
                        let place = format!("{place}/{}", escape(key));
                        let index = self.node(&place, open, schema);
                        list.push(index);
                        if keyword == "properties" {
                            node.named.push(index);
                        }
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

    /// The schema with one keyword more in each of its subschemas.
    ///
    /// # Errors
    /// Where one of them is at the same time a value to compare with.
    pub fn with_keyword(&self, keyword: &str) -> Result<Value, SchemaError> {
        let mut schema = self.root.clone();
        for pointer in self.by_pointer.keys() {
            let is_value = ["/enum", "/const"].iter().any(|compared| {
                let mut found = pointer.match_indices(compared);
                found.any(|(at, _)| {
                    let rest = &pointer[at + compared.len()..];
                    let is_whole = rest.is_empty() || rest.starts_with('/');
                    is_whole && self.by_pointer.contains_key(&pointer[..at])
                })
            });
            if is_value {
                return Err(reference("$ref", "", &Value::String(format!("#{pointer}"))));
            }
            if let Some(Value::Object(keywords)) = schema.pointer_mut(pointer) {
                keywords.insert(keyword.to_owned(), Value::Bool(true));
            }
        }
        Ok(schema)
    }

    /// The deepest value for which no way into it makes more than [`MAX_VISITS`], and what each
    /// depth up to there makes.
    pub fn visits(&self) -> Result<(usize, Vec<u64>), SchemaError> {
        let order = self.in_place_order()?;
        let mut below = vec![0_u64; self.nodes.len()];
        let mut visits = Vec::new();
        for depth in 0..=MAX_DEPTH {
            let mut here = vec![0_u64; self.nodes.len()];
            let mut marks = vec![0_u64; self.nodes.len()];
            for &index in &order {
                let node = &self.nodes[index];
                let sum = |list: &[usize], of: &[u64]| {
                    list.iter()
                        .fold(0_u64, |sum, &index| sum.saturating_add(of[index]))
                };
                let in_place = sum(&node.in_place, &here);
                let exclusive = node.exclusive.iter().map(|&index| below[index]).max();
                // What it evaluates is what those do that fit, and that is found out by checking once more.
                marks[index] = node
                    .own
                    .saturating_add(in_place)
                    .saturating_add(sum(&node.in_place, &marks))
                    .saturating_add(sum(&node.unevaluated, &below));
                let looks = match node.unevaluated.is_empty() {
                    true => 0,
                    false => marks[index],
                };
                here[index] = node
                    .own
                    .saturating_add(in_place)
                    .saturating_add(looks)
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

    /// How many copies of its subschemas are made to find out what was not evaluated.
    pub fn copies(&self) -> Result<u64, SchemaError> {
        copies::count(&self.nodes, self.negated)
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

/// Makes sure that a reference means the same place to whoever follows it: nothing below the root
/// may start a schema of its own, with names and rules of its own.
fn closed(root: &Value) -> Result<(), SchemaError> {
    const KNOWN: [&str; 4] = ["2020-12", "2019-09", "draft-07", "draft-06"];
    if let Some(draft) = root.get("$schema")
        && !draft
            .as_str()
            .map(|draft| draft.trim_end_matches('#'))
            .is_some_and(|draft| {
                draft.ends_with("/schema") && KNOWN.iter().any(|known| draft.contains(known))
            })
    {
        return Err(SchemaError::Invalid(
            "its `$schema` is not draft 6, 7, 2019-09 or 2020-12".into(),
        ));
    }
    const OWN: [&str; 7] = [
        "$id",
        "$schema",
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveRef",
        "$recursiveAnchor",
    ];
    let mut open = vec![(root, true)];
    while let Some((value, is_root)) = open.pop() {
        match value {
            Value::Object(fields) => {
                let own = fields.iter().find(|(key, value)| {
                    let named = matches!(key.as_str(), "$id" | "$schema") && is_root;
                    OWN.contains(&key.as_str()) && !named && !value.is_object()
                });
                if let Some((key, value)) = own {
                    return Err(reference(key, "", value));
                }
                open.extend(fields.values().map(|field| (field, false)));
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, false))),
            _ => {}
        }
    }
    Ok(())
}

/// As how many patterns one counts. To make it ready takes up to 0.1 ms for each class of characters in it, or 4 ms where
/// case is ignored, and a class takes two bytes or more.
fn count_of(pattern: &str) -> usize {
    const BYTES: usize = 80;
    const IGNORING_CASE: usize = 8;
    // `(?i)`, `(?s-i:` and the like.
    let ignores_case = pattern.match_indices("(?").any(|(at, start)| {
        let rest = &pattern[at + start.len()..];
        let flags = rest.split_once([':', ')']).map_or("", |(flags, _)| flags);
        let are_flags = |flag: u8| flag.is_ascii_alphabetic() || flag == b'-';
        flags.bytes().all(are_flags) && flags.contains('i')
    });
    let weight = match ignores_case {
        true => IGNORING_CASE,
        false => 1,
    };
    pattern.len().saturating_mul(weight).div_ceil(BYTES).max(1)
}

fn reference(keyword: &str, place: &str, value: &Value) -> SchemaError {
    SchemaError::Reference {
        keyword: keyword.to_owned(),
        pointer: named(place, 200),
        reference: shortened(value.as_str().unwrap_or("not a text"), 200).replace(is_backtick, "'"),
    }
}

/// A key as it stands in a JSON Pointer (RFC 6901, section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
