//! Writing down what a person does.

use std::sync::Arc;

use skillhost::audit::{AuditSink, Entry};
use skillhost::queue::{Answers, Queue};

use crate::cli::complaint::Complaint;
use crate::cli::console::Console;
use crate::cli::explain;
use crate::cli::guards::user;

/// Where what a person does is written down, if it is.
pub struct Written {
    audit: Option<Arc<dyn AuditSink>>,
    required: bool,
    console: Console,
}

impl Written {
    pub(super) fn new(audit: Option<Arc<dyn AuditSink>>, required: bool, console: Console) -> Self {
        Written {
            audit,
            required,
            console,
        }
    }

    /// Answers for what waits in this queue, each of which is written down.
    pub fn answers(&self, queue: Queue) -> Answers {
        let answers = Answers::new(queue).caller(user());
        match &self.audit {
            Some(audit) => answers.audit(Arc::clone(audit), self.required),
            None => answers,
        }
    }

    /// Whether something may be done now: not where it must be written down and cannot be.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), Complaint> {
        match &self.audit {
            Some(audit) if self.required => audit.ready().map_err(|error| explain::audit(&error)),
            _ => Ok(()),
        }
    }

    /// Writes down what was done. Where that fails and need not be, it is said, and no more than that.
    ///
    /// # Errors
    /// Where it must be.
    pub fn record(&self, entry: &Entry<'_>) -> Result<(), Complaint> {
        let Some(audit) = &self.audit else {
            return Ok(());
        };
        match audit.record(entry) {
            Ok(()) => Ok(()),
            Err(error) if self.required => {
                let complaint = explain::audit(&error);
                let message = format!("it is done, and not in the audit: {}", complaint.message);
                Err(Complaint {
                    message,
                    ..complaint
                })
            }
            Err(error) => {
                let what = entry.what.kind();
                self.console
                    .warn(format_args!("`{what}` is not in the audit: {error}"));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use skillhost::audit::{AuditError, What, Who};

    use super::*;
    use crate::cli::exit::Exit;

    /// An audit on a disk that is full.
    struct Full;

    impl AuditSink for Full {
        fn record(&self, _: &Entry<'_>) -> Result<(), AuditError> {
            Err(AuditError::Full("/audit".into()))
        }

        fn ready(&self) -> Result<(), AuditError> {
            Err(AuditError::Full("/audit".into()))
        }
    }

    #[test]
    fn what_need_not_be_written_down_is_done_all_the_same() {
        let entry = Entry {
            who: Who::default(),
            what: What::Breaker {
                of: "x",
                from: "closed",
                to: "open",
            },
        };
        let written = |required| {
            let console = Console::new(true, 0);
            Written::new(Some(Arc::new(Full)), required, console)
        };
        assert!(written(false).ready().is_ok());
        assert!(written(false).record(&entry).is_ok());
        assert!(written(true).ready().is_err());
        let complaint = written(true).record(&entry).unwrap_err();
        assert_eq!(complaint.exit, Exit::Host);
        assert!(
            complaint
                .message
                .starts_with("it is done, and not in the audit")
        );
    }
}
