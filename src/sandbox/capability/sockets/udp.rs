//! `wasi:sockets/udp`: wasmtime-wasi's sockets where one is granted, whose datagrams are counted, and
//! where none is, a [`Nowhere`](super::nowhere), with streams that lead there.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    self, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket;
use wasmtime_wasi::p2::{DynPollable, SocketResult, UdpSocket, subscribe};

use super::metered::meter;
use super::nowhere::{
    Nowhere, asked_of_one, drop_one, family_of_one, nowhere, set_on_one, subscribe_to_one,
};
use super::{Sockets, of};
use crate::grant::Protocol;
use crate::sandbox::capability::few::Few;
use crate::sandbox::state::State;

/// The header of a datagram, in bytes: an empty one is sent, too.
const HEADER: u64 = 8;

/// The version under which wasmtime-wasi 48 offers the interface; a test of the hostile suite would notice another.
const UDP: &str = "wasi:sockets/udp@0.2.12";

/// Puts what sends no more than a few datagrams at once in the place of what sends any number.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance(UDP)?.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store: StoreContextMut<'_, State>,
         (stream, Few(datagrams)): (Resource<OutgoingDatagramStream>, Few<OutgoingDatagram>)| {
            let mut sockets = of(store.data_mut());
            let sent = HostOutgoingDatagramStream::send(&mut sockets, stream, datagrams);
            Ok::<(Result<u64, ErrorCode>,), wasmtime::Error>((match sent {
                Ok(sent) => Ok(sent),
                Err(error) => Err(network::Host::convert_error_code(&mut sockets, error)?),
            },))
        },
    )
}

impl udp_create_socket::Host for Sockets<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<UdpSocket>> {
        if !self.place_for_new(Protocol::Udp)? {
            let socket = self.0.called().table().push(Nowhere(family))?;
            return Ok(Resource::new_own(socket.rep()));
        }
        self.view().create_udp_socket(family).await
    }
}

type Streams = (
    Resource<IncomingDatagramStream>,
    Resource<OutgoingDatagramStream>,
);

impl udp::Host for Sockets<'_> {}

impl HostUdpSocket for Sockets<'_> {
    async fn start_bind(
        &mut self,
        socket: Resource<UdpSocket>,
        network: Resource<Network>,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        if self.family(&socket).is_some() {
            return self.bind(Protocol::Udp, to);
        }
        self.view().start_bind(socket, network, to).await
    }

    async fn stream(
        &mut self,
        socket: Resource<UdpSocket>,
        to: Option<IpSocketAddress>,
    ) -> SocketResult<Streams> {
        let Some(family) = self.family(&socket) else {
            return self.view().stream(socket, to).await;
        };
        match to {
            Some(to) => self.refuse(Protocol::Udp, family, to),
            // Each datagram says for itself where it goes.
            None => {
                let table = self.0.called().table();
                let incoming = table.push(Nowhere(family))?.rep();
                let outgoing = table.push(Nowhere(family))?.rep();
                Ok((Resource::new_own(incoming), Resource::new_own(outgoing)))
            }
        }
    }

    set_on_one! {
        UdpSocket:
        finish_bind();
        set_unicast_hop_limit(limit: u8);
        set_receive_buffer_size(size: u64);
        set_send_buffer_size(size: u64);
    }

    asked_of_one! {
        UdpSocket:
        local_address() -> IpSocketAddress;
        remote_address() -> IpSocketAddress;
        unicast_hop_limit() -> u8;
        receive_buffer_size() -> u64;
        send_buffer_size() -> u64;
    }

    family_of_one!(UdpSocket);
    subscribe_to_one!(HostUdpSocket: UdpSocket);
    drop_one!(HostUdpSocket: UdpSocket);
}

impl HostIncomingDatagramStream for Sockets<'_> {
    fn receive(
        &mut self,
        stream: Resource<IncomingDatagramStream>,
        most: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        self.one(&stream)?;
        let received = self.view().receive(stream, most)?;
        let bytes = received.iter().map(|datagram| size(&datagram.data)).sum();
        if let Some(meter) = meter(self.0)
            && meter.receive(bytes).is_err()
        {
            return Err(ErrorCode::OutOfMemory.into());
        }
        Ok(received)
    }

    subscribe_to_one!(HostIncomingDatagramStream: IncomingDatagramStream);
    drop_one!(HostIncomingDatagramStream: IncomingDatagramStream);
}

impl HostOutgoingDatagramStream for Sockets<'_> {
    fn check_send(&mut self, stream: Resource<OutgoingDatagramStream>) -> SocketResult<u64> {
        if self.family(&stream).is_some() {
            self.0.called();
            return Ok(1);
        }
        self.view().check_send(stream)
    }

    fn send(
        &mut self,
        stream: Resource<OutgoingDatagramStream>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        if let Some(family) = self.family(&stream) {
            return match datagrams.first().map(|datagram| datagram.remote_address) {
                Some(Some(to)) => self.refuse(Protocol::Udp, family, to),
                Some(None) => {
                    self.0.called();
                    Err(ErrorCode::InvalidArgument.into())
                }
                None => {
                    self.0.called();
                    Ok(0)
                }
            };
        }
        let sizes: Vec<u64> = datagrams.iter().map(|one| size(&one.data)).collect();
        if let Some(meter) = meter(self.0)
            && meter.send(sizes.iter().sum()).is_err()
        {
            return Err(ErrorCode::DatagramTooLarge.into());
        }
        let sent = self.view().send(stream, datagrams);
        let went = usize::try_from(*sent.as_ref().unwrap_or(&0)).unwrap_or(usize::MAX);
        if let Some(meter) = meter(self.0) {
            meter.not_sent(sizes.iter().skip(went).sum());
        }
        sent
    }

    subscribe_to_one!(HostOutgoingDatagramStream: OutgoingDatagramStream);

    async fn drop(&mut self, stream: Resource<OutgoingDatagramStream>) -> wasmtime::Result<()> {
        match self.family(&stream) {
            Some(_) => self.end(&stream),
            None => HostOutgoingDatagramStream::drop(&mut self.view(), stream).await,
        }
    }
}

fn size(data: &[u8]) -> u64 {
    data.len() as u64 + HEADER
}
