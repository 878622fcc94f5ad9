//! Help of the commands about skills.

use snapbox::str;

use super::own;
use crate::harness::check;

#[test]
fn run() {
    check(
        own("run", "--help"),
        str![[r#"
exit: 0
--- stdout
Run a tool of a skill, in a fresh sandbox

The tool's output goes to standard output: JSON on one line, on a terminal over several. What the
skill logs, how far it has come, what went wrong and what it cost go to standard error. Nothing is
granted that is named neither here nor in the policy: no files, no environment, no network.

Usage: skillhost run [OPTIONS] <SKILL> [TOOL]

Arguments:
  <SKILL>
          The skill: a `.wasm` file, the folder of a skill (skill.wasm, skill.toml, SKILL.md), the
          source folder of a skill (Cargo.toml; it is built first), or an installed skill by name,
          name@version or digest (its first 8 digits will do). A path goes before a name, but a bare
          name of both a source folder and an installed skill is refused: `./NAME` is the folder,
          NAME@VERSION the other

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
          are read as JSON. A field that takes anything is a text, but for a list or an object. With
          KEY:=JSON the value is JSON in any case.

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
          of fuel, 64 MiB of memory, 10 s of wall time, 1 MiB of output. `run --dry-run` shows all
          that apply.
          
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
    skillhost run ./image-tools thumbnail --attach photo.jpg --arg width=64 \
        --out thumbnails
  Let it read a folder, and write to another one:
    skillhost run ./my-skill --dir notes --dir /tmp/result:/out:rw
  Let it fetch from one site:
    skillhost run ./fetch-page --http 'GET https://example.com' \
        --arg url=https://example.com/
  Set limits; the names for --limit are those in the output of --json:
    skillhost run ./my-skill --timeout 500ms --fuel 5M --limit handles=20
  See whether it would be admitted, and under which limits:
    skillhost run ./my-skill --dir notes --dry-run

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
           name@version or digest (its first 8 digits will do). A path goes before a name, but a
           bare name of both a source folder and an installed skill is refused: `./NAME` is the
           folder, NAME@VERSION the other

Options:
      --json  Print everything as JSON
  -h, --help  Print help (see more with '--help')

Examples:
  skillhost inspect text-stats
  skillhost inspect target/wasm32-wasip2/release/my_skill.wasm
  skillhost inspect ./my-skill --json | jq '.tools[].name'

Exit codes:
    0  it fits
    6  it cannot be found, built or loaded; what it imports is shown where that
       is known
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
           name@version or digest (its first 8 digits will do). A path goes before a name, but a
           bare name of both a source folder and an installed skill is refused: `./NAME` is the
           folder, NAME@VERSION the other

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
  <NAME[@VERSION]>  Which one: NAME, NAME@VERSION where there are several versions, or a digest, as
                    `list` shows it

Options:
  -h, --help  Print help (see more with '--help')

Examples:
  skillhost remove word-count
  skillhost remove word-count@0.1.0
--- stderr

"#]],
    );
}
