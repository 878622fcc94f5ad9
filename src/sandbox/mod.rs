//! The sandbox: the only code that knows wasmtime.
//!
//! A component is compiled once ([`compile`], [`cache`]), bound to the guest's contract
//! ([`contract`]), and then runs in a fresh store and instance for each execution ([`run`]).

mod artifact;
mod cache;
mod capability;
mod capture;
mod classify;
mod compile;
mod compilers;
mod contract;
mod disk;
mod engine;
mod exhausted;
mod flight;
mod footprint;
mod fuel;
mod interrupt;
mod limiter;
mod load;
mod looks;
mod mappings;
mod measure;
mod nesting;
mod panicked;
mod place;
mod preempt;
mod run;
mod settings;
mod state;
mod wasi;

pub(crate) use cache::Cache;
pub use cache::entry_is_taken;
pub(crate) use capability::{Apart, Around, Backing, ScratchRoot};
pub use capability::{carry_below, open_below};
pub(crate) use compile::check;
pub use compile::{CompileError, CompileSettings, Isolation, Surface, compile_child};
pub use contract::Misfit;
pub(crate) use contract::{Component, misfit};
pub(crate) use disk::Disk;
pub(crate) use engine::{EngineSettings, Engines};
#[cfg(feature = "doctor")]
pub(crate) use engine::{pagemap_scan, pool_fits};
pub(crate) use flight::{Flight, ends_from_now};
pub use load::CompileEvent;
pub(crate) use load::{LoadFault, Loader, OnCompile, Ready};
#[cfg(feature = "doctor")]
pub(crate) use nesting::{MAX_NESTING, MAX_PARTS as MAX_PARTS_OF_TYPES};
pub(crate) use run::{Answer, For, Plan, Runner, input_takes_too_long, over_input, too_late};
