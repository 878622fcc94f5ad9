//! Runs *agent skills*, compiled to WebAssembly components, in a sandbox with limits that hold.
//!
//! A [`Host`] loads skills and runs [`ExecutionRequest`]s, each in a fresh instance under its
//! [`Limits`] and with nothing but its [`Grants`](grant::Grants). The answer is an
//! [`ExecutionResult`]: a [`Status`], the output or a typed [`Failure`], and always the
//! [`ResourceUsage`].
//!
//! ```no_run
//! use skillhost::{ExecutionRequest, Host};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::builder().build()?;
//! let skill = host.load("text-stats.wasm").await?;
//! let request = ExecutionRequest::new(skill.digest(), serde_json::json!({"text": "to be"}));
//! let result = host.execute(request).await?;
//! match result.output {
//!     Some(output) => println!("{output}"),
//!     None => println!("{}: {:?}", result.status, result.failure),
//! }
//! println!("{} fuel, {} bytes", result.usage.fuel, result.usage.peak_memory_bytes);
//! # Ok(())
//! # }
//! ```
//!
//! Modules, in the order in which to read them:

#![warn(missing_docs)]
#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        reason = "storage and the queue are whole also where what uses some part of them is left out"
    )
)]

mod exhaustion;
mod file_size;
mod names;
mod placed;
mod private;

pub mod limits;
pub mod usage;

pub mod grant;
pub mod secret;
pub mod skill;

pub mod execution;

mod json;
pub mod text;
mod turns;

pub mod audit;

pub mod breaker;
mod egress;
pub mod policy;
mod storage;

mod sandbox;

pub mod host;

#[cfg(feature = "queue")]
pub mod queue;

#[cfg(feature = "mcp")]
pub mod serve;

#[cfg(feature = "doctor")]
pub mod doctor;

pub use egress::{NameServers, Roots};
pub use execution::{
    Admission, Attachment, Cause, Control, Event, Execute, ExecutionRequest, ExecutionResult,
    Failure, Fault, HostError, Level, Observer, Progress, Resolution, SkillIdentity, Status,
};
pub use host::{Host, HostBuilder, InstallError, InstalledSkills, LoadError, Skill};
pub use limits::{Limit, LimitOverrides, Limits, parse_bytes, parse_duration};
pub use names::UnknownName;
pub use policy::Policy;
pub use sandbox::{
    CompileError, CompileEvent, CompileSettings, Isolation, Misfit, Surface, compile_child,
};
pub use usage::ResourceUsage;

/// What the fuzz targets reach inside for. No part of the interface.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::sandbox::{carry_below, entry_is_taken, open_below};
    #[cfg(feature = "serve")]
    pub use crate::serve::jobs_in;
    #[cfg(feature = "mcp")]
    pub use crate::serve::mcp::call_in;
}

/// So that the examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
