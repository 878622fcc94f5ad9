//! What compiled code says of itself.
//!
//! Beside the code stands a description of it: the types of what the component imports and exports, its modules, its
//! functions. The engine reads that into memory, where it stays for as long as the skill is loaded. It writes a type out
//! anew at each place that refers to it, so that types which refer to each other several times become many times what
//! they are in the component: one of a few kilobytes had a description of 800 MB, which took twice that in memory. Nothing
//! in the component shows how much it comes to, so it is looked at once it is compiled.

use object::Endianness;
use object::elf::{FileHeader64, SHT_SYMTAB};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use wasmtime_environ::obj::ELF_WASMTIME_INFO;

use super::compile::{CompileError, invalid};
use crate::limits::{MIB, exact_bytes};

/// How much may be said of any component, in bytes. Of the examples, it is 20 to 60 KB. What takes most memory for what
/// it is here are names of a few letters, of which a byte takes up to 40 in memory.
const BYTES: u64 = MIB;
/// And of each of its functions besides; the engine writes some 10 to 20.
const OF_A_FUNCTION: u64 = 32;
/// And one for so many bytes that the component has, as those may be names.
const OF_BYTES: u64 = 16;

/// Whether compiled code says no more of itself than it may, by how large the component is.
pub(super) fn check(code: &[u8], component: usize) -> Result<(), CompileError> {
    let (described, functions) = read(code).map_err(|error| invalid(&error))?;
    let allowed = (component as u64 / OF_BYTES)
        .saturating_add(functions.saturating_mul(OF_A_FUNCTION))
        .saturating_add(BYTES);
    if described <= allowed {
        return Ok(());
    }
    Err(CompileError::TooLarge {
        what: "types, imports and exports whose description, with each type written out wherever it is referred to, is",
        found: exact_bytes(described),
        allowed: exact_bytes(allowed),
    })
}

/// The size of the description in bytes, and the number of functions.
fn read(code: &[u8]) -> object::read::Result<(u64, u64)> {
    let header = FileHeader64::<Endianness>::parse(code)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, code)?;
    let described = sections
        .section_by_name(endian, ELF_WASMTIME_INFO.as_bytes())
        .map_or(0, |(_, section)| section.sh_size(endian));
    let functions = sections
        .symbols(endian, code, SHT_SYMTAB)
        .map_or(0, |symbols| symbols.len() as u64);
    Ok((described, functions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::compile::in_process;
    use crate::sandbox::engine;

    fn compiled(wat: &str) -> Result<Vec<u8>, CompileError> {
        let component = wat::parse_str(wat).unwrap();
        in_process(&engine::compiler().unwrap(), &component)
    }

    /// An import whose type is so many within each other, each ten of the one before it.
    fn tenfold(depth: usize, name: usize) -> String {
        let name = "a".repeat(name);
        let mut types =
            format!("(type $t0 (instance (type bool) (export \"a-{name}\" (type (eq 0)))))\n");
        for at in 1..=depth {
            let before = at - 1;
            let exports: String = (0..10)
                .map(|number| format!("(export \"a{number}\" (instance (type 0)))"))
                .collect();
            types.push_str(&format!(
                "(type $t{at} (instance (alias outer 1 $t{before} (type)) {exports}))\n"
            ));
        }
        format!("(component {types} (import \"a:b/c\" (instance (type $t{depth}))))")
    }

    #[test]
    fn types_that_come_to_much_are_refused() {
        let of = |depth, name| compiled(&tenfold(depth, name)).map(drop);
        assert!(of(2, 1).is_ok());
        assert!(of(2, 1_000).is_ok(), "100 names of 1,000 bytes");
        let error = of(4, 1_000).unwrap_err();
        assert!(
            matches!(error, CompileError::TooLarge { .. }),
            "10,000 names of 1,000 bytes: {error}"
        );
        assert!(of(4, 1).is_ok());
        assert!(of(5, 1).is_err(), "100,000 short names");
    }

    #[test]
    fn it_is_found_in_what_the_engine_makes() {
        let code = compiled("(component (core module (func) (func) (func)))").unwrap();
        let (described, functions) = read(&code).unwrap();
        assert!((50..10_000).contains(&described), "{described}");
        assert!((3..20).contains(&functions), "{functions}");
        assert!(read(b"garbage").is_err());
        assert!(check(b"garbage", 7).is_err());
    }
}
