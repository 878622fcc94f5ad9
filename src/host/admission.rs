//! What can be said of a request before it runs.

use std::sync::Arc;

use serde_json::Value;

use super::skill::Known;
use super::{Host, Inner, Skill, fitting};
use crate::execution::{
    Admission, Attachment, Cause, Clamped, ExecutionRequest, Failure, Rejection, SkillIdentity,
};
use crate::grant::{self, Capability, Denial, GrantNames, Grants, Missing, Mode, NO_GRANTS};
use crate::limits::{Limit, LimitOverrides, Limits};
use crate::policy::{Consent, Effective, Policy, in_the_policy};
use crate::sandbox::{Around, ends_from_now, input_takes_too_long, over_input, too_late};
use crate::secret::{SecretSource, Unread, Wanted};
use crate::skill::{Tool, ToolSchemas};
use crate::turns::interrupt::Until;

/// A request that may run.
pub(super) struct Admitted<'s> {
    pub tool: &'s Tool,
    pub schemas: &'s ToolSchemas,
    /// What it may touch, where that is anything.
    pub effective: Option<Box<Effective>>,
    /// The input's JSON text.
    pub input: String,
    /// Whether the input fits its schema. Where that is not known yet, it takes long to find out.
    pub fits: bool,
}

/// What can be said of an input whatever it is for.
pub(super) struct Seen {
    /// Its JSON text.
    text: Result<String, Failure>,
    /// Whether it is one at all.
    shape: Result<(), Failure>,
}

