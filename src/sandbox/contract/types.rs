//! The types of `skillhost:skill/types`, as the host has them. They stand in the place of those that
//! `bindgen!` would make, for the sake of two: [`Text`] and [`Attached`].

use wasmtime::component::{ComponentType, HasData, Lift, Linker, Lower};

use super::answer::{Attached, Text};

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
    pub json: Text,
    pub attachments: Attached,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub struct InvalidInput {
    pub pointer: Text,
    pub message: Text,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub struct Retryable {
    pub message: Text,
    #[component(name = "retry-after-ms")]
    pub retry_after_ms: Option<u64>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub struct Error {
    pub message: Text,
    pub code: Option<Text>,
    pub details: Option<Text>,
}

#[derive(Debug, ComponentType, Lift)]
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
