//! What a tool answers, held to its limits before any of it is taken over into the host's memory.
//!
//! The engine has one bound for all that a call of the guest's takes over ([`Store::set_hostcall_fuel`]), and does
//! not say which part was how large. But the output and the attachments have limits of their own.
//!
//! [`Store::set_hostcall_fuel`]: wasmtime::Store::set_hostcall_fuel

use std::cell::Cell;

use wasmtime::ValRaw;
use wasmtime::component::__internal::wasmtime_environ::component::StringEncoding;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentType, Lift};

use super::types::Attachment;
use crate::limits::{Limit, Limits};
use crate::sandbox::classify::Stop;

/// Room in a call across the border for what is not the text or the bytes themselves: the fixed
/// size of records and lists.
pub(in crate::sandbox) const FRAMING_BYTES: u64 = 64 * 1024;

/// The most attachments of one answer.
const MAX_ATTACHMENTS: usize = 1_000;

/// An answer has so many attachments.
#[derive(Debug, thiserror::Error)]
#[error("the skill answered with {0} attachments; {MAX_ATTACHMENTS} are allowed")]
pub(in crate::sandbox) struct TooManyAttachments(usize);

/// How many times as long as in UTF-8 a text may be as the guest has it, which is what the engine counts.
const IN_UTF16: u64 = 2;

/// What the list of the attachments may take by itself, where they may have so many bytes: as many as are allowed are
/// never too many for it, and one more is told as that.
fn list_bytes(attachments: u64) -> u64 {
    let list = (MAX_ATTACHMENTS + 1) * size_of::<Attachment>();
    let least = FRAMING_BYTES.saturating_add(list as u64);
    attachments.saturating_add(least)
}

/// What an answer may have, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::sandbox) struct Allowed {
    output: u64,
    attachments: u64,
    /// What the engine may take over, whichever part of an answer it is.
    engine: u64,
}

/// What is left of that while it is read.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    allowed: Allowed,
    /// Of the output, in UTF-8.
    output: u64,
    /// What was taken over for the output, as the guest has it.
    taken: usize,
}

thread_local! {
    /// For the answer that is read next on this thread. What reads it is given nothing of the store; but it is
    /// called right after the guest has returned, on the same thread.
    static LEFT: Cell<Left> = const {
        Cell::new(Left {
            allowed: Allowed { output: 0, attachments: 0, engine: 0 },
            output: 0,
            taken: 0,
        })
    };
}

impl Allowed {
    pub fn by(limits: &Limits) -> Self {
        let (output, attachments) = (limits.output_bytes, limits.attachment_bytes);
        let texts = output.saturating_add(attachments).saturating_mul(IN_UTF16);
        Allowed {
            output,
            attachments,
            engine: texts.saturating_add(list_bytes(attachments)),
        }
    }

    /// Holds the next answer that is read on this thread to this.
    pub fn applies(self) {
        LEFT.set(Left {
            allowed: self,
            output: self.output,
            taken: 0,
        });
    }

    /// The same for what a guest says that it is, which is as much as an output, however many texts it has.
    pub fn of_describing(self) -> Self {
        Allowed {
            engine: self.output.saturating_add(FRAMING_BYTES),
            ..self
        }
    }

    /// What the engine may take over, whichever part of an answer it is.
    pub fn engine_bytes(self) -> u64 {
        self.engine
    }
}

/// A text that counts towards the output.
#[derive(Debug)]
pub struct Text(pub String);

/// The attachments of an answer, or why they could not be taken over: the output that comes before them is there
/// then, and what it has counts.
#[derive(Debug)]
pub struct Attached(pub wasmtime::Result<Vec<Attachment>>);

/// Where something of the guest's stands in its memory, and how much of it there is.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    count: usize,
}

impl Place {
    /// What the canonical ABI has for a string or a list, in memory.
    fn in_memory(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk()?;
        let count = rest.first_chunk()?;
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) as usize;
        Some(Place {
            at: number(at),
            count: number(count),
        })
    }

    /// The same as core values.
    fn flat([at, count]: &[ValRaw; 2]) -> Self {
        Place {
            at: at.get_u32() as usize,
            count: count.get_u32() as usize,
        }
    }

    /// So many bytes for each, where they are in memory.
    fn of(self, memory: &[u8], size: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(self.count.checked_mul(size)?)?;
        memory.get(self.at..end)
    }
}

/// How many bytes a text has as the guest has it, and in UTF-8; nothing where it is none, which whoever reads it finds
/// out. Where it has more than `most`, the second number may be smaller than it is, and is above that.
fn measured(cx: &LiftContext<'_>, place: Place, most: u64) -> Option<(usize, u64)> {
    // The canonical ABI's mark for UTF-16 where a text may be Latin-1 as well.
    const UTF16: usize = 1 << 31;
    let memory = cx.memory();
    let utf16 = |place: Place| {
        let bytes = place.of(memory, 2)?;
        if place.count as u64 > most {
            return Some((bytes.len(), place.count as u64));
        }
        let units = bytes
            .chunks_exact(2)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let characters = char::decode_utf16(units);
        let utf8 = characters.map(|character| character.map_or(3, char::len_utf8) as u64);
        Some((bytes.len(), utf8.sum()))
    };
    match cx.options().string_encoding {
        StringEncoding::Utf8 => {
            let bytes = place.of(memory, 1)?;
            Some((bytes.len(), bytes.len() as u64))
        }
        StringEncoding::Utf16 => utf16(place),
        StringEncoding::CompactUtf16 if place.count & UTF16 != 0 => utf16(Place {
            count: place.count ^ UTF16,
            ..place
        }),
        StringEncoding::CompactUtf16 => {
            let bytes = place.of(memory, 1)?;
            let beyond_ascii = match bytes.len() as u64 > most {
                true => 0,
                false => bytes.iter().filter(|byte| !byte.is_ascii()).count(),
            };
            Some((bytes.len(), (bytes.len() + beyond_ascii) as u64))
        }
    }
}

