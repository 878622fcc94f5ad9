//! What checking with a schema can cost, found out before anything is checked.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::copies;
use super::interrupt;
use super::pattern::states_of;
use super::{MAX_DEPTH, MAX_PATTERNS, SchemaError};
use crate::text::{is_backtick, named, shortened};

/// The most work that the places along one way into a value may make, in units of [`Node::own`].
const MAX_VISITS: u64 = 50_000;
/// The longest path to a place in a schema, in bytes, and the most subschemas: together they bound
/// the memory that looking at a schema takes.
const MAX_POINTER: usize = 1024;
const MAX_NODES: usize = 10_000;
/// What matching one pattern with a key costs for 64 bytes of it and each state that the pattern can be in. It takes some
/// 150 ns at most, which is 8; but it cannot be stopped, and so may make no more than a tenth of what else may.
const STATE_WORK: u64 = 100;
/// The same for a text, which it usually takes. It can be stopped.
const TEXT_PATTERN_WORK: u64 = 50;
/// What it costs to see whether a number is a multiple of a whole one, and of any other: that is worked out in exact
/// fractions, of as many digits as the two have.
const WHOLE_MULTIPLE_WORK: u64 = 8;
const MULTIPLE_WORK: u64 = 64;
/// What has all that is in a list or an object checked by a subschema, also once something does not fit it.
const GO_ON: [&str; 3] = ["contains", "unevaluatedItems", "unevaluatedProperties"];
/// How many bytes of a pattern count as one, for what it takes to make it ready.
const PATTERN_BYTES: usize = 80;
/// The least depth that a schema must allow to be of use.
const MIN_DEPTH: usize = 4;

/// The subschemas of a schema, and which of them meet where.
pub(super) struct Graph<'a> {
    root: &'a Value,
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
    /// How many patterns the schema has, used or not, a long one counting as several.
    pub patterns: usize,
    /// How many places in it have alternatives.
    pub alternatives: u64,
    /// How long all is together that stands under a `not`, once for each that it stands under, in bytes of JSON.
    negated: u64,
    /// Of an `allOf` that begins with an empty subschema, that and the next.
    empty: Vec<(usize, usize)>,
}

