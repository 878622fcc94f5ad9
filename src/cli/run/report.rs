//! What became of a run: its output, its failure, and what it cost.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;
use skillhost::execution::{Clamped, Frame, Rejection};
use skillhost::grant::{Capability, Denial, DirectoryGrant, for_this_run, shell_word};
use skillhost::limits::{Limit, display_bytes, grouped};
use skillhost::text::{named, printable};
use skillhost::usage::ResourceUsage;
use skillhost::{Attachment, Cause, ExecutionResult, Failure, LimitOverrides, Limits, Status};

use super::attachments::Outgoing;
use super::backtrace;
use super::view::View;
use crate::cli::complaint::{Complaint, show_error, show_hint};
use crate::cli::console::{Console, ERROR, GOOD, print_data, print_json, say, styled};
use crate::cli::exit::Exit;
use crate::cli::jobs::of_own;
use crate::cli::units;

/// How a run is to be shown.
pub struct Report<'a> {
    /// Where to.
    pub console: Console,
    /// Whether a program reads the result.
    pub json: bool,
    /// Where attachments go.
    pub out: Option<&'a Path>,
    /// What was typed for the skill.
    pub typed: &'a Path,
    /// The policy that it ran under, where that is known.
    pub policy: Option<&'a Path>,
    /// The limits that were asked for: that the host allows less was said before it ran.
    pub asked: LimitOverrides,
    /// Whether what was refused was told as it came.
    pub denials_told: bool,
    /// Hints for where the input does not fit.
    pub input_hints: &'a [String],
    /// The folders that were granted for this run, before what is granted for good.
    pub own: &'a [DirectoryGrant],
    /// Whether they are a job's, which keeps what it was submitted with.
    pub is_job: bool,
}

