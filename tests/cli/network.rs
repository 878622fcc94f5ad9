//! A skill that wants the network gets what is granted, and is told what to grant.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use snapbox::str;

use crate::harness::{Place, check};

/// A server that answers every request with this, for as long as the test runs.
fn serve(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = BufReader::new(&stream).lines();
            while head
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn page(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Runs the skill, with the servers' ports replaced.
fn fetch<const N: usize>(place: &Place, args: [&str; N], servers: &[(&str, SocketAddr)]) -> String {
    let said = place.run(args);
    servers.iter().fold(said, |said, (name, address)| {
        said.replace(&address.to_string(), &format!("127.0.0.1:{name}"))
    })
}

#[test]
fn a_page_is_fetched_when_it_is_granted() {
    let place = Place::new();
    place.add_example("fetch-page");
    let server = serve(page("<title>T</title><h1>Hello</h1>"));
    let url = format!("url=http://{server}/page");
    let servers = [("PORT", server)];
    check(
        fetch(&place, ["run", "fetch-page", "--arg", &url], &servers),
        str![[r#""#]],
    );
    let grant = format!("GET http://{server}");
    check(
        fetch(
            &place,
            ["run", "fetch-page", "--arg", &url, "--http", &grant],
            &servers,
        ),
        str![[r#""#]],
    );
}

#[test]
fn a_redirect_to_what_is_not_granted_is_not_followed() {
    let place = Place::new();
    place.add_example("fetch-page");
    let inside = serve(page("secret"));
    let server = serve(format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{inside}/\r\ncontent-length: 0\r\n\r\n"
    ));
    let url = format!("url=http://{server}/");
    let grant = format!("http://{server}");
    let servers = [("PORT", server), ("INSIDE", inside)];
    check(
        fetch(
            &place,
            ["run", "fetch-page", "--arg", &url, "--http", &grant],
            &servers,
        ),
        str![[r#""#]],
    );
}

#[test]
fn grants_are_checked_and_shown() {
    let place = Place::new();
    place.add_example("fetch-page");
    check(
        place.run([
            "run",
            "fetch-page",
            "--http",
            "GET,POST *://*.example.com",
            "--address",
            "10.0.0.0/8",
            "--dry-run",
            "--arg",
            "url=https://www.example.com",
            "-q",
        ]),
        str![[r#""#]],
    );
    check(
        place.run([
            "run",
            "fetch-page",
            "--http",
            "example.com",
            "--arg",
            "url=x",
        ]),
        str![[r#""#]],
    );
    check(
        place.run([
            "run",
            "fetch-page",
            "--socket",
            "tcp://localhost:80",
            "--arg",
            "url=x",
        ]),
        str![[r#""#]],
    );
    check(
        place.run([
            "run",
            "fetch-page",
            "--address",
            "10.1.1.1/8",
            "--arg",
            "url=x",
        ]),
        str![[r#""#]],
    );
    check(
        place.run(["run", "fetch-page", "--http", "https://*", "--arg", "url=x"]),
        str![[r#""#]],
    );
    check(
        place.run([
            "run",
            "fetch-page",
            "--socket",
            "tcp://127.0.0.1:80",
            "--arg",
            "url=x",
        ]),
        str![[r#""#]],
    );
}
