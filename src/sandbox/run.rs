//! One execution, from a free slot to its usage.

mod check;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wasmtime::Store;

use super::capability::{self, Backing, Capabilities, Chatter, NotGranted};
use super::classify::{self, Circumstances, Stop};
use super::contract::answer::{MAX_ATTACHMENTS, Text};
use super::contract::{self, Component, wit};
use super::flight::Flight;
use super::interrupt::{Interruptible, MAX_SLICE};
use super::panicked;
use super::place::Place;
use super::state::State;
use crate::execution::{
    Attachment, Cause, Event, Failure, HostError, MAX_RETRY_AFTER_MS, Phase, TO_RUN, stopped,
};
use crate::grant::{Asker, Denial, Grants};
use crate::limits::{Limit, Limits};
use crate::secret::Wanted;
use crate::skill::{Description, Digest};
use crate::text::{named, printable, shortened};
use crate::turns::Party;
use crate::turns::threads::Threads;
use crate::usage::ResourceUsage;
pub(crate) use check::{For, input_takes_too_long};

/// The bytes that are kept of a message of a guest's, before what cannot be shown is escaped.
const MAX_MESSAGE: usize = 8 * 1024;
/// How often each of the guests that compute at the same time should get its turn.
const ROUND: Duration = Duration::from_millis(2);
/// No time slice is shorter: taking turns itself costs about 1 µs.
const MIN_SLICE: Duration = Duration::from_micros(20);

/// Whoever asks a skill what it is, among those that share mappings of memory: no tenant has such a name.
const OF_NO_TENANT: &str = "\0";

/// Runs guests.
pub(crate) struct Runner {
    concurrency: u32,
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
    /// The directories that skills may write in, where any are granted.
    pub written: Arc<[PathBuf]>,
    /// The secrets among them.
    pub secrets: Vec<Wanted>,
    pub skill: Digest,
    pub attempt: u32,
    pub cancellation: Option<&'a CancellationToken>,
}

/// What a guest answered.
pub(crate) struct Answer {
    /// The output's JSON text, not yet looked at.
    pub json: String,
    /// Not yet searched for secrets.
    pub attachments: Vec<Attachment>,
}

impl Answer {
    /// How long it is altogether.
    pub fn bytes(&self) -> u64 {
        let attachments = self.attachments.iter().map(Attachment::counted_bytes);
        self.json.len() as u64 + attachments.sum::<u64>()
    }
}

