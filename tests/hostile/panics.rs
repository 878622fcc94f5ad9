//! Guests that make code of the host panic. The engine and WASI are not supposed to; code of the
//! embedder's, which hears what a guest says, may. Only the execution at hand is affected.

use std::sync::Arc;

use serde_json::json;
use skillhost::grant::{Grants, Mode};
use skillhost::secret::{SecretValue, Secrets};
use skillhost::{Event, Level};
use uuid::Uuid;

use crate::attack::{Attack, End, ROUNDS, builder};
use crate::harness::{directories_path, output};
use crate::measure::alone;
use crate::network;

/// Panics at each event of this name.
fn panics_at(name: &'static str) -> Arc<dyn skillhost::Observer> {
    Arc::new(move |_: Uuid, event: &Event<'_>| {
        let event = match event {
            Event::Admitted { .. } => "admitted",
            Event::Started => "started",
            Event::Progress(_) => "progress",
            Event::Log { level, .. } => {
                assert_eq!(*level, Level::Info);
                "log"
            }
            Event::Denied { .. } => "denied",
            Event::SecretUsed { .. } => "secret used",
            Event::Finished { .. } => "finished",
            _ => "",
        };
        assert_ne!(event, name, "expected by the test");
    })
}

#[test]
fn at_what_the_guest_says() {
    let _alone = alone();
    for event in ["log", "progress"] {
        let result = Attack::with("chatter", json!({"count": 3}))
            .watched_by(panics_at(event))
            .ends_with(End::HostPanic);
        assert!(result.usage.host_calls > 0);
    }
}

/// Also where the execution has already failed, or is just being dropped.
#[test]
fn at_what_the_host_does() {
    let _alone = alone();
    for event in ["admitted", "started", "finished"] {
        Attack::with("chatter", json!({"count": 3}))
            .watched_by(panics_at(event))
            .ends_with(End::Success);
        Attack::with("panic", json!({}))
            .watched_by(panics_at(event))
            .ends_with(End::Trap("unreachable_code_reached"));
    }
}

/// Whatever happens, also while an execution is dropped because of it.
#[test]
fn at_everything() {
    let _alone = alone();
    let panics = |_: Uuid, _: &Event<'_>| panic!("expected by the test");
    let host = builder().observer(Arc::new(panics)).build().unwrap();
    for tool in ["chatter", "print"] {
        let end = match tool {
            "chatter" => End::HostPanic,
            _ => End::Success,
        };
        let attack = Attack::with(tool, json!({"count": 3})).on(&host);
        attack.watched_by(Arc::new(panics)).ends_with(end);
    }
}

/// The observer of the host hears everything, and whoever else listens still hears of it.
#[test]
fn of_one_observer_beside_another() {
    let _alone = alone();
    let host = builder().observer(panics_at("finished")).build().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let hear = move |_: Uuid, event: &Event<'_>| {
        if let Event::Finished { status, .. } = event {
            sender.send(*status).expect("somebody listens");
        }
    };
    let result = Attack::with("chatter", json!({"count": 3}))
        .on(&host)
        .watched_by(Arc::new(hear))
        .ends_with(End::Success);
    let heard: Vec<_> = receiver.try_iter().collect();
    assert!(heard.len() > ROUNDS, "each of them: {heard:?}");
    assert!(heard.iter().all(|status| *status == result.status));
}

/// While a request is sent, which is done by a task of its own: refused it stays, whoever panics at it.
#[test]
fn at_what_is_refused_while_a_request_is_sent() {
    let _alone = alone();
    let (server, forbidden) = (network::silent(), network::silent());
    for (tool, to) in [
        // Refused before there is a task, and in it.
        ("request", Grants::default()),
        ("request", network::http(&[&server.grant()])),
        // The guest does not look at what became of it, and ends, or goes on.
        ("abandon", network::http(&[&server.grant()])),
        ("spin", network::http(&[&server.grant()])),
    ] {
        let attack = Attack::from(network::network(), tool, forbidden.request("/"))
            .granted(to)
            .watched_by(panics_at("denied"));
        let result = attack.ends_with(End::Success);
        if tool == "request" {
            assert_eq!(output(&result)["error"], "denied");
        }
        assert_eq!(result.usage.connections, 0);
    }
    network::check_untouched(&forbidden);
}

/// Whoever panics at it has not said that a secret may go out, and so it does not.
#[test]
fn at_a_secret_that_is_used() {
    let _alone = alone();
    let value = SecretValue::new("correct horse".to_owned()).expect("it is a value");
    let host = builder()
        .secrets(Secrets::default().value("token", value))
        .build()
        .unwrap();
    let server = network::silent();
    let grant = format!("token=authorization:Bearer@{}", server.grant());
    let grants = network::http(&[&server.grant()]).secret(grant.parse().expect("it is a grant"));
    let result = network::by_way_of(&server, "request", server.request("/"))
        .granted(grants)
        .watched_by(panics_at("secret used"))
        .on(&host)
        .ends_with(End::Success);
    assert_eq!(output(&result)["error"], "denied");
    let usage = result.usage;
    assert_eq!((usage.connections, usage.http_request_bytes), (1, 0));
}

/// A refusal by the file system is told from a thread that may block.
#[test]
fn at_what_is_refused_on_the_disk() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let calls = json!([
        {"call": "open", "at": 0, "path": "../out"},
        {"call": "symlink", "at": 0, "target": "..", "path": "link"},
        {"call": "open", "at": 0, "path": "new", "create": true},
    ]);
    let grants = Grants::default().directory(folder.path(), "/data", Mode::Rw);
    let place = folder.path().to_owned();
    let result = Attack::from(directories_path(), "calls", json!({ "calls": calls }))
        .granted(grants)
        .settled_by(move || std::fs::remove_file(place.join("new")).expect("it was made"))
        .watched_by(panics_at("denied"))
        .ends_with(End::Success);
    let refused = json!({"error": "not-permitted"});
    assert_eq!(output(&result)["answers"], json!([refused, refused, {}]));
}
