//! The protocol over streamable HTTP, as a tower service.

use std::any::Any;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rmcp::model::RequestId;
use rmcp::service::TxJsonRpcMessage;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::asked::{self, Asked, Asks, Carried, NotBegun, Which};
use super::body::{Taking, Until};
use super::message::Begins;
use super::patient::{Fate, HANDED, Handed, Patient};
use super::untaken::Untaken;
use super::{Inner, McpServer, McpSession, stdio};
use crate::json::{LARGE, measure};
use crate::serve::Caller;

/// How a session of an older client is named in headers.
const SESSION: &str = "mcp-session-id";
/// Which revision is spoken.
const VERSION: &str = "mcp-protocol-version";
/// Where a stream is to go on.
const LAST_EVENT: &str = "last-event-id";

/// How the protocol is served over HTTP.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Under which names the server may be called (`Host`), with or without a port, against DNS
    /// rebinding; empty: any. Default `localhost`, `127.0.0.1` and `::1`.
    pub hosts: Vec<String>,
    /// From which origins browsers may call, such as `https://app.example.com:443`. Default those of this
    /// machine itself, over plain HTTP and at any port.
    pub origins: Vec<String>,
    /// How many sessions of older clients there may be at once for one tenant; the one that was used
    /// longest ago is closed for a new one. Default 100.
    pub sessions: usize,
    /// How long a message of a session may wait until the session takes it on. Then the session is over: its client does
    /// not read what it is sent, and what it sends meanwhile is kept. Default 60 s.
    pub message_timeout: Duration,
    /// No more begins: no session, and streams that only wait for news end. Calls that run go on to
    /// their answers.
    pub stop: CancellationToken,
    /// Stops calls that run, and ends every session. Whatever serves this cancels it once what it waits
    /// for after [`stop`](Self::stop) has taken too long.
    pub cut: CancellationToken,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            hosts: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            origins: vec![
                "http://localhost:*".into(),
                "http://127.0.0.1:*".into(),
                "http://[::1]:*".into(),
            ],
            sessions: 100,
            message_timeout: Duration::from_secs(60),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }
}

/// A tower service that speaks the protocol. Cheap to clone.
///
/// Whose request it is stands in its extensions, as a [`Caller`] that a layer before this one has put
/// there; without one, nobody is let in. A session belongs to whose first request began it, and is not
/// there for others.
#[derive(Clone)]
pub struct McpService {
    server: Arc<Inner>,
    inner: StreamableHttpService<McpSession, Patient>,
    manager: Patient,
    sessions: Arc<Mutex<HashMap<String, Session>>>,
    most: usize,
    stop: CancellationToken,
}

/// What stands in a request's extensions, once it is known that its message is not too much to be read.
#[derive(Clone, Default)]
pub(in crate::serve) struct Measured {
    /// What its values take, in bytes.
    pub heap: u64,
    pub begins: Begins,
    pub asks: Asks,
    /// What is given back once it was handed on.
    pub body: Option<Arc<dyn Any + Send + Sync>>,
    /// What is given back once it was read, and nobody else has it any more.
    pub held: Option<Arc<dyn Any + Send + Sync>>,
}

/// Where the values of a message take more bytes than that, it is read where that holds up nobody: the library copies
/// them for each kind of message that it tries, of which there are some twenty.
const READ_AT_ONCE: u64 = 16 << 10;

/// A session of an older client.
struct Session {
    caller: Caller,
    used: Instant,
    asked: Arc<Asked>,
}

