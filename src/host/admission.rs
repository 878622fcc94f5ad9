//! What can be said of a request before it runs, and of an answer after.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use super::skill::Known;
use super::{Host, Inner, Skill};
use crate::execution::{
    Admission, Attachment, Cause, Clamped, ExecutionRequest, Failure, MAX_MISSING, Rejection,
};
use crate::grant::{self, Denial, Grants, Missing, Mode, NO_GRANTS, Sought};
use crate::limits::{Limit, LimitOverrides, Limits};
use crate::policy::{Consent, Effective, Policy};
use crate::sandbox::{over_input, too_late};
use crate::secret::{Scrubber, Unread, Wanted};
use crate::skill::{Keys, Mismatch, Schema, Tool, ToolSchemas};
use crate::text::{closest, named};

/// A request that may run.
pub(super) struct Admitted<'s> {
    pub tool: &'s Tool,
    pub schemas: &'s ToolSchemas,
    /// What it may touch, where that is anything.
    pub effective: Option<Box<Effective>>,
    /// The input's JSON text.
    pub input: String,
}

impl Admitted<'_> {
    /// What it may touch.
    pub fn grants(&self) -> &Grants {
        match &self.effective {
            Some(effective) => &effective.grants,
            None => &NO_GRANTS,
        }
    }
}

impl Host {
    /// Says, without running anything, whether a request would be admitted, with which limits and
    /// grants, and what is missing. The hook set with
    /// [`HostBuilder::before`](super::HostBuilder::before) is asked, too.
    ///
    /// Where directories or secrets are granted, it looks whether they are there, and so blocks for as
    /// long as the disk does: in async code, call it where blocking is allowed. An execution looks at
    /// them on threads of its own.
    pub fn can_execute(&self, request: &ExecutionRequest) -> Admission {
        let skill = self.skill(&request.skill);
        self.admission(request, skill.as_ref().map(|skill| &skill.inner.known))
    }

    /// What can be said of a request that means this skill, whether it is loaded or not.
    pub(super) fn admission(&self, request: &ExecutionRequest, skill: Option<&Known>) -> Admission {
        let limits = self.limits(request, skill);
        let admitted = match skill {
            Some(skill) => self.admit(request, skill, &limits),
            None => Err(not_loaded(request)),
        };
        let (tool, grants, from_policy, refusal) = match admitted {
            Ok(Admitted {
                tool, effective, ..
            }) => {
                let Effective {
                    grants,
                    from_policy,
                } = effective.map(|effective| *effective).unwrap_or_default();
                let refusal = (self.inner.runner.openable(&grants, &self.written(&grants)))
                    .and_then(|()| {
                        let wanted = self.wanted(&grants);
                        match crate::secret::read(&wanted, self.inner.runner.for_operator()) {
                            Err(Unread::Denied(denial)) => Err(denial),
                            // What has run out cannot be seen now, and will be when it is read.
                            Err(Unread::Exhausted(_)) | Ok(_) => Ok(()),
                        }
                    })
                    .err();
                let refusal = refusal.map(|denial| Failure::denied(vec![denial]));
                (Some(tool.name.clone()), grants, from_policy, refusal)
            }
            Err(failure) => (
                request.tool.clone(),
                Grants::default(),
                Grants::default(),
                Some(failure),
            ),
        };
        let missing = match skill {
            Some(skill) => self.missing_if(skill, &request.grants, &|_| true),
            None => Vec::new(),
        };
        let refusal = match self.inner.runner.for_operator() {
            true => refusal,
            false => refusal.map(Failure::without_flags),
        };
        Admission {
            refusal,
            limits,
            clamped: self.clamped(&request.limits, skill),
            missing,
            grants,
            from_policy,
            tool,
            skill: skill.map(|skill| Arc::clone(&skill.identity)),
        }
    }

    /// What a skill declares, and neither the host's policy nor these grants give it.
    ///
    /// What the policy grants to its name counts whether or not it is confirmed for this digest.
    pub fn missing(&self, skill: &Skill, requested: &Grants) -> Vec<Denial> {
        self.missing_if(&skill.inner.known, requested, &|_| true)
    }

