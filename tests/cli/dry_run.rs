//! `run --dry-run`: what would happen.

use snapbox::str;

use crate::harness::{Place, check, says};

#[test]
fn it_would_run() {
    let place = Place::new();
    place.add_example("csv-query");
    place.write("data/a.csv", "a\n1\n");
    check(
        place.run([
            "run",
            "csv-query",
            "query",
            "--dir",
            "data:rw",
            "--memory",
            "16MiB",
            "--dry-run",
            "--config",
            "max_rows=5",
        ]),
        str![[r#"
exit: 0
--- stdout
✓ csv-query 0.1.0 · query would run

Limits
  attachment_bytes     16 MiB
  connections          8
  created_files        1,000
  fuel                 50,000,000,000
  handles              1,000
  host_bytes           4 MiB
  http_fields_bytes    16 KiB
  http_request_bytes   1 MiB
  http_response_bytes  16 MiB
  input_bytes          16 MiB
  instances            100
  log_bytes            256 KiB
  memory_bytes         16 MiB
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
  wall_time_ms         1 min
  write_bytes          64 MiB

Grants
  directory  data      ro  from [PLACE]/data
  config     max_rows  = 5
--- stderr
warning: `data` is granted to be written, and the skill's skill.toml declares it `ro`: it is opened for reading only

"#]],
    );
}

/// The flag holds, also where it says what everybody has for whom nothing is said.
#[test]
fn the_systems_clock_in_place_of_the_policys() {
    let place = Place::with_text_stats();
    let clock = "2026-01-02T03:04:05Z";
    let grant = [
        "policy",
        "grant",
        "text-stats",
        "--clock",
        clock,
        "--random",
        "seed:42",
    ];
    assert!(place.run(grant).starts_with("exit: 0\n"));
    let grants = |said: String| {
        let (_, grants) = said.split_once("Grants\n").expect("there are some");
        grants.to_owned()
    };
    let text = "text=a";
    let run = ["run", "text-stats", "--dry-run", "--arg", text];
    check(
        grants(place.run(run)),
        str![[r#"
  clock   [TIME] (policy)
  random  seed:42 (policy)
--- stderr

"#]],
    );
    let [run, skill, dry, arg, text] = run;
    check(
        grants(place.run([
            run, skill, dry, arg, text, "--clock", "system", "--random", "system",
        ])),
        str![[r#"
  clock   system
  random  system
--- stderr

"#]],
    );
    // For good, too.
    let said = place.run(["policy", "grant", "text-stats", "--clock", "system"]);
    says(
        &said,
        &[
            "exit: 0\n",
            "clock  system\n",
            "in place of:\n  clock  [TIME]\n",
        ],
    );
    let said = place.run(["run", "text-stats", "--dry-run", "--arg", text]);
    says(
        &said,
        &["clock   system (policy)\n", "random  seed:42 (policy)\n"],
    );
}

#[test]
fn what_is_missing_is_listed() {
    let place = Place::new();
    place.add_example("csv-query");
    let said = place.run(["run", "csv-query", "query", "--dry-run"]);
    let (_, grants) = said.split_once("Grants\n").expect("there are some");
    check(
        grants,
        str![[r#"
  config  max_rows  = 1000

Declared by the skill, and not granted
  directory *
    grant it for this run with `--dir '<HOST>:<GUEST>:ro'`, or for good with `skillhost policy grant csv-query --dir '<HOST>:<GUEST>:ro'`; by hand, in the policy under `[skills.csv-query.grants]`: `directories = ["<HOST>:<GUEST>:ro"]`, or into the list that is there, in place of one for the same guest path, and then `skillhost policy confirm csv-query`; the skill finds what is in it under paths that begin with <GUEST>
--- stderr

"#]],
    );
}

/// A secret that goes to two places is listed with both.
#[test]
fn a_secret_that_is_missing_is_listed_with_where_it_goes() {
    let place = Place::with_text_stats();
    let manifest = "[grants]\nhttp = ['https://a.example', 'https://b.example']\n\
        secrets = ['token=authorization:Bearer@https://a.example', 'token=x-key@https://b.example']\n";
    place.write("text-stats/skill.toml", manifest);
    let run = place.run(["run", "text-stats", "--arg", "text=a", "--dry-run"]);
    let show = place.run(["policy", "show", "text-stats"]);
    for said in [run, show] {
        says(
            &said,
            &[
                "\n  secret token=authorization:Bearer@https://a.example/\n",
                "\n  secret token=x-key@https://b.example/\n",
            ],
        );
    }
}

#[test]
fn it_would_be_rejected() {
    let place = Place::new();
    place.add_example("csv-query");
    let said = place.run([
        "run",
        "csv-query",
        "query",
        "--config",
        "max_row=5",
        "--dry-run",
    ]);
    let (refusal, _) = said.split_once("\nLimits\n").expect("there are some");
    check(
        refusal,
        str![[r#"
exit: 3
--- stdout
✗ csv-query 0.1.0 · query would not run
  not admitted: config `max_row`: granted, but not declared by the skill
  hint: did you mean `max_rows`?

"#]],
    );
}

#[test]
fn json() {
    let place = Place::with_text_stats();
    let json = |output: std::process::Output, code| {
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(output.stderr, b"");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("it is JSON")
    };
    let admitted = json(
        place.output([
            "run",
            "text-stats",
            "--arg",
            "text=a",
            "--dry-run",
            "--json",
        ]),
        0,
    );
    assert_eq!(admitted["refusal"], serde_json::Value::Null);
    assert_eq!(admitted["tool"], "count");
    assert_eq!(admitted["skill"]["name"], "text-stats");
    let refused = json(
        place.output(["run", "text-stats", "--dry-run", "--json"]),
        2,
    );
    assert_eq!(refused["refusal"]["kind"], "invalid_input");
}

#[test]
fn nothing_runs_and_nothing_is_made() {
    let place = Place::with_behaviours();
    let said = place.run([
        "run",
        "behaviours.wasm",
        "spin",
        "--dry-run",
        "--out",
        "out",
    ]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(!place.path("out").exists());
}