impl McpServer {
    /// Serves any number of clients over HTTP, at whatever path this service is put.
    pub fn http(&self, settings: HttpSettings) -> McpService {
        let config = StreamableHttpServerConfig::default()
            .with_allowed_hosts(settings.hosts)
            .with_allowed_origins(settings.origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(self.inner.settings.message_bytes)
            .with_cancellation_token(settings.cut);
        let mut manager = LocalSessionManager::default();
        // What was told of a call that was cancelled is nobody's to read on in.
        manager.session_config.completed_cache_ttl = Duration::ZERO;
        let manager = Patient {
            sessions: Arc::new(manager),
            patience: settings.message_timeout,
        };
        let server = Arc::clone(&self.inner);
        let stop = settings.stop.clone();
        let session = move || Ok(McpSession::new(Arc::clone(&server), None, stop.clone()));
        McpService {
            server: Arc::clone(&self.inner),
            inner: StreamableHttpService::new(session, Arc::new(manager.clone()), config),
            manager,
            sessions: Arc::default(),
            most: settings.sessions.max(1),
            stop: settings.stop,
        }
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;
type Handled = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl McpService {
    async fn answer<B>(self, mut request: Request<B>) -> Answer
    where
        B: Body + Send + 'static,
        B::Error: Display,
        B::Data: Send + 'static,
    {
        let Some(caller) = request.extensions().get::<Caller>().cloned() else {
            return refused(
                StatusCode::UNAUTHORIZED,
                "it is not known whose request this is",
            );
        };
        let id = request.headers().get(SESSION);
        let id = id.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        let session = match &id {
            Some(id) => match self.belonging(id, &caller) {
                Some(asked) => Some((id.as_str(), asked)),
                // As one that is not there.
                None => return refused(StatusCode::NOT_FOUND, "there is no such session"),
            },
            None => None,
        };
        let only_news = waits_for_news(&request);
        if self.stop.is_cancelled() && (only_news || (id.is_none() && begins(&request))) {
            let why = "the server is about to stop";
            return refused(StatusCode::SERVICE_UNAVAILABLE, why);
        }
        self.server.looked().await;
        let may_end = request.method() == Method::DELETE;
        let is_measured = request.extensions().get::<Measured>().is_some();
        let owner = id.is_none().then_some(caller);
        let untaken = Untaken::default();
        request.extensions_mut().insert(untaken.clone());
        let mut answer = match is_measured || request.method() != Method::POST {
            true => self.handed_on(request, session, owner).await,
            false => match self.whole(request).await {
                Ok(request) => self.handed_on(request, session, owner).await,
                Err(answer) => answer,
            },
        };
        if answer.body().size_hint().exact().is_none() {
            let untaken = Some(untaken);
            answer = answer.map(|body| Taking { body, untaken }.boxed());
        }
        if only_news {
            answer = answer.map(|body| Until::new(body, self.stop.clone()).boxed());
        }
        if let Some(id) = id
            && (may_end || answer.status() == StatusCode::NOT_FOUND)
            && !self
                .manager
                .sessions
                .sessions
                .read()
                .await
                .contains_key(&*id)
        {
            self.lock().remove(&id);
        }
        answer
    }

    async fn handed_on<B>(
        &self,
        request: Request<B>,
        session: Option<(&str, Arc<Asked>)>,
        owner: Option<Caller>,
    ) -> Answer
    where
        B: Body + Send + 'static,
        B::Error: Display,
        B::Data: Send + 'static,
    {
        match session {
            Some((id, session)) => self.of_session(request, session, id).await,
            None => self.begun(request, owner).await,
        }
    }

    /// Hands on what belongs to a session, but a request whose id is in use. Where the client goes away meanwhile, that
    /// is done all the same, unless others are before it: the library would keep the stream that it has made for an
    /// answer.
    async fn of_session<B>(&self, mut request: Request<B>, session: Arc<Asked>, id: &str) -> Answer
    where
        B: Body + Send + 'static,
        B::Error: Display,
        B::Data: Send + 'static,
    {
        let measured = request.extensions().get::<Measured>();
        let measured = measured.map(|measured| (measured.asks.clone(), measured.body.clone()));
        let (asks, body) = measured.unwrap_or_default();
        let Asks {
            request: named,
            cancels,
        } = asks;
        let ends = cancels.or_else(|| reads_on(&request).then_some(Which::Any));
        let ending = ends.map(|which| session.ends(&which));
        let begun = named.map(|named| session.begin(&named).map_err(|why| (named, why)));
        let begun = match begun.transpose() {
            Ok(begun) => begun,
            Err((named, NotBegun::InUse)) => {
                let why = "another request of this session has the same `id`, and has not been answered, or \
                           nobody waited for its answer: use another one, or begin a new session";
                return unread_of(Some(named), why.to_owned());
            }
            Err((_, NotBegun::TooMany)) => {
                self.manager.end(&id.into(), &session);
                let why = "the session is over: too many of its requests were cancelled, or nobody waited for \
                           their answers";
                return refused(StatusCode::NOT_FOUND, why);
            }
        };
        if let Some(begun) = &begun {
            // The library keeps what stands there for as long as the call goes on.
            request.extensions_mut().insert(Carried::out(begun));
            request.extensions_mut().insert(Arc::clone(&session));
        }
        let client = CancellationToken::new();
        let handed = Handed::new(Arc::clone(&session), body, client.clone());
        let service = self.clone();
        let handled = HANDED.scope(Arc::clone(&handed), async move {
            let answer = service.handle(request).await;
            drop(ending);
            answer
        });
        let here = client.drop_guard();
        let answer = match tokio::spawn(handled).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!("a message of a session could not be handled: {error}");
                broken()
            }
        };
        here.disarm();
        handed.was_handed_on();
        let answer = match handed.fate() {
            // The session has nothing to do with it.
            Fate::Apart => answer,
            // One that goes on may be what the session waits for.
            Fate::Handed => match answer.body().size_hint().exact() {
                Some(_) => answer,
                None => answer.map(|body| Until::new(body, session.over.clone()).boxed()),
            },
            Fate::NoPlace => {
                let why = "others of this session were before it for too long: read what it sends, and try again";
                refused(StatusCode::SERVICE_UNAVAILABLE, why)
            }
            Fate::Over => {
                self.lock().remove(id);
                refused(StatusCode::NOT_FOUND, OVER)
            }
        };
        match begun {
            Some(request) => answer.map(|body| asked::Answer { body, request }.boxed()),
            None => answer,
        }
    }

    /// Hands a request on, and remembers whose session it has begun, if it was in none: also where nobody waits for the
    /// answer any more, as the session is there nevertheless.
    async fn begun<B>(&self, request: Request<B>, owner: Option<Caller>) -> Answer
    where
        B: Body + Send + 'static,
        B::Error: Display,
        B::Data: Send + 'static,
    {
        let Some(owner) = owner else {
            return self.handle(request).await;
        };
        let measured = request.extensions().get::<Measured>();
        let begins = measured.map(|measured| measured.begins);
        let service = self.clone();
        let handled = async move {
            let answer = service.handle(request).await;
            if let Some(begun) = answer.headers().get(SESSION) {
                let begun = String::from_utf8_lossy(begun.as_bytes()).into_owned();
                service.begin(begun, owner).await;
            }
            answer
        };
        match begins {
            // What goes on for long ends with its client.
            None | Some(Begins::Nothing | Begins::News) => handled.await,
            Some(Begins::Session | Begins::Unclear) => match tokio::spawn(handled).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::error!("a session could not be begun: {error}");
                    broken()
                }
            },
        }
    }

    /// A request with its message, which is not too much to be read.
    async fn whole<B>(&self, request: Request<B>) -> Result<Request<Full<Bytes>>, Answer>
    where
        B: Body + Send + 'static,
        B::Error: Display,
        B::Data: Send + 'static,
    {
        let most = self.server.settings.message_bytes;
        let (parts, body) = request.into_parts();
        let mut body = std::pin::pin!(body);
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Err(refused(StatusCode::BAD_REQUEST, "the message broke off"));
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.remaining() > most.saturating_sub(read.len()) {
                let why = "the message has too many bytes";
                return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            read.put(data);
        }
        let message = read.freeze();
        let look = {
            let message = message.clone();
            move || {
                let begins = Begins::of(&message);
                let fits = |heap| {
                    begins.fits(&message, heap)?;
                    Ok((heap, begins, Asks::of(&message)?))
                };
                let fits = measure(&message).and_then(fits);
                fits.map_err(|why| unread(&message, why))
            }
        };
        let measured = match message.len() > LARGE {
            false => Ok(look()),
            true => spawn_blocking(look).await,
        };
        match measured {
            Ok(Ok((heap, begins, asks))) => {
                let mut request = Request::from_parts(parts, Full::new(message));
                let measured = Measured {
                    heap,
                    begins,
                    asks,
                    body: None,
                    held: None,
                };
                request.extensions_mut().insert(measured);
                Ok(request)
            }
            Ok(Err(refused)) => Err(refused),
            Err(error) => {
                tracing::error!("a message could not be measured: {error}");
                Err(broken())
            }
        }
    }

    /// Hands a request on. The library reads its message at once, which for a large one is done where it holds up
    /// nobody; and what it takes is held until that is over, also where nobody waits for it any more.
    async fn handle<B>(&self, mut request: Request<B>) -> Answer
    where
        B: Body + Send + 'static,
        B::Error: Display,
        B::Data: Send + 'static,
    {
        // The library keeps what stands there for as long as the call goes on.
        let measured = request.extensions_mut().remove::<Measured>();
        let Measured { heap, held, .. } = measured.unwrap_or_default();
        // Also of white space there may be much.
        let is_long = request.body().size_hint().lower() > LARGE as u64;
        if heap <= READ_AT_ONCE && !is_long {
            return self.inner.handle(request).await;
        }
        let inner = self.inner.clone();
        let handled = async move { inner.handle(request).await };
        // Whoever begins with it is another task.
        let mut handled: Handled = match HANDED.try_with(Arc::clone) {
            Ok(handed) => Box::pin(HANDED.scope(handed, handled)),
            Err(_) => Box::pin(handled),
        };
        let begun = spawn_blocking(move || {
            let mut nobody = Context::from_waker(Waker::noop());
            let begun = match handled.as_mut().poll(&mut nobody) {
                Poll::Ready(answer) => Ok(answer),
                Poll::Pending => Err(handled),
            };
            drop(held);
            begun
        });
        match begun.await {
            Ok(Ok(answer)) => answer,
            // It is asked anew by somebody who can be told.
            Ok(Err(handled)) => handled.await,
            Err(error) => {
                tracing::error!("a message could not be read: {error}");
                broken()
            }
        }
    }

    /// What a session has been asked that is this caller's.
    fn belonging(&self, id: &str, caller: &Caller) -> Option<Arc<Asked>> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id)?;
        if session.caller.tenancy != caller.tenancy {
            return None;
        }
        session.used = Instant::now();
        Some(Arc::clone(&session.asked))
    }

    /// Remembers whose a session is, and makes room for it.
    async fn begin(&self, id: String, caller: Caller) {
        let mut over = Vec::new();
        {
            // Those that have ended by themselves.
            let there = self.manager.sessions.sessions.read().await;
            let mut sessions = self.lock();
            sessions.retain(|id, _| there.contains_key(&**id));
            drop(there);
            let own = |session: &Session| session.caller.tenancy == caller.tenancy;
            while sessions.values().filter(|session| own(session)).count() >= self.most {
                let oldest = sessions
                    .iter()
                    .filter(|(_, session)| own(session))
                    .min_by_key(|(_, session)| session.used);
                let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                    break;
                };
                over.extend(sessions.remove_entry(&oldest));
            }
            let session = Session {
                caller,
                used: Instant::now(),
                asked: Arc::default(),
            };
            sessions.insert(id, session);
        }
        for (id, session) in over {
            self.manager.end(&id.into(), &session.asked);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this asks for a stream on which nothing is owed: one that tells a session what changes.
fn waits_for_news<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && !reads_on(request)
}