    fn missing_if(
        &self,
        skill: &Known,
        requested: &Grants,
        which: &dyn Fn(Missing<'_>) -> bool,
    ) -> Vec<Denial> {
        let (identity, manifest) = (&*skill.identity, skill.manifest.as_ref());
        let mut missing = match &*self.inner.policy.load() {
            Some(policy) => policy.missing_if(identity, manifest, requested, which),
            None => Policy::default().missing_if(identity, manifest, requested, which),
        };
        if !self.inner.runner.for_operator() {
            missing.iter_mut().for_each(Denial::without_flag);
        }
        missing
    }

    /// What is missing and may be why a skill fails: what it declares and was not granted, and looked for
    /// while it ran.
    ///
    /// A skill often declares more than anybody wants to grant, and what it never looked for is no reason.
    pub(super) fn lacked(
        &self,
        skill: &Skill,
        requested: &Grants,
        sought: &Sought,
        failure: &Failure,
    ) -> Vec<Denial> {
        let panicked = match failure.cause {
            Cause::Trap { .. } => Some(failure.message.as_str()),
            _ => None,
        };
        // No more are told.
        let left = Cell::new(MAX_MISSING);
        self.missing_if(&skill.inner.known, requested, &|missing| {
            let lacks = left.get() > 0 && sought.lacks(missing, panicked);
            left.set(left.get() - usize::from(lacks));
            lacks
        })
    }

    /// `min(ceiling, the request's, or the skill's, or ours)`.
    pub(super) fn limits(&self, request: &ExecutionRequest, skill: Option<&Known>) -> Limits {
        let Inner {
            ceiling,
            default_limits,
            ..
        } = &*self.inner;
        match skill.and_then(|skill| skill.counts.as_deref()) {
            Some(counts) => Limits::resolve(ceiling, &[&request.limits, counts], default_limits),
            None => Limits::resolve(ceiling, &[&request.limits], default_limits),
        }
    }

    /// The directories in which skills may write, by these grants or by the policy, where any is granted now.
    pub(super) fn written(&self, grants: &Grants) -> Arc<[PathBuf]> {
        if grants.directories.is_empty() {
            return Arc::default();
        }
        let policy = self.inner.policy.load();
        let of_policy = policy.iter().flat_map(|policy| policy.skills.values());
        let all = of_policy.flat_map(|skill| &skill.grants.directories);
        let all = all.chain(&grants.directories);
        let written = all.filter(|directory| directory.mode == Mode::Rw);
        written.map(|directory| directory.host.clone()).collect()
    }

    /// The secrets that are granted, and where they are.
    pub(super) fn wanted(&self, grants: &Grants) -> Vec<Wanted> {
        if grants.secrets.is_empty() {
            return Vec::new();
        }
        let policy = self.inner.policy.load();
        let sources = policy.as_ref().map(|policy| &policy.secrets);
        self.inner.secrets.wanted(&grants.secrets, sources)
    }

    /// Where the host allows less than what was asked for, or than what the skill wishes for itself.
    pub(super) fn clamped(&self, asked: &LimitOverrides, skill: Option<&Known>) -> Vec<Clamped> {
        let Inner {
            ceiling,
            default_limits,
            ..
        } = &*self.inner;
        let wished = skill.and_then(|skill| skill.wished.as_deref());
        let mut clamped = Vec::new();
        let mut named = asked.named();
        if let Some(wished) = wished {
            named = named.or(wished.named());
        }
        for limit in named.each() {
            let requested = asked.get(limit);
            let Some(asked) = requested.or_else(|| wished?.get(limit)) else {
                continue;
            };
            let (most, default) = (ceiling.get(limit), default_limits.get(limit));
            let is_no_more = requested.is_none() && Limit::OF_THE_HOST.contains(&limit);
            let (allowed, rule) = if is_no_more && asked > default && default < most {
                (default, Clamped::BY_DEFAULT)
            } else if asked > most {
                (most, Clamped::BY_HOST)
            } else {
                continue;
            };
            clamped.push(Clamped {
                limit,
                asked,
                allowed,
                rule: rule.to_owned(),
            });
        }
        clamped
    }

    /// Everything that can be said of a request before it waits for a slot. What is cheap to find
    /// out comes first.
    pub(super) fn admit<'s>(
        &self,
        request: &ExecutionRequest,
        skill: &'s Known,
        limits: &Limits,
    ) -> Result<Admitted<'s>, Failure> {
        if let Some(failure) = too_late(request.deadline, limits) {
            return Err(failure);
        }
        let admitted = self.suits(request, skill, limits)?;
        if let Some(before) = &self.inner.before
            && let Err(refusal) = before(request, &skill.identity)
        {
            let cause = Cause::Rejected {
                reason: Rejection::Hook,
                retry_at: refusal.retry_at,
            };
            return Err(Failure::new(
                cause,
                format!("not admitted: {}", refusal.message),
            ));
        }
        Ok(admitted)
    }

    /// Why a request that means this skill is not admitted at any time; see [`Execute::hopeless`](crate::Execute::hopeless).
    pub(super) fn hopeless_in(&self, request: &ExecutionRequest, skill: &Skill) -> Option<Failure> {
        let known = &skill.inner.known;
        let limits = self.limits(request, Some(known));
        let failure = self.suits(request, known, &limits).err()?;
        Some(match self.inner.runner.for_operator() {
            true => failure,
            false => failure.without_flags(),
        })
    }

    /// What can be said of a request by itself.
    fn suits<'s>(
        &self,
        request: &ExecutionRequest,
        skill: &'s Known,
        limits: &Limits,
    ) -> Result<Admitted<'s>, Failure> {
        let input = serde_json::to_string(&request.input).map_err(|error| {
            let cause = Cause::InvalidInput {
                pointer: String::new(),
            };
            Failure::new(
                cause,
                format!("the input cannot be written as JSON: {error}"),
            )
        })?;
        let attached: u64 = request
            .attachments
            .iter()
            .map(Attachment::counted_bytes)
            .sum();
        if let Some(failure) = over_input(input.len() as u64 + attached, limits) {
            return Err(failure);
        }
        let (tool, schemas) = skill.tool(request.tool.as_deref())?;
        fits(request, &schemas.input, tool)?;
        let effective = self
            .effective(skill, &request.grants)
            .map_err(Failure::denied)?;
        Ok(Admitted {
            tool,
            schemas,
            effective,
            input,
        })
    }

    /// What is declared by the skill, and granted by the policy or the request, where that is
    /// anything.
    fn effective(
        &self,
        skill: &Known,
        requested: &Grants,
    ) -> Result<Option<Box<Effective>>, Vec<Denial>> {
        let identity = &*skill.identity;
        let manifest = skill.manifest.as_ref();
        let declared = manifest.map(|manifest| &manifest.grants);
        let policy = self.inner.policy.load();
        let granted_for_good = policy.as_ref().is_some_and(|policy| {
            policy.consent(&identity.name, &identity.digest) != Consent::NotNeeded
        });
        // Configuration keys have defaults, and may be required.
        let configured = declared.is_some_and(|declared| !declared.config.is_empty());
        if !granted_for_good && !configured && requested.is_empty() {
            return Ok(None);
        }
        let effective = match &*policy {
            Some(policy) => policy.effective(identity, manifest, &skill.description, requested)?,
            None => Effective {
                grants: grant::effective(&identity.name, declared, requested)?,
                from_policy: Grants::default(),
            },
        };
        if effective.grants.storage && !self.inner.keeps {
            return Err(vec![grant::no_storage(&identity.name)]);
        }
        Ok(Some(Box::new(effective)))
    }
}

