//! What the README has somebody type: its first command, five minutes at a terminal, and the tours of the
//! policy and of both doors, each followed as it stands.

use std::net::TcpListener;
use std::os::unix::fs::symlink;

use crate::harness::{EXAMPLE_SKILLS, Place, root, source};
use crate::installed::python;
use crate::network::{page, serve};
use crate::readme::{Step, blocks, follow, section, steps};

/// A place that looks like the clone from where the README is followed.
fn clone() -> Place {
    let place = Place::new();
    for skill in EXAMPLE_SKILLS {
        source(skill);
    }
    let examples = root().join("example-skills");
    symlink(examples, place.path("example-skills")).expect("a link can be made");
    place
}

/// Built from its source, on a real file. That cargo builds the command itself first, the test that runs
/// it has shown.
#[test]
fn the_first_command_goes_as_it_says() {
    let place = clone();
    let section = section("Two commands");
    let steps = steps(&section);
    let [first, second] = &steps[..] else {
        panic!("there are two commands");
    };
    assert_eq!(second.command, "cargo test --profile quick --workspace");
    assert_eq!(first.says.len(), 2, "a result, and its cost");
    let said = follow(&place, "", std::slice::from_ref(first), |step| {
        let ours = step.command.strip_prefix("cargo run --release -- ");
        format!("skillhost {}", ours.expect("it runs the command"))
    });
    assert!(said.contains("Finished"), "it was built: {said}");
}

