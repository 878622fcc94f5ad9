//! Values that are computed where they stand.
//!
//! The compiler moves what only computes to where the result is needed, and where that is in several places, of which
//! none comes before the others, computes it in each (`elaborate.rs` of Cranelift). So a thousand instructions, which are
//! paid for once, may be done in a thousand places; and looks that stand between them are done before them. What the result
//! is stored to is not moved. So a value that takes more than some instructions is stored to a global that nobody reads:
//! on the stack, where it comes of very many; and in a variable, which can be read in several places, where other code may
//! come next. What branches carry from the stack is not seen here (SECURITY.md). It is read again, as the compiler would
//! otherwise leave out a store that another one follows (`alias_analysis.rs`).

use wasmparser::{
    BinaryReaderError, FuncToValidate, FuncValidator, FuncValidatorAllocations, FunctionBody,
    Operator, ValType, ValidatorResources,
};
use wasmtime::OperatorCost;

use super::super::fuel::{COSTS, has};

/// The most of what may be computed again for each time that a variable is read, which costs a unit of fuel: of most
/// instructions 8, in some 3 ns, and of the slowest one.
const IN_A_VARIABLE: u32 = 8;
/// The most that a value on the stack may come of, which is needed in one place only, so that no more than some 100 ns of
/// what stands before a look is done behind it.
const ON_THE_STACK: u32 = 256;

/// How much an instruction computes. Those that take several of the processor's, and those that take it long, count for more.
const COMPUTES: OperatorCost = computes();

macro_rules! by_name {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        const fn computes() -> OperatorCost {
            let mut computes = OperatorCost::new();
            $(
                let name = stringify!($op).as_bytes();
                let many = has(name, b"x2") || has(name, b"x4") || has(name, b"x8") || has(name, b"x16");
                if has(name, b"Const") {
                    computes.$op = 0;
                } else if has(name, b"Div") || has(name, b"Rem") || has(name, b"Sqrt") {
                    computes.$op = if many { 16 } else { 8 };
                } else if many || has(name, b"V128") {
                    computes.$op = 4;
                } else if has(name, b"Trunc")
                    || has(name, b"Convert")
                    || has(name, b"Min")
                    || has(name, b"Max")
                    || has(name, b"Popcnt")
                {
                    computes.$op = 2;
                }
            )*
            computes
        }
    };
}

wasmparser::for_each_operator!(by_name);

/// What is put in at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// What a variable holds is stored.
    Variable(u32),
    /// What lies on the stack is stored, and read again.
    Top,
}

/// A value, as far as it matters here.
#[derive(Debug, Clone, Copy, Default)]
struct Value {
    /// The most that may have to be computed for it, where it is needed.
    weight: u32,
    /// In which stretch of code it was computed, of those that nothing comes between, and as the how manyth; 0 of none.
    stretch: u32,
    number: u32,
    /// How much had been computed in that stretch before all that it comes of.
    since: u64,
}

impl Value {
    fn of(weight: u32) -> Self {
        Value {
            weight,
            ..Value::default()
        }
    }
}

/// What a variable was set to within a block.
struct Set {
    block: u32,
    stretch: u32,
    value: Value,
    /// What it was set to before, which whoever left that block meanwhile has.
    before: Option<usize>,
}

/// What is known of a variable.
#[derive(Debug, Clone, Copy, Default)]
struct Variable {
    /// In which function.
    function: u32,
    last: Option<usize>,
    /// In which stretch it was last set.
    stretch: u32,
}

/// A block that is open.
struct Open {
    number: u32,
    /// How many values lie on the stack below those that come to its beginning.
    height: usize,
    is_loop: bool,
    /// Without an `else`, who does not enter it goes on behind it.
    is_if: bool,
    /// Whether anybody comes to its beginning, and to its end by a branch.
    begins: bool,
    ends: bool,
    /// The most that values may have to be computed of that come to its beginning, and by branches to its end.
    params: u32,
    results: u32,
}

/// Finds the values of one function after the other.
#[derive(Default)]
pub(super) struct InPlace {
    allocations: FuncValidatorAllocations,
    /// How many functions were begun.
    function: u32,
    stack: Vec<Value>,
    variables: Vec<Variable>,
    sets: Vec<Set>,
    open: Vec<Open>,
    /// Of each block whether it has ended.
    ended: Vec<bool>,
    /// Whether anybody comes here.
    live: bool,
    stretch: u32,
    /// Of each value of the stretch whether it was stored.
    stored: Vec<bool>,
    /// Variables that were set in the stretch.
    touched: Vec<u32>,
    /// How much was computed in all.
    computed: u64,
    places: Vec<(usize, Keep, ValType)>,
}

