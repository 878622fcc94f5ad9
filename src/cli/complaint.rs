//! Errors as the user reads them: what happened, why, and what to do.

use std::fmt;

use skillhost::text::printable;
use skillhost::{Fault, ResourceUsage};

use super::console::{ERROR, HINT, say, styled};
use super::exit::Exit;

/// An error with its exit code, and with hints.
#[derive(Debug)]
pub struct Complaint {
    /// The code that the command ends with.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// More about it, a line each.
    pub details: Vec<String>,
    /// What to do about it.
    pub hints: Vec<String>,
    /// Of a skill that cannot be found or loaded: whose fault that is, and what was spent on it.
    pub spent: Option<Box<(Fault, ResourceUsage)>>,
}

impl Complaint {
    /// An error with nothing more to it.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Complaint {
            exit,
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
            spent: None,
        }
    }

    /// A wrong argument.
    pub fn usage(message: impl Into<String>) -> Self {
        Complaint::new(Exit::Usage, message)
    }

    /// A skill that cannot be found, built or loaded.
    pub fn not_loaded(message: impl Into<String>) -> Self {
        Complaint::new(Exit::NotLoaded, message)
    }

    /// Adds a line.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Says whose fault it is, and what was spent.
    pub fn spent(mut self, fault: Fault, usage: ResourceUsage) -> Self {
        self.spent = Some(Box::new((fault, usage)));
        self
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Complaint {}

/// Says what went wrong, and gives the exit code for it: that of the [`Complaint`] in it, else that
/// of a broken host.
pub fn report(error: &anyhow::Error) -> Exit {
    let complaint = error.downcast_ref::<Complaint>();
    let mut lines = error.chain().map(ToString::to_string);
    let message = lines.next().unwrap_or_default();
    show_error(&message);
    for cause in lines {
        say(format_args!("  caused by: {}", indented(&cause)));
    }
    let Some(complaint) = complaint else {
        return Exit::Host;
    };
    for detail in &complaint.details {
        // All of a detail is set in alike: what is on one line of it may point at another.
        let detail = printable(detail.trim_end(), true).replace('\n', "\n  ");
        say(format_args!("  {detail}"));
    }
    for hint in &complaint.hints {
        show_hint(hint);
    }
    complaint.exit
}

/// The line that says what happened.
pub fn show_error(message: &str) {
    say(format_args!(
        "{}: {}",
        styled(ERROR, "error"),
        indented(message)
    ));
}

/// A line that says what to do.
pub fn show_hint(hint: &str) {
    say(format_args!("{}: {}", styled(HINT, "hint"), indented(hint)));
}

/// A text that may come from anywhere, its further lines set in further than ours are, so that none looks like one.
fn indented(text: &str) -> String {
    printable(text.trim_end(), true).replace('\n', "\n    ")
}
