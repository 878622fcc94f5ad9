//! Help of the commands about jobs.

use snapbox::str;

use super::own;
use crate::harness::{Place, check};

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
  help      Print this message or the help of the given subcommand(s)

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

A job is named by its id, or by the end of it: at least 4 characters, looked for
among the last 10,000 jobs. Lists show the last 8.
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
    skillhost worker --queue nightly --queue reports \
        --database postgres://jobs@db.example/jobs

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
  retry   Set how jobs of a queue or tool are tried again that do not say so themselves
  help    Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

Examples:
  skillhost queues list
  skillhost queues pause nightly
  skillhost queues resume nightly
  At most two jobs of a tenant at once, and ten a minute of a skill, over all
  workers:
    skillhost queues bound --tenant acme --concurrency 2
    skillhost queues bound --skill fetch-page --rate 10/1m
  Twice as much for one tenant as for others:
    skillhost queues bound --tenant acme --weight 2
  Eight attempts at each job of a queue, with longer and longer delays:
    skillhost queues retry nightly --attempts 8 --base 1m --factor 2 --cap 1h
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
  show    Show a schedule: when it fires, and what it has done, with its input
  remove  Remove a schedule; jobs that it submitted stay
  help    Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

Examples:
  Each working day at nine in the morning, by the clock of Tokyo:
    skillhost schedules add morning '0 9 * * MON-FRI' --time-zone Asia/Tokyo \
        text-stats --arg text='to be'
  See what there is, and take one away:
    skillhost schedules list
    skillhost schedules show morning
    skillhost schedules remove morning
--- stderr

"#]],
    );
}

#[test]
fn bounds_and_retries() {
    let bound = Place::new().run(["queues", "bound", "--help"]);
    // A bucket that is full at first: what the first period can see is said.
    assert!(
        bound.contains("ten start at once, and then one every 6 s"),
        "{bound}"
    );
    let retry = Place::new().run(["queues", "retry", "--help"]);
    for flag in ["--attempts", "--base", "--factor", "--cap", "--jitter"] {
        assert!(retry.contains(flag), "{retry}");
    }
    // What is said to be set elsewhere can be.
    let submit = Place::new().run(["jobs", "submit", "--help"]);
    assert!(submit.contains("`queues retry`"), "{submit}");
}
