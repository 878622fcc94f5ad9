//! The network, of which nothing is granted: not by TCP, not by UDP, and no name is looked up.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Trouble, ended, numbered};
use crate::doctor::guests::{NUMBER, answering, calling, number, times};
use crate::doctor::handmade::Handmade;
use crate::doctor::http::Server;
use crate::doctor::limits::network::no_server;
use crate::execution::ExecutionResult;
use crate::grant::{Capability, Grants, Protocol, SocketGrant};

/// What the guest tries; its number is this times 65,536, and the port of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing, to see that the guest runs.
    None = 0,
    /// A socket, and a connection to the port on this machine.
    Tcp = 1,
    /// A socket, and streams that lead to the port on this machine.
    Udp = 2,
    /// The addresses of `localhost`.
    Lookup = 3,
}

/// The error codes of `wasi:sockets`, in their order there.
const ERRORS: [&str; 21] = [
    "unknown",
    "access-denied",
    "not-supported",
    "invalid-argument",
    "out-of-memory",
    "timeout",
    "concurrency-conflict",
    "not-in-progress",
    "would-block",
    "invalid-state",
    "new-socket-limit",
    "address-not-bindable",
    "address-in-use",
    "remote-unreachable",
    "connection-refused",
    "connection-reset",
    "connection-aborted",
    "datagram-too-large",
    "name-unresolvable",
    "temporary-resolver-failure",
    "permanent-resolver-failure",
];

/// Those of them that a guest is refused with. Others come from the network.
const REFUSALS: [&str; 3] = [
    "access-denied",
    "not-supported",
    "permanent-resolver-failure",
];

