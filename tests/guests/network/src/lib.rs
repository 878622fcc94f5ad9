//! A skill that uses the network as it is told, well or badly. It speaks `wasi:http` and
//! `wasi:sockets` directly, without the SDK, so that nothing stands between a test and the host.

mod sockets;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use exports::skillhost::skill::tools::{Attachment, Context, Description, Failure, Guest, Output};
use serde_json::{Value, json};
use skillhost::skill::logging::{Level, log};
use skillhost::skill::progress::report;
use skillhost::skill::types::{Annotations, Error, InvalidInput, Retryable, Tool};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::IpAddress;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "skill",
    generate_all,
});

struct Network;

export!(Network);

const TOOLS: &[&str] = &[
    "abandon",
    "fields",
    "fields_for_ever",
    "follow",
    "hold",
    "listen",
    "listen_udp",
    "lookup",
    "many",
    "request",
    "resolve",
    "spin",
    "tcp",
    "tcp_calls",
    "tcp_hold",
    "tcp_receive",
    "tcp_send",
    "tell",
    "texts",
    "udp",
    "udp_at_once",
    "udp_calls",
    "udp_connected",
    "udp_send",
];

impl Guest for Network {
    fn describe() -> Description {
        let tool = |name: &&str| Tool {
            name: (*name).to_owned(),
            title: None,
            description: "Does what its name says.".into(),
            input_schema: r#"{"type": "object"}"#.into(),
            output_schema: None,
            annotations: Annotations {
                read_only: None,
                destructive: None,
                idempotent: None,
                open_world: None,
            },
        };
        Description {
            name: "network".into(),
            version: "1.0.0".into(),
            description: "Uses the network as it is told.".into(),
            tools: TOOLS.iter().map(tool).collect(),
        }
    }

    fn execute(
        tool: String,
        input: String,
        _: Vec<Attachment>,
        _: Context,
    ) -> Result<Output, Failure> {
        let input: Value = serde_json::from_str(&input).expect("the host sends JSON");
        let count = input["count"].as_u64().unwrap_or(1);
        let to = input["to"].as_str().unwrap_or_default();
        let answer = match tool.as_str() {
            "tell" => return tell(&input),
            // Sends requests and lets go of each at once.
            "abandon" => {
                for _ in 0..count {
                    drop(send(&input));
                }
                json!({})
            }
            // Makes fields, of so many kibibytes each, and keeps them.
            "fields" => {
                let kibibytes = input["kibibytes"].as_u64().unwrap_or_default();
                let mut kept = Vec::new();
                for _ in 0..count {
                    let fields = Fields::new();
                    for _ in 0..kibibytes {
                        fields.append("x", &[b'x'; 1024]).expect("it is a header");
                    }
                    kept.push(fields);
                }
                json!({"kept": kept.len()})
            }
            // Calls one function of fields again and again, with as much as it takes.
            "fields_for_ever" => fields_for_ever(to, count as usize),
            // Goes where each answer leads, so many times at most, and takes it at its word.
            "follow" => follow(input, count),
            // Keeps all of them open at once.
            "hold" => {
                let sent: Vec<_> = (0..count).map(|_| send(&input)).collect();
                let answers: Vec<_> = sent.into_iter().map(|sent| wait(sent?)).collect();
                let open = answers.iter().filter(|answer| answer.is_ok()).count();
                json!({"open": open})
            }
            "listen" => said(TcpListener::bind(to).map(|listener| {
                let accepted = listener.accept().map(|_| ());
                format!("{accepted:?}")
            })),
            "listen_udp" => said(UdpSocket::bind(to).map(|_| "bound".to_owned())),
            "lookup" => said(
                to.to_socket_addrs()
                    .map(|found| format!("{:?}", found.count())),
            ),
            // One after the other.
            "many" => {
                let one = |_| answered(&input)["status"].clone();
                json!({"statuses": (0..count).map(one).collect::<Vec<_>>()})
            }
            "request" => answered(&input),
            // Asks for the addresses of a name, past the standard library.
            "resolve" => {
                let network = instance_network();
                let name = told(&input["to"]).unwrap_or_default();
                match resolve_addresses(&network, &name) {
                    Ok(found) => {
                        found.subscribe().block();
                        let next = || found.resolve_next_address().ok().flatten();
                        let found: Vec<_> = std::iter::from_fn(next).map(text_of).collect();
                        json!({ "found": found })
                    }
                    Err(error) => json!({"error": error.name()}),
                }
            }
            // Sends one request, and computes without looking at the answer.
            "spin" => {
                let sent = send(&input);
                if let Ok(sent) = &sent {
                    sent.subscribe().block();
                }
                let mut sum = 0_u64;
                for at in 0..count {
                    sum = black_box(sum.wrapping_add(at));
                }
                json!({"sum": sum})
            }
            // Sends without end, and hears nothing.
            "tcp_send" => said(TcpStream::connect(to).and_then(|mut stream| {
                let piece = vec![b'x'; 16 * 1024];
                loop {
                    stream.write_all(&piece)?;
                }
            })),
            // Hears whatever comes.
            "tcp_receive" => said(TcpStream::connect(to).and_then(|mut stream| {
                let mut piece = vec![0; 16 * 1024];
                let mut sum = 0;
                loop {
                    match stream.read(&mut piece)? {
                        0 => return Ok(sum.to_string()),
                        bytes => sum += bytes,
                    }
                }
            })),
            // Keeps so many connections open at once.
            "tcp_hold" => {
                let open: Vec<_> = (0..count).map(|_| TcpStream::connect(to)).collect();
                json!({"open": open.iter().filter(|one| one.is_ok()).count()})
            }
            "tcp" => said(TcpStream::connect(to).and_then(|mut stream| {
                stream.write_all(b"ping")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            })),
            "tcp_calls" => sockets::tcp(port_of(to)),
            "udp_calls" => sockets::udp(port_of(to)),
            "udp_at_once" => sockets::udp_at_once(port_of(to), count as usize),
            // Makes a request, and says which texts of so many bytes it takes.
            "texts" => {
                let text = "a".repeat(input["bytes"].as_u64().unwrap_or_default() as usize);
                let request = OutgoingRequest::new(Fields::new());
                json!({
                    "method": request.set_method(&Method::Other(text.clone())).is_ok(),
                    "scheme": request.set_scheme(Some(&Scheme::Other(text.clone()))).is_ok(),
                    "authority": request.set_authority(Some(&text)).is_ok(),
                    "path": request.set_path_with_query(Some(&format!("/{text}"))).is_ok(),
                })
            }
            // Sends datagrams without end.
            "udp_send" => said(UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
                loop {
                    socket.send_to(&[b'x'; 1000], to)?;
                }
            })),
            "udp" => said(UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
                socket.send_to(b"ping", to)?;
                let mut answer = [0; 64];
                let (bytes, _) = socket.recv_from(&mut answer)?;
                Ok(String::from_utf8_lossy(&answer[..bytes]).into_owned())
            })),
            "udp_connected" => said(UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
                socket.connect(to)?;
                socket.send(b"ping").map(|bytes| bytes.to_string())
            })),
            _ => return Err(Failure::UnknownTool),
        };
        Ok(Output {
            json: answer.to_string(),
            attachments: Vec::new(),
        })
    }
}

