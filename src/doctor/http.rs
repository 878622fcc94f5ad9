//! A guest that makes HTTP requests, and a server on this machine that counts what arrives.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::guests::{NUMBER, answering, calling};
use super::handmade::Handmade;

/// Makes a header field with a value of as many letters as its number.
pub(super) fn with_field() -> Handmade {
    let code = format!(
        "(memory.fill (i32.const 65536) (i32.const 97) {NUMBER})
        (call $append (call $fields) (i32.const 65536) (i32.const 1)
            (i32.const 65536) {NUMBER} (i32.const 64))
        (i32.const 0)"
    );
    answering(http(), &code)
}

/// Asks for a path of as many letters as its number, from an authority, and answers with 0 where it
/// got an answer, with 1 where the request was refused, and with 2 where no answer came.
pub(super) fn guest(authority: &str) -> Handmade {
    let fields = format!(r#"(data (i32.const 256) "{authority}")"#);
    let code = asking(256, authority);
    answering(Handmade { fields, ..http() }, &code)
}

/// Asks an authority, and then the one to which that redirects, and answers like [`guest`] of the
/// second request, and with 3 where the first came to nothing.
pub(super) fn following(authority: &str, next: &str) -> Handmade {
    let fields = format!(r#"(data (i32.const 256) "{authority}") (data (i32.const 512) "{next}")"#);
    let (first, second) = (asking(256, authority), asking(512, next));
    let code = format!(
        "(block $over (result i32)
            (if {first} (then (br $over (i32.const 3))))
            {second})"
    );
    answering(Handmade { fields, ..http() }, &code)
}

/// Asks the authority at this address, as [`guest`] does.
fn asking(address: u32, authority: &str) -> String {
    let length = authority.len();
    format!(
        "(block $done (result i32)
            (local.set $a (call $request (call $fields)))
            (memory.fill (i32.const 65536) (i32.const 97) {NUMBER})
            (i32.store8 (i32.const 65536) (i32.const 47))
            (drop (call $path (local.get $a) (i32.const 1) (i32.const 65536) {NUMBER}))
            (drop (call $scheme (local.get $a) (i32.const 1) (i32.const 0) (i32.const 0)
                (i32.const 0)))
            (drop (call $authority (local.get $a) (i32.const 1) (i32.const {address})
                (i32.const {length})))
            (call $handle (local.get $a) (i32.const 0) (i32.const 0) (i32.const 64))
            (if (i32.load8_u (i32.const 64)) (then (br $done (i32.const 1))))
            (local.set $b (i32.load (i32.const 72)))
            (call $block (call $subscribe (local.get $b)))
            (call $get (local.get $b) (i32.const 64))
            (if (i32.eqz (i32.load8_u (i32.const 64))) (then (br $done (i32.const 2))))
            (if (i32.load8_u (i32.const 72)) (then (br $done (i32.const 2))))
            (if (i32.load8_u (i32.const 80)) (then (br $done (i32.const 2))))
            (i32.const 0))"
    )
}

