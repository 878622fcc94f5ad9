//! A stand-in for the host, for tests that run natively with `cargo test`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Attachment, Context, Level, StorageError};

/// A [`Context`] that answers as it was told and records what it is told.
///
/// ```
/// use skills_sdk::Level;
/// use skills_sdk::testing::{LogRecord, TestContext};
///
/// let ctx = TestContext::new().config("width", "80");
/// ctx.info("started");
///
/// assert_eq!(ctx.context().config("width"), Ok(Some("80".to_owned())));
/// assert_eq!(ctx.logs(), [LogRecord { level: Level::Info, message: "started".to_owned() }]);
/// ```
///
/// It dereferences to its [`Context`], so `&ctx` is what a tool takes. Where a
/// method of both has the same name, [`context`](Self::context) reaches that
/// of the context.
#[derive(Debug)]
pub struct TestContext(Context);

impl TestContext {
    /// The first attempt at a request called `test`, with a minute to go, no
    /// attachments and no configuration.
    pub fn new() -> Self {
        Self(Context::new(
            "test".to_owned(),
            1,
            Vec::new(),
            Surroundings::default(),
        ))
    }

    /// Sets the configured value of `key`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let config = &mut self.0.surroundings.config;
        config.insert(key.into(), value.into());
        self
    }

    /// Adds an attachment to the input.
    #[must_use]
    pub fn attachment(mut self, attachment: Attachment) -> Self {
        self.0.attachments.push(attachment);
        self
    }

    /// Says what a request with this method, to this URL, is answered. Where several answers are
    /// given to one, they come in that order, and the last one again and again. Whatever no answer
    /// is given to is denied, as by a host that does not grant it.
    ///
    /// # Panics
    /// Where the URL is none.
    #[cfg(feature = "http")]
    #[must_use]
    #[track_caller]
    pub fn answer(self, method: &str, url: &str, answer: crate::http::Response) -> Self {
        self.answer_with(method, url, Ok(answer))
    }

    /// Like [`answer`](Self::answer), also with an error.
    ///
    /// # Panics
    /// Where the URL is none.
    #[cfg(feature = "http")]
    #[must_use]
    #[track_caller]
    pub fn answer_with(
        self,
        method: &str,
        url: &str,
        answer: Result<crate::http::Response, crate::http::HttpError>,
    ) -> Self {
        let url = url::Url::parse(url)
            .unwrap_or_else(|error| panic!("the answer's URL `{url}` is none: {error}"));
        let mut answers = self.0.surroundings.answers.borrow_mut();
        answers
            .entry((method.to_owned(), url.to_string()))
            .or_default()
            .push_back(answer);
        drop(answers);
        self
    }

    /// The requests that were sent so far, the oldest first.
    #[cfg(feature = "http")]
    pub fn requests(&self) -> Vec<SentRequest> {
        self.0.surroundings.requests.borrow().clone()
    }

    /// Puts a value into the storage.
    #[must_use]
    pub fn stored(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        let mut kept = self.0.surroundings.kept.borrow_mut();
        kept.get_or_insert_default()
            .insert(key.into(), value.into());
        drop(kept);
        self
    }

    /// Grants no storage. Without this, there is one, and it is empty.
    #[must_use]
    pub fn without_storage(self) -> Self {
        self.0.surroundings.kept.replace(None);
        self
    }

    /// Sets which attempt this is, counted from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.0.attempt = attempt;
        self
    }

    /// Sets how long the execution may take from now on. Nothing stops it then; only what
    /// the context says of the time left depends on it.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.0.surroundings.deadline = Instant::now().checked_add(limit);
        self
    }

    /// Sets the request's id.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.0.request_id = id.into();
        self
    }

    /// The context itself.
    pub fn context(&self) -> &Context {
        &self.0
    }

    /// What was logged so far, the oldest first.
    pub fn logs(&self) -> Vec<LogRecord> {
        self.0.surroundings.logs.borrow().clone()
    }

    /// The progress reported so far, the oldest first.
    pub fn progress(&self) -> Vec<ProgressReport> {
        self.0.surroundings.progress.borrow().clone()
    }

    /// The sum of the tokens accounted for so far.
    pub fn tokens(&self) -> Tokens {
        self.0.surroundings.tokens.get()
    }

    /// What was attached to the answer so far.
    pub fn attached(&self) -> Vec<Attachment> {
        self.0.attached.borrow().clone()
    }
}

impl Default for TestContext {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for TestContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
}

/// One record that a tool logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// How important it is.
    pub level: Level,
    /// What it says.
    pub message: String,
}

/// One report of progress.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressReport {
    /// From 0 to 100, or `None` where unknown.
    pub percent: Option<f64>,
    /// A few words for a person.
    pub step: String,
    /// Details for a program.
    pub details: Option<Value>,
}

/// A request that a tool sent.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRequest {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A count of language-model tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens sent to a model.
    pub input: u64,
    /// Tokens that a model answered with.
    pub output: u64,
}