/// Sockets: `$network`, `$tcp` and `$udp` (of a family), `$connect`, `$finish`, and `$lookup`; of
/// what they are connected by, `$skip` and `$zeros`; of UDP, `$bind`, `$bound` and `$stream`.
fn sockets() -> Handmade {
    let errors = ERRORS.map(|name| format!("\"{name}\"")).join(" ");
    calling(
        &format!(
            r#"
        (import "wasi:sockets/network@0.2.0" (instance $networks
            (export "network" (type $n (sub resource)))
            (type $a (enum {errors}))
            (export "error-code" (type $error (eq $a)))
            (type $b (enum "ipv4" "ipv6"))
            (export "ip-address-family" (type $family (eq $b)))
            (type $c (tuple u8 u8 u8 u8))
            (type $d (tuple u16 u16 u16 u16 u16 u16 u16 u16))
            (type $e (record (field "port" u16) (field "address" $c)))
            (export "ipv4-socket-address" (type $four (eq $e)))
            (type $f (record (field "port" u16) (field "flow-info" u32) (field "address" $d)
                (field "scope-id" u32)))
            (export "ipv6-socket-address" (type $six (eq $f)))
            (type $g (variant (case "ipv4" $four) (case "ipv6" $six)))
            (export "ip-socket-address" (type $address (eq $g)))))
        (alias export $networks "network" (type $network))
        (alias export $networks "error-code" (type $error-code))
        (alias export $networks "ip-address-family" (type $ip-address-family))
        (alias export $networks "ip-socket-address" (type $ip-socket-address))
        (import "wasi:sockets/instance-network@0.2.0" (instance $own
            (alias outer $skill $network (type $a))
            (export "network" (type $n (eq $a)))
            (export "instance-network" (func (result (own $n))))))
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:io/error@0.2.0" (instance $io-errors
            (export "error" (type (sub resource)))))
        (alias export $io-errors "error" (type $io-failure))
        (import "wasi:io/streams@0.2.0" (instance $streams
            (export "input-stream" (type $in (sub resource)))
            (export "output-stream" (type $out (sub resource)))
            (alias outer $skill $io-failure (type $a))
            (export "error" (type $io-failure (eq $a)))
            (type $b (variant (case "last-operation-failed" (own $io-failure)) (case "closed")))
            (export "stream-error" (type $error (eq $b)))
            (export "[method]input-stream.blocking-skip" (func (param "self" (borrow $in))
                (param "len" u64) (result (result u64 (error $error)))))
            (export "[method]output-stream.blocking-write-zeroes-and-flush" (func
                (param "self" (borrow $out)) (param "len" u64)
                (result (result (error $error)))))))
        (alias export $streams "input-stream" (type $input-stream))
        (alias export $streams "output-stream" (type $output-stream))
        (import "wasi:sockets/tcp@0.2.0" (instance $connections
            (alias outer $skill $pollable (type $d))
            (export "pollable" (type $p (eq $d)))
            (alias outer $skill $input-stream (type $e))
            (export "input-stream" (type $in (eq $e)))
            (alias outer $skill $output-stream (type $f))
            (export "output-stream" (type $out (eq $f)))
            (alias outer $skill $network (type $a))
            (export "network" (type $n (eq $a)))
            (alias outer $skill $error-code (type $b))
            (export "error-code" (type $error (eq $b)))
            (alias outer $skill $ip-socket-address (type $c))
            (export "ip-socket-address" (type $address (eq $c)))
            (export "tcp-socket" (type $s (sub resource)))
            (export "[method]tcp-socket.start-connect" (func (param "self" (borrow $s))
                (param "network" (borrow $n)) (param "remote-address" $address)
                (result (result (error $error)))))
            (export "[method]tcp-socket.finish-connect" (func (param "self" (borrow $s))
                (result (result (tuple (own $in) (own $out)) (error $error)))))
            (export "[method]tcp-socket.subscribe" (func (param "self" (borrow $s))
                (result (own $p))))))
        (alias export $connections "tcp-socket" (type $tcp-socket))
        (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
            (alias outer $skill $error-code (type $a))
            (export "error-code" (type $error (eq $a)))
            (alias outer $skill $ip-address-family (type $b))
            (export "ip-address-family" (type $family (eq $b)))
            (alias outer $skill $tcp-socket (type $c))
            (export "tcp-socket" (type $s (eq $c)))
            (export "create-tcp-socket" (func (param "address-family" $family)
                (result (result (own $s) (error $error)))))))
        (import "wasi:sockets/udp@0.2.0" (instance $datagrams
            (alias outer $skill $network (type $a))
            (export "network" (type $n (eq $a)))
            (alias outer $skill $error-code (type $b))
            (export "error-code" (type $error (eq $b)))
            (alias outer $skill $ip-socket-address (type $c))
            (export "ip-socket-address" (type $address (eq $c)))
            (export "incoming-datagram-stream" (type $in (sub resource)))
            (export "outgoing-datagram-stream" (type $out (sub resource)))
            (export "udp-socket" (type $s (sub resource)))
            (export "[method]udp-socket.start-bind" (func (param "self" (borrow $s))
                (param "network" (borrow $n)) (param "local-address" $address)
                (result (result (error $error)))))
            (export "[method]udp-socket.finish-bind" (func (param "self" (borrow $s))
                (result (result (error $error)))))
            (export "[method]udp-socket.stream" (func (param "self" (borrow $s))
                (param "remote-address" (option $address))
                (result (result (tuple (own $in) (own $out)) (error $error)))))))
        (alias export $datagrams "udp-socket" (type $udp-socket))
        (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
            (alias outer $skill $error-code (type $a))
            (export "error-code" (type $error (eq $a)))
            (alias outer $skill $ip-address-family (type $b))
            (export "ip-address-family" (type $family (eq $b)))
            (alias outer $skill $udp-socket (type $c))
            (export "udp-socket" (type $s (eq $c)))
            (export "create-udp-socket" (func (param "address-family" $family)
                (result (result (own $s) (error $error)))))))
        (import "wasi:sockets/ip-name-lookup@0.2.0" (instance $names
            (alias outer $skill $network (type $a))
            (export "network" (type $n (eq $a)))
            (alias outer $skill $error-code (type $b))
            (export "error-code" (type $error (eq $b)))
            (export "resolve-address-stream" (type $r (sub resource)))
            (export "resolve-addresses" (func (param "network" (borrow $n))
                (param "name" string) (result (result (own $r) (error $error)))))))
        (core func $network (canon lower (func $own "instance-network")))
        (core func $tcp (canon lower (func $create-tcp "create-tcp-socket") (memory $memory)))
        (core func $udp (canon lower (func $create-udp "create-udp-socket") (memory $memory)))
        (core func $bind (canon lower
            (func $datagrams "[method]udp-socket.start-bind") (memory $memory)))
        (core func $bound (canon lower
            (func $datagrams "[method]udp-socket.finish-bind") (memory $memory)))
        (core func $stream (canon lower
            (func $datagrams "[method]udp-socket.stream") (memory $memory)))
        (core func $connect (canon lower
            (func $connections "[method]tcp-socket.start-connect") (memory $memory)))
        (core func $finish (canon lower
            (func $connections "[method]tcp-socket.finish-connect") (memory $memory)))
        (core func $subscribe (canon lower
            (func $connections "[method]tcp-socket.subscribe")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core func $skip (canon lower
            (func $streams "[method]input-stream.blocking-skip") (memory $memory)))
        (core func $zeros (canon lower
            (func $streams "[method]output-stream.blocking-write-zeroes-and-flush")
            (memory $memory)))
        (core func $lookup (canon lower (func $names "resolve-addresses") (memory $memory)))"#
        ),
        &[
            ("network", "(result i32)"),
            ("tcp", "(param i32 i32)"),
            ("udp", "(param i32 i32)"),
            (
                "connect",
                "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
            ),
            (
                "bind",
                "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
            ),
            ("bound", "(param i32 i32)"),
            (
                "stream",
                "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
            ),
            ("finish", "(param i32 i32)"),
            ("subscribe", "(param i32) (result i32)"),
            ("block", "(param i32)"),
            ("skip", "(param i32 i64 i32)"),
            ("zeros", "(param i32 i64 i32)"),
            ("lookup", "(param i32 i32 i32 i32)"),
        ],
    )
}

