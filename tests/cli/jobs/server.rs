//! A queue in PostgreSQL.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::Place;
use crate::postgres::Postgres;

#[test]
fn a_queue_in_postgresql_is_used_like_one_in_a_file() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let database = runtime.block_on(Postgres::shared().database());
    let url = database.url();
    let place = Place::with_behaviours();
    let run = |args: &[&str]| -> Output {
        let mut command = place.command::<0>([]);
        let output = command.args(args).args(["--database", &url]).output();
        let output = output.expect("the command starts");
        assert!(output.status.success(), "{args:?}: {}", place.said(&output));
        output
    };
    let json =
        |args: &[&str]| -> Value { serde_json::from_slice(&run(args).stdout).expect("it is JSON") };
    let submit = |more: &[&str]| -> String {
        let args = [&["jobs", "submit", "behaviours.wasm"], more].concat();
        let id = String::from_utf8(run(&args).stdout).expect("it is text");
        id.trim().to_owned()
    };
    let done = submit(&["echo", "-i", r#"{"a": 1}"#, "--tenant", "acme"]);
    let dead = submit(&["spin", "--fuel", "1M", "--attempts", "1"]);
    let later = submit(&["echo", "--delay", "1h"]);
    run(&["worker", "--until-empty", "--concurrency", "1"]);
    let shown = json(&["jobs", "show", &done, "--json"]);
    assert_eq!(shown["job"]["status"], "completed", "{shown}");
    assert_eq!(shown["result"]["output"], json!({"a": 1}));
    assert_eq!(shown["attempts"][0]["status"], "success");
    let shown = json(&["jobs", "dead", "show", &dead, "--json"]);
    assert_eq!(shown["job"]["cause"], "fuel", "{shown}");
    assert!(
        shown["job"]["error"]
            .as_str()
            .is_some_and(|error| error.contains("fuel")),
        "{shown}"
    );
    run(&["jobs", "cancel", &later, "--by", "ann"]);
    let shown = json(&["jobs", "show", &later, "--json"]);
    assert_eq!(shown["job"]["status"], "cancelled", "{shown}");
    assert_eq!(shown["history"][0]["data"]["by"], "ann");
    let stats = json(&["jobs", "stats", "--json"]);
    for status in ["completed", "dead", "cancelled"] {
        assert_eq!(stats["by_status"][status], 1, "{stats}");
    }
    assert_eq!(stats["by_tenant"]["acme"]["completed"], 1, "{stats}");
    let listed = json(&["jobs", "list", "--json"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(3));
    run(&["queues", "retry", "default", "--attempts", "2"]);
    let queues = json(&["queues", "list", "--json"]);
    assert_eq!(queues[0]["retry"]["max_attempts"], 2, "{queues}");
}
