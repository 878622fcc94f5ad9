//! Doors: for programs that speak HTTP, and for agents that speak MCP. Each is thin code on the rest of
//! the library, and can be put into a tokio program of your own.
//!
//! Modules, in the order in which to read them:

mod caller;
#[cfg(feature = "serve")]
mod token;

#[cfg(feature = "serve")]
mod http;
pub mod mcp;

pub use caller::{Caller, Scope, Scopes, Tenancy, UnknownScope};
#[cfg(feature = "serve")]
#[doc(hidden)]
pub use http::jobs_in;
#[cfg(feature = "serve")]
pub use http::{
    NoTraceParent, PROBLEM_JSON, Peer, Problem, ProblemKind, Router, Server, Service,
    ServiceBuilder, Settings, Stopped, TraceParent, document, guarded, mcp_route, router,
};
#[cfg(feature = "serve")]
pub use token::{NewToken, Token, TokenError, TokenInfo, Tokens, Unauthorized};
