//! The door for MCP, as a route beside those of the door for HTTP.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::ORIGIN;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;

use super::extract::{Whole, read};
use super::state::Service;
use crate::serve::mcp::{HttpSettings, McpServer};

/// The route `/mcp`, for [`guarded`](super::guarded): a door for agents with the same tokens, hosts,
/// origins and rates, whose messages count to the same bodies, with the same time to come. When the
/// [`Server`](super::Server) stops, calls have as long as requests have, and event streams end at once.
///
/// ```no_run
/// use std::sync::Arc;
/// use skillhost::InstalledSkills;
/// use skillhost::serve::{self, Server, Service, mcp::McpServer};
///
/// # fn example(service: Service, skills: InstalledSkills) -> Server {
/// // What the service executes with, so that calls are in its metrics.
/// let agents = McpServer::builder(service.executor(), skills).build();
/// let router = serve::guarded(&service, serve::mcp_route(&service, &agents));
/// Server::new(service, router)
/// # }
/// ```
pub fn mcp_route(service: &Service, server: &McpServer) -> Router {
    let settings = HttpSettings {
        // Looked at before a request comes here, and the latter taken away.
        hosts: Vec::new(),
        origins: Vec::new(),
        stop: service.inner.stopping.clone(),
        cut: service.inner.cut.clone(),
        ..HttpSettings::default()
    };
    let bounds = Bounds {
        service: service.clone(),
        most: server.message_bytes(),
    };
    Router::new()
        .route_service("/mcp", server.http(settings))
        .layer(from_fn_with_state(bounds, taken_in))
}

#[derive(Clone)]
struct Bounds {
    service: Service,
    most: usize,
}

/// Takes a message in as any other body.
async fn taken_in(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(ORIGIN);
    match read(body, &bounds.service, bounds.most).await {
        Ok(Whole { bytes, held }) => {
            let request = Request::from_parts(parts, Body::from(bytes));
            // An answer that comes in parts has begun long before the call is over.
            next.run(request).await.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &held;
                    frame
                }))
            })
        }
        Err(problem) => problem.into_response(),
    }
}
