//! Looks at the fuel, put into code where compiled code makes none by itself for long.
//!
//! Compiled code looks at its fuel, and so at the clock, where a function begins and where a turn of a loop begins
//! (wasmtime's `func_environ.rs`), and nowhere else. A function can be a megabyte of code without a loop; and where
//! thousands of functions that have called each other return, what each does after its call comes without a look, too.
//! A guest kept its thread for seconds by that. So before a component is compiled, an empty loop is put into its code
//! wherever more than some instructions could come one after the other without a look, on any way through it. What is
//! done without an instruction, as it may be where ways meet, is paid for by others that do nothing (`moves.rs`). And what
//! the compiler would compute elsewhere, and more than once, is kept where it stands (`in_place.rs`).

mod in_place;
mod moves;

use std::borrow::Cow;

use in_place::{InPlace, Keep};
use moves::{COMPUTED, Label, MOVES, Moves, Signatures, put_fuel, steps_of_fuel};
use wasmparser::{
    BinaryReader, BinaryReaderError, CodeSectionReader, FuncToValidate, FunctionBody, Operator,
    Parser, ValType, ValidPayload, Validator, ValidatorResources,
};

use super::fuel::{MOST_STEPS, steps};
use super::settings::FEATURES;

/// The most instructions from one look to the next. One that loads from memory counts as many, and one that makes no
/// code as none (`fuel::steps`).
const STRAIGHT: u32 = 2_000;
/// The most after a call: on a stack of 512 KiB some ten thousand functions can return one after the other.
const AFTER_A_CALL: u32 = 64;
/// `loop` without parameters and results, and its `end`.
const LOOK: [u8; 3] = [0x03, 0x40, 0x0b];
/// How many bytes may be put in for each that is there, and besides. Code that compilers make takes a tenth of the code's
/// own for functions of some hundred variables.
const MOST_MORE: usize = 4;
const MORE: usize = 1 << 20;
/// How deep components may be nested. Those that are made by tools are two or three deep.
const MAX_DEPTH: u32 = 100;

/// Sections of a module; and of modules, and of components, in a component.
const TYPE: u8 = 1;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const TABLE: u8 = 4;
const MEMORY: u8 = 5;
const GLOBAL: u8 = 6;
const CODE: u8 = 10;
const TAG: u8 = 13;
const MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// Why code could not be looked through.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It is not valid. Whoever compiles it says so.
    #[error(transparent)]
    Invalid(#[from] BinaryReaderError),
    /// Its components are nested too deeply.
    #[error("its components are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// There would be far more code than there is.
    #[error(
        "its functions have too many local variables, or values at once, for as many branches as they have: split the \
         largest ones, or build it with optimization"
    )]
    TooMuch,
}

/// A component with looks in its code.
#[derive(Debug)]
pub(super) struct Looked {
    pub component: Vec<u8>,
    /// How many values each of its functions moves without an instruction, in the order in which they stand: once for each
    /// place.
    pub moved: Vec<u64>,
}

/// Puts looks into the code of a component.
///
/// # Errors
/// Where it cannot be read, as it is not valid, or nested too deeply, and where too much would have to be put in.
pub(super) fn put_into(component: &[u8]) -> Result<Looked, Unread> {
    let mut with_looks = Vec::with_capacity(component.len() + component.len() / 16);
    let mut looks = Looks {
        functions: functions(component)?.into_iter(),
        in_place: InPlace::default(),
        left: component.len().saturating_mul(MOST_MORE) + MORE,
        moved: Vec::new(),
    };
    looks.binary(component, 0, &mut with_looks)?;
    Ok(Looked {
        component: with_looks,
        moved: looks.moved,
    })
}

/// What is known of the functions of all modules, in the order in which they stand.
fn functions(
    component: &[u8],
) -> Result<Vec<FuncToValidate<ValidatorResources>>, BinaryReaderError> {
    let mut validator = Validator::new_with_features(FEATURES);
    let mut functions = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        if let ValidPayload::Func(function, _) = validator.payload(&payload?)? {
            functions.push(function);
        }
    }
    Ok(functions)
}

