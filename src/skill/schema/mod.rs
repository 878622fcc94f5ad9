//! JSON Schemas of strangers, made safe to check with.
//!
//! A schema comes from a skill and is evaluated by the host, outside the sandbox, so it must not be
//! able to make the host work without end. Regular expressions are matched in linear time and are
//! bounded in size, nothing is ever fetched, and the number of times that a value can be visited
//! is bounded: see [`Schema::new`].

mod copies;
mod cost;
mod interrupt;
mod meant;
mod pattern;
mod place;
mod said;
mod unique;

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::text::{printable, said_of, shortened};
use crate::turns::interrupt::{Interrupted, Left, Until, for_at_most, until};
pub(super) use copies::MAX_COPIES;
use cost::Graph;
use interrupt::Look;
use meant::{Wrong, meant};
use pattern::Patterns;
use said::said_of_error;
use unique::Unique;

/// The largest schema, in bytes of its JSON text.
const MAX_BYTES: usize = 256 * 1024;
/// The work that checking any value may make: some 0.1 s of it.
const FREE_WORK: u64 = 5_000_000;
/// The work that each part of a value may make in a value that is larger. Whoever allows larger
/// inputs and outputs allows the work that grows with them.
const WORK_PER_PART: u64 = 100;
/// The most patterns that one schema may have, and all of a skill's: each takes up to [`MAX_PATTERN_BYTES`] of memory. A
/// long one counts as one for each 80 bytes of it, and as eight times that where it ignores case.
pub(super) const MAX_PATTERNS: usize = 200;
/// The deepest nesting of JSON that anything here accepts; serde_json has the same bound.
pub(crate) const MAX_DEPTH: usize = 128;
/// How deep a schema may nest. The library makes what it refers to ready within it, several times over.
const MAX_NESTED: usize = 64;
/// The stack for making a schema ready, and for checking thoroughly, in bytes. Each
/// level, and each visit, takes some 150 bytes to 4 KB.
pub(crate) const STACK: usize = 64 << 20;
/// How deep it may nest to be made ready on any stack.
const FLAT: usize = 16;
/// The visits that fit on any stack.
const FEW_VISITS: u64 = 2_000;
/// The work that is done wherever somebody asks, with what it takes to say where a value does not fit.
const QUICK_WORK: u64 = 50_000;
/// For how long, at most.
const QUICK: Duration = Duration::from_millis(2);
/// The size to which one compiled pattern may grow, in bytes.
const MAX_PATTERN_BYTES: usize = 32 * 1024;
/// The same for one that keys are matched with, which cannot be stopped.
const MAX_KEY_PATTERN_BYTES: usize = 8 * 1024;

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
    /// How many copies of its subschemas there are.
    copies: u64,
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
    #[error("it has {0} patterns, long ones counting as several; {MAX_PATTERNS} are allowed")]
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

impl Mismatch {
    fn of_all(message: impl Into<String>) -> Self {
        Mismatch {
            pointer: String::new(),
            message: message.into(),
            keys: Keys::Fine,
        }
    }

