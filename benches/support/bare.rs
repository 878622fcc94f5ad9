//! The floor: wasmtime itself, with the engine settings of the host and nothing of the host's.

#![allow(
    dead_code,
    reason = "each benchmark is a crate of its own and uses its own part"
)]

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

/// The very files that set up the host's engines, so that the two cannot come to differ.
#[path = "../../src/sandbox/fuel.rs"]
#[allow(unused_imports, reason = "its tests are the host's")]
mod fuel;
#[path = "../../src/sandbox/settings.rs"]
mod settings;

wasmtime::component::bindgen!({ path: "wit", world: "skill", exports: { default: async } });

use self::skillhost::skill::{deadline, logging, progress, tokens};

pub use self::skillhost::skill::types::Context;

/// The state of a store that has nothing but WASI.
pub struct Bare {
    wasi: WasiCtx,
    table: ResourceTable,
    config: WasiConfigVariables,
}

impl Bare {
    pub fn new() -> Self {
        Bare {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            config: WasiConfigVariables::new(),
        }
    }
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl logging::Host for Bare {
    fn log(&mut self, _level: logging::Level, _message: String) {}
}

impl progress::Host for Bare {
    fn report(&mut self, _percent: Option<f64>, _step: String, _details: Option<String>) {}
}

impl tokens::Host for Bare {
    fn add(&mut self, _input: u64, _output: u64) {}
}

impl deadline::Host for Bare {
    fn time_left(&mut self) -> u64 {
        0
    }
}

impl self::skillhost::skill::types::Host for Bare {}

struct Own;

impl wasmtime::component::HasData for Own {
    type Data<'a> = &'a mut Bare;
}

/// How a bare engine stops guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    Not,
    ByFuel,
    ByEpochs,
}

/// Executions at once and stack in bytes, as a host has them where nobody said so.
const SLOTS: u32 = 1_000;
const STACK_BYTES: usize = 512 << 10;

/// An engine with the host's settings, but for how it stops guests.
pub fn engine(stops: Stops, pooled: bool) -> Engine {
    let mut config = settings::code();
    config
        .consume_fuel(stops == Stops::ByFuel)
        .epoch_interruption(stops == Stops::ByEpochs);
    settings::stack(&mut config, STACK_BYTES);
    if pooled {
        settings::pool(&mut config, SLOTS);
    }
    Engine::new(&config).expect("the engine can be set up")
}

/// A component linked once, to be instantiated often.
pub fn link(engine: &Engine, component: &Component) -> SkillPre<Bare> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI links");
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut Bare| {
        WasiConfig::from(&state.config)
    })
    .expect("the configuration links");
    logging::add_to_linker::<Bare, Own>(&mut linker, |state| state).expect("links");
    progress::add_to_linker::<Bare, Own>(&mut linker, |state| state).expect("links");
    tokens::add_to_linker::<Bare, Own>(&mut linker, |state| state).expect("links");
    deadline::add_to_linker::<Bare, Own>(&mut linker, |state| state).expect("links");
    SkillPre::new(linker.instantiate_pre(component).expect("it fits")).expect("it is a skill")
}

/// One call in a fresh instance.
#[allow(clippy::ptr_arg, reason = "the bindings want it so")]
pub async fn call(engine: &Engine, pre: &SkillPre<Bare>, tool: &str, input: &String) -> String {
    let mut store = Store::new(engine, Bare::new());
    store.set_epoch_deadline(u64::MAX / 2);
    let _ = store.set_fuel(u64::MAX / 2);
    let skill = pre
        .instantiate_async(&mut store)
        .await
        .expect("it instantiates");
    let context = Context {
        request_id: String::new(),
        attempt: 1,
    };
    let answer = skill
        .skillhost_skill_tools()
        .call_execute(&mut store, tool, input, &[], &context)
        .await
        .expect("it does not trap");
    answer.expect("it succeeds").json
}
