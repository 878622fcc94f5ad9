//! Bounds for what a guest writes into a request before it is sent. wasmtime-wasi-http keeps texts of
//! any length, one of each for every request that a guest makes.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{
    HostOutgoingRequest, Method, OutgoingRequest, Scheme,
};

use crate::sandbox::interrupt::hand_back;
use crate::sandbox::state::State;

/// The version under which wasmtime-wasi-http 48 offers the interface; a test of the hostile suite
/// would notice another.
const TYPES: &str = "wasi:http/types@0.2.12";
/// The longest method or scheme, in bytes. Those of the registries have at most 17.
const MAX_TOKEN: usize = 64;
/// The longest authority, in bytes: a name has 253, and a port 6.
const MAX_AUTHORITY: usize = 300;
/// The longest path with its query, in bytes.
const MAX_PATH: usize = 16 * 1024;

type Request = Resource<OutgoingRequest>;
type Answer = (Result<(), ()>,);

/// Puts functions that hold to the bounds in the place of those that do not.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap_async(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, State>, (request, method): (Request, Method)| {
            Box::new(async move {
                let length = match &method {
                    Method::Other(text) => text.len(),
                    _ => 0,
                };
                if is_over(length, MAX_TOKEN).await {
                    return Ok((Err(()),));
                }
                let mut view = store.data_mut().http();
                Ok::<Answer, _>((view.set_method(request, method)?,))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]outgoing-request.set-scheme",
        |mut store: StoreContextMut<'_, State>, (request, scheme): (Request, Option<Scheme>)| {
            Box::new(async move {
                let length = match &scheme {
                    Some(Scheme::Other(text)) => text.len(),
                    _ => 0,
                };
                if is_over(length, MAX_TOKEN).await {
                    return Ok((Err(()),));
                }
                let mut view = store.data_mut().http();
                Ok::<Answer, _>((view.set_scheme(request, scheme)?,))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, State>, (request, text): (Request, Option<String>)| {
            Box::new(async move {
                let length = text.as_ref().map_or(0, String::len);
                if is_over(length, MAX_AUTHORITY).await {
                    return Ok((Err(()),));
                }
                let mut view = store.data_mut().http();
                Ok::<Answer, _>((view.set_authority(request, text)?,))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, State>, (request, text): (Request, Option<String>)| {
            Box::new(async move {
                let length = text.as_ref().map_or(0, String::len);
                if is_over(length, MAX_PATH).await {
                    return Ok((Err(()),));
                }
                let mut view = store.data_mut().http();
                Ok::<Answer, _>((view.set_path_with_query(request, text)?,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn is_over(length: usize, most: usize) -> bool {
    hand_back(length).await;
    length > most
}
