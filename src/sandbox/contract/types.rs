//! The types of `skillhost:skill/types`, as the host has them. They stand in the place of those that
//! `bindgen!` would make, for the sake of one: [`Attached`].

use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentType, HasData, Lift, Linker, Lower};

/// The interface has no functions; but `bindgen!` asks for what it would have of them.
#[allow(dead_code, reason = "code that `bindgen!` makes names it")]
pub trait Host {}

impl<T: ?Sized> Host for T {}

/// As [`Host`].
#[allow(dead_code, reason = "code that `bindgen!` makes names it")]
pub trait HostWithStore<T>: HasData {}

impl<T, D: ?Sized + HasData> HostWithStore<T> for D {}

/// Has nothing to add but the interface itself.
#[allow(dead_code, reason = "code that `bindgen!` makes names it")]
pub fn add_to_linker<T: 'static, D: HasData>(
    linker: &mut Linker<T>,
    _: fn(&mut T) -> D::Data<'_>,
) -> wasmtime::Result<()> {
    linker.instance("skillhost:skill/types@1.0.0").map(drop)
}

pub type Json = String;

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Attachment {
    pub name: String,
    #[component(name = "media-type")]
    pub media_type: String,
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Annotations {
    #[component(name = "read-only")]
    pub read_only: Option<bool>,
    pub destructive: Option<bool>,
    pub idempotent: Option<bool>,
    #[component(name = "open-world")]
    pub open_world: Option<bool>,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Tool {
    pub name: String,
    pub title: Option<String>,
    pub description: String,
    #[component(name = "input-schema")]
    pub input_schema: Json,
    #[component(name = "output-schema")]
    pub output_schema: Option<Json>,
    pub annotations: Annotations,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub description: String,
    pub tools: Vec<Tool>,
}

#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub struct Context {
    #[component(name = "request-id")]
    pub request_id: String,
    pub attempt: u32,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub struct Output {
    pub json: Json,
    pub attachments: Attached,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct InvalidInput {
    pub pointer: String,
    pub message: String,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Retryable {
    pub message: String,
    #[component(name = "retry-after-ms")]
    pub retry_after_ms: Option<u64>,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Error {
    pub message: String,
    pub code: Option<String>,
    pub details: Option<Json>,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(variant)]
pub enum Failure {
    #[component(name = "unknown-tool")]
    UnknownTool,
    #[component(name = "invalid-input")]
    InvalidInput(InvalidInput),
    #[component(name = "retryable")]
    Retryable(Retryable),
    #[component(name = "error")]
    Error(Error),
}

/// The attachments of an answer, or why they could not be taken over.
///
/// An answer past its limits is not taken over as a whole, and the engine's error does not say which
/// part of it was too large. The JSON comes first; so by the time that attachments are at fault it is
/// there, and what it has counts.
#[derive(Debug)]
pub struct Attached(pub wasmtime::Result<Vec<Attachment>>);

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

// SAFETY: as above. That it failed is a value here, and nothing of what was read is in it.
unsafe impl Lift for Attached {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> wasmtime::Result<Self> {
        Ok(Attached(List::linear_lift_from_flat(cx, ty, src)))
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> wasmtime::Result<Self> {
        Ok(Attached(List::linear_lift_from_memory(cx, ty, bytes)))
    }
}
