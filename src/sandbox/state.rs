//! What one store holds besides the guest.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{CallHook, CallHookHandler, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::capability::{Capabilities, Chatter, Directories, Keeping, Network};
use super::classify::Stop;
use super::contract::Component;
use super::contract::answer::{Allowed, FRAMING_BYTES};
use super::interrupt::{MAX_SLICE, fuel_between_checks, hand_back};
use super::limiter::Limiter;
use super::wasi::Wasi;
use crate::execution::HostError;
use crate::limits::Limits;

/// The state of one store. It serves one execution and is dropped.
pub(super) struct State {
    pub wasi: Wasi,
    table: ResourceTable,
    pub limiter: Limiter,
    pub chatter: Chatter,
    pub directories: Directories,
    pub network: Network,
    pub keeping: Keeping,
    /// Configuration keys and their values.
    pub config: BTreeMap<String, String>,
    /// Calls from the guest to functions of the host.
    pub host_calls: u64,
    deadline: Instant,
    /// When it hands control back after a call of the host's, whether or not it has used fuel.
    turn_ends: Instant,
    /// After how long it does.
    turn: Duration,
    /// The time that is left where the clocks stand still.
    still: Option<Duration>,
    cancellation: Option<CancellationToken>,
    host_bytes: usize,
    answer: Allowed,
}

impl State {
    /// A fresh store with these limits and capabilities, and its time running; of a guest that begins when each has this
    /// long in a round, with as many times more fuel between its looks at the clock (`Pace`).
    pub fn store(
        component: &Component,
        limits: &Limits,
        capabilities: Capabilities,
        started: Instant,
        deadline: Instant,
        (share, times): (Duration, u32),
        cancellation: Option<CancellationToken>,
    ) -> Result<Store<State>, HostError> {
        let Capabilities {
            wasi,
            directories,
            still,
            must_grow,
            config,
            chatter,
            network,
            keeping,
        } = capabilities;
        let mut limiter = Limiter::new(limits, component.context_bytes);
        if must_grow {
            limiter.must_grow();
        }
        let mut table = ResourceTable::new();
        // The store counts the handles themselves. Behind each there may be a second entry here, of
        // what it belongs to, and the host has a few of its own.
        table.set_max_capacity(size(limits.handles.saturating_mul(2).saturating_add(16)));
        // As with the looks at the clock: down to a quarter in a crowd.
        let turn = share.clamp(MAX_SLICE / 4, MAX_SLICE);
        let state = State {
            wasi,
            table,
            limiter,
            chatter,
            directories,
            network,
            keeping,
            config,
            host_calls: 0,
            deadline,
            turn_ends: started + turn,
            turn,
            still,
            cancellation,
            host_bytes: size(limits.host_bytes.saturating_add(FRAMING_BYTES)),
            answer: Allowed::by(limits),
        };
        let mut store = Store::new(&component.tier.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_max_component_handles(size(limits.handles));
        store.call_hook_async(Border);
        let engine = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        store.set_fuel(limits.fuel).map_err(engine)?;
        store
            .fuel_async_yield_interval(Some(fuel_between_checks(share, times)))
            .map_err(engine)?;
        Ok(store)
    }

    /// What becomes of the guest after a call of a function of the host's.
    fn back_from_host(&mut self) -> Result<Turn, Stop> {
        if let Some(stop) = self.network.stop().or_else(|| self.directories.stop()) {
            return Err(stop);
        }
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Stop::TimeIsUp);
        }
        let cancellation = self.cancellation.as_ref();
        if cancellation.is_some_and(CancellationToken::is_cancelled) {
            return Err(Stop::Cancelled);
        }
        if now < self.turn_ends {
            return Ok(Turn::GoesOn);
        }
        self.turn_ends = now + self.turn;
        Ok(Turn::IsOver)
    }

    /// The store's data as a host function sees it. Counts the call.
    pub fn called(&mut self) -> &mut Self {
        self.host_calls += 1;
        self
    }

    /// What the guest's handles stand for.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// When the host stops the guest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What the guest answers next is no output.
    pub fn is_asked_what_it_is(&mut self) {
        self.answer = self.answer.of_describing();
    }

    /// Whether the guest's clocks stand still.
    pub fn stands_still(&self) -> bool {
        self.still.is_some()
    }

    /// How long the guest still has, as far as its clocks tell.
    pub fn time_left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.still.unwrap_or(left)
    }
}

/// Called at each crossing of the border between guest and host.
///
/// Fuel is only used by guest code, so a guest that makes one call after the other could go on past
/// its time, and keep its thread, without ever using up a slice of fuel. Hence the clock is read here,
/// too, and whether it was cancelled; and the guest hands control back where it did not for long.
struct Border;

type Crossed<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;

impl CallHookHandler<State> for Border {
    fn handle_call_event<'handler, 'store, 'future>(
        &'handler self,
        mut store: StoreContextMut<'store, State>,
        crossing: CallHook,
    ) -> Crossed<'future>
    where
        'handler: 'future,
        'store: 'future,
    {
        match crossing {
            CallHook::CallingWasm => {}
            CallHook::ReturningFromWasm => {
                let answer = store.data().answer;
                answer.applies();
                store.set_hostcall_fuel(size(answer.engine_bytes()));
            }
            // Here and not where the guest is entered: within one call of the guest the host may have
            // called its allocator, and come back from that.
            CallHook::CallingHost => {
                let bytes = store.data().host_bytes;
                store.set_hostcall_fuel(bytes);
            }
            CallHook::ReturningFromHost => match store.data_mut().back_from_host() {
                Ok(Turn::GoesOn) => {}
                Ok(Turn::IsOver) => {
                    return Box::pin(async {
                        hand_back().await;
                        Ok(())
                    });
                }
                Err(stop) => return Box::pin(async move { Err(stop.into()) }),
            },
        }
        // Of no size, and so nothing is allocated for it.
        Box::pin(GoesOn)
    }
}

/// The future of a crossing at which there is nothing to wait for.
struct GoesOn;

impl Future for GoesOn {
    type Output = wasmtime::Result<()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

/// Whether a guest may keep its thread.
enum Turn {
    GoesOn,
    IsOver,
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Each function of WASI comes by here exactly once a call.
        self.host_calls += 1;
        WasiCtxView {
            ctx: self.wasi.context(),
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.host_calls += 1;
        self.network.view(&mut self.table)
    }
}