/// What a context talks to where there is no host.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// `None` where it is beyond what the clock can say.
    deadline: Option<Instant>,
    config: BTreeMap<String, String>,
    logs: RefCell<Vec<LogRecord>>,
    progress: RefCell<Vec<ProgressReport>>,
    tokens: Cell<Tokens>,
    /// `None` where no storage is granted.
    kept: RefCell<Option<BTreeMap<String, Vec<u8>>>>,
    #[cfg(feature = "http")]
    answers: RefCell<Answers>,
    #[cfg(feature = "http")]
    requests: RefCell<Vec<SentRequest>>,
}

/// What each method and URL is answered, in order.
#[cfg(feature = "http")]
type Answers = BTreeMap<
    (String, String),
    std::collections::VecDeque<Result<crate::http::Response, crate::http::HttpError>>,
>;

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            deadline: Instant::now().checked_add(Duration::from_secs(60)),
            config: BTreeMap::new(),
            logs: RefCell::default(),
            progress: RefCell::default(),
            tokens: Cell::default(),
            kept: RefCell::new(Some(BTreeMap::new())),
            #[cfg(feature = "http")]
            answers: RefCell::default(),
            #[cfg(feature = "http")]
            requests: RefCell::default(),
        }
    }
}

impl Surroundings {
    #[cfg(feature = "http")]
    pub(crate) fn fetch(
        &self,
        hop: &crate::http::Hop,
    ) -> Result<crate::http::Response, crate::http::HttpError> {
        use crate::http::HttpError;
        self.requests.borrow_mut().push(SentRequest {
            method: hop.method.clone(),
            url: hop.url.to_string(),
            headers: hop.headers.clone(),
            body: hop.body.clone(),
        });
        let mut answers = self.answers.borrow_mut();
        let given = answers.get_mut(&(hop.method.clone(), hop.url.to_string()));
        let answer = match given {
            Some(given) if given.len() > 1 => given.pop_front(),
            Some(given) => given.front().cloned(),
            None => None,
        };
        let answer = answer.unwrap_or_else(|| {
            Err(HttpError::Denied {
                request: format!("{} {}", hop.method, hop.url),
                reason: "the test gives no answer to it",
            })
        })?;
        if answer.bytes().len() as u64 > hop.max_bytes {
            return Err(HttpError::TooLarge {
                most: hop.max_bytes,
            });
        }
        Ok(answer)
    }

    pub(crate) fn time_left(&self) -> Duration {
        match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        }
    }

    pub(crate) fn log(&self, level: Level, message: String) {
        self.logs.borrow_mut().push(LogRecord { level, message });
    }

    pub(crate) fn progress(&self, percent: Option<f64>, step: String, details: Option<String>) {
        let details = details.and_then(|json| serde_json::from_str(&json).ok());
        self.progress.borrow_mut().push(ProgressReport {
            percent,
            step,
            details,
        });
    }

    pub(crate) fn add_tokens(&self, input: u64, output: u64) {
        let sum = self.tokens.get();
        self.tokens.set(Tokens {
            input: sum.input.saturating_add(input),
            output: sum.output.saturating_add(output),
        });
    }

    pub(crate) fn config(&self, key: &str) -> Result<Option<String>, String> {
        Ok(self.config.get(key).cloned())
    }

    fn with_kept<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self.kept.borrow_mut().as_mut() {
            Some(kept) => work(kept),
            None => Err(StorageError::Denied),
        }
    }

    pub(crate) fn get_kept(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        check_key(key)?;
        self.with_kept(|kept| Ok(kept.get(key).cloned()))
    }

    pub(crate) fn keep(&self, key: &str, value: &[u8]) -> Result<(), StorageError> {
        check_key(key)?;
        self.with_kept(|kept| {
            kept.insert(key.to_owned(), value.to_vec());
            Ok(())
        })
    }

    pub(crate) fn delete_kept(&self, key: &str) -> Result<(), StorageError> {
        check_key(key)?;
        self.with_kept(|kept| {
            kept.remove(key);
            Ok(())
        })
    }

    pub(crate) fn kept_keys(&self) -> Result<Vec<String>, StorageError> {
        self.with_kept(|kept| Ok(kept.keys().cloned().collect()))
    }

    pub(crate) fn get_many_kept(
        &self,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        if keys.len() > 1_000 {
            let reason = format!(
                "one call may name 1000 keys, and this one names {}",
                keys.len()
            );
            return Err(StorageError::Failed { reason });
        }
        keys.iter().map(|key| self.get_kept(key)).collect()
    }

    pub(crate) fn increment_kept(&self, key: &str, delta: i64) -> Result<i64, StorageError> {
        let failed = |reason: &str| StorageError::Failed {
            reason: reason.to_owned(),
        };
        let before = match self.get_kept(key)? {
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| failed("the value is no whole number"))?,
            None => 0_i64,
        };
        let sum = before
            .checked_add(delta)
            .ok_or_else(|| failed("the sum is too large for a number of 64 bits"))?;
        self.keep(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    pub(crate) fn update_kept(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<(), StorageError> {
        let value = change(self.get_kept(key)?);
        self.keep(key, &value)
    }
}

fn check_key(key: &str) -> Result<(), StorageError> {
    match key.len() {
        1..=1_024 => Ok(()),
        _ => Err(StorageError::Failed {
            reason: "the key is empty, or longer than 1024 bytes".to_owned(),
        }),
    }
}