/// What looks are put in with.
struct Looks {
    functions: std::vec::IntoIter<FuncToValidate<ValidatorResources>>,
    in_place: InPlace,
    /// How many bytes may still be put in.
    left: usize,
    moved: Vec<u64>,
}

impl Looks {
    /// A component or a module.
    fn binary(&mut self, bytes: &[u8], depth: u32, out: &mut Vec<u8>) -> Result<(), Unread> {
        if depth > MAX_DEPTH {
            return Err(Unread::TooDeep);
        }
        let mut reader = BinaryReader::new(bytes, 0);
        let header = reader.read_bytes(8)?;
        out.extend_from_slice(header);
        // The last two bytes say which of the two it is.
        let is_component = header[6..] == [1, 0];
        let mut signatures = Signatures::default();
        let mut globals = Globals::default();
        let mut sections: Vec<(u8, Cow<'_, [u8]>)> = Vec::new();
        while !reader.eof() {
            let id = reader.read_u8()?;
            let length = reader.read_var_u32()?;
            let section = reader.read_bytes(length as usize)?;
            let section = match (is_component, id) {
                (true, MODULE | COMPONENT) => {
                    let mut changed = Vec::new();
                    self.binary(section, depth + 1, &mut changed)?;
                    Cow::Owned(changed)
                }
                (false, CODE) => {
                    let mut changed = Vec::new();
                    globals.first = signatures.globals;
                    self.code(section, &signatures, &mut globals, &mut changed)?;
                    Cow::Owned(changed)
                }
                (false, other) => {
                    signatures.read(other, section)?;
                    Cow::Borrowed(section)
                }
                _ => Cow::Borrowed(section),
            };
            sections.push((id, section));
        }
        globals.put_into(&mut sections)?;
        for (id, section) in sections {
            out.push(id);
            sized(&section, out);
        }
        Ok(())
    }

    /// All functions of a module.
    fn code(
        &mut self,
        section: &[u8],
        signatures: &Signatures,
        globals: &mut Globals,
        out: &mut Vec<u8>,
    ) -> Result<(), Unread> {
        let functions = CodeSectionReader::new(BinaryReader::new(section, 0))?;
        leb128(functions.count(), out);
        for (number, function) in functions.into_iter().enumerate() {
            let function = function?;
            let mut body = Cow::Borrowed(&section[function.range()]);
            if let Some(known) = self.functions.next() {
                let places = self.in_place.places(&function, known)?;
                if !places.is_empty() {
                    let start = function.range().start;
                    let places = places.iter().map(|(at, keep, ty)| {
                        let global = globals.of(*ty);
                        (at - start, Put::Keep(*keep, global))
                    });
                    body = Cow::Owned(with(&body, places, &mut self.left)?);
                }
            }
            let function = FunctionBody::new(BinaryReader::new(&body, 0));
            let moves = Moves::of(signatures, number, &function)?;
            let (places, moved) = places(&function, moves)?;
            self.moved.push(moved);
            sized(&with(&body, places, &mut self.left)?, out);
        }
        Ok(())
    }
}

/// The code of a function with what is put into it.
fn with(
    body: &[u8],
    places: impl IntoIterator<Item = (usize, Put)>,
    left: &mut usize,
) -> Result<Vec<u8>, Unread> {
    let mut changed = Vec::with_capacity(body.len() + body.len() / 16);
    let mut copied = 0;
    for (at, put) in places {
        changed.extend_from_slice(&body[copied..at]);
        put.write(&mut changed);
        copied = at;
        if changed.len() - copied > *left {
            return Err(Unread::TooMuch);
        }
    }
    *left -= changed.len() - copied;
    changed.extend_from_slice(&body[copied..]);
    Ok(changed)
}

/// The globals that values are kept in: of each type one, behind those of the module.
#[derive(Default)]
struct Globals {
    first: u32,
    types: Vec<ValType>,
}

impl Globals {
    fn of(&mut self, ty: ValType) -> u32 {
        let known = self.types.iter().position(|known| *known == ty);
        let at = known.unwrap_or_else(|| {
            self.types.push(ty);
            self.types.len() - 1
        });
        // There are as many as there are types.
        self.first + at as u32
    }

