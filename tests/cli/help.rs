//! Help, and arguments that are no arguments.

use snapbox::str;

use crate::harness::{Place, check};

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
    skillhost run regex-search search --dir notes --arg path=notes --arg pattern=todo \
        --timeout 2s --memory 16MiB

Exit codes:
    0  success
    1  the skill failed: an error of its own, a trap, an output that does not fit
    2  usage error: a wrong argument, an unknown tool, an input that does not fit, a policy file
       that cannot be used
    3  rejected: not admitted, such as for a grant that the skill does not declare
    4  a limit other than time was met
    5  the time was up
    6  the skill cannot be found, built or loaded
    7  `doctor` found something that does not hold
   70  the host itself failed, or could not write the output
  130  cancelled with Ctrl-C
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
fn run() {
    check(
        own("run", "--help"),
        str![[r#"
exit: 0
--- stdout
Run a tool of a skill, in a fresh sandbox

The tool's output goes to standard output. What the skill logs, how far it has come, what went wrong
and what it cost go to standard error. Nothing is granted that is named neither here nor in the
policy: no files, no environment, no network.

Usage: skillhost run [OPTIONS] <SKILL> [TOOL]

Arguments:
  <SKILL>
          The skill: a `.wasm` file, the folder of a skill (skill.wasm, skill.toml, SKILL.md), the
          source folder of a skill (Cargo.toml; it is built first), or an installed skill by name,
          name@version or digest. A path goes before a name

  [TOOL]
          The tool; may be left out where the skill has one only

Options:
  -h, --help
          Print help (see a summary with '-h')

Input:
  -i, --input <JSON|@FILE|->
          The input, a JSON object; from a file with @FILE, from standard input with -

  -a, --arg <KEY=VALUE>
          Set a field of the input, also over one in --input
          
          What is text by the tool's schema is taken as it is; numbers, booleans, lists and objects
          are read as JSON. With KEY:=JSON the value is JSON in any case.

      --attach <FILE>
          Attach a file to the input; standard input with -

Limits:
      --fuel <N>
          Fuel: about one unit for each instruction, such as 5000000 or 5M

      --memory <SIZE>
          Memory, such as 64MiB

      --timeout <TIME>
          Wall time, such as 2s or 500ms

      --output-limit <SIZE>
          Size of the output, such as 1MiB

      --limit <NAME=VALUE>
          Set any limit by its name
          
          What is not set here is as the skill's skill.toml says, else as the host does: 10 G units
          of fuel, 64 MiB of memory, 10 s of wall time, 1 MiB of output. --dry-run shows all that
          apply.
          
          The names are those of `limits` in the output of --json, such as `table_elements`,
          `attachment_bytes` or `handles`. Sizes and times may have a unit.

      --tenant <NAME>
          On whose behalf it runs: whose ceilings and rates the policy has hold for it

Grants:
      --dir <HOST[:GUEST][:ro|rw]>
          Grant a folder, read-only unless it ends in :rw
          
          The skill sees it under GUEST, or where that is left out, under the path that is written
          here.

      --scratch
          Give the skill an empty folder at /scratch that is gone afterwards

      --http <[METHODS ]URL>
          Grant HTTP requests: methods, where not all, then scheme, host, port and path prefix
          
          Such as 'GET https://example.com/api' or https://*.example.com. An address in place of a
          name is granted by that, also where it is not public: http://127.0.0.1:3000.

      --socket <tcp|udp://IP:PORT>
          Grant a socket to one address and port, past HTTP

      --address <IP[/BITS]>
          Let granted names lead to an address, or a network, that is not public

      --env <KEY=VALUE>
          Grant an environment variable; none is inherited

      --config <KEY=VALUE>
          Give a configuration key a value

      --secret <NAME=HEADER[:PREFIX]@URL>
          Let the host put a secret into a header of the skill's requests; the skill never sees it
          
          Such as github=authorization:Bearer@https://api.github.com: the secret's name, the header,
          what stands before the value in it, and the requests, as for --http, which has to grant
          them. Plain HTTP only where the scheme says so. See `skillhost secrets --help`.

      --storage
          Let the skill keep keys and values from one run to the next

      --clock <TIME>
          `system`, or the time at which the skill's clocks stand still, such as
          [TIME]

      --random <SOURCE>
          `system`, or `seed:N` for random numbers that are the same each time

      --certificate <FILE>
          Trust the certificate authorities of a file in PEM form, beside those of `--roots`

      --roots <WHOSE>
          Whose certificates are trusted for https

          Possible values:
          - bundled:  Mozilla's list, which is part of this program
          - platform: Those that this machine trusts
          - none:     Nobody's but those of `--certificate`
          
          [default: bundled]

      --secret-from <NAME=env:VAR|file:PATH>
          Take a secret from a variable of this environment, or from a file of mode 0600
          
          Without it, from where the policy says, else from those kept with `skillhost secrets set`.

      --no-policy
          Leave the policy out: grant nothing but what is named here, and bound and ask nothing
          
          Its ceilings, turns, rates, circuits and approvals do not hold then, nor does what it says
          of the audit, which is kept in the usual folder.

Output:
      --out <DIR>
          Write the attachments of the answer to this folder; no file that is there is overwritten

      --dry-run
          Run nothing; say whether it would be admitted, with which limits and grants

      --json
          Print the whole result as JSON, also of a failure

Examples:
  Run the only tool of a skill:
    skillhost run text-stats --arg text='to be or not to be'
  Give the whole input, as JSON, from a file, or from standard input:
    skillhost run text-stats count --input '{"text": "to be", "top": 3}'
    skillhost run text-stats count --input @input.json
  Build a skill from its source and run it on a file:
    skillhost run ./image-tools thumbnail --attach photo.jpg --arg width=64 --out thumbnails
  Let it read a folder, and write to another one:
    skillhost run ./my-skill --dir notes --dir /tmp/result:/out:rw
  Let it fetch from one site:
    skillhost run ./fetch-page --http 'GET https://example.com' --arg url=https://example.com/
  Set limits; the names for --limit are those in the output of --json:
    skillhost run ./my-skill --timeout 500ms --fuel 5M --limit handles=20
  See whether it would be admitted, and under which limits:
    skillhost run ./my-skill --dir notes --dry-run

Exit codes:
    0  success
    1  the skill failed: an error of its own, a trap, an output that does not fit
    2  usage error: a wrong argument, an unknown tool, an input that does not fit, a policy file
       that cannot be used
    3  rejected: not admitted, such as for a grant that the skill does not declare
    4  a limit other than time was met
    5  the time was up
    6  the skill cannot be found, built or loaded
    7  `doctor` found something that does not hold
   70  the host itself failed, or could not write the output
  130  cancelled with Ctrl-C
--- stderr

"#]],
    );
}

#[test]
fn inspect() {
    check(
        own("inspect", "-h"),
        str![[r#"
exit: 0
--- stdout
Show a skill's tools, what it wants to touch, and whether it fits this host

Usage: skillhost inspect [OPTIONS] <SKILL>

Arguments:
  <SKILL>  The skill: a `.wasm` file, the folder of a skill (skill.wasm, skill.toml, SKILL.md), the
           source folder of a skill (Cargo.toml; it is built first), or an installed skill by name,
           name@version or digest. A path goes before a name

Options:
      --json  Print everything as JSON
  -h, --help  Print help (see more with '--help')

Examples:
  skillhost inspect text-stats
  skillhost inspect target/wasm32-wasip2/release/my_skill.wasm
  skillhost inspect ./my-skill --json | jq '.tools[].name'

Exit codes:
    0  it fits
    6  it cannot be found, built or loaded; what it imports is shown where that is known
--- stderr

"#]],
    );
}

#[test]
fn new() {
    check(
        own("new", "-h"),
        str![[r#"
exit: 0
--- stdout
Start a skill: a crate that builds, passes its tests, and runs

Usage: skillhost new [OPTIONS] <NAME>

Arguments:
  <NAME>  The skill's name: 1 to 64 of a-z, 0-9 and -, with a letter first

Options:
      --path <DIR>  The folder to make, rather than one of the skill's name
      --sdk <PATH>  Depend on the `skills-sdk` crate in this folder, rather than on the one that is
                    unpacked
  -h, --help        Print help (see more with '--help')

Examples:
  Start a skill in a folder of its name:
    skillhost new word-count
  Start one elsewhere, with an SDK of one's own:
    skillhost new word-count --path skills/words --sdk ~/skillhost/skills-sdk
--- stderr

"#]],
    );
}

#[test]
fn install() {
    check(
        own("install", "-h"),
        str![[r#"
exit: 0
--- stdout
Install a skill, so that it can be run by its name

Usage: skillhost install [OPTIONS] <SKILL>

Arguments:
  <SKILL>  The skill: a `.wasm` file, the folder of a skill (skill.wasm, skill.toml, SKILL.md), the
           source folder of a skill (Cargo.toml; it is built first), or an installed skill by name,
           name@version or digest. A path goes before a name

Options:
      --replace  Put it in the place of another skill of the same name and version
  -h, --help     Print help (see more with '--help')

Examples:
  Install a skill from its source, and run it by name:
    skillhost install ./word-count
    skillhost run word-count
  Put another build in the place of the one with the same version:
    skillhost install word-count.wasm --replace
--- stderr

"#]],
    );
}

#[test]
fn list() {
    check(
        own("list", "-h"),
        str![[r#"
exit: 0
--- stdout
List the installed skills, the highest version of each first

Usage: skillhost list [OPTIONS]

Options:
      --json  Print everything as JSON
  -h, --help  Print help (see more with '--help')

Examples:
  skillhost list
  skillhost list --json | jq -r '.[].digest'
--- stderr

"#]],
    );
}

#[test]
fn remove() {
    check(
        own("remove", "-h"),
        str![[r#"
exit: 0
--- stdout
Remove an installed skill

Usage: skillhost remove [OPTIONS] <NAME[@VERSION]>

Arguments:
  <NAME[@VERSION]>  Which one: NAME, NAME@VERSION where there are several versions, or a digest

Options:
  -h, --help  Print help (see more with '--help')

Examples:
  skillhost remove word-count
  skillhost remove word-count@0.1.0
--- stderr

"#]],
    );
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
  skillhost completions bash > ~/.local/share/bash-completion/completions/skillhost
  skillhost completions zsh > ~/.zfunc/_skillhost
  skillhost completions fish > ~/.config/fish/completions/skillhost.fish
--- stderr

"#]],
    );
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
    ] {
        let said = place.run(["completions", shell]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        assert!(said.contains(sign), "{shell}");
        assert!(!said.contains("compile-component"), "{shell}");
    }
}

#[test]
fn jobs() {
    check(
        own("jobs", "--help"),
        str![[r#"
exit: 0
--- stdout
Submit jobs, and see what becomes of them

A job is an execution that need not be answered at once. It is kept in a database, and done by a
worker (`skillhost worker`), now or later, here or elsewhere. A job that was accepted is not lost.

Usage: skillhost jobs [OPTIONS] <COMMAND>

Commands:
  submit    Submit a job: a tool of a skill, to be run by a worker
  list      List jobs, the last submitted first
  show      Show a job: what it does, where it stands, each attempt, and what it came to
  watch     Follow one job until it has ended, or all jobs until Ctrl-C
  cancel    Cancel jobs: a waiting one at once, a running one by stopping it
  pause     Let waiting jobs wait until they are resumed
  resume    Let paused jobs go on
  approve   Let jobs run that wait for somebody's word
  refuse    Do not let jobs run that wait for somebody's word: they are dead
  priority  Give jobs another priority
  snooze    Put waiting jobs off
  stats     Show what goes on: counts by status, queue and tenant, times, rates, workers
  prune     Remove jobs that ended long ago
  dead      See why jobs are dead, and replay, discard, export or import them

Options:
  -h, --help
          Print help (see a summary with '-h')

Examples:
  Submit a job, do what is waiting, and look at it:
    skillhost jobs submit text-stats --arg text='to be or not to be'
    skillhost worker --until-empty
    skillhost jobs list
  Wait for the result, as `run` would print it, while a worker runs elsewhere:
    skillhost jobs submit text-stats --arg text='to be' --wait
  See what went wrong, and try again with more fuel:
    skillhost jobs dead list
    skillhost jobs dead replay --all --cause fuel --fuel 20G

A job is named by its id, or by the end of it: at least 4 characters, looked for among the last
10,000
jobs. Lists show the last 8.
--- stderr

"#]],
    );
}

#[test]
fn worker() {
    check(
        own("worker", "--help"),
        str![[r#"
exit: 0
--- stdout
Do what is in the queue

Takes jobs, runs each in a fresh sandbox as `run` would, and writes down what it came to. Skills are
the installed ones, and those that jobs brought with them; one is loaded when its first job comes.
The policy holds, and a change of it within a second. With Ctrl-C or SIGTERM it takes no more, lets
what runs finish for the time of --grace, and gives the rest back; a second one does so at once. Of
a worker that is killed, others take over what it had once its lease is over.

Usage: skillhost worker [OPTIONS]

Options:
      --concurrency <N>
          How many jobs it does at once; as many as there are processors unless said

      --queue <NAME>
          Take jobs of this queue only; may be given several times

      --lease <TIME>
          How long its claims hold should it die: at least 1s
          
          [default: 30s]

      --grace <TIME>
          How long running jobs may go on once it was told to stop
          
          [default: 25s]

      --until-empty
          End once nothing is waiting that could start now

      --name <NAME>
          A name for people; the machine's and the process's number unless given

      --stack <SIZE>
          The stack of every guest, such as 1MiB

      --callback-secret <FILE>
          Send callbacks, signed with the secret in this file: `whsec_` and base64
          
          Jobs that were submitted with --callback have their results sent. Without a secret, this
          worker leaves that to others.

  -h, --help
          Print help (see a summary with '-h')

Grants:
      --certificate <FILE>
          Trust the certificate authorities of a file in PEM form, beside those of `--roots`

      --roots <WHOSE>
          Whose certificates are trusted for https

          Possible values:
          - bundled:  Mozilla's list, which is part of this program
          - platform: Those that this machine trusts
          - none:     Nobody's but those of `--certificate`
          
          [default: bundled]

      --secret-from <NAME=env:VAR|file:PATH>
          Take a secret from a variable of this environment, or from a file of mode 0600
          
          Without it, from where the policy says, else from those kept with `skillhost secrets set`.

      --no-policy
          Leave the policy out: grant nothing but what jobs name, and bound nothing
          
          Its ceilings, turns, rates and circuits do not hold then. Refused where the policy has
          rules of approval, or requires an audit.

Examples:
  Do what comes, until Ctrl-C:
    skillhost worker
  Do what is waiting, eight at a time, and end:
    skillhost worker --until-empty --concurrency 8
  Serve two queues, from a database that other machines use as well:
    skillhost worker --queue nightly --queue reports --database postgres://jobs@db.example/jobs

Exit codes:
    0  it was told to stop, or nothing was left
    2  usage error
   70  the queue cannot be used, or the host is broken
--- stderr

"#]],
    );
}

#[test]
fn queues() {
    check(
        own("queues", "--help"),
        str![[r#"
exit: 0
--- stdout
Pause and bound queues, tenants and skills, over all workers

Usage: skillhost queues [OPTIONS] <COMMAND>

Commands:
  list    List queues, tenants or skills: what holds for them, and what they have
  pause   Start no more jobs of a queue, tenant or skill; what runs goes on
  resume  Start jobs of a queue, tenant or skill again
  bound   Bound what a queue, tenant or skill may have

Options:
  -h, --help
          Print help (see a summary with '-h')

Examples:
  skillhost queues list
  skillhost queues pause nightly
  skillhost queues resume nightly
  At most two jobs of a tenant at once, and ten a minute of a skill, over all workers:
    skillhost queues bound --tenant acme --concurrency 2
    skillhost queues bound --skill fetch-page --rate 10/1m
  Twice as much for one tenant as for others:
    skillhost queues bound --tenant acme --weight 2
--- stderr

"#]],
    );
}

#[test]
fn schedules() {
    check(
        own("schedules", "--help"),
        str![[r#"
exit: 0
--- stdout
Submit jobs again and again, by cron expressions

Any worker fires a schedule, and each firing is made once, however many workers there are.

Usage: skillhost schedules [OPTIONS] <COMMAND>

Commands:
  add     Add a schedule, or put another in the place of the one of this name
  list    List schedules
  remove  Remove a schedule; jobs that it submitted stay

Options:
  -h, --help
          Print help (see a summary with '-h')

Examples:
  Each working day at nine in the morning, by the clock of Tokyo:
    skillhost schedules add morning '0 9 * * MON-FRI' --time-zone Asia/Tokyo \
        text-stats --arg text='to be'
  See what there is, and take one away:
    skillhost schedules list
    skillhost schedules remove morning
--- stderr

"#]],
    );
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
