//! `wasi:sockets/tcp`: wasmtime-wasi's sockets where one is granted, and where none is, something in
//! their place that only says where it was to go.
//!
//! What is to be granted is known only once a guest says what it connects to, and for that it must have
//! a socket. So it gets a [`Nowhere`]: no socket of the system's, and no way to learn anything of that.

use std::net::SocketAddr;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Pollable, SocketError, SocketResult, TcpSocket,
    subscribe,
};

use super::Sockets;
use super::metered::wrapped;
use crate::grant::{Protocol, socket_denied};

/// A socket that is none. The guest's handle names it by wasmtime-wasi's type, which is only a name:
/// what stands behind the number in the table is ours.
struct Nowhere(IpAddressFamily);

#[wasmtime_wasi::async_trait]
impl Pollable for Nowhere {
    async fn ready(&mut self) {}
}

fn nowhere(socket: &Resource<TcpSocket>) -> Resource<Nowhere> {
    Resource::new_borrow(socket.rep())
}

impl Sockets<'_> {
    /// The family of one that is none.
    fn family(&mut self, socket: &Resource<TcpSocket>) -> Option<IpAddressFamily> {
        let Nowhere(family) = self.0.table().get(&nowhere(socket)).ok()?;
        Some(*family)
    }

    /// Refuses what is asked of one that is none.
    fn one(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<()> {
        match self.family(socket) {
            None => Ok(()),
            Some(_) => {
                self.0.called();
                Err(ErrorCode::AccessDenied.into())
            }
        }
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if self.granted(Protocol::Tcp).is_none() {
            let socket = self.0.called().table().push(Nowhere(family))?;
            return Ok(Resource::new_own(socket.rep()));
        }
        self.place_for_new(Protocol::Tcp)?;
        self.view().create_tcp_socket(family)
    }
}

/// What is set before a socket is connected. One that is none takes it, so that its guest goes on to say
/// where it connects to.
macro_rules! set_on_one {
    ($($name:ident($argument:ident: $type:ty);)*) => {$(
        fn $name(&mut self, socket: Resource<TcpSocket>, $argument: $type) -> SocketResult<()> {
            if self.family(&socket).is_some() {
                self.0.called();
                return Ok(());
            }
            self.view().$name(socket, $argument)
        }
    )*};
}

/// What is asked of a socket, and refused of one that is none.
macro_rules! asked_of_one {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(
            &mut self,
            socket: Resource<TcpSocket>,
            $($argument: $type),*
        ) -> SocketResult<$answer> {
            self.one(&socket)?;
            self.view().$name(socket, $($argument),*)
        }
    )*};
}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl tcp::Host for Sockets<'_> {}

impl HostTcpSocket for Sockets<'_> {
    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        if self.family(&socket).is_some() {
            let refusals = self.0.called().network.refusals();
            refusals.add(socket_denied(refusals.skill(), Protocol::Tcp, to.into()));
            return Err(ErrorCode::AccessDenied.into());
        }
        self.view().start_connect(socket, network, to)
    }

    fn finish_connect(&mut self, socket: Resource<TcpSocket>) -> SocketResult<Streams> {
        self.one(&socket)?;
        let streams = self.view().finish_connect(socket)?;
        wrapped(self.0, streams).map_err(SocketError::trap)
    }

    async fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        if self.family(&socket).is_some() {
            self.0.called();
            let to: SocketAddr = to.into();
            // Any address and port: so does one that is to be connected.
            return match to.ip().is_unspecified() && to.port() == 0 {
                true => Ok(()),
                // With no address that it goes to, there is only the protocol to name.
                false => self.place(Protocol::Tcp),
            };
        }
        self.view().start_bind(socket, network, to).await
    }

    fn finish_bind(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        if self.family(&socket).is_some() {
            self.0.called();
            return Ok(());
        }
        self.view().finish_bind(socket)
    }

    async fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        if self.family(&socket).is_some() {
            self.0.called();
            return self.place(Protocol::Tcp);
        }
        self.view().start_listen(socket).await
    }

    set_on_one! {
        set_listen_backlog_size(size: u64);
        set_keep_alive_enabled(enabled: bool);
        set_keep_alive_idle_time(time: u64);
        set_keep_alive_interval(time: u64);
        set_keep_alive_count(count: u32);
        set_hop_limit(limit: u8);
        set_receive_buffer_size(size: u64);
        set_send_buffer_size(size: u64);
    }

    asked_of_one! {
        finish_listen() -> ();
        accept() -> (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);
        local_address() -> IpSocketAddress;
        remote_address() -> IpSocketAddress;
        keep_alive_enabled() -> bool;
        keep_alive_idle_time() -> u64;
        keep_alive_interval() -> u64;
        keep_alive_count() -> u32;
        hop_limit() -> u8;
        receive_buffer_size() -> u64;
        send_buffer_size() -> u64;
        shutdown(direction: ShutdownType) -> ();
    }

    fn is_listening(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        if self.family(&socket).is_some() {
            self.0.called();
            return Ok(false);
        }
        self.view().is_listening(socket)
    }

    fn address_family(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        if let Some(family) = self.family(&socket) {
            self.0.called();
            return Ok(family);
        }
        self.view().address_family(socket)
    }

    fn subscribe(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        if self.family(&socket).is_some() {
            return subscribe(self.0.called().table(), nowhere(&socket));
        }
        self.view().subscribe(socket)
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<()> {
        if self.family(&socket).is_some() {
            let socket = Resource::<Nowhere>::new_own(socket.rep());
            self.0.called().table().delete(socket)?;
            return Ok(());
        }
        HostTcpSocket::drop(&mut self.view(), socket)
    }
}
