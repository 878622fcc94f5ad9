//! From a target to a connection: resolve, check, connect to what was checked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::circuit::Held;
use super::encrypted::Encrypted;
use super::meter::Metered;
use super::{Egress, EgressError, Meter, Rules};
use crate::grant::{HostName, HttpTarget, Scheme};

/// The most addresses that are tried.
const MAX_TRIES: usize = 8;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, counted.
pub(super) type Connection = Metered<Box<dyn Stream>>;

impl Egress {
    /// A connection to the host of a request that was admitted.
    pub(super) async fn connect(
        &self,
        target: &HttpTarget,
        rules: &Rules,
        meter: &Arc<Meter>,
        patience: Duration,
        held: &mut Held,
    ) -> Result<Connection, EgressError> {
        let until = Instant::now() + patience;
        let place = meter.place().await?;
        let found = match target.host() {
            HostName::Address(address) => vec![*address],
            HostName::Name(name) => {
                meter.look_up(name)?;
                let _looking = meter.to_look_up()?;
                tokio::time::timeout_at(until, self.names.resolve(name))
                    .await
                    .unwrap_or(Err(EgressError::NamesTimeout))?
            }
        };
        let mut addresses = rules
            .reachable(target, found)
            .map_err(EgressError::AddressDenied)?;
        addresses.truncate(MAX_TRIES);
        held.wait();
        let attempt = meter.attempt();
        let stream = reach(&addresses, target.port(), until).await?;
        attempt.made();
        let stream: Box<dyn Stream> = match target.scheme() {
            Scheme::Http => Box::new(stream),
            Scheme::Https => {
                meter.greet()?;
                let stream = Encrypted::new(stream, Arc::clone(meter));
                let greeted = self.tls.connect(target.host(), stream);
                let stream = tokio::time::timeout_at(until, greeted).await;
                Box::new(stream.unwrap_or(Err(EgressError::ConnectTimeout))?)
            }
        };
        held.heard();
        Ok(Metered::new(stream, Arc::clone(meter), place))
    }
}

/// Connects to the first address that answers. Each gets its share of the time that is left.
async fn reach(addresses: &[IpAddr], port: u16, until: Instant) -> Result<TcpStream, EgressError> {
    let mut last = EgressError::NoSuchHost;
    for (index, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let connecting = TcpStream::connect(SocketAddr::new(*address, port));
        last = match tokio::time::timeout(left / others.max(1), connecting).await {
            Ok(Ok(stream)) => {
                // Small requests go out at once. Where that cannot be set, they go out later.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                EgressError::Refused
            }
            Ok(Err(error)) => EgressError::Connect(error),
            Err(_) => EgressError::ConnectTimeout,
        };
    }
    Err(last)
}
