//! What an entry says.

use serde::Serialize;
use sha2::Digest as _;
use uuid::Uuid;

use super::line::Line;
use crate::execution::{
    Cause, Clamped, ExecutionRequest, ExecutionResult, Failure, Fault, SkillIdentity, Status,
};
use crate::grant::Denial;
use crate::limits::Limits;
use crate::skill::SkillRef;
use crate::usage::ResourceUsage;

/// The longest text of a caller's in an entry, in bytes; more is cut.
const MAX_TEXT: usize = 256;
/// The most denials that an entry names.
const MAX_DENIALS: usize = 20;
/// The most grants that an entry names, and the longest of them, in bytes.
const MAX_GRANTS: usize = 200;
const MAX_GRANT: usize = 512;

/// One entry.
///
/// ```
/// use skillhost::audit::{Entry, Secret, What, Who};
///
/// let who = Who { tenant: Some("acme"), ..Who::default() };
/// let what = What::Secret(Secret { name: "api-key", host: "api.example.com", skill: None });
/// let entry = Entry { who, what };
/// assert_eq!(entry.what.kind(), "secret");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// On whose behalf.
    pub who: Who<'a>,
    /// What happened.
    pub what: What<'a>,
}

/// On whose behalf something happened, and within which request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Who<'a> {
    /// The organisation or account.
    pub tenant: Option<&'a str>,
    /// The person.
    pub user: Option<&'a str>,
    /// The conversation or session.
    pub session: Option<&'a str>,
    /// The request.
    pub request: Option<Uuid>,
    /// Who handed it in: a token's id, a user of the machine.
    pub caller: Option<&'a str>,
    /// The job whose attempt it is.
    pub job: Option<Uuid>,
}

impl<'a> Who<'a> {
    /// Those of a request.
    pub fn of(request: &'a ExecutionRequest) -> Self {
        Who {
            tenant: request.tenant.as_deref(),
            user: request.user.as_deref(),
            session: request.session.as_deref(),
            request: Some(request.request_id),
            ..Who::default()
        }
    }
}

/// The hash of something that is not in the entry itself, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// The size in bytes.
    pub bytes: u64,
}