impl Report<'_> {
    /// Shows everything, and gives the exit code.
    ///
    /// # Errors
    /// Where the output or an attachment cannot be written.
    pub fn show(&self, result: &ExecutionResult, view: &View) -> anyhow::Result<Exit> {
        view.stream("stdout", &result.stdout);
        view.stream("stderr", &result.stderr);
        let printed = match &result.output {
            _ if self.json => print_json(self.console, result),
            Some(Value::String(text)) => print_data(self.console, text),
            Some(output) => print_json(self.console, output),
            None => Ok(()),
        };
        let written = self.write_attachments(&result.attachments);
        if let Some(failure) = &result.failure {
            self.failure(failure, !result.usage.wall_time.is_zero());
        }
        self.clamped(&result.clamped);
        self.dropped(&result.usage);
        self.console.note(cost(result));
        if self.console.verbose > 0 {
            self.console.note(details(&result.usage));
        }
        printed?;
        written?;
        Ok(Exit::of(result.status, result.failure.as_ref()))
    }

    fn write_attachments(&self, attached: &[Attachment]) -> Result<(), Complaint> {
        let Some(folder) = self.out else {
            // In JSON they are part of the result.
            if !attached.is_empty() && !self.json {
                let bytes = attached.iter().map(|one| one.data.len() as u64).sum();
                let many = if attached.len() == 1 { "" } else { "s" };
                self.console.warn(format_args!(
                    "{} attachment{many} of {} not written: {}",
                    attached.len(),
                    display_bytes(bytes),
                    names(attached)
                ));
                if !self.console.quiet {
                    show_hint("name a folder to write to: --out DIR");
                }
            }
            return Ok(());
        };
        let mut outgoing = Outgoing::new(folder);
        for attachment in attached {
            let path = outgoing.write(attachment).map_err(|error| {
                let exit = match error.kind() {
                    // However it came to that, another folder will do.
                    ErrorKind::AlreadyExists => Exit::Usage,
                    _ => Exit::Host,
                };
                let message = format!(
                    "cannot write an attachment to `{}`: {error}",
                    folder.display()
                );
                Complaint::new(exit, message).hint("name another folder: --out DIR")
            })?;
            self.console.note(format_args!(
                "wrote {} ({}, {})",
                printable(&path.to_string_lossy(), false),
                display_bytes(attachment.data.len() as u64),
                printable(&attachment.media_type, false)
            ));
        }
        Ok(())
    }

    /// `ran`: whether it came to run.
    fn failure(&self, failure: &Failure, ran: bool) {
        show_error(&failure.message);
        match &failure.cause {
            Cause::SkillError { code, details, .. } => {
                if let Some(code) = code {
                    say(format_args!("  code: {}", printable(code, false)));
                }
                if let Some(details) = details {
                    let text = details.to_string();
                    say(format_args!("  details: {}", printable(&text, false)));
                }
            }
            Cause::Trap { backtrace, .. } | Cause::ResourceExhausted { backtrace, .. } => {
                self.backtrace(backtrace);
            }
            _ => {}
        }
        // Of a rejection the message has them.
        if !self.denials_told && !matches!(failure.cause, Cause::Rejected { .. }) {
            for denial in &failure.denials {
                let denial = denial.to_string();
                say(format_args!("  denied: {}", printable(&denial, false)));
            }
        }
        for hint in self.hints(failure, ran) {
            show_hint(&hint);
        }
    }

    fn backtrace(&self, frames: &[Frame]) {
        let lines = backtrace::lines(frames, self.console.verbose > 0);
        if !lines.is_empty() {
            say("  in the skill, innermost first:");
        }
        for line in lines {
            say(format_args!("    {line}"));
        }
    }

    fn hints(&self, failure: &Failure, ran: bool) -> Vec<String> {
        let mut hints = Vec::new();
        match &failure.cause {
            Cause::ResourceExhausted { limit, .. } | Cause::Timeout { limit, .. } => {
                hints.extend(self.of_limit(*limit, failure));
            }
            _ if !failure.denials.is_empty() => {
                hints.extend(failure.denials.iter().map(|denial| self.of_denial(denial)));
                hints.dedup();
            }
            Cause::InvalidInput { .. } => {
                hints.extend(failure.hint.clone());
                hints.extend_from_slice(self.input_hints);
                // What the skill itself says of its input is no matter of its schema.
                if hints.is_empty() && !ran {
                    hints.push(format!(
                        "`skillhost inspect {}` shows what the tool takes",
                        shell_word(&self.typed.to_string_lossy())
                    ));
                }
            }
            Cause::UnknownTool { .. } => {
                hints.extend(failure.hint.clone());
                hints.extend_from_slice(self.input_hints);
            }
            Cause::SkillError {
                retryable: true,
                retry_after_ms: Some(milliseconds),
                ..
            } => {
                let delay = std::time::Duration::from_millis(*milliseconds);
                hints.push(format!(
                    "the skill says that trying again after {} may help",
                    units::duration(delay)
                ));
            }
            _ => {
                hints.extend(failure.hint.clone());
                hints.extend(self.policy.and_then(|policy| denied_in(failure, policy)));
            }
        }
        // What was refused while it ran is more to the point than what might be missing.
        if failure.denials.is_empty() {
            for denial in &failure.missing {
                if !hints.iter().any(|hint| denial.is_said_in(hint)) {
                    hints.push(denial.wanted());
                }
            }
        }
        hints
    }

    /// What to do where something was refused. A folder that was granted for this run goes before what is granted for
    /// good.
    fn of_denial(&self, denial: &Denial) -> String {
        if self.is_job {
            return of_own(denial, self.own).unwrap_or_else(|| denial.hint.clone());
        }
        let is_own = denial.capability == Capability::Directory
            && self.own.iter().any(|grant| grant.guest == denial.subject);
        match for_this_run(&denial.hint).filter(|_| is_own) {
            Some(hint) => format!("{hint}, in place of the one that was given"),
            None => denial.hint.clone(),
        }
    }

    /// What to do where a limit was met. Where a ceiling holds it, to ask for more does not help.
    fn of_limit(&self, limit: Limit, failure: &Failure) -> Option<String> {
        if let Some(rule) = &failure.rule {
            let rule = printable(rule, false);
            return Some(match self.policy {
                Some(policy) => format!(
                    "`{rule}` in the policy `{}` allows no more: give it less to do, or raise that",
                    policy.display()
                ),
                None => format!("the policy allows no more, by `{rule}`: give it less to do"),
            });
        }
        let is_most = failure
            .limit()
            .is_some_and(|(limit, allowed)| allowed >= Limits::ceiling().get(limit));
        match raise(limit) {
            _ if is_most => {
                Some("this is the most that this host allows: give it less to do".to_owned())
            }
            Some(flag) => Some(format!(
                "raise the limit with `{flag}`, or give it less to do"
            )),
            None => failure.hint.clone(),
        }
    }

    fn clamped(&self, clamped: &[Clamped]) {
        let is_told =
            |one: &Clamped| one.rule == Clamped::BY_HOST && self.asked.get(one.limit).is_some();
        for one in clamped.iter().filter(|one| !is_told(one)) {
            self.console.warn(clamping(one));
        }
    }

    fn dropped(&self, usage: &ResourceUsage) {
        for (what, limit, bytes) in [
            (
                "standard output",
                "stdout_bytes",
                usage.dropped.stdout_bytes,
            ),
            ("standard error", "stderr_bytes", usage.dropped.stderr_bytes),
            ("log", "log_bytes", usage.dropped.log_bytes),
            (
                "progress reports",
                "progress_bytes",
                usage.dropped.progress_bytes,
            ),
        ] {
            if bytes > 0 {
                self.console.warn(format_args!(
                    "{} of the skill's {what} were dropped, being past the limit; `--limit {limit}=SIZE` \
                     raises it",
                    display_bytes(bytes)
                ));
            }
        }
    }
}

/// Where the rule stands that denies it, if one does.
pub fn denied_in(failure: &Failure, policy: &Path) -> Option<String> {
    let refused = matches!(
        failure.cause,
        Cause::Rejected {
            reason: Rejection::Refused,
            ..
        }
    );
    // With an approval, it was somebody who refused it.
    (refused && failure.rule.is_some() && failure.approval.is_none())
        .then(|| format!("the rule stands in the policy `{}`", policy.display()))
}

