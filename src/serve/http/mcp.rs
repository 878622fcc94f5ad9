//! The door for MCP, as a route beside those of the door for HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};

use super::extract::{Held, Whole, hold_values, in_time, read};
use super::places::Place;
use super::problem::Problem;
use super::state::Service;
use super::stream::{outlived, place};
use crate::json::{LARGE, measure, too_heavy};
use crate::serve::caller::{Caller, Tenancy};
use crate::serve::mcp::{Asks, Begins, HttpSettings, McpServer, Measured, unread};

/// The route `/mcp`, for [`guarded`](super::guarded): a door for agents with the same tokens, hosts,
/// origins and rates, whose messages count to the same bodies, with the same time to come, and whose
/// streams of news count to the same [streams](super::Settings::streams). Streams end where their token
/// does. When the [`Server`](super::Server) stops, calls have as long as requests have, and event streams
/// end at once.
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
        message_timeout: service.inner.settings.body_timeout,
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

/// How often the library that reads a message has its values in memory at once, at most: it tries what kind of message
/// it is, and takes apart what each kind consists of.
const AT_ONCE: u64 = 4;

#[derive(Clone)]
struct Bounds {
    service: Service,
    most: usize,
}

/// What a message takes, with whatever carries it out: the library keeps a request's extensions for so long, also where
/// its client has gone away, and its answer may be read long after.
#[derive(Clone)]
struct Carried {
    _held: Arc<Held>,
}

/// Takes a message in as any other body.
async fn taken_in(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let service = &bounds.service;
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(ORIGIN);
    // With nothing else is there one to be read; and what it took would be held for as long as a stream goes on.
    let body = match parts.method == Method::POST {
        true => body,
        false => Body::empty(),
    };
    let Whole { bytes, mut held } = match read(body, service, bounds.most).await {
        Ok(whole) => whole,
        Err(problem) => return problem.into_response(),
    };
    let caller = parts.extensions.get::<Caller>().cloned();
    let (all, message) = (service.clone(), bytes.clone());
    let look = move || -> Result<_, Response> {
        let refused = |why| unread(&message, why).map(Body::new);
        let heap = measure(&message).map_err(refused)?;
        let most = all.inner.settings.bodies_bytes as u64 / AT_ONCE;
        if heap > most.max(LARGE as u64) {
            return Err(refused(too_heavy(most)));
        }
        let begins = Begins::of(&message);
        begins.fits(&message, heap).map_err(refused)?;
        let asks = Asks::of(&message).map_err(refused)?;
        let mut reading: Held = None;
        let more = heap.saturating_mul(AT_ONCE - 1);
        hold_values(&all, &mut held, heap)
            .and_then(|()| hold_values(&all, &mut reading, more))
            .map_err(Problem::into_response)?;
        Ok((held, reading, heap, begins, asks))
    };
    let looked = in_time(service, caller.as_ref(), bytes.len(), look).await;
    let looked = looked.unwrap_or_else(|problem| Err(problem.into_response()));
    let (held, reading, heap, begins, asks) = match looked {
        Ok((held, reading, heap, begins, asks)) => (Arc::new(held), reading, heap, begins, asks),
        Err(answer) => return answer,
    };
    // Whoever reads it may do so when this is over, as its client has gone away.
    parts.extensions.insert(Measured {
        heap,
        begins,
        asks,
        body: Some(Arc::clone(&held) as Arc<_>),
        held: Some(Arc::new((Arc::clone(&held), reading))),
    });
    // What begins more than that is small, and what is kept of it bounded otherwise.
    if begins == Begins::Nothing {
        parts.extensions.insert(Carried { _held: held });
    }
    let place = match &caller {
        // What cannot be told may be one, too.
        Some(caller)
            if parts.method == Method::GET || matches!(begins, Begins::News | Begins::Unclear) =>
        {
            match place(service, caller) {
                Ok(place) => Some(place),
                Err(problem) => return problem.into_response(),
            }
        }
        _ => None,
    };
    let answer = next
        .run(Request::from_parts(parts, Body::from(bytes)))
        .await;
    let ends = caller.filter(|_| is_stream(&answer)).map(|caller| -> Ends {
        let service = service.clone();
        Box::pin(async move { drop(outlived(&service, &caller).await) })
    });
    answer.map(|body| {
        Body::new(Going {
            body,
            ends,
            _place: place,
        })
    })
}

fn is_stream(answer: &Response) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

type Ends = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer that may come in parts, long before what it tells of is over. Its place is given back when it is; and it
/// ends, unfinished, where whoever asked would not be let in any more.
struct Going {
    body: Body,
    ends: Option<Ends>,
    _place: Option<Place<Tenancy>>,
}

impl http_body::Body for Going {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(ends) = &mut self.ends
            && ends.as_mut().poll(context).is_ready()
        {
            self.ends = None;
            self.body = Body::empty();
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