#[test]
fn five_minutes_at_a_terminal_go_as_they_say() {
    let place = clone();
    let server = serve(page("<title>Example Domain</title><h1>Example Domain</h1>"));
    let site = format!("http://{server}");
    let section = section("Five minutes at a terminal").replace("https://example.com", &site);
    let steps = steps(&section);
    assert!(steps.len() > 10, "{}", steps.len());
    for skill in EXAMPLE_SKILLS {
        assert!(section.contains(&format!("`{skill}`")), "{skill}");
    }
    let said = follow(&place, "", &steps, |step| step.command.clone());
    for part in [
        "image-tools  0.1.0",
        "Tool thumbnail",
        r#"{"count":2,"word":"be"}"#,
        r#""attachment":"thumbnail.jpg""#,
        &format!("grant it for this run with `--http 'GET {site}"),
        "# Example Domain",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let thumbnail = std::fs::read(place.path("thumbnails/thumbnail.jpg")).expect("it is there");
    assert!(thumbnail.starts_with(b"\xff\xd8"), "it is a JPEG image");
}

/// What `new` makes, and then the tool that the README has in its place.
#[test]
fn five_minutes_as_a_skill_author_go_as_they_say() {
    let place = Place::new();
    let section = section("Five minutes as a skill author");
    let mut steps = steps(&section);
    assert_eq!(steps.len(), 3);
    let [tool] = &blocks(&section, "rust,ignore")[..] else {
        panic!("there is one tool");
    };
    place.write("tool", tool);
    for command in [
        "cp ../tool src/lib.rs && cargo build --release --target wasm32-wasip2",
        "skillhost run . --arg text='to be or not' --arg min_length=3",
        "skillhost inspect .",
    ] {
        steps.push(Step {
            command: command.to_owned(),
            exit: 0,
            says: Vec::new(),
        });
    }
    let said = follow(&place, "", &steps, |step| step.command.clone());
    for part in [
        "test result: ok. 2 passed",
        r#"{"characters":13,"text":"Hello, World!"}"#,
        "\n1\n",
        "Tool count_words  read-only, open-world\n",
        "Counts the words of a text.",
        "Leave out words shorter than this.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// The section with the tour, with ports that are free here.
fn tour() -> String {
    let mut section = section("Ten minutes with a policy");
    // Held until both are known, so that they differ.
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    for (named, free) in ["8765", "7411"].iter().zip(&free) {
        let port = free.local_addr().expect("it has one").port();
        section = section.replace(named, &port.to_string());
    }
    let listen = section
        .split("127.0.0.1:")
        .filter_map(|after| after.split_once("/v1"));
    let (listen, _) = listen.last().expect("it is called");
    section.replace(
        "skillhost serve &",
        &format!("skillhost serve --listen 127.0.0.1:{listen} &"),
    )
}

/// What is typed, for a reader who does not look: the id is taken from the list, and instead of waiting for
/// some time it is tried until it works.
fn typed(step: &Step) -> String {
    let Step { command, says, .. } = step;
    if command.contains("mkdir tour") {
        // What the reader saves, and the cache that all tests share.
        return format!(
            "{command} && cp policy tour/policy.toml && cp server tour/server.py \
             && ln -s \"$PWD/home/compiled\" tour/compiled"
        );
    }
    if command.contains("9c1e7d40") {
        let first = "sed -n 's/.*\"id\": *\"\\([^\"]*\\)\".*/\\1/p' | head -n 1";
        let id = format!("$(skillhost approvals list --json | {first})");
        return command.replace("9c1e7d40", &id);
    }
    if let Some((before, _)) = command.split_once("; sleep") {
        return before.to_owned();
    }
    let until = |works: &str, command: &str| {
        format!("for try in $(seq 3000); do {works} && break; done; {command}")
    };
    if command == "fetch" && says.iter().any(|line| line.contains("you sent")) {
        return until("fetch > fetched; grep -q 'you sent' fetched", "cat fetched");
    }
    if command.ends_with('&') {
        let port = match command.split_once("--listen ") {
            Some((_, listen)) => listen.trim_end_matches(" &").to_owned(),
            None => "$SERVER".to_owned(),
        };
        let works = format!("curl -s -o /dev/null http://{port}/");
        return format!("{command}\n{}", until(&works, &works));
    }
    command.clone()
}

#[test]
fn the_tour_of_the_policy_goes_as_it_says() {
    let place = Place::new();
    std::fs::create_dir(place.path("example-skills")).expect("a folder can be made");
    for skill in ["text-stats", "notes", "fetch-page"] {
        place.add_example(skill);
        let to = place.path("example-skills").join(skill);
        std::fs::rename(place.path(skill), to).expect("it can be moved");
    }
    let section = tour();
    let [policy] = &blocks(&section, "toml")[..] else {
        panic!("there is one policy");
    };
    let [server] = &blocks(&section, "python")[..] else {
        panic!("there is one server");
    };
    place.write("policy", policy);
    place.write("server", server);
    let (_, address) = policy.split_once("http://").expect("it grants a request");
    let (address, _) = address.split_once('"').expect("it ends");
    let steps = steps(&section);
    assert!(steps.len() > 20, "{}", steps.len());
    follow(&place, &format!("SERVER={address}"), &steps, typed);
}

/// The section about both doors, with a port that is free here.
fn doors() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("it has one").port().to_string();
    section("Five minutes at both doors")
        .replace("7411", &port)
        .replace(
            "skillhost serve &",
            &format!("skillhost serve --listen 127.0.0.1:{port} &"),
        )
}

/// The client's package is that of all tests, and the next command waits for the server.
fn typed_at_the_doors(step: &Step) -> String {
    let command = &step.command;
    if command.contains("mkdir -p doors/data") {
        // What the reader saves, and the cache that all tests share.
        return format!(
            "{command} && cp client doors/client.py && mkdir doors/home \
             && ln -s \"$PWD/home/compiled\" doors/home/compiled"
        );
    }
    if command.starts_with("python3 -m venv doors/venv ") {
        let bin = python().parent().expect("it is in a folder");
        let venv = bin.parent().expect("and that in another");
        return format!("ln -s '{}' doors/venv", venv.display());
    }
    if let Some((_, listen)) = command.split_once("--listen ") {
        let works = format!(
            "curl -s -o /dev/null http://{}/",
            listen.trim_end_matches(" &")
        );
        return format!("{command}\nfor try in $(seq 3000); do {works} && break; done; {works}");
    }
    command.clone()
}

#[test]
fn the_tour_of_both_doors_goes_as_it_says() {
    let place = Place::new();
    std::fs::create_dir(place.path("example-skills")).expect("a folder can be made");
    for skill in ["text-stats", "csv-query"] {
        place.add_example(skill);
        let to = place.path("example-skills").join(skill);
        std::fs::rename(place.path(skill), to).expect("it can be moved");
    }
    let section = doors();
    let [client] = &blocks(&section, "python")[..] else {
        panic!("there is one client");
    };
    place.write("client", client);
    let steps = steps(&section);
    assert!(steps.len() > 15, "{}", steps.len());
    follow(&place, "", &steps, typed_at_the_doors);
}
