//! `wasi:sockets/tcp`: wasmtime-wasi's sockets where one is granted, and where none is, a
//! [`Nowhere`](super::nowhere).

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, SocketError, SocketResult, TcpSocket, subscribe,
};

use super::Sockets;
use super::metered::wrapped;
use super::nowhere::{
    Nowhere, asked_of_one, drop_one, family_of_one, nowhere, set_on_one, subscribe_to_one,
};
use crate::grant::Protocol;

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if !self.place_for_new(Protocol::Tcp)? {
            let socket = self.0.called().table().push(Nowhere(family))?;
            return Ok(Resource::new_own(socket.rep()));
        }
        self.view().create_tcp_socket(family)
    }
}

impl Sockets<'_> {
    /// Notes what was granted, and did not come about: it was not for want of a directory, for which a libc looks with
    /// its first descriptor.
    fn answered<T>(&mut self, answer: SocketResult<T>) -> SocketResult<T> {
        let failed = |error: &SocketError| {
            let code = error.downcast_ref();
            code.is_some_and(|code| !matches!(code, ErrorCode::WouldBlock))
        };
        if answer.as_ref().err().is_some_and(failed) {
            self.0.network.sought().is_refused(false);
        }
        answer
    }
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
        if let Some(family) = self.family(&socket) {
            return self.refuse(Protocol::Tcp, family, to);
        }
        let started = self.view().start_connect(socket, network, to);
        self.answered(started)
    }

    fn finish_connect(&mut self, socket: Resource<TcpSocket>) -> SocketResult<Streams> {
        self.one(&socket)?;
        let streams = self.view().finish_connect(socket);
        let streams = self.answered(streams)?;
        wrapped(self.0, streams).map_err(SocketError::trap)
    }

    async fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        if self.family(&socket).is_some() {
            return self.bind(Protocol::Tcp, to);
        }
        self.view().start_bind(socket, network, to).await
    }

    async fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        if self.family(&socket).is_some() {
            return self.refuse_to_bind(Protocol::Tcp);
        }
        self.view().start_listen(socket).await
    }

    fn is_listening(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        if self.family(&socket).is_some() {
            self.0.called();
            return Ok(false);
        }
        self.view().is_listening(socket)
    }

    set_on_one! {
        TcpSocket:
        finish_bind();
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
        TcpSocket:
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

    family_of_one!(TcpSocket);
    subscribe_to_one!(HostTcpSocket: TcpSocket);
    drop_one!(HostTcpSocket: TcpSocket);
}