    /// Puts them into the sections of their module.
    fn put_into(&self, sections: &mut Vec<(u8, Cow<'_, [u8]>)>) -> Result<(), BinaryReaderError> {
        if self.types.is_empty() {
            return Ok(());
        }
        let there = sections.iter().position(|(id, _)| *id == GLOBAL);
        let (count, before) = match there.and_then(|at| sections.get(at)) {
            Some((_, section)) => {
                let mut reader = BinaryReader::new(section, 0);
                let count = reader.read_var_u32()?;
                (count, &section[reader.original_position()..])
            }
            None => (0, &[][..]),
        };
        let mut section = Vec::new();
        leb128(count + self.types.len() as u32, &mut section);
        section.extend_from_slice(before);
        for ty in &self.types {
            in_place::global(*ty, &mut section);
        }
        match there.and_then(|at| sections.get_mut(at)) {
            Some((_, there)) => *there = Cow::Owned(section),
            None => {
                // Behind all that come before such a section.
                let before = |id: u8| [TYPE, IMPORT, FUNCTION, TABLE, MEMORY, TAG].contains(&id);
                let last = sections.iter().rposition(|(id, _)| before(*id));
                sections.insert(last.map_or(0, |at| at + 1), (GLOBAL, Cow::Owned(section)));
            }
        }
        Ok(())
    }
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    // What was read has less than 4 GiB; should it be more with what was put in, it is not valid.
    leb128(u32::try_from(bytes.len()).unwrap_or(u32::MAX), out);
    out.extend_from_slice(bytes);
}

fn leb128(mut number: u32, out: &mut Vec<u8>) {
    loop {
        // Seven bits.
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// What is put before an instruction.
enum Put {
    Look,
    /// What costs so much fuel, and does nothing.
    Fuel(u32),
    /// What keeps a value, in this global.
    Keep(Keep, u32),
}

impl Put {
    fn write(&self, out: &mut Vec<u8>) {
        const LOCAL_GET: u8 = 0x20;
        const GLOBAL_GET: u8 = 0x23;
        const GLOBAL_SET: u8 = 0x24;
        const DROP: u8 = 0x1a;
        match self {
            Put::Look => out.extend_from_slice(&LOOK),
            Put::Fuel(fuel) => put_fuel(*fuel, out),
            Put::Keep(keep, global) => {
                if let Keep::Variable(variable) = keep {
                    out.push(LOCAL_GET);
                    leb128(*variable, out);
                }
                for access in [GLOBAL_SET, GLOBAL_GET] {
                    out.push(access);
                    leb128(*global, out);
                }
                if let Keep::Variable(_) = keep {
                    out.push(DROP);
                }
            }
        }
    }
}

/// What has come since the last look.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    /// Instructions.
    steps: u32,
    /// Moves that are not paid for yet, as they are too few.
    owed: u32,
}

impl Since {
    /// The most of what may have come.
    const MOST: Since = Since {
        steps: STRAIGHT,
        owed: MOVES - 1,
    };

    /// Where two ways meet.
    fn max(self, other: Since) -> Self {
        Since {
            steps: self.steps.max(other.steps),
            owed: self.owed.max(other.owed),
        }
    }
}

/// A block that is open.
struct Open {
    /// What is moved by whoever goes to it.
    label: Label,
    /// What comes where it ends, by those that leave it.
    at_end: Since,
    /// What was there where an `if` began, for its `else`.
    at_start: Since,
    /// Whether who branches to it begins it again.
    is_loop: bool,
}

/// What is to be put into a function: before which instruction, as an offset. And how many values it moves.
fn places(
    function: &FunctionBody<'_>,
    mut moves: Moves<'_>,
) -> Result<(Vec<(usize, Put)>, u64), Unread> {
    let mut all_moved = 0;
    let mut reader = function.get_operators_reader()?;
    let mut places = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    // The most that may have come; `None` where nobody comes.
    let mut since = Some(Since::default());
    // Whether blocks may be left by what is not looked at here.
    let mut leads_anywhere = false;
    while !reader.eof() {
        let at = reader.original_position();
        let operator = reader.read()?;
        let (label, begins) = moves.begins(&operator).unwrap_or_default();
        if let Some(before) = since {
            let around = |depth: u32| {
                let at = open.len().checked_sub(depth as usize + 1)?;
                open.get(at).map(|open| open.label)
            };
            let moved = moves.moved(&operator, begins, around);
            all_moved += u64::from(moved);
            let moved = before.owed + moved;
            let fuel = moved / MOVES + begins.computed / COMPUTED;
            let more = steps_of_fuel(fuel);
            let mut steps = before.steps;
            if fuel > 0 {
                if steps + more + MOST_STEPS > STRAIGHT {
                    places.push((at, Put::Look));
                    steps = 0;
                }
                places.push((at, Put::Fuel(fuel)));
            }
            since = Some(Since {
                steps: steps + more,
                owed: moved % MOVES,
            });
        }
        let now = since.map_or_else(Since::default, |since| Since {
            steps: since.steps + steps(&operator),
            ..since
        });
        since = since.map(|_| now);
        let leaves = |open: &mut Vec<Open>, depth: u32| {
            let depth = depth as usize + 1;
            if let Some(left) = open
                .len()
                .checked_sub(depth)
                .and_then(|at| open.get_mut(at))
                && !left.is_loop
            {
                left.at_end = left.at_end.max(now);
            }
        };
        match &operator {
            Operator::Loop { .. } => {
                // Whoever comes here again owes less than a unit.
                since = since.map(|since| Since { steps: 0, ..since });
                open.push(Open {
                    label,
                    at_end: Since::default(),
                    at_start: Since::default(),
                    is_loop: true,
                });
            }
            Operator::Block { .. } => open.push(Open {
                label,
                at_end: Since::default(),
                at_start: now,
                is_loop: false,
            }),
            Operator::If { .. } => open.push(Open {
                label,
                // Where there is no `else`, what is there now is there at its end.
                at_end: now,
                at_start: now,
                is_loop: false,
            }),
            Operator::TryTable { .. } | Operator::Try { .. } => {
                leads_anywhere = true;
                open.push(Open {
                    label,
                    at_end: now,
                    at_start: now,
                    is_loop: false,
                });
            }
            Operator::Else => {
                if let Some(branch) = open.last_mut() {
                    branch.at_end = branch.at_end.max(now);
                    since = Some(branch.at_start);
                }
            }
            Operator::End => {
                if let Some(ended) = open.pop() {
                    since = match ended.is_loop {
                        true => since,
                        false if leads_anywhere => Some(Since::MOST),
                        false => Some(now.max(ended.at_end)),
                    };
                }
            }
            Operator::Br { relative_depth } => {
                leaves(&mut open, *relative_depth);
                since = None;
            }
            Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. } => leaves(&mut open, *relative_depth),
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    leaves(&mut open, target?);
                }
                leaves(&mut open, targets.default());
                since = None;
            }
            Operator::Return
            | Operator::Unreachable
            | Operator::Throw { .. }
            | Operator::ThrowRef
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. } => since = None,
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. } => {
                since = since.map(|since| Since {
                    steps: since.steps.max(STRAIGHT - AFTER_A_CALL),
                    ..since
                });
            }
            // Proposals that no engine of ours takes; should one do so, nothing of theirs goes without a look.
            Operator::Catch { .. }
            | Operator::CatchAll
            | Operator::Delegate { .. }
            | Operator::Rethrow { .. }
            | Operator::Resume { .. }
            | Operator::ResumeThrow { .. } => {
                leads_anywhere = true;
                since = Some(Since::MOST);
            }
            _ => {}
        }
        // Behind the last `end` there is no place.
        if let Some(long) = since.filter(|since| since.steps + MOST_STEPS > STRAIGHT)
            && !reader.eof()
        {
            places.push((reader.original_position(), Put::Look));
            since = Some(Since { steps: 0, ..long });
        }
    }
    Ok((places, all_moved))
}

#[cfg(test)]
mod tests;
