//! The door for programs that speak HTTP.

mod approvals;
mod bounded;
mod circuits;
mod dead;
mod events;
mod executions;
mod extract;
mod fuzzing;
mod guard;
mod health;
mod idempotency;
mod jobs;
mod listen;
mod mcp;
mod metrics;
mod misfit;
mod objects;
mod openapi;
mod patient;
mod places;
mod problem;
mod queues;
mod rate;
mod schedules;
mod sent;
mod settings;
mod skills;
mod state;
mod statistics;
mod stream;
mod told;
mod trace;

use std::any::Any;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use axum::Router;
pub use fuzzing::jobs as jobs_in;
pub use guard::Peer;
pub use listen::{Server, Stopped};
pub use mcp::mcp_route;
pub use problem::{PROBLEM_JSON, Problem, ProblemKind};
pub use settings::Settings;
pub use state::{Service, ServiceBuilder};
pub(super) use trace::Trace;
pub use trace::{NoTraceParent, TraceParent};

/// The routes of a service, with everything that every request passes. Merge it into a router of your
/// own, or serve it with [`Server`].
///
/// ```no_run
/// use std::sync::Arc;
/// use skillhost::Host;
/// use skillhost::queue::Queue;
/// use skillhost::serve::{self, Service};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Arc::new(Host::builder().build()?);
/// let service = Service::builder(host, Queue::open("queue.db")?).build()?;
/// let router = serve::router(&service);
/// # let _ = router;
/// # Ok(())
/// # }
/// ```
pub fn router(service: &Service) -> Router {
    guarded(service, Router::new())
}

/// As [`router`], with routes of others that pass the same token, host, origin and rate checks: the
/// door for MCP ([`mcp_route`]) is put there so. They find a [`Caller`](super::Caller) in the request's extensions.
pub fn guarded(service: &Service, others: Router) -> Router {
    let (routes, api) = routes().split_for_parts();
    let served = Arc::new(openapi::Served::new(api));
    let document = get(move || {
        let served = Arc::clone(&served);
        async move { served.answer() }
    });
    routes
        .with_state(service.clone())
        .route("/openapi.json", document)
        .merge(others)
        .fallback(async || Problem::new(ProblemKind::NotFound, "there is nothing at this path"))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(explained))
        .layer(from_fn_with_state(service.clone(), guard::guard))
}

/// The OpenAPI document that is served at `/openapi.json`.
pub fn document() -> serde_json::Value {
    let (_, api) = routes().split_for_parts();
    openapi::document(&api)
}

/// Every route but `/openapi.json`, with what the document says of it.
fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::with_openapi(openapi::begin())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(executions::execute))
        .routes(routes!(executions::check))
        .routes(routes!(skills::list, skills::install))
        .routes(routes!(skills::inspect, skills::remove))
        .routes(routes!(jobs::read::list, jobs::submit::submit))
        .routes(routes!(jobs::submit::batch))
        .routes(routes!(jobs::change::prune))
        .routes(routes!(jobs::read::show))
        .routes(routes!(jobs::read::result))
        .routes(routes!(jobs::read::attempts))
        .routes(routes!(jobs::change::cancel))
        .routes(routes!(jobs::change::pause))
        .routes(routes!(jobs::change::resume))
        .routes(routes!(jobs::change::priority))
        .routes(routes!(jobs::change::snooze))
        .routes(routes!(dead::list))
        .routes(routes!(dead::causes))
        .routes(routes!(dead::export))
        .routes(routes!(dead::replay_many))
        .routes(routes!(dead::discard_many))
        .routes(routes!(dead::show, dead::discard))
        .routes(routes!(dead::replay))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::refuse))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::show, schedules::put, schedules::remove))
        .routes(routes!(queues::list))
        .routes(routes!(queues::change))
        .routes(routes!(queues::tenants))
        .routes(routes!(queues::change_tenant))
        .routes(routes!(queues::skills))
        .routes(routes!(queues::change_skill))
        .routes(routes!(events::list))
        .routes(routes!(events::follow))
        .routes(routes!(statistics::own))
        .routes(routes!(statistics::all))
        .routes(routes!(circuits::list))
        .routes(routes!(statistics::policy))
}

/// Makes a problem of an error that the framework answers by itself: a method that is not allowed.
async fn explained(request: Request, next: axum::middleware::Next) -> Response {
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED
        || response
            .headers()
            .contains_key(axum::http::header::CONTENT_TYPE)
    {
        return response;
    }
    let problem = Problem::new(
        ProblemKind::MethodNotAllowed,
        "the header `Allow` says which methods are allowed here",
    );
    // Where the header is not there yet, the framework adds it further out.
    match response.headers().get(ALLOW).cloned() {
        Some(allowed) => problem.header(ALLOW, allowed).into_response(),
        None => problem.into_response(),
    }
}

/// What a request is answered that made us panic.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let what = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "something that is no text",
    };
    tracing::error!(what, "answering a request panicked");
    let detail = "answering this panicked; the server's log says why";
    Problem::new(ProblemKind::Internal, detail).into_response()
}
