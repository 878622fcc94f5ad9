//! Tokens: what lets somebody in where that is not free.
//!
//! A token is a public id and 256 random bits. Only the SHA-256 of the whole is kept, beside the jobs in
//! the queue's database: so every process that shares the queue knows the same tokens. What was looked
//! up holds for a second, and a token that is revoked opens nothing after that. One that was made meanwhile, by
//! whichever process, is known within 50 ms. That there is none at all is not kept: whoever makes the first shuts the
//! door for all others at once.

mod text;

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::task::JoinError;

use super::caller::{Caller, Scopes, Tenancy};
use crate::queue::{Note, Queue, QueueError};

pub use text::{Token, TokenError};

/// How long what was read holds.
pub(super) const HOLD: Duration = Duration::from_secs(1);
/// How long it holds where somebody shows a token that is not among it, and which may have been made since.
/// Whoever guesses has the store read no more often than that.
const HOLD_FOR_UNKNOWN: Duration = Duration::from_millis(50);

/// The kind of the notes that tokens are kept as.
const KIND: &str = "token";

/// A token as it is kept: without the secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its public id.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// The tenant that it acts for.
    pub tenant: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops to hold.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<DateTime<Utc>>,
    /// The SHA-256 of the token, in hexadecimal.
    sha256: String,
}

impl TokenInfo {
    /// Whether it lets anybody in.
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}

/// What a token is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewToken {
    /// A name for people: at most 100 bytes, without control characters.
    pub name: String,
    /// The tenant that it acts for: 1 to 255 bytes, without control characters.
    pub tenant: String,
    /// What it may be used for: at least one.
    pub scopes: Scopes,
    /// When it stops to hold; `None`: not by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Unauthorized {
    /// Nothing was shown.
    #[error("a token is needed")]
    Missing,
    /// It is no token, is not known, was revoked or has expired. Which of it is not told.
    #[error("the token is not valid")]
    Invalid,
    /// The tokens cannot be looked up.
    #[error("tokens cannot be looked up: {0}")]
    Unavailable(QueueError),
}

/// The tokens of a queue. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Queue,
    known: Mutex<Known>,
    /// One reads, and the others wait for it.
    reading: tokio::sync::Mutex<()>,
    /// One looks for a token that is not known, and nobody waits for it but who shows such a one.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    read: Option<Instant>,
    by_id: Arc<HashMap<String, Kept>>,
}

/// A token as it is looked up.
struct Kept {
    sha256: [u8; 32],
    caller: Caller,
    expires_at: Option<DateTime<Utc>>,
    revoked: bool,
}

impl Kept {
    fn holds(&self, now: DateTime<Utc>) -> bool {
        !self.revoked && self.expires_at.is_none_or(|at| at > now)
    }
}

