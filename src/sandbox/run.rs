//! One execution, from a free slot to its usage.

mod answer;
mod check;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wasmtime::Store;

use super::capability::{self, Around, Backing, Capabilities, Chatter, NotGranted};
use super::classify::{self, Circumstances, Stop};
use super::contract::{self, Component, wit};
use super::exhausted;
use super::flight::Flight;
use super::interrupt::conduct::Conduct;
use super::interrupt::{Interruptible, MAX_SLICE};
use super::panicked;
use super::place::Place;
use super::state::State;
use crate::execution::{Attachment, Cause, Event, Failure, HostError, Phase, TO_RUN, stopped};
use crate::grant::{Asker, Denial, Grants};
use crate::limits::{Limit, Limits};
use crate::secret::Wanted;
use crate::skill::{Description, Digest};
use crate::text::printable;
use crate::turns::Party;
use crate::turns::threads::Threads;
use crate::usage::ResourceUsage;
pub(crate) use answer::Answer;
pub(crate) use check::{For, input_takes_too_long};

/// How often each of the guests that compute at the same time should get its turn.
const ROUND: Duration = Duration::from_millis(2);
/// No time slice is shorter: taking turns itself costs about 1 µs.
const MIN_SLICE: Duration = Duration::from_micros(20);

/// Whoever asks a skill what it is, among those that share mappings of memory: no tenant has such a name.
const OF_NO_TENANT: &str = "\0";

/// Runs guests.
pub(crate) struct Runner {
    cores: u32,
    backing: Backing,
    /// For what is checked for long.
    checks: Threads,
}

/// Everything that one execution needs to know.
pub(crate) struct Plan<'a> {
    /// The skill, as what asks for more than it was granted.
    pub asker: &'a Arc<Asker>,
    pub tool: &'a str,
    /// Whom it is run for.
    pub tenant: Option<&'a str>,
    /// The input's JSON text.
    pub input: &'a String,
    pub attachments: Vec<Attachment>,
    pub grants: &'a Grants,
    /// What the policy says of directories, where any are granted.
    pub around: Arc<Around>,
    /// The secrets among them.
    pub secrets: Vec<Wanted>,
    pub skill: Digest,
    pub attempt: u32,
    pub cancellation: Option<&'a CancellationToken>,
}

/// An execution whose time runs.
struct Begun<'c> {
    ends: Instant,
    time_limit: Limit,
    share: Duration,
    conduct: &'c Conduct,
    times: u32,
}

impl Runner {
    /// A runner whose guests are granted what is behind this.
    pub fn new(backing: Backing) -> Self {
        crate::file_size::have_writes_fail();
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let cores = u32::try_from(cores).unwrap_or(1);
        Runner {
            cores,
            backing,
            checks: Threads::new(check::threads(cores)),
        }
    }

    /// Whether what is granted is there to be given, as far as can be seen without giving it. Blocks.
    pub fn openable(&self, grants: &Grants, around: &Around) -> Result<(), Denial> {
        capability::openable(grants, around, &self.backing)
    }

    /// Whether the operator reads the failures.
    pub fn for_operator(&self) -> bool {
        self.backing.for_operator
    }

    /// Waits until the scratch directories of executions that have ended are gone.
    pub async fn cleared(&self) {
        self.backing.scratch.cleared().await;
    }

    /// Closes the file in which skills keep what they keep.
    pub fn close_storage(&self) {
        if let Some(storage) = &self.backing.storage {
            storage.close();
        }
    }

    /// How long each guest would have in one round, were all of them computing.
    fn share(&self, component: &Component) -> Duration {
        let active = component.tier.active.load(Ordering::Relaxed).max(1);
        ROUND * self.cores / active
    }

    /// How long one guest may keep a thread while others wait for theirs.
    fn slice(&self, component: &Component) -> Duration {
        self.share(component).clamp(MIN_SLICE, MAX_SLICE)
    }

