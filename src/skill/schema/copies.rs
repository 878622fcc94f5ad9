//! What a schema takes that asks for what was not evaluated.
//!
//! To find that out, the library keeps copies of all subschemas that are checked in place, beside each
//! `unevaluatedProperties` and `unevaluatedItems`: one for each way that leads to them, by references as well. A few lines
//! can so come to gigabytes, and references in a row to a stack that overflows. So how many there are is counted as the
//! library makes them, before it does, and given up past a bound. What it keeps of a `not` counts as
//! well.

use super::SchemaError;
use super::cost::Node;

/// The most copies for one schema, and for all of a skill's: each takes some 800 bytes and 2 µs, and what has long
/// keywords counts as more.
pub(in crate::skill) const MAX_COPIES: u64 = 10_000;
/// How many of them may be begun within each other. Each takes up to 4 KB of stack.
const MAX_BEGUN: usize = 100;

/// How many bytes of JSON count as one copy: as a value, they take up to 24 times as many.
const BYTES: u64 = 100;

/// Counts them, for all of these; so many bytes of JSON stand under a `not`, once for each.
pub(super) fn count(nodes: &[Node], negated: u64) -> Result<u64, SchemaError> {
    let copies = negated / BYTES;
    if copies > MAX_COPIES {
        return Err(SchemaError::TooExpensive);
    }
    if nodes.iter().all(|node| node.unevaluated.is_empty()) {
        return Ok(copies);
    }
    let mut count = Count {
        nodes,
        copies,
        begun: 0,
        pending: vec![false; nodes.len()],
    };
    // Each is made ready by itself, once, whatever refers to it.
    for (index, node) in nodes.iter().enumerate() {
        if !node.unevaluated.is_empty() {
            count.evaluated(index)?;
        }
    }
    Ok(count.copies)
}

struct Count<'a> {
    nodes: &'a [Node],
    copies: u64,
    /// How many are begun within each other now.
    begun: usize,
    /// Those of which what they evaluate is being found out: a reference back to one is to the same.
    pending: Vec<bool>,
}

impl Count<'_> {
    fn begin(&mut self, index: usize) -> Result<(), SchemaError> {
        self.copies += 1 + self.nodes[index].bytes / BYTES;
        self.begun += 1;
        match self.copies > MAX_COPIES || self.begun > MAX_BEGUN {
            true => Err(SchemaError::TooExpensive),
            false => Ok(()),
        }
    }

    /// A copy of a subschema with all that is in it. What it refers to is there once for all.
    fn copy(&mut self, index: usize) -> Result<(), SchemaError> {
        self.begin(index)?;
        let node = &self.nodes[index];
        let inner = node.in_place.iter().chain(&node.overlapping);
        for &child in inner.chain(&node.exclusive) {
            if !node.refs.contains(&child) {
                self.copy(child)?;
            }
        }
        if !node.unevaluated.is_empty() {
            self.evaluated(index)?;
        }
        self.begun -= 1;
        Ok(())
    }

    /// What finds out what a subschema evaluates.
    fn evaluated(&mut self, index: usize) -> Result<(), SchemaError> {
        self.begin(index)?;
        let before = std::mem::replace(&mut self.pending[index], true);
        let node = &self.nodes[index];
        for &child in &node.in_place {
            if !node.refs.contains(&child) {
                self.copy(child)?;
                self.evaluated(child)?;
            } else if !self.pending[child] {
                self.evaluated(child)?;
            }
        }
        for &child in node.overlapping.iter().chain(&node.exclusive) {
            if !node.named.contains(&child) {
                self.copy(child)?;
            }
        }
        self.pending[index] = before;
        self.begun -= 1;
        Ok(())
    }
}
