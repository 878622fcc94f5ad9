//! `wasi:http`: outgoing requests, by way of [`egress`](crate::egress).

mod bounds;
mod errors;
mod scrubbed;

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderName, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks,
};

use super::network::Granted;
use super::{LateRefusals, Refusals};
use crate::egress::{BoxError, EgressError, RequestBody, Times};
use crate::grant::{AddressGrant, HttpTarget, Sought, host_left_alone, sends_secret};
use crate::sandbox::state::State;
use crate::secret::Held;

use scrubbed::{Found, Scrubbed};

/// The most that one write to a request's body hands over, of which two wait to be sent.
const WRITE_BYTES: usize = 16 * 1024;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    bounds::link(linker)
}

/// Where `wasi:http` asks what to do.
pub(super) struct Hooks {
    pub granted: Option<Arc<Granted>>,
    /// The addresses that are granted, also where nothing else is.
    pub addresses: Vec<AddressGrant>,
    pub refusals: LateRefusals,
    /// What was looked for, of the network and of all else.
    pub sought: Sought,
}

/// What drives an answer on, for as long as the guest holds it.
type Driving = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Result<(Response<WasiBody>, Driving), Error>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    /// Egress names the host that it connects to.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Driving,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let uri = request.uri().to_string();
        let target = match HttpTarget::new(request.method().as_str(), &uri) {
            Ok(target) => target,
            Err(error) => return refused(errors::of_target(error)),
        };
        let Some(granted) = self.granted.clone() else {
            let refusals = self.refusals.get();
            if !refusals.is_full() {
                refusals.add(refusals.asker().http_denied(&target, &self.addresses));
            }
            return refused(Error::HttpRequestDenied);
        };
        let answers = self.sought.request();
        let refusals = self.refusals.get().clone();
        let options = options.unwrap_or_default();
        let times = Times {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        };
        Box::new(async move {
            let secrets = granted.rules.secrets().cloned();
            let request = request.map(|sent| match &secrets {
                None => body(sent),
                Some(secrets) => {
                    let refused = Refused {
                        refusals: refusals.clone(),
                        target: target.clone(),
                    };
                    Scrubbed::new(body(sent), Arc::clone(secrets), refused).boxed_unsync()
                }
            });
            let sent = granted
                .egress
                .send(&target, request, &granted.rules, &granted.meter, times)
                .await;
            match sent {
                Ok((answer, driver)) => {
                    answers.heard(&target, answer.status().as_u16());
                    let answer = answer.map(|body| body.map_err(errors::of).boxed_unsync());
                    let answer = match secrets {
                        None => answer,
                        Some(secrets) => without_secrets(answer, secrets),
                    };
                    let driving: Driving = Box::new(async move {
                        driver.await;
                        Ok(())
                    });
                    Ok((answer, driving))
                }
                Err(error) => {
                    if let EgressError::Denied(denial) | EgressError::AddressDenied(denial) = &error
                    {
                        refusals.add((**denial).clone());
                    }
                    if let EgressError::CircuitOpen(wait) = &error {
                        refusals.add(host_left_alone(&target, *wait));
                    }
                    Err(errors::of(error))
                }
            }
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE_BYTES
    }

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::DestinationUnavailable
    }
}

/// An answer as the guest may read it.
fn without_secrets(answer: Response<WasiBody>, secrets: Arc<Held>) -> Response<WasiBody> {
    let (mut head, body) = answer.into_parts();
    scrubbed::headers(&mut head.headers, &secrets);
    if !body.is_end_stream() {
        // A marker is shorter than what it stands for.
        head.headers.remove(CONTENT_LENGTH);
    }
    let body = Scrubbed::new(body, secrets, Marked).boxed_unsync();
    Response::from_parts(head, body)
}

/// An answer goes on with a marker in the place of a value.
struct Marked;

impl Found for Marked {
    type Error = Error;

    fn found(&mut self, _: &str) -> Option<Error> {
        None
    }
}

/// A request ends where a value is in it.
struct Refused {
    refusals: Refusals,
    target: HttpTarget,
}

impl Found for Refused {
    type Error = BoxError;

    fn found(&mut self, name: &str) -> Option<BoxError> {
        self.refusals.add(sends_secret(name, &self.target));
        Some("the value of a secret is in it".into())
    }
}

fn refused(error: Error) -> Box<dyn Future<Output = Answer> + Send> {
    Box::new(std::future::ready(Err(error)))
}

fn body(body: WasiBody) -> RequestBody {
    body.map_err(|error| Box::new(error) as BoxError)
        .boxed_unsync()
}