    /// Runs one tool. The flight then holds the usage.
    ///
    /// The slot that it takes is put into `slot`, which must outlive the flight: whoever waits for
    /// it may only go on when the instance is gone, also where both are dropped half way. It stays there, for as long as
    /// the answer takes.
    pub async fn run<'c>(
        &self,
        slot: &mut Option<Place<'c>>,
        component: &'c Component,
        flight: &mut Flight,
        plan: Plan<'_>,
    ) -> Result<Result<Answer, Failure>, HostError> {
        let Plan {
            asker,
            tool,
            tenant,
            input,
            attachments,
            grants,
            around,
            secrets,
            skill,
            attempt,
            cancellation,
        } = plan;
        let attached: u64 = attachments.iter().map(Attachment::counted_bytes).sum();
        let input_bytes = input.len() as u64 + attached;
        match self.slot(flight, component, tenant, cancellation).await? {
            Ok(free) => *slot = Some(free),
            Err(failure) => return Ok(Err(failure)),
        }
        if !secrets.is_empty() {
            let party = Party::of(tenant, asker.name());
            let read = capability::secrets(secrets, &party, &self.backing);
            let read = within_time(flight, cancellation, read);
            match Box::pin(read).await? {
                Ok(held) => flight.secrets = Some(held),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        let request_id = capability::repeated_id(grants, &skill, tool, input, &attachments);
        // What it is given is in the store from then on, and not kept here for as long as it runs.
        let begun = {
            let chatter = Chatter::new(flight.listeners.clone(), &flight.limits);
            let mut capabilities = Capabilities::new(Arc::clone(asker), &flight.limits, chatter);
            let held = flight.secrets.as_ref();
            capabilities.grant(grants, tenant, &flight.limits, &self.backing, held);
            if !grants.directories.is_empty() || grants.scratch {
                let limits = flight.limits;
                let opened = capabilities.open(grants, &around, tenant, &limits, &self.backing);
                let opened = within_time(flight, cancellation, opened);
                if let Err(failure) = Box::pin(opened).await? {
                    return Ok(Err(failure));
                }
            }
            flight.usage.input_bytes = input_bytes;
            self.begin(flight, component, (tenant, capabilities), cancellation)?
        };
        let attachments: Vec<wit::Attachment> = attachments.into_iter().map(Into::into).collect();
        let request_id = request_id.unwrap_or(flight.listeners.request_id);
        let ended = pin!(self.fly(
            flight,
            component,
            begun,
            cancellation,
            async |skill, store| {
                let mut text = Uuid::encode_buffer();
                let context = wit::Context {
                    request_id: request_id.hyphenated().encode_lower(&mut text).to_owned(),
                    attempt,
                };
                let tools = skill.skillhost_skill_tools();
                let called = tools.call_execute(store, tool, input, &attachments, &context);
                pin!(called).await
            },
        ))
        .await?;
        // Nobody waits for its removal.
        flight.scratch = None;
        let ended = ended.and_then(|answer| Answer::of(flight, answer));
        Ok(match &flight.secrets {
            None => ended,
            Some(secrets) => ended.map_err(|failure| failure.scrubbed(&secrets.scrubber)),
        })
    }

    /// Asks a component what it is, in an instance of its own and with nothing granted; and what that cost.
    pub async fn describe(
        &self,
        component: &Component,
        limits: Limits,
    ) -> Result<(Result<Description, Failure>, ResourceUsage), HostError> {
        // Declared first and so dropped last: see `run`.
        let slot;
        let mut flight = Flight::new(Uuid::nil(), [None, None], limits, None);
        match self
            .slot(&mut flight, component, Some(OF_NO_TENANT), None)
            .await?
        {
            Ok(free) => slot = free,
            Err(failure) => return Ok((Err(failure), ResourceUsage::default())),
        }
        let capabilities = Capabilities::none(&flight.limits);
        let begun = self.begin(&mut flight, component, (None, capabilities), None)?;
        let described = self
            .fly(&mut flight, component, begun, None, async |skill, store| {
                store.data_mut().is_asked_what_it_is();
                skill.skillhost_skill_tools().call_describe(store).await
            })
            .await?;
        drop(slot);
        let failure = described.as_ref().err();
        flight.finish(failure);
        let described = described.and_then(|described| {
            contract::description(described).map_err(|message| {
                Failure::new(
                    Cause::InvalidOutput {
                        pointer: String::new(),
                    },
                    printable(&message, false).into_owned(),
                )
            })
        });
        Ok((described, std::mem::take(&mut flight.usage)))
    }

    /// Waits for a free slot, no longer than the deadline allows.
    async fn slot<'c>(
        &self,
        flight: &mut Flight,
        component: &'c Component,
        tenant: Option<&str>,
        cancellation: Option<&CancellationToken>,
    ) -> Result<Result<Place<'c>, Failure>, HostError> {
        if cancellation.is_some_and(CancellationToken::is_cancelled) {
            return Ok(Err(classify::cancelled(Phase::Waiting)));
        }
        if flight
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            let limits = &flight.limits;
            return Ok(Err(classify::timeout(
                Limit::Deadline,
                limits,
                Phase::Waiting,
            )));
        }
        let instances = flight.limits.instances;
        if let Some(free) = Place::free(component, tenant, instances) {
            return Ok(Ok(free));
        }
        flight.waits();
        let slot = Box::pin(async {
            tokio::select! {
                place = Place::next(component, tenant, instances) => place.map(Ok),
                stopped = stopped(flight.deadline.map(Into::into), cancellation) => {
                    let failure = stopped.failure(TO_RUN);
                    Ok(Err(failure))
                }
            }
        });
        let slot = slot.await;
        flight.waited();
        slot.map_err(|_| HostError::Internal("the pool's slots were closed".into()))
    }

    /// Makes its store, and has its time run.
    fn begin<'c>(
        &self,
        flight: &mut Flight,
        component: &'c Component,
        (tenant, capabilities): (Option<&str>, Capabilities),
        cancellation: Option<&CancellationToken>,
    ) -> Result<Begun<'c>, HostError> {
        let started = Instant::now();
        let (ends, time_limit) = flight.ends(started);
        flight.tell(&Event::Started);
        flight.started = Some(started);
        flight.began = Some(started);
        flight.phase = Phase::Instantiation;
        let share = self.share(component);
        let conduct = component.code.conducts.of(tenant);
        let times = conduct.pace.times(started);
        let store = State::store(
            component,
            &flight.limits,
            capabilities,
            started,
            ends,
            (share, times),
            cancellation.cloned(),
        )?;
        flight.store = Some(store);
        Ok(Begun {
            ends,
            time_limit,
            share,
            conduct,
            times,
        })
    }

    /// Instantiates the component and makes one call, both under the limits.
    async fn fly<T>(
        &self,
        flight: &mut Flight,
        component: &Component,
        begun: Begun<'_>,
        cancellation: Option<&CancellationToken>,
        call: impl AsyncFnOnce(&contract::bindings::Skill, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<Result<T, Failure>, HostError> {
        let Begun {
            ends,
            time_limit,
            share,
            conduct,
            times,
        } = begun;
        let Flight {
            store,
            phase,
            instantiated,
            usage,
            ..
        } = flight;
        let Some(store) = store else {
            return Err(HostError::Internal("it has no store".into()));
        };
        // What is awaited is pinned where it is made: awaiting it as it is would move it, and it is
        // large.
        let ended = Interruptible::new(
            pin!(async {
                store.data_mut().limiter.admit()?;
                let skill = pin!(component.instantiate(store)).await?;
                *instantiated = Some(Instant::now());
                *phase = Phase::Run;
                let answer = pin!(call(&skill, store)).await?;
                // A limit that was met beside the guest, without its noticing.
                let state = store.data();
                match state.network.stop().or_else(|| state.directories.stop()) {
                    Some(stop) => Err(wasmtime::Error::from(stop)),
                    None => Ok(answer),
                }
            }),
            ends,
            cancellation,
            || self.slice(component),
            &mut usage.cpu_time,
        )
        .preempted(&component.code, conduct, share, times)
        .await;
        let ended_at = Instant::now();
        let circumstances = Circumstances {
            phase: flight.phase,
            limits: &flight.limits,
            time_limit,
        };
        let stopped = |stop| Err(classify::stopped(stop, circumstances, Vec::new()));
        let ended = match ended {
            // It came to its end before anybody looked, such as in a bulk memory instruction.
            Ok(Ok(_)) if ended_at >= ends => stopped(Stop::TimeIsUp),
            Ok(Ok(_)) if cancellation.is_some_and(CancellationToken::is_cancelled) => {
                stopped(Stop::Cancelled)
            }
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => match error.downcast::<HostError>() {
                Ok(broken) => {
                    flight.land(ended_at);
                    return Err(broken);
                }
                Err(error) => Err(classify::failure(&error, circumstances)),
            },
            Err(stop) => stopped(stop),
        };
        flight.land(ended_at);
        Ok(ended.map_err(|failure| panicked::explained(failure, &flight.stderr, flight.phase)))
    }
}

/// Gets something ready that is granted, no longer than the deadline allows.
async fn within_time<T>(
    flight: &mut Flight,
    cancellation: Option<&CancellationToken>,
    getting_ready: impl Future<Output = Result<T, NotGranted>>,
) -> Result<Result<T, Failure>, HostError> {
    flight.waits();
    let ready = tokio::select! {
        biased;
        ready = getting_ready => Ok(ready),
        stopped = stopped(flight.deadline.map(Into::into), cancellation) => {
            Err(stopped.failure(TO_RUN))
        }
        // A disk that does not answer must not keep the slot for ever.
        () = tokio::time::sleep(flight.limits.wall_time) => {
            let limits = &flight.limits;
            Err(classify::timeout(Limit::WallTime, limits, Phase::Waiting))
        }
    };
    flight.waited();
    let ready = match ready {
        Ok(ready) => ready,
        Err(failure) => return Ok(Err(failure)),
    };
    match ready {
        Ok(ready) => Ok(Ok(ready)),
        Err(NotGranted::Denied(denial)) => Ok(Err(Failure::denied(vec![denial]))),
        Err(NotGranted::Exhausted(why)) => Ok(Err(classify::exhausted(&why))),
        Err(NotGranted::Host(error)) => Err(error),
        Err(NotGranted::Stopped(stop)) => {
            let circumstances = Circumstances {
                phase: Phase::Waiting,
                limits: &flight.limits,
                time_limit: Limit::Deadline,
            };
            Ok(Err(classify::stopped(stop, circumstances, Vec::new())))
        }
    }
}

/// The failure of an input of this many bytes, if it is over the limit.
pub(crate) fn over_input(bytes: u64, limits: &Limits) -> Option<Failure> {
    let allowed = limits.input_bytes;
    (bytes > allowed).then(|| {
        exhausted::limit_failure(
            Limit::Input,
            allowed,
            Some(bytes),
            Vec::new(),
            Phase::Waiting,
        )
    })
}

/// The failure of a request whose deadline has passed before it runs, if it has.
pub(crate) fn too_late(deadline: Option<DateTime<Utc>>, limits: &Limits) -> Option<Failure> {
    let passed = deadline.is_some_and(|deadline| deadline <= Utc::now());
    passed.then(|| classify::timeout(Limit::Deadline, limits, Phase::Waiting))
}

#[cfg(test)]
mod tests;