impl Hashed {
    /// That of a text.
    pub fn of(text: &[u8]) -> Self {
        Hashed {
            sha256: sha2::Sha256::digest(text).into(),
            bytes: text.len() as u64,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum What<'a> {
    /// A request ended, also one that was not admitted.
    Execution {
        /// The input: its JSON text, and the attachments.
        input: Hashed,
        /// The answer, in the same way, where there is one.
        output: Option<Hashed>,
        /// The result.
        result: &'a ExecutionResult,
        /// What was heard of it on the way.
        heard: Heard<'a>,
    },
    /// A request ended because nobody waited for it any more.
    Dropped {
        /// The input, as of an execution.
        input: Hashed,
        /// The skill, where it is known.
        skill: Option<&'a SkillIdentity>,
        /// The tool, where it is known.
        tool: Option<&'a str>,
        /// The limits that it had, where they are known.
        limits: Option<&'a Limits>,
        /// What it had cost by then.
        usage: &'a ResourceUsage,
        /// What was heard of it on the way.
        heard: Heard<'a>,
    },
    /// A request ended because the host itself is broken.
    Broken {
        /// The input, as of an execution.
        input: Hashed,
        /// The skill, where it is known.
        skill: Option<&'a SkillIdentity>,
        /// The tool, where it is known.
        tool: Option<&'a str>,
        /// The limits that it had, where they are known.
        limits: Option<&'a Limits>,
        /// What it had cost by then.
        usage: &'a ResourceUsage,
        /// What was heard of it on the way.
        heard: Heard<'a>,
    },
    /// Somebody is asked whether a request may run.
    ApprovalAsked(Approved<'a>),
    /// Somebody said whether a request may run.
    ApprovalDecided(Decided<'a>),
    /// A grant was given or taken back for good.
    Grant(Change<'a>),
    /// Another policy holds, such as one that was edited by hand: the hash of it, as it is written out.
    Policy(Hashed),
    /// A secret is put into an outgoing request.
    Secret(Secret<'a>),
    /// A breaker opened, closed, or lets a probe through.
    Breaker {
        /// What it is for: a skill's digest, or a host.
        of: &'a str,
        /// The state that it had.
        from: &'a str,
        /// The state that it has.
        to: &'a str,
    },
}

/// What an approval is about.
#[derive(Debug, Clone, Copy)]
pub struct Approved<'a> {
    /// The approval's id.
    pub approval: Uuid,
    /// The skill.
    pub skill: &'a SkillIdentity,
    /// The tool.
    pub tool: &'a str,
    /// What an approval of it is bound to, as hexadecimal digits.
    pub subject: &'a str,
    /// The rule that asks.
    pub rule: &'a str,
}

/// What was heard of an execution on the way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard<'a> {
    /// The skill that was asked for: it stands in the entry where it is not known which one that is.
    pub asked: Option<&'a SkillRef>,
    /// What was refused to the guest, which may have gone on without.
    pub denials: &'a [Denial],
    /// The rule of the policy that let it run, where one did.
    pub allowed_by: Option<&'a str>,
    /// The approval that it ran with.
    pub approval: Option<Uuid>,
    /// The limits that are lower than what it, or its skill, asked for; of one with a result, that says so.
    pub clamped: &'a [Clamped],
}

/// What was said.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'a> {
    /// The approval's id; none where only a job was answered for.
    pub approval: Option<Uuid>,
    /// The job that waited for it.
    pub job: Option<Uuid>,
    /// The skill, where it is known.
    pub skill: Option<&'a SkillIdentity>,
    /// The tool, where it is known.
    pub tool: Option<&'a str>,
    /// The rule that asked, where it is known.
    pub rule: Option<&'a str>,
    /// `approved` or `refused`.
    pub decision: &'a str,
    /// Who said so.
    pub by: Option<&'a str>,
    /// Until when it holds, where it is for a time (RFC 3339).
    pub until: Option<&'a str>,
}

/// How the policy changed.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// `grant`, `confirm` or `revoke`.
    pub action: &'a str,
    /// The skill's name.
    pub skill: &'a str,
    /// Its version, where it was about one: what is taken back is taken from all that have the name.
    pub version: Option<&'a str>,
    /// The digest that it was about, where it was about one.
    pub digest: Option<crate::skill::Digest>,
    /// What: as flags, or as the names that were taken back. Values of configuration keys and
    /// variables are not in it.
    pub grants: &'a [String],
    /// Who did it.
    pub by: Option<&'a str>,
}

/// That a secret was used.
#[derive(Debug, Clone, Copy)]
pub struct Secret<'a> {
    /// Its name. Never its value.
    pub name: &'a str,
    /// To which host it went.
    pub host: &'a str,
    /// For which skill.
    pub skill: Option<&'a SkillIdentity>,
}

impl What<'_> {
    /// The name of the kind, as in the line.
    pub fn kind(&self) -> &'static str {
        match self {
            What::Execution { .. } | What::Dropped { .. } | What::Broken { .. } => "execution",
            What::ApprovalAsked(_) => "approval_asked",
            What::ApprovalDecided(_) => "approval_decided",
            What::Grant(_) => "grant",
            What::Policy(_) => "policy",
            What::Secret(_) => "secret",
            What::Breaker { .. } => "breaker",
        }
    }
}

