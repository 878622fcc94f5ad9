//! Where a tool's input comes from.

use snapbox::str;

use crate::harness::{Place, check, watched};

#[test]
fn arguments_are_read_as_the_schema_says() {
    let place = Place::with_text_stats();
    // `text` is a text, and `top` a number.
    let said = place.run(["run", "text-stats", "--arg", "text=1", "--arg", "top=1"]);
    check(
        said,
        str![[r#"
exit: 0
--- stdout
{"characters":1,"distinct_words":1,"lines":1,"longest_line":{"characters":1,"number":1},"top_words":[{"count":1,"word":"1"}],"words":1}
--- stderr
✓ text-stats 0.1.0 · count · [COST]

"#]],
    );
}

#[test]
fn json_from_the_command_line_a_file_and_standard_input() {
    let place = Place::with_behaviours();
    place.write("input.json", r#"{"from": "a file"}"#);
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "echo",
            "--input",
            r#"{"from": "here"}"#,
        ]),
        str![[r#"
exit: 0
--- stdout
{"from":"here"}
--- stderr
✓ behaviours 1.2.3 · echo · [COST]

"#]],
    );
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "echo",
            "--input",
            "@input.json",
            "-q",
        ]),
        str![[r#"
exit: 0
--- stdout
{"from":"a file"}
--- stderr

"#]],
    );
    check(
        place.run_with_stdin(
            ["run", "behaviours.wasm", "echo", "--input", "-", "-q"],
            br#"{"from": "standard input"}"#,
        ),
        str![[r#"
exit: 0
--- stdout
{"from":"standard input"}
--- stderr

"#]],
    );
}

#[test]
fn arguments_go_over_the_input() {
    let place = Place::with_behaviours();
    let input = r#"{"a": 1, "b": 2}"#;
    let said = place.run([
        "run",
        "behaviours.wasm",
        "echo",
        "-q",
        "-i",
        input,
        "-a",
        "b=3",
        "-a",
        "c:=[4]",
    ]);
    check(
        said,
        str![[r#"
exit: 0
--- stdout
{"a":1,"b":"3","c":[4]}
--- stderr

"#]],
    );
}

#[test]
fn input_that_is_no_json() {
    let place = Place::with_behaviours();
    check(
        place.run(["run", "behaviours.wasm", "echo", "--input", "{\"a\": 1,}"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: --input is not JSON: trailing comma at line 1 column 9
  {"a": 1,}
          ^
hint: fields can be given without JSON: --arg NAME=VALUE

"#]],
    );
    check(
        place.run(["run", "behaviours.wasm", "echo", "--input", "[1]"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: --input is of type array, and a tool's input is a JSON object
hint: write such as '{"text": "to be"}', or --arg text='to be'

"#]],
    );
    check(
        place.run_with_stdin(["run", "behaviours.wasm", "echo", "--input", "-"], b"\n"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: standard input is empty, and a tool's input is a JSON object
hint: write {} where it takes nothing; --arg NAME=VALUE sets single fields

"#]],
    );
    place.write("input.json", "{}");
    check(
        place.run(["run", "behaviours.wasm", "echo", "--input", "input.json"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: --input is not JSON: expected value at line 1 column 1
  input.json
  ^
hint: a file is named with `@`: --input @input.json

"#]],
    );
    check(
        place.run(["run", "behaviours.wasm", "echo", "--input", "@inptu.json"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: cannot read `inptu.json`, which `--input` names: No such file or directory (os error 2)
hint: did you mean `input.json`?

"#]],
    );
}

#[test]
fn a_misspelt_key() {
    let place = Place::with_text_stats();
    check(
        place.run(["run", "text-stats", "--arg", "text=a", "--arg", "tpo=3"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit: Additional properties are not allowed ('tpo' was unexpected)
hint: did you mean `top`?
hint: its fields are: `min_length`, `text`, `top`
✗ text-stats 0.1.0 · count · failed · did not run

"#]],
    );
}

#[test]
fn a_value_of_another_type() {
    let place = Place::with_text_stats();
    check(
        place.run(["run", "text-stats", "--arg", "text=a", "--arg", "top=many"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/top`: "many" is not of type "integer"
hint: `skillhost inspect text-stats` shows what the tool takes
✗ text-stats 0.1.0 · count · failed · did not run

"#]],
    );
}

/// What is typed for a number is one, also where it is another than the tool takes.
#[test]
fn a_number_of_another_kind() {
    let place = Place::with_text_stats();
    for (top, why) in [
        ("2.5", "2.5 is not of type \"integer\""),
        ("-1", "-1 is less than the minimum of 0"),
    ] {
        let top = format!("top={top}");
        let said = place.run(["run", "text-stats", "--arg", "text=a", "--arg", &top]);
        let wanted = format!("error: the input does not fit at `/top`: {why}\n");
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn a_key_that_is_missing() {
    let place = Place::with_text_stats();
    check(
        place.run(["run", "text-stats"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit: "text" is a required property
hint: `skillhost inspect text-stats` shows what the tool takes
✗ text-stats 0.1.0 · count · failed · did not run

"#]],
    );
}

#[test]
fn a_list_that_is_not_written_as_one() {
    let place = Place::new();
    place.add_example("csv-query");
    check(
        place.run([
            "run",
            "csv-query",
            "query",
            "--arg",
            "text=a,b",
            "--arg",
            "columns=a",
        ]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/columns`: "a" is not of type "array"
hint: a list is written as JSON: --arg 'columns=["a"]'
✗ csv-query 0.1.0 · query · failed · did not run

"#]],
    );
}

#[test]
fn an_argument_without_a_value() {
    let place = Place::new();
    check(
        place.run(["run", "x", "--arg", "text"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value 'text' for '--arg <KEY=VALUE>': there is no `=`; write KEY=VALUE, or KEY:=JSON

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["run", "x", "--arg", "list:=[1"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value 'list:=[1' for '--arg <KEY=VALUE>': `[1` is not JSON: EOF while parsing a list at line 1 column 2

For more information, try '--help'.

"#]],
    );
}

#[test]
fn standard_input_is_read_once() {
    let place = Place::new();
    check(
        place.run(["run", "x", "--input", "-", "--attach", "-"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: standard input can be read only once
hint: write one of them to a file, and name that

"#]],
    );
}

#[test]
fn a_tool_must_be_named_where_there_are_several() {
    let place = Place::new();
    place.add_example("csv-query");
    check(
        place.run(["run", "csv-query"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `csv-query` has several tools, and none was named
hint: its tools are: `query`, `columns`
✗ csv-query 0.1.0 · failed · did not run

"#]],
    );
    check(
        place.run(["run", "csv-query", "qurey"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `csv-query` has no tool `qurey`
hint: did you mean `query`?
✗ csv-query 0.1.0 · qurey · failed · did not run

"#]],
    );
}

#[test]
fn input_that_the_skill_refuses() {
    let place = Place::with_behaviours();
    check(
        place.run(["run", "behaviours.wasm", "reject_input"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/a/0`: not like this
✗ behaviours 1.2.3 · reject_input · failed · [COST]

"#]],
    );
}

#[test]
fn a_field_that_is_given_twice() {
    check(
        Place::with_text_stats().run(["run", "text-stats", "-a", "text=a", "-a", "text:=2"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the field `text` is given twice
hint: a list is written as JSON: --arg 'KEY:=[1, 2]'

"#]],
    );
}

/// A name that is empty names nothing, and so is a mistake, such as of a variable that is not set.
#[test]
fn an_empty_name_is_a_mistake() {
    let place = Place::new();
    for args in [
        &["run", "x", "--tenant", ""][..],
        &["run", "x", ""],
        &["jobs", "submit", "x", "--tenant", ""],
        &["jobs", "submit", "x", "--user", ""],
        &["jobs", "submit", "x", "--queue", ""],
        &["jobs", "submit", "x", "--key", ""],
        &["jobs", "submit", "x", "--tag", ""],
        &["jobs", "list", "--tenant", ""],
        &["schedules", "add", "a", "* * * * *", "x", "--tenant", ""],
        &["schedules", "remove", "a", "--tenant", ""],
        &["queues", "pause", "--tenant", ""],
        &["queues", "bound", "--tenant", "", "--weight", "2"],
        &["tokens", "create", "--tenant", "", "--scope", "jobs"],
        &["approvals", "list", "--tenant", ""],
        &["audit", "show", "--tenant", ""],
        &["worker", "--queue", ""],
        &["--home", "", "list"],
        &["list", "--home="],
        &["policy", "check", "--policy", ""],
        &["jobs", "list", "--database", ""],
    ] {
        let output = place.command([]).args(args).output();
        let said = place.said(&output.expect("the command starts"));
        let wanted = "exit: 2\n--- stdout\n--- stderr\nerror: a value is required for '";
        assert!(said.starts_with(wanted), "{args:?}: {said}");
    }
    // A variable that is empty is one that is not set.
    let mut command = place.command(["jobs", "list"]);
    command
        .env("SKILLHOST_POLICY", "")
        .env("SKILLHOST_DATABASE", "");
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{}", place.said(&output));
}

/// Whoever types at the door for agents, or pipes something else into it, is not left without a word.
#[test]
fn what_is_no_json_is_answered_with_a_word() {
    let place = Place::new();
    place.write("typed", "not json\nneither is this\n");
    let input = std::fs::File::open(place.path("typed")).expect("it is there");
    let output = place.command(["mcp"]).stdin(input).output();
    let said = place.said(&output.expect("the command starts"));
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert_eq!(said.matches("is no JSON").count(), 1, "{said}");
    // The client hears of each, also where nothing comes after it.
    assert_eq!(said.matches("\"code\":-32700").count(), 2, "{said}");
}

#[test]
fn a_person_at_the_door_for_agents_is_told_what_it_waits_for() {
    let place = Place::new();
    // Ctrl-D, which ends the input.
    let (output, seen) = watched(place.command(["mcp"]), "\x04");
    let seen = String::from_utf8(seen).expect("it is UTF-8");
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{seen}"
    );
    assert!(seen.contains("waits for a client"), "{seen}");
    assert!(seen.contains("skillhost mcp config"), "{seen}");
}

#[test]
fn an_answer_to_an_agent_that_cannot_be_written_is_told() {
    let place = Place::new();
    let begin = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{
        "protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#;
    place.write("typed", begin.replace('\n', "") + "\n");
    let input = std::fs::File::open(place.path("typed")).expect("it is there");
    let full = std::fs::File::options().write(true).open("/dev/full");
    let full = full.expect("Linux has it");
    let output = place.command(["mcp"]).stdin(input).stdout(full).output();
    let said = place.said(&output.expect("the command starts"));
    assert!(said.starts_with("exit: 70\n"), "{said}");
    let error = "error: cannot write to standard output\n";
    assert!(
        said.contains(error) && said.contains("No space left on device"),
        "{said}"
    );
    assert!(!said.contains("skillhost::"), "{said}");
}

/// In other programs the tool is a flag's.
#[test]
fn a_tool_that_is_typed_as_a_flag_is_told_where_it_stands() {
    let place = Place::with_text_stats();
    check(
        place.run(["run", "text-stats", "--tool", "count", "--arg", "text=hi"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: unexpected argument '--tool' found

  tip: the tool stands behind the skill: `SKILL count`; an argument of a tool is given with `--arg tool=count`

Usage: skillhost run [OPTIONS] <SKILL> [TOOL]

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["install", "text-stats", "--force"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: unexpected argument '--force' found

  tip: a similar argument exists: '--replace'
  tip: to pass '--force' as a value, use '-- --force'

Usage: skillhost install <SKILL>

For more information, try '--help'.

"#]],
    );
}

/// The commonest first mistake.
#[test]
fn an_argument_that_is_typed_without_arg_is_told_how() {
    let place = Place::with_text_stats();
    check(
        place.run(["run", "text-stats", "--text", "to be"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: unexpected argument '--text' found

  tip: an argument of a tool is given with `--arg 'text=to be'`

Usage: skillhost run [OPTIONS] <SKILL> [TOOL]

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["run", "text-stats", "count", "text=hi"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: unexpected argument 'text=hi' found

  tip: an argument of a tool is given with `--arg text=hi`

Usage: skillhost run [OPTIONS] <SKILL> [TOOL]

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["run", "text-stats", "text=hi"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no tool has the name `text=hi`
hint: an argument of a tool is given with `--arg text=hi`

"#]],
    );
}

/// It is JSON all the same.
#[test]
fn an_input_that_is_nested_too_deep_is_told_so() {
    let place = Place::with_behaviours();
    let input = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!("{{\"a\":{open}{close}}}")
    };
    let run = |levels| {
        place.write("deep.json", input(levels));
        place.run(["run", "behaviours.wasm", "echo", "--input", "@deep.json"])
    };
    check(
        run(128),
        snapbox::str![[r#"
exit: 2
--- stdout
--- stderr
error: `deep.json` is nested too deep: at most 127 levels are read

"#]],
    );
    let said = run(127);
    assert!(!said.contains("nested too deep: at most"), "{said}");
}