/// Answers with 0 where nothing stopped it, and with 1 and up for an error.
fn guest() -> Handmade {
    let way = format!("(i32.shr_u {NUMBER} (i32.const 16))");
    let port = format!("(i32.and {NUMBER} (i32.const 65535))");
    let is = |wanted: Way| format!("(i32.eq {way} (i32.const {}))", wanted as u32);
    let (tcp, udp, lookup) = (is(Way::Tcp), is(Way::Udp), is(Way::Lookup));
    // Where an outcome is an error, its code stands behind a handle's place.
    let done = "(if (i32.load8_u (i32.const 64))
        (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const 68))))))";
    // And where it has no other value, behind its own.
    let failed = "(if (i32.load8_u (i32.const 64))
        (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const 65))))))";
    let zeros = "(i32.const 0) ".repeat(6);
    let code = format!(
        r#"(block $done (result i32)
            (if {udp} (then
                (call $udp (i32.const 0) (i32.const 64))
                {done}
                (local.set $a (i32.load (i32.const 68)))
                (call $bind (local.get $a) (call $network) (i32.const 0)
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    {zeros} (i32.const 64))
                {failed}
                (call $bound (local.get $a) (i32.const 64))
                {failed}
                (call $stream (local.get $a) (i32.const 1) (i32.const 0)
                    {port} (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
                    {zeros} (i32.const 64))
                {done}))
            (if {lookup} (then
                (call $lookup (call $network) (i32.const 128) (i32.const 9) (i32.const 64))
                {done}))
            (if {tcp} (then
                (call $tcp (i32.const 0) (i32.const 64))
                {done}
                (local.set $a (i32.load (i32.const 68)))
                (call $connect (local.get $a) (call $network) (i32.const 0)
                    {port} (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
                    {zeros} (i32.const 64))
                {failed}
                (call $block (call $subscribe (local.get $a)))
                (call $finish (local.get $a) (i32.const 64))
                {done}))
            (i32.const 0))"#
    );
    answering(
        Handmade {
            fields: r#"(data (i32.const 128) "localhost")"#.into(),
            ..sockets()
        },
        &code,
    )
}

async fn refused(ground: &Ground, way: Way) -> Result<Finding, Trouble> {
    // Where this machine has no address for itself, the guest must be refused all the same.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?.port(), listener))
    });
    let port = listener.as_ref().map_or(9, |(port, _)| *port);
    let skill = ground.load(&guest()).await?;
    let asked = |way: Way| (way as u32) << 16 | u32::from(port);
    let within = ground
        .run(&skill, asked(Way::None), Default::default())
        .await?
        .result;
    if number(&within) != Some(0) {
        let how = ended(&within);
        return Ok(Finding::unknown(format!(
            "the guest that tries nothing: {how}"
        )));
    }
    let past = ground.run(&skill, asked(way), Default::default()).await?;
    if listener.is_ok_and(|(_, listener)| listener.accept().is_ok()) {
        return Ok(Finding::broken("it connected"));
    }
    Ok(judge(way, &past.result))
}

fn judge(way: Way, past: &ExecutionResult) -> Finding {
    let error = number(past)
        .and_then(|number| usize::try_from(number).ok()?.checked_sub(1))
        .and_then(|error| ERRORS.get(error));
    match error {
        Some(error) if REFUSALS.contains(error) => Finding::holds(*error),
        Some(error) => Finding::broken(format!("{way:?} was let through, and failed: {error}")),
        None => Finding::broken(format!("{way:?} was not refused: {}", ended(past))),
    }
}

pub async fn tcp(ground: &Ground) -> Result<Finding, Trouble> {
    refused(ground, Way::Tcp).await
}

