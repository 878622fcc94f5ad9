//! Where a guest's own code lies, and where in it a guest can be made to trap.

use std::ops::Range;
use std::sync::OnceLock;

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use wasmtime::component::Component;
use wasmtime_environ::lookup_trap_code;
use wasmtime_environ::obj::ELF_WASMTIME_TRAPS;

/// How much of the beginning of each function is left out: there it puts its stack in order, and the way back to who called
/// it may for some instructions not be there to be read (`gen_clobber_save` of Cranelift for x86-64, of a function that calls
/// another in its place with more arguments; on AArch64 it always is). Less than 110 bytes; and what a guest can do there
/// is little: all functions that have called each other on a stack of 512 KiB may return through so much code in some milliseconds.
const BEGINNING: u64 = 256;
/// The instruction that traps: `ud2` on x86-64, `udf #0xc11f` on AArch64.
#[cfg(not(target_arch = "aarch64"))]
const TRAP: [u8; 2] = [0x0f, 0x0b];
#[cfg(target_arch = "aarch64")]
const TRAP: [u8; 4] = [0x1f, 0xc1, 0, 0];

/// The code of a component.
pub(in crate::sandbox) struct Code {
    component: Component,
    places: OnceLock<Option<Places>>,
}

/// What is read from it when a guest of it is interrupted for the first time.
struct Places {
    /// The addresses of the guest's functions, without their beginnings, in order.
    functions: Vec<Range<usize>>,
    /// The address of an instruction that traps, and of which the engine knows so.
    trap: usize,
}

impl Code {
    pub fn of(component: &Component) -> Self {
        Code {
            component: component.clone(),
            places: OnceLock::new(),
        }
    }

    /// Where to send a guest that was interrupted at this address and is to be stopped: `None` if it is not in code of its
    /// own, but in the host's, or in what the engine has put between the two, which must come to its end.
    pub fn trap_for(&self, pc: usize) -> Option<usize> {
        // This alone is done where the thread may hold any lock.
        let image = self.component.image_range();
        if !(image.start.addr()..image.end.addr()).contains(&pc) {
            return None;
        }
        let places = self.places.get_or_init(|| Places::of(self.image()));
        let places = places.as_ref()?;
        let at = places
            .functions
            .partition_point(|function| function.end <= pc);
        let function = places.functions.get(at)?;
        function.contains(&pc).then_some(places.trap)
    }

    /// The file that the code was compiled to, as it was loaded.
    fn image(&self) -> &[u8] {
        let image = self.component.image_range();
        let length = image.end.addr() - image.start.addr();
        // SAFETY: the engine says that the image lies there. It is one mapping, and is read only: from when the component is
        // made to when it is dropped, which is not before this. All of it can be read, also where it can be run.
        unsafe { std::slice::from_raw_parts(image.start, length) }
    }
}

impl Places {
    /// `None` if there is no code of the guest's in it.
    fn of(image: &[u8]) -> Option<Self> {
        let file: ElfFile64<'_> = ElfFile64::parse(image).ok()?;
        let text = file.section_by_name(".text")?;
        let code = text.data().ok()?;
        let traps = file.section_by_name(ELF_WASMTIME_TRAPS)?.data().ok()?;
        let mut functions: Vec<Range<usize>> = Vec::new();
        let mut trap = None;
        for symbol in file.symbols() {
            if !symbol.name().is_ok_and(is_function) {
                continue;
            }
            let start = symbol.address().checked_sub(text.address())?;
            let end = usize::try_from(start.checked_add(symbol.size())?).ok()?;
            let start = usize::try_from(start).ok()?;
            let function = code.get(start..end)?;
            if trap.is_none() {
                let mut pairs = function.windows(TRAP.len()).enumerate();
                let found = pairs.find(|(at, pair)| {
                    *pair == TRAP && lookup_trap_code(traps, start + at).is_some()
                });
                trap = found.map(|(at, _)| start + at);
            }
            let start = start + BEGINNING as usize;
            if start < end {
                functions.push(start..end);
            }
        }
        functions.sort_unstable_by_key(|function| function.start);
        let base = code.as_ptr().addr();
        for function in &mut functions {
            *function = base + function.start..base + function.end;
        }
        Some(Places {
            functions,
            trap: base + trap?,
        })
    }
}

/// Whether code of this name is a function of a module: `wasm[0]::function[12]::name`, with a name that the guest has chosen.
/// So are those of modules that the engine makes itself to hand values from one component to another, in which the guest's
/// functions are called, and which trap by themselves as well. Everything else, and with it all that calls the host, has a
/// name that begins otherwise (`compile.rs` of wasmtime).
fn is_function(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((module, rest)) = name
        .strip_prefix("wasm[")
        .and_then(|rest| rest.split_once("]::function["))
    else {
        return false;
    };
    let function = rest.split_once(']').map(|(function, _)| function);
    number(module) && function.is_some_and(number)
}

#[cfg(test)]
mod tests;
