//! `wasi:sockets`: TCP and UDP to granted addresses and ports. No socket listens, and no name is
//! looked up: sockets are granted by address.

mod metered;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynPollable, Pollable, SocketError, SocketResult, TcpSocket, UdpSocket, subscribe,
};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::network::{Granted, Network};
use crate::grant::{Capability, Denial, Protocol, socket_denied, to_grant};
use crate::sandbox::state::State;

/// Puts our own in the place of what makes sockets and looks names up.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp_create_socket::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    udp_create_socket::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    ip_name_lookup::add_to_linker::<State, Sockets<'static>>(linker, of)?;
    linker.allow_shadowing(false);
    metered::link(linker)
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
        if !allowed && matches!(used, SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend) {
            refusals.add(socket_denied(refusals.skill(), protocol, address));
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
    let unbound = is_unbound(address);
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
fn is_unbound(address: SocketAddr) -> bool {
    address.ip().is_unspecified() && address.port() == 0
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
    /// A place for one more socket, which counts as a connection until the execution ends: the host
    /// does not see when it closes.
    fn place(&mut self, protocol: Protocol) -> SocketResult<()> {
        match self.granted(protocol) {
            None => {
                let refusals = self.0.network.refusals();
                let text = format!("{}://IP:PORT", protocol.as_str());
                refusals.add(Denial {
                    capability: Capability::Socket,
                    subject: protocol.as_str().to_owned(),
                    reason: format!("no {} socket is granted", protocol.as_str()),
                    hint: to_grant(refusals.skill(), Capability::Socket, Some(&text)),
                });
                Err(ErrorCode::AccessDenied.into())
            }
            Some(granted) => granted
                .meter
                .place_for_good()
                .map_err(|_| ErrorCode::NewSocketLimit.into()),
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
        self.view().convert_error_code(error)
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

/// What of the host's state it takes to make a socket under other rules than its own.
struct Apart<'a> {
    rules: &'a mut WasiCtx,
    table: &'a mut ResourceTable,
}

impl WasiView for Apart<'_> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self.rules,
            table: self.table,
        }
    }
}

impl Sockets<'_> {
    /// A socket that goes nowhere, where none is granted: where it was to go is known only once it is to be
    /// connected, and then it can be said what to grant. There is one for each execution.
    fn unconnected(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let state = self.0.called();
        let refusals = state.network.refusals().clone();
        let mut rules = WasiCtx::builder();
        rules
            .allow_tcp(true)
            .socket_addr_check(move |address, used| {
                if matches!(used, SocketAddrUse::TcpConnect) {
                    refusals.add(socket_denied(refusals.skill(), Protocol::Tcp, address));
                }
                // Whoever connects is asked first whether it may be bound on the way; nothing is.
                let allowed = matches!(used, SocketAddrUse::TcpBind) && is_unbound(address);
                Box::pin(std::future::ready(allowed))
            });
        let mut apart = Apart {
            rules: &mut rules.build(),
            table: state.table(),
        };
        tcp_create_socket::Host::create_tcp_socket(&mut apart.sockets(), family)
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if self.granted(Protocol::Tcp).is_none() && self.0.network.refuses_first_socket() {
            return self.unconnected(family);
        }
        self.place(Protocol::Tcp)?;
        self.view().create_tcp_socket(family)
    }
}

impl udp_create_socket::Host for Sockets<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<UdpSocket>> {
        self.place(Protocol::Udp)?;
        self.view().create_udp_socket(family).await
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
