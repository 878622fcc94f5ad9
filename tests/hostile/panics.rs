//! Guests that make code of the host panic. The engine and WASI are not supposed to; code of the
//! embedder's, which hears what a guest says, may. Only the execution at hand is affected.

use std::sync::Arc;

use serde_json::json;
use skillhost::{Event, Level};
use uuid::Uuid;

use crate::attack::{Attack, End, builder};
use crate::measure::alone;

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
    assert!(receiver.try_iter().all(|status| status == result.status));
}
