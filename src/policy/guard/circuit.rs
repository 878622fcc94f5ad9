//! What fails too often is left alone for a while: skills by their digest, hosts by their name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::Utc;
use serde::Serialize;

use crate::breaker::{self, Asked, Breaker, BreakerSettings, Change, CircuitState, Pass};
use crate::execution::{Cause, ExecutionResult, Failure, Phase, Rejection, SkillIdentity};
use crate::limits::Limit;
use crate::policy::{BreakerRules, CurrentPolicy, Policy};
use crate::skill::Digest;

/// What a circuit stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CircuitSubject {
    /// A skill.
    Skill {
        /// The digest.
        digest: Digest,
    },
    /// A host that skills send requests to, with its port.
    Host {
        /// As it stands in a URL: `api.example.com:443`.
        host: String,
    },
}

impl fmt::Display for CircuitSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CircuitSubject::Skill { digest } => write!(f, "skill {digest}"),
            CircuitSubject::Host { host } => write!(f, "host {host}"),
        }
    }
}

/// A circuit that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitChange {
    /// Which one.
    #[serde(flatten)]
    pub subject: CircuitSubject,
    /// How it stood.
    pub from: CircuitState,
    /// How it stands.
    pub to: CircuitState,
}

/// How one circuit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitStanding {
    /// Which one.
    #[serde(flatten)]
    pub subject: CircuitSubject,
    /// How it stands.
    pub state: CircuitState,
}

type Watcher = Arc<dyn Fn(&CircuitChange) + Send + Sync>;

/// The circuits of a host: one for each skill, by digest, and one for each host that skills send
/// requests to. Cheap to clone; every clone is the same.
///
/// When they open is said by the policy, in `each_skill.breaker`, `skills.NAME.breaker` and
/// `each_host.breaker`; where it says nothing, everything goes through.
#[derive(Clone)]
pub struct Breakers(CurrentPolicy);

/// The circuits, and who hears of them.
#[derive(Default)]
pub(super) struct Circuits {
    skills: breaker::Circuits<Digest>,
    hosts: breaker::Circuits<String>,
    watchers: ArcSwap<Vec<Watcher>>,
}

impl Breakers {
    /// Those of a policy.
    pub(crate) fn of(policy: CurrentPolicy) -> Self {
        Breakers(policy)
    }

    fn circuits(&self) -> &Circuits {
        &self.0.counted().circuits
    }

    /// The policy that they go by.
    pub fn policy(&self) -> &CurrentPolicy {
        &self.0
    }

    /// How each circuit stands that outcomes were recorded for, skills first.
    pub fn standings(&self) -> Vec<CircuitStanding> {
        let skills = self.circuits().skills.states().into_iter();
        let skills = skills.map(|(digest, state)| CircuitStanding {
            subject: CircuitSubject::Skill { digest },
            state,
        });
        let hosts = self.circuits().hosts.states().into_iter();
        let hosts = hosts.map(|(host, state)| CircuitStanding {
            subject: CircuitSubject::Host { host },
            state,
        });
        let mut standings: Vec<_> = skills.chain(hosts).collect();
        standings.sort_by_cached_key(|standing| {
            let subject = &standing.subject;
            (
                matches!(subject, CircuitSubject::Host { .. }),
                subject.to_string(),
            )
        });
        standings
    }

    /// Tells of each change from now on. Called where the change happens, so that it should be quick.
    pub fn watch(&self, watcher: impl Fn(&CircuitChange) + Send + Sync + 'static) {
        let watcher: Watcher = Arc::new(watcher);
        self.circuits().watchers.rcu(|watchers| {
            let mut watchers = Vec::clone(watchers);
            watchers.push(Arc::clone(&watcher));
            watchers
        });
    }

    fn tell(&self, change: Option<Change>, subject: impl FnOnce() -> CircuitSubject) {
        let Some(Change { from, to }) = change else {
            return;
        };
        let subject = subject();
        tracing::info!(%subject, from = from.as_str(), to = to.as_str(), "a circuit has changed");
        let change = CircuitChange { subject, from, to };
        for watcher in &**self.circuits().watchers.load() {
            watcher(&change);
        }
    }

