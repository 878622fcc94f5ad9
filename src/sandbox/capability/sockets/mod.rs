//! `wasi:sockets`: TCP and UDP to granted addresses and ports. No socket listens, and no name is
//! looked up: sockets are granted by address.

mod metered;
mod nowhere;
mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress};
use wasmtime_wasi::p2::bindings::sockets::{
    ip_name_lookup, tcp as tcp_sockets, tcp_create_socket, udp as udp_sockets, udp_create_socket,
};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, SocketResult, subscribe};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView, WasiSocketsView};

use super::Refusals;
use super::network::{Granted, Network};
use crate::grant::{Capability, Denial, Protocol, Remedy};
use crate::sandbox::state::State;

/// Puts our own in the place of what makes sockets and looks names up.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp_create_socket::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    tcp_sockets::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    udp_create_socket::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    udp_sockets::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    udp::link(linker)?;
    ip_name_lookup::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Checks where the sockets of this execution go.
pub(super) fn grant(wasi: &mut WasiCtxBuilder, network: &Network) {
    let granted = |protocol| {
        network.granted().is_some_and(|granted| {
            let mut sockets = granted.sockets.iter();
            sockets.any(|socket| socket.protocol() == protocol)
        })
    };
    let (tcp, udp) = (granted(Protocol::Tcp), granted(Protocol::Udp));
    let Some(granted) = network.granted().filter(|_| tcp || udp) else {
        return;
    };
    wasi.allow_tcp(tcp).allow_udp(udp);
    let granted = Arc::clone(granted);
    let refusals = network.refusals().clone();
    wasi.socket_addr_check(move |address, used| {
        let (allowed, protocol) = decide(&granted, address, used);
        match used {
            _ if allowed => {}
            // No grant would change that.
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend if is_broadcast(address) => {}
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => {
                refusals.add(refusals.asker().socket_denied(protocol, address));
            }
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::UdpBind => {
                not_bound(&refusals, protocol);
            }
            _ => {}
        }
        Box::pin(std::future::ready(allowed))
    });
}

fn decide(granted: &Granted, address: SocketAddr, used: SocketAddrUse) -> (bool, Protocol) {
    let allows = |protocol| {
        let mut sockets = granted.sockets.iter();
        sockets.any(|socket| socket.allows(protocol, address))
    };
    // Whoever connects is bound on the way.
    let unbound = is_of_the_systems_choice(address);
    match used {
        SocketAddrUse::TcpConnect => (allows(Protocol::Tcp), Protocol::Tcp),
        SocketAddrUse::TcpBind => (unbound, Protocol::Tcp),
        SocketAddrUse::UdpBind => (unbound, Protocol::Udp),
        SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
            (allows(Protocol::Udp), Protocol::Udp)
        }
        _ => (false, Protocol::Tcp),
    }
}

/// Any address, and a port of the system's choice.
fn is_of_the_systems_choice(address: SocketAddr) -> bool {
    address.ip().is_unspecified() && address.port() == 0
}

/// Whether it goes to all that are near, which no socket is let do by the system.
fn is_broadcast(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast())
}

/// A socket is to listen, or to have an address of the guest's choice, for which there is no grant.
fn not_bound(refusals: &Refusals, protocol: Protocol) {
    refusals.add(Denial {
        capability: Capability::Socket,
        subject: protocol.as_str().to_owned(),
        reason: "no socket listens, or has an address of the skill's choice".into(),
        remedy: Remedy::Skill,
        grant: None,
        hint:
            "there is no grant for it: a skill can only be granted to connect or send to an address"
                .into(),
    });
}

/// The state as these interfaces see it.
struct Sockets<'a>(&'a mut State);

impl HasData for Sockets<'static> {
    type Data<'a> = Sockets<'a>;
}

fn of(state: &mut State) -> Sockets<'_> {
    Sockets(state)
}

impl Sockets<'_> {
    /// Whether a socket of this protocol is granted, and then a place for one more, which counts as a
    /// connection until the execution ends: the host does not see when it closes. Where there is none, the
    /// call is over, and counted.
    fn place_for_new(&mut self, protocol: Protocol) -> SocketResult<bool> {
        let place = self
            .granted(protocol)
            .map(|granted| granted.meter.place_for_good());
        match place {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(_)) => {
                self.0.called();
                Err(ErrorCode::NewSocketLimit.into())
            }
        }
    }

    /// What is granted, where a socket of this protocol is.
    fn granted(&self, protocol: Protocol) -> Option<&Granted> {
        let granted = self.0.network.granted()?;
        let mut sockets = granted.sockets.iter();
        let is_granted = sockets.any(|socket| socket.protocol() == protocol);
        is_granted.then_some(granted)
    }

    fn view(&mut self) -> WasiSocketsCtxView<'_> {
        self.0.sockets()
    }
}

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        // Not by wasmtime-wasi's view, which counts the call: what is converted was one.
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.view().network_error_code(error)
    }
}

impl network::HostNetwork for Sockets<'_> {
    fn drop(&mut self, network: Resource<network::Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.view(), network)
    }
}

impl ip_name_lookup::Host for Sockets<'_> {
    fn resolve_addresses(
        &mut self,
        _: Resource<network::Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        // An address is none to be looked up: the standard libraries of some languages hand over
        // whatever they are to connect to.
        if let Ok(address) = name.parse() {
            let found = self.0.called().table().push(Found(Some(address)))?;
            return Ok(Resource::new_own(found.rep()));
        }
        let name = crate::text::shortened(&name, 253);
        self.0.called().network.refusals().add(Denial {
            capability: Capability::Socket,
            subject: crate::text::printable(&name, false).into_owned(),
            reason: "names are not looked up for sockets, which are granted by address".into(),
            remedy: Remedy::Skill,
            grant: None,
            hint: "use the address itself, or send the request through wasi:http".into(),
        });
        Err(ErrorCode::AccessDenied.into())
    }
}

impl ip_name_lookup::HostResolveAddressStream for Sockets<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let found = self.0.called().table().get_mut(&found(&stream))?;
        Ok(found.0.take().map(Into::into))
    }

    fn subscribe(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.0.called().table(), found(&stream))
    }

    fn drop(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<()> {
        self.0
            .called()
            .table()
            .delete(Resource::<Found>::new_own(stream.rep()))?;
        Ok(())
    }
}

/// What a name that is an address leads to. The guest's handle names it by wasmtime-wasi's type,
/// which is only a name: what stands behind the number in the table is ours.
struct Found(Option<IpAddr>);

#[wasmtime_wasi::async_trait]
impl Pollable for Found {
    async fn ready(&mut self) {}
}

fn found(stream: &Resource<ip_name_lookup::ResolveAddressStream>) -> Resource<Found> {
    Resource::new_borrow(stream.rep())
}
