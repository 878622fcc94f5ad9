//! The client's side of `wasi:http`.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::streams::StreamError;

use super::{Hop, HttpError, Response};
use crate::guest::Surroundings;

impl Surroundings {
    /// Sends one request, and waits for the whole answer.
    pub(crate) fn fetch(&self, hop: &Hop) -> Result<Response, HttpError> {
        let request = request(hop)?;
        let body = (!hop.body.is_empty()).then(|| request.body());
        let options = RequestOptions::new();
        if let Some(timeout) = hop.timeout {
            let nanoseconds = Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
            let _ = options.set_connect_timeout(nanoseconds);
            let _ = options.set_first_byte_timeout(nanoseconds);
            let _ = options.set_between_bytes_timeout(nanoseconds);
        }
        let failed = |error| failed(hop, error);
        let sent = handle(request, Some(options)).map_err(failed)?;
        if let Some(Ok(body)) = body {
            // Where the server does not want all of it, its answer says why.
            if write(&body, &hop.body) {
                let _ = OutgoingBody::finish(body, None);
            }
        }
        sent.subscribe().block();
        match sent.get() {
            Some(Ok(answer)) => read(hop, answer.map_err(failed)?),
            _ => Err(failed(ErrorCode::InternalError(None))),
        }
    }
}

fn request(hop: &Hop) -> Result<OutgoingRequest, HttpError> {
    let fields = Fields::new();
    for (name, value) in &hop.headers {
        fields.append(name, value).map_err(|_| HttpError::Request {
            reason: format!("the header `{name}` cannot be sent"),
        })?;
    }
    if !hop.body.is_empty() && !fields.has("content-length") {
        let length = hop.body.len().to_string();
        let _ = fields.set("content-length", &[length.into_bytes()]);
    }
    let request = OutgoingRequest::new(fields);
    let invalid = |()| HttpError::Request {
        reason: "its method or URL is not valid".to_owned(),
    };
    request.set_method(&method(&hop.method)).map_err(invalid)?;
    let scheme = match hop.url.scheme() {
        "http" => Scheme::Http,
        _ => Scheme::Https,
    };
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    let host = hop.url.host_str().unwrap_or_default();
    let authority = match hop.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    request.set_authority(Some(&authority)).map_err(invalid)?;
    let path = match hop.url.query() {
        Some(query) => format!("{}?{query}", hop.url.path()),
        None => hop.url.path().to_owned(),
    };
    request.set_path_with_query(Some(&path)).map_err(invalid)?;
    Ok(request)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

/// Writes a body. Says whether all of it was taken.
fn write(body: &OutgoingBody, mut bytes: &[u8]) -> bool {
    let Ok(stream) = body.write() else {
        return false;
    };
    let ready = stream.subscribe();
    while !bytes.is_empty() {
        ready.block();
        let Ok(allowed) = stream.check_write() else {
            return false;
        };
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        let (piece, rest) = bytes.split_at(allowed.min(bytes.len()));
        if stream.write(piece).is_err() {
            return false;
        }
        bytes = rest;
    }
    true
}

fn read(hop: &Hop, answer: IncomingResponse) -> Result<Response, HttpError> {
    let mut response = Response {
        status: answer.status(),
        headers: answer.headers().entries(),
        ..Response::default()
    };
    let (Ok(body), true) = (answer.consume(), hop.method != "HEAD") else {
        return Ok(response);
    };
    let Ok(stream) = body.stream() else {
        return Ok(response);
    };
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => {
                response.body.extend_from_slice(&piece);
                if response.body.len() as u64 > hop.max_bytes {
                    return Err(HttpError::TooLarge {
                        most: hop.max_bytes,
                    });
                }
            }
            Err(StreamError::Closed) => return Ok(response),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(match wasip2::http::types::http_error_code(&error) {
                    Some(code) => failed(hop, code),
                    None => HttpError::Unreachable {
                        request: format!("{} {}", hop.method, hop.url),
                        reason: error.to_debug_string(),
                    },
                });
            }
        }
    }
}

fn failed(hop: &Hop, error: ErrorCode) -> HttpError {
    let request = format!("{} {}", hop.method, hop.url);
    let unreachable = |reason: &str| HttpError::Unreachable {
        request: request.clone(),
        reason: reason.to_owned(),
    };
    match error {
        ErrorCode::HttpRequestDenied => HttpError::Denied {
            request,
            // The host does not tell the guest which: it may have the value of a secret in it, say.
            reason: "it is not granted, or may not be sent as it is",
        },
        ErrorCode::DestinationIpProhibited => HttpError::Denied {
            request,
            reason: "its host leads to an address that is not granted",
        },
        ErrorCode::DnsError(error) => match error.rcode.as_deref() {
            // Not the URL's fault for certain: a name may be new, or the network's resolver old.
            Some("NXDOMAIN") => unreachable("there is no such host"),
            _ => unreachable("its host could not be looked up"),
        },
        ErrorCode::DnsTimeout => unreachable("looking its host up took too long"),
        ErrorCode::ConnectionRefused => unreachable("the connection was refused"),
        ErrorCode::ConnectionTimeout => unreachable("connecting took too long"),
        ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            unreachable("the answer took too long")
        }
        ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionTerminated
        | ErrorCode::ConnectionWriteTimeout => unreachable("there is no connection"),
        ErrorCode::HttpResponseIncomplete => unreachable("the answer broke off"),
        ErrorCode::TlsCertificateError => HttpError::Invalid {
            request,
            reason: "the server's certificate is not trusted".to_owned(),
        },
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => HttpError::Url {
            url: hop.url.to_string(),
            reason: "the host does not take it".to_owned(),
        },
        other => HttpError::Invalid {
            request,
            reason: in_words(other),
        },
    }
}

/// What came instead of a valid answer.
fn in_words(error: ErrorCode) -> String {
    let words = match error {
        ErrorCode::InternalError(Some(why)) => return why,
        ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => {
            "the TLS handshake failed: does the server speak TLS at this port?"
        }
        ErrorCode::HttpProtocolError | ErrorCode::HttpUpgradeFailed => {
            "what the server said is no valid HTTP"
        }
        ErrorCode::HttpResponseHeaderSectionSize(_) | ErrorCode::HttpResponseHeaderSize(_) => {
            "the head of the answer is too large"
        }
        ErrorCode::HttpResponseBodySize(_) => "the body of the answer is too large",
        ErrorCode::HttpResponseTrailerSectionSize(_) | ErrorCode::HttpResponseTrailerSize(_) => {
            "the trailers of the answer are too large"
        }
        ErrorCode::HttpResponseTransferCoding(_) | ErrorCode::HttpResponseContentCoding(_) => {
            "the answer is in a coding that is not known"
        }
        ErrorCode::ConnectionLimitReached => "there are as many connections as may be",
        ErrorCode::LoopDetected => "the request came back to where it had been",
        ErrorCode::HttpRequestLengthRequired => {
            "the server wants to be told the length of the request"
        }
        ErrorCode::HttpRequestBodySize(_) => {
            "the body of the request has another length than was said, or is too large"
        }
        ErrorCode::HttpRequestMethodInvalid => "the method of the request is not taken",
        ErrorCode::HttpRequestHeaderSectionSize(_) | ErrorCode::HttpRequestHeaderSize(_) => {
            "the head of the request is too large"
        }
        ErrorCode::HttpRequestTrailerSectionSize(_) | ErrorCode::HttpRequestTrailerSize(_) => {
            "the trailers of the request are too large"
        }
        _ => "the host could not carry the request out",
    };
    words.to_owned()
}