/// Requests: `$fields` and `$append`, `$request`, `$path`, `$scheme` and `$authority`, `$handle`,
/// `$subscribe`, `$block` and `$get`.
fn http() -> Handmade {
    let text = r#"(option string)"#;
    calling(
        &format!(
            r#"
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:http/types@0.2.0" (instance $http
            (alias outer $skill $pollable (type $a))
            (export "pollable" (type $p (eq $a)))
            (export "fields" (type $fields (sub resource)))
            (export "outgoing-request" (type $request (sub resource)))
            (export "request-options" (type $options (sub resource)))
            (export "incoming-response" (type $response (sub resource)))
            (export "future-incoming-response" (type $future (sub resource)))
            (type $b (variant (case "HTTP") (case "HTTPS") (case "other" string)))
            (export "scheme" (type $scheme (eq $b)))
            (type $c (record (field "rcode" {text}) (field "info-code" (option u16))))
            (export "DNS-error-payload" (type $dns (eq $c)))
            (type $d (record (field "alert-id" (option u8)) (field "alert-message" {text})))
            (export "TLS-alert-received-payload" (type $tls (eq $d)))
            (type $e (record (field "field-name" {text}) (field "field-size" (option u32))))
            (export "field-size-payload" (type $size (eq $e)))
            (type $f (variant (case "DNS-timeout") (case "DNS-error" $dns)
                (case "destination-not-found") (case "destination-unavailable")
                (case "destination-IP-prohibited") (case "destination-IP-unroutable")
                (case "connection-refused") (case "connection-terminated")
                (case "connection-timeout") (case "connection-read-timeout")
                (case "connection-write-timeout") (case "connection-limit-reached")
                (case "TLS-protocol-error") (case "TLS-certificate-error")
                (case "TLS-alert-received" $tls) (case "HTTP-request-denied")
                (case "HTTP-request-length-required")
                (case "HTTP-request-body-size" (option u64))
                (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid")
                (case "HTTP-request-URI-too-long")
                (case "HTTP-request-header-section-size" (option u32))
                (case "HTTP-request-header-size" (option $size))
                (case "HTTP-request-trailer-section-size" (option u32))
                (case "HTTP-request-trailer-size" $size) (case "HTTP-response-incomplete")
                (case "HTTP-response-header-section-size" (option u32))
                (case "HTTP-response-header-size" $size)
                (case "HTTP-response-body-size" (option u64))
                (case "HTTP-response-trailer-section-size" (option u32))
                (case "HTTP-response-trailer-size" $size)
                (case "HTTP-response-transfer-coding" {text})
                (case "HTTP-response-content-coding" {text}) (case "HTTP-response-timeout")
                (case "HTTP-upgrade-failed") (case "HTTP-protocol-error")
                (case "loop-detected") (case "configuration-error")
                (case "internal-error" {text})))
            (export "error-code" (type $error (eq $f)))
            (type $g (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
            (export "header-error" (type $header-error (eq $g)))
            (export "[constructor]fields" (func (result (own $fields))))
            (export "[method]fields.append" (func (param "self" (borrow $fields))
                (param "name" string) (param "value" (list u8))
                (result (result (error $header-error)))))
            (export "[constructor]outgoing-request" (func (param "headers" (own $fields))
                (result (own $request))))
            (export "[method]outgoing-request.set-path-with-query" (func
                (param "self" (borrow $request)) (param "path-with-query" {text})
                (result (result))))
            (export "[method]outgoing-request.set-scheme" (func
                (param "self" (borrow $request)) (param "scheme" (option $scheme))
                (result (result))))
            (export "[method]outgoing-request.set-authority" (func
                (param "self" (borrow $request)) (param "authority" {text})
                (result (result))))
            (export "[method]future-incoming-response.subscribe" (func
                (param "self" (borrow $future)) (result (own $p))))
            (export "[method]future-incoming-response.get" (func
                (param "self" (borrow $future))
                (result (option (result (result (own $response) (error $error)))))))))
        (alias export $http "outgoing-request" (type $outgoing-request))
        (alias export $http "request-options" (type $request-options))
        (alias export $http "future-incoming-response" (type $future-incoming-response))
        (alias export $http "error-code" (type $error-code))
        (import "wasi:http/outgoing-handler@0.2.0" (instance $handler
            (alias outer $skill $outgoing-request (type $a))
            (export "outgoing-request" (type $request (eq $a)))
            (alias outer $skill $request-options (type $b))
            (export "request-options" (type $options (eq $b)))
            (alias outer $skill $future-incoming-response (type $c))
            (export "future-incoming-response" (type $future (eq $c)))
            (alias outer $skill $error-code (type $d))
            (export "error-code" (type $error (eq $d)))
            (export "handle" (func (param "request" (own $request))
                (param "options" (option (own $options)))
                (result (result (own $future) (error $error)))))))
        (core func $fields (canon lower (func $http "[constructor]fields")))
        (core func $append (canon lower (func $http "[method]fields.append") (memory $memory)))
        (core func $request (canon lower (func $http "[constructor]outgoing-request")))
        (core func $path (canon lower
            (func $http "[method]outgoing-request.set-path-with-query") (memory $memory)))
        (core func $scheme (canon lower
            (func $http "[method]outgoing-request.set-scheme") (memory $memory)))
        (core func $authority (canon lower
            (func $http "[method]outgoing-request.set-authority") (memory $memory)))
        (core func $handle (canon lower (func $handler "handle")
            (memory $memory) (realloc $realloc)))
        (core func $subscribe (canon lower
            (func $http "[method]future-incoming-response.subscribe")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core func $get (canon lower (func $http "[method]future-incoming-response.get")
            (memory $memory) (realloc $realloc)))"#
        ),
        &[
            ("fields", "(result i32)"),
            ("append", "(param i32 i32 i32 i32 i32 i32)"),
            ("request", "(param i32) (result i32)"),
            ("path", "(param i32 i32 i32 i32) (result i32)"),
            ("scheme", "(param i32 i32 i32 i32 i32) (result i32)"),
            ("authority", "(param i32 i32 i32 i32) (result i32)"),
            ("handle", "(param i32 i32 i32 i32)"),
            ("subscribe", "(param i32) (result i32)"),
            ("block", "(param i32)"),
            ("get", "(param i32 i32)"),
        ],
    )
}

/// Answers each request, with a head that is the longer the more letters its path has.
pub(super) struct Server {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    connections: AtomicU64,
    most_bytes: AtomicU64,
    /// The last request.
    last: Mutex<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Serving {
    Http,
    /// Redirects whoever asks to this address.
    Leading(SocketAddr),
    Giving,
    /// Takes whoever connects, and never says anything.
    Silent,
}

/// The head of an answer to a path of so many letters.
fn head(letters: usize) -> String {
    let letters = "a".repeat(letters);
    format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\nx: {letters}\r\n\r\n")
}

/// The bytes of such a head.
pub(super) fn head_bytes(letters: u64) -> u64 {
    head(0).len() as u64 + letters
}

/// The head of an answer that redirects to this address.
fn away(to: SocketAddr) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{to}/\r\ncontent-length: 0\r\n\
        connection: close\r\n\r\n"
    )
}

impl Server {
    /// One that serves HTTP.
    pub fn start() -> io::Result<Self> {
        Server::with(Serving::Http)
    }

    /// One that redirects whoever asks to this address.
    pub fn leading(to: SocketAddr) -> io::Result<Self> {
        Server::with(Serving::Leading(to))
    }

    /// One that sends 64 KiB to whoever connects, and hears nothing.
    pub fn giving() -> io::Result<Self> {
        Server::with(Serving::Giving)
    }

    /// One that takes connections, and never says anything.
    pub fn silent() -> io::Result<Self> {
        Server::with(Serving::Silent)
    }

    fn with(serving: Serving) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let thread = std::thread::Builder::new().spawn(move || {
            let mut held = Vec::new();
            while !shared.stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((connection, _)) => {
                        shared.connections.fetch_add(1, Ordering::Relaxed);
                        // Nobody waits here for long: a socket that is only opened sends nothing.
                        let patience = Some(Duration::from_millis(200));
                        let ready = connection
                            .set_nonblocking(false)
                            .and_then(|()| connection.set_read_timeout(patience));
                        // Whatever becomes of it, the guest is what is looked at.
                        let _ = ready.and_then(|()| match serving {
                            Serving::Http => serve(connection, &shared, head),
                            Serving::Leading(to) => serve(connection, &shared, |_| away(to)),
                            Serving::Giving => (&connection).write_all(&[0; 64 * 1024]),
                            Serving::Silent => {
                                held.push(connection);
                                Ok(())
                            }
                        });
                    }
                    Err(_) => std::thread::sleep(Duration::from_micros(200)),
                }
            }
        })?;
        Ok(Server {
            address,
            seen,
            thread: Some(thread),
        })
    }

    /// The connections that there were.
    pub fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Whether a text is in the last request.
    pub fn heard(&self, text: &str) -> bool {
        let last = self
            .seen
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// The most bytes that came on one.
    pub fn most_bytes(&self) -> u64 {
        self.seen.most_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut connection: impl Read + Write,
    seen: &Seen,
    head: impl FnOnce(usize) -> String,
) -> io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let bytes = connection.read(&mut piece)?;
        if bytes == 0 {
            break;
        }
        request.extend_from_slice(&piece[..bytes]);
        seen.most_bytes
            .fetch_max(request.len() as u64, Ordering::Relaxed);
    }
    seen.last
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone_from(&request);
    let letters = request.iter().skip_while(|byte| **byte != b'/');
    let letters = letters.take_while(|byte| **byte != b' ').count();
    connection.write_all(head(letters).as_bytes())
}
