//! `wasi:cli/environment`: the variables that were granted, and nothing of the host's own.

use wasmtime::component::Linker;
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::p2::bindings::cli::environment;

use super::Own;
use crate::sandbox::state::State;

/// Puts ours in the place of wasmtime-wasi's, whose answers it gives: that they were asked for is to be known.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    // The call is counted where wasmtime-wasi is asked.
    environment::add_to_linker::<State, Own>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.network.sought().environment = true;
        self.cli().get_environment()
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        self.cli().get_arguments()
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        self.cli().initial_cwd()
    }
}
