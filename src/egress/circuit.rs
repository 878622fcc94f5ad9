//! Whether a host that failed is left alone, and what speaks for and against it.

use http::Response;

use super::send::{Driver, Times};
use super::{Egress, EgressError, ResponseBody};
use crate::breaker::{Breaker, Pass};
use crate::grant::HttpTarget;

/// The right to send one request to a host. Comes to nothing where it is dropped.
pub(super) struct Held<'e> {
    breaker: Option<&'e dyn Breaker<str>>,
    host: String,
    pass: Option<Pass>,
    /// Whether the guest set the time itself, which may be too short for any host.
    impatient: bool,
}

impl Egress {
    /// # Errors
    /// Where the host is to be left alone.
    pub(super) fn ask(&self, target: &HttpTarget, times: Times) -> Result<Held<'_>, EgressError> {
        let Some(breaker) = self.breaker.as_deref() else {
            return Ok(Held {
                breaker: None,
                host: String::new(),
                pass: None,
                impatient: false,
            });
        };
        let host = format!("{}:{}", target.host(), target.port());
        let pass = breaker.allow(&host).map_err(EgressError::CircuitOpen)?;
        Ok(Held {
            breaker: Some(breaker),
            host,
            pass: Some(pass),
            impatient: times.connect.is_some() || times.first_byte.is_some(),
        })
    }
}

impl Held<'_> {
    /// Says what came of it.
    pub fn record(mut self, sent: &Result<(Response<ResponseBody>, Driver), EgressError>) {
        let good = match sent {
            // It answers, and says itself that it is not well.
            Ok((answer, _)) => Some(!answer.status().is_server_error()),
            Err(error) => fault(error, self.impatient).then_some(false),
        };
        if let Some(breaker) = self.breaker
            && let Some(good) = good
            && let Some(pass) = self.pass.take()
        {
            match good {
                true => breaker.record_success(&self.host, pass),
                false => breaker.record_failure(&self.host, pass),
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let (Some(breaker), Some(pass)) = (self.breaker, self.pass.take()) {
            breaker.withdraw(&self.host, pass);
        }
    }
}

/// Whether an error is the host's fault: not that of the grants, of the request, of a limit, nor of a
/// name that leads nowhere.
fn fault(error: &EgressError, impatient: bool) -> bool {
    match error {
        EgressError::Refused
        | EgressError::Connect(_)
        | EgressError::Certificate
        | EgressError::Tls
        | EgressError::Incomplete
        | EgressError::Protocol
        | EgressError::HeadTooLarge => true,
        EgressError::ConnectTimeout | EgressError::FirstByteTimeout => !impatient,
        EgressError::Denied(_)
        | EgressError::AddressDenied(_)
        | EgressError::CircuitOpen(_)
        | EgressError::NoSuchHost
        | EgressError::Names
        | EgressError::NamesTimeout
        | EgressError::Limit
        | EgressError::BetweenBytesTimeout
        | EgressError::RequestBody => false,
    }
}
