//! Doors: for programs that speak HTTP, and for agents that speak MCP. Each is thin code on the rest of
//! the library, and can be put into a tokio program of your own.
//!
//! Modules, in the order in which to read them:

mod caller;

pub mod mcp;

pub use caller::{Caller, Scope, Scopes, Tenancy, UnknownScope};