impl InPlace {
    /// What is to be put into a function: before which instruction, as an offset, and for a value of which type.
    ///
    /// # Errors
    /// Where it is not valid.
    pub fn places(
        &mut self,
        function: &FunctionBody<'_>,
        to_validate: FuncToValidate<ValidatorResources>,
    ) -> Result<&[(usize, Keep, ValType)], BinaryReaderError> {
        let mut validator = to_validate.into_validator(std::mem::take(&mut self.allocations));
        validator.read_locals(&mut function.get_binary_reader())?;
        self.begin(validator.len_locals());
        let mut reader = function.get_operators_reader()?;
        while !reader.eof() {
            let at = reader.original_position();
            let operator = reader.read()?;
            let top = self.next(at, &operator, &validator);
            validator.op(at, &operator)?;
            // Where nobody comes, there may be any number of them.
            let height = validator.operand_stack_height() as usize;
            self.stack.resize(height, Value::default());
            if top > ON_THE_STACK
                && let Some(Some(ty)) = validator.get_operand_type(0)
                && !matches!(ty, ValType::Ref(_))
            {
                self.places
                    .push((reader.original_position(), Keep::Top, ty));
                if let Some(top) = self.stack.last_mut() {
                    *top = Value::default();
                }
            }
        }
        self.allocations = validator.into_allocations();
        Ok(&self.places)
    }

    fn begin(&mut self, variables: u32) {
        self.function += 1;
        self.stack.clear();
        if self.variables.len() < variables as usize {
            self.variables
                .resize(variables as usize, Variable::default());
        }
        self.sets.clear();
        self.open.clear();
        self.ended.clear();
        self.places.clear();
        self.live = true;
        self.begin_block(false, false, 0);
        self.begin_stretch();
    }

