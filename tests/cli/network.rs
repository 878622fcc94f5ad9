//! A skill that wants the network gets what is granted, and is told what to grant.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use snapbox::str;

use crate::harness::{Place, check};
use crate::policy::{by_hand, confirm_as_told};

/// A server that answers every request with this, for as long as the test runs.
pub fn serve(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    answering(listener, move |_| answer.clone());
    address
}

/// Answers every request with what this gives for its first line, for as long as the test runs.
fn answering(listener: TcpListener, answer: impl Fn(&str) -> String + Send + 'static) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = head.next().unwrap_or_default();
            while head.next().is_some_and(|line| !line.is_empty()) {}
            let _ = stream.write_all(answer(&first).as_bytes());
        }
    });
}

/// An answer with this page.
pub fn page(body: &str) -> String {
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
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: the host does not allow `GET http://127.0.0.1:PORT/page`: it is not granted, or may not be sent as it is
  code: http-denied
  denied: http `GET http://127.0.0.1:PORT/page`: no grant allows this request, to an address that is not public (loopback)
hint: grant it for this run with `--http 'GET http://127.0.0.1:PORT/page'`, or for good with `skillhost policy grant fetch-page --http 'GET http://127.0.0.1:PORT/page'`; by hand, in the policy under `[skills.fetch-page.grants]`: `http = ["GET http://127.0.0.1:PORT/page"]`, or into the list that is there, and then `skillhost policy confirm fetch-page`
✗ fetch-page 0.1.0 · fetch · failed · [COST]

"#]],
    );
    let grant = format!("GET http://{server}");
    check(
        fetch(
            &place,
            ["run", "fetch-page", "--arg", &url, "--http", &grant],
            &servers,
        ),
        str![[r##"
exit: 0
--- stdout
{"markdown":"# Hello","media_type":"text/html","title":"T","url":"http://127.0.0.1:PORT/page"}
--- stderr
✓ fetch-page 0.1.0 · fetch · [COST] · 163 B sent, 94 B received

"##]],
    );
}

/// What a skill does not declare is not proposed as a grant, which would be refused.
#[test]
fn what_is_not_declared_is_not_to_be_granted() {
    let place = Place::new();
    place.add_example("fetch-page");
    place.write(
        "fetch-page/skill.toml",
        "[grants]\nhttp = [\"GET https://*\"]\n",
    );
    let server = serve(page("<h1>Hello</h1>"));
    let url = format!("url=http://{server}/page");
    let servers = [("PORT", server)];
    check(
        fetch(&place, ["run", "fetch-page", "--arg", &url], &servers),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: the host does not allow `GET http://127.0.0.1:PORT/page`: it is not granted, or may not be sent as it is
  code: http-denied
  denied: http `GET http://127.0.0.1:PORT/page`: no grant allows this request, to an address that is not public (loopback)
hint: no grant changes that, as the skill's skill.toml does not declare it; it would have to, with `http = ["GET http://127.0.0.1:PORT/page"]` under `[grants]`
✗ fetch-page 0.1.0 · fetch · failed · [COST]

"#]],
    );
    let grant = format!("GET http://{server}");
    check(
        fetch(
            &place,
            ["run", "fetch-page", "--arg", &url, "--http", &grant],
            &servers,
        ),
        str![[r##"
exit: 3
--- stdout
--- stderr
error: not admitted: http `GET http://127.0.0.1:PORT/`: granted, but not declared by the skill
hint: the skill declares: `GET https://*/`
✗ fetch-page 0.1.0 · fetch · rejected · did not run

"##]],
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
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: `http://127.0.0.1:PORT/` redirected the request, and the host does not allow `GET http://127.0.0.1:INSIDE/`: it is not granted, or may not be sent as it is
  code: http-denied
  denied: http `GET http://127.0.0.1:INSIDE/`: no grant allows this request, to an address that is not public (loopback)
hint: grant it for this run with `--http 'GET http://127.0.0.1:INSIDE/'`, or for good with `skillhost policy grant fetch-page --http 'GET http://127.0.0.1:INSIDE/'`; by hand, in the policy under `[skills.fetch-page.grants]`: `http = ["GET http://127.0.0.1:INSIDE/"]`, or into the list that is there, and then `skillhost policy confirm fetch-page`
✗ fetch-page 0.1.0 · fetch · failed · [COST] · 159 B sent, 76 B received

"#]],
    );
}

/// What it takes is exactly what the hint says, and that is all it gives: where the server leads is another matter.
#[test]
fn what_a_hint_says_can_be_pasted() {
    let place = Place::new();
    place.add_example("fetch-page");
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (server, inside) = (listen(), listen());
    let address = |listener: &TcpListener| listener.local_addr().expect("it has one");
    let (first, second) = (address(&server), address(&inside));
    let away =
        format!("HTTP/1.1 302 Found\r\nlocation: http://{second}/\r\ncontent-length: 0\r\n\r\n");
    answering(server, move |line| match line.contains("/page/away ") {
        true => away.clone(),
        false => page("<h1>Hello</h1>"),
    });
    let (at, below) = (
        format!("url=http://{first}/page"),
        format!("url=http://{first}/page/away"),
    );
    let run = |url: &str| place.run(["run", "fetch-page", "--arg", url]);
    let said = run(&at);
    assert!(said.starts_with("exit: 1\n"), "{said}");
    let [table, line, confirm] = by_hand(&said);
    place.write("home/policy.toml", format!("{table}\n{line}\n"));
    let said = run(&at);
    assert!(
        said.starts_with("exit: 3\n"),
        "it is to be confirmed: {said}"
    );
    confirm_as_told(&place, confirm);
    let said = run(&at);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains(r##""markdown":"# Hello""##), "{said}");
    // By the same policy, to another port of the same address.
    let said = run(&below);
    assert!(said.starts_with("exit: 1\n"), "{said}");
    let denied = format!("denied: http `GET http://{second}/`: no grant allows this request");
    assert!(said.contains(&denied), "{said}");
    inside.set_nonblocking(true).expect("it can be set");
    let nobody = inside.accept().expect_err("nobody connects");
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
    // By the command that the hint names, it is granted, too, and reached.
    let grant = format!("GET http://{second}/");
    let command = format!("`skillhost policy grant fetch-page --http '{grant}'`");
    assert!(said.contains(&command), "{said}");
    let said = place.run(["policy", "grant", "fetch-page", "--http", &grant]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    inside.set_nonblocking(false).expect("it can be set");
    answering(inside, |_| page("<h1>Inside</h1>"));
    let said = run(&below);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains(r##""markdown":"# Inside""##), "{said}");
}

/// Of a name that leads to this machine, the hint grants the request and the address, and where only the address lacks,
/// that: by hand, as the command for good, and as the flags for one run.
#[test]
fn what_a_hint_says_of_an_address_can_be_pasted() {
    let place = Place::new();
    place.add_example("fetch-page");
    let port = serve(page("<h1>Hello</h1>")).port();
    let url = format!("url=http://localhost:{port}/page");
    let grant = format!("GET http://localhost:{port}");
    // What a shell takes apart is what is typed.
    let typed = |typed: &str| {
        let output = Command::new("sh")
            .args(["-c", typed, env!("CARGO_BIN_EXE_skillhost")])
            .current_dir(place.path(""))
            .env("SKILLHOST_HOME", place.path("home"))
            .output();
        place.said(&output.expect("there is a shell"))
    };
    let run = |flags: &str| typed(&format!("\"$0\" run fetch-page --arg '{url}' {flags}"));
    let forget = || {
        let _ = fs::remove_file(place.path("home/policy.toml"));
    };
    let fetched =
        |said: &str| said.starts_with("exit: 0\n") && said.contains(r##""markdown":"# Hello""##);
    // Nothing is granted; or the request is, for good or for one run.
    for (for_good, flags, lacking) in [
        (false, String::new(), "http `GET http://localhost:"),
        (
            true,
            String::new(),
            "address `127.0.0.1`: `localhost` leads to",
        ),
        (
            false,
            format!("--http '{grant}'"),
            "address `127.0.0.1`: `localhost` leads to",
        ),
    ] {
        let begin = || {
            forget();
            if for_good {
                let said = place.run(["policy", "grant", "fetch-page", "--http", &grant]);
                assert!(said.starts_with("exit: 0\n"), "{said}");
            }
        };
        begin();
        let said = run(&flags);
        assert!(said.starts_with("exit: 1\n"), "{said}");
        assert!(said.contains(&format!("denied: {lacking}")), "{said}");
        let hint = said.lines().find(|line| line.starts_with("hint: "));
        let hint = hint.expect(&said);
        let (_, quoted) = hint.split_once("for this run with ").expect(hint);
        let mut quoted = quoted.split('`').skip(1).step_by(2);
        let [flag, command] = [(); 2].map(|()| quoted.next().expect(hint));
        let [table, line, _] = by_hand(hint);
        let behind = |begin: &str| {
            let (_, rest) = hint.split_once(begin)?;
            rest.split('`').next()
        };
        let confirm = behind("and then `").expect(hint);
        // The other line, where something else lacks.
        let likewise = behind("and likewise `");
        assert_eq!(likewise.is_some(), lacking.starts_with("http"), "{hint}");
        // For one run, and no longer.
        let said = run(&format!("{flags} {flag}"));
        assert!(fetched(&said), "{flag}: {said}");
        assert!(run(&flags).starts_with("exit: 1\n"));
        // By the command.
        let said = typed(&command.replacen("skillhost", "\"$0\"", 1));
        assert!(said.starts_with("exit: 0\n"), "{command}: {said}");
        let said = run(&flags);
        assert!(fetched(&said), "{command}: {said}");
        // By hand, which needs all the lines: below the table, or into it where it is there.
        begin();
        let there = match for_good {
            true => place.read("home/policy.toml"),
            false => String::new(),
        };
        let lines: Vec<&str> = std::iter::once(line).chain(likewise).collect();
        for lines in (1..=lines.len()).map(|count| &lines[..count]) {
            let lines_of = lines.join("\n");
            let written = match there.contains(table) {
                true => there.replacen(table, &format!("{table}\n{lines_of}"), 1),
                false => format!("{there}\n{table}\n{lines_of}\n"),
            };
            place.write("home/policy.toml", written);
            confirm_as_told(&place, confirm);
            let said = run(&flags);
            let is_all = lines.len() == 1 + usize::from(likewise.is_some());
            assert_eq!(fetched(&said), is_all, "{lines:?}: {said}");
        }
    }
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
        str![[r#"
exit: 0
--- stdout
✓ fetch-page 0.1.0 · fetch would run

Limits
  attachment_bytes     16 MiB
  connections          8
  created_files        1,000
  fuel                 10,000,000,000
  handles              1,000
  host_bytes           4 MiB
  http_fields_bytes    16 KiB
  http_request_bytes   1 MiB
  http_response_bytes  8 MiB
  input_bytes          16 MiB
  instances            100
  log_bytes            256 KiB
  memory_bytes         192 MiB
  open_files           64
  output_bytes         1 MiB
  progress_bytes       64 KiB
  socket_read_bytes    16 MiB
  socket_sent_bytes    1 MiB
  stack_bytes          512 KiB
  stderr_bytes         64 KiB
  stdout_bytes         64 KiB
  storage_bytes        16 MiB
  storage_keys         10,000
  storage_value_bytes  1 MiB
  table_elements       100,000
  wall_time_ms         30 s
  write_bytes          64 MiB

Grants
  http     GET https://*.example.com/
  http     GET http://*.example.com/
  address  10.0.0.0/8

Declared by the skill, and not granted
  secret token=authorization:Bearer@https://<HOST>/
    keep its value with `skillhost secrets set token`, and grant it for this run with `--secret 'token=authorization:Bearer@https://<HOST>/'`, or for good with `skillhost policy grant fetch-page --secret 'token=authorization:Bearer@https://<HOST>/'`; by hand, in the policy under `[skills.fetch-page.grants]`: `secrets = ["token=authorization:Bearer@https://<HOST>/"]`, or into the list that is there, and then `skillhost policy confirm fetch-page`
  secret token=authorization:Bearer@http://<HOST>/
    keep its value with `skillhost secrets set token`, and grant it for this run with `--secret 'token=authorization:Bearer@http://<HOST>/'`, or for good with `skillhost policy grant fetch-page --secret 'token=authorization:Bearer@http://<HOST>/'`; by hand, in the policy under `[skills.fetch-page.grants]`: `secrets = ["token=authorization:Bearer@http://<HOST>/"]`, or into the list that is there, and then `skillhost policy confirm fetch-page`
--- stderr

"#]],
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
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--http <[METHODS ]URL>': `example.com` is not an HTTP grant: there is no scheme before the host; write [METHOD[,METHOD…] ]SCHEME://HOST[:PORT][/PATH], such as `GET https://example.com/api`

For more information, try '--help'.

"#]],
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
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--socket <tcp|udp://IP:PORT>': `tcp://localhost:80` is not a socket grant: a socket is granted by address, not by name; write tcp://IP:PORT or udp://IP:PORT, with an IPv6 address in brackets

For more information, try '--help'.

"#]],
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
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--address <IP[/BITS]>': `10.1.1.1/8` is not an address grant: it names a network by one of its hosts; the network is 10.0.0.0/8; write an IP address, or a network such as 10.1.0.0/16

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["run", "fetch-page", "--http", "https://*", "--arg", "url=x"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: cannot be granted: http `https://*/`: the host `*` can be declared, and not granted
hint: name the hosts: a name, `*.name` for all below it, or an address

"#]],
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
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: socket `tcp://127.0.0.1:80`: granted, but not declared by the skill
hint: the skill's skill.toml declares no socket: leave it out, or add `sockets = ["tcp://127.0.0.1:80"]` to `[grants]` there
✗ fetch-page 0.1.0 · fetch · rejected · did not run

"#]],
    );
}

/// Where the name is missing is not known: in the input, or in the network. So another try may help.
#[test]
fn a_host_that_is_not_there_is_no_fault_of_the_input() {
    let place = Place::new();
    place.add_example("fetch-page");
    // A name that is promised never to be there (RFC 6761), and so is looked up nowhere.
    let url = "http://nobody.invalid/";
    let input = format!("url={url}");
    let output = place.output([
        "run",
        "fetch-page",
        "--arg",
        &input,
        "--http",
        url,
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["failure"]["kind"], "skill_error", "{json}");
    assert_eq!(json["failure"]["retryable"], true);
}

/// What a server without TLS says is told in words, and not by the name of a code.
#[test]
fn a_server_that_does_not_speak_tls_is_told_in_words() {
    let place = Place::new();
    place.add_example("fetch-page");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Of what a handshake begins with no line ends.
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(page("plain").as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let url = format!("https://{server}/");
    let input = format!("url={url}");
    let said = place.run(["run", "fetch-page", "--arg", &input, "--http", &url]);
    assert!(said.starts_with("exit: 1\n"), "{said}");
    let told = format!(
        "no valid answer to `GET {url}`: the TLS handshake failed: does the server speak TLS"
    );
    assert!(
        said.contains(&told) && !said.contains("ErrorCode"),
        "{said}"
    );
}

/// A port that is taken is for whoever typed it to choose otherwise.
#[test]
fn a_port_that_is_taken_is_said_with_what_names_another() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has one").to_string();
    let said = place.run(["serve", "--listen", &address]);
    assert!(said.starts_with("exit: 2\n"), "{said}");
    let error = format!("error: cannot listen on `{address}`: ");
    assert!(said.contains(&error), "{said}");
    let hint =
        "hint: another process listens there: end it, or name another port with `--listen`\n";
    assert!(said.contains(hint), "{said}");
}

#[test]
fn who_is_trusted_is_what_was_said() {
    let place = Place::new();
    place.add_example("fetch-page");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(crate::tls::server("127.0.0.1"));
    place.write("authority.pem", &server.authority);
    let origin = format!("https://127.0.0.1:{}", server.port);
    let url = format!("url={origin}/");
    let run = |flags: &[&str], platform: bool| {
        let mut command = place.command(["run", "fetch-page", "--arg", &url, "--http", &origin]);
        command.args(flags);
        if platform {
            command.env("SSL_CERT_FILE", place.path("authority.pem"));
        }
        place.said(&command.output().unwrap())
    };
    // Not read to its end, which it has not.
    let said = run(&["--certificate", "/dev/zero"], false);
    crate::harness::says(
        &said,
        &[
            "exit: 2\n",
            "error: `/dev/zero` is too large: 16 MiB is the most\n",
            "hint: `--certificate` takes a file with certificates in PEM form\n",
        ],
    );
    let authority = ["--certificate", "authority.pem"];
    let alone = ["--roots", "none", "--certificate", "authority.pem"];
    for (flags, platform, trusted) in [
        (&[][..], false, false),
        // Those that come with the command, whatever the platform trusts.
        (&[], true, false),
        (&["--roots", "platform"], false, false),
        (&["--roots", "platform"], true, true),
        (&authority, false, true),
        (&alone, false, true),
        (&["--roots", "none"], true, false),
    ] {
        let said = run(flags, platform);
        assert_eq!(said.contains("secret"), trusted, "{flags:?}: {said}");
        assert_eq!(said.contains("certificate"), !trusted, "{flags:?}: {said}");
    }
}

/// A proxy would connect to wherever it likes, whatever is granted.
#[test]
fn proxies_named_in_the_environment_are_not_used() {
    let place = Place::new();
    place.add_example("fetch-page");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let secure = runtime.block_on(crate::tls::server("127.0.0.1"));
    place.write("authority.pem", &secure.authority);
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    proxy.set_nonblocking(true).expect("it can be set");
    let address = proxy.local_addr().expect("it has one");
    for (origin, shown) in [
        (format!("http://{}", serve(page("<h1>Hello</h1>"))), "Hello"),
        (format!("https://127.0.0.1:{}", secure.port), "secret"),
    ] {
        for scheme in ["http", "socks5"] {
            let url = format!("url={origin}/");
            let mut command = place.command(["run", "fetch-page", "--arg", &url]);
            command.args(["--http", &origin, "--certificate", "authority.pem"]);
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
                let proxy = format!("{scheme}://{address}");
                command.env(name, &proxy);
                command.env(name.to_lowercase(), &proxy);
            }
            let said = place.said(&command.output().unwrap());
            assert!(said.starts_with("exit: 0\n"), "{origin}: {said}");
            assert!(said.contains(shown), "{origin}: {said}");
            let nobody = proxy.accept().expect_err("somebody asked the proxy");
            assert_eq!(nobody.kind(), ErrorKind::WouldBlock, "{origin}");
        }
    }
}
