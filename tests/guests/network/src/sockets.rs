//! Every call of `wasi:sockets`, past the standard library.

use serde_json::{Map, Value, json};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp::ShutdownType;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::OutgoingDatagram;
use wasip2::sockets::udp_create_socket::create_udp_socket;

/// An address of this machine, or with port 0 any of it.
pub fn address(port: u16) -> IpSocketAddress {
    let address = match port {
        0 => (0, 0, 0, 0),
        _ => (127, 0, 0, 1),
    };
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })
}

/// What each call came to, in the order of the calls.
#[derive(Default)]
struct Said(Map<String, Value>);

impl Said {
    fn call<T>(&mut self, name: &str, came_to: Result<T, ErrorCode>) -> Option<T> {
        let said = match &came_to {
            Ok(_) => "ok",
            Err(error) => error.name(),
        };
        self.0.insert(name.to_owned(), said.into());
        came_to.ok()
    }
}

/// Every call of a TCP socket that is to go to this port of this machine.
pub fn tcp(port: u16) -> Value {
    let network = instance_network();
    let Ok(socket) = create_tcp_socket(IpAddressFamily::Ipv4) else {
        return json!({"error": "there is no socket"});
    };
    let mut said = Said::default();
    let family = socket.address_family() == IpAddressFamily::Ipv4;
    said.call(
        "set_keep_alive_enabled",
        socket.set_keep_alive_enabled(true),
    );
    said.call(
        "set_keep_alive_idle_time",
        socket.set_keep_alive_idle_time(1),
    );
    said.call("set_keep_alive_interval", socket.set_keep_alive_interval(1));
    said.call("set_keep_alive_count", socket.set_keep_alive_count(1));
    said.call("set_hop_limit", socket.set_hop_limit(1));
    said.call(
        "set_receive_buffer_size",
        socket.set_receive_buffer_size(1 << 30),
    );
    said.call("set_send_buffer_size", socket.set_send_buffer_size(1 << 30));
    said.call("set_listen_backlog_size", socket.set_listen_backlog_size(1));
    said.call("start_bind", socket.start_bind(&network, address(0)));
    said.call("finish_bind", socket.finish_bind());
    said.call("keep_alive_enabled", socket.keep_alive_enabled());
    said.call("keep_alive_idle_time", socket.keep_alive_idle_time());
    said.call("keep_alive_interval", socket.keep_alive_interval());
    said.call("keep_alive_count", socket.keep_alive_count());
    said.call("hop_limit", socket.hop_limit());
    said.call("receive_buffer_size", socket.receive_buffer_size());
    said.call("send_buffer_size", socket.send_buffer_size());
    said.call("local_address", socket.local_address());
    said.call("remote_address", socket.remote_address());
    said.call(
        "start_connect",
        socket.start_connect(&network, address(port)),
    );
    // It is never waited for what will not be.
    socket.subscribe().block();
    said.call("finish_connect", socket.finish_connect());
    said.call(
        "start_bind_to_a_port",
        socket.start_bind(&network, address(port)),
    );
    said.call("start_listen", socket.start_listen());
    let is_listening = socket.is_listening();
    said.call("finish_listen", socket.finish_listen());
    said.call("accept", socket.accept());
    said.call("shutdown", socket.shutdown(ShutdownType::Both));
    let other = IpSocketAddress::Ipv6(Ipv6SocketAddress {
        port,
        flow_info: u32::MAX,
        address: (0, 0, 0, 0, 0, 0xffff, 0x7f00, 1),
        scope_id: u32::MAX,
    });
    said.call(
        "start_connect_by_another_family",
        socket.start_connect(&network, other),
    );
    let call = socket.start_connect(&network, address(0));
    said.call("start_connect_to_no_port", call);
    // What waits for it ends before it, and its place is taken by another.
    drop(socket);
    let again = create_tcp_socket(IpAddressFamily::Ipv6);
    let again = again.is_ok_and(|socket| socket.address_family() == IpAddressFamily::Ipv6);
    json!({"said": said.0, "family": family, "is_listening": is_listening, "again": again})
}

/// Every call of a UDP socket that is to send to this port of this machine.
pub fn udp(port: u16) -> Value {
    let network = instance_network();
    let Ok(socket) = create_udp_socket(IpAddressFamily::Ipv4) else {
        return json!({"error": "there is no socket"});
    };
    let mut said = Said::default();
    let family = socket.address_family() == IpAddressFamily::Ipv4;
    said.call("set_unicast_hop_limit", socket.set_unicast_hop_limit(1));
    said.call(
        "set_receive_buffer_size",
        socket.set_receive_buffer_size(1 << 30),
    );
    said.call("set_send_buffer_size", socket.set_send_buffer_size(1 << 30));
    said.call(
        "start_bind_to_a_port",
        socket.start_bind(&network, address(port)),
    );
    said.call("start_bind", socket.start_bind(&network, address(0)));
    said.call("finish_bind", socket.finish_bind());
    said.call("unicast_hop_limit", socket.unicast_hop_limit());
    said.call("receive_buffer_size", socket.receive_buffer_size());
    said.call("send_buffer_size", socket.send_buffer_size());
    said.call("local_address", socket.local_address());
    said.call("remote_address", socket.remote_address());
    socket.subscribe().block();
    let datagram = |remote_address| OutgoingDatagram {
        data: b"ping".to_vec(),
        remote_address,
    };
    if let Some((incoming, outgoing)) = said.call("stream", socket.stream(None)) {
        outgoing.subscribe().block();
        said.call("check_send", outgoing.check_send());
        said.call("send_none", outgoing.send(&[]));
        said.call("send_to_nobody", outgoing.send(&[datagram(None)]));
        said.call("send", outgoing.send(&[datagram(Some(address(port)))]));
        incoming.subscribe().block();
        said.call("receive", incoming.receive(1));
    }
    said.call("stream_to_a_port", socket.stream(Some(address(port))));
    said.call("stream_to_no_port", socket.stream(Some(address(0))));
    drop(socket);
    let again = create_udp_socket(IpAddressFamily::Ipv6);
    let again = again.is_ok_and(|socket| socket.address_family() == IpAddressFamily::Ipv6);
    json!({"said": said.0, "family": family, "again": again})
}

/// So many datagrams without contents to this port of this machine, handed over in one call.
pub fn udp_at_once(port: u16, count: usize) -> Value {
    match send_at_once(port, count) {
        Ok(sent) => json!({"sent": sent}),
        Err(error) => json!({"error": error.name()}),
    }
}

fn send_at_once(port: u16, count: usize) -> Result<u64, ErrorCode> {
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), address(0))?;
    socket.finish_bind()?;
    let (_incoming, outgoing) = socket.stream(None)?;
    outgoing.subscribe().block();
    outgoing.check_send()?;
    let datagram = OutgoingDatagram {
        data: Vec::new(),
        remote_address: Some(address(port)),
    };
    outgoing.send(&vec![datagram; count])
}
