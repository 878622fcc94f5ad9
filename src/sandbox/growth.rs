//! How much code the compiler made of each function.
//!
//! It moves what only computes to where the result is used, and where that is in several places, of which none comes
//! before the others, it makes it several times (`elaborate.rs` of Cranelift). So a function of a few KiB could become a
//! megabyte of code, and do a thousand times the work that its instructions are paid for. What is put into the code keeps
//! it from that (`looks/in_place.rs`); should it do so all the same, as compilers learn, code that is much larger than what it
//! was made of is not run.

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSymbol as _};
use wasmparser::{Encoding, Parser, Payload, TypeRef};

use super::compile::{CompileError, invalid};
use crate::limits::display_bytes;

/// How many bytes of code there may be for each of a function, and besides. What comes of compilers has 3 to 5, of which
/// much is in looks at the fuel.
const MOST: u64 = 16;
const BESIDES: u64 = 8 << 10;

/// The bytes of the functions that a module defines, and how many it imports, which come first in its numbering.
#[derive(Default)]
struct Module {
    imported: usize,
    functions: Vec<u64>,
}

/// Looks at the code that was made of a component.
///
/// # Errors
/// Where that of a function is far larger than the function, or it cannot be read.
pub(super) fn check(component: &[u8], code: &[u8]) -> Result<(), CompileError> {
    let modules = modules(component)?;
    let unread = |error: object::Error| invalid(&format!("its code cannot be read: {error}"));
    let code: ElfFile64<'_> = ElfFile64::parse(code).map_err(unread)?;
    for symbol in code.symbols() {
        let name = symbol.name().map_err(unread)?;
        let function = place(name).and_then(|(module, function)| {
            let module = modules.get(module)?;
            module.functions.get(function.checked_sub(module.imported)?)
        });
        // What the engine makes by itself has no other size.
        let Some(bytes) = function else { continue };
        let allowed = bytes.saturating_mul(MOST).saturating_add(BESIDES);
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
fn modules(component: &[u8]) -> Result<Vec<Module>, CompileError> {
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
                    module.functions.push(body.range().len() as u64);
                }
            }
            _ => {}
        }
    }
    Ok(modules)
}