impl Entry<'_> {
    /// Writes all of it but the time, the number and the hash.
    pub(super) fn write(&self, line: &mut Line) {
        line.field("kind", self.what.kind());
        let Who {
            tenant,
            user,
            session,
            request,
            caller,
            job,
        } = self.who;
        line.text("tenant", tenant, MAX_TEXT);
        line.text("user", user, MAX_TEXT);
        line.text("session", session, MAX_TEXT);
        line.optional("request", request.as_ref());
        line.text("caller", caller, MAX_TEXT);
        line.optional("job", job.as_ref());
        match &self.what {
            What::Execution {
                input,
                output,
                result,
                heard,
            } => {
                heard.write_skill(line, result.skill.as_deref());
                // What a caller asked for, where there is no such tool.
                line.text("tool", result.tool.as_deref(), MAX_TEXT);
                line.hashed("input", input);
                if let Some(output) = output {
                    line.hashed("output", output);
                }
                line.field("outcome", result.status.as_str());
                let failure = result.failure.as_ref();
                if let Some(failure) = failure {
                    failed(line, failure);
                }
                let told = failure.map(|failure| failure.denials.as_slice());
                let told = told.unwrap_or_default();
                denied(line, if told.is_empty() { heard.denials } else { told });
                heard.write(line, failure.and_then(|failure| failure.approval));
                clamped(line, &result.clamped);
                line.limits(&result.limits);
                usage(line, &result.usage);
            }
            What::Dropped {
                input,
                skill: identity,
                tool,
                limits,
                usage: used,
                heard,
            } => {
                heard.write_skill(line, *identity);
                line.text("tool", *tool, MAX_TEXT);
                line.hashed("input", input);
                line.field("outcome", Status::Cancelled.as_str());
                line.field("dropped", &true);
                denied(line, heard.denials);
                heard.write(line, None);
                clamped(line, heard.clamped);
                if let Some(limits) = limits {
                    line.limits(limits);
                }
                usage(line, used);
            }
            What::Broken {
                input,
                skill: identity,
                tool,
                limits,
                usage: used,
                heard,
            } => {
                heard.write_skill(line, *identity);
                line.text("tool", *tool, MAX_TEXT);
                line.hashed("input", input);
                line.field("outcome", Status::Failed.as_str());
                line.field("fault", &Fault::Host);
                line.field("cause", kind(&Cause::HostError));
                denied(line, heard.denials);
                heard.write(line, None);
                clamped(line, heard.clamped);
                if let Some(limits) = limits {
                    line.limits(limits);
                }
                usage(line, used);
            }
            What::ApprovalAsked(asked) => {
                line.field("approval", &asked.approval);
                skill(line, Some(asked.skill));
                line.text("tool", Some(asked.tool), MAX_TEXT);
                line.field("subject", asked.subject);
                line.text("rule", Some(asked.rule), MAX_TEXT);
            }
            What::ApprovalDecided(decided) => {
                line.optional("approval", decided.approval.as_ref());
                if job.is_none() {
                    line.optional("job", decided.job.as_ref());
                }
                skill(line, decided.skill);
                line.text("tool", decided.tool, MAX_TEXT);
                line.text("rule", decided.rule, MAX_TEXT);
                line.field("decision", decided.decision);
                line.text("by", decided.by, MAX_TEXT);
                line.optional("until", decided.until.as_ref());
            }
            What::Grant(change) => {
                line.field("action", change.action);
                line.text("skill_name", Some(change.skill), MAX_TEXT);
                line.text("skill_version", change.version, MAX_TEXT);
                line.optional("digest", change.digest.as_ref());
                let grants: Vec<_> = change
                    .grants
                    .iter()
                    .take(MAX_GRANTS)
                    .map(|grant| super::line::cut(grant, MAX_GRANT))
                    .collect();
                line.field("grants", &grants);
                let more = change.grants.len() - grants.len();
                line.optional("more_grants", (more > 0).then_some(&more));
                line.text("by", change.by, MAX_TEXT);
            }
            What::Policy(policy) => line.hashed("policy", policy),
            What::Secret(secret) => {
                skill(line, secret.skill);
                line.text("secret", Some(secret.name), MAX_TEXT);
                line.text("host", Some(secret.host), MAX_TEXT);
            }
            What::Breaker { of, from, to } => {
                line.text("of", Some(of), MAX_TEXT);
                line.field("from", *from);
                line.field("to", *to);
            }
        }
    }
}

fn skill(line: &mut Line, skill: Option<&SkillIdentity>) {
    if let Some(skill) = skill {
        line.skill(skill);
    }
}

/// What went wrong, without what the guest said about it.
fn failed(line: &mut Line, failure: &Failure) {
    line.field("fault", &failure.fault);
    match &failure.cause {
        Cause::Rejected { reason, retry_at } => {
            line.field("cause", "rejected");
            line.field("reason", reason);
            line.optional("retry_at", retry_at.as_ref());
        }
        Cause::ResourceExhausted { limit, allowed, .. } => {
            line.field("cause", "resource_exhausted");
            line.field("limit", limit);
            line.field("allowed", allowed);
        }
        Cause::Timeout { limit, .. } => {
            line.field("cause", "timeout");
            line.field("limit", limit);
        }
        cause => line.field("cause", kind(cause)),
    }
    line.text("rule", failure.rule.as_deref(), MAX_TEXT);
    line.optional("approval", failure.approval.as_ref());
}

/// What was refused to the guest.
fn denied(line: &mut Line, denials: &[Denial]) {
    if denials.is_empty() {
        return;
    }
    let denials: Vec<Denied<'_>> = denials
        .iter()
        .take(MAX_DENIALS)
        .map(|denial| Denied {
            capability: denial.capability.as_str(),
            // What stands behind a `?` is the guest's data.
            subject: super::line::cut(
                denial.subject.split('?').next().unwrap_or_default(),
                MAX_TEXT,
            ),
        })
        .collect();
    line.field("denials", &denials);
}