impl Text {
    /// Whether a text that stands there may be taken over.
    fn may(cx: &LiftContext<'_>, place: Place) -> wasmtime::Result<()> {
        let mut left = LEFT.get();
        let Some((taken, bytes)) = measured(cx, place, left.output) else {
            return Ok(());
        };
        let before = left.allowed.output - left.output;
        left.output = left.output.checked_sub(bytes).ok_or(Stop::Limit {
            limit: Limit::Output,
            allowed: left.allowed.output,
            requested: Some(before.saturating_add(bytes)),
        })?;
        left.taken = left.taken.saturating_add(taken);
        LEFT.set(left);
        Ok(())
    }
}

impl Attached {
    /// Whether attachments that stand there may be taken over.
    fn may(cx: &mut LiftContext<'_>, place: Place) -> wasmtime::Result<()> {
        const SIZE: usize = <Attachment as ComponentType>::SIZE32;
        let left = LEFT.get();
        let most = left.allowed.attachments;
        // What the output has not used is not for the attachments.
        let most_taken = left.allowed.output.saturating_mul(IN_UTF16);
        let unused = most_taken.saturating_sub(left.taken as u64);
        cx.consume_fuel(usize::try_from(unused).unwrap_or(usize::MAX))?;
        let framing = place.count.saturating_mul(size_of::<Attachment>());
        let too_large = |requested| Stop::Limit {
            limit: Limit::Attachments,
            allowed: most,
            requested,
        };
        let Some(attachments) = place.of(cx.memory(), SIZE) else {
            return Ok(());
        };
        if framing as u64 > list_bytes(most) {
            // So many are refused without a look at any of them.
            return Err(too_large(None).into());
        }
        let mut bytes = 0_u64;
        // What is no text, whoever reads it finds out; what comes before it is read until then, and so counts.
        'all: for attachment in attachments.chunks_exact(SIZE) {
            let mut parts = attachment.chunks_exact(8).map_while(Place::in_memory);
            let (Some(name), Some(media_type), Some(data)) =
                (parts.next(), parts.next(), parts.next())
            else {
                break;
            };
            for text in [name, media_type] {
                let Some((_, text)) = measured(cx, text, most.saturating_sub(bytes)) else {
                    break 'all;
                };
                bytes = bytes.saturating_add(text);
            }
            bytes = bytes.saturating_add(data.count as u64);
        }
        if bytes > most {
            return Err(too_large(Some(bytes)).into());
        }
        if place.count > MAX_ATTACHMENTS {
            // Each text that is taken over takes some 200 ns, and the clock is not looked at meanwhile.
            return Err(wasmtime::Error::new(TooManyAttachments(place.count)));
        }
        Ok(())
    }
}

// SAFETY: everything is that of a string, to which all is handed on: the same type of the component model, with the
// same form in memory and as core values.
unsafe impl ComponentType for Text {
    type Lower = <String as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = String::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        String::typecheck(ty, types)
    }
}

// SAFETY: as above. Before it is read it is only looked at, within the guest's memory.
unsafe impl Lift for Text {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> wasmtime::Result<Self> {
        Text::may(cx, Place::flat(src))?;
        String::linear_lift_from_flat(cx, ty, src).map(Text)
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> wasmtime::Result<Self> {
        if let Some(place) = Place::in_memory(bytes) {
            Text::may(cx, place)?;
        }
        String::linear_lift_from_memory(cx, ty, bytes).map(Text)
    }
}

type List = Vec<Attachment>;

// SAFETY: everything is that of a list of attachments, to which all is handed on: the same type of the
// component model, with the same form in memory and as core values.
unsafe impl ComponentType for Attached {
    type Lower = <List as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = List::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        List::typecheck(ty, types)
    }
}

// SAFETY: as above. Before it is read it is only looked at, within the guest's memory; that it failed is a value
// here, and nothing of what was read is in it.
unsafe impl Lift for Attached {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> wasmtime::Result<Self> {
        let may = Attached::may(cx, Place::flat(src));
        Ok(Attached(
            may.and_then(|()| List::linear_lift_from_flat(cx, ty, src)),
        ))
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> wasmtime::Result<Self> {
        let may = match Place::in_memory(bytes) {
            Some(place) => Attached::may(cx, place),
            None => Ok(()),
        };
        Ok(Attached(may.and_then(|()| {
            List::linear_lift_from_memory(cx, ty, bytes)
        })))
    }
}
