//! Exit codes.

use std::process::ExitCode;

use skillhost::{Cause, Failure, Status};

/// How the command ends. The codes are a promise: scripts go by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success = 0,
    /// The skill failed: it said so, trapped, or answered with what it must not.
    SkillFailure = 1,
    /// The arguments or the input are wrong, or the policy file cannot be used.
    Usage = 2,
    /// The request was not admitted.
    Rejected = 3,
    /// The skill met a limit.
    Limit = 4,
    /// The time was up.
    Timeout = 5,
    /// The skill could not be found, built or loaded.
    NotLoaded = 6,
    /// The self-test found something that does not hold, or the audit is not as it was written.
    Unsound = 7,
    /// The host itself failed, or could not write the output.
    Host = 70,
    /// Ctrl-C.
    Cancelled = 130,
    /// SIGTERM or SIGHUP, to what is cancelled by it.
    Terminated = 143,
}

/// The codes, as they stand in the help.
pub const CODES: &str = "\
Exit codes:
    0  success
    1  the skill failed: an error of its own, a trap, an output that does not
       fit
    2  usage error: a wrong argument, an unknown tool, an input that does not
       fit, a policy file that cannot be used, a name or a port that is taken
    3  rejected: not admitted, such as for a grant that the skill does not
       declare, or a digest that is not confirmed
    4  a limit other than time was met
    5  the time was up
    6  the skill cannot be found, built or loaded
    7  `doctor` found something that does not hold, or `audit verify` a line
       that was changed
   70  the host itself failed, or could not write the output
  130  cancelled with Ctrl-C
  143  cancelled with SIGTERM or SIGHUP";

impl Exit {
    /// The exit code for how an execution ended.
    pub fn of(status: Status, failure: Option<&Failure>) -> Self {
        match (status, failure.map(|failure| &failure.cause)) {
            (Status::Success, _) => Exit::Success,
            (Status::Failed, Some(Cause::InvalidInput { .. } | Cause::UnknownTool { .. })) => {
                Exit::Usage
            }
            (Status::Failed, Some(Cause::NotLoaded)) => Exit::NotLoaded,
            (Status::Failed, Some(Cause::HostPanic)) => Exit::Host,
            (Status::Failed, _) => Exit::SkillFailure,
            (Status::Timeout, _) => Exit::Timeout,
            (Status::Cancelled, _) => Exit::Cancelled,
            (Status::Rejected, _) => Exit::Rejected,
            (Status::ResourceExhausted, _) => Exit::Limit,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help() {
        for exit in [
            Exit::Success,
            Exit::SkillFailure,
            Exit::Usage,
            Exit::Rejected,
            Exit::Limit,
            Exit::Timeout,
            Exit::NotLoaded,
            Exit::Unsound,
            Exit::Host,
            Exit::Cancelled,
            Exit::Terminated,
        ] {
            let line = format!("\n{:>5}  ", exit as u8);
            assert!(CODES.contains(&line), "{exit:?}");
        }
    }

    #[test]
    fn wrong_input_is_a_usage_error_whoever_found_it() {
        let failure = Failure::new(
            Cause::InvalidInput {
                pointer: "/a".into(),
            },
            "no",
        );
        assert_eq!(Exit::of(Status::Failed, Some(&failure)), Exit::Usage);
        assert_eq!(Exit::of(Status::Failed, None), Exit::SkillFailure);
    }
}
