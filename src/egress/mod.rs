//! Outgoing connections. Nothing else in the host opens one, but for the raw sockets that a skill was granted, which
//! wasmtime-wasi connects once `sandbox::capability::sockets` has checked the address.
//!
//! A request is checked against the grants, its host is resolved, *every* address is checked, and
//! the connection goes to an address that was: a name is not looked up a second time. One request
//! has one connection, over which nothing else is sent. Proxies named in the environment are
//! ignored, for they would connect to wherever they like.

mod body;
mod circuit;
mod connect;
#[cfg(feature = "postgres")]
mod database;
mod encrypted;
#[cfg(feature = "queue")]
mod exchange;
mod files;
mod meter;
mod reading;
mod resolve;
mod rules;
mod send;
mod tls;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use body::{BoxError, RequestBody, ResponseBody};
#[cfg(feature = "postgres")]
pub(crate) use database::{DatabaseTrust, database_tls};
#[cfg(feature = "queue")]
pub(crate) use exchange::{Answer, Bounds};
pub(crate) use meter::{Meter, Traffic};
pub use resolve::NameServers;
pub(crate) use rules::{Rules, Told};
pub(crate) use send::Times;
pub use tls::Roots;

use crate::breaker::{Asked, Breaker};
use crate::execution::HostError;
use crate::grant::Denial;
use crate::limits::Limits;

/// Opens outgoing connections.
pub(crate) struct Egress {
    names: resolve::Names,
    tls: tls::Tls,
    breaker: Option<Arc<dyn Breaker<Asked>>>,
    files: Arc<files::Files>,
}

impl Egress {
    /// Requests go to a host only where the breaker, if there is one, allows it.
    ///
    /// # Errors
    /// Where a certificate that was to be added is none.
    pub fn new(
        names: NameServers,
        roots: Roots,
        certificates: &[Vec<u8>],
        breaker: Option<Arc<dyn Breaker<Asked>>>,
    ) -> Result<Arc<Self>, HostError> {
        Ok(Arc::new(Egress {
            names: resolve::Names::new(names),
            tls: tls::Tls::new(roots, certificates)?,
            breaker,
            files: files::Files::of_this_process(),
        }))
    }

    /// What meters an execution under these limits.
    pub fn meter(&self, limits: &Limits) -> Arc<Meter> {
        Meter::within(limits, Arc::clone(&self.files))
    }
}

/// A request that got no answer, or an answer that broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("no grant allows it")]
    Denied(Box<Denial>),
    #[error("its host leads to no address that is granted")]
    AddressDenied(Box<Denial>),
    #[error("its host failed too often lately")]
    CircuitOpen(Duration),
    #[error("there is no such host")]
    NoSuchHost,
    #[error("its host could not be looked up")]
    Names,
    #[error("looking its host up took too long")]
    NamesTimeout,
    #[error("the connection was refused")]
    Refused,
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("connecting took too long")]
    ConnectTimeout,
    #[error("the server's certificate is not trusted")]
    Certificate,
    #[error("TLS failed")]
    Tls,
    #[error("a limit was met")]
    Limit,
    /// All executions together have as many connections as they may.
    #[error("this host has as many connections open as it may")]
    Busy,
    #[error("the answer's head is too large")]
    HeadTooLarge,
    #[error("no answer came in time")]
    FirstByteTimeout,
    #[error("the answer's next bytes did not come in time")]
    BetweenBytesTimeout,
    #[error("the answer broke off")]
    Incomplete,
    #[error("the request's body broke off")]
    RequestBody,
    #[error("the answer is not HTTP")]
    Protocol,
}

impl EgressError {
    /// What a failure of HTTP itself was.
    fn of(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            EgressError::HeadTooLarge
        } else if error.is_incomplete_message() || error.is_closed() {
            EgressError::Incomplete
        } else if error.is_user() {
            EgressError::RequestBody
        } else if error.is_parse() {
            EgressError::Protocol
        } else {
            EgressError::Incomplete
        }
    }
}
