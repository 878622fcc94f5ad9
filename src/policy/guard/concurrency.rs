//! How many run at once, and who waits how long for that.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::execution::{Cause, Control, Failure, Rejection, Stopped, TO_RUN, moment};
use crate::limits::display_duration;
use crate::policy::{Concurrency, CurrentPolicy, Policy};
use crate::turns::line::{Bounds, Line, Ticket, Whose};

/// The longest that anybody waits, whatever a policy that was not parsed says.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// The soonest that anybody is told to come back.
const SOONEST: Duration = Duration::from_secs(1);
/// The latest.
const LATEST: Duration = Duration::from_secs(300);

/// The longest that a job waits: it holds a place of its worker's meanwhile, which others could have.
const LONGEST_WAIT_OF_A_JOB: Duration = Duration::from_millis(50);
/// The latest that a job comes back, so that what becomes free is not left so for long.
const LATEST_FOR_A_JOB: Duration = Duration::from_secs(10);

/// Lets so many run at once as the policy says: of all, of a tenant, of a skill. The others wait, in
/// order and in fair turns between tenants.
pub(super) struct Gate {
    pub policy: CurrentPolicy,
}

/// In one process.
#[derive(Default)]
pub(in crate::policy) struct State {
    line: Line<oneshot::Sender<Called>>,
    /// How long one runs, lately, in seconds.
    held: f64,
}

/// What one that waits is told.
enum Called {
    Start,
    /// Somebody who has less waiting took its place.
    PushedOut,
}

/// What the policy says of concurrency, and the host's own bound.
struct Rules<'p> {
    policy: Option<&'p Policy>,
    capacity: Option<u32>,
}

impl<'p> Rules<'p> {
    fn of(policy: Option<&'p Policy>, current: &CurrentPolicy) -> Self {
        let capacity = current.counted().capacity();
        Rules { policy, capacity }
    }

    fn general(&self) -> Concurrency {
        self.policy
            .map_or(Concurrency::default(), |policy| policy.general.concurrency)
    }

    fn of_tenant(&self, tenant: &str) -> Concurrency {
        let Some(policy) = self.policy else {
            return Concurrency::default();
        };
        let each = &policy.each_tenant.concurrency;
        match policy.tenants.get(tenant) {
            Some(rules) => rules.concurrency.or(each),
            None => *each,
        }
    }

    fn of_skill(&self, skill: &str) -> Concurrency {
        let Some(policy) = self.policy else {
            return Concurrency::default();
        };
        let each = &policy.each_skill.concurrency;
        match policy.skills.get(skill) {
            Some(rules) => rules.concurrency.or(each),
            None => *each,
        }
    }

    /// Whether there is any bound.
    fn are_any(&self) -> bool {
        self.capacity.is_some()
            || self.policy.is_some_and(|policy| {
                let bounded = |concurrency: &Concurrency| concurrency.at_once.is_some();
                bounded(&policy.general.concurrency)
                    || bounded(&policy.each_tenant.concurrency)
                    || bounded(&policy.each_skill.concurrency)
                    || policy
                        .tenants
                        .values()
                        .any(|rules| bounded(&rules.concurrency))
                    || policy
                        .skills
                        .values()
                        .any(|rules| bounded(&rules.concurrency))
            })
    }
}

impl Bounds for Rules<'_> {
    fn all(&self) -> u32 {
        let said = self.general().at_once.map_or(u32::MAX, |most| most.get());
        said.min(self.capacity.unwrap_or(u32::MAX))
    }

    fn tenant(&self, tenant: &str) -> (Option<u32>, u32) {
        let Concurrency {
            at_once, weight, ..
        } = self.of_tenant(tenant);
        (
            at_once.map(|most| most.get()),
            weight.map_or(1, |weight| weight.get()),
        )
    }

    fn skill(&self, skill: &str) -> Option<u32> {
        self.of_skill(skill).at_once.map(|most| most.get())
    }
}

/// The right to run, or to wait for it. Given back when it is dropped.
pub(super) struct Turn<'g> {
    gate: &'g Gate,
    held: Held,
}

enum Held {
    Running {
        whose: Option<Whose>,
        since: Instant,
    },
    Waiting {
        ticket: Ticket,
        called: oneshot::Receiver<Called>,
    },
    Nothing,
}