fn port_of(to: &str) -> u16 {
    let port = to.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.expect("there is a port")
}

/// Says a text, in one way of many.
fn tell(input: &Value) -> Result<Output, Failure> {
    let channel = input["channel"].as_str().unwrap_or_default();
    let text = input["text"].as_str().unwrap_or_default().to_owned();
    let attachment = |name: &str, data: &str| Attachment {
        name: name.to_owned(),
        media_type: "text/plain".into(),
        data: data.as_bytes().to_vec(),
    };
    let mut answer = json!({});
    let mut attachments = Vec::new();
    match channel {
        "output" => answer = json!({"said": [text]}),
        // Each character as an escape.
        "escaped" => {
            let escaped: String = text
                .chars()
                .map(|c| format!("\\u{:04x}", c as u32))
                .collect();
            return Ok(Output {
                json: format!("{{\"said\": \"{escaped}\"}}"),
                attachments,
            });
        }
        "key" => answer = json!({text: 1}),
        "attachment" => attachments.push(attachment("a.txt", &text)),
        "attachment-name" => attachments.push(attachment(&text, "")),
        "log" => log(Level::Info, &text),
        "progress" => report(None, &text, Some(&json!([text]).to_string())),
        // A byte at a time.
        "stdout" => {
            for byte in text.bytes() {
                let mut stdout = std::io::stdout();
                let _ = stdout.write_all(&[byte]).and_then(|()| stdout.flush());
            }
        }
        "stderr" => eprint!("{text}"),
        "panic" => panic!("{text}"),
        "error" => {
            return Err(Failure::Error(Error {
                message: text.clone(),
                code: Some(text.clone()),
                details: Some(json!({text.clone(): text}).to_string()),
            }));
        }
        "retry" => {
            return Err(Failure::Retryable(Retryable {
                message: text,
                retry_after_ms: None,
            }));
        }
        "invalid" => {
            return Err(Failure::InvalidInput(InvalidInput {
                pointer: format!("/{text}"),
                message: text,
            }));
        }
        _ => return Err(Failure::UnknownTool),
    }
    Ok(Output {
        json: answer.to_string(),
        attachments,
    })
}

