use super::*;
use crate::sandbox::engine::compiler;

/// A module within a component whose function calls itself and another in its place, computes for long, and reads memory.
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
        (func (export "unreachable") unreachable))
    (core instance $i (instantiate $m (with "" (instance (export "host" (func $lowered))))))
    (func (export "run") (param "n" u32) (result u32) (canon lift (core func $i "long"))))"#;

fn code() -> Code {
    let long = "(i32.load) (i32.rotl (i32.const 7))".repeat(200);
    let engine = compiler().unwrap();
    Code::of(
        &Component::new(
            &engine,
            wat::parse_str(COMPONENT.replace("LONG", &long)).unwrap(),
        )
        .unwrap(),
    )
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
        let beginning = range.start + BEGINNING as usize;
        let of_guest = name.starts_with("wasm[0]::function[");
        for at in range {
            let expected = of_guest && at >= beginning;
            assert_eq!(code.trap_for(at).is_some(), expected, "{name} at {at:#x}");
            functions += usize::from(expected);
            others += usize::from(!of_guest);
        }
    }
    assert!(functions > 400 && others > 100, "{functions} {others}");
    let image = code.component.image_range();
    assert_eq!(code.trap_for(image.start.addr()), None);
    assert_eq!(code.trap_for(image.end.addr()), None);
    assert_eq!(code.trap_for(code_of_the_host as *const () as usize), None);
}

fn code_of_the_host() {}

#[test]
fn it_is_sent_to_where_the_engine_knows_that_it_traps() {
    let code = code();
    let all = all(&code);
    let (_, long) = all
        .iter()
        .find(|(name, _)| name == "wasm[0]::function[1]::]::function[9]")
        .unwrap();
    let trap = code.trap_for(long.end - 1).unwrap();
    let (name, _) = all.iter().find(|(_, range)| range.contains(&trap)).unwrap();
    assert!(name.starts_with("wasm[0]::function["), "{name}");
    let image = code.image();
    let at = trap - image.as_ptr().addr();
    assert_eq!(image[at..at + 2], TRAP);
    let file: ElfFile64<'_> = ElfFile64::parse(image).unwrap();
    let text = file.section_by_name(".text").unwrap().data().unwrap();
    let traps = file.section_by_name(ELF_WASMTIME_TRAPS).unwrap();
    let offset = trap - text.as_ptr().addr();
    assert!(lookup_trap_code(traps.data().unwrap(), offset).is_some());
}

#[test]
fn functions_are_known_by_how_their_names_begin() {
    for name in ["wasm[0]::function[12]", "wasm[31]::function[0]::x]::y"] {
        assert!(is_function(name), "{name}");
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
        assert!(!is_function(name), "{name}");
    }
}

#[test]
fn what_has_no_code_cannot_be_stopped() {
    let engine = compiler().unwrap();
    let code = Code::of(&Component::new(&engine, wat::parse_str("(component)").unwrap()).unwrap());
    let image = code.component.image_range();
    for at in image.start.addr()..image.end.addr() {
        assert_eq!(code.trap_for(at), None);
    }
    assert!(Places::of(b"no code").is_none());
}