pub async fn udp(ground: &Ground) -> Result<Finding, Trouble> {
    refused(ground, Way::Udp).await
}

pub async fn lookup(ground: &Ground) -> Result<Finding, Trouble> {
    refused(ground, Way::Lookup).await
}

/// Opens as many TCP sockets as its number, each connecting to this port of this machine, and goes
/// on where that is refused.
pub(in crate::doctor) fn connecting(port: u16) -> Handmade {
    let zeros = "(i32.const 0) ".repeat(6);
    Handmade {
        execute: times(&format!(
            "(call $tcp (i32.const 0) (i32.const 64))
            (if (i32.eqz (i32.load8_u (i32.const 64))) (then
                (call $connect (i32.load (i32.const 68)) (call $network) (i32.const 0)
                    (i32.const {port}) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
                    {zeros} (i32.const 64))))"
        )),
        ..sockets()
    }
}

/// What a guest does that is connected.
#[derive(Debug, Clone, Copy)]
pub(in crate::doctor) enum Streaming {
    Sending,
    Receiving,
}

impl Streaming {
    /// Connects to this port of this machine, and sends or receives as many bytes as its number, one
    /// by one.
    pub fn guest(self, port: u16) -> Handmade {
        let zeros = "(i32.const 0) ".repeat(6);
        // The two streams stand behind the outcome: what comes in, and what goes out.
        let (function, stream) = match self {
            Streaming::Receiving => ("skip", 68),
            Streaming::Sending => ("zeros", 72),
        };
        let each = times(&format!(
            "(call ${function} (local.get $stream) (i64.const 1) (i32.const 64))"
        ));
        Handmade {
            execute: format!(
                "(local $socket i32) (local $stream i32)
                (call $tcp (i32.const 0) (i32.const 64))
                (local.set $socket (i32.load (i32.const 68)))
                (call $connect (local.get $socket) (call $network) (i32.const 0)
                    (i32.const {port}) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
                    {zeros} (i32.const 64))
                (call $block (call $subscribe (local.get $socket)))
                (call $finish (local.get $socket) (i32.const 64))
                (local.set $stream (i32.load (i32.const {stream})))
                {}",
                each.replacen("(local $n i32)", "", 1)
            )
            .replacen(
                "(local $socket i32)",
                "(local $n i32) (local $socket i32)",
                1,
            ),
            ..sockets()
        }
    }
}

/// A socket is granted to one port, and the guest connects to another.
pub async fn another_port(ground: &Ground) -> Result<Finding, Trouble> {
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let skill = ground.load(&guest()).await?;
    let to = |port| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Grants::default().socket(SocketGrant::new(Protocol::Tcp, address))
    };
    let port = server.address.port();
    let asked = (Way::Tcp as u32) << 16 | u32::from(port);
    let within = ground.request(numbered(&skill, asked).grants(to(port)));
    let within = within.await?.result;
    if number(&within) != Some(0) {
        let how = ended(&within);
        return Ok(Finding::unknown(format!(
            "what is granted does not work: {how}"
        )));
    }
    let another = to(port.wrapping_add(1).max(1));
    let past = ground.request(numbered(&skill, asked).grants(another));
    Ok(judge(Way::Tcp, &past.await?.result))
}

pub async fn undeclared(ground: &Ground) -> Result<Finding, Trouble> {
    let address = SocketAddr::from(([192, 0, 2, 1], 80));
    let grants = Grants::default().socket(SocketGrant::new(Protocol::Tcp, address));
    super::undeclared(ground, Capability::Socket, grants).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    /// As if what is granted were not, also where nobody is there then.
    #[tokio::test]
    async fn a_socket_that_is_let_through_is_noticed() {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let skill = ground.load(&guest()).await.unwrap();
        let server = Server::start().unwrap();
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let nobody = nobody.local_addr().unwrap();
        for (way, protocol, to) in [
            (Way::Tcp, Protocol::Tcp, server.address),
            (Way::Tcp, Protocol::Tcp, nobody),
            (Way::Udp, Protocol::Udp, server.address),
        ] {
            let asked = numbered(&skill, (way as u32) << 16 | u32::from(to.port()));
            let granted = Grants::default().socket(SocketGrant::new(protocol, to));
            let past = ground.request(asked.clone().grants(granted)).await.unwrap();
            let found = judge(way, &past.result);
            assert_eq!(found.verdict, Verdict::Broken, "{way:?} {to}: {found:?}");
            let past = ground.request(asked).await.unwrap();
            let found = judge(way, &past.result);
            assert_eq!(found.verdict, Verdict::Holds, "{way:?} {to}: {found:?}");
        }
    }
}