/// The flag that raises a limit, of all that take limits.
pub fn raise(limit: Limit) -> Option<&'static str> {
    Some(match limit {
        Limit::Fuel => "--fuel N",
        Limit::Memory => "--memory SIZE",
        Limit::WallTime => "--timeout TIME",
        Limit::Output => "--output-limit SIZE",
        Limit::TableElements => "--limit table_elements=N",
        Limit::Instances => "--limit instances=N",
        Limit::Input => "--limit input_bytes=SIZE",
        Limit::Attachments => "--limit attachment_bytes=SIZE",
        Limit::HostBytes => "--limit host_bytes=SIZE",
        Limit::Handles => "--limit handles=N",
        Limit::OpenFiles => "--limit open_files=N",
        Limit::CreatedFiles => "--limit created_files=N",
        Limit::WriteBytes => "--limit write_bytes=SIZE",
        Limit::Connections => "--limit connections=N",
        Limit::HttpRequestBytes => "--limit http_request_bytes=SIZE",
        Limit::HttpResponseBytes => "--limit http_response_bytes=SIZE",
        Limit::HttpFieldsBytes => "--limit http_fields_bytes=SIZE",
        Limit::SocketSentBytes => "--limit socket_sent_bytes=SIZE",
        Limit::SocketReadBytes => "--limit socket_read_bytes=SIZE",
        Limit::StorageKeys => "--limit storage_keys=N",
        Limit::StorageBytes => "--limit storage_bytes=SIZE",
        Limit::StorageValueBytes => "--limit storage_value_bytes=SIZE",
        Limit::Stack => "--limit stack_bytes=SIZE",
        _ => return None,
    })
}

fn names(attached: &[Attachment]) -> String {
    let mut names: Vec<_> = attached
        .iter()
        .take(5)
        .map(|attachment| named(&attachment.name, 100))
        .collect();
    if attached.len() > names.len() {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// What was asked for, what applies, and why.
pub fn clamping(clamped: &Clamped) -> String {
    let Clamped {
        limit,
        asked,
        allowed,
        rule,
    } = clamped;
    let (asked, allowed) = (limit.asked(*asked), limit.display(*allowed));
    match rule.as_str() {
        Clamped::BY_DEFAULT => format!(
            "{asked}, which the skill's skill.toml has, is more than a skill gets for itself; \
             the most is {allowed}"
        ),
        Clamped::BY_HOST => format!("{asked} is more than this host allows; the most is {allowed}"),
        rule => format!(
            "{asked} is more than `{}` allows; the most is {allowed}",
            printable(rule, false)
        ),
    }
}

/// The line that says what it cost.
fn cost(result: &ExecutionResult) -> String {
    let ExecutionResult { usage, status, .. } = result;
    let mut parts = Vec::new();
    let skill = result.skill.as_ref();
    parts.extend(skill.map(|skill| format!("{} {}", skill.name, skill.version)));
    parts.extend(result.tool.clone());
    if *status != Status::Success {
        parts.push(status.as_str().replace('_', " "));
    }
    if usage.wall_time.is_zero() {
        parts.push("did not run".to_owned());
    } else {
        parts.push(units::duration(usage.wall_time));
        parts.push(format!("{} fuel", units::count(usage.fuel)));
        parts.push(display_bytes(usage.peak_memory_bytes));
        let calls = usage.host_calls;
        parts.push(format!(
            "{} host call{}",
            grouped(calls),
            if calls == 1 { "" } else { "s" }
        ));
    }
    if usage.connections > 0 {
        parts.push(format!(
            "{} sent, {} received",
            display_bytes(usage.http_request_bytes + usage.socket_sent_bytes),
            display_bytes(usage.http_response_bytes + usage.socket_read_bytes)
        ));
    }
    let tokens = usage.tokens;
    if tokens.input > 0 || tokens.output > 0 {
        parts.push(format!(
            "{} + {} tokens",
            grouped(tokens.input),
            grouped(tokens.output)
        ));
    }
    match result.clamped.as_slice() {
        [] => {}
        [one] => parts.push(format!("{} clamped", one.limit.as_str())),
        many => parts.push(format!("{} limits clamped", many.len())),
    }
    let mark = match status {
        Status::Success => styled(GOOD, "✓"),
        _ => styled(ERROR, "✗"),
    };
    format!("{mark} {}", printable(&parts.join(" · "), false))
}

/// The line below it, with `-v`.
fn details(usage: &ResourceUsage) -> String {
    let times = [
        ("cpu", usage.cpu_time),
        ("instantiation", usage.instantiation_time),
        ("run", usage.run_time),
        ("waiting", usage.waiting_time),
        ("loading", usage.compile_time),
    ]
    .map(|(what, time)| format!("{what} {}", units::duration(time)));
    format!(
        "  {} · {} in · {} out",
        times.join(" · "),
        display_bytes(usage.input_bytes),
        display_bytes(usage.output_bytes)
    )
}
