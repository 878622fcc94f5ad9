//! The host's own log, of which a stranger's text moves no cursor and forges no line, whoever logs it.

use std::error::Error;
use std::fmt;

use skillhost::text::printable;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::{MakeVisitor, VisitFmt, VisitOutput};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::console::{DIM, ERROR, WARNING};
use super::repeated::in_text;

/// Says the host's warnings as the command says its own.
pub struct Warnings;

impl<S, N> FormatEvent<S, N> for Warnings
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (style, label) = match *event.metadata().level() {
            Level::ERROR => (ERROR, "error"),
            _ => (WARNING, "warning"),
        };
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "{style}{label}{style:#}: {}", in_text(&text))
    }
}

/// Writes fields as `tracing_subscriber` does, but for what nobody could see in them, which is shown as escapes.
pub struct Printable;

/// The fields of one event, or of one span.
pub struct Fields<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl<'w> MakeVisitor<Writer<'w>> for Printable {
    type Visitor = Fields<'w>;

    fn make_visitor(&self, writer: Writer<'w>) -> Fields<'w> {
        Fields {
            writer,
            is_first: true,
            result: Ok(()),
        }
    }
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        let value = printable(value, false);
        let name = name.strip_prefix("r#").unwrap_or(name);
        match name {
            "message" => self.writer.write_str(&value),
            _ if self.writer.has_ansi_escapes() => {
                write!(self.writer, "{DIM}{name}={DIM:#}{value}")
            }
            _ => write!(self.writer, "{name}={value}"),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    /// With what it comes from.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut told = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            told.push_str(": ");
            told.push_str(&error.to_string());
            source = error.source();
        }
        self.record_debug(field, &format_args!("{told}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What the `log` crate says of a record stands before its fields.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field.name(), &format!("{value:?}"));
        }
    }
}

impl VisitOutput<fmt::Result> for Fields<'_> {
    fn finish(self) -> fmt::Result {
        self.result
    }
}

impl VisitFmt for Fields<'_> {
    fn writer(&mut self) -> &mut dyn fmt::Write {
        &mut self.writer
    }
}
