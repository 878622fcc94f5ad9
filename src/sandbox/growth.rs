//! How much code the compiler made of each function.
//!
//! It moves what only computes to where the result is used, and where that is in several places, of which none comes
//! before the others, it makes it several times (`elaborate.rs` of Cranelift). So a function of a few KiB could become a
//! megabyte of code, and do a thousand times the work that its instructions are paid for. What is put into the code keeps
//! it from most of that (`looks/in_place.rs`). Code that is much larger all the same than what it was made of, and than what
//! it moves, is not run.

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSymbol as _};
use wasmparser::{Encoding, Parser, Payload, TypeRef};

use super::compile::{CompileError, invalid};
use crate::limits::display_bytes;

/// How many bytes of code there may be for each of a function, and for each value that it moves without an instruction;
/// and besides. What comes of compilers has 3 to 5, of which much is in looks at the fuel.
const MOST: u64 = 16;
const BESIDES: u64 = 8 << 10;

/// The functions that a module defines, and how many it imports, which come first in its numbering.
#[derive(Default)]
struct Module {
    imported: usize,
    functions: Vec<Function>,
}

struct Function {
    bytes: u64,
    moved: u64,
}

/// Looks at the code that was made of a component, whose functions move so many values (`looks::Looked`).
///
/// # Errors
/// Where that of a function is far larger than the function, or it cannot be read.
pub(super) fn check(component: &[u8], moved: &[u64], code: &[u8]) -> Result<(), CompileError> {
    let modules = modules(component, moved)?;
    let unread = |error: object::Error| invalid(&format!("its code cannot be read: {error}"));
    let code: ElfFile64<'_> = ElfFile64::parse(code).map_err(unread)?;
    for symbol in code.symbols() {
        let name = symbol.name().map_err(unread)?;
        let function = place(name).and_then(|(module, function)| {
            let module = modules.get(module)?;
            module.functions.get(function.checked_sub(module.imported)?)
        });
        // What the engine makes by itself has no other size.
        let Some(Function { bytes, moved }) = function else {
            continue;
        };
        let allowed = bytes.saturating_add(*moved);
        let allowed = allowed.saturating_mul(MOST).saturating_add(BESIDES);
        if symbol.size() > allowed {
            return Err(invalid(&format!(
                "a function of {} becomes {} of code, as what it computes is needed in many places; {} are allowed",
                display_bytes(*bytes),
                display_bytes(symbol.size()),
                display_bytes(allowed)
            )));
        }
    }
    Ok(())
}

/// Of which module, and which function of it, code is: `wasm[0]::function[12]::name`.
fn place(symbol: &str) -> Option<(usize, usize)> {
    let (module, rest) = symbol.strip_prefix("wasm[")?.split_once("]::function[")?;
    let (function, _) = rest.split_once(']')?;
    Some((module.parse().ok()?, function.parse().ok()?))
}

/// The modules of a component, those of components within it as well, in the order in which they begin.
fn modules(component: &[u8], moved: &[u64]) -> Result<Vec<Module>, CompileError> {
    let mut moved = moved.iter().copied();
    let mut modules: Vec<Module> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| invalid(&error))? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => modules.push(Module::default()),
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let ty = import.map_err(|error| invalid(&error))?.ty;
                    if let Some(module) = modules.last_mut()
                        && matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_))
                    {
                        module.imported += 1;
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                if let Some(module) = modules.last_mut() {
                    module.functions.push(Function {
                        bytes: body.range().len() as u64,
                        moved: moved.next().unwrap_or(0),
                    });
                }
            }
            _ => {}
        }
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a component as it is, without what is put in before; and of functions that move so many values each.
    fn checked(functions: &str, moved: &[u64]) -> Result<(), CompileError> {
        let text = format!(
            "(component (core module (memory 1) (global $g (mut i32) (i32.const 1)) {functions}))"
        );
        let component = wat::parse_str(text).unwrap();
        let engine = super::super::engine::compiler().unwrap();
        let code = engine.precompile_component(&component).unwrap();
        check(&component, moved, &code)
    }

    #[test]
    fn what_becomes_far_more_code_is_refused() {
        let function = |uses: usize| {
            format!(
                "(func) (func (param f64) (local f64) local.get 0 {} local.set 1 {})",
                "f64.sqrt ".repeat(1_000),
                "(if (global.get $g) (then (f64.store (i32.const 0) (local.get 1))))".repeat(uses)
            )
        };
        checked(&function(1), &[]).unwrap();
        let error = checked(&function(100), &[]).unwrap_err().to_string();
        assert!(error.contains("needed in many places"), "{error}");
        // What moves is no more of it than it may be, and that of another function does not count.
        assert!(checked(&function(100), &[1 << 20, 10]).is_err());
        checked(&function(100), &[0, 1 << 20]).unwrap();
    }
}