    /// An instruction. Given back is the weight of what it computes.
    fn next(
        &mut self,
        at: usize,
        operator: &Operator<'_>,
        validator: &FuncValidator<ValidatorResources>,
    ) -> u32 {
        let (takes, gives) = operator.operator_arity(validator).unwrap_or_default();
        match operator {
            Operator::Block { .. } => {
                self.begin_block(false, false, takes);
            }
            Operator::Loop { .. } => {
                self.end_stretch(at, validator);
                self.begin_block(true, false, takes);
            }
            Operator::If { .. } => {
                self.pop();
                self.end_stretch(at, validator);
                self.begin_block(false, true, gives);
            }
            Operator::Else => {
                self.end_stretch(at, validator);
                let heaviest = self.heaviest(takes);
                self.comes_to(0, heaviest);
                let number = self.number();
                if let Some(open) = self.open.last_mut() {
                    // What was set before it is not set here; to be taken as if it might be does no harm.
                    if let Some(ended) = self.ended.get_mut(open.number as usize) {
                        *ended = true;
                    }
                    open.number = number;
                    open.is_if = false;
                    self.live = open.begins;
                    self.stack.truncate(open.height);
                    let params = open.params;
                    self.give(gives, params);
                }
            }
            Operator::End => {
                // Behind the last one there is nothing.
                if self.open.len() > 1 {
                    self.end_stretch(at, validator);
                }
                self.end_block(takes);
            }
            Operator::Br { relative_depth } => {
                self.end_stretch(at, validator);
                let heaviest = self.heaviest(takes);
                self.comes_to(*relative_depth, heaviest);
                self.live = false;
            }
            Operator::BrIf { relative_depth } => {
                self.pop();
                self.end_stretch(at, validator);
                let heaviest = self.heaviest(gives);
                self.comes_to(*relative_depth, heaviest);
            }
            Operator::BrTable { targets } => {
                self.pop();
                self.end_stretch(at, validator);
                // To each of them with the same values, of both of which there may be many.
                let heaviest = self.heaviest(takes.saturating_sub(1));
                for target in targets.targets().flatten().chain([targets.default()]) {
                    self.comes_to(target, heaviest);
                }
                self.live = false;
            }
            Operator::Return
            | Operator::Unreachable
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. } => self.live = false,
            // Nothing comes of what is not come to.
            _ if !self.live => {}
            Operator::LocalGet { local_index } => {
                let value = self.get(*local_index);
                self.stack.push(value);
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop();
                self.set(*local_index, value);
            }
            Operator::LocalTee { local_index } => {
                let value = self.stack.last().copied().unwrap_or_default();
                self.set(*local_index, value);
            }
            // What has an effect stays where it is, and so does what comes of it.
            other if COSTS.cost(other) > 1 => {
                self.take(takes);
                self.give(gives, 0);
            }
            other => {
                let value = self.compute(other, takes);
                let from = self.stack.len();
                self.stack.resize(from + gives as usize, value);
                return if gives == 1 { value.weight } else { 0 };
            }
        }
        0
    }

    /// What an instruction makes of so many values.
    fn compute(&mut self, operator: &Operator<'_>, takes: u32) -> Value {
        let own = u32::try_from(COMPUTES.cost(operator)).unwrap_or(u32::MAX);
        let (mut sum, mut since) = (own, self.computed);
        for _ in 0..takes {
            let value = self.stack.pop().unwrap_or_default();
            let weight = self.weight(&value);
            sum = sum.saturating_add(weight);
            if weight == 0 {
                continue;
            }
            if value.stretch == self.stretch {
                since = since.min(value.since);
            } else {
                self.computed += u64::from(weight);
            }
        }
        self.computed += u64::from(own);
        // What it comes of by several ways is computed once where it is needed.
        let all = u32::try_from(self.computed - since).unwrap_or(u32::MAX);
        let number = u32::try_from(self.stored.len()).unwrap_or(u32::MAX);
        self.stored.push(false);
        Value {
            weight: sum.min(all),
            stretch: self.stretch,
            number,
            since,
        }
    }

    fn weight(&self, value: &Value) -> u32 {
        let here = value.stretch == self.stretch;
        match here && self.stored.get(value.number as usize) == Some(&true) {
            true => 0,
            false => value.weight,
        }
    }

    /// It is computed here, and so for all that comes after.
    fn store(&mut self, value: Value) {
        if value.stretch == self.stretch
            && let Some(stored) = self.stored.get_mut(value.number as usize)
        {
            *stored = true;
        }
    }

    /// What lies on top. Where nobody comes, that may be what belongs to a block around.
    fn pop(&mut self) -> Value {
        let value = if self.live { self.stack.pop() } else { None };
        value.unwrap_or_default()
    }

    fn take(&mut self, count: u32) {
        let left = self.stack.len().saturating_sub(count as usize);
        self.stack.truncate(left);
    }

    fn give(&mut self, count: u32, weight: u32) {
        let from = self.stack.len();
        self.stack.resize(from + count as usize, Value::of(weight));
    }

    /// The most that one of the uppermost values weighs.
    fn heaviest(&self, count: u32) -> u32 {
        let uppermost = self.stack.iter().rev().take(count as usize);
        uppermost.map(|value| self.weight(value)).max().unwrap_or(0)
    }

    fn get(&mut self, variable: u32) -> Value {
        let last = self.last(variable).and_then(|last| self.sets.get(last));
        last.map_or_else(Value::default, |set| set.value)
    }

    /// What a variable was last set to. What it was set to in blocks that have ended it may have been set to or not.
    fn last(&mut self, variable: u32) -> Option<usize> {
        let known = self.variables.get_mut(variable as usize)?;
        if known.function != self.function {
            *known = Variable {
                function: self.function,
                ..Variable::default()
            };
        }
        loop {
            let at = known.last?;
            let set = self.sets.get_mut(at)?;
            if self.ended.get(set.block as usize) != Some(&true) {
                return Some(at);
            }
            let weight = set.value.weight;
            let Some(before) = set.before else {
                // Before that, it was what is not computed.
                set.block = 0;
                set.value = Value::of(weight);
                return Some(at);
            };
            known.last = Some(before);
            let before = self.sets.get_mut(before)?;
            if before.value.weight < weight {
                before.value = Value::of(weight);
            }
        }
    }

    fn set(&mut self, variable: u32, value: Value) {
        let last = self.last(variable);
        let block = self.open.last().map_or(0, |open| open.number);
        match last.and_then(|last| self.sets.get_mut(last)) {
            // Nobody has the one before.
            Some(set) if set.stretch == self.stretch => set.value = value,
            // As it was before.
            None if value.weight == 0 => return,
            _ => {
                let at = self.sets.len();
                self.sets.push(Set {
                    block,
                    stretch: self.stretch,
                    value,
                    before: last,
                });
                if let Some(known) = self.variables.get_mut(variable as usize) {
                    known.last = Some(at);
                }
            }
        }
        if let Some(known) = self.variables.get_mut(variable as usize)
            && known.stretch != self.stretch
        {
            known.stretch = self.stretch;
            self.touched.push(variable);
        }
    }

    /// Other code may come next: what variables hold that takes long is stored before it.
    fn end_stretch(&mut self, at: usize, validator: &FuncValidator<ValidatorResources>) {
        for variable in std::mem::take(&mut self.touched) {
            let Some(set) = self.last(variable) else {
                continue;
            };
            let Some(mut value) = self.sets.get(set).map(|set| set.value) else {
                continue;
            };
            // It stays here where nobody goes on.
            value.weight = if self.live { self.weight(&value) } else { 0 };
            if value.weight > IN_A_VARIABLE
                && let Some(ty) = validator.get_local_type(variable).filter(is_kept)
            {
                self.places.push((at, Keep::Variable(variable), ty));
                self.store(value);
                value.weight = 0;
            }
            if let Some(set) = self.sets.get_mut(set) {
                set.value = value;
            }
        }
        // What was stored is known of as long as the stretch lasts.
        let mut last = self.stack.len();
        while let Some(value) = last
            .checked_sub(1)
            .and_then(|at| self.stack.get(at).copied())
            && value.stretch == self.stretch
        {
            last -= 1;
            let weight = self.weight(&value);
            if let Some(value) = self.stack.get_mut(last) {
                value.weight = weight;
            }
        }
        self.begin_stretch();
    }

    fn begin_stretch(&mut self) {
        self.stretch += 1;
        self.stored.clear();
        self.touched.clear();
    }

    /// The number of a new block.
    fn number(&mut self) -> u32 {
        self.ended.push(false);
        u32::try_from(self.ended.len() - 1).unwrap_or(u32::MAX)
    }

    /// A block begins with so many values.
    fn begin_block(&mut self, is_loop: bool, is_if: bool, params: u32) {
        let number = self.number();
        self.open.push(Open {
            number,
            height: self.stack.len().saturating_sub(params as usize),
            is_loop,
            is_if,
            begins: self.live,
            ends: false,
            params: self.heaviest(params),
            results: 0,
        });
    }

    /// Somebody goes to a label, with values that weigh so much at most.
    fn comes_to(&mut self, depth: u32, heaviest: u32) {
        if !self.live {
            return;
        }
        let label = self.open.len().checked_sub(depth as usize + 1);
        // What comes to the beginning of a loop again is one of several.
        if let Some(label) = label
            .and_then(|at| self.open.get_mut(at))
            .filter(|label| !label.is_loop)
        {
            label.ends = true;
            label.results = label.results.max(heaviest);
        }
    }

    fn end_block(&mut self, results: u32) {
        let falls = if self.live { self.heaviest(results) } else { 0 };
        let Some(open) = self.open.pop() else { return };
        // Where nobody comes to its end, its results do not lie there.
        self.stack.truncate(open.height);
        if let Some(ended) = self.ended.get_mut(open.number as usize) {
            *ended = true;
        }
        let mut most = falls.max(open.results);
        if open.is_if {
            most = most.max(open.params);
        }
        self.live |= open.ends || (open.is_if && open.begins);
        self.give(results, most);
    }
}

/// Whether there may be a global for values of a type.
fn is_kept(ty: &ValType) -> bool {
    match ty {
        ValType::Ref(ty) => *ty == wasmparser::RefType::FUNCREF,
        _ => true,
    }
}

/// A global that nobody reads, for values of a type.
pub(super) fn global(ty: ValType, out: &mut Vec<u8>) {
    const VAR: u8 = 1;
    const END: u8 = 0x0b;
    let (byte, begins): (u8, &[u8]) = match ty {
        ValType::I32 => (0x7f, &[0x41, 0]),
        ValType::I64 => (0x7e, &[0x42, 0]),
        ValType::F32 => (0x7d, &[0x43, 0, 0, 0, 0]),
        ValType::F64 => (0x7c, &[0x44, 0, 0, 0, 0, 0, 0, 0, 0]),
        ValType::V128 => (
            0x7b,
            &[0xfd, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ValType::Ref(_) => (0x70, &[0xd0, 0x70]),
    };
    out.extend_from_slice(&[byte, VAR]);
    out.extend_from_slice(begins);
    out.push(END);
}

#[cfg(test)]
mod tests;
