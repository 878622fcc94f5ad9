//! How deep the types of a component stand within each other, and of how many parts they are, found out without
//! following them.
//!
//! Whoever reads such a type, a compiler among them, reads those within it by calling itself: a component of a few
//! kilobytes would use up a thread's stack, which ends the process. And it keeps all its parts at once, each of which
//! takes many times what it is in the file. So both are looked at before anything else reads one.

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentDefinedType, ComponentType, ComponentTypeDeclaration,
    CoreType, InstanceTypeDeclaration, ModuleTypeDeclaration, RecGroup,
};

/// The most types within each other. What wasmparser allows from its version 0.262 on; what `wit` is compiled to has
/// three.
pub(crate) const MAX_NESTING: usize = 100;

/// The most parts that all types of a component may have: declarations, fields, cases, parameters. Each takes up to some
/// 100 bytes where it is read; a skill that is built from `wit` has a few thousand.
pub(crate) const MAX_PARTS: u64 = 200_000;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Fits,
    TooDeep,
    TooMany,
}

/// The bytes before a type among declarations, and before what has declarations.
const TYPE: u8 = 0x01;
const COMPONENT: u8 = 0x41;
const INSTANCE: u8 = 0x42;

/// What is read next.
#[derive(Clone, Copy)]
enum Within {
    Section,
    Component,
    Instance,
}

/// Looks at all types of a section, so many from the beginning of the bytes on: whether they stand within no more others
/// than they may, and have no more parts than are left, of which theirs are taken off.
pub(super) fn look(
    bytes: &[u8],
    offset: usize,
    count: u32,
    left: &mut u64,
) -> Result<Found, BinaryReaderError> {
    let mut reader = BinaryReader::new(bytes, offset);
    // How many are still to come at each level.
    let mut open = vec![(count, Within::Section)];
    while let Some((to_come, within)) = open.last_mut() {
        let Some(rest) = to_come.checked_sub(1) else {
            open.pop();
            continue;
        };
        *to_come = rest;
        let is_type = match within {
            Within::Section => true,
            Within::Component | Within::Instance => next(&reader)? == TYPE,
        };
        let within = *within;
        let parts = match (is_type, within) {
            (true, within) => {
                if !matches!(within, Within::Section) {
                    reader.read_u8()?;
                }
                let inner = match next(&reader)? {
                    COMPONENT => Some(Within::Component),
                    INSTANCE => Some(Within::Instance),
                    _ => None,
                };
                match inner {
                    Some(_) if open.len() > MAX_NESTING => return Ok(Found::TooDeep),
                    Some(inner) => {
                        reader.read_u8()?;
                        open.push((reader.read_var_u32()?, inner));
                        1
                    }
                    None => 1 + of_type(&reader.read()?),
                }
            }
            (false, Within::Instance) => match reader.read()? {
                InstanceTypeDeclaration::CoreType(core) => 1 + of_core(&core),
                _ => 1,
            },
            (false, _) => match reader.read()? {
                ComponentTypeDeclaration::CoreType(core) => 1 + of_core(&core),
                _ => 1,
            },
        };
        match left.checked_sub(parts) {
            Some(rest) => *left = rest,
            None => return Ok(Found::TooMany),
        }
    }
    Ok(Found::Fits)
}

/// The parts of a type that has no other types in it.
fn of_type(one: &ComponentType<'_>) -> u64 {
    let parts = match one {
        ComponentType::Func(function) => function.params.len(),
        ComponentType::Defined(defined) => match defined {
            ComponentDefinedType::Record(fields) => fields.len(),
            ComponentDefinedType::Variant(cases) => cases.len(),
            ComponentDefinedType::Tuple(types) => types.len(),
            ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names) => names.len(),
            _ => 0,
        },
        _ => 0,
    };
    parts as u64
}

/// The parts of a type of the core's.
fn of_core(one: &CoreType<'_>) -> u64 {
    let of_group = |group: &RecGroup| group.types().len() as u64;
    match one {
        CoreType::Rec(group) => of_group(group),
        CoreType::Module(declarations) => declarations
            .iter()
            .map(|declaration| match declaration {
                ModuleTypeDeclaration::Type(group) => 1 + of_group(group),
                _ => 1,
            })
            .sum(),
    }
}

/// The next byte, which is not taken.
fn next(reader: &BinaryReader<'_>) -> Result<u8, BinaryReaderError> {
    reader.clone().read_u8()
}

#[cfg(test)]
mod tests {
    use wasmparser::FromReader as _;

    use super::*;

    fn fits(bytes: &[u8], offset: usize, count: u32) -> Result<bool, BinaryReaderError> {
        let found = look(bytes, offset, count, &mut MAX_PARTS.clone())?;
        assert_ne!(found, Found::TooMany);
        Ok(found == Found::Fits)
    }

    /// A type within so many others.
    fn nested(depth: usize, of: u8) -> Vec<u8> {
        let mut bytes = [of, 1, TYPE].repeat(depth);
        bytes.extend([COMPONENT, 0]);
        bytes
    }

