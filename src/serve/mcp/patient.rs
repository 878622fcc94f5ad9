//! The sessions of older clients, none of which is waited for for ever.
//!
//! The library hands each message to a task of its session, and that task waits where a client does not read what it is
//! sent: it takes nothing on then, and what comes meanwhile would be kept for as long as the client likes. A message
//! has [so much time](super::HttpSettings::message_timeout) to be taken on; then its session is over.

use std::any::Any;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, GetExtensions as _, JsonRpcMessage,
    JsonRpcNotification, RequestId, ServerJsonRpcMessage,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError,
};
use rmcp::transport::streamable_http_server::session::{
    RestoreOutcome, ServerSseMessage, SessionId, SessionManager,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::asked::{Asked, ReadsOn};
use super::untaken::Untaken;

tokio::task_local! {
    /// What is being handed on.
    pub(super) static HANDED: Arc<Handed>;
}

/// No stream has this number, and whoever asks for it gets nothing. But it is told so only when the session has come to
/// that, and has taken on all that was handed to it before.
const NO_STREAM: &str = "0/18446744073709551615";

/// A message, or another request, that belongs to a session.
pub(super) struct Handed {
    session: Arc<Asked>,
    /// What it takes, until the session has taken it on.
    held: Mutex<Held>,
    /// Its client has gone away.
    gone: CancellationToken,
    fate: Mutex<Fate>,
}

type Held = Option<Arc<dyn Any + Send + Sync>>;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The session has had nothing to do with it.
    Apart,
    /// It was handed to the session.
    Handed,
    /// Others of the session were before it, for too long.
    NoPlace,
    /// The session was ended, or took nothing on and is over for that.
    Over,
}

impl Handed {
    pub fn new(session: Arc<Asked>, held: Held, gone: CancellationToken) -> Arc<Self> {
        Arc::new(Handed {
            session,
            held: Mutex::new(held),
            gone,
            fate: Mutex::new(Fate::Apart),
        })
    }

    pub fn fate(&self) -> Fate {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, fate: Fate) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }

    /// What it took is given back, unless the session has it.
    pub fn was_handed_on(&self) {
        drop(self.take());
    }

    fn take(&self) -> Held {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.take()
    }
}

/// The place that something has which is handed on, and what it takes: until it was taken on.
struct Turn {
    handed: Arc<Handed>,
    _held: Held,
    _place: OwnedSemaphorePermit,
}

/// The library's sessions, each waited for no longer than that.
#[derive(Clone)]
pub(super) struct Patient {
    pub sessions: Arc<LocalSessionManager>,
    pub patience: Duration,
}

/// Why a session has not taken something on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error(transparent)]
    Library(#[from] LocalSessionManagerError),
    #[error("others were before it for too long")]
    NoPlace,
    #[error("the session is over")]
    Over,
}

impl Patient {
    /// Waits for a place. `None` for what belongs to no session yet.
    async fn turn(&self) -> Result<Option<Turn>, NotTaken> {
        let Ok(handed) = HANDED.try_with(Arc::clone) else {
            return Ok(None);
        };
        let session = &handed.session;
        let place = tokio::select! {
            biased;
            () = session.over.cancelled() => Err(Fate::Over),
            () = handed.gone.cancelled() => Err(Fate::NoPlace),
            // Where those before it are not taken on either, it is told what becomes of them.
            place = timeout(self.longer(), session.place()) => match place {
                Ok(Some(place)) => Ok(place),
                _ => Err(Fate::NoPlace),
            },
        };
        match place {
            Ok(place) => {
                handed.is(Fate::Handed);
                Ok(Some(Turn {
                    _held: handed.take(),
                    _place: place,
                    handed,
                }))
            }
            Err(fate) => {
                handed.is(fate);
                Err(match fate {
                    Fate::Over => NotTaken::Over,
                    _ => NotTaken::NoPlace,
                })
            }
        }
    }

    fn answering(
        &self,
        id: SessionId,
        transport: <LocalSessionManager as SessionManager>::Transport,
    ) -> Answering {
        Answering {
            id,
            patient: self.clone(),
            transport,
            untaken: HashMap::new(),
        }
    }

    fn longer(&self) -> Duration {
        self.patience.saturating_add(self.patience / 4)
    }

    /// Waits for the session to take something on.
    async fn in_time<T>(
        &self,
        id: &SessionId,
        turn: Option<&Turn>,
        taking: impl Future<Output = Result<T, LocalSessionManagerError>>,
    ) -> Result<T, NotTaken> {
        let Some(turn) = turn else {
            return Ok(taking.await?);
        };
        let over = &turn.handed.session.over;
        let taken = tokio::select! {
            biased;
            () = over.cancelled() => None,
            taken = timeout(self.patience, taking) => taken.ok(),
        };
        match taken {
            Some(taken) => Ok(taken?),
            None => {
                turn.handed.is(Fate::Over);
                self.end(id, &turn.handed.session);
                Err(NotTaken::Over)
            }
        }
    }

