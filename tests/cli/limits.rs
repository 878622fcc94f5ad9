//! Each limit, given too small on the command line, stops a guest with its own exit code and a
//! message that says what to do; what was used up to then is shown all the same.

use snapbox::str;

use crate::harness::{Place, check};

/// Runs a behaviour. What is to be one argument has no space in it.
fn run(args: &str) -> String {
    let place = Place::with_behaviours();
    let mut command = place.command(["run", "behaviours.wasm"]);
    let output = command.args(args.split(' ')).output();
    place.said(&output.expect("the command starts"))
}

#[test]
fn fuel() {
    check(
        run("spin --fuel 1M"),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill used up its fuel of 1,000,000 units
  in the skill, innermost first:
    behaviours::spin
hint: raise the limit with `--fuel N`, or give it less to do
✗ behaviours 1.2.3 · spin · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn memory() {
    check(
        run(r#"allocate -i {"bytes":50000000} --memory 8MiB"#),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill needed 49,920 KiB (48.8 MiB) of memory; its limit is 8 MiB
  in the skill, innermost first:
hint: raise the limit with `--memory SIZE`, or give it less to do
✗ behaviours 1.2.3 · allocate · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn time_while_computing() {
    check(
        run("spin --timeout 500ms"),
        str![[r#"
exit: 5
--- stdout
--- stderr
error: the wall time of 500 ms was up while the skill ran
hint: raise the limit with `--timeout TIME`, or give it less to do
✗ behaviours 1.2.3 · spin · timeout · [COST]

"#]],
    );
}

#[test]
fn time_while_waiting() {
    check(
        run("wait_for_ever --timeout 500ms"),
        str![[r#"
exit: 5
--- stdout
--- stderr
error: the wall time of 500 ms was up while the skill ran
hint: raise the limit with `--timeout TIME`, or give it less to do
✗ behaviours 1.2.3 · wait_for_ever · timeout · [COST]

"#]],
    );
}

#[test]
fn output() {
    check(
        run(r#"answer_large -i {"bytes":5000} --output-limit 1KiB"#),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill answered with 5,000 B (4.9 KiB); its limit is 1 KiB
hint: raise the limit with `--output-limit SIZE`, or give it less to do
✗ behaviours 1.2.3 · answer_large · resource exhausted · [COST]

"#]],
    );
}

/// What differs is not shown alike.
#[test]
fn a_byte_too_much() {
    check(
        run(r#"answer_large -i {"bytes":1048575} --output-limit 1048574"#),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill answered with 1,048,575 B; its limit is 1,048,574 B
hint: raise the limit with `--output-limit SIZE`, or give it less to do
✗ behaviours 1.2.3 · answer_large · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn attachments() {
    check(
        run(r#"attach -i {"count":2,"bytes":100} --limit attachment_bytes=64"#),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill attached 204 B; its limit is 64 B
hint: raise the limit with `--limit attachment_bytes=SIZE`, or give it less to do
✗ behaviours 1.2.3 · attach · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn input() {
    check(
        run(r#"echo -i {"text":"toolong"} --limit input_bytes=8"#),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the input has 18 B; the limit is 8 B
hint: raise the limit with `--limit input_bytes=SIZE`, or give it less to do
✗ behaviours 1.2.3 · echo · resource exhausted · did not run

"#]],
    );
}

#[test]
fn table_elements() {
    check(
        run("echo --limit table_elements=1"),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill needed tables of 38 elements while it was being instantiated; its limit is 1 element
hint: raise the limit with `--limit table_elements=N`, or give it less to do
✗ behaviours 1.2.3 · echo · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn instances() {
    check(
        run("echo --limit instances=1"),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill consists of more than 1 instance while it was being instantiated, which is its limit
hint: raise the limit with `--limit instances=N`, or give it less to do
✗ behaviours 1.2.3 · echo · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn handles() {
    check(
        run(r#"pollables -i {"count":100} --limit handles=10"#),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill held more than 10 handles at once, which is its limit
  in the skill, innermost first:
hint: raise the limit with `--limit handles=N`, or give it less to do
✗ behaviours 1.2.3 · pollables · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn bytes_for_the_host() {
    // The host grants every call some room for what goes around the bytes.
    check(
        run(r#"log_large -i {"bytes":500000} --limit host_bytes=1KiB"#),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill handed the host more than 1 KiB, or a list of more than 10,000 items, in one call, which is its limit
  in the skill, innermost first:
hint: raise the limit with `--limit host_bytes=SIZE`, or give it less to do
✗ behaviours 1.2.3 · log_large · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn stack() {
    check(
        run("overflow_the_stack --limit stack_bytes=128KiB"),
        str![[r#"
exit: 4
--- stdout
--- stderr
error: the skill used up its stack of 128 KiB
  in the skill, innermost first:
    behaviours::deeper (20 times or more)
hint: raise the limit with `--limit stack_bytes=SIZE`, or give it less to do
✗ behaviours 1.2.3 · overflow_the_stack · resource exhausted · [COST]

"#]],
    );
}

#[test]
fn chatter_is_cut_and_the_run_goes_on() {
    check(
        run(r#"log -i {"count":5,"bytes":20} --limit log_bytes=40"#),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
[behaviours] warn: xxxxxxxxxxxxxxxxxxxx
warning: 144 B of the skill's log were dropped, being past the limit; `--limit log_bytes=SIZE` raises it
✓ behaviours 1.2.3 · log · [COST]

"#]],
    );
    check(
        run(
            r#"print -i {"count":5,"stdout":"12345\n","stderr":"67890\n"} --limit stdout_bytes=6 --limit stderr_bytes=6"#,
        ),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
[behaviours] stdout: 12345
[behaviours] stderr: 67890
warning: 24 B of the skill's standard output were dropped, being past the limit; `--limit stdout_bytes=SIZE` raises it
warning: 24 B of the skill's standard error were dropped, being past the limit; `--limit stderr_bytes=SIZE` raises it
✓ behaviours 1.2.3 · print · [COST]

"#]],
    );
    check(
        run(r#"progress -i {"count":5,"bytes":20} --limit progress_bytes=40"#),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
warning: 144 B of the skill's progress reports were dropped, being past the limit; `--limit progress_bytes=SIZE` raises it
✓ behaviours 1.2.3 · progress · [COST]

"#]],
    );
}

#[test]
fn a_limit_over_the_ceiling() {
    check(
        run("echo --memory 8GiB"),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
warning: memory_bytes of 8 GiB is more than this host allows; the most is 1 GiB
✓ behaviours 1.2.3 · echo · [COST] · memory_bytes clamped

"#]],
    );
}

#[test]
fn limits_that_are_none() {
    check(
        run("echo --memory lots"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--memory <SIZE>': `lots` is not a size; write bytes or a unit, such as `64MiB`

For more information, try '--help'.

"#]],
    );
    check(
        run("echo --timeout 2"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--timeout <TIME>': `2` is not a duration; write a number and a unit, such as `500ms` or `2s`

For more information, try '--help'.

"#]],
    );
    check(
        run("echo --fuel much"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--fuel <N>': `much` is not a count; write digits, or such as `5M`, with `k`, `M`, `G` or `T`

For more information, try '--help'.

"#]],
    );
    check(
        run("echo --limit handels=3"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value 'handels=3' for '--limit <NAME=VALUE>': there is no limit `handels`; did you mean `handles`?

For more information, try '--help'.

"#]],
    );
    check(
        run("echo --limit speed=3"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value 'speed=3' for '--limit <NAME=VALUE>': there is no limit `speed`; the names are: attachment_bytes, connections, created_files, fuel, handles, host_bytes, http_fields_bytes, http_request_bytes, http_response_bytes, input_bytes, instances, log_bytes, memory_bytes, open_files, output_bytes, progress_bytes, socket_read_bytes, socket_sent_bytes, stack_bytes, stderr_bytes, stdout_bytes, storage_bytes, storage_keys, storage_value_bytes, table_elements, wall_time_ms, write_bytes

For more information, try '--help'.

"#]],
    );
    let said = run("echo --limit stack_bytes=65535");
    assert!(
        said.contains("`--limit stack_bytes` is 65,535 B; a stack can have 64 KiB to 16 MiB"),
        "{said}"
    );
    check(
        run("echo --limit stack_bytes=1"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `--limit stack_bytes` is 1 B; a stack can have 64 KiB to 16 MiB
hint: leave it out for the usual 512 KiB

"#]],
    );
    check(
        run("echo --fuel 5 --limit fuel=6"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the limit `fuel` is given twice, by `--limit fuel` and by `--fuel`
hint: leave out one of the two

"#]],
    );
    check(
        run("echo --limit handles=5 --limit handles=6"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the limit `handles` is given twice, by `--limit handles` both times
hint: leave out one of the two

"#]],
    );
}

/// With nothing of what every skill needs, none can run: that is said before one is looked for.
#[test]
fn nothing_at_all() {
    let place = Place::new();
    for (args, flag, example) in [
        (["--timeout", "0"], "--timeout <TIME>", "500ms or 2s"),
        (["--timeout", "0s"], "--timeout <TIME>", "500ms or 2s"),
        (["--fuel", "0"], "--fuel <N>", "5M"),
        (["--memory", "0"], "--memory <SIZE>", "1MiB"),
        (["--output-limit", "0"], "--output-limit <SIZE>", "1MiB"),
        (["--limit", "fuel=0"], "--limit <NAME=VALUE>", "fuel=5M"),
        (
            ["--limit", "instances=0"],
            "--limit <NAME=VALUE>",
            "instances=100",
        ),
    ] {
        let [option, value] = args;
        let said = place.run(["run", "nowhere.wasm", option, value]);
        let wanted = format!(
            "exit: 2\n--- stdout\n--- stderr\nerror: invalid value '{value}' for '{flag}': with nothing of \
             it no skill can run; write such as {example}\n"
        );
        assert!(said.starts_with(&wanted), "{said}");
    }
    // Of others, it is a way to say no.
    let said = run("echo --limit connections=0 --limit created_files=0");
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

/// It is told what is wrong with the number, and not that there is no such flag.
#[test]
fn less_than_nothing() {
    let place = Place::new();
    for (option, what) in [
        ("--fuel", "count"),
        ("--memory", "size"),
        ("--timeout", "duration"),
        ("--output-limit", "size"),
    ] {
        let said = place.run(["run", "nowhere.wasm", option, "-5"]);
        let begins =
            format!("exit: 2\n--- stdout\n--- stderr\nerror: invalid value for '{option} <");
        assert!(said.starts_with(&begins), "{said}");
        let wanted = format!(": `-5` is not a {what}; write ");
        assert!(said.contains(&wanted), "{said}");
        let said = place.run(["run", "nowhere.wasm", option, "-5s"]);
        let wanted = format!(": `-5s` is not a {what}; write ");
        assert!(said.contains(&wanted), "{said}");
    }
}

/// What others hold for now is no reason to take the host for broken: whoever needs some of it is told to come again.
#[test]
fn a_host_that_has_no_more_files_says_so() {
    let place = Place::new();
    place.add_example("csv-query");
    place.write("data/a.csv", "n\n1\n");
    let mut arguments = "csv-query query --arg path=/d0/a.csv".to_owned();
    for number in 0..60 {
        arguments.push_str(&format!(" --dir data:/d{number}"));
    }
    let hint = "try again in a moment: others hold it now";
    check_runs_out(&place, "ulimit -n 100", &arguments, hint);
}

/// Nor is it the skill's fault. Where addresses are limited, nobody else holds them.
#[test]
fn a_host_that_has_no_memory_for_a_skill_says_so() {
    let place = Place::with_text_stats();
    let once = place.output(["run", "text-stats", "--arg", "text=a"]);
    assert!(once.status.success(), "{}", place.said(&once));
    // A memory has 4 GiB of addresses, most of them never used.
    let hint = "the address space is limited to 3.8 GiB: lift the limit with `ulimit -v unlimited`";
    let arguments = "text-stats --arg text=a";
    check_runs_out(&place, "ulimit -v 4000000", arguments, hint);
}

/// Runs a skill where the system gives less than it needs.
#[track_caller]
fn check_runs_out(place: &Place, limited: &str, arguments: &str, hint: &str) {
    let skillhost = place.command(["run"]);
    let program = skillhost.get_program().to_string_lossy().into_owned();
    let script = format!("{limited} && exec {program} run {arguments} --json");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).current_dir(place.path("."));
    for (name, value) in skillhost.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().expect("the command starts");
    let said = place.said(&output);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&said);
    let failure = &result["failure"];
    assert_eq!(failure["reason"], "exhausted", "{said}");
    assert_eq!(failure["fault"], "policy", "{said}");
    let message = failure["message"].as_str().expect("a message");
    assert!(
        message.starts_with("not admitted: ") && message.contains("at the moment"),
        "{said}"
    );
    assert_eq!(failure["hint"], hint, "{said}");
}

/// Whoever types less than nothing is told what is wrong with it, wherever it is typed.
#[test]
fn what_is_negative_is_told_everywhere() {
    let place = Place::new();
    let commands: [&[&str]; 7] = [
        &["approvals", "approve", "9c1e7d40", "--for", "-5s"],
        &["jobs", "submit", "x", "--delay", "-5s"],
        &["audit", "show", "--since", "-1h"],
        &["audit", "show", "--limit", "-1"],
        &["serve", "--grace", "-5s"],
        &["tokens", "create", "--expires", "-1d"],
        &["jobs", "list", "--limit", "-1"],
    ];
    for args in commands {
        let mut command = place.command([]);
        let said = place.said(&command.args(args).output().expect("it starts"));
        assert!(said.starts_with("exit: 2\n"), "{args:?}: {said}");
        let value = args[args.len() - 1];
        // Once, in what is wrong with it, or before that.
        let named = said.matches(value).count();
        assert!(
            said.contains("error: invalid value ") && named == 1,
            "{args:?}: {said}"
        );
        assert!(!said.contains("unexpected argument"), "{args:?}: {said}");
    }
}

/// A wrong argument is one, whichever it is.
#[test]
fn what_cannot_be_granted_to_anybody_is_a_wrong_argument() {
    let place = Place::with_behaviours();
    place.write("D/x", "");
    let twice: [&[&str]; 4] = [
        &["--dir", "D:/data", "--dir", "D:/data:rw"],
        &["--http", "http://*"],
        &["--http", "http://*.com"],
        &["--env", "A=1", "--env", "A=2"],
    ];
    for grants in twice {
        let mut command = place.command(["run", "behaviours.wasm", "echo"]);
        let said = place.said(&command.args(grants).output().expect("it starts"));
        assert!(said.starts_with("exit: 2\n"), "{grants:?}: {said}");
        assert!(!said.contains("warning"), "{grants:?}: {said}");
    }
}