/// Follows redirects like somebody who hopes that nobody looks: nothing of a location is checked here,
/// and the method stays what it is.
fn follow(mut input: Value, most: u64) -> Value {
    let mut hops = 0;
    loop {
        let answer = answered(&input);
        hops += 1;
        let headers = answer["headers"].as_array().into_iter().flatten();
        let location = headers
            .filter(|header| header[0] == "location")
            .find_map(|header| header[1].as_str().map(str::to_owned));
        match location {
            Some(location) if hops < most => aim(&mut input, &location),
            _ => return json!({"hops": hops, "last": answer}),
        }
    }
}

/// Aims the next request at a location, or at what it takes for one.
fn aim(input: &mut Value, location: &str) {
    let (scheme, rest) = match location.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => match location.strip_prefix("//") {
            Some(rest) => (None, rest),
            None => {
                input["path"] = json!(location);
                return;
            }
        },
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if let Some(scheme) = scheme {
        input["scheme"] = json!(scheme.to_lowercase());
    }
    input["authority"] = json!(&rest[..end]);
    input["path"] = json!(match &rest[end..] {
        "" => "/",
        path => path,
    });
}

/// What has the host do much for few instructions of the guest's.
fn fields_for_ever(function: &str, count: usize) -> ! {
    let fields = Fields::new();
    // The last one cannot be sent, which shows when all the others have been looked at.
    let listed = matches!(function, "from-list" | "set");
    let mut values = vec![Vec::new(); if listed { count } else { 0 }];
    values.push(b"\n".to_vec());
    let pairs: Vec<(String, Vec<u8>)> = values
        .iter()
        .map(|value| (String::new(), value.clone()))
        .collect();
    for at in 0..100 {
        fields
            .append(&format!("x-{at}"), b"")
            .expect("it is a header");
    }
    let long = "x".repeat(count) + "\n";
    loop {
        match function {
            "append" => drop(fields.append("x", long.as_bytes())),
            "clone" => {
                let copy = fields.clone();
                copy.append("y", b"").expect("it is a header");
            }
            "entries" => drop(fields.entries()),
            "from-list" => drop(Fields::from_list(&pairs)),
            "has" => drop(fields.has(&long)),
            "set" => drop(fields.set("x", &values)),
            _ => panic!("no such function"),
        }
    }
}

fn text_of(address: IpAddress) -> String {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).to_string(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
            Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string()
        }
    }
}

/// A text, if it is there. One that is a list of numbers is those bytes, whatever they are.
fn told(value: &Value) -> Option<String> {
    let Some(bytes) = value.as_array() else {
        return value.as_str().map(str::to_owned);
    };
    let bytes = bytes
        .iter()
        .map(|byte| byte.as_u64().unwrap_or_default() as u8);
    // SAFETY: nobody reads it as a text before the host does. What hands it over looks at where it is, and how long.
    Some(unsafe { String::from_utf8_unchecked(bytes.collect()) })
}

fn said(result: std::io::Result<String>) -> Value {
    match result {
        Ok(text) => json!({"said": text}),
        Err(error) => json!({"error": error.kind().to_string()}),
    }
}

/// Sends a request, and tells everything of the answer.
fn answered(input: &Value) -> Value {
    match send(input)
        .and_then(wait)
        .and_then(|answer| read(input, answer))
    {
        Ok(answer) => answer,
        Err(error) => json!({"error": error.name()}),
    }
}