    fn of_skill(&self, name: &str) -> Option<BreakerSettings> {
        let policy = self.0.load();
        let policy = policy.as_ref()?;
        skill_rules(policy, name).map(|rules| rules.settings())
    }

    /// A pass for a skill; `None` where it has no circuit.
    ///
    /// # Errors
    /// Where its circuit is open.
    pub(super) fn pass(
        &self,
        skill: &Arc<SkillIdentity>,
    ) -> Result<Option<Held<'_>>, Box<Failure>> {
        if self.of_skill(&skill.name).is_none() {
            return Ok(None);
        }
        match self.allow(&**skill) {
            Ok(pass) => Ok(Some(Held {
                breakers: self,
                skill: Arc::clone(skill),
                pass: Some(pass),
            })),
            Err(wait) => Err(Box::new(rejection(skill, wait, self.0.get().as_deref()))),
        }
    }

    /// What would be said to a request for a skill now.
    pub(super) fn refusal(&self, skill: &SkillIdentity) -> Option<Failure> {
        self.of_skill(&skill.name)?;
        let left = self.circuits().skills.pause_left(&skill.digest);
        let refused = || rejection(skill, left, self.0.get().as_deref());
        (!left.is_zero()).then(refused)
    }

    fn of_hosts(&self) -> Option<BreakerSettings> {
        let policy = self.0.load();
        Some(policy.as_ref()?.each_host.breaker?.settings())
    }
}

/// What the policy says of the circuit of a skill, where it has one.
fn skill_rules(policy: &Policy, name: &str) -> Option<BreakerRules> {
    let own = policy.skills.get(name).and_then(|skill| skill.breaker);
    match (own, policy.each_skill.breaker) {
        (Some(own), Some(each)) => Some(own.or(&each)),
        (own, each) => own.or(each),
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.standings()).finish()
    }
}

macro_rules! breaker {
    ($key:ty, $circuits:ident, |$this:ident, $named:ident| $settings:expr, $key_of:expr, $by:expr, $subject:expr) => {
        impl Breaker<$key> for Breakers {
            fn allow(&self, $named: &$key) -> Result<Pass, Duration> {
                let $this = self;
                let Some(settings) = $settings else {
                    return Ok(Pass::free());
                };
                let mut change = None;
                let allowed = self
                    .circuits()
                    .$circuits
                    .allow($key_of, &settings, &mut change);
                self.tell(change, || $subject);
                allowed
            }

            fn record_success(&self, $named: &$key, pass: Pass) {
                let $this = self;
                if let Some(settings) = $settings {
                    let change = self
                        .circuits()
                        .$circuits
                        .record_success($key_of, $by, pass, &settings);
                    self.tell(change, || $subject);
                }
            }

            fn record_failure(&self, $named: &$key, pass: Pass) {
                let $this = self;
                if let Some(settings) = $settings {
                    let change = self
                        .circuits()
                        .$circuits
                        .record_failure($key_of, $by, pass, &settings);
                    self.tell(change, || $subject);
                }
            }

            fn withdraw(&self, $named: &$key, pass: Pass) {
                self.circuits().$circuits.withdraw($key_of, pass);
            }

            fn state(&self, $named: &$key) -> CircuitState {
                self.circuits().$circuits.state($key_of)
            }
        }
    };
}

breaker!(
    SkillIdentity,
    skills,
    |this, skill| this.of_skill(&skill.name),
    &skill.digest,
    None,
    CircuitSubject::Skill {
        digest: skill.digest
    }
);
breaker!(
    Asked,
    hosts,
    |this, asked| this.of_hosts(),
    asked.key.as_str(),
    Some(asked.by.as_str()),
    CircuitSubject::Host {
        host: asked.key.clone()
    }
);

/// A pass that is handed back as one that came to nothing, where nothing else is done with it.
pub(super) struct Held<'b> {
    breakers: &'b Breakers,
    skill: Arc<SkillIdentity>,
    pass: Option<Pass>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.breakers.withdraw(&*self.skill, pass);
        }
    }
}