/// What checking makes.
pub(super) struct Visits {
    /// The deepest value that may be checked.
    pub max_depth: usize,
    /// The work that one way into a value makes, by the value's depth; the last stands for all that are deeper.
    pub by_depth: Vec<u64>,
    /// What each subschema makes of a value by itself, without what is in it.
    at_once: Vec<u64>,
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
            empty: Vec::new(),
        };
        graph.patterns = closed(root)?;
        if graph.patterns > MAX_PATTERNS {
            return Err(SchemaError::TooManyPatterns(graph.patterns));
        }
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
                        let states = schemas.keys().map(|key| states_of(key));
                        node.own += states.sum::<u64>().saturating_mul(STATE_WORK);
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
                    let first = list.len();
                    for (index, schema) in schemas.iter().enumerate() {
                        list.push(self.node(&format!("{place}/{index}"), open, schema));
                    }
                    let empty = schemas.first().and_then(Value::as_object);
                    if keyword == "allOf"
                        && empty.is_some_and(Map::is_empty)
                        && let [empty, next, ..] = list[first..]
                    {
                        self.empty.push((empty, next));
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
            .filter(|pointer| !pointer.contains('%'))
            // Anything else would be a second way to name a place.
            .filter(|pointer| {
                let mut escapes = pointer.match_indices('~');
                escapes.all(|(at, _)| matches!(pointer.as_bytes().get(at + 1), Some(b'0' | b'1')))
            });
        pointer
            .and_then(|pointer| Some((pointer.to_owned(), self.root.pointer(pointer)?)))
            .ok_or_else(|| reference(keyword, place, value))
    }

    /// The schema with one keyword more in each of its subschemas, which says what that makes of work.
    ///
    /// What it says is itself a schema, as its place may be one of several that a name is given to.
    ///
    /// # Errors
    /// Where one of them is at the same time a value to compare with.
    pub fn with_keyword(&self, keyword: &str, visits: &Visits) -> Result<Value, SchemaError> {
        let mut work = visits.at_once.clone();
        for &(empty, next) in &self.empty {
            work[empty] = work[empty].saturating_add(work[next]);
        }
        let mut schema = self.root.clone();
        for (pointer, &index) in &self.by_pointer {
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
                let work = json!({"$comment": work[index].to_string()});
                keywords.insert(keyword.to_owned(), work);
            }
        }
        Ok(schema)
    }

    /// The schema with what goes on where something does not fit as `{"allOf": [{}, …]}`, if it has any.
    ///
    /// A value is checked no further than to the first keyword that it does not fit, and the one that
    /// [`with_keyword`](Graph::with_keyword) adds comes last: of any number of values, none would come to it. The empty
    /// subschema comes first.
    pub fn that_looks(&self) -> Option<Value> {
        let mut moved: Vec<(&str, &str)> = self
            .by_pointer
            .keys()
            .flat_map(|at| self.moved(at))
            .collect();
        if moved.is_empty() {
            return None;
        }
        let mut schema = self.root.clone();
        for pointer in self.by_pointer.keys() {
            let found = schema.pointer_mut(pointer);
            if let Some(Value::String(target)) = found.and_then(|found| found.get_mut("$ref")) {
                *target = self.place_of(target);
            }
        }
        // The deepest first, so that the others are still where they were.
        moved.sort_by_key(|(pointer, _)| std::cmp::Reverse(pointer.matches('/').count()));
        for (pointer, keyword) in moved {
            let found = schema.pointer_mut(pointer);
            if let Some(subschema) = found.and_then(|found| found.get_mut(keyword)) {
                *subschema = json!({"allOf": [{}, subschema.take()]});
            }
        }
        Some(schema)
    }

    /// Which subschemas of the one at a place [`that_looks`](Graph::that_looks) moves.
    fn moved<'p>(&self, pointer: &'p str) -> Vec<(&'p str, &'static str)> {
        let schema = self.by_pointer.get(pointer).and(self.root.pointer(pointer));
        let is_moved = move |keyword: &&str| {
            let subschema = schema.and_then(|schema| schema.get(keyword));
            subschema.is_some_and(Value::is_object)
        };
        let keywords = GO_ON.into_iter().filter(is_moved);
        keywords.map(|keyword| (pointer, keyword)).collect()
    }

    /// Where what a reference means is then.
    fn place_of(&self, reference: &str) -> String {
        let mut place = String::new();
        let mut above = "";
        for (end, _) in reference.match_indices('/').chain([(reference.len(), "")]) {
            let token = &reference[above.len()..end];
            place.push_str(token);
            let pointer = above.strip_prefix('#');
            let mut moved = pointer.into_iter().flat_map(|pointer| self.moved(pointer));
            if moved.any(|(_, keyword)| token.strip_prefix('/') == Some(keyword)) {
                place.push_str("/allOf/1");
            }
            above = &reference[..end];
        }
        place
    }

    /// The deepest value for which no way into it makes more than [`MAX_VISITS`], and what each
    /// depth up to there makes.
    pub fn visits(&self) -> Result<Visits, SchemaError> {
        let order = self.in_place_order()?;
        let mut below = vec![0_u64; self.nodes.len()];
        let mut at_once = Vec::new();
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
                    Some(max_depth) if max_depth >= MIN_DEPTH => Ok(Visits {
                        max_depth,
                        by_depth: visits,
                        at_once,
                    }),
                    _ => Err(SchemaError::TooExpensive),
                };
            }
            visits.push(here[0]);
            if depth == 0 {
                at_once.clone_from(&here);
            }
            if here == below {
                break;
            }
            below = here;
        }
        Ok(Visits {
            max_depth: MAX_DEPTH,
            by_depth: visits,
            at_once,
        })
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
/// may start a schema of its own, with names and rules of its own. As how many patterns those count that stand anywhere in
/// it: also what nothing refers to is read once, to see whether it is a schema.
fn closed(root: &Value) -> Result<usize, SchemaError> {
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
    let mut patterns = 0_usize;
    let mut open = vec![(root, true)];
    while let Some((value, is_root)) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(pattern)) = fields.get("pattern") {
                    patterns = patterns.saturating_add(count_of(pattern));
                }
                if let Some(Value::Object(keyed)) = fields.get("patternProperties") {
                    let counts = keyed.keys().map(|pattern| count_of(pattern));
                    patterns = counts.fold(patterns, usize::saturating_add);
                }
                if fields.contains_key(interrupt::KEYWORD) {
                    return Err(SchemaError::Invalid(format!(
                        "it has the key `{}`, which is the host's own",
                        interrupt::KEYWORD
                    )));
                }
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
    Ok(patterns)
}

/// As how many patterns one counts. To make it ready takes up to 0.1 ms for each class of characters in it, or 4 ms where
/// case is ignored, and a class takes two bytes or more. That makes some 4 ms for each [`PATTERN_BYTES`].
fn count_of(pattern: &str) -> usize {
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
    let count = pattern.len().saturating_mul(weight).div_ceil(PATTERN_BYTES);
    count.max(1).saturating_add(translations_of(pattern))
}

/// As how many more one counts for the classes that are written in another way for the engine: the library reads the whole
/// anew for each that stands by itself, at some 100 ns for each byte of what has become of it by then.
fn translations_of(pattern: &str) -> usize {
    /// How long a class becomes at most: `\s`.
    const CLASS: usize = 170;
    /// The bytes that are read in 4 ms.
    const BYTES: usize = 40_000;
    let mut classes = 0_usize;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character == '\\'
            && let Some('d' | 'D' | 's' | 'S' | 'w' | 'W' | 'c') = characters.next()
        {
            classes += 1;
        }
    }
    let longest = pattern.len().saturating_add(classes * CLASS);
    classes.saturating_mul(longest) / BYTES
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
