//! Random bytes, through `wasi:random`. They are wasmtime-wasi's; only that many of them hand
//! control back is ours.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::random::{insecure, random};

use crate::sandbox::interrupt::hand_back;
use crate::sandbox::state::State;

/// The version under which wasmtime-wasi 48 offers the interface. Under another one, its own
/// functions would stay in place beside ours, which a test of the hostile suite would notice.
const WASI: &str = "0.2.12";

/// Puts functions that hand control back in the place of those that do not.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Bytes = fn(&mut State, u64) -> wasmtime::Result<Vec<u8>>;
    let functions: [(&str, &str, Bytes); 2] = [
        ("random", "get-random-bytes", |state, bytes| {
            random::Host::get_random_bytes(state.ctx().ctx.random(), bytes)
        }),
        ("insecure", "get-insecure-random-bytes", |state, bytes| {
            insecure::Host::get_insecure_random_bytes(state.ctx().ctx.random(), bytes)
        }),
    ];
    linker.allow_shadowing(true);
    for (interface, function, make) in functions {
        linker
            .instance(&format!("wasi:random/{interface}@{WASI}"))?
            .func_wrap_async(
                function,
                move |mut store: StoreContextMut<'_, State>, (bytes,): (u64,)| {
                    Box::new(async move {
                        let made = make(store.data_mut(), bytes)?;
                        hand_back(made.len()).await;
                        Ok((made,))
                    })
                },
            )?;
    }
    linker.allow_shadowing(false);
    Ok(())
}