impl Seen {
    pub fn of(input: &Value) -> Self {
        let text = serde_json::to_string(input).map_err(|error| {
            let cause = Cause::InvalidInput {
                pointer: String::new(),
            };
            let message = format!("the input cannot be written as JSON: {error}");
            Failure::new(cause, message)
        });
        let shape = fitting::shape(input);
        Seen { text, shape }
    }
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
        crate::Execute::can_execute(self, request)
    }

    /// What can be said of a request that means this skill, whether it is loaded or not, with these limits in the place of
    /// its own.
    pub(super) fn admission(
        &self,
        request: &ExecutionRequest,
        asked: &LimitOverrides,
        skill: Option<&Known>,
    ) -> Admission {
        let limits = self.limits(asked, skill);
        let admitted = match skill {
            Some(skill) => self.admit(request, skill, &limits).and_then(|admitted| {
                if !admitted.fits {
                    let (ends, limit) = ends_from_now(&limits, request.deadline);
                    let until = Until {
                        moment: Some(ends),
                        ..Until::default()
                    };
                    let checked = admitted.schemas.input.check_until(&request.input, &until);
                    let checked = checked.map_err(|_| input_takes_too_long(&limits, limit))?;
                    fitting::input(checked, &request.input, admitted.tool)?;
                }
                match self.inner.before.is_some() && *asked != request.limits {
                    // As it would be executed.
                    true => {
                        let bounded = ExecutionRequest {
                            limits: *asked,
                            ..request.clone()
                        };
                        self.asks_before(&bounded, &skill.identity)?;
                    }
                    false => self.asks_before(request, &skill.identity)?,
                }
                Ok(admitted)
            }),
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
                let refusal = (self.inner.runner.openable(&grants, &self.around(&grants)))
                    .and_then(|()| {
                        let wanted = self.wanted(&grants);
                        match crate::secret::read(&wanted, self.inner.runner.for_operator()) {
                            Err(Unread::Denied(denial)) => Err(denial),
                            // What has run out cannot be seen now, and will be when it is read.
                            Err(Unread::Exhausted(_)) | Ok(_) => Ok(()),
                        }
                    })
                    .err();
                let refusal = refusal.map(|denial| {
                    let refusal = Failure::denied(vec![denial]);
                    match skill {
                        Some(skill) => self.of_policy(skill, &request.grants, refusal),
                        None => refusal,
                    }
                });
                (Some(tool.name.clone()), grants, from_policy, refusal)
            }
            Err(failure) => {
                let granted = skill.map(|skill| self.granted(skill, &request.grants));
                let Effective {
                    grants,
                    from_policy,
                } = granted.unwrap_or_default();
                (request.tool.clone(), grants, from_policy, Some(failure))
            }
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
            clamped: self.clamped(asked, skill),
            missing,
            grants,
            from_policy,
            tool,
            skill: skill.map(|skill| Arc::clone(&skill.identity)),
        }
    }

    /// Says of a directory that cannot be granted, and is none of the request's own, that it is the policy's, and what
    /// takes it out there.
    pub(super) fn of_policy(&self, skill: &Known, requested: &Grants, failure: Failure) -> Failure {
        let is_of_grants = matches!(
            failure.cause,
            Cause::Rejected {
                reason: Rejection::Grant,
                ..
            }
        );
        let policy = self.inner.policy.load();
        let name = &skill.identity.name;
        let Some(entry) = policy
            .as_ref()
            .filter(|_| is_of_grants)
            .and_then(|policy| policy.skills.get(name))
        else {
            return failure;
        };
        let names = GrantNames::of(&entry.grants);
        let is_of = |grants: &Grants, denial: &Denial| {
            let mut guests = grants.directories.iter().map(|granted| &granted.guest);
            denial.capability == Capability::Directory
                && guests.any(|guest| *guest == denial.subject)
        };
        let told = failure.denials.into_iter().map(|denial| {
            match is_of(&entry.grants, &denial) && !is_of(requested, &denial) {
                true => in_the_policy(denial, name, &names),
                false => denial,
            }
        });
        Failure::denied(told.collect())
    }

    /// What is both granted and declared, whether or not the skill can run with it.
    pub(super) fn granted(&self, skill: &Known, requested: &Grants) -> Effective {
        let (identity, manifest) = (&*skill.identity, skill.manifest.as_ref());
        match &*self.inner.policy.load() {
            Some(policy) => policy.granted(identity, manifest, requested),
            None => Policy::default().granted(identity, manifest, requested),
        }
    }

    /// What a skill declares, and neither the host's policy nor these grants give it.
    ///
    /// What the policy grants to its name counts whether or not it is confirmed for this digest.
    pub fn missing(&self, skill: &Skill, requested: &Grants) -> Vec<Denial> {
        self.missing_if(&skill.inner.known, requested, &|_| true)
    }

    pub(super) fn missing_if(
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

    /// `min(ceiling, the request's, or the skill's, or ours)`.
    pub(super) fn limits(&self, asked: &LimitOverrides, skill: Option<&Known>) -> Limits {
        let Inner {
            ceiling,
            default_limits,
            ..
        } = &*self.inner;
        match skill.and_then(|skill| skill.counts.as_deref()) {
            Some(counts) => Limits::resolve(ceiling, &[asked, counts], default_limits),
            None => Limits::resolve(ceiling, &[asked], default_limits),
        }
    }

    /// The directories in which skills may write, by these grants or by the policy, and what the policy has that stands
    /// apart, where any directory is granted now.
    pub(super) fn around(&self, grants: &Grants) -> Arc<Around> {
        if grants.directories.is_empty() {
            return Arc::default();
        }
        let policy = self.inner.policy.load();
        let of_policy = policy.iter().flat_map(|policy| policy.skills.values());
        let all = of_policy.flat_map(|skill| &skill.grants.directories);
        let all = all.chain(&grants.directories);
        let written = all.filter(|directory| directory.mode == Mode::Rw);
        let mut around = Around {
            written: written.map(|directory| directory.host.clone()).collect(),
            apart: Vec::new(),
        };
        for policy in policy.iter() {
            let sources = policy.secrets.values();
            around
                .apart
                .extend(sources.filter_map(|source| match source {
                    SecretSource::File(file) => Some(file.clone()),
                    _ => None,
                }));
            around.apart.extend(policy.audit.folder.clone());
        }
        Arc::new(around)
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

    /// Everything that can be said at once of a request before it waits for a slot, but for what the embedder
    /// says. What is cheap to find out comes first.
    pub(super) fn admit<'s>(
        &self,
        request: &ExecutionRequest,
        skill: &'s Known,
        limits: &Limits,
    ) -> Result<Admitted<'s>, Failure> {
        self.admit_seen(request, skill, limits, None)
    }

    /// The same of a request whose input was looked at.
    pub(super) fn admit_seen<'s>(
        &self,
        request: &ExecutionRequest,
        skill: &'s Known,
        limits: &Limits,
        seen: Option<Seen>,
    ) -> Result<Admitted<'s>, Failure> {
        match too_late(request.deadline, limits) {
            Some(failure) => Err(failure),
            None => self.suits(request, skill, limits, seen),
        }
    }

    /// What the embedder says, of what would otherwise be admitted.
    pub(super) fn asks_before(
        &self,
        request: &ExecutionRequest,
        skill: &SkillIdentity,
    ) -> Result<(), Failure> {
        let Some(before) = &self.inner.before else {
            return Ok(());
        };
        before(request, skill).map_err(|refusal| {
            let cause = Cause::Rejected {
                reason: Rejection::Hook,
                retry_at: refusal.retry_at,
            };
            Failure::new(cause, format!("not admitted: {}", refusal.message))
        })
    }

    /// Why a request that means this skill is not admitted at any time; see [`Execute::hopeless`](crate::Execute::hopeless).
    pub(super) async fn hopeless_in(
        &self,
        request: &ExecutionRequest,
        skill: Option<Skill>,
    ) -> Option<Failure> {
        let skill = skill?;
        let known = &skill.inner.known;
        let limits = self.limits(&request.limits, Some(known));
        let failure = match self.suits(request, known, &limits, None) {
            Ok(admitted) if admitted.fits => None,
            Ok(admitted) => self.misfits(request, &admitted, known, &limits).await,
            Err(failure) => Some(failure),
        }?;
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
        seen: Option<Seen>,
    ) -> Result<Admitted<'s>, Failure> {
        let is_much = seen.is_some();
        let Seen { text, shape } = seen.unwrap_or_else(|| Seen::of(&request.input));
        let input = text?;
        let attached: u64 = request
            .attachments
            .iter()
            .map(Attachment::counted_bytes)
            .sum();
        if let Some(failure) = over_input(input.len() as u64 + attached, limits) {
            return Err(failure);
        }
        let (tool, schemas) = skill.tool(request.tool.as_deref())?;
        shape?;
        let checked = match is_much {
            true => None,
            false => schemas.input.check_quickly(&request.input),
        };
        let fits = checked.is_some();
        if let Some(checked) = checked {
            fitting::input(checked, &request.input, tool)?;
        }
        let effective = self
            .effective(skill, &request.grants)
            .map_err(Failure::denied)?;
        Ok(Admitted {
            tool,
            schemas,
            effective,
            input,
            fits,
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
