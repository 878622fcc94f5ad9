//! The rules, as they stand in the policy file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::execution::Resolution;
use crate::skill::{Digest, is_name, is_tool_name};

/// When somebody is asked, and how long that may take.
///
/// ```
/// use skillhost::policy::{Action, Policy};
///
/// let policy: Policy = r#"
///     [approval]
///     wait = "2m"
///
///     [[approval.rules]]
///     tenant = "trusted"
///     action = "allow"
///
///     [[approval.rules]]
///     name = "what cannot be undone"
///     destructive = true
///     idempotent = false
///     action = "ask"
/// "#.parse()?;
/// assert_eq!(policy.approval.rules[1].action, Action::Ask);
/// # Ok::<(), skillhost::policy::PolicyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ApprovalPolicy {
    /// The rules. The first that matches holds; where none does, a request is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ApprovalRule>,
    /// How long a request waits for an answer before it is rejected, such as `2m`. It can be tried
    /// again once there is one. 0 unless set: it is rejected at once. Jobs never wait: they are paused.
    #[serde(with = "span")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub wait: Duration,
    /// How long a question may be answered; 24 hours unless set. That of a job, 30 days.
    #[serde(with = "span")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub expires: Duration,
    /// How many questions may be open for one tenant; 100 unless set.
    pub max_pending: u32,
}

impl Default for ApprovalPolicy {
    fn default() -> Self {
        ApprovalPolicy {
            rules: Vec::new(),
            wait: Duration::ZERO,
            expires: Duration::from_secs(86_400),
            max_pending: 100,
        }
    }
}

/// A rule: it matches where all that it names matches. A name may end with `*`, for all that begin so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApprovalRule {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The skill: its name, or its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill: Option<String>,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The tenant. `*` alone stands for requests without a tenant as well, where the rule asks or denies; one that
    /// allows names tenants alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Whether the tool changes nothing. What its author does not state is taken as the more
    /// dangerous case, here and in what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Whether the tool may delete or overwrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destructive: Option<bool>,
    /// Whether a second call with the same input has no further effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// Whether the tool talks to things beyond the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_world: Option<bool>,
    /// What then holds.
    pub action: Action,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It may run.
    Allow,
    /// Somebody has to approve it.
    #[default]
    Ask,
    /// It may not run.
    Deny,
}

impl Action {
    /// The name, as in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Ask => "ask",
            Action::Deny => "deny",
        }
    }
}

impl ApprovalPolicy {
    /// What holds for a request, and the rule that says so, counted from 1.
    pub fn decide(
        &self,
        resolution: &Resolution,
        tenant: Option<&str>,
    ) -> (Action, Option<(usize, &ApprovalRule)>) {
        let rule = self
            .rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.matches(resolution, tenant));
        match rule {
            Some((index, rule)) => (rule.action, Some((index + 1, rule))),
            None => (Action::Allow, None),
        }
    }

    /// Whether nothing is ever asked or denied.
    pub fn allows_all(&self) -> bool {
        self.rules.iter().all(|rule| rule.action == Action::Allow)
    }

    /// Whether there is no rule at all.
    pub(super) fn has_none(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether nothing is said here.
    pub(crate) fn is_default(&self) -> bool {
        *self == ApprovalPolicy::default()
    }
}

impl ApprovalRule {
    fn matches(&self, resolution: &Resolution, tenant: Option<&str>) -> bool {
        let tool = resolution.tool();
        let says = tool.annotations;
        let is = |wanted: Option<bool>, stated: bool| wanted.is_none_or(|wanted| wanted == stated);
        let skill = self.skill.as_ref().is_none_or(|wanted| {
            fits(wanted, &resolution.skill.name)
                || (wanted
                    .parse::<Digest>()
                    .is_ok_and(|digest| digest == resolution.skill.digest))
        });
        skill
            && self
                .tool
                .as_ref()
                .is_none_or(|wanted| fits(wanted, &tool.name))
            && self.tenant.as_ref().is_none_or(|wanted| match tenant {
                Some(tenant) => fits(wanted, tenant),
                // Whoever denies all means these, too.
                None => wanted == "*" && self.action != Action::Allow,
            })
            && is(self.read_only, says.read_only)
            && is(self.destructive, says.destructive)
            && is(self.idempotent, says.idempotent)
            && is(self.open_world, says.open_world)
    }

    /// What a rule is called, being the n-th.
    pub fn title(&self, number: usize) -> String {
        match &self.name {
            Some(name) => format!(
                "approval rule {number} ({})",
                crate::text::printable(name, false)
            ),
            None => format!("approval rule {number}"),
        }
    }
}

fn fits(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => wanted == name,
    }
}

/// What is wrong with it, and in which rule, counted from 0, or in which field.
pub(in crate::policy) fn check(policy: &ApprovalPolicy) -> Result<(), (Place, String)> {
    let year = Duration::from_secs(366 * 86_400);
    if policy.wait > Duration::from_secs(86_400) {
        return Err((
            Place::Field("wait"),
            "a request can wait for a day at most".to_owned(),
        ));
    }
    if policy.expires.is_zero() || policy.expires > year {
        let message = "a question can be open for longer than nothing, and for a year at most";
        return Err((Place::Field("expires"), message.to_owned()));
    }
    if !(1..=10_000).contains(&policy.max_pending) {
        let message = "1 to 10,000 questions may be open".to_owned();
        return Err((Place::Field("max_pending"), message));
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        let names = [
            ("name", &rule.name),
            ("skill", &rule.skill),
            ("tool", &rule.tool),
            ("tenant", &rule.tenant),
        ];
        for (key, name) in names {
            if name
                .as_ref()
                .is_some_and(|name| name.is_empty() || name.len() > 256)
            {
                let message = "a name has 1 to 256 bytes".to_owned();
                return Err((Place::Rule(index, Some(key)), message));
            }
        }
        if let Some((key, message)) = rule.never_matches() {
            return Err((Place::Rule(index, Some(key)), message));
        }
        if let Some(before) = policy.rules[..index]
            .iter()
            .position(|other| other.matches_all())
        {
            let message = format!(
                "it is never reached: rule {} matches everything",
                before + 1
            );
            return Err((Place::Rule(index, None), message));
        }
    }
    Ok(())
}