    #[test]
    fn types_stand_within_no_more_others_than_they_may() {
        for of in [COMPONENT, INSTANCE] {
            for (depth, fit) in [(0, true), (99, true), (100, false), (1_000_000, false)] {
                assert_eq!(fits(&nested(depth, of), 0, 1).unwrap(), fit, "{depth}");
            }
        }
        // Beside each other they may be many.
        let beside = nested(98, COMPONENT).repeat(50);
        assert!(fits(&beside, 0, 50).unwrap());
        // Counted from the beginning, and not only in the last.
        let last = [nested(3, INSTANCE), nested(100, COMPONENT)].concat();
        assert!(!fits(&last, 0, 2).unwrap());
    }

    #[test]
    fn types_have_no_more_parts_than_they_may() {
        // A type of an instance with so many types in it; what each is; how many parts one has.
        let declared = |count: u8, what: &[u8]| {
            let mut bytes = vec![INSTANCE, count];
            bytes.extend(what.repeat(count.into()));
            bytes
        };
        for (what, parts) in [
            // A type: `bool`, a record of two fields, a variant of one case, a tuple of three, flags, an enum, a function.
            (&[TYPE, 0x7f][..], 1),
            (&[TYPE, 0x72, 2, 1, b'a', 0x7f, 1, b'b', 0x7f], 3),
            (&[TYPE, 0x71, 1, 1, b'a', 0, 0], 2),
            (&[TYPE, 0x6f, 3, 0x7f, 0x7f, 0x7f], 4),
            (&[TYPE, 0x6e, 1, 1, b'a'], 2),
            (&[TYPE, 0x6d, 2, 1, b'a', 1, b'b'], 3),
            (&[TYPE, 0x40, 1, 1, b'a', 0x7f, 1, 0], 2),
            // A type of the core's: a function, two that know each other, a module with a function and an export.
            (&[0, 0x60, 0, 0], 2),
            (&[0, 0x4e, 2, 0x60, 0, 0, 0x60, 0, 0], 3),
            (&[0, 0x50, 2, 1, 0x60, 0, 0, 3, 1, b'a', 0, 0], 4),
            // An alias of a type outside, and an export.
            (&[2, 3, 2, 1, 0], 1),
            (&[4, 0, 1, b'a', 1, 0], 1),
        ] {
            for of in [INSTANCE, COMPONENT] {
                let mut bytes = declared(10, what);
                bytes[0] = of;
                let needs = 1 + 10 * parts;
                for (mut left, found) in [
                    (needs, Found::Fits),
                    (needs - 1, Found::TooMany),
                    (0, Found::TooMany),
                ] {
                    assert_eq!(look(&bytes, 0, 1, &mut left).unwrap(), found, "{what:x?}");
                    assert!(found != Found::Fits || left == 0);
                }
            }
        }
        // What is in types within types counts as well, and over sections.
        let bytes = [
            vec![INSTANCE, 2, TYPE],
            declared(3, &[TYPE, 0x7f]),
            vec![TYPE],
            declared(4, &[TYPE, 0x7f]),
        ]
        .concat();
        let mut left = 20;
        assert_eq!(look(&bytes, 0, 1, &mut left).unwrap(), Found::Fits);
        assert_eq!(left, 10);
        assert_eq!(look(&bytes, 0, 1, &mut left).unwrap(), Found::Fits);
        assert_eq!(look(&bytes, 0, 1, &mut left).unwrap(), Found::TooMany);
    }

    #[test]
    fn it_reads_as_the_library_reads() {
        let wat = r#"(component
            (type (component
                (core type (module (import "a" "b" (func)) (export "c" (func))))
                (type $r (record (field "x" (list u8))))
                (import "i" (instance (type (func (param "p" string))) (export "f" (func (type 0)))))
                (type (instance (export "s" (type (sub resource)))))
                (export "e" (func (param "a" u32) (result string)))
            ))
            (type (func))
        )"#;
        let bytes = wat::parse_str(wat).unwrap();
        let mut seen = 0;
        for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
            let wasmparser::Payload::ComponentTypeSection(types) = payload.unwrap() else {
                continue;
            };
            let (from, to) = (types.original_position(), types.range().end);
            assert!(fits(&bytes[from..to], from, types.count()).unwrap());
            // What is missing is missed at the same place.
            for end in from..to {
                let cut = &bytes[from..end];
                let mut reader = BinaryReader::new(cut, from);
                let read = (0..types.count())
                    .try_for_each(|_| ComponentType::from_reader(&mut reader).map(drop));
                let (read, found) = (read.unwrap_err(), fits(cut, from, types.count()));
                assert_eq!(read.offset(), found.unwrap_err().offset(), "{end}");
            }
            seen += types.count();
        }
        assert_eq!(seen, 2);
        assert!(fits(&[], 0, 0).unwrap());
    }
}
