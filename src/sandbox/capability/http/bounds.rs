//! Bounds for what a guest writes into a request before it is sent. wasmtime-wasi-http keeps texts of
//! any length, one of each for every request that a guest makes. And where nothing is granted, the refusal is there
//! at once.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::Pollable;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HeaderError, Host, HostFields, HostOutgoingRequest,
    Method, OutgoingRequest, RequestOptions, Scheme,
};
use wasmtime_wasi_http::{FieldMapError, WasiHttpView};

use crate::sandbox::capability::few::Few;
use crate::sandbox::state::State;

/// The version under which wasmtime-wasi-http 48 offers the interface; a test of the hostile suite
/// would notice another.
const TYPES: &str = "wasi:http/types@0.2.12";
/// The same of the interface that sends requests.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
/// The longest method or scheme, in bytes. Those of the registries have at most 17.
const MAX_TOKEN: usize = 64;
/// The longest authority, in bytes: a name has 253, and a port 6.
const MAX_AUTHORITY: usize = 300;
/// The most fields, or values of one, that are given at once. No more could be kept under the ceiling of
/// [`Limits::http_fields_bytes`](crate::Limits::http_fields_bytes), which is compared only when each
/// has been looked at.
const MAX_VALUES: usize = 2_048;
/// The longest path with its query, in bytes.
const MAX_PATH: usize = 16 * 1024;

type Request = Resource<OutgoingRequest>;
type Answer = (Result<(), ()>,);

/// Puts functions that hold to the bounds in the place of those that do not.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, State>, (request, method): (Request, Method)| {
            Ok::<Answer, _>(match &method {
                Method::Other(text) if text.len() > MAX_TOKEN => (Err(()),),
                _ => (store.data_mut().http().set_method(request, method)?,),
            })
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: StoreContextMut<'_, State>, (request, scheme): (Request, Option<Scheme>)| {
            Ok::<Answer, _>(match &scheme {
                Some(Scheme::Other(text)) if text.len() > MAX_TOKEN => (Err(()),),
                _ => (store.data_mut().http().set_scheme(request, scheme)?,),
            })
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, State>, (request, text): (Request, Option<String>)| {
            Ok::<Answer, _>(match &text {
                Some(text) if text.len() > MAX_AUTHORITY => (Err(()),),
                _ => (store.data_mut().http().set_authority(request, text)?,),
            })
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, State>, (request, text): (Request, Option<String>)| {
            Ok::<Answer, _>(match &text {
                Some(text) if text.len() > MAX_PATH => (Err(()),),
                _ => {
                    let mut view = store.data_mut().http();
                    (view.set_path_with_query(request, text)?,)
                }
            })
        },
    )?;
    types.func_wrap(
        "[method]fields.set",
        |mut store: StoreContextMut<'_, State>,
         (fields, name, Few(values)): (Resource<Fields>, String, Few<Vec<u8>>)| {
            if values.len() > MAX_VALUES {
                return Err(FieldMapError::TotalSizeTooBig.into());
            }
            let mut view = store.data_mut().http();
            let set = HostFields::set(&mut view, fields, name, values);
            let set = set.map_err(|error| view.convert_header_error(error));
            Ok::<(Result<(), HeaderError>,), wasmtime::Error>((match set {
                Ok(()) => Ok(()),
                Err(told) => Err(told?),
            },))
        },
    )?;
    types.func_wrap(
        "[static]fields.from-list",
        |mut store: StoreContextMut<'_, State>, (Few(entries),): (Few<(String, Vec<u8>)>,)| {
            if entries.len() > MAX_VALUES {
                return Err(FieldMapError::TotalSizeTooBig.into());
            }
            let mut view = store.data_mut().http();
            let made = HostFields::from_list(&mut view, entries);
            let made = made.map_err(|error| view.convert_header_error(error));
            Ok::<(Result<Resource<Fields>, HeaderError>,), wasmtime::Error>((match made {
                Ok(fields) => Ok(fields),
                Err(told) => Err(told?),
            },))
        },
    )?;
    linker
        .instance(HANDLER)?
        .func_wrap_async("handle", handle)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Options = Option<Resource<RequestOptions>>;
type Sent = (Result<Resource<FutureIncomingResponse>, ErrorCode>,);

/// Sends a request. wasmtime-wasi-http has a task of its own do that, also where it is refused; how long that takes is
/// a clock, and chance, for a guest that is granted nothing. So it is waited for there.
fn handle<'s>(
    mut store: StoreContextMut<'s, State>,
    (request, options): (Request, Options),
) -> Box<dyn Future<Output = wasmtime::Result<Sent>> + Send + 's> {
    Box::new(async move {
        let is_granted = store.data().network.granted().is_some();
        let mut view = store.data_mut().http();
        let future = match outgoing_handler::Host::handle(&mut view, request, options) {
            Ok(future) => future,
            Err(error) => return Ok((Err(view.convert_error_code(error)?),)),
        };
        if !is_granted {
            view.table.get_mut(&future)?.ready().await;
        }
        Ok((Ok(future),))
    })
}
