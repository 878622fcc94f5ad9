//! What moves where ways of a function meet, and what is computed before a loop that was written within it.
//!
//! A value that is another one depending on the way by which it came is in one place behind where the ways meet: so
//! whoever goes there first moves it, and no instruction stands for that. There may be as many as a function has local
//! variables, or as a block has parameters, and so they cost fuel of their own. It is at most a move for each parameter or
//! result, and for each variable that is set within the block or loop whose end or beginning is gone to.
//!
//! And what a loop computes of values from outside of it, the compiler computes once before it, whether the turns of the loop
//! come to it or not (`elaborate.rs` of Cranelift): so whoever enters a loop pays for what it may be.

use wasmparser::{
    BinaryReader, BinaryReaderError, BlockType, CompositeInnerType, FunctionBody,
    FunctionSectionReader, GlobalSectionReader, HeapType, ImportSectionReader, Operator, TypeRef,
    TypeSectionReader,
};

use super::super::fuel::{COSTS, NULL, steps};
use super::{FUNCTION, GLOBAL, IMPORT, TYPE};

/// So many moves cost as much as one unit of fuel. One takes some 0.5 ns, and up to 1 ns where there are too many for a
/// cache; other instructions take up to 40 ns for each unit (`fuel.rs`).
pub(super) const MOVES: u32 = 32;
/// So many computations before a loop cost as much as one unit. The slowest, such as a square root, take some 5 ns.
pub(super) const COMPUTED: u32 = 8;

/// What makes no code, and costs one unit: `i32.const 0`, and `drop`.
const UNIT: [u8; 3] = [0x41, 0x00, 0x1a];
/// What makes none, and costs [`NULL`]: `ref.null func`, and `drop`.
const UNITS: [u8; 3] = [0xd0, 0x70, 0x1a];

/// How many values functions of a module take and give; and what else is known of it.
#[derive(Default)]
pub(super) struct Signatures {
    /// By type.
    types: Vec<Arity>,
    /// The type of each function.
    functions: Vec<u32>,
    /// How many functions are imported, which come first.
    imported: usize,
    /// How many globals there are.
    pub globals: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Arity {
    params: u32,
    results: u32,
}

impl Signatures {
    /// Takes a section into account.
    pub fn read(&mut self, id: u8, section: &[u8]) -> Result<(), BinaryReaderError> {
        let reader = BinaryReader::new(section, 0);
        match id {
            TYPE => {
                for group in TypeSectionReader::new(reader)? {
                    for one in group?.types() {
                        self.types.push(match &one.composite_type.inner {
                            CompositeInnerType::Func(function) => Arity {
                                params: many(function.params().len()),
                                results: many(function.results().len()),
                            },
                            _ => Arity::default(),
                        });
                    }
                }
            }
            IMPORT => {
                for import in ImportSectionReader::new(reader)?.into_imports() {
                    match import?.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                            self.functions.push(ty);
                            self.imported += 1;
                        }
                        TypeRef::Global(_) => self.globals += 1,
                        _ => {}
                    }
                }
            }
            FUNCTION => {
                for ty in FunctionSectionReader::new(reader)? {
                    self.functions.push(ty?);
                }
            }
            GLOBAL => self.globals += GlobalSectionReader::new(reader)?.count(),
            _ => {}
        }
        Ok(())
    }

    /// Of a type; of one that is not there, which the compiler says, nothing.
    fn of_type(&self, ty: u32) -> Arity {
        let ty = self.types.get(ty as usize).copied();
        ty.unwrap_or_default()
    }

    fn of_function(&self, function: u32) -> Arity {
        let ty = self.functions.get(function as usize);
        ty.map_or_else(Arity::default, |ty| self.of_type(*ty))
    }

    fn of_block(&self, ty: BlockType) -> Arity {
        match ty {
            BlockType::Empty => Arity::default(),
            BlockType::Type(_) => Arity {
                params: 0,
                results: 1,
            },
            BlockType::FuncType(ty) => self.of_type(ty),
        }
    }
}

fn many(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What whoever goes to a block's label, or falls out of its end, has to move.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Label {
    /// Where it is branched to.
    to: u32,
    /// Where its end is come to.
    at_end: u32,
}

/// What happens where a block begins.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Begins {
    /// How many values are moved.
    moved: u32,
    /// How much may be computed before it that stands within it.
    pub computed: u32,
}

/// What there is within a block, and those in it.
#[derive(Debug, Clone, Copy, Default)]
struct Within {
    /// How often a variable is set.
    sets: u32,
    /// How many instructions do nothing but compute.
    computes: u32,
}

/// The moves in one function.
pub(super) struct Moves<'m> {
    signatures: &'m Signatures,
    /// How many variables it has.
    locals: u32,
    results: u32,
    /// What there is within each block, in the order in which they begin.
    within: std::vec::IntoIter<Within>,
}