/// Whether this reads on in the answer to a call, which is named behind a `/`.
fn reads_on<B>(request: &Request<B>) -> bool {
    let last = request.headers().get(LAST_EVENT);
    request.method() == Method::GET && last.is_some_and(|last| last.as_bytes().contains(&b'/'))
}

/// Whether this, which names no session, would begin one: the current revision has none, and says with
/// each request which it is.
fn begins<B>(request: &Request<B>) -> bool {
    !request.headers().contains_key(VERSION)
}

/// What is answered where a session ends before it has taken something on.
const OVER: &str = "the session is over: it was ended, or took nothing on any more, as its client did not read what it \
                    was sent";

/// What is answered to a message that is too much to be read.
pub(in crate::serve) fn unread(message: &[u8], why: String) -> Answer {
    unread_of(stdio::id(message), why)
}

/// The same, where its id is known.
fn unread_of(id: Option<RequestId>, why: String) -> Answer {
    let error = ErrorData::invalid_request(why, None);
    let error = TxJsonRpcMessage::<RoleServer>::error(error, id);
    let Ok(error) = serde_json::to_vec(&error) else {
        return broken();
    };
    let mut answer = Response::new(Full::new(Bytes::from(error)).boxed());
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

fn broken() -> Answer {
    let why = "the message could not be read";
    refused(StatusCode::INTERNAL_SERVER_ERROR, why)
}

fn refused(status: StatusCode, why: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(why.as_bytes())).boxed());
    *answer.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}

impl<B> tower::Service<Request<B>> for McpService
where
    B: Body + Send + 'static,
    B::Error: Display,
    B::Data: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
