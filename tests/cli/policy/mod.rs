//! `skillhost policy`, and what the policy means for a run.

mod checking;
mod consent;
mod editing;
mod pasting;
mod revoking;
mod rules;
mod schema;
mod versions;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use snapbox::str;

use crate::harness::{Place, check};

const QUERY: [&str; 5] = ["run", "csv-query", "query", "--arg", "path=/data/a.csv"];

/// A place with `csv-query`, and a folder for it to read.
fn with_data() -> Place {
    let place = Place::new();
    place.add_example("csv-query");
    place.write("data/a.csv", "n\n1\n2\n");
    place
}

/// The same, with a policy.
fn granted() -> Place {
    let place = with_data();
    let said = place.run([
        "policy",
        "grant",
        "csv-query",
        "--dir",
        "data:/data",
        "--config",
        "max_rows=1",
    ]);
    check(
        said,
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ csv-query@0.1.0 is now granted, in `[PLACE]/home/policy.toml`:
  directory  /data     ro  from [PLACE]/data
  config     max_rows  = 1

"#]],
    );
    place
}

/// What a hint says to write by hand: the table, a line in it, and the command that confirms it.
pub fn by_hand(said: &str) -> [&str; 3] {
    let by_hand = said.split_once("by hand, in the policy under ");
    let (_, by_hand) = by_hand.expect(said);
    let mut quoted = by_hand.split('`').skip(1).step_by(2);
    [(); 3].map(|()| quoted.next().expect(said))
}