/// What comes of asking for a turn.
pub(super) enum Asked<'g> {
    Free,
    Turn(Turn<'g>),
    Wait(Turn<'g>, Duration),
    Full(Box<Failure>),
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        let turns = &self.policy.counted().turns;
        turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a turn.
    pub fn ask(&self, tenant: &str, skill: &str, since: Instant) -> Asked<'_> {
        let policy = self.policy.load();
        if !Rules::of(policy.as_deref(), &self.policy).are_any() {
            return Asked::Free;
        }
        let mut state = self.lock();
        // Once more, as it is now: whoever puts another in place calls those who wait after this.
        let policy = self.policy.load();
        let rules = Rules::of(policy.as_deref(), &self.policy);
        if state.line.waiting() > 0 {
            // By bounds that may have changed: whoever is left then has to wait for what it lacks itself.
            state.call(&rules);
        }
        if let Some(whose) = state.line.start(tenant, skill, &rules) {
            drop(state);
            let held = Held::Running { whose, since };
            return Asked::Turn(Turn { gate: self, held });
        }
        let (general, of_tenant, of_skill) = (
            rules.general(),
            rules.of_tenant(tenant),
            rules.of_skill(skill),
        );
        let full = |state: &State, rule: String, what: &str| {
            let failure = rejection(
                Rejection::QueueFull,
                format!("not admitted: too many requests{what} are waiting"),
                state.patience(&rules),
            );
            Asked::Full(Box::new(failure.rule(rule)))
        };
        if let Some(most) = of_tenant.waiting
            && state.line.waiting_of_tenant(tenant) >= most
        {
            return full(
                &state,
                rule("tenants", "each_tenant", tenant, &rules),
                " of this tenant",
            );
        }
        if let Some(most) = of_skill.waiting
            && state.line.waiting_of_skill(skill) >= most
        {
            return full(
                &state,
                rule("skills", "each_skill", skill, &rules),
                " for this skill",
            );
        }
        if state.line.waiting() >= general.waiting.unwrap_or(Concurrency::WAITING) {
            match state.line.push_out(tenant, &rules) {
                // It hears of it; or it is gone.
                Some(pushed_out) => drop(pushed_out.send(Called::PushedOut)),
                None => return full(&state, "general.concurrency.waiting".to_owned(), ""),
            }
        }
        let (call, called) = oneshot::channel();
        let ticket = state.line.wait(tenant, skill, call);
        drop(state);
        let patience = [general.wait, of_tenant.wait, of_skill.wait]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Concurrency::WAIT)
            .min(LONGEST_WAIT);
        let held = Held::Waiting { ticket, called };
        Asked::Wait(Turn { gate: self, held }, patience)
    }

    /// When one that waited in vain may come back.
    fn patience(&self) -> Duration {
        let policy = self.policy.load();
        let rules = Rules::of(policy.as_deref(), &self.policy);
        self.lock().patience(&rules)
    }
}

/// Starts whoever may start by a policy that was just put in place of another.
pub(in crate::policy) fn call(policy: &CurrentPolicy) {
    let now = policy.load();
    let rules = Rules::of(now.as_deref(), policy);
    let turns = policy.counted().turns.lock();
    let mut state = turns.unwrap_or_else(PoisonError::into_inner);
    if state.line.waiting() > 0 {
        state.call(&rules);
    }
}

/// The table that bounds how many may wait.
fn rule(table: &str, each: &str, name: &str, rules: &Rules<'_>) -> String {
    let own = rules.policy.and_then(|policy| match table {
        "tenants" => policy.tenants.get(name)?.concurrency.waiting,
        _ => policy.skills.get(name)?.concurrency.waiting,
    });
    match own {
        Some(_) => format!("{table}.{name}.concurrency.waiting"),
        None => format!("{each}.concurrency.waiting"),
    }
}

impl State {
    /// Starts whoever may start.
    fn call(&mut self, rules: &Rules<'_>) {
        while let Some((call, whose)) = self.line.next(rules) {
            // Whoever is gone gives its turn back before its end of the channel is.
            if call.send(Called::Start).is_err() {
                self.line.finish(Some(&whose));
            }
        }
    }

