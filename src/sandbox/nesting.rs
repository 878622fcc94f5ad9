//! How deep the types of a component stand within each other, found out without following them.
//!
//! Whoever reads such a type, a compiler among them, reads those within it by calling itself: a component of a few
//! kilobytes would use up a thread's stack, which ends the process. So this is looked at before anything else reads one.

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentType, ComponentTypeDeclaration,
    InstanceTypeDeclaration,
};

/// The most types within each other. What wasmparser allows from its version 0.262 on; what `wit` is compiled to has
/// three.
pub(crate) const MAX_NESTING: usize = 100;

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

/// Whether all types of a section, so many from the beginning of the bytes on, stand within no more others than they may.
pub(super) fn fits(bytes: &[u8], offset: usize, count: u32) -> Result<bool, BinaryReaderError> {
    let mut reader = BinaryReader::new(bytes, offset);
    // How many are still to come at each level.
    let mut open = vec![(count, Within::Section)];
    while let Some((left, within)) = open.last_mut() {
        let Some(rest) = left.checked_sub(1) else {
            open.pop();
            continue;
        };
        *left = rest;
        let is_type = match within {
            Within::Section => true,
            Within::Component | Within::Instance => next(&reader)? == TYPE,
        };
        match (is_type, within) {
            (true, Within::Section) => {}
            (true, _) => {
                reader.read_u8()?;
            }
            (false, Within::Instance) => {
                reader.read::<InstanceTypeDeclaration<'_>>()?;
                continue;
            }
            (false, _) => {
                reader.read::<ComponentTypeDeclaration<'_>>()?;
                continue;
            }
        }
        let inner = match next(&reader)? {
            COMPONENT => Within::Component,
            INSTANCE => Within::Instance,
            _ => {
                reader.read::<ComponentType<'_>>()?;
                continue;
            }
        };
        if open.len() > MAX_NESTING {
            return Ok(false);
        }
        reader.read_u8()?;
        open.push((reader.read_var_u32()?, inner));
    }
    Ok(true)
}

/// The next byte, which is not taken.
fn next(reader: &BinaryReader<'_>) -> Result<u8, BinaryReaderError> {
    reader.clone().read_u8()
}

#[cfg(test)]
mod tests {
    use wasmparser::FromReader as _;

    use super::*;

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
