//! Lists that a guest hands to the host, of no more items than are read in no time.
//!
//! What a call carries is read whole before the host's function begins, and nobody looks at the time meanwhile. In bytes
//! it is bounded ([`Limits::host_bytes`](crate::Limits::host_bytes)); but a list of short texts takes the host some
//! 230 ns for each, however few bytes they have. (A list of handles is bounded by those.)

use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentType, Lift};

/// The most items of one list: they take some 2 ms.
pub(in crate::sandbox) const MOST_ITEMS: usize = 10_000;

/// A list of at most [`MOST_ITEMS`].
#[derive(Debug)]
pub(super) struct Few<T>(pub Vec<T>);

/// A list has more. It counts as more than a call may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a list of {0} items is more than a call may carry")]
pub(in crate::sandbox) struct TooMany(usize);

/// Looks how many there are, before any is read.
fn few(count: usize) -> Result<(), TooMany> {
    match count > MOST_ITEMS {
        true => Err(TooMany(count)),
        false => Ok(()),
    }
}

// SAFETY: everything is that of a list, to which all is handed on: the same type of the component model, with the same
// form in memory and as core values.
unsafe impl<T: ComponentType> ComponentType for Few<T> {
    type Lower = <Vec<T> as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = Vec::<T>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        Vec::<T>::typecheck(ty, types)
    }
}

// SAFETY: as above. Before that only the count is looked at, which is the second of the two numbers that a list is; and
// where it is too large nothing is read.
unsafe impl<T: Lift> Lift for Few<T> {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> wasmtime::Result<Self> {
        few(src[1].get_u32() as usize)?;
        Vec::linear_lift_from_flat(cx, ty, src).map(Few)
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> wasmtime::Result<Self> {
        if let Some(count) = bytes.get(4..).and_then(|rest| rest.first_chunk()) {
            few(u32::from_le_bytes(*count) as usize)?;
        }
        Vec::linear_lift_from_memory(cx, ty, bytes).map(Few)
    }
}