    /// Waits until the session has taken on all that it was handed so far.
    async fn comes_to_it(&self, id: &SessionId) {
        // There is none.
        let _ = self.sessions.resume(id, NO_STREAM.to_owned()).await;
    }

    /// Ends a session. Until nobody reads its streams any more, it may not be able to hear of that.
    pub fn end(&self, id: &SessionId, session: &Asked) {
        if session.over.is_cancelled() {
            return;
        }
        session.over.cancel();
        let (sessions, id) = (Arc::clone(&self.sessions), id.clone());
        tokio::spawn(async move {
            if let Err(error) = sessions.close_session(&id).await {
                tracing::debug!("a session could not be closed: {error}");
            }
        });
    }
}

/// A stream that is over with its session, also where nobody asks for what is next in it: its session waits for that.
struct Cut<S> {
    stream: Arc<Mutex<Option<Pin<Box<S>>>>>,
    /// Where it is another one than that of the request.
    reads_on: Option<ReadsOn>,
    _read: DropGuard,
}

impl<S: Stream + Send + 'static> Cut<S> {
    fn when_over(stream: S, turn: Option<&Turn>) -> Self {
        let stream = Arc::new(Mutex::new(Some(Box::pin(stream))));
        let read = CancellationToken::new();
        if let Some(turn) = turn {
            let (over, read) = (turn.handed.session.over.clone(), read.clone());
            let stream = Arc::clone(&stream);
            tokio::spawn(async move {
                tokio::select! {
                    () = read.cancelled() => {}
                    () = over.cancelled() => {
                        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
                        drop(stream);
                    }
                }
            });
        }
        let _read = read.drop_guard();
        Cut {
            stream,
            reads_on: None,
            _read,
        }
    }
}

impl<S> Drop for Cut<S> {
    /// At once, and not when the task comes to it: the session looks whether somebody reads.
    fn drop(&mut self) {
        let stream = self
            .stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(stream);
    }
}

impl<S: Stream> Stream for Cut<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *stream {
            Some(stream) => stream.as_mut().poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

/// Where the answers of a session are handed to it. What an answer takes counts until the session has taken it on, which
/// may have to wait for what is not read; and it has [as long](super::HttpSettings::message_timeout) as a message has.
pub(super) struct Answering {
    id: SessionId,
    patient: Patient,
    transport: <LocalSessionManager as SessionManager>::Transport,
    /// Of requests that are not answered.
    untaken: HashMap<RequestId, (Untaken, Arc<Asked>)>,
}

impl Answering {
    /// What is known of a message that comes.
    fn comes(&mut self, message: &ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(request) => {
                let parts = request.request.extensions().get::<http::request::Parts>();
                let held = parts.and_then(|parts| {
                    let session = parts.extensions.get::<Arc<Asked>>()?;
                    Some((parts.extensions.get::<Untaken>()?.clone(), session.clone()))
                });
                if let Some(held) = held {
                    self.untaken.insert(request.id.clone(), held);
                }
            }
            JsonRpcMessage::Notification(JsonRpcNotification {
                notification: ClientNotification::CancelledNotification(cancelled),
                ..
            }) => {
                // It gets no answer any more.
                if let Some(id) = &cancelled.params.request_id {
                    self.untaken.remove(id);
                }
            }
            _ => {}
        }
    }
}

