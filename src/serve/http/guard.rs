//! What every request passes: is it for this server, who asks, how often, and in which trace.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, HeaderValue, ORIGIN, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument as _;

use super::extract::Asks;
use super::idempotency;
use super::problem::{Problem, ProblemKind};
use super::settings::Settings;
use super::state::Service;
use super::trace::{TRACEPARENT, Trace, TraceParent};
use crate::serve::caller::Caller;
use crate::serve::token::Unauthorized;

/// Where a request comes from. Whoever serves the router puts it into the request's extensions;
/// [`Server`](super::Server) does. Without it all requests share one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What is answered to everybody.
const OPEN: &[&str] = &["/healthz", "/readyz", "/openapi.json"];

/// Looks at a request before anything else does.
pub(super) async fn guard(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let asked = Trace::of(&parts.headers);
    let trace = asked.parent;
    let origin = match origin(&parts, &service.inner.settings) {
        Ok(origin) => origin,
        Err(problem) => return traced(problem.into_response(), trace),
    };
    let is_preflight = parts.method == Method::OPTIONS
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let answered = match (&origin, is_preflight) {
        (Some(_), true) => Ok(preflight(&parts.headers)),
        _ => match ask(&service, &parts, asked).await {
            Ok(asks) => {
                let whose = asks.as_ref().map(|asks| asks.caller.tenancy.clone());
                let has_key = parts.headers.contains_key(idempotency::HEADER);
                let is_safe = parts.method.is_safe() || has_key;
                if let Some(asks) = asks {
                    parts.extensions.insert(asks.caller.clone());
                    parts.extensions.insert(asks);
                }
                let answer = run(Request::from_parts(parts, body), next, trace).await;
                Ok(match whose {
                    Some(whose) => service.inner.sent.counted(&whose, answer, is_safe).await,
                    None => answer,
                })
            }
            Err(problem) => Err(problem),
        },
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let exposed = "Location, Retry-After, Idempotency-Replayed, Traceparent, WWW-Authenticate, \
                       Mcp-Session-Id, Mcp-Protocol-Version";
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(exposed),
        );
    }
    traced(response, trace)
}

async fn run(request: Request, next: Next, trace: TraceParent) -> Response {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return next.run(request).await;
    }
    // Of the URI the path alone: what stands behind the `?` may be anything.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::debug_span!("request", trace = trace.trace_id(), %method, path);
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let took = started.elapsed();
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), ?took, "answered"));
    response
}

fn traced(mut response: Response, trace: TraceParent) -> Response {
    if let Ok(value) = HeaderValue::try_from(trace.to_string()) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    response
}

/// Whether the request is meant for this server, and the page that it comes from, where it comes from
/// one that may ask.
fn origin(request: &Parts, settings: &Settings) -> Result<Option<HeaderValue>, Problem> {
    let foreign = |detail: &'static str| Err(Problem::new(ProblemKind::ForeignOrigin, detail));
    let headers = &request.headers;
    let Some(host) = host(&request.uri, headers) else {
        return foreign("the request names no host, or several");
    };
    if !is_ours(host, settings) {
        return foreign("the header `Host` has a name that this server does not go by");
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(None);
    };
    let text = origin.to_str().unwrap_or_default();
    let own = text.split_once("://").is_some_and(|(_, own)| own == host);
    if origins.next().is_none() && (own || settings.origins.contains(text)) {
        return Ok(Some(origin.clone()));
    }
    foreign("pages of this origin may not ask here")
}

fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let mut named = headers.get_all(HOST).iter();
    let first = named.next();
    if named.next().is_some() {
        return None;
    }
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => first?.to_str().ok(),
    }
}

/// Whether this is `localhost`, an address, or one of the names that were set. A name that somebody
/// else owns could lead here from a page of theirs; an address cannot.
fn is_ours(host: &str, settings: &Settings) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => {
                return address.parse::<std::net::Ipv6Addr>().is_ok();
            }
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || settings
            .hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The answer to a page that asks what it may send.
