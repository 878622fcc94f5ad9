//! The two engines: one that takes instances from a pool, and one that makes them on demand.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;
use wasmtime::{Config, Engine};

use super::mappings::Mappings;
use super::{preempt, settings};
use crate::execution::HostError;

/// What shapes the engines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineSettings {
    /// Executions that may be in flight at once, on each engine.
    pub concurrency: u32,
    /// Stack of the guest in bytes.
    pub stack_bytes: usize,
    /// Whether components are compiled in this process. Where a child compiles them, the compiler is
    /// not even set up here.
    pub compiles: bool,
}

/// Goes into what [`Engines::compatibility`] stands for: to be changed with whatever compiled code
/// depends on that an engine without a compiler does not know of, and with what is refused before it is compiled
/// (`footprint.rs`, `looks.rs`): what is in the cache is not looked at for that again.
const CODE: u32 = 9;

pub(crate) struct Engines {
    pooled: Option<Tier>,
    on_demand: OnceLock<Tier>,
    active: Arc<AtomicU32>,
    settings: EngineSettings,
    compatibility: u64,
}

/// An engine, and the right to run on it.
#[derive(Clone)]
pub(crate) struct Tier {
    pub engine: Engine,
    /// One permit for each execution in flight: a full pool makes the next one wait.
    pub slots: Arc<Semaphore>,
    /// How many executions are in flight, on both engines.
    pub(super) active: Arc<AtomicU32>,
    /// The mappings of memory that instances take, where they are made on demand.
    pub(super) mappings: Option<&'static Mappings>,
}

impl Engines {
    pub fn new(settings: EngineSettings) -> Result<Self, HostError> {
        preempt::begin()?;
        // Where the address space is limited, the pool cannot be reserved, and everything runs on
        // demand.
        let active = Arc::default();
        let pooled = match Tier::new(settings, true, &active) {
            Ok(tier) => Some(tier),
            Err(error) => {
                tracing::warn!("instances are made on demand, as no pool can be reserved: {error}");
                None
            }
        };
        let engines = Engines {
            pooled,
            on_demand: OnceLock::new(),
            active,
            settings,
            compatibility: 0,
        };
        let compatibility = match settings.compiles {
            // Where a child compiles, the same code is looked for, and there is no compiler to ask.
            true => stands_for(&engine(&code_config(false))?),
            false => stands_for(&engines.any()?.engine),
        };
        Ok(Engines {
            compatibility,
            ..engines
        })
    }

    /// The engine that takes instances from a pool, where there is one.
    pub fn pooled(&self) -> Option<&Tier> {
        self.pooled.as_ref()
    }

    /// The engine for what does not fit the pool's shape. Set up when it is first needed.
    pub fn on_demand(&self) -> Result<&Tier, HostError> {
        if let Some(tier) = self.on_demand.get() {
            return Ok(tier);
        }
        let tier = Tier::new(self.settings, false, &self.active)?;
        Ok(self.on_demand.get_or_init(|| tier))
    }

    /// Either engine: code that was compiled with the one runs on the other.
    pub fn any(&self) -> Result<&Tier, HostError> {
        match &self.pooled {
            Some(tier) => Ok(tier),
            None => self.on_demand(),
        }
    }

    /// Stands for the engine's version and every setting that compiled code depends on.
    pub fn compatibility(&self) -> u64 {
        self.compatibility
    }
}

impl Tier {
    fn new(
        settings: EngineSettings,
        pooled: bool,
        active: &Arc<AtomicU32>,
    ) -> Result<Self, HostError> {
        let mut config = code_config(settings.compiles);
        settings::stack(&mut config, settings.stack_bytes);
        if pooled {
            settings::pool(&mut config, settings.concurrency);
        }
        Ok(Tier {
            engine: engine(&config)?,
            slots: Arc::new(Semaphore::new(settings.concurrency as usize)),
            active: Arc::clone(active),
            mappings: (!pooled).then(Mappings::of_process),
        })
    }
}

/// What compiled code depends on. The same for both engines and for the compiling child, so that
/// code compiled once runs on all of them.
fn code_config(compiles: bool) -> Config {
    let mut config = settings::code();
    if compiles {
        config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    } else {
        config.enable_compiler(false);
    }
    config
}

/// An engine that only compiles, without reserving a pool.
pub(super) fn compiler() -> Result<Engine, HostError> {
    engine(&code_config(true))
}

fn engine(config: &Config) -> Result<Engine, HostError> {
    Engine::new(config).map_err(|error| HostError::Engine(format!("{error:#}")))
}

/// Stands for what code must have been compiled with that an engine without a compiler runs. What the
/// processor must be able to do is in the code itself, and looked at when it is loaded.
fn stands_for(engine: &Engine) -> u64 {
    stands_for_code(engine, CODE)
}

fn stands_for_code(engine: &Engine, code: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    code.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Whether a pool with so many slots can be reserved in this process.
#[cfg(feature = "doctor")]
pub(crate) fn pool_fits(concurrency: u32) -> bool {
    let settings = EngineSettings {
        concurrency,
        stack_bytes: 512 << 10,
        compiles: false,
    };
    Tier::new(settings, true, &Arc::default()).is_ok()
}

/// Whether the kernel tells which pages of a slot a guest has touched.
#[cfg(feature = "doctor")]
pub(crate) fn pagemap_scan() -> bool {
    wasmtime::PoolingAllocationConfig::is_pagemap_scan_available()
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::*;

    fn engines(compiles: bool) -> Engines {
        Engines::new(EngineSettings {
            concurrency: 2,
            stack_bytes: 512 << 10,
            compiles,
        })
        .unwrap()
    }

    #[test]
    fn code_compiled_once_runs_on_every_engine_with_a_compiler_and_without() {
        let component = wat::parse_str("(component (core module (memory 1)))").unwrap();
        let code = compiler()
            .unwrap()
            .precompile_component(&component)
            .unwrap();
        for compiles in [true, false] {
            let engines = engines(compiles);
            for tier in [engines.pooled().unwrap(), engines.on_demand().unwrap()] {
                // SAFETY: it was made just now, by this version of the engine.
                unsafe { Component::deserialize(&tier.engine, &code) }.unwrap();
                assert_eq!(
                    tier.engine.precompile_component(&component).is_ok(),
                    compiles
                );
            }
        }
    }

    /// Whatever changes the code, so that none is run that was compiled otherwise.
    #[test]
    fn code_that_differs_is_told_apart() {
        let of = |change: fn(&mut Config) -> &mut Config| {
            let mut config = code_config(false);
            stands_for(&engine(change(&mut config)).unwrap())
        };
        let ours = of(|config| config);
        assert_eq!(ours, engines(true).compatibility());
        let changes: [fn(&mut Config) -> &mut Config; 4] = [
            |config| config.consume_fuel(false),
            |config| config.operator_cost(wasmtime::OperatorCost::new()),
            |config| config.epoch_interruption(true),
            |config| config.memory_reservation(0),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_ne!(of(change), ours, "{number}");
        }
        let same = engine(&code_config(false)).unwrap();
        assert_eq!(stands_for_code(&same, CODE), ours);
        assert_ne!(stands_for_code(&same, CODE + 1), ours);
    }

    #[test]
    fn all_engines_stand_for_the_same_code() {
        let (with, without) = (engines(true), engines(false));
        assert_eq!(with.compatibility(), without.compatibility());
        for tier in [without.pooled().unwrap(), without.on_demand().unwrap()] {
            assert_eq!(stands_for(&tier.engine), without.compatibility());
        }
    }
}