/// Where something is wrong.
pub(in crate::policy) enum Place {
    Field(&'static str),
    /// In that rule, and in which key of it, where it is one.
    Rule(usize, Option<&'static str>),
}

impl ApprovalRule {
    /// Why there can be no skill or tool that it means, where that is so: what is denied there would run.
    fn never_matches(&self) -> Option<(&'static str, String)> {
        // What it ends with leaves open how a name goes on.
        let begins = |wanted: &str, is: fn(&str) -> bool| match wanted.strip_suffix('*') {
            Some(start) => start.is_empty() || is(start.strip_suffix('-').unwrap_or(start)),
            None => is(wanted),
        };
        let shown = |text: &str| crate::text::named(text, 100);
        if let Some(skill) = &self.skill
            && skill.parse::<Digest>().is_err()
        {
            if skill.starts_with("sha256:") {
                let message = format!(
                    "`{}` is no digest: it has `sha256:` and all of its 64 hexadecimal digits",
                    shown(skill)
                );
                return Some(("skill", message));
            }
            if skill.len() >= 8 && skill.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let message = format!(
                    "`{0}` looks like digits of a digest, which stands here whole, as `sha256:…` \
                     (`skillhost inspect SKILL` shows it); should a skill be called so, write `{0}*`",
                    shown(skill)
                );
                return Some(("skill", message));
            }
            if !begins(skill, is_name) {
                let message = format!(
                    "no skill can be called `{}`: a name has letters from a to z, digits and single hyphens between \
                     them, and a rule holds for all versions of a skill, or for one digest",
                    shown(skill)
                );
                return Some(("skill", message));
            }
        }
        if let Some(tool) = &self.tool
            && !begins(tool, is_tool_name)
        {
            let message = format!(
                "no tool can be called `{}`: a name has letters, digits, `_` and `-`",
                shown(tool)
            );
            return Some(("tool", message));
        }
        None
    }

    fn matches_all(&self) -> bool {
        let unnamed = ApprovalRule {
            name: self.name.clone(),
            action: self.action,
            ..ApprovalRule::default()
        };
        *self == unnamed
    }
}

/// A duration as people write it.
pub(in crate::policy) mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        // There are months of several lengths.
        const DAY: u64 = 86_400;
        match (value.as_secs(), value.subsec_nanos()) {
            (seconds, 0) if seconds > 0 && seconds % DAY == 0 => {
                serializer.collect_str(&format_args!("{}d", seconds / DAY))
            }
            _ => serializer.collect_str(&humantime::format_duration(*value)),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::limits::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::Policy;

    fn parsed(rule: &str) -> Result<Policy, String> {
        let text = format!("[[approval.rules]]\n{rule}\naction = \"deny\"\n");
        text.parse::<Policy>().map_err(|error| error.to_string())
    }

    /// As it is read in the schema of the policy and in what `policy show` prints.
    #[test]
    fn a_time_is_written_as_people_write_it() {
        for (typed, written) in [
            ("90d", "90d"),
            ("24h", "1d"),
            ("36h", "1day 12h"),
            ("30m", "30m"),
            ("1500ms", "1s 500ms"),
        ] {
            let span = crate::limits::parse_duration(typed).unwrap();
            let text = super::span::serialize(&span, serde_json::value::Serializer).unwrap();
            assert_eq!(text, written);
            assert_eq!(super::span::deserialize(&text).unwrap(), span, "{typed}");
        }
    }

    /// A rule that denies, and that nothing can ever match, denies nothing.
    #[test]
    fn what_no_skill_or_tool_can_be_called_is_refused() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for right in [
            "skill = \"text-stats\"".to_owned(),
            "skill = \"text-*\"".to_owned(),
            "skill = \"*\"".to_owned(),
            "skill = \"decade\"".to_owned(),
            "skill = \"deadbeef*\"".to_owned(),
            format!("skill = \"{digest}\""),
            format!("skill = \"{}\"", digest.replace('f', "F")),
            "tool = \"A_tool-2\"".to_owned(),
            "tool = \"delete_*\"".to_owned(),
        ] {
            assert!(parsed(&right).is_ok(), "{right}: {:?}", parsed(&right));
        }
        for (wrong, said) in [
            ("skill = \"4a694cca4428\"", "looks like digits of a digest"),
            ("skill = \"sha256:4a694cca\"", "is no digest"),
            (&format!("skill = \"{}\"", &digest[..70]), "is no digest"),
            (
                &format!("skill = \"{}\"", &digest[7..]),
                "looks like digits of a digest",
            ),
            ("skill = \"text-stats@0.1.0\"", "no skill can be called"),
            ("skill = \"Text-Stats\"", "no skill can be called"),
            ("skill = \"text stats*\"", "no skill can be called"),
            ("tool = \"count words\"", "no tool can be called"),
        ] {
            let error = parsed(wrong).expect_err(wrong);
            assert!(
                error.contains("approval rule 1") && error.contains(said),
                "{error}"
            );
            // Where it stands, and not where the rule begins.
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
