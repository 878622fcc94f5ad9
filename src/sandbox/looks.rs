//! Looks at the fuel, put into code where compiled code makes none by itself for long.
//!
//! Compiled code looks at its fuel, and so at the clock, where a function begins and where a turn of a loop begins
//! (wasmtime's `func_environ.rs`), and nowhere else. A function can be a megabyte of code without a loop; and where
//! thousands of functions that have called each other return, what each does after its call comes without a look, too.
//! A guest could use far more fuel by that than it has. So before a component is compiled, an empty loop is put into its
//! code wherever more than some instructions could come one after the other without a look, on any way through it. How long
//! instructions take is another matter: `preempt.rs`.

use wasmparser::{BinaryReader, BinaryReaderError, CodeSectionReader, Operator};

use super::fuel::{MOST_STEPS, steps};

/// The most instructions from one look to the next. One that loads from memory counts as many, and one that makes no
/// code as none (`fuel::steps`).
const STRAIGHT: u32 = 2_000;
/// The most after a call: on a stack of 512 KiB some ten thousand functions can return one after the other.
const AFTER_A_CALL: u32 = 64;
/// `loop` without parameters and results, and its `end`.
const LOOK: [u8; 3] = [0x03, 0x40, 0x0b];
/// How deep components may be nested. Those that are made by tools are two or three deep.
const MAX_DEPTH: u32 = 100;

/// A section of code in a module; of modules, and of components, in a component.
const CODE: u8 = 10;
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
}

/// The component with looks in its code.
///
/// # Errors
/// Where it cannot be read, as it is not valid, or nested too deeply.
pub(super) fn put_into(component: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut with_looks = Vec::with_capacity(component.len() + component.len() / 16);
    binary(component, 0, &mut with_looks)?;
    Ok(with_looks)
}

/// A component or a module.
fn binary(bytes: &[u8], depth: u32, out: &mut Vec<u8>) -> Result<(), Unread> {
    if depth > MAX_DEPTH {
        return Err(Unread::TooDeep);
    }
    let mut reader = BinaryReader::new(bytes, 0);
    let header = reader.read_bytes(8)?;
    out.extend_from_slice(header);
    // The last two bytes say which of the two it is.
    let is_component = header[6..] == [1, 0];
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()?;
        let section = reader.read_bytes(length as usize)?;
        let mut changed = Vec::new();
        let section = match (is_component, id) {
            (true, MODULE | COMPONENT) => {
                binary(section, depth + 1, &mut changed)?;
                &changed
            }
            (false, CODE) => {
                code(section, &mut changed)?;
                &changed
            }
            _ => section,
        };
        out.push(id);
        sized(section, out);
    }
    Ok(())
}

/// All functions of a module.
fn code(section: &[u8], out: &mut Vec<u8>) -> Result<(), Unread> {
    let functions = CodeSectionReader::new(BinaryReader::new(section, 0))?;
    leb128(functions.count(), out);
    let mut changed = Vec::new();
    for function in functions {
        let function = function?;
        let start = function.range().start;
        let body = &section[function.range()];
        changed.clear();
        let mut copied = 0;
        for at in places(&function)? {
            changed.extend_from_slice(&body[copied..at - start]);
            changed.extend_from_slice(&LOOK);
            copied = at - start;
        }
        changed.extend_from_slice(&body[copied..]);
        sized(&changed, out);
    }
    Ok(())
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    // What was read has less than 4 GiB, and grows by less than a quarter; should it be more, it is not valid.
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

/// A block that is open.
struct Open {
    /// What comes where it ends, by those that leave it.
    at_end: u32,
    /// What was there where an `if` began, for its `else`.
    at_start: u32,
    /// Whether who branches to it begins it again.
    is_loop: bool,
}

/// Where looks are to be put into a function: behind which instruction, as an offset.
fn places(function: &wasmparser::FunctionBody<'_>) -> Result<Vec<usize>, Unread> {
    let mut reader = function.get_operators_reader()?;
    let mut places = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    // The most instructions that may have come without a look; `None` where nobody comes.
    let mut since = Some(0_u32);
    // Whether blocks may be left by what is not looked at here.
    let mut leads_anywhere = false;
    while !reader.eof() {
        let operator = reader.read()?;
        let now = since.map_or(0, |since| since + steps(&operator));
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
                since = since.map(|_| 0);
                open.push(Open {
                    at_end: 0,
                    at_start: 0,
                    is_loop: true,
                });
            }
            Operator::Block { .. } => open.push(Open {
                at_end: 0,
                at_start: now,
                is_loop: false,
            }),
            Operator::If { .. } => open.push(Open {
                // Where there is no `else`, what is there now is there at its end.
                at_end: now,
                at_start: now,
                is_loop: false,
            }),
            Operator::TryTable { .. } | Operator::Try { .. } => {
                leads_anywhere = true;
                open.push(Open {
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
                        false if leads_anywhere => Some(STRAIGHT),
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
                since = since.map(|since| since.max(STRAIGHT - AFTER_A_CALL));
            }
            // Proposals that no engine of ours takes; should one do so, nothing of theirs goes without a look.
            Operator::Catch { .. }
            | Operator::CatchAll
            | Operator::Delegate { .. }
            | Operator::Rethrow { .. }
            | Operator::Resume { .. }
            | Operator::ResumeThrow { .. } => {
                leads_anywhere = true;
                since = Some(STRAIGHT);
            }
            _ => {}
        }
        // Behind the last `end` there is no place.
        if since.is_some_and(|since| since + MOST_STEPS > STRAIGHT) && !reader.eof() {
            places.push(reader.original_position());
            since = Some(0);
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests;