/// Where there is no such skill.
pub(super) fn not_loaded(request: &ExecutionRequest) -> Failure {
    let message = format!("no skill `{}` is loaded", request.skill);
    Failure::new(Cause::NotLoaded, message)
}

/// Whether the input is one that the tool can work with.
fn fits(request: &ExecutionRequest, schema: &Schema, tool: &Tool) -> Result<(), Failure> {
    let invalid =
        |pointer: String, message: String| Failure::new(Cause::InvalidInput { pointer }, message);
    if !request.input.is_object() {
        return Err(invalid(
            String::new(),
            "the input is not a JSON object".into(),
        ));
    }
    if crate::skill::depth(&request.input) > crate::skill::MAX_DEPTH {
        let message = format!(
            "the input is nested more than {} levels deep",
            crate::skill::MAX_DEPTH
        );
        return Err(invalid(String::new(), message));
    }
    let Err(mismatch) = schema.check(&request.input) else {
        return Ok(());
    };
    let place = place(&mismatch);
    let message = format!("the input does not fit{place}: {}", mismatch.message);
    let close = meant(&mismatch, &request.input, &tool.input_schema);
    let failure = invalid(mismatch.pointer.clone(), message);
    Err(match close {
        Some(close) => {
            // A key of the skill's own schema: its text, and of any length.
            failure.hint(format!("did you mean `{}`?", named(close, 200)))
        }
        None => failure,
    })
}