impl<'m> Moves<'m> {
    /// Of the function with this number among those that the module defines.
    pub fn of(
        signatures: &'m Signatures,
        defined: usize,
        function: &FunctionBody<'_>,
    ) -> Result<Self, BinaryReaderError> {
        let arity = signatures.of_function(many(signatures.imported + defined));
        let mut locals = arity.params;
        for group in function.get_locals_reader()? {
            locals = locals.saturating_add(group?.0);
        }
        Ok(Moves {
            signatures,
            locals,
            results: arity.results,
            within: within(function)?.into_iter(),
        })
    }

    /// The next block that begins, and what is moved and computed where it does.
    pub fn begins(&mut self, operator: &Operator<'_>) -> Option<(Label, Begins)> {
        let (ty, is_loop, moves_at_start) = match operator {
            Operator::Loop { blockty } => (*blockty, true, true),
            // Without an `else`, it may be gone to its end at once.
            Operator::If { blockty } => (*blockty, false, true),
            Operator::Block { blockty } | Operator::Try { blockty } => (*blockty, false, false),
            Operator::TryTable { try_table } => (try_table.ty, false, false),
            _ => return None,
        };
        let within = self.within.next().unwrap_or_default();
        let set = within.sets.min(self.locals);
        let Arity { params, results } = self.signatures.of_block(ty);
        let label = match is_loop {
            true => Label {
                to: params + set,
                at_end: results,
            },
            false => Label {
                to: results + set,
                at_end: results + set,
            },
        };
        let begins = Begins {
            moved: if moves_at_start { label.to } else { 0 },
            computed: if is_loop { within.computes } else { 0 },
        };
        Some((label, begins))
    }

    /// What is moved by an instruction, where these labels are around it, the innermost last.
    pub fn moved(
        &self,
        operator: &Operator<'_>,
        begins: Begins,
        around: impl Fn(u32) -> Option<Label>,
    ) -> u32 {
        // The outermost label is the function's own.
        let to = |depth: u32| around(depth).map_or(self.results, |label| label.to);
        let of = |Arity { params, results }: Arity| params + results;
        match operator {
            Operator::Else | Operator::End => around(0).map_or(self.results, |label| label.at_end),
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. } => to(*relative_depth),
            Operator::BrTable { targets } => {
                let all = targets.targets().filter_map(Result::ok);
                all.chain([targets.default()]).map(to).max().unwrap_or(0)
            }
            Operator::Return => self.results,
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                of(self.signatures.of_function(*function_index))
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. }
            | Operator::CallRef { type_index }
            | Operator::ReturnCallRef { type_index } => of(self.signatures.of_type(*type_index)),
            _ => begins.moved,
        }
    }
}

/// Whether an instruction does nothing but compute, so that it may be moved to elsewhere: a variable that is read as well,
/// of which the little is computed that was not kept (`in_place.rs`).
fn computes(operator: &Operator<'_>) -> bool {
    // What has effects, or may fail for what is in memory, costs more, or nothing.
    COSTS.cost(operator) == 1
        && !matches!(
            operator,
            Operator::LocalSet { .. }
                | Operator::LocalTee { .. }
                | Operator::GlobalGet { .. }
                | Operator::GlobalSet { .. }
                | Operator::I32Const { .. }
                | Operator::I64Const { .. }
                | Operator::F32Const { .. }
                | Operator::F64Const { .. }
                | Operator::V128Const { .. }
                | Operator::Br { .. }
                | Operator::BrIf { .. }
                | Operator::BrTable { .. }
        )
}

/// What there is within each block of a function, in the order in which they begin.
fn within(function: &FunctionBody<'_>) -> Result<Vec<Within>, BinaryReaderError> {
    let mut all: Vec<Within> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut reader = function.get_operators_reader()?;
    while !reader.eof() {
        match reader.read()? {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Try { .. }
            | Operator::TryTable { .. } => {
                open.push(all.len());
                all.push(Within::default());
            }
            Operator::LocalSet { .. } | Operator::LocalTee { .. } => {
                if let Some(block) = open.last().and_then(|at| all.get_mut(*at)) {
                    block.sets += 1;
                }
            }
            Operator::End => {
                let within = open.pop().and_then(|at| all.get(at).copied());
                if let (Some(within), Some(around)) = (within, open.last())
                    && let Some(around) = all.get_mut(*around)
                {
                    around.sets += within.sets;
                    around.computes += within.computes;
                }
            }
            operator if computes(&operator) => {
                if let Some(block) = open.last().and_then(|at| all.get_mut(*at)) {
                    block.computes += 1;
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

/// As how many instructions it counts what costs so much fuel.
pub(super) fn steps_of_fuel(fuel: u32) -> u32 {
    let null = steps(&Operator::RefNull {
        hty: HeapType::FUNC,
    });
    match fuel < u32::from(NULL) {
        true => fuel,
        false => fuel.div_ceil(u32::from(NULL)) * null,
    }
}

/// Puts in what costs at least so much fuel, and makes no code.
pub(super) fn put_fuel(fuel: u32, out: &mut Vec<u8>) {
    let null = u32::from(NULL);
    let (what, count) = match fuel < null {
        true => (UNIT, fuel),
        false => (UNITS, fuel.div_ceil(null)),
    };
    (0..count).for_each(|_| out.extend_from_slice(&what));
}
