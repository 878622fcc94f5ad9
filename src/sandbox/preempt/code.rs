//! Where a guest's own code lies, and where in it a guest can be made to trap.

use object::Endianness;
use object::elf::{FileHeader64, SHT_SYMTAB};
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _, SymbolTable};
use wasmtime::component::Component;
use wasmtime_environ::obj::ELF_WASMTIME_TRAPS;
use wasmtime_environ::{CompiledTrap, iterate_traps};

use crate::sandbox::interrupt::conduct::Conducts;

/// The instruction that traps: `ud2` on x86-64, `udf #0xc11f` on AArch64.
#[cfg(not(target_arch = "aarch64"))]
const TRAP: [u8; 2] = [0x0f, 0x0b];
#[cfg(target_arch = "aarch64")]
const TRAP: [u8; 4] = [0x1f, 0xc1, 0, 0];

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum At {
    /// It runs code that the guest has written.
    Guest,
    /// It likewise does, and has only begun with a function: it cannot be stopped there, and is soon further.
    Entering,
    /// It runs code of the host's, or what the engine has put between the two, which must come to its end.
    Elsewhere,
}

/// The code of a component.
pub(in crate::sandbox) struct Code {
    component: Component,
    /// The address of an instruction that traps, and of which the engine knows so. There is one in each function that
    /// looks at its fuel.
    trap: Option<usize>,
    /// How its guests have behaved.
    pub conducts: Conducts,
}

impl Code {
    pub fn of(component: &Component) -> Self {
        let mut code = Code {
            component: component.clone(),
            trap: None,
            conducts: Conducts::default(),
        };
        code.trap = trap(code.image());
        code
    }

    /// What a thread does that was interrupted at this address.
    ///
    /// It takes about 1 µs, of however many functions the code is, and allocates nothing.
    pub fn at(&self, pc: usize) -> At {
        let image = self.image();
        match pc.checked_sub(image.as_ptr().addr()) {
            Some(at) if at < image.len() => at_within(image, pc).unwrap_or(At::Elsewhere),
            _ => At::Elsewhere,
        }
    }

    /// Where to send a guest that is to be stopped. There is none if it has no code, and so nothing to stop.
    pub fn trap(&self) -> Option<usize> {
        self.trap
    }

    /// The file that the code was compiled to, as it was loaded.
    fn image(&self) -> &[u8] {
        let image = self.component.image_range();
        let length = image.end.addr() - image.start.addr();
        // SAFETY: the engine says that the image lies there. It is one mapping, and is read only: from when the
        // component is made to when it is dropped, which is not before this. All of it can be read, also where it can
        // be run.
        unsafe { std::slice::from_raw_parts(image.start, length) }
    }
}

/// What is known of an image.
struct Parts<'a> {
    endian: Endianness,
    /// The code, and the address that symbols have of where it begins.
    text: &'a [u8],
    address: u64,
    traps: &'a [u8],
    table: SymbolTable<'a, FileHeader64<Endianness>>,
}

impl<'a> Parts<'a> {
    /// Allocates nothing.
    fn of(image: &'a [u8]) -> Option<Self> {
        let header = FileHeader64::<Endianness>::parse(image).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, image).ok()?;
        let section = |name: &str| {
            let (_, section) = sections.section_by_name(endian, name.as_bytes())?;
            Some((section, section.data(endian, image).ok()?))
        };
        let (text_section, text) = section(".text")?;
        let (_, traps) = section(ELF_WASMTIME_TRAPS)?;
        Some(Parts {
            endian,
            text,
            address: text_section.sh_addr(endian),
            traps,
            table: sections.symbols(endian, image, SHT_SYMTAB).ok()?,
        })
    }
}

/// The first instruction that traps and is one that does nothing else.
fn trap(image: &[u8]) -> Option<usize> {
    let Parts { text, traps, .. } = Parts::of(image)?;
    let at = iterate_traps(traps)?.find_map(|(at, trap)| {
        let at = usize::try_from(at).ok()?;
        let is_one = text.get(at..)?.starts_with(&TRAP);
        // Another is a mistake of the compiler's, for the engine.
        (is_one && matches!(trap, CompiledTrap::Normal(_))).then_some(at)
    })?;
    Some(text.as_ptr().addr() + at)
}

/// The same of an address in this image.
fn at_within(image: &[u8], pc: usize) -> Option<At> {
    let Parts {
        endian,
        text,
        address,
        table,
        ..
    } = Parts::of(image)?;
    let pc = address + pc.checked_sub(text.as_ptr().addr())? as u64;
    // They stand in the order of their addresses. Should they not, none is found, or one that has no such address.
    let symbols = table.symbols();
    let after = symbols.partition_point(|symbol| symbol.st_value(endian) <= pc);
    let symbol = symbols.get(after.checked_sub(1)?)?;
    let name = table.symbol_name(endian, symbol).ok()?;
    let start = symbol.st_value(endian);
    let size = usize::try_from(symbol.st_size(endian)).ok()?;
    let at = usize::try_from(pc - start).ok()?;
    let start = usize::try_from(start.checked_sub(address)?).ok()?;
    let function = text.get(start..start.checked_add(size)?)?;
    Some(if at >= size || !is_function(name) {
        At::Elsewhere
    } else if at < settled(function) {
        At::Entering
    } else {
        At::Guest
    })
}

/// From where in a function on the way back to who called it stands where the engine looks for it: from its first
/// instruction on, but for a function that calls another in its place with more arguments. That moves its own frame
/// first, and sets the frame pointer before what it points to is there (`gen_clobber_save` of Cranelift for x86-64;
/// on AArch64 after that). What comes before it in a function, and itself, is less than 110 bytes.
fn settled(function: &[u8]) -> usize {
    /// `push %rbp`, and `mov %rsp,%rbp`, with which each function begins.
    const BEGINS: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
    /// How far the frame may be moved, and how much comes after the second `mov`.
    const WITHIN: usize = 128;
    const AFTER: usize = 32;
    if cfg!(target_arch = "aarch64") {
        return 0;
    }
    let Some((begins, rest)) = function.split_first_chunk() else {
        return function.len();
    };
    if *begins != BEGINS {
        return WITHIN + AFTER;
    }
    let rest = &rest[..rest.len().min(WITHIN)];
    let mut moves = rest.windows(3).enumerate();
    match moves.rfind(|(_, bytes)| *bytes == &BEGINS[1..]) {
        Some((at, _)) => BEGINS.len() + at + 3 + AFTER,
        None => 0,
    }
}

/// Whether code of this name is a function of a module: `wasm[0]::function[12]::name`, with a name that the guest has
/// chosen. So are those of modules that the engine makes itself to hand values from one component to another, in
/// which the guest's functions are called, and which trap by themselves as well. Everything else, and with it all
/// that calls the host, has a name that begins otherwise (`compile.rs` of wasmtime).
fn is_function(name: &[u8]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What the guest has chosen of it may be cut anywhere.
    let name = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
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