/// How many keys of a tool's schema are looked at for one that was meant.
const MOST_KNOWN: usize = 256;
/// How many keys that it does not know.
const MOST_UNKNOWN: usize = 16;

/// The key that was meant, where one is not known or is missing.
fn meant<'k>(
    mismatch: &'k Mismatch,
    input: &serde_json::Value,
    schema: &'k serde_json::Value,
) -> Option<&'k str> {
    let known = |place: &str| schema.pointer(place)?.get("properties")?.as_object();
    match &mismatch.keys {
        Keys::Fine => None,
        Keys::Unexpected { keys, schema } => {
            let known = known(schema)?;
            let known = || known.keys().take(MOST_KNOWN).map(String::as_str);
            keys.iter().find_map(|key| closest(key, known()))
        }
        Keys::Missing { key, schema } => {
            let known = known(schema)?;
            let given = input.pointer(&mismatch.pointer)?.as_object()?;
            let unknown = given.keys().filter(|given| !known.contains_key(*given));
            let mut unknown = unknown.take(MOST_UNKNOWN);
            let is_close = |given: &String| closest(given, [key.as_str()].into_iter()).is_some();
            unknown.any(is_close).then_some(key)
        }
    }
}

/// The longest place in a value that is shown, in bytes.
const MAX_PLACE: usize = 1_000;

/// Where a value does not fit, to stand in a sentence; nothing for the whole of it.
fn place(mismatch: &Mismatch) -> String {
    match mismatch.pointer.as_str() {
        "" => String::new(),
        pointer => format!(" at `{}`", named(pointer, MAX_PLACE)),
    }
}

/// The guest's answer as a value that fits what its tool declares.
pub(super) fn output(
    json: &str,
    schemas: &ToolSchemas,
    scrubber: Option<&Scrubber>,
) -> Result<serde_json::Value, Failure> {
    let invalid =
        |pointer: String, message: String| Failure::new(Cause::InvalidOutput { pointer }, message);
    let mut value = crate::json::parse(json).map_err(|error| {
        invalid(
            String::new(),
            format!("the skill's output cannot be read: {error}"),
        )
    })?;
    if let Some(scrubber) = scrubber {
        // Here, where nothing is hidden by an escape any more, and before anything of it is quoted.
        scrubber.json(&mut value);
    }
    if let Some(schema) = &schemas.output
        && let Err(mismatch) = schema.check(&value)
    {
        let message = format!(
            "the skill's output does not fit the schema that it declares{}: {}",
            place(&mismatch),
            mismatch.message
        );
        return Err(invalid(mismatch.pointer, message));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_key_that_was_meant_is_found_where_it_is_wrong() {
        let schema = json!({
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "texts": {"type": "array"},
                "order": {"type": "array", "items": {"$ref": "#/$defs/Order"}},
            },
            "required": ["text"],
            "additionalProperties": false,
            "$defs": {"Order": {
                "type": "object",
                "properties": {"column": {"type": "string"}, "descending": {"type": "boolean"}},
                "required": ["column"],
                "additionalProperties": false,
            }},
        });
        let check = |schema: &Value, input: Value| -> Option<String> {
            let mismatch = Schema::new(schema).unwrap().check(&input).unwrap_err();
            meant(&mismatch, &input, schema).map(str::to_owned)
        };
        let meant = |input| check(&schema, input);
        assert_eq!(
            meant(json!({"text": "", "ordre": []})).as_deref(),
            Some("order")
        );
        assert_eq!(meant(json!({"text": "", "zzz": []})), None);
        let nested =
            json!({"text": "", "order": [{"column": "a"}, {"column": "a", "desending": true}]});
        assert_eq!(meant(nested).as_deref(), Some("descending"));
        let nested = json!({"text": "", "order": [{"colum": "a"}]});
        assert_eq!(meant(nested).as_deref(), Some("column"));
        // It is known, and not a slip for what is missing.
        assert_eq!(meant(json!({"texts": []})), None);
        assert_eq!(meant(json!({"text": 1})), None);
        // Where more is allowed, one that is missing may have been meant.
        let open = json!({"type": "object", "properties": {"text": {}}, "required": ["text"]});
        assert_eq!(check(&open, json!({"txt": ""})).as_deref(), Some("text"));
        let typed = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        assert_eq!(check(&typed, json!({"text": 1, "txet": ""})), None);
    }
}
