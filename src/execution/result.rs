//! What comes out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Attachment, Failure};
use crate::limits::{Limit, Limits};
use crate::names::names;
use crate::skill::Digest;
use crate::usage::ResourceUsage;

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Status {
    /// The tool answered.
    Success,
    /// The skill failed, trapped, was called wrongly or answered wrongly, or could not be loaded.
    Failed,
    /// Its wall time was up, or its deadline passed.
    Timeout,
    /// The caller cancelled it.
    Cancelled,
    /// It was not admitted.
    Rejected,
    /// It met a limit.
    ResourceExhausted,
}

names!(Status, "status",
    Success => "success", Failed => "failed", Timeout => "timeout", Cancelled => "cancelled",
    Rejected => "rejected", ResourceExhausted => "resource_exhausted");

/// The answer to an [`ExecutionRequest`](super::ExecutionRequest), whatever became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct ExecutionResult {
    /// The request's id.
    pub request_id: Uuid,
    /// How it ended.
    pub status: Status,
    /// The tool that ran or was to run; `None` where none could be determined.
    pub tool: Option<String>,
    /// The tool's answer, where the status is [`Status::Success`].
    pub output: Option<Value>,
    /// Binary data beside the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Why there is no output.
    pub failure: Option<Failure>,
    /// What it cost.
    pub usage: ResourceUsage,
    /// The limits that applied.
    pub limits: Limits,
    /// The limits that are lower than what the request, or its skill, asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clamped: Vec<Clamped>,
    /// The skill that ran; `None` where it was not loaded.
    #[cfg_attr(feature = "serve", schema(value_type = Option<SkillIdentity>))]
    pub skill: Option<Arc<SkillIdentity>>,
    /// What the guest wrote to standard output, up to its limit. Bytes that are not UTF-8 are
    /// replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// What the guest wrote to standard error, up to its limit. Bytes that are not UTF-8 are
    /// replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

/// A limit that is lower than what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Clamped {
    /// Which one.
    pub limit: Limit,
    /// What was asked for, in its base unit: bytes, milliseconds, or a count.
    pub asked: u64,
    /// What applies.
    pub allowed: u64,
    /// What says so: a place in the policy, such as `tenants.acme.ceilings.memory_bytes`; `host`, which
    /// is the host's own ceiling; or `default`, where the skill wishes for more of a limit than the default,
    /// and gets [no more](crate::LimitOverrides::of_a_skill) by its own wish.
    pub rule: String,
}

impl Clamped {
    /// The rule where it is the host's own ceiling.
    pub const BY_HOST: &'static str = "host";
    /// The rule where it is the default.
    pub const BY_DEFAULT: &'static str = "default";
}

/// Which skill it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct SkillIdentity {
    /// The name that the skill gave itself.
    pub name: String,
    /// The version that the skill gave itself.
    pub version: String,
    /// The digest of what was loaded.
    pub digest: Digest,
}