    /// What the library says; of several alternatives by the one that was meant, where that can be told.
    fn of(error: &jsonschema::ValidationError<'_>) -> Self {
        let place = |place: &jsonschema::paths::Location| {
            shortened(&printable(place.as_str(), false), 1_000).into_owned()
        };
        match meant(error) {
            None => Mismatch {
                pointer: place(error.instance_path()),
                message: said_of_error(error),
                keys: Keys::of(error),
            },
            Some(Wrong::Error(error)) => Mismatch {
                pointer: place(error.instance_path()),
                message: said_of_error(error),
                keys: Keys::of(error),
            },
            Some(Wrong::Tag(tag)) => Mismatch {
                pointer: place(tag.place),
                message: tag.to_string(),
                keys: Keys::Fine,
            },
        }
    }
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
    /// where `own` counts what the keywords of `s` itself compare with; a schema that asks for what was not evaluated
    /// adds `M(s, d) = own + Σ (E(in place, d) + M(in place, d)) + E(unevaluated, d − 1)`, as what fits is checked once more
    /// for that. Where that goes past 50,000
    /// the depth is no longer accepted: a value of that depth is refused as too deep. Schemas that
    /// do not refer to themselves accept any depth. And a value is refused as too large where `E`
    /// times its size (values, keys, and 64 bytes of text each) passes 5 million and `E` is over
    /// 100. What it takes to make the schema ready is bounded as well: what asks for what was not evaluated
    /// comes to at most 10,000 copies of subschemas, begun no more than 100 deep within each other; and
    /// it nests no more than 64 levels.
    ///
    /// # Errors
    /// See [`SchemaError`].
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        Self::make(schema, |options, schema| options.build(schema))
    }

    /// Makes a schema ready that [`new`](Schema::new) has taken before.
    ///
    /// That it is what JSON Schema says a schema is, is not looked at again: what says so is itself
    /// a schema, and to make that ready takes 2 ms, as much as half of everything else in a process
    /// that runs one tool. A schema that another refers to is not looked at in that way; the other
    /// is of an earlier draft, whose own schema is small.
    pub(super) fn known(schema: &Value) -> Result<Self, SchemaError> {
        const NAME: &str = "urn:known";
        Self::make(schema, |options, schema| {
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
            &Value,
        )
            -> Result<jsonschema::Validator, jsonschema::ValidationError<'static>>
        + Send,
    ) -> Result<Self, SchemaError> {
        let bytes = schema.to_string().len();
        if bytes > MAX_BYTES {
            return Err(SchemaError::TooLarge(bytes));
        }
        if depth(schema) > MAX_NESTED {
            return Err(SchemaError::TooExpensive);
        }
        let mut graph = Graph::new(schema)?;
        let that_looks = graph.that_looks();
        if let Some(schema) = &that_looks {
            graph = Graph::new(schema)?;
        }
        let nested = depth(that_looks.as_ref().unwrap_or(schema));
        if nested > MAX_NESTED {
            return Err(SchemaError::TooExpensive);
        }
        let visits = graph.visits()?;
        let copies = graph.copies()?;
        let (patterns, alternatives) = (graph.patterns, graph.alternatives);
        let interruptible = graph.with_keyword(interrupt::KEYWORD, &visits)?;
        let made = Patterns::default();
        let make_ready = || {
            let options = jsonschema::options()
                .offline()
                .should_validate_formats(false)
                .with_keyword(interrupt::KEYWORD, |_, work, _| {
                    Ok(Box::new(Look::after(work)))
                })
                .with_keyword("pattern", move |_, pattern, _| {
                    Ok(Box::new(made.get(pattern)?))
                })
                // What a text is said to have in it is a note: to see whether it has takes memory without end.
                .with_keyword("contentMediaType", |_, note, _| {
                    Ok(Box::new(Look::after(note)))
                })
                .with_keyword("contentEncoding", |_, note, _| {
                    Ok(Box::new(Look::after(note)))
                })
                .with_keyword("uniqueItems", |_, wanted, _| {
                    let wanted = wanted.as_bool().unwrap_or(false);
                    Ok(Box::new(Unique { wanted }))
                })
                .with_pattern_options(
                    jsonschema::PatternOptions::regex()
                        .size_limit(MAX_KEY_PATTERN_BYTES)
                        .dfa_size_limit(PATTERN_CACHE_BYTES),
                );
            build(options, &interruptible).map_err(|error| {
                // Of the schema as it was given, if that says what is wrong.
                let said = match jsonschema::meta::validate(schema) {
                    Err(error) => said_of(&error, 300),
                    Ok(()) => said_of(&error, 300),
                };
                SchemaError::Invalid(said)
            })
        };
        let validator = match nested > FLAT {
            true => with_stack(make_ready).unwrap_or(Err(SchemaError::TooExpensive)),
            false => make_ready(),
        }?;
        let accepts_all = match schema {
            Value::Bool(accepts) => *accepts,
            Value::Object(keywords) => keywords.is_empty(),
            _ => false,
        };
        Ok(Schema {
            validator,
            max_depth: visits.max_depth,
            visits: visits.by_depth,
            patterns,
            alternatives,
            copies,
            accepts_all,
        })
    }

    /// How many patterns it has.
    pub(super) fn patterns(&self) -> usize {
        self.patterns
    }

    /// How many copies of its subschemas it keeps.
    pub(super) fn copies(&self) -> u64 {
        self.copies
    }

    /// Checks a value, however long that takes, on a thread of its own where it may take long.
    ///
    /// # Errors
    /// The first place that does not fit; or the whole, where it could take too much to find that place.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        self.check_until(value, &Until::default())
            // It has all the time that it wants.
            .unwrap_or(Ok(()))
    }

    /// The same, no longer than until then where it takes long.
    pub(crate) fn check_until(
        &self,
        value: &Value,
        until: &Until,
    ) -> Result<Result<(), Mismatch>, Interrupted> {
        if let Some(checked) = self.check_quickly(value) {
            return Ok(checked);
        }
        let until = until.here();
        with_stack(|| self.check_thoroughly(value, &until)).unwrap_or_else(|| {
            Ok(Err(Mismatch::of_all(
                "it cannot be checked now: there is no memory or no thread for it",
            )))
        })
    }

    /// Checks a value where that takes no more than a few ms and fits on any stack, or where it is plain that it
    /// cannot be checked at all. `None` where it is for [`check_thoroughly`](Schema::check_thoroughly).
    pub(crate) fn check_quickly(&self, value: &Value) -> Option<Result<(), Mismatch>> {
        if self.accepts_all {
            return Some(Ok(()));
        }
        match self.effort(value) {
            Ok(effort) => {
                if !effort.is_little(self.alternatives) {
                    return None;
                }
                // However much it is, it ends.
                looked(for_at_most(QUICK, || self.look(value, effort))).ok()
            }
            Err(mismatch) => Some(Err(mismatch)),
        }
    }

    /// Checks a value until then, on a stack of [`STACK`] bytes.
    pub(crate) fn check_thoroughly(
        &self,
        value: &Value,
        ends: &Until,
    ) -> Result<Result<(), Mismatch>, Interrupted> {
        match self.effort(value) {
            Ok(effort) => looked(until(ends, || self.look(value, effort))),
            Err(mismatch) => Ok(Err(mismatch)),
        }
    }

    /// What it can take to check a value, where it may be checked.
    fn effort(&self, value: &Value) -> Result<Effort, Mismatch> {
        let Extent { depth, parts } = extent(value);
        if depth > self.max_depth {
            return Err(Mismatch::of_all(format!(
                "it is nested more than {} levels deep, which is as far as this schema can be checked",
                self.max_depth
            )));
        }
        let visits = self.visits[depth.min(self.visits.len() - 1)];
        let effort = Effort { visits, parts };
        if effort.work() > FREE_WORK.max(WORK_PER_PART.saturating_mul(parts)) {
            return Err(Mismatch::of_all(
                "it is too large to be checked against a schema as complicated as this",
            ));
        }
        Ok(effort)
    }

    /// Checks a value of which it is known that it can be.
    fn look(&self, value: &Value, effort: Effort) -> Result<(), Mismatch> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let Effort { visits, parts } = effort;
        if !place::may_be_looked_for(value, visits, parts, self.alternatives) {
            return Err(Mismatch::of_all(
                "somewhere in it none of several alternatives fits, and it is too large to say where",
            ));
        }
        match self.validator.validate(value) {
            Ok(()) => Ok(()),
            Err(error) => Err(Mismatch::of(&error)),
        }
    }
}