fn send(input: &Value) -> Result<FutureIncomingResponse, ErrorCode> {
    let text = |key: &str| told(&input[key]);
    let fields = Fields::new();
    for header in input["headers"].as_array().into_iter().flatten() {
        let name = told(&header[0]).unwrap_or_default();
        let value = header[1].as_str().unwrap_or_default();
        if fields.append(&name, value.as_bytes()).is_err() {
            return Err(ErrorCode::InternalError(Some(
                "a header was refused".into(),
            )));
        }
    }
    let request = OutgoingRequest::new(fields);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    let method = match text("method").as_deref() {
        None | Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some(other) => Method::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(invalid)?;
    let scheme = match text("scheme").as_deref() {
        None | Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        Some(other) => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request
        .set_authority(text("authority").as_deref())
        .map_err(invalid)?;
    request
        .set_path_with_query(text("path").as_deref())
        .map_err(invalid)?;
    let options = RequestOptions::new();
    let milliseconds = |key: &str| input[key].as_u64().map(|time| time * 1_000_000);
    let _ = options.set_connect_timeout(milliseconds("connect_ms"));
    let _ = options.set_first_byte_timeout(milliseconds("first_byte_ms"));
    let _ = options.set_between_bytes_timeout(milliseconds("between_bytes_ms"));
    let text = input["upload_text"].as_str();
    let upload = input["upload_bytes"].as_u64();
    let body =
        (upload.is_some() || text.is_some()).then(|| request.body().expect("it is taken once"));
    let sent = handle(request, Some(options))?;
    match (body, upload, text) {
        (Some(body), Some(bytes), _) => write(body, bytes),
        (Some(body), _, Some(text)) => write_text(body, text),
        _ => {}
    }
    Ok(sent)
}

/// Writes a body in two pieces.
fn write_text(body: OutgoingBody, text: &str) {
    let stream = body.write().expect("it is taken once");
    let (first, second) = text.split_at(text.len() / 2);
    for piece in [first, second] {
        if stream.blocking_write_and_flush(piece.as_bytes()).is_err() {
            break;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Writes a body for as long as somebody takes it.
fn write(body: OutgoingBody, mut bytes: u64) {
    let stream = body.write().expect("it is taken once");
    let ready = stream.subscribe();
    while bytes > 0 {
        ready.block();
        let Ok(allowed) = stream.check_write() else {
            break;
        };
        let piece = allowed.min(bytes);
        if stream.write(&vec![b'u'; piece as usize]).is_err() {
            break;
        }
        bytes -= piece;
    }
    drop(ready);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn wait(sent: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    sent.subscribe().block();
    sent.get().expect("it is ready").expect("it is taken once")
}

fn read(input: &Value, answer: IncomingResponse) -> Result<Value, ErrorCode> {
    let status = answer.status();
    let headers: Vec<_> = answer
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)]))
        .collect();
    let body = answer.consume().expect("it is taken once");
    let stream = body.stream().expect("it is taken once");
    let mut bytes = Vec::new();
    let mut pieces = Vec::new();
    let mut length = 0;
    let mut broken = Value::Null;
    let slowly = input["pause_ms"].as_u64().unwrap_or_default();
    loop {
        if slowly > 0 {
            monotonic_clock::subscribe_duration(slowly * 1_000_000).block();
        }
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => {
                length += piece.len();
                if pieces.len() < 100 {
                    pieces.push(piece.len());
                }
                bytes.extend(
                    piece
                        .into_iter()
                        .take(1024_usize.saturating_sub(bytes.len())),
                );
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                broken = json!(error.to_debug_string());
                break;
            }
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let trailers = match trailers.get() {
        Some(Ok(Ok(Some(fields)))) => json!(fields.entries().len()),
        Some(Ok(Ok(None))) => json!(0),
        Some(Ok(Err(error))) => json!(error.name()),
        _ => Value::Null,
    };
    Ok(json!({
        "status": status,
        "headers": headers,
        "body": String::from_utf8_lossy(&bytes),
        "bytes": length,
        "pieces": pieces,
        "broken": broken,
        "trailers": trailers,
    }))
}

/// What an error is called, as far as the tests tell them apart.
trait Name {
    fn name(&self) -> &'static str;
}

impl Name for ErrorCode {
    fn name(&self) -> &'static str {
        match self {
            ErrorCode::HttpRequestDenied => "denied",
            ErrorCode::DestinationIpProhibited => "address prohibited",
            ErrorCode::DnsError(_) => "dns",
            ErrorCode::DnsTimeout => "dns timeout",
            ErrorCode::ConnectionRefused => "refused",
            ErrorCode::ConnectionTimeout => "connect timeout",
            ErrorCode::ConnectionReadTimeout => "read timeout",
            ErrorCode::HttpResponseTimeout => "response timeout",
            ErrorCode::HttpResponseHeaderSectionSize(_) => "head too large",
            ErrorCode::HttpResponseIncomplete => "incomplete",
            ErrorCode::HttpRequestUriInvalid => "uri invalid",
            ErrorCode::HttpRequestMethodInvalid => "method invalid",
            ErrorCode::HttpProtocolError => "protocol error",
            ErrorCode::TlsCertificateError => "certificate",
            ErrorCode::TlsProtocolError => "tls",
            ErrorCode::ConnectionLimitReached => "limit",
            ErrorCode::InternalError(_) => "internal",
            _ => "other",
        }
    }
}