impl Tokens {
    /// Those that are kept beside the jobs of this queue.
    pub fn new(queue: Queue) -> Self {
        Tokens {
            inner: Arc::new(Inner {
                queue,
                known: Mutex::default(),
                reading: tokio::sync::Mutex::default(),
                looking: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Makes a token. It is shown once, here, and kept nowhere.
    ///
    /// # Errors
    /// Where what it is to be makes no sense, the system gives no random numbers, or the store cannot
    /// be written.
    pub async fn create(&self, new: NewToken) -> Result<(Token, TokenInfo), TokenError> {
        new.check(self.inner.queue.now())?;
        let token = Token::random()?;
        let info = TokenInfo {
            id: token.id().to_owned(),
            name: new.name,
            tenant: new.tenant,
            scopes: new.scopes,
            created_at: self.inner.queue.now(),
            expires_at: new.expires_at,
            revoked_at: None,
            sha256: hex::encode(token.sha256()),
        };
        self.put(&info).await?;
        Ok((token, info))
    }

    async fn put(&self, info: &TokenInfo) -> Result<(), QueueError> {
        let note = Note {
            name: info.id.clone(),
            value: info.clone(),
            until: None,
        };
        self.inner.queue.put_note(KIND, &note).await?;
        self.known().read = None;
        Ok(())
    }

    /// Every token that there was, those that were revoked included, in the order in which they were
    /// made.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn list(&self) -> Result<Vec<TokenInfo>, QueueError> {
        let notes = self.inner.queue.notes::<TokenInfo>(KIND).await?;
        let mut tokens: Vec<TokenInfo> = notes.into_iter().map(|note| note.value).collect();
        tokens.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(tokens)
    }

    /// Revokes a token: within a second nobody gets in with it, through any process.
    ///
    /// # Errors
    /// Where there is no such token, or the store cannot be written.
    pub async fn revoke(&self, id: &str) -> Result<TokenInfo, QueueError> {
        let Some(note) = self.inner.queue.note::<TokenInfo>(KIND, id).await? else {
            return Err(QueueError::Unknown {
                what: "token",
                name: crate::text::shortened(id, 100).into_owned(),
            });
        };
        let mut info = note.value;
        if info.revoked_at.is_none() {
            info.revoked_at = Some(self.inner.queue.now());
            self.put(&info).await?;
        }
        Ok(info)
    }

    /// Whether there is, or ever was, a token. Where there was, nobody gets in without one any more.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn exist(&self) -> Result<bool, QueueError> {
        // One reads for all who came before it began.
        let asked = Instant::now();
        if !self.by_id().await?.is_empty() {
            return Ok(true);
        }
        let by_id = self.by_turns(move |read| read > asked).await?;
        Ok(!by_id.is_empty())
    }

    /// Who shows this token, the text after `Bearer` in the header `Authorization`.
    ///
    /// # Errors
    /// Where it lets nobody in.
    pub async fn caller(&self, shown: &str) -> Result<Caller, Unauthorized> {
        let token: Token = shown.parse().map_err(|_| Unauthorized::Invalid)?;
        let by_id = self.by_id().await.map_err(Unauthorized::Unavailable)?;
        let by_id = match by_id.contains_key(token.id()) {
            true => by_id,
            false => {
                let shown = Instant::now();
                // Whoever shows one is polled until it is let in or not, or dropped.
                let _alone = self.inner.looking.lock().await;
                let again = self.read_since(shown).await;
                again.map_err(Unauthorized::Unavailable)?
            }
        };
        let kept = by_id.get(token.id()).ok_or(Unauthorized::Invalid)?;
        let same = bool::from(kept.sha256.ct_eq(&token.sha256()));
        if !same || !kept.holds(self.inner.queue.now()) {
            return Err(Unauthorized::Invalid);
        }
        Ok(kept.caller.clone())
    }

    /// Makes sure that a token still lets somebody in, by its public id.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn holds(&self, id: &str) -> Result<(), Unauthorized> {
        let by_id = self.by_id().await.map_err(Unauthorized::Unavailable)?;
        match by_id.get(id) {
            Some(kept) if kept.holds(self.inner.queue.now()) => Ok(()),
            _ => Err(Unauthorized::Invalid),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.inner
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, holds: impl Fn(Instant) -> bool) -> Option<Arc<HashMap<String, Kept>>> {
        let known = self.known();
        let fresh = known.read.is_some_and(holds);
        fresh.then(|| Arc::clone(&known.by_id))
    }

    /// The tokens, as they were at most [`HOLD`] ago.
    async fn by_id(&self) -> Result<Arc<HashMap<String, Kept>>, QueueError> {
        let holds = |read: Instant| read.elapsed() < HOLD;
        match self.fresh(holds) {
            Some(by_id) => Ok(by_id),
            None => self.by_turns(holds).await,
        }
    }

    /// The same, as one reads and all others wait for it: in a task of its own, as whoever asks may be polled no more,
    /// such as an answer that its client does not read, and nobody would get a turn any more.
    async fn by_turns(
        &self,
        holds: impl Fn(Instant) -> bool + Send + 'static,
    ) -> Result<Arc<HashMap<String, Kept>>, QueueError> {
        let tokens = self.clone();
        let reading = tokio::spawn(async move {
            let _alone = tokens.inner.reading.lock().await;
            match tokens.fresh(holds) {
                Some(by_id) => Ok(by_id),
                None => tokens.read().await,
            }
        });
        match reading.await.map_err(JoinError::try_into_panic) {
            Ok(read) => read,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime is ending, and whoever asks with it.
            Err(Err(_)) => pending().await,
        }
    }

    /// The tokens, as they were then or later, or at most [`HOLD_FOR_UNKNOWN`] before: all who ask meanwhile get what
    /// one has read.
    async fn read_since(&self, then: Instant) -> Result<Arc<HashMap<String, Kept>>, QueueError> {
        match self.fresh(|read| read + HOLD_FOR_UNKNOWN > then) {
            Some(by_id) => Ok(by_id),
            None => self.read().await,
        }
    }

    async fn read(&self) -> Result<Arc<HashMap<String, Kept>>, QueueError> {
        let asked = Instant::now();
        let tokens = self.list().await?;
        let by_id = tokens.into_iter().filter_map(|token| {
            let mut sha256 = [0; 32];
            if hex::decode_to_slice(&token.sha256, &mut sha256).is_err() {
                tracing::warn!(token = token.id, "what is kept of a token is damaged");
                return None;
            }
            let caller = Caller {
                tenancy: Tenancy::Tenant(token.tenant.into()),
                scopes: token.scopes,
                token: Some(token.id.as_str().into()),
                user: None,
            };
            let kept = Kept {
                sha256,
                caller,
                expires_at: token.expires_at,
                revoked: token.revoked_at.is_some(),
            };
            Some((token.id, kept))
        });
        let by_id = Arc::new(by_id.collect::<HashMap<_, _>>());
        let mut known = self.known();
        // Two may have read at once, and the one that asked first comes last.
        if known.read.is_none_or(|read| read < asked) {
            known.read = Some(asked);
            known.by_id = Arc::clone(&by_id);
        }
        Ok(by_id)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl NewToken {
    fn check(&self, now: DateTime<Utc>) -> Result<(), TokenError> {
        let invalid = |what: &str| Err(TokenError::Invalid(what.to_owned()));
        if self.name.len() > 100 || self.name.chars().any(char::is_control) {
            return invalid("the name has more than 100 bytes, or control characters");
        }
        let fits = (1..=255).contains(&self.tenant.len());
        if !fits || self.tenant.chars().any(char::is_control) {
            return invalid("the tenant is not 1 to 255 bytes without control characters");
        }
        if self.scopes == Scopes::default() {
            return invalid("it has no scope, so that it would be good for nothing");
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return invalid("it would have expired already");
        }
        Ok(())
    }
}
