//! What a tool says while it runs, told to the client as it comes.

#![expect(
    deprecated,
    reason = "log records are deprecated in the current revision, and still wanted by clients"
)]

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, ProgressToken,
};
use rmcp::service::{Peer, RoleServer};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::text::{printable, shortened};
use crate::{Event, Level, Observer};

/// How many notes may wait for a client that is slow; further ones are dropped.
const WAITING: usize = 256;
/// How long what is still to be told may hold up the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest text of one note, in bytes.
const MAX_TEXT: usize = 8 << 10;
/// The most percent that are told. That all is done is said by the answer; until then, there may be more to tell.
const NEARLY_ALL: f64 = 99.999;

/// What a client wants to hear of.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub progress: Option<ProgressToken>,
    pub level: Option<LoggingLevel>,
    /// Who is said to speak.
    pub logger: String,
}

enum Note {
    Progress(Option<f64>, String),
    Log(LoggingLevel, String),
}

struct Hear {
    notes: mpsc::Sender<Note>,
    progress: bool,
    level: Option<LoggingLevel>,
}

impl Observer for Hear {
    fn observe(&self, _: Uuid, event: &Event<'_>) {
        let shown = |text: &str| shortened(&printable(text, false), MAX_TEXT).into_owned();
        let note = match event {
            Event::Progress(progress) if self.progress => {
                Note::Progress(progress.percent, shown(&progress.step))
            }
            Event::Log { level, message } => {
                let level = protocol_level(*level);
                if self.level.is_none_or(|least| rank(level) < rank(least)) {
                    return;
                }
                Note::Log(level, shown(message))
            }
            _ => return,
        };
        // A client that does not keep up misses some.
        let _ = self.notes.try_send(note);
    }
}

fn protocol_level(level: Level) -> LoggingLevel {
    match level {
        Level::Trace | Level::Debug => LoggingLevel::Debug,
        Level::Info => LoggingLevel::Info,
        Level::Warn => LoggingLevel::Warning,
        Level::Error => LoggingLevel::Error,
    }
}

/// How severe a level is.
pub(super) fn rank(level: LoggingLevel) -> u8 {
    level as u8
}

/// An observer, and what tells the client of what it hears. `None` where nothing is to be told.
pub(super) fn notify(
    wanted: Wanted,
    peer: Peer<RoleServer>,
) -> Option<(Arc<dyn Observer>, impl Future<Output = ()>)> {
    if wanted.progress.is_none() && wanted.level.is_none() {
        return None;
    }
    let (notes, waiting) = mpsc::channel(WAITING);
    let hear = Hear {
        notes,
        progress: wanted.progress.is_some(),
        level: wanted.level,
    };
    Some((Arc::new(hear), tell(wanted, waiting, peer)))
}

async fn tell(wanted: Wanted, mut notes: mpsc::Receiver<Note>, peer: Peer<RoleServer>) {
    let mut last = 0.0_f64;
    while let Some(note) = notes.recv().await {
        let told = match note {
            Note::Progress(percent, step) => {
                let Some(token) = &wanted.progress else {
                    continue;
                };
                // The protocol wants each to be more than the one before, and none is more than all.
                last = match percent {
                    Some(percent) if percent.min(NEARLY_ALL) > last => percent.min(NEARLY_ALL),
                    _ => last + (100.0 - last) / 1e6,
                };
                let mut note =
                    ProgressNotificationParam::new(token.clone(), last).with_total(100.0);
                if !step.is_empty() {
                    note = note.with_message(step);
                }
                peer.notify_progress(note).await
            }
            Note::Log(level, message) => log(&peer, &wanted.logger, level, message).await,
        };
        if told.is_err() {
            return;
        }
    }
}

async fn log(
    peer: &Peer<RoleServer>,
    logger: &str,
    level: LoggingLevel,
    message: String,
) -> Result<(), rmcp::ServiceError> {
    let note = LoggingMessageNotificationParam::new(level, message.into()).with_logger(logger);
    peer.notify_logging_message(note).await
}

/// Runs something, and tells of it meanwhile. What was said before the end is told before the answer,
/// unless the client is too slow for that.
pub(super) async fn while_telling<T>(
    run: impl Future<Output = T>,
    tell: impl Future<Output = ()>,
) -> T {
    let mut tell = std::pin::pin!(tell);
    let mut run = Box::pin(run);
    tokio::select! {
        biased;
        ended = &mut run => {
            // The observer goes with the run, so this ends once all is told.
            drop(run);
            let _ = tokio::time::timeout(PATIENCE, tell).await;
            ended
        }
        () = &mut tell => run.await,
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    /// However what runs is written: it may hold the observer until it is dropped.
    #[tokio::test(start_paused = true)]
    async fn the_answer_waits_for_nobody_once_all_is_told() {
        let (sender, mut notes) = mpsc::channel(1);
        let run = std::future::poll_fn(move |_| Poll::Ready(sender.try_send(1).is_ok()));
        let mut told = 0;
        let began = tokio::time::Instant::now();
        let tell = async {
            while let Some(note) = notes.recv().await {
                told += note;
            }
        };
        assert!(while_telling(run, tell).await);
        assert_eq!((told, began.elapsed()), (1, Duration::ZERO));
    }

    /// A client that takes nothing holds the answer up for so long.
    #[tokio::test(start_paused = true)]
    async fn the_answer_waits_no_longer_than_that() {
        let began = tokio::time::Instant::now();
        while_telling(std::future::ready(()), std::future::pending()).await;
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