/// Where it got less than it, or its skill, asked for, and by which rule.
fn clamped(line: &mut Line, clamped: &[Clamped]) {
    if clamped.is_empty() {
        return;
    }
    let clamped: Vec<Lowered<'_>> = clamped
        .iter()
        .map(|clamped| Lowered {
            limit: clamped.limit.as_str(),
            rule: super::line::cut(&clamped.rule, MAX_TEXT),
        })
        .collect();
    line.field("clamped", &clamped);
}

#[derive(Serialize)]
struct Lowered<'a> {
    limit: &'a str,
    rule: &'a str,
}

impl Heard<'_> {
    /// Writes which skill it was, or what was asked for.
    fn write_skill(&self, line: &mut Line, known: Option<&SkillIdentity>) {
        match known {
            Some(known) => line.skill(known),
            None => {
                let asked = self.asked.map(ToString::to_string);
                line.text("asked", asked.as_deref(), MAX_TEXT);
            }
        }
    }

    /// Writes what let it run, unless that is said already.
    fn write(&self, line: &mut Line, said: Option<Uuid>) {
        line.text("allowed_by", self.allowed_by, MAX_TEXT);
        if said.is_none() {
            line.optional("approval", self.approval.as_ref());
        }
    }
}

#[derive(Serialize)]
struct Denied<'a> {
    capability: &'a str,
    subject: &'a str,
}

fn kind(cause: &Cause) -> &'static str {
    match cause {
        Cause::SkillError { .. } => "skill_error",
        Cause::Trap { .. } => "trap",
        Cause::InvalidInput { .. } => "invalid_input",
        Cause::UnknownTool { .. } => "unknown_tool",
        Cause::InvalidOutput { .. } => "invalid_output",
        Cause::NotLoaded => "not_loaded",
        Cause::Timeout { .. } => "timeout",
        Cause::Cancelled { .. } => "cancelled",
        Cause::Rejected { .. } => "rejected",
        Cause::ResourceExhausted { .. } => "resource_exhausted",
        Cause::HostError => "host_error",
        Cause::HostPanic => "host_panic",
    }
}

/// What it cost; what is 0 is left out.
fn usage(line: &mut Line, usage: &ResourceUsage) {
    line.open("usage");
    let milliseconds = |line: &mut Line, name, time: std::time::Duration| {
        if !time.is_zero() {
            line.milliseconds(name, time);
        }
    };
    let count = |line: &mut Line, name, count: u64| {
        if count > 0 {
            line.count(name, count);
        }
    };
    count(line, "fuel", usage.fuel);
    milliseconds(line, "cpu_time_ms", usage.cpu_time);
    milliseconds(line, "wall_time_ms", usage.wall_time);
    milliseconds(line, "waiting_time_ms", usage.waiting_time);
    milliseconds(line, "compile_time_ms", usage.compile_time);
    milliseconds(line, "queue_wait_ms", usage.queue_wait);
    count(line, "peak_memory_bytes", usage.peak_memory_bytes);
    count(line, "host_calls", usage.host_calls);
    count(line, "input_bytes", usage.input_bytes);
    count(line, "output_bytes", usage.output_bytes);
    count(line, "created_files", usage.created_files);
    count(line, "write_bytes", usage.write_bytes);
    count(line, "connections", usage.connections);
    count(line, "http_request_bytes", usage.http_request_bytes);
    count(line, "http_response_bytes", usage.http_response_bytes);
    count(line, "socket_sent_bytes", usage.socket_sent_bytes);
    count(line, "socket_read_bytes", usage.socket_read_bytes);
    count(line, "input_tokens", usage.tokens.input);
    count(line, "output_tokens", usage.tokens.output);
    line.close();
}

/// The limits that differ from the defaults, as JSON.
pub(super) fn changed(limits: &Limits) -> String {
    let (Ok(serde_json::Value::Object(mut limits)), Ok(defaults)) = (
        serde_json::to_value(limits),
        serde_json::to_value(Limits::default()),
    ) else {
        return "{}".to_owned();
    };
    limits.retain(|name, value| defaults.get(name) != Some(value));
    serde_json::Value::Object(limits).to_string()
}