impl Transport<RoleServer> for Answering {
    type Error =
        <<LocalSessionManager as SessionManager>::Transport as Transport<RoleServer>>::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answers = match &message {
            JsonRpcMessage::Response(answer) => Some(&answer.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        let held = answers.and_then(|id| self.untaken.remove(id));
        let held = held.map(|held| (held, self.patient.clone(), self.id.clone()));
        let sending = self.transport.send(message);
        async move {
            let Some(((untaken, session), patient, id)) = held else {
                return sending.await;
            };
            let sent = timeout(patient.patience, sending).await;
            session.has(untaken);
            match sent {
                Ok(sent) => sent,
                Err(_) => {
                    patient.end(&id, &session);
                    Ok(())
                }
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let message = self.transport.receive().await;
        if let Some(message) = &message {
            self.comes(message);
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.transport.close().await
    }
}

impl SessionManager for Patient {
    type Error = NotTaken;
    type Transport = Answering;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let (id, transport) = self.sessions.create_session().await?;
        let answering = self.answering(id.clone(), transport);
        Ok((id, answering))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        Ok(self.sessions.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.sessions.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        // Its streams end first: it may wait for whoever does not read them.
        if let Ok(handed) = HANDED.try_with(Arc::clone) {
            handed.session.over.cancel();
        }
        Ok(self.sessions.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let turn = self.turn().await?;
        let stream = self.sessions.create_stream(id, message);
        let stream = self.in_time(id, turn.as_ref(), stream).await?;
        let stream = Cut::when_over(stream, turn.as_ref());
        // The session has the message before it, and what it was handed before that. It may wait for somebody to read
        // this very stream.
        let (patient, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let comes = async {
                patient.comes_to_it(&id).await;
                Ok(())
            };
            // Where it does not, it is over.
            let _ = patient.in_time(&id, turn.as_ref(), comes).await;
        });
        Ok(stream)
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        let turn = self.turn().await?;
        let taking = async {
            self.sessions.accept_message(id, message).await?;
            self.comes_to_it(id).await;
            Ok(())
        };
        self.in_time(id, turn.as_ref(), taking).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let turn = self.turn().await?;
        let stream = self.sessions.create_standalone_stream(id);
        let stream = self.in_time(id, turn.as_ref(), stream).await?;
        Ok(Cut::when_over(stream, turn.as_ref()))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let turn = self.turn().await?;
        // It may have the answer before this is told so.
        let reads_on = turn.as_ref().map(|turn| turn.handed.session.reads_on());
        let stream = self.sessions.resume(id, last_event_id);
        let stream = self.in_time(id, turn.as_ref(), stream).await?;
        let mut stream = Cut::when_over(stream, turn.as_ref());
        stream.reads_on = reads_on;
        Ok(stream)
    }

    async fn restore_session(
        &self,
        id: SessionId,
    ) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        let restored = self.sessions.restore_session(id.clone()).await?;
        Ok(match restored {
            RestoreOutcome::Restored(transport) => {
                RestoreOutcome::Restored(self.answering(id, transport))
            }
            RestoreOutcome::AlreadyPresent => RestoreOutcome::AlreadyPresent,
            _ => RestoreOutcome::NotSupported,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn message(text: serde_json::Value) -> ClientJsonRpcMessage {
        serde_json::from_value(text).expect("a message")
    }

    /// Where whoever is to answer takes nothing on any more.
    #[tokio::test(start_paused = true)]
    async fn what_a_session_does_not_take_on_is_given_back() {
        let patient = Patient {
            sessions: Arc::default(),
            patience: PATIENCE,
        };
        let (id, mut transport) = patient.create_session().await.unwrap();
        let begins = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "a", "version": "1"}}});
        let answers = async {
            transport.receive().await.expect("it is asked");
            let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
            let answer: TxJsonRpcMessage<RoleServer> = serde_json::from_value(answer).unwrap();
            transport.send(answer).await.expect("it is sent");
        };
        let (begun, ()) = tokio::join!(patient.initialize_session(&id, message(begins)), answers);
        begun.expect("it begins");

        let (session, takes) = (Arc::<Asked>::default(), Arc::new(()));
        let hand = async |gone: CancellationToken| {
            let held: Arc<dyn Any + Send + Sync> = takes.clone();
            let handed = Handed::new(Arc::clone(&session), Some(held), gone);
            let notice = json!({"jsonrpc": "2.0", "method": "notifications/x"});
            let taking = patient.accept_message(&id, message(notice));
            let taken = HANDED.scope(Arc::clone(&handed), taking).await;
            assert_eq!(taken.is_ok(), handed.fate() == Fate::Handed);
            handed.fate()
        };
        let began = Instant::now();
        let mut taken = 0;
        while hand(CancellationToken::new()).await == Fate::Handed {
            taken += 1;
            assert!(taken < 100, "there is no end to what it takes on");
            assert_eq!(Arc::strong_count(&takes), 1, "it was taken on");
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(
            Arc::strong_count(&takes),
            1,
            "and what it took is given back"
        );
        assert!(session.over.is_cancelled());
        // What comes later is told so at once.
        assert_eq!(hand(CancellationToken::new()).await, Fate::Over);
        assert_eq!(began.elapsed(), PATIENCE);
        // It is closed, once it hears of that.
        while transport.receive().await.is_some() {}
        assert!(!patient.has_session(&id).await.unwrap());
        assert_eq!(Arc::strong_count(&takes), 1);
    }

    /// What waits behind others goes with its client, and does not wait for ever.
    #[tokio::test(start_paused = true)]
    async fn what_finds_no_place_is_not_handed_on() {
        let patient = Patient {
            sessions: Arc::default(),
            patience: PATIENCE,
        };
        let session = Arc::<Asked>::default();
        let mut places = Vec::new();
        while let Ok(Some(place)) = timeout(Duration::ZERO, session.place()).await {
            places.push(place);
        }
        let hand = async |gone: &CancellationToken| {
            let handed = Handed::new(Arc::clone(&session), None, gone.clone());
            let turn = HANDED.scope(Arc::clone(&handed), patient.turn()).await;
            assert!(matches!(turn, Err(NotTaken::NoPlace)));
            handed.fate()
        };
        let began = Instant::now();
        let gone = CancellationToken::new();
        assert_eq!(hand(&gone).await, Fate::NoPlace);
        let waited = began.elapsed();
        assert_eq!(waited, patient.longer());
        gone.cancel();
        assert_eq!(hand(&gone).await, Fate::NoPlace);
        assert_eq!(began.elapsed(), waited);
        assert!(!session.over.is_cancelled(), "others may be taken on");
        drop(places);
    }
}