/// Runs the command that a hint says confirms what was written by hand.
pub fn confirm_as_told(place: &Place, command: &str) {
    let mut words = command.split(' ').skip(1);
    let [policy, confirm, skill] = [(); 3].map(|()| words.next().expect("three words"));
    let said = place.run([policy, confirm, skill, "--yes"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

/// Makes `csv-query` want more than it did.
fn change(place: &Place) {
    let manifest = place
        .read("csv-query/skill.toml")
        .replace("mode = \"ro\"", "mode = \"rw\"");
    place.write(
        "csv-query/skill.toml",
        format!("grants.environment = [\"SECRET\"]\n{manifest}"),
    );
}

#[test]
fn nothing_is_granted_at_first() {
    let place = with_data();
    check(
        place.run(["policy", "show"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
there is no policy `[PLACE]/home/policy.toml`, and so nothing is granted for good
hint: `skillhost policy grant SKILL` grants something

"#]],
    );
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
there is no policy `[PLACE]/home/policy.toml`, and so nothing is granted for good

"#]],
    );
    check(
        place.run(["policy", "show", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
csv-query@0.1.0
  digest   sha256:[DIGEST]
  consent  not needed: the policy grants it nothing

Granted by the policy
  nothing; `skillhost policy grant csv-query --help` says how to grant

Declared, and not granted
  directory *
    grant it for this run with `--dir '<HOST>:<GUEST>:ro'`, or for good with `skillhost policy grant csv-query --dir '<HOST>:<GUEST>:ro'`; by hand, in the policy under `[skills.csv-query.grants]`: `directories = ["<HOST>:<GUEST>:ro"]`, or into the list that is there, in place of one for the same guest path, and then `skillhost policy confirm csv-query`; the skill finds what is in it under paths that begin with <GUEST>
--- stderr

"#]],
    );
    check(
        place.run(QUERY),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/path`: cannot read `/data/a.csv`: no such file, or its directory is not granted (--dir)
hint: the skill wants directory `*`, which was not granted: grant it for this run with `--dir '<HOST>:<GUEST>:ro'`, or for good with `skillhost policy grant csv-query --dir '<HOST>:<GUEST>:ro'`; by hand, in the policy under `[skills.csv-query.grants]`: `directories = ["<HOST>:<GUEST>:ro"]`, or into the list that is there, in place of one for the same guest path, and then `skillhost policy confirm csv-query`; the skill finds what is in it under paths that begin with <GUEST>
✗ csv-query 0.1.0 · query · failed · [COST]

"#]],
    );
}

/// A name finds only what is installed: who typed a path is told what to type with it, everywhere.
#[test]
fn hints_name_what_was_typed() {
    let place = with_data();
    let folder = "./csv-query";
    let [_, _, tool, arg, path] = QUERY;
    let typed = |args: &[&str]| {
        let output = place.command([]).args(args).output();
        let output = output.expect("the command starts");
        let all = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(all).expect("it is text");
        assert!(!said.contains("policy grant csv-query"), "{said}");
        assert!(!said.contains("policy confirm csv-query"), "{said}");
        said
    };
    for args in [
        &["policy", "show", folder][..],
        &["policy", "show", folder, "--json"],
        &["inspect", folder],
        &["inspect", folder, "--json"],
        &["run", folder, tool, arg, path],
        &["run", folder, tool, arg, path, "--dry-run"],
        &["run", folder, tool, arg, path, "--dry-run", "--json"],
    ] {
        let said = typed(args);
        assert!(
            said.contains("policy grant ./csv-query"),
            "{args:?}\n{said}"
        );
    }
    place.run(["policy", "grant", folder, "--dir", "data:/data"]);
    change(&place);
    for args in [
        &["policy", "show", folder][..],
        &["policy", "show", folder, "--json"],
        &["inspect", folder],
        &["inspect", folder, "--json"],
        &["run", folder, tool, arg, path],
        &["run", folder, tool, arg, path, "--json"],
        &["run", folder, tool, arg, path, "--dry-run", "--json"],
    ] {
        let said = typed(args);
        let confirm = "policy confirm ./csv-query";
        assert!(said.contains(confirm), "{args:?}\n{said}");
    }
    // What is granted is not missing, though it is not confirmed.
    let [run, ..] = QUERY;
    let output = place.output([run, folder, tool, arg, path, "--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["missing"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["missing"][0]["subject"], "SECRET");
}

#[test]
fn what_is_granted_for_good_needs_no_flag() {
    let place = granted();
    check(
        place.file("home/policy.toml"),
        str![[r#"
[skills.csv-query.grants]
config = { max_rows = "1" }
directories = ["[PLACE]/data:/data:ro"]

[[skills.csv-query.confirmed]]
at = "[TIME]"
digest = "sha256:[DIGEST]"
version = "0.1.0"

[skills.csv-query.confirmed.wanted]
declared = { config = { max_rows = { default = 1000, type = "integer" } }, directories = [{ mode = "ro", path = "*" }] }
limits = { fuel = 50000000000, wall_time_ms = 60000 }
tools = { columns = { destructive = false, idempotent = true, open_world = false, read_only = true }, query = { destructive = false, idempotent = true, open_world = false, read_only = true } }

"#]],
    );
    check(
        place.run(QUERY),
        str![[r#"
exit: 0
--- stdout
{"columns":["n"],"rows":[[1]],"rows_matched":2,"rows_read":2,"truncated":true}
--- stderr
✓ csv-query 0.1.0 · query · [COST]

"#]],
    );
    check(
        place.run(["policy", "show", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
csv-query@0.1.0
  digest   sha256:[DIGEST]
  consent  given

Granted by the policy
  directory  /data     ro  from [PLACE]/data
  config     max_rows  = 1
--- stderr

"#]],
    );
    check(
        place.run(["policy", "show"]),
        str![[r#"
exit: 0
--- stdout
[PLACE]/home/policy.toml

csv-query
  directory  /data     ro  from [PLACE]/data
  config     max_rows  = 1
  confirmed  0.1.0  sha256:[DIGEST]
--- stderr

"#]],
    );
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
note: csv-query: it is confirmed, and no skill of this name is installed; its grants hold where it is run from its file
  hint: if it is gone, `skillhost policy revoke csv-query --all` takes out all that is said of it
✓ the policy `[PLACE]/home/policy.toml` is sound, with grants for 1 skill

"#]],
    );
    check(
        place.run(["policy", "diff", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
csv-query
  confirmed  0.1.0  sha256:[DIGEST]

Nothing differs
--- stderr

"#]],
    );
    // A flag goes before the policy, and the rest of it holds.
    let [run, skill, tool, arg, path] = QUERY;
    check(
        place.run([run, skill, tool, arg, path, "--config", "max_rows=5", "-q"]),
        str![[r#"
exit: 0
--- stdout
{"columns":["n"],"rows":[[1],[2]],"rows_matched":2,"rows_read":2,"truncated":false}
--- stderr

"#]],
    );
    let said = place.run([
        run,
        skill,
        tool,
        arg,
        path,
        "--config",
        "max_rows=5",
        "--dry-run",
    ]);
    let (_, grants) = said.split_once("Grants\n").expect("there are some");
    check(
        grants,
        str![[r#"
  directory  /data     ro  from [PLACE]/data (policy)
  config     max_rows  = 5
--- stderr

"#]],
    );
    let mut command = place.command([run, skill, tool, arg, path, "--no-policy"]);
    command.env("SKILLHOST_POLICY", place.path("home/policy.toml"));
    let said = place.said(&command.output().expect("the command starts"));
    assert!(said.starts_with("exit: 2\n"), "{said}");
    assert!(said.contains("the skill wants directory"), "{said}");
    let inspected = place.run(["inspect", "csv-query"]);
    let (_, policy) = inspected
        .split_once("Granted by the policy\n")
        .expect("it is there");
    assert!(policy.starts_with("  directory  /data"), "{policy}");
}

#[test]
fn what_is_granted_to_a_skill_that_is_gone_can_be_seen() {
    let place = granted();
    fs::remove_dir_all(place.path("csv-query")).expect("it can be removed");
    check(
        place.run(["policy", "show", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
csv-query
  directory  /data     ro  from [PLACE]/data
  config     max_rows  = 1
  confirmed  0.1.0  sha256:[DIGEST]
--- stderr
warning: it cannot be loaded: no skill `csv-query` was found
hint: `skillhost list` shows what is installed

"#]],
    );
    let said = place.run(["policy", "show", "csv-quer"]);
    assert!(said.starts_with("exit: 6\n"), "{said}");
}

/// What was granted to a skill does not go with it: a file of it may be run, or another version be installed.
#[test]
fn what_stays_of_a_skill_that_is_removed_is_said() {
    let place = granted();
    place.run(["install", "csv-query"]);
    check(
        place.run(["remove", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ csv-query@0.1.0 is removed (sha256:[DIGEST])
note: its grants stay in the policy `[PLACE]/home/policy.toml`; `skillhost policy revoke csv-query --all` takes them away

"#]],
    );
    let output = place.output(["policy", "check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["sound"], true, "{json}");
    assert_eq!(json["warnings"], serde_json::json!([]), "{json}");
    assert_eq!(json["notes"][0]["kind"], "uninstalled", "{json}");
    assert_eq!(json["notes"][0]["skill"], "csv-query", "{json}");
    let said = place.run(["policy", "revoke", "csv-query", "/data", "max_rows"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = place.run(["policy", "check"]);
    assert!(!said.contains("note: "), "{said}");
    place.run(["install", "csv-query"]);
    let said = place.run(["remove", "csv-query"]);
    assert!(!said.contains("note: "), "{said}");
}

#[test]
fn the_help() {
    check(
        Place::new().run(["policy", "--help"]),
        str![[r#"
exit: 0
--- stdout
Show and change what skills are granted for good

Usage: skillhost policy [OPTIONS] <COMMAND>

Commands:
  show     Show what the policy grants, and to which digests
  check    Check the policy, and hold it against what is installed
  grant    Grant a skill something for good
  revoke   Take from a skill what the policy grants it
  diff     Show how a skill differs from the one that was confirmed
  confirm  Give what the policy grants to a skill to the digest that it has now
  schema   Print the JSON Schema of the policy file
  help     Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

Global options:
      --home <DIR>
          Keep installed skills, the policy, compiled skills and the SDK in this folder
          
          Without it, they are in the folders of the XDG Base Directory Specification: usually
          ~/.local/share/skillhost, ~/.config/skillhost and ~/.cache/skillhost.
          
          [env: SKILLHOST_HOME]

      --policy <FILE>
          Take what skills are granted for good from this file
          
          Without it, from policy.toml in the folder of --home, or of the XDG Base Directory
          Specification: usually ~/.config/skillhost. See `skillhost policy --help`.
          
          [env: SKILLHOST_POLICY]

  -v, --verbose...
          Say more; twice and three times for still more

  -q, --quiet
          Say nothing but errors and results

      --color <WHEN>
          When to use colours: auto (on a terminal, unless NO_COLOR is set), always or never
          
          [default: auto]

Examples:
  Let an installed skill read a folder whenever it runs:
    skillhost policy grant csv-query --dir /srv/reports:/data
  See what it is granted, and what it wants besides:
    skillhost policy show csv-query
  After an update, see what it wants now, and consent to it:
    skillhost policy diff csv-query
    skillhost policy confirm csv-query

A grant is given to a digest: to exactly the component and the skill.toml that
were looked at. A skill that changed is not run until what the policy grants to
its name is confirmed for it, too.
--- stderr

"#]],
    );
}

#[test]
fn a_policy_that_cannot_be_used_is_not_passed_over() {
    let place = with_data();
    place.write(
        "home/policy.toml",
        "# Mine.\n[skills.csv-query.grants]\ndirectorys = []\n",
    );
    for args in [&["policy", "check"][..], &["policy", "show"], &QUERY] {
        let mut command = place.command([]);
        let output = command.args(args).output().expect("the command starts");
        check(
            place.said(&output),
            str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy `[PLACE]/home/policy.toml`, line 3: unknown field `directorys` in [skills.csv-query.grants], expected one of `directories`, `scratch`, `http`, `sockets`, `addresses`, `environment`, `config`, `secrets`, `storage`, `clock`, `random`
hint: did you mean `directories`?

"#]],
        );
    }
    place.write("home/policy.toml", "");
    fs::set_permissions(
        place.path("home/policy.toml"),
        Permissions::from_mode(0o666),
    )
    .expect("a mode can be set");
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy `[PLACE]/home/policy.toml`: it can be written by others (mode 666), who could grant anything
hint: close it to them: `chmod go-w [PLACE]/home/policy.toml`

"#]],
    );
    check(
        place.run(["policy", "check", "--policy", "nowhere.toml"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: there is no policy `nowhere.toml`
hint: `skillhost --policy nowhere.toml policy grant --help` says how to make one

"#]],
    );
}

/// A hint that is pasted acts where the command did.
#[test]
fn hints_repeat_where_the_command_looked() {
    let place = Place::new();
    place.add_example("csv-query");
    place.write("data/a.csv", "n\n1\n");
    place.write("own.toml", "");
    let failed = place.output([
        "run",
        "csv-query",
        "query",
        "--arg",
        "path=/data/a.csv",
        "--home",
        "other home",
        "--policy",
        "own.toml",
    ]);
    let said = place.said(&failed);
    let repeated = "`skillhost --home 'other home' --policy own.toml policy grant csv-query";
    assert!(said.contains(repeated), "{said}");
}

/// What is read where somebody consents to it is what stands there.
#[test]
fn names_of_a_skill_show_what_cannot_be_seen() {
    let place = with_data();
    place.write(
        "csv-query/skill.toml",
        "[grants]\nenvironment = [\"A\u{202e}B\"]\n\
         directories = [{ path = \"/d\u{202e}x\u{200b}\", mode = \"ro\" }]\n\
         [config.\"k\u{2066}y\"]\ntype = \"string\"\n",
    );
    for command in ["show", "diff"] {
        let said = place.run(["policy", command, "csv-query"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        for (shown, hidden) in [
            ("A\\u{202e}B", '\u{202e}'),
            ("/d\\u{202e}x\\u{200b}", '\u{200b}'),
            ("k\\u{2066}y", '\u{2066}'),
        ] {
            assert!(!said.contains(hidden), "{command}: {said:?}");
            assert!(said.contains(shown), "{command}: {said}");
        }
    }
}
