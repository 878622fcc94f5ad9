//! What a running skill says, shown while it runs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use skillhost::text::printable;
use skillhost::{Event, Level, Observer, Progress};
use uuid::Uuid;

use crate::cli::console::{Console, DIM, ERROR, WARNING, say, styled};

/// Shows log records and progress on standard error. Everything that a skill says stands behind
/// its name in brackets, so that no line of its can be taken for one of ours.
pub struct View {
    console: Console,
    label: String,
    bar: Mutex<Option<ProgressBar>>,
}

impl View {
    /// A view of a skill of this name.
    pub fn new(console: Console, name: &str) -> Self {
        View {
            console,
            label: styled(DIM, format_args!("[{}]", printable(name, false))),
            bar: Mutex::new(None),
        }
    }

    /// Lines that a skill wrote to one of its streams.
    pub fn stream(&self, stream: &str, text: &str) {
        if !self.console.quiet {
            self.lines(&styled(DIM, stream), text.trim_matches('\n'));
        }
    }

    fn log(&self, level: Level, message: &str) {
        let least = match self.console.verbose {
            0 => Level::Info,
            1 => Level::Debug,
            _ => Level::Trace,
        };
        if self.console.quiet || level < least {
            return;
        }
        let name = level.as_str();
        let kind = match level {
            Level::Error => styled(ERROR, name),
            Level::Warn => styled(WARNING, name),
            _ => styled(DIM, name),
        };
        self.lines(&kind, message);
    }

    fn lines(&self, kind: &str, text: &str) {
        let write = || {
            for line in text.lines() {
                say(format_args!(
                    "{} {kind}: {}",
                    self.label,
                    printable(line, false)
                ));
            }
        };
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn progress(&self, progress: &Progress<'_>) {
        if self.console.quiet || !self.console.stderr_terminal {
            return;
        }
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = bar.is_none();
        let bar = bar.get_or_insert_with(|| {
            // Not seen before it looks as it should: whatever is set of one that is seen draws it.
            ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::hidden())
        });
        let template = match progress.percent {
            Some(_) => "{bar:24} {percent:>3}% {wide_msg}",
            None => "{spinner} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(printable(&progress.step, false).into_owned());
        if let Some(percent) = progress.percent {
            // A skill may report anything; a cast takes what is no number for 0.
            bar.set_position((percent.clamp(0.0, 100.0) * 10.0) as u64);
        }
        if is_new {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(100));
        }
    }

    fn clear(&self) {
        let bar = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for View {
    fn observe(&self, _: Uuid, event: &Event<'_>) {
        match event {
            Event::Log { level, message } => self.log(*level, message),
            Event::Progress(progress) => self.progress(progress),
            Event::Denied { denial } if self.console.verbose > 0 => {
                self.lines(&styled(DIM, "denied"), &denial.to_string());
            }
            Event::Finished { .. } => self.clear(),
            _ => {}
        }
    }
}