impl Runner {
    /// A runner for engines with this many slots each.
    pub fn new(concurrency: u32, backing: Backing) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let cores = u32::try_from(cores).unwrap_or(1);
        Runner {
            concurrency,
            cores,
            backing,
            checks: Threads::new(check::threads(cores)),
        }
    }

    /// Whether what is granted is there to be given, as far as can be seen without giving it. Blocks.
    pub fn openable(&self, grants: &Grants, written: &[PathBuf]) -> Result<(), Denial> {
        capability::openable(grants, written, &self.backing)
    }

    /// Whether the operator reads the failures.
    pub fn for_operator(&self) -> bool {
        self.backing.for_operator
    }

    /// Waits until the scratch directories of executions that have ended are gone.
    pub async fn cleared(&self) {
        self.backing.scratch.cleared().await;
    }

    /// How long each guest of an engine would have in one round, were all of them computing.
    fn share(&self, component: &Component) -> Duration {
        let free = u32::try_from(component.tier.slots.available_permits()).unwrap_or(u32::MAX);
        let active = self.concurrency.saturating_sub(free).max(1);
        ROUND * self.cores / active
    }

    /// How long one guest may keep a thread while others, of the same engine, wait for theirs.
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
            written,
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
        let chatter = Chatter::new(flight.listeners.clone(), &flight.limits);
        let mut capabilities = Capabilities::new(Arc::clone(asker), &flight.limits, chatter);
        let held = flight.secrets.as_ref();
        capabilities.grant(grants, tenant, &flight.limits, &self.backing, held);
        if !grants.directories.is_empty() || grants.scratch {
            let limits = flight.limits;
            let opened = capabilities.open(grants, &written, tenant, &limits, &self.backing);
            let opened = within_time(flight, cancellation, opened);
            if let Err(failure) = Box::pin(opened).await? {
                return Ok(Err(failure));
            }
        }
        flight.usage.input_bytes = input_bytes;
        let request_id = capability::repeated_id(grants, &skill, tool, input, &attachments);
        let attachments: Vec<wit::Attachment> = attachments.into_iter().map(Into::into).collect();
        let request_id = request_id.unwrap_or(flight.listeners.request_id);
        let ended = pin!(self.fly(
            flight,
            component,
            capabilities,
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
        let ended = ended.and_then(|answer| self.answered(flight, answer));
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
        let described = self
            .fly(
                &mut flight,
                component,
                capabilities,
                None,
                async |skill, store| {
                    store.data_mut().is_asked_what_it_is();
                    skill.skillhost_skill_tools().call_describe(store).await
                },
            )
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

    /// Instantiates the component and makes one call, both under the limits.
    async fn fly<T>(
        &self,
        flight: &mut Flight,
        component: &Component,
        capabilities: Capabilities,
        cancellation: Option<&CancellationToken>,
        call: impl AsyncFnOnce(&contract::bindings::Skill, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<Result<T, Failure>, HostError> {
        let started = Instant::now();
        let (ends, time_limit) = flight.ends(started);
        flight.tell(&Event::Started);
        flight.started = Some(started);
        flight.began = Some(started);
        flight.phase = Phase::Instantiation;
        let store = State::store(
            component,
            &flight.limits,
            capabilities,
            started,
            ends,
            self.share(component),
            cancellation.cloned(),
        )?;
        let Flight {
            store: slot,
            phase,
            instantiated,
            usage,
            ..
        } = flight;
        let store = slot.insert(store);
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
                    Some(stop) => Err(stop.into()),
                    None => Ok(answer),
                }
            }),
            ends,
            cancellation,
            || self.slice(component),
            &mut usage.cpu_time,
        )
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
            Ok(Err(error)) => Err(classify::failure(&error, circumstances)),
            Err(stop) => stopped(stop),
        };
        flight.land(ended_at);
        Ok(ended.map_err(|failure| panicked::explained(failure, &flight.stderr, flight.phase)))
    }

    /// What the guest's answer is, where it was taken over, and counts it.
    fn answered(
        &self,
        flight: &mut Flight,
        answer: Result<wit::Output, wit::Failure>,
    ) -> Result<Answer, Failure> {
        let scrubber = flight.secrets.as_ref().map(|secrets| &secrets.scrubber);
        match answer {
            Ok(wit::Output { json, attachments }) => {
                flight.usage.output_bytes = json.0.len() as u64;
                let attachments = attachments
                    .0
                    .map_err(|error| classify::attachments(&error, &flight.limits))?;
                let attachments: Vec<Attachment> =
                    attachments.into_iter().map(Into::into).collect();
                flight.usage.output_bytes += attachments
                    .iter()
                    .map(Attachment::counted_bytes)
                    .sum::<u64>();
                if attachments.len() > MAX_ATTACHMENTS {
                    let cause = Cause::InvalidOutput {
                        pointer: String::new(),
                    };
                    let count = attachments.len();
                    let message = format!(
                        "the skill answered with {count} attachments; {MAX_ATTACHMENTS} are allowed"
                    );
                    return Err(Failure::new(cause, message));
                }
                Ok(Answer {
                    json: json.0,
                    attachments,
                })
            }
            Err(mut failure) => {
                flight.usage.output_bytes = texts(&mut failure).map(|text| text.len() as u64).sum();
                if let Some(scrubber) = scrubber {
                    // Before anything of it is cut.
                    texts(&mut failure).for_each(|text| scrubber.text(text));
                }
                Err(skill_failure(failure))
            }
        }
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

impl From<Attachment> for wit::Attachment {
    fn from(from: Attachment) -> Self {
        wit::Attachment {
            name: from.name,
            media_type: from.media_type,
            data: from.data,
        }
    }
}

impl From<wit::Attachment> for Attachment {
    fn from(from: wit::Attachment) -> Self {
        Attachment {
            name: from.name,
            media_type: from.media_type,
            data: from.data,
        }
    }
}

/// Every text of a failure.
fn texts(failure: &mut wit::Failure) -> impl Iterator<Item = &mut String> {
    let texts = match failure {
        wit::Failure::UnknownTool => [None, None, None],
        wit::Failure::InvalidInput(input) => {
            [Some(&mut input.pointer), Some(&mut input.message), None]
        }
        wit::Failure::Retryable(retryable) => [Some(&mut retryable.message), None, None],
        wit::Failure::Error(error) => [
            Some(&mut error.message),
            error.code.as_mut(),
            error.details.as_mut(),
        ],
    };
    texts.into_iter().flatten().map(|text| &mut text.0)
}

/// The failure of an input of this many bytes, if it is over the limit.
pub(crate) fn over_input(bytes: u64, limits: &Limits) -> Option<Failure> {
    let allowed = limits.input_bytes;
    (bytes > allowed).then(|| {
        classify::limit_failure(
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

/// A failure as the guest states it.
fn skill_failure(failure: wit::Failure) -> Failure {
    // Shortened first, as escapes are longer than what they stand for.
    let readable = |text: &str| printable(&shortened(text, MAX_MESSAGE), true).into_owned();
    match failure {
        // Its own fault, and not that of whoever asked for a tool that it described.
        wit::Failure::UnknownTool => Failure::new(
            Cause::SkillError {
                retryable: false,
                retry_after_ms: None,
                code: Some("unknown_tool".to_owned()),
                details: None,
            },
            "the skill says that it has no such tool, though it described it",
        ),
        wit::Failure::InvalidInput(wit::InvalidInput {
            pointer: Text(pointer),
            message: Text(message),
        }) => {
            let pointer = printable(&shortened(&pointer, 1_000), false).into_owned();
            let place = if pointer.is_empty() {
                String::new()
            } else {
                format!(" at `{}`", named(&pointer, 1_000))
            };
            let message = format!("the input does not fit{place}: {}", readable(&message));
            Failure::new(Cause::InvalidInput { pointer }, message)
        }
        wit::Failure::Retryable(wit::Retryable {
            message: Text(message),
            retry_after_ms,
        }) => Failure::new(
            Cause::SkillError {
                retryable: true,
                retry_after_ms: retry_after_ms.map(|after| after.min(MAX_RETRY_AFTER_MS)),
                code: None,
                details: None,
            },
            format!("the skill failed: {}", readable(&message)),
        )
        .hint("the skill says that trying again may help"),
        wit::Failure::Error(wit::Error {
            message: Text(message),
            code,
            details,
        }) => Failure::new(
            Cause::SkillError {
                retryable: false,
                retry_after_ms: None,
                code: code.map(|Text(code)| printable(&shortened(&code, 200), false).into_owned()),
                details: details.map(|Text(text)| {
                    crate::json::parse(&text).unwrap_or(serde_json::Value::String(text))
                }),
            },
            format!("the skill failed: {}", readable(&message)),
        ),
    }
}

#[cfg(test)]
mod tests;
