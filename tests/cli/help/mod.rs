//! Help, and arguments that are no arguments.

mod jobs;
mod skills;

use snapbox::str;

use crate::harness::{Place, check, root};

/// The help of a command, without what it shares with all others.
fn own(command: &str, flag: &str) -> String {
    let said = Place::new().run([command, flag]);
    let (before, rest) = said
        .split_once("Global options:\n")
        .expect("there are some");
    let (_, after) = rest.split_once("Examples:").expect("there are some");
    format!("{before}Examples:{after}")
}

#[test]
fn the_command() {
    check(
        Place::new().run(["--help"]),
        str![[r#"
exit: 0
--- stdout
Runs agent skills, compiled to WebAssembly components, in a sandbox with limits that hold.

A skill touches nothing but what it is granted, for the run or in the policy, stops at its limits,
and always shows what it cost.

Usage: skillhost [OPTIONS] <COMMAND>

Commands:
  run          Run a tool of a skill, in a fresh sandbox
  inspect      Show a skill's tools, what it wants to touch, and whether it fits this host
  new          Start a skill: a crate that builds, passes its tests, and runs
  install      Install a skill, so that it can be run by its name
  list         List the installed skills, the highest version of each first
  remove       Remove an installed skill
  policy       Show and change what skills are granted for good
  secrets      Keep values that skills use without holding them
  approvals    See what waits for an approval, and answer
  audit        Show what was executed, approved and granted, and verify that the record is whole
  jobs         Submit jobs, and see what becomes of them
  worker       Do what is in the queue
  mcp          Offer skills to an agent, over the Model Context Protocol (MCP)
  schedules    Submit jobs again and again, by cron expressions
  queues       Pause and bound queues, tenants and skills, over all workers
  serve        Serve skills over HTTP and MCP, and do what is in the queue
  tokens       Make, list and revoke tokens for `skillhost serve`
  doctor       Show that the sandbox holds on this machine, with hostile guests
  completions  Write the completions for a shell to standard output
  help         Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

  -V, --version
          Print version

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
  Start a skill, test it, and run it:
    skillhost new hello && cd hello
    cargo test
    skillhost run . --arg name=World
  See what a skill offers, and what it wants:
    skillhost inspect hello.wasm
  Run a tool on files in a folder, with less time and memory than usual:
    skillhost run regex-search search --dir notes --arg path=notes \
        --arg pattern=todo --timeout 2s --memory 16MiB

Exit codes:
    0  success
    1  the skill failed: an error of its own, a trap, an output that does not
       fit
    2  usage error: a wrong argument, an unknown tool, an input that does not
       fit, a policy file that cannot be used, a name or a port that is taken
    3  rejected: not admitted, such as for a grant that the skill does not
       declare, or a digest that is not confirmed
    4  a limit other than time was met
    5  the time was up
    6  the skill cannot be found, built or loaded
    7  `doctor` found something that does not hold, or `audit verify` a line
       that was changed
   70  the host itself failed, or could not write the output
  130  cancelled with Ctrl-C
  143  cancelled with SIGTERM or SIGHUP
--- stderr

"#]],
    );
}

#[test]
fn nothing_at_all() {
    let said = Place::new().run([]);
    assert!(said.starts_with("exit: 2\n"), "{said}");
    assert!(said.contains("Usage: skillhost"), "{said}");
}

#[test]
fn doctor() {
    check(
        own("doctor", "--help"),
        str![[r#"
exit: 0
--- stdout
Show that the sandbox holds on this machine, with hostile guests

For each limit and each grant a guest tries to get past it, and beside it the same guest runs within
it and must succeed. The compiled cache, the kernel and the hardware are looked at as well. Nothing
that is installed is run or changed. Takes a few seconds.

Ends with exit code 7 where anything does not hold or could not be tried; warnings do not count.

Usage: skillhost doctor [OPTIONS]

Options:
      --json
          Print everything as JSON

  -h, --help
          Print help (see a summary with '-h')

Examples:
  skillhost doctor
  See what does not hold, and why:
    skillhost doctor --json | jq '.checks[] | select(.verdict != "holds")'
  See that nothing gets further past a limit than it may, and how far it got:
    skillhost doctor --json | jq '.checks[].figures | select(. != null)'
--- stderr

"#]],
    );
}

#[test]
fn completions() {
    let place = Place::new();
    check(
        own("completions", "-h"),
        str![[r#"
exit: 0
--- stdout
Write the completions for a shell to standard output

Usage: skillhost completions [OPTIONS] <SHELL>

Arguments:
  <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

Options:
  -h, --help  Print help (see more with '--help')

Examples:
  skillhost completions bash \
      > ~/.local/share/bash-completion/completions/skillhost
  skillhost completions zsh > ~/.zfunc/_skillhost
  skillhost completions fish > ~/.config/fish/completions/skillhost.fish
--- stderr

"#]],
    );
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "set edit:completion:arg-completer[skillhost]"),
    ] {
        let said = place.run(["completions", shell]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        assert!(said.contains(sign), "{shell}");
        assert!(said.contains("output-limit"), "{shell}");
        assert!(!said.contains("compile-component"), "{shell}");
    }
}

/// Who reads either can rely on it.
#[test]
fn the_readme_has_the_exit_codes_of_the_help() {
    let said = Place::new().run(["--help"]);
    let (_, codes) = said.split_once("\nExit codes:\n").expect("it has them");
    let (codes, _) = codes.split_once("--- stderr").expect("it ends");
    let mut of_help: Vec<String> = Vec::new();
    for line in codes.lines().map(str::trim) {
        match (line.split_once("  "), of_help.last_mut()) {
            (Some((code, meaning)), _) => of_help.push(format!("| {code} | {meaning}")),
            // A line that goes on.
            (None, Some(before)) => *before = format!("{before} {line}"),
            (None, None) => panic!("no code: {line}"),
        }
    }
    let readme = std::fs::read_to_string(root().join("README.md")).expect("it is there");
    let head = "| exit code | meaning |\n| --- | --- |\n";
    let (_, table) = readme.split_once(head).expect("it has the table");
    let rows = table.lines().take_while(|line| !line.is_empty());
    let of_readme: Vec<&str> = rows.map(|row| row.trim_end_matches(" |")).collect();
    assert_eq!(of_readme, of_help);
}

#[test]
fn a_misspelt_command() {
    check(
        Place::new().run(["runn"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: unrecognized subcommand 'runn'

  tip: a similar subcommand exists: 'run'

Usage: skillhost [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]],
    );
}

#[test]
fn a_misspelt_flag() {
    check(
        Place::new().run(["run", "x", "--memroy", "1MiB"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: unexpected argument '--memroy' found

  tip: a similar argument exists: '--memory'

Usage: skillhost run --memory <SIZE> <SKILL> [TOOL]

For more information, try '--help'.

"#]],
    );
}

/// As with cargo and git, `help` is a command, too.
#[test]
fn help_by_the_command_of_that_name() {
    let place = Place::new();
    assert_eq!(place.run(["help"]), place.run(["--help"]));
    assert_eq!(place.run(["help", "run"]), place.run(["run", "--help"]));
    assert_eq!(
        place.run(["help", "policy", "grant"]),
        place.run(["policy", "grant", "--help"])
    );
    // Also of the commands that have commands.
    for (command, verb) in [
        ("policy", "grant"),
        ("approvals", "approve"),
        ("audit", "verify"),
        ("jobs", "submit"),
        ("queues", "pause"),
        ("schedules", "add"),
        ("tokens", "create"),
        ("secrets", "set"),
    ] {
        let help = place.run([command, "help"]);
        assert_eq!(help, place.run([command, "--help"]));
        let help = place.run([command, "help", verb]);
        assert_eq!(help, place.run([command, verb, "--help"]));
        assert!(help.starts_with("exit: 0\n"), "{help}");
    }
    let help = place.run(["jobs", "dead", "help", "replay"]);
    assert_eq!(help, place.run(["jobs", "dead", "replay", "--help"]));
    let said = place.run(["help", "rnu"]);
    assert!(said.starts_with("exit: 2\n"), "{said}");
    assert!(said.contains("unrecognized subcommand 'rnu'"), "{said}");
}

/// What a variable sets was not typed, and does not stand in the usage.
#[test]
fn the_usage_is_the_same_whatever_the_environment() {
    for args in [&["run"][..], &["queues", "pause"], &["jobs", "show"]] {
        let place = Place::new();
        let said = |variables: bool| {
            let mut command = place.command([]);
            command.args(args).env_remove("SKILLHOST_HOME");
            if variables {
                command
                    .env("SKILLHOST_HOME", place.path("home"))
                    .env("SKILLHOST_POLICY", place.path("policy.toml"))
                    .env("SKILLHOST_DATABASE", place.path("jobs.db"));
            }
            place.said(&command.output().expect("the command starts"))
        };
        let without = said(false);
        assert!(without.starts_with("exit: 2\n"), "{without}");
        assert!(without.contains("Usage: "), "{without}");
        assert_eq!(said(true), without);
    }
}

/// An address that is taken is the fault of whoever typed it.
#[test]
fn serve_says_how_it_ends_where_it_cannot_listen() {
    let help = Place::new().run(["serve", "--help"]);
    let said = "    2  usage error, or the address cannot be listened on\n";
    assert!(help.contains(said), "{help}");
}