/// What a check that was left early says.
fn looked(
    checked: Result<Result<(), Mismatch>, Left>,
) -> Result<Result<(), Mismatch>, Interrupted> {
    match checked {
        Ok(checked) => Ok(checked),
        Err(Left::Interrupted) => Err(Interrupted),
        Err(Left::TooLong) => Ok(Err(Mismatch::of_all(
            "a text in it is too long to be matched with its pattern",
        ))),
    }
}

/// What it can take to check a value.
#[derive(Clone, Copy)]
struct Effort {
    /// What one way into it can make.
    visits: u64,
    /// How many there are.
    parts: u64,
}

impl Effort {
    fn work(self) -> u64 {
        self.visits.saturating_mul(self.parts)
    }

    /// Whether it is done at once, against a schema with so many places that have alternatives.
    fn is_little(self, alternatives: u64) -> bool {
        let work = self.work().saturating_mul(alternatives.saturating_add(1));
        self.visits <= FEW_VISITS && work <= QUICK_WORK
    }
}

/// Does something on a stack that is large enough for it. `None` where there is none to be had.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("skillhost-schema".into())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .ok()?;
        match thread.join() {
            Ok(done) => Some(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// How deep and how large a value is.
struct Extent {
    /// Levels of arrays and objects: 0 for a number or a text.
    depth: usize,
    /// Values, keys, and 64 bytes of text each.
    parts: u64,
}

impl Extent {
    /// Counts a value by itself, at this level; and what is in it, where that is to be counted as well.
    fn enter<'v>(&mut self, value: &'v Value, level: usize) -> Option<Items<'v>> {
        let text = |text: &String| 1 + text.len() as u64 / 64;
        match value {
            Value::Array(items) => {
                self.depth = self.depth.max(level);
                (!items.is_empty()).then(|| Items::Array(items.iter()))
            }
            Value::Object(fields) => {
                self.depth = self.depth.max(level);
                self.parts += fields.keys().map(text).sum::<u64>();
                (!fields.is_empty()).then(|| Items::Object(fields.values()))
            }
            Value::String(string) => {
                self.parts += text(string);
                None
            }
            _ => None,
        }
    }
}

/// What is in a value and was not looked at yet.
enum Items<'v> {
    Array(std::slice::Iter<'v, Value>),
    Object(serde_json::map::Values<'v>),
}

impl<'v> Iterator for Items<'v> {
    type Item = &'v Value;

    fn next(&mut self) -> Option<&'v Value> {
        match self {
            Items::Array(items) => items.next(),
            Items::Object(fields) => fields.next(),
        }
    }
}

fn extent(value: &Value) -> Extent {
    let mut extent = Extent { depth: 0, parts: 1 };
    let Some(mut items) = extent.enter(value, 1) else {
        return extent;
    };
    // What these items are in, so that it takes no more than the value is deep; of a flat one nothing.
    let mut above = Vec::new();
    loop {
        match items.next() {
            Some(part) => {
                extent.parts += 1;
                if let Some(within) = extent.enter(part, above.len() + 2) {
                    above.push(std::mem::replace(&mut items, within));
                }
            }
            None => match above.pop() {
                Some(outer) => items = outer,
                None => return extent,
            },
        }
    }
}

/// How many levels of arrays and objects a value has: 0 for a number or a text.
pub(crate) fn depth(value: &Value) -> usize {
    extent(value).depth
}

#[cfg(test)]
mod tests;
