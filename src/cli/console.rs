//! What the user sees: standard error for people, standard output for results.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use skillhost::text::printable;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::log::{Printable, Warnings};
use super::repeated::in_text;

/// An error's label.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// A warning's label.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// A hint's label.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// Something went well.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// A heading, or the name of the thing at hand.
pub const BOLD: Style = Style::new().bold();
/// The name of a field.
pub const NAME: Style = AnsiColor::Cyan.on_default();
/// What may be skipped.
pub const DIM: Style = Style::new().dimmed();

/// A text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// What says that a chain of the audit is damaged.
const AUDIT: &str = "skillhost::audit::take";

/// How much is said, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// Only errors and results.
    pub quiet: bool,
    /// How many `-v` there were.
    pub verbose: u8,
    /// Whether a person reads standard output.
    pub stdout_terminal: bool,
    /// Whether a person reads standard error.
    pub stderr_terminal: bool,
}

impl Console {
    /// Looks at where the output goes.
    pub fn new(quiet: bool, verbose: u8) -> Self {
        Console {
            quiet,
            verbose,
            stdout_terminal: io::stdout().is_terminal(),
            stderr_terminal: io::stderr().is_terminal(),
        }
    }

    /// Shows the host's own log on standard error: the more of it the more often `-v` was given, and its warnings where
    /// somebody is `served`, who does not see them. That the audit is damaged is told by every command that writes it.
    pub fn follow_logs(self, served: bool) {
        let filter = match self.verbose {
            0 if self.quiet => return,
            0 => return self.warn_of(if served { "skillhost" } else { AUDIT }),
            1 => "skillhost=debug",
            2 => "skillhost=trace,info",
            // The engine's finest is hundreds of lines of addresses, and what clients send and are answered stands in
            // the protocol's own records.
            _ => "skillhost=trace,debug,rmcp=info",
        };
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(stderr)
            // Where they are not wanted, they are left out on the way.
            .with_ansi(true)
            .fmt_fields(Printable)
            .without_time()
            .init();
    }

    /// Says what this part of the host warns of.
    fn warn_of(self, part: &str) {
        let warnings = tracing_subscriber::fmt::layer()
            .with_writer(stderr)
            // Where they are not wanted, they are left out on the way.
            .with_ansi(true)
            .fmt_fields(Printable)
            .event_format(Warnings)
            .with_filter(Targets::new().with_target(part, LevelFilter::WARN));
        tracing_subscriber::registry().with(warnings).init();
    }

    /// How many columns of text standard output should have.
    pub fn width(self) -> usize {
        const WIDEST: usize = 100;
        if !self.stdout_terminal {
            return WIDEST;
        }
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col >= 40 => usize::from(size.ws_col).min(WIDEST),
            _ => WIDEST,
        }
    }

    /// A line on standard error, unless `-q` was given.
    pub fn note(self, line: impl Display) {
        if !self.quiet {
            say(line);
        }
    }

    /// A warning on standard error, unless `-q` was given.
    pub fn warn(self, line: impl Display) {
        if !self.quiet {
            say(format_args!("{}: {line}", styled(WARNING, "warning")));
        }
    }
}

fn stderr() -> impl io::Write {
    anstream::stderr()
}

/// A line on standard error. Nobody can be told where it cannot be written, so then it is lost.
pub fn say(line: impl Display) {
    let line = line.to_string();
    let _ = writeln!(anstream::stderr().lock(), "{}", in_text(&line));
}

/// Text of our own on standard output, with colours on a terminal.
///
/// # Errors
/// Where it cannot be written. That nobody reads any further is no error.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    gone_is_fine(write!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// A script on standard output, byte for byte.
///
/// # Errors
/// As [`print()`].
pub fn print_script(script: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    gone_is_fine(stdout.write_all(script).and_then(|()| stdout.flush()))
}

/// Data on standard output, as it is; on a terminal with control characters shown as escapes. A
/// newline is added where the text does not end with one.
///
/// # Errors
/// As [`print()`].
pub fn print_data(console: Console, text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let shown = if console.stdout_terminal {
        printable(text, true)
    } else {
        text.into()
    };
    let end: &[u8] = if shown.ends_with('\n') { b"" } else { b"\n" };
    gone_is_fine(
        stdout
            .write_all(shown.as_bytes())
            .and_then(|()| stdout.write_all(end))
            .and_then(|()| stdout.flush()),
    )
}

/// A value as JSON on standard output: pretty for a person, on one line for a program.
///
/// # Errors
/// As [`print()`].
pub fn print_json(console: Console, value: &impl serde::Serialize) -> io::Result<()> {
    let text = if console.stdout_terminal {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    print_data(console, &text.map_err(io::Error::from)?)
}

/// What could not be done, with the system's reason behind it.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct Unwritten(#[source] io::Error);

/// Whoever reads may stop at any time: `skillhost list | head -1` is no failure.
fn gone_is_fine(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| io::Error::new(error.kind(), Unwritten(error))),
    }
}