fn preflight(asked: &HeaderMap) -> Response {
    let methods = "GET, POST, PUT, PATCH, DELETE";
    let mut allowed = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, \
                       Tracestate, Mcp-Method, Mcp-Name, Mcp-Session-Id, Mcp-Protocol-Version"
        .to_owned();
    // A tool of MCP may name parameters of its own that are sent as headers, too.
    let asked = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked.and_then(|asked| asked.to_str().ok());
    for name in asked.unwrap_or_default().split(',').map(str::trim) {
        if name.to_ascii_lowercase().starts_with("mcp-param-") {
            allowed += ", ";
            allowed += name;
        }
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(methods),
    );
    // It is made of what can stand in a header.
    if let Ok(allowed) = HeaderValue::try_from(allowed) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Who asks, and whether that may be answered now. `None`: what is answered to everybody.
async fn ask(service: &Service, request: &Parts, trace: Trace) -> Result<Option<Asks>, Problem> {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let peer = request
        .extensions
        .get::<Peer>()
        .map_or(nowhere, |peer| peer.0.ip());
    if OPEN.contains(&request.uri.path()) {
        slower(service.inner.rates.peer(peer))?;
        return Ok(None);
    }
    let caller = match caller(service, &request.headers).await {
        Ok(caller) => caller,
        Err(refused) => {
            match refused {
                // No fault of whoever asks.
                Unauthorized::Unavailable(_) => slower(service.inner.rates.peer(peer))?,
                // Nobody tries out tokens at speed.
                _ => service.inner.rates.guess(peer).map_err(guessed)?,
            }
            return Err(refused.into());
        }
    };
    slower(match &caller.token {
        Some(token) => service.inner.rates.token(token),
        None => service.inner.rates.peer(peer),
    })?;
    Ok(Some(Asks { caller, trace }))
}

async fn caller(service: &Service, headers: &HeaderMap) -> Result<Caller, Unauthorized> {
    let tokens = &service.inner.tokens;
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = shown.next() else {
        return operator(service).await;
    };
    let text = first.to_str().map_err(|_| Unauthorized::Invalid)?;
    let (scheme, token) = text.split_once(' ').ok_or(Unauthorized::Invalid)?;
    if shown.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Unauthorized::Invalid);
    }
    tokens.caller(token.trim()).await
}

/// Whoever comes without a token, where none is needed.
async fn operator(service: &Service) -> Result<Caller, Unauthorized> {
    let exist = service.inner.tokens.exist().await;
    match service.inner.closed || exist.map_err(Unauthorized::Unavailable)? {
        true => Err(Unauthorized::Missing),
        false => Ok(Caller::operator()),
    }
}

/// Makes sure that whoever was let in would be let in now, too: for an answer that goes on for long.
pub(super) async fn still(service: &Service, caller: &Caller) -> Result<(), Unauthorized> {
    match &caller.token {
        Some(token) => service.inner.tokens.holds(token).await,
        None => operator(service).await.map(drop),
    }
}

fn slower(rate: Result<(), Duration>) -> Result<(), Problem> {
    rate.map_err(|wait| too_many("more requests came than are allowed", wait))
}

fn guessed(wait: Duration) -> Problem {
    let detail = "more requests came from this address without a valid token than are allowed; send one as \
                  `Authorization: Bearer TOKEN`";
    too_many(detail, wait)
}

fn too_many(detail: &'static str, wait: Duration) -> Problem {
    Problem::new(ProblemKind::TooManyRequests, detail).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_are_not_ours() {
        let settings = Settings {
            hosts: ["skills.example.com".to_owned()].into(),
            ..Settings::default()
        };
        for ours in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "192.0.2.1",
            "[::1]:80",
            "[::1]",
            "skills.example.com:443",
        ] {
            assert!(is_ours(ours, &settings), "{ours}");
        }
        for foreign in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "127.0.0.1:8080@example.com",
            "[::1].example.com",
            "[example.com]",
            "localhost:x",
        ] {
            assert!(!is_ours(foreign, &settings), "{foreign}");
        }
    }
}