    /// How long it takes, as things go, until all that wait now have started.
    fn patience(&self, rules: &Rules<'_>) -> Duration {
        let places = f64::from(rules.all().min(self.line.running().max(1)));
        let seconds = self.held * f64::from(self.line.waiting() + 1) / places;
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(LATEST)
            .clamp(SOONEST, LATEST)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        if matches!(held, Held::Nothing) {
            return;
        }
        let mut state = self.gate.lock();
        // Under the lock, so that no bound that was raised meanwhile is passed over.
        let policy = self.gate.policy.load();
        let rules = Rules::of(policy.as_deref(), &self.gate.policy);
        match held {
            Held::Running { whose, since } => {
                let seconds = since.elapsed().as_secs_f64();
                state.held += (seconds - state.held) / 16.0;
                state.line.finish(whose.as_ref());
            }
            Held::Waiting { ticket, mut called } => {
                // Under the lock, so that it was called by now or never will be.
                if state.line.leave(&ticket).is_none()
                    && matches!(called.try_recv(), Ok(Called::Start))
                {
                    state.line.finish(Some(&ticket.whose));
                }
            }
            Held::Nothing => {}
        }
        if state.line.waiting() > 0 {
            state.call(&rules);
        }
    }
}

impl Turn<'_> {
    /// Waits until it is called, as long as it may.
    ///
    /// # Errors
    /// Why it is not to run.
    pub async fn called(
        mut self,
        patience: Duration,
        deadline: Option<DateTime<Utc>>,
        control: &mut Control,
    ) -> Result<Self, Box<Failure>> {
        let began = Instant::now();
        let (patience, latest) = match control.job {
            Some(_) => (patience.min(LONGEST_WAIT_OF_A_JOB), LATEST_FOR_A_JOB),
            None => (patience, LATEST),
        };
        let waited = self.wait(
            (patience, latest),
            deadline.map(moment),
            control.cancellation.as_ref(),
        );
        let waited = waited.await;
        control.waited += began.elapsed();
        waited.map(|()| self)
    }

    /// Waits until it is called, so long at most; otherwise it is to come back, so late at most.
    ///
    /// # Errors
    /// Why it is not to run.
    async fn wait(
        &mut self,
        (patience, latest): (Duration, Duration),
        deadline: Option<Instant>,
        cancellation: Option<&CancellationToken>,
    ) -> Result<(), Box<Failure>> {
        let until = Instant::now() + patience;
        let Held::Waiting { called, ticket } = &mut self.held else {
            return Ok(());
        };
        let cancelled = async {
            match cancellation {
                Some(token) => token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let end = deadline.map_or(until, |deadline| deadline.min(until));
        let ended = tokio::select! {
            biased;
            called = &mut *called => match called {
                Ok(Called::Start) => Ok(()),
                _ => Err(Rejection::QueueFull),
            },
            () = cancelled => {
                return Err(Box::new(Stopped::Cancelled.failure(TO_RUN)));
            }
            () = tokio::time::sleep_until(end) => {
                if deadline.is_some_and(|deadline| deadline <= until) {
                    return Err(Box::new(Stopped::Deadline.failure(TO_RUN)));
                }
                Err(Rejection::WaitedTooLong)
            }
        };
        match ended {
            Ok(()) => {
                self.held = Held::Running {
                    whose: Some(ticket.whose.clone()),
                    since: Instant::now(),
                };
                Ok(())
            }
            Err(Rejection::WaitedTooLong) => Err(Box::new(rejection(
                Rejection::WaitedTooLong,
                format!(
                    "not admitted: it waited for its turn for {}, which is as long as one may",
                    display_duration(patience)
                ),
                self.gate.patience().min(latest),
            ))),
            Err(reason) => Err(Box::new(rejection(
                reason,
                "not admitted: too many requests are waiting, most of them of this tenant".into(),
                self.gate.patience(),
            ))),
        }
    }
}

fn rejection(reason: Rejection, message: String, after: Duration) -> Failure {
    let cause = Cause::Rejected {
        reason,
        retry_at: Some(Utc::now() + after),
    };
    Failure::new(cause, message).hint("try again later")
}