impl Held<'_> {
    /// With what came of it.
    pub fn record(mut self, outcome: Option<bool>) {
        if let Some(good) = outcome
            && let Some(pass) = self.pass.take()
        {
            match good {
                true => self.breakers.record_success(&*self.skill, pass),
                false => self.breakers.record_failure(&*self.skill, pass),
            }
        }
    }
}

/// Whether a result speaks for the skill, or against it, or says nothing of it.
///
/// A timeout speaks against it only where it had the time that it has for everybody: who gives it too
/// little, or may give it no more, should not close it for others.
pub(super) fn judge(result: &ExecutionResult, time_asked: bool) -> Option<bool> {
    let Some(failure) = &result.failure else {
        return Some(true);
    };
    match &failure.cause {
        // What was refused to it may be why.
        _ if !failure.denials.is_empty() => None,
        Cause::SkillError { .. }
        | Cause::Trap { .. }
        | Cause::InvalidOutput { .. }
        | Cause::HostPanic => Some(false),
        // It did not run yet, or its answer waited for others'.
        Cause::Timeout {
            phase: Phase::Waiting,
            ..
        } => None,
        Cause::Timeout {
            limit: Limit::WallTime,
            ..
        } if !time_asked && !is_clamped(result) => Some(false),
        _ => None,
    }
}

fn is_clamped(result: &ExecutionResult) -> bool {
    let mut clamped = result.clamped.iter();
    clamped.any(|clamped| clamped.limit == Limit::WallTime)
}

fn rejection(skill: &SkillIdentity, wait: Duration, policy: Option<&Policy>) -> Failure {
    let own = policy.is_some_and(|policy| {
        let own = policy.skills.get(&*skill.name);
        own.is_some_and(|own| own.breaker.is_some())
    });
    let rule = match own {
        true => format!("skills.{}.breaker", skill.name),
        false => "each_skill.breaker".to_owned(),
    };
    let cause = Cause::Rejected {
        reason: Rejection::CircuitOpen,
        retry_at: Some(Utc::now() + wait),
    };
    let message = format!(
        "not admitted: `{}` failed too often lately, and is left alone for a while",
        skill.name
    );
    Failure::new(cause, message)
        .rule(rule)
        .hint("try again later; what it failed with stands in its earlier results")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn skill(name: &str, component: &[u8]) -> SkillIdentity {
        SkillIdentity {
            name: name.into(),
            version: "1.0.0".into(),
            digest: Digest::of_component(component),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_policy_says_when_and_changes_are_told() {
        let policy: Policy = r#"
            each_skill.breaker = { minimum = 2, probes = 1 }
            skills.steady.breaker = { minimum = 3 }
            each_host.breaker = { minimum = 1 }
        "#
        .parse()
        .unwrap();
        let current = CurrentPolicy::new(Some(policy));
        let breakers = current.breakers();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let hears = Arc::clone(&told);
        breakers.watch(move |change| {
            let line = format!("{} {}", change.subject, change.to.as_str());
            hears.lock().unwrap().push(line);
        });
        let (one, steady) = (skill("one", b"1"), skill("steady", b"2"));
        for _ in 0..2 {
            breakers.record_failure(&one, breakers.allow(&one).unwrap());
            breakers.record_failure(&steady, breakers.allow(&steady).unwrap());
        }
        assert_eq!(breakers.state(&one), CircuitState::Open);
        assert_eq!(breakers.state(&steady), CircuitState::Closed);
        let other_version = skill("one", b"3");
        assert!(breakers.allow(&other_version).is_ok(), "another digest");
        let host = "api.example.com:443";
        let asked = Asked {
            key: host.to_owned(),
            by: "one".to_owned(),
        };
        breakers.record_failure(&asked, breakers.allow(&asked).unwrap());
        assert!(breakers.allow(&asked).is_err());
        let opened = format!("skill {} open", one.digest);
        assert_eq!(*told.lock().unwrap(), [opened, format!("host {host} open")]);
        assert_eq!(breakers.standings().len(), 3);
        current.set(None);
        assert!(breakers.allow(&one).is_ok(), "nothing is said any more");
    }
}
