use std::ops::Range;

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use wasmtime_environ::lookup_trap_code;

use super::*;
use crate::sandbox::engine::compiler;

/// A module within a component whose function calls itself and another in its place, computes for long, and reads
/// memory.
const COMPONENT: &str = r#"(component
    (import "host" (func $host))
    (core func $lowered (canon lower (func $host)))
    (core module $m
        (import "" "host" (func $host))
        (memory 1)
        (func $"]::function[9]" (export "long") (param i32) (result i32)
            (call $host) (call $short) (i32.load (i32.div_u (local.get 0) (local.get 0)))
            LONG)
        (func $short)
        (func $few (export "few") (param i32) (result i32)
            (return_call $many (local.get 0) MANY))
        (func $many (param i32 PARAMS) (result i32) (local.get 0))
        (func (export "unreachable") unreachable))
    (core instance $i (instantiate $m (with "" (instance (export "host" (func $lowered))))))
    (func (export "run") (param "n" u32) (result u32) (canon lift (core func $i "long"))))"#;

fn code() -> Code {
    let long = "(i32.load) (i32.rotl (i32.const 7))".repeat(200);
    let engine = compiler().unwrap();
    let text = COMPONENT
        .replace("LONG", &long)
        .replace("MANY", &"(i64.const 7)".repeat(40))
        .replace("PARAMS", &"i64 ".repeat(40));
    Code::of(&Component::new(&engine, wat::parse_str(text).unwrap()).unwrap())
}

/// The names of all code, and where it lies.
fn all(code: &Code) -> Vec<(String, Range<usize>)> {
    let file: ElfFile64<'_> = ElfFile64::parse(code.image()).unwrap();
    let text = file.section_by_name(".text").unwrap();
    let base = text.data().unwrap().as_ptr().addr();
    let symbols = file.symbols().filter(|symbol| symbol.size() > 0);
    let all = symbols.map(|symbol| {
        let start = base + usize::try_from(symbol.address() - text.address()).unwrap();
        let end = start + usize::try_from(symbol.size()).unwrap();
        (symbol.name().unwrap().to_owned(), start..end)
    });
    all.collect()
}

#[test]
fn only_what_the_guest_wrote_can_be_stopped() {
    let code = code();
    let (mut functions, mut others) = (0, 0);
    for (name, range) in all(&code) {
        let of_guest = name.starts_with("wasm[0]::function[");
        // The one that moves its frame.
        let moves = name.starts_with("wasm[0]::function[3]");
        for at in range.clone() {
            let expected = match of_guest {
                true if moves && at - range.start < 160 => continue,
                true => At::Guest,
                false => At::Elsewhere,
            };
            assert_eq!(code.at(at), expected, "{name} at {at:#x}");
            functions += usize::from(of_guest);
            others += usize::from(!of_guest);
        }
    }
    assert!(functions > 1_000 && others > 100, "{functions} {others}");
    let image = code.component.image_range();
    let of_the_host = code_of_the_host as *const () as usize;
    for at in [image.start.addr(), image.end.addr(), 0, of_the_host] {
        assert_eq!(code.at(at), At::Elsewhere, "{at:#x}");
    }
}

/// Where the frame pointer points to what is not there yet.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_function_that_moves_its_frame_is_left_alone_until_it_has() {
    let code = code();
    let all = all(&code);
    let (_, few) = all
        .iter()
        .find(|(name, _)| name.starts_with("wasm[0]::function[3]"))
        .unwrap();
    let text = code.image();
    let at = few.start - text.as_ptr().addr();
    let bytes = &text[at..at + few.len()];
    assert_eq!(bytes[..4], [0x55, 0x48, 0x89, 0xe5]);
    // `mov %rsp,%rbp` again, four more to move two words, and the last of them stores what was loaded.
    let second = bytes[4..]
        .windows(3)
        .position(|bytes| bytes == [0x48, 0x89, 0xe5]);
    let second = 4 + second.expect("its frame is moved");
    assert!(second < 110, "{second}");
    let store = [0x4c, 0x89, 0x5c, 0x24, 0x08];
    let stored = bytes[second..].windows(5).position(|bytes| bytes == store);
    let stored = second + stored.expect("the way back is stored") + store.len();
    for at in 0..bytes.len() {
        if at < stored {
            assert_eq!(code.at(few.start + at), At::Entering, "{at} of {stored}");
        }
    }
    assert!(stored <= settled(bytes) && settled(bytes) < stored + 32);
    assert_eq!(code.at(few.start + settled(bytes)), At::Guest);
}

fn code_of_the_host() {}

#[test]
fn it_is_sent_to_where_the_engine_knows_that_it_traps() {
    let code = code();
    let all = all(&code);
    let trap = code.trap().unwrap();
    let (name, _) = all.iter().find(|(_, range)| range.contains(&trap)).unwrap();
    assert!(name.starts_with("wasm[0]::function["), "{name}");
    let image = code.image();
    let at = trap - image.as_ptr().addr();
    assert!(image[at..].starts_with(&TRAP));
    let file: ElfFile64<'_> = ElfFile64::parse(image).unwrap();
    let text = file.section_by_name(".text").unwrap().data().unwrap();
    let traps = file.section_by_name(ELF_WASMTIME_TRAPS).unwrap();
    let offset = trap - text.as_ptr().addr();
    assert!(lookup_trap_code(traps.data().unwrap(), offset).is_some());
}

#[test]
fn functions_are_known_by_how_their_names_begin() {
    for name in ["wasm[0]::function[12]", "wasm[31]::function[0]::x]::y"] {
        assert!(is_function(name.as_bytes()), "{name}");
    }
    for name in [
        "",
        "wasm[0]::array_to_wasm_trampoline[3]",
        "wasm[0]::array_to_wasm_trampoline[wasm[0]::function[3]]",
        "component-trampolines[0]-array-call-wasm[0]::function[3]",
        "signatures[0]::wasm_to_array_trampoline",
        "wasm[]::function[]",
        "wasm[0]::function[",
        "wasm[x]::function[1]",
        "module_start[0]::Wasm",
    ] {
        assert!(!is_function(name.as_bytes()), "{name}");
    }
}

#[test]
fn what_has_no_code_cannot_be_stopped() {
    let engine = compiler().unwrap();
    let code = Code::of(&Component::new(&engine, wat::parse_str("(component)").unwrap()).unwrap());
    let image = code.component.image_range();
    for at in image.start.addr()..image.end.addr() {
        assert_eq!(code.at(at), At::Elsewhere);
    }
    assert_eq!(code.trap(), None);
    assert_eq!(trap(b"no code"), None);
    assert_eq!(at_within(b"no code", 0), None);
}
