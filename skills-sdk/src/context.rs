use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Attachment, Failure, Storage};

#[cfg(target_arch = "wasm32")]
use crate::guest::Surroundings;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::Surroundings;

/// How important a log record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What went on.
    Info,
    /// Something is not as it should be; the execution goes on.
    Warn,
    /// Something failed.
    Error,
}

/// The execution at hand: what the host tells about it, and what a tool may
/// tell the host.
///
/// A tool gets one by taking an argument of the type `&Context`; a test makes
/// one with `skills_sdk::testing::TestContext`. Nothing here costs a call to
/// the host before it is used.
#[derive(Debug)]
pub struct Context {
    pub(crate) request_id: String,
    pub(crate) attempt: u32,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) attached: RefCell<Vec<Attachment>>,
    pub(crate) surroundings: Surroundings,
}

impl Context {
    pub(crate) fn new(
        request_id: String,
        attempt: u32,
        attachments: Vec<Attachment>,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            request_id,
            attempt,
            attachments,
            attached: RefCell::default(),
            surroundings,
        }
    }

    /// Writes a log record. Past the execution's limit records are dropped and
    /// counted; the execution goes on.
    pub fn log(&self, level: Level, message: impl Display) {
        self.surroundings.log(level, message.to_string());
    }

    /// Writes a log record of the level [`Level::Trace`].
    pub fn trace(&self, message: impl Display) {
        self.log(Level::Trace, message);
    }

    /// Writes a log record of the level [`Level::Debug`].
    pub fn debug(&self, message: impl Display) {
        self.log(Level::Debug, message);
    }

    /// Writes a log record of the level [`Level::Info`].
    pub fn info(&self, message: impl Display) {
        self.log(Level::Info, message);
    }

    /// Writes a log record of the level [`Level::Warn`].
    pub fn warn(&self, message: impl Display) {
        self.log(Level::Warn, message);
    }

    /// Writes a log record of the level [`Level::Error`].
    pub fn error(&self, message: impl Display) {
        self.log(Level::Error, message);
    }

    /// Tells whoever waits how far the execution has come: from 0 to 100
    /// percent, or `None` where that is not known, and a few words for a
    /// person. Past the execution's limit reports are dropped and counted.
    ///
    /// ```
    /// # let context = skills_sdk::testing::TestContext::new();
    /// context.context().progress(50.0, "half of the pages read");
    /// context.context().progress(None, "waiting for the server");
    /// ```
    pub fn progress(&self, percent: impl Into<Option<f64>>, step: impl Display) {
        self.surroundings
            .progress(percent.into(), step.to_string(), None);
    }

    /// Like [`progress`](Self::progress), with details for a program. Details
    /// that have no JSON form are left out.
    pub fn progress_with(
        &self,
        percent: impl Into<Option<f64>>,
        step: impl Display,
        details: &(impl Serialize + ?Sized),
    ) {
        let details = serde_json::to_string(details).ok();
        self.surroundings
            .progress(percent.into(), step.to_string(), details);
    }

    /// Adds to the execution's count of language-model tokens used.
    pub fn add_tokens(&self, input: u64, output: u64) {
        self.surroundings.add_tokens(input, output);
    }

    /// The configured value of `key`, or `None` where it is not set.
    ///
    /// # Errors
    /// An error with the code `config-unavailable` where the host cannot read
    /// its configuration.
    pub fn config(&self, key: &str) -> Result<Option<String>, Failure> {
        self.surroundings.config(key).map_err(|reason| {
            Failure::error(format_args!("configuration `{key}`: {reason}"))
                .code("config-unavailable")
        })
    }

    /// The configured value of `key`, parsed, or `None` where it is not set.
    ///
    /// ```
    /// # use skills_sdk::prelude::*;
    /// # fn run(ctx: &Context) -> Result<(), Failure> {
    /// let width: u32 = ctx.config_as("width")?.unwrap_or(80);
    /// # Ok(()) }
    /// # run(skills_sdk::testing::TestContext::new().context()).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`config`](Self::config), and an error with the code
    /// `config-invalid` where the value does not parse. The message names the
    /// key and never the value, which may be a secret.
    pub fn config_as<T>(&self, key: &str) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(value) = self.config(key)? else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|reason| {
            Failure::error(format_args!("configuration `{key}`: {reason}")).code("config-invalid")
        })
    }

    /// What the skill keeps from one execution to the next.
    pub fn storage(&self) -> Storage<'_> {
        Storage::new(self)
    }

    /// The attachments that came with the input.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// The first attachment of that name that came with the input.
    pub fn attachment(&self, name: &str) -> Option<&Attachment> {
        self.attachments.iter().find(|a| a.name == name)
    }

    /// Adds an attachment to the answer. A tool that fails answers without.
    pub fn attach(&self, attachment: Attachment) {
        self.attached.borrow_mut().push(attachment);
    }

    /// The request's id, the same on every attempt at it. Where the host has the clocks stand still, or the random
    /// numbers come from a seed, it is made from the request, so that a run can be repeated.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Which attempt this is, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How long the execution may still take; zero once the
    /// [deadline](Self::deadline) has passed. Asks the host.
    pub fn time_left(&self) -> Duration {
        self.surroundings.time_left()
    }

    /// When the host stops the execution, without asking. Asks the host, and reads
    /// the clock.
    pub fn deadline(&self) -> Instant {
        // A limit too long for the clock is no limit within a lifetime.
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        Instant::now() + self.time_left().min(century)
    }

    /// Takes out what the tool attached to its answer.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn take_attached(&self) -> Vec<Attachment> {
        self.attached.take()
    }
}
