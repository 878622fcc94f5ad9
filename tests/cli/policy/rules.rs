//! Ceilings, rates and the like, as the command shows them and goes by them.

use snapbox::str;

use crate::harness::{Place, check, says};

const POLICY: &str = r#"
[general]
ceilings = { memory_bytes = "512MiB" }
concurrency = { at_once = 16, wait_ms = "20s" }

[each_tenant.rates]
per_hour = { at_most = 1000, burst = 200 }

[tenants.small]
ceilings.memory_bytes = "16MiB"
concurrency.weight = 3

[tenants.strict]
over_ceiling = "reject"
ceilings = { memory_bytes = "16MiB", wall_time_ms = "1s" }

[each_skill.breaker]

[skills.behaviours]
defaults.fuel = 5_000_000
rates.per_second = 5
"#;

fn place() -> Place {
    let place = Place::with_behaviours();
    place.write("home/policy.toml", POLICY);
    place
}

#[test]
fn they_are_shown() {
    let said = place().run(["policy", "show"]);
    let parts = [
        "exit: 0\n",
        "in general\n",
        "ceilings.memory_bytes",
        "512 MiB\n",
        "concurrency.at_once",
        "16\n",
        "concurrency.wait_ms",
        "20 s\n",
        "each tenant\n",
        "rates.per_hour.at_most",
        "1,000\n",
        "rates.per_hour.burst",
        "200\n",
        "tenant small\n",
        "16 MiB\n",
        "concurrency.weight",
        "3\n",
        "tenant strict\n",
        "over_ceiling",
        "reject\n",
        "each skill\n",
        "breaker",
        "by default\n",
        "behaviours\n",
        "defaults.fuel",
        "5,000,000\n",
        "rates.per_second",
        "5\n",
    ];
    says(&said, &parts);
    let said = place().run(["policy", "check"]);
    says(&said, &["exit: 0\n", "is sound"]);
}

/// What does not do what one could think: rules for a skill that is not there, and a ceiling above the general one.
#[test]
fn rules_without_effect_are_warned_of() {
    let place = Place::new();
    place.add_example("text-stats");
    let said = place.run(["install", "text-stats"]);
    says(&said, &["exit: 0\n"]);
    let policy = "general.ceilings = { memory_bytes = '512MiB', fuel = 5000 }\n\
                  tenants.acme.ceilings = { memory_bytes = '1GiB', fuel = 5000 }\n\
                  skills.text-stat.rates.per_second = 1\n";
    place.write("home/policy.toml", policy);
    says(
        &place.run(["policy", "check"]),
        &[
            "exit: 0\n",
            "warning: text-stat: its rules are about a skill that is not installed\n",
            "hint: did you mean `text-stats`?\n",
            "warning: tenant acme: `tenants.acme.ceilings.memory_bytes` of 1 GiB has no effect, as \
             `general.ceilings.memory_bytes` is 512 MiB\n",
            "hint: the lowest ceiling holds",
            "is sound, with no grants, and 2 warnings\n",
        ],
    );
    // Whoever checks a policy before it is put in place can have it that they count.
    let strict = place.run(["policy", "check", "--strict"]);
    says(&strict, &["exit: 3\n", "and 2 warnings\n"]);
    let json = place.output(["policy", "check", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(json["warnings"][0]["skill"], "text-stat", "{json}");
    assert_eq!(json["warnings"][1]["tenant"], "acme", "{json}");
    assert_eq!(json["warnings"][1]["kind"], "void", "{json}");
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(2), "{json}");
    place.write(
        "home/policy.toml",
        "general.ceilings.instances = 20000\neach_skill.ceilings.memory_bytes = '2GiB'\n",
    );
    says(
        &place.run(["policy", "check"]),
        &[
            "exit: 0\n",
            "warning: general: `general.ceilings.instances` of 20,000 instances has no effect, as no request gets more than 10,000 instances\n",
            "hint: the host's own ceiling is lower",
            "warning: each_skill: `each_skill.ceilings.memory_bytes` of 2 GiB has no effect, as no request gets more than 1 GiB\n",
            "is sound",
        ],
    );
    // Nobody gets what is granted to a name that is misspelt, and there is nothing to confirm.
    place.write(
        "home/policy.toml",
        "skills.text-stat.grants.storage = true\n",
    );
    says(
        &place.run(["policy", "check"]),
        &[
            "exit: 3\n",
            "found: text-stat: no digest is confirmed, and no skill of this name is installed",
            "hint: did you mean `text-stats`?\n",
        ],
    );
}

/// A rule that denies a tool whose name is misspelt denies nothing.
#[test]
fn a_rule_about_a_tool_that_is_not_there_is_warned_of() {
    let place = Place::new();
    place.add_example("notes");
    says(&place.run(["install", "notes"]), &["exit: 0\n"]);
    place.write(
        "rules.toml",
        r#"
[[approval.rules]]
skill = "notes"
tool = "remov"
action = "deny"

[[approval.rules]]
name = "far off"
skill = "notes"
tool = "burn_all"
action = "deny"

[[approval.rules]]
skill = "notes"
tool = "rem*"
action = "deny"

[[approval.rules]]
skill = "notes"
tool = "remove"
action = "deny"

[[approval.rules]]
tool = "remov"
action = "deny"

[[approval.rules]]
skill = "no*"
tool = "burn_all"
action = "deny"

[[approval.rules]]
skill = "other*"
tool = "burn_all"
action = "deny"

[[approval.rules]]
tool = "remove"
action = "deny"
"#,
    );
    let said = place.run(["--policy", "rules.toml", "policy", "check"]);
    says(
        &said,
        &[
            "exit: 0\n",
            "warning: notes: approval rule 1 is about a tool `remov`, which no installed version of it has\n",
            "hint: did you mean `remove`?\n",
            "warning: notes: approval rule 2 (far off) is about a tool `burn_all`, which",
            "hint: `skillhost --policy rules.toml inspect notes` shows which it has\n",
            "warning: approval: approval rule 5 is about a tool `remov`, which no skill that is installed has\n  hint: did \
             you mean `remove`?\n",
            "warning: approval: approval rule 6 is about a tool `burn_all`, which no skill that is installed whose name begins \
             with `no` has\n  hint: \
             `skillhost list` shows what is\n",
            "is sound",
        ],
    );
    assert_eq!(said.matches("warning: ").count(), 4, "{said}");
    // Pasted, the command of a hint acts on the same policy.
    let json = place
        .output(["--policy", "rules.toml", "policy", "check", "--json"])
        .stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(json["warnings"][0]["kind"], "absent", "{json}");
    assert_eq!(
        json["warnings"][1]["hint"],
        "`skillhost --policy rules.toml inspect notes` shows which it has",
        "{json}"
    );
}

/// With a secret that has no value nothing is run, and one for requests that are not granted is never used.
#[test]
fn secrets_that_are_of_no_use_are_warned_of() {
    let place = Place::new();
    place.add_example("fetch-page");
    says(&place.run(["install", "fetch-page"]), &["exit: 0\n"]);
    let secret = "token=authorization:Bearer@https://a.example";
    let grant = ["policy", "grant", "fetch-page", "--secret", secret];
    let no_value = [
        "the secret `token` is granted and cannot be had, so that no request is admitted: no secret of this name \
         is kept\n",
        "hint: keep its value with `skillhost secrets set token`, or say in the policy where it comes from, under \
         `[secrets]`: `token = \"env:VARIABLE\"`\n",
    ];
    let no_request = [
        "the secret `token` is granted for `https://a.example/`, and no such request is granted: it goes nowhere\n",
        "hint: grant the requests: `skillhost policy grant fetch-page --http 'GET https://a.example/'`\n",
    ];
    let said = place.run(grant);
    says(&said, &["exit: 0\n", "✓ fetch-page@"]);
    says(&said, &no_value);
    says(&said, &no_request);
    let said = place.run(["policy", "check"]);
    says(&said, &["exit: 0\n", "warning: fetch-page: "]);
    says(&said, &no_value);
    says(&said, &no_request);
    says(&said, &["is sound"]);
    let kept = place.run_with_stdin(["secrets", "set", "token"], b"value-of-the-token");
    says(&kept, &["exit: 0\n"]);
    let run = |more: &[&str]| {
        let run = ["run", "fetch-page", "--arg", "url=https://a.example/"];
        let once = ["--no-policy", "--dry-run", "--secret", secret];
        let output = place.command([]).args(run).args(once).args(more).output();
        place.said(&output.expect("the command starts"))
    };
    let nowhere =
        "no such request is granted: it goes nowhere; `--http https://a.example/` grants it\n";
    says(&run(&[]), &[nowhere]);
    let http = ["--http", "GET https://a.example/"];
    let granted = run(&http);
    says(&granted, &["exit: 0\n"]);
    assert!(!granted.contains("goes nowhere"), "{granted}");
    let said = place.run(["policy", "grant", "fetch-page", http[0], http[1]]);
    says(&said, &["exit: 0\n"]);
    let said = place.run(["policy", "check"]);
    assert!(!said.contains("warning"), "{said}");
    // The policy says where it comes from, and there it is not.
    let mut policy = place.read("home/policy.toml");
    policy.push_str("\n[secrets]\ntoken = \"env:NOPE\"\n");
    place.write("home/policy.toml", policy);
    says(
        &place.run(["policy", "check"]),
        &[
            "exit: 0\n",
            "warning: fetch-page: the secret `token` is granted and cannot be had, so that no request is admitted: \
             the environment variable `NOPE` of the host, which it comes from, is not set\n",
            "hint: set `NOPE` where the host runs\n",
            "is sound",
        ],
    );
}

#[test]
fn what_is_clamped_is_said() {
    let echo = |tenant| {
        place().run([
            "run",
            "behaviours.wasm",
            "echo",
            "--memory",
            "64MiB",
            "--tenant",
            tenant,
        ])
    };
    let said = echo("large");
    says(&said, &["exit: 0\n", "✓ behaviours 1.2.3 · echo"]);
    assert!(!said.contains("clamped"), "{said}");
    let warning = "warning: memory_bytes of 64 MiB is more than \
        `tenants.small.ceilings.memory_bytes` allows; the most is 16 MiB\n";
    says(&echo("small"), &["exit: 0\n", warning, "✓ behaviours"]);
    let refused = "error: not admitted: memory_bytes of 64 MiB is more than \
        `tenants.strict.ceilings.memory_bytes` allows; 16 MiB is the most\n";
    says(
        &echo("strict"),
        &["exit: 3\n", refused, "hint: ", "rejected"],
    );
}

/// Where a ceiling holds a limit, more cannot be asked for: the hint says which it is and where it stands,
/// whether or not more was asked for.
#[test]
fn a_limit_that_a_ceiling_holds_is_not_to_be_raised() {
    let policy = "[tenants.guest]\nceilings = { fuel = 10_000, wall_time_ms = 20 }\n\
                  [skills.behaviours]\nceilings = { output_bytes = 100 }\n";
    let place = Place::with_behaviours();
    place.write("home/policy.toml", policy);
    let run = |args: &[&str]| {
        let run = ["run", "behaviours.wasm"];
        let output = place.command([]).args(run).args(args).output();
        place.said(&output.expect("the command starts"))
    };
    let of = |rule: &str| {
        format!(
            "hint: `{rule}` in the policy `[PLACE]/home/policy.toml` allows no more: give it less to do, or \
             raise that\n"
        )
    };
    for args in [
        &["spin", "--tenant", "guest"][..],
        &["spin", "--tenant", "guest", "--fuel", "10G"],
        &["spin", "--tenant", "guest", "--fuel", "10000"],
    ] {
        let said = run(args);
        says(&said, &["exit: 4\n", &of("tenants.guest.ceilings.fuel")]);
        assert!(!said.contains("--fuel"), "{said}");
    }
    let said = run(&["wait_for_ever", "--tenant", "guest"]);
    says(
        &said,
        &["exit: 5\n", &of("tenants.guest.ceilings.wall_time_ms")],
    );
    let said = run(&["answer_large", "-i", r#"{"bytes": 500}"#]);
    says(
        &said,
        &["exit: 4\n", &of("skills.behaviours.ceilings.output_bytes")],
    );
    // One that is lower than the ceiling can be raised, up to that.
    let said = run(&["spin", "--tenant", "guest", "--fuel", "5000"]);
    says(
        &said,
        &["exit: 4\n", "hint: raise the limit with `--fuel N`"],
    );
    let said = run(&["spin", "--tenant", "guest", "--no-policy", "--fuel", "5M"]);
    says(
        &said,
        &["exit: 4\n", "hint: raise the limit with `--fuel N`"],
    );
    // A program is told, too.
    let json = run(&["spin", "--tenant", "guest", "--json"]);
    says(
        &json,
        &[
            "by `tenants.guest.ceilings.fuel`",
            "\"rule\":\"tenants.guest.ceilings.fuel\"",
        ],
    );
}

/// The host's own ceiling is nobody's to raise.
#[test]
fn the_most_that_the_host_allows_is_not_to_be_raised() {
    let place = Place::with_behaviours();
    let said = place.run([
        "run",
        "behaviours.wasm",
        "answer_large",
        "-i",
        r#"{"bytes": 70000000}"#,
        "--output-limit=1GiB",
        "--memory=1GiB",
        "--limit=host_bytes=64MiB",
    ]);
    says(
        &said,
        &[
            "exit: 4\n",
            "hint: this is the most that this host allows: give it less to do\n",
        ],
    );
    assert!(!said.contains("raise the limit"), "{said}");
}

/// What the policy says of one tenant does not hold for another that is spelt almost so.
#[test]
fn a_misspelt_tenant_is_noticed() {
    let place = place();
    let warning = "warning: the policy says nothing of the tenant `smal`; did you mean `small`?\n";
    for (args, is_misspelt) in [
        (["run", "behaviours.wasm", "echo", "--tenant", "smal"], true),
        (
            ["run", "behaviours.wasm", "echo", "--tenant", "small"],
            false,
        ),
        (
            ["run", "behaviours.wasm", "echo", "--tenant", "nobody"],
            false,
        ),
        (
            ["run", "behaviours.wasm", "echo", "--tenant=smal", "-q"],
            false,
        ),
    ] {
        let said = place.run(args);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        assert_eq!(said.contains(warning), is_misspelt, "{args:?}: {said}");
    }
    let said = place.run(["jobs", "submit", "behaviours.wasm", "echo", "--tenant=smal"]);
    assert!(said.contains(warning), "{said}");
    let said = place.run(["tokens", "create", "--tenant=smal", "--scope=jobs"]);
    assert!(said.contains(warning), "{said}");
}

#[test]
fn a_dry_run_says_it_too() {
    let said = place().run([
        "run",
        "behaviours.wasm",
        "echo",
        "--memory",
        "64MiB",
        "--tenant",
        "small",
        "--dry-run",
    ]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains("  memory_bytes         16 MiB\n"), "{said}");
    assert!(
        said.contains("  fuel                 5,000,000\n"),
        "{said}"
    );
    let line = "  memory_bytes of 64 MiB is more than `tenants.small.ceilings.memory_bytes` allows; \
        the most is 16 MiB\n";
    assert!(said.contains(line), "{said}");
}

#[test]
fn a_program_reads_it() {
    let output = place().output([
        "run",
        "behaviours.wasm",
        "echo",
        "--memory",
        "64MiB",
        "--tenant",
        "small",
        "--json",
    ]);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        result["clamped"],
        serde_json::json!([{
            "limit": "memory_bytes", "asked": 64 << 20, "allowed": 16 << 20,
            "rule": "tenants.small.ceilings.memory_bytes",
        }])
    );
    let output = place().output([
        "run",
        "behaviours.wasm",
        "echo",
        "--memory",
        "64MiB",
        "--tenant",
        "strict",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(3));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["failure"]["reason"], "ceiling");
    assert_eq!(
        result["failure"]["rule"],
        "tenants.strict.ceilings.memory_bytes"
    );
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let place = place();
    place.write("home/policy.toml", "[general.rates]\n\nper_day = 1\n");
    let said = place.run(["policy", "check"]);
    says(&said, &["exit: 2\n", "line 3", "unknown field `per_day`"]);
    place.write(
        "home/policy.toml",
        "[general]\n\nconcurrency = { at_once = 0 }\n",
    );
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy `[PLACE]/home/policy.toml`, line 3: general.concurrency.at_once: the least is 1, and it is 0
hint: write 1 or more

"#]],
    );
}

#[test]
fn without_the_policy_nothing_of_it_holds() {
    let said = place().run([
        "run",
        "behaviours.wasm",
        "echo",
        "--memory",
        "64MiB",
        "--tenant",
        "strict",
        "--no-policy",
    ]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

/// A job over a ceiling is refused when it is submitted, as `run` would refuse it.
#[test]
fn a_job_over_a_ceiling_is_not_submitted() {
    let said = place().run([
        "jobs",
        "submit",
        "behaviours.wasm",
        "echo",
        "--memory",
        "64MiB",
        "--tenant",
        "strict",
    ]);
    let refused = "is more than `tenants.strict.ceilings.memory_bytes` allows";
    says(&said, &["exit: 3\n", refused]);
}

/// Of two jobs, one may start in an hour: the other goes back, with no attempt used up.
#[test]
fn a_job_that_is_rejected_for_now_goes_back_to_the_queue() {
    let place = Place::with_behaviours();
    place.write("home/policy.toml", "general.rates.per_hour = 1\n");
    for _ in 0..2 {
        let output = place.output(["jobs", "submit", "behaviours.wasm", "echo"]);
        assert!(output.status.success(), "{}", place.said(&output));
    }
    let said = place.run(["worker", "--until-empty", "--concurrency", "1"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains("1 job completed"), "{said}");
    let output = place.output(["jobs", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let jobs = listed["jobs"].as_array().or(listed.as_array()).unwrap();
    let back = jobs.iter().find(|job| job["status"] == "pending");
    let back = back.unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(back["attempts"], 0, "{back}");
    assert_eq!(back["cause"], "rate", "{back}");
}

/// Who executes for others says what it leaves out with the policy, and does not leave out what nobody
/// should come past.
#[test]
fn without_the_policy_who_executes_for_others_says_so() {
    let place = place();
    let without = ["worker", "--until-empty", "--no-policy"];
    says(
        &place.run(without),
        &["exit: 0\n", "warning: the policy is left out"],
    );
    for (text, what) in [
        ("[audit]\nrequired = true\n", "an audit that is required"),
        (
            "[[approval.rules]]\naction = \"ask\"\n",
            "rules of approval, which `--no-policy` would leave out",
        ),
    ] {
        place.write("home/policy.toml", text);
        says(&place.run(without), &["exit: 2\n", what, "--policy FILE"]);
        says(&place.run(["serve", "--no-policy"]), &["exit: 2\n", what]);
        says(&place.run(["mcp", "--no-policy"]), &["exit: 2\n", what]);
    }
    let nothing = place.run(["worker", "--until-empty"]);
    says(&nothing, &["exit: 0\n"]);
    assert!(!nothing.contains("left out"), "{nothing}");
}

/// What a skill wishes for itself past what it may have is said, whether or not the policy speaks of limits.
#[test]
fn a_wish_for_more_of_the_hosts_time_is_said_to_be_cut() {
    let place = Place::with_behaviours();
    std::fs::create_dir_all(place.path("wishes")).expect("a folder can be made");
    let component = std::fs::read(place.path("behaviours.wasm")).expect("it is there");
    std::fs::write(place.path("wishes/skill.wasm"), component).expect("it can be written");
    place.write("wishes/skill.toml", "[limits]\nhost_bytes = \"64MiB\"\n");
    let call = ["run", "wishes", "echo", "--arg", "text=a", "--json"];
    for policy in ["", POLICY] {
        place.write("home/policy.toml", policy);
        let output = place.output(call);
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert_eq!(result["status"], "success", "{result}");
        assert_eq!(result["limits"]["host_bytes"], 4 << 20, "{result}");
        let cut = serde_json::json!([{
            "limit": "host_bytes",
            "asked": 64 << 20,
            "allowed": 4 << 20,
            "rule": "default",
        }]);
        assert_eq!(result["clamped"], cut, "{policy}");
    }
    says(
        &place.run(["run", "wishes", "echo", "--arg", "text=a"]),
        &[
            "warning: host_bytes of 64 MiB, which the skill's skill.toml has, is more than a skill gets for \
           itself; the most is 4 MiB\n",
        ],
    ); // Of each that is cut, by whatever rule.
    place.write(
        "wishes/skill.toml",
        "[limits]\nhost_bytes = \"64MiB\"\nmemory_bytes = \"8GiB\"\n",
    );
    place.write("home/policy.toml", "");
    says(
        &place.run(["run", "wishes", "echo", "--arg", "text=a"]),
        &[
            "warning: memory_bytes of 8 GiB is more than this host allows; the most is 1 GiB\n",
            "warning: host_bytes of 64 MiB, which the skill's skill.toml has, is more than",
            "2 limits clamped",
        ],
    );
}

/// Whoever denies all denies those without a tenant, too; whoever lets tenants run lets none but those.
#[test]
fn all_tenants_and_none_of_them() {
    let place = Place::with_text_stats();
    let run = |tenant: &[&str]| {
        let mut command = place.command(["run", "text-stats", "--arg", "text=a"]);
        place.said(&command.args(tenant).output().expect("the command starts"))
    };
    let denied = "[[approval.rules]]\ntenant = \"*\"\naction = \"deny\"\n";
    place.write("home/policy.toml", denied);
    for tenant in [&[][..], &["--tenant", "acme"]] {
        let said = run(tenant);
        assert!(said.starts_with("exit: 3\n"), "{tenant:?}: {said}");
    }
    let allowed = denied.replace("deny", "allow") + "[[approval.rules]]\naction = \"deny\"\n";
    place.write("home/policy.toml", allowed);
    assert!(run(&[]).starts_with("exit: 3\n"));
    assert!(run(&["--tenant", "acme"]).starts_with("exit: 0\n"));
    place.write("home/policy.toml", denied.replace('*', "a*"));
    assert!(run(&[]).starts_with("exit: 0\n"));
}

/// What would bound nobody is no bound.
#[test]
fn a_tenant_with_a_star_is_refused() {
    let place = Place::with_text_stats();
    place.write(
        "home/policy.toml",
        "[tenants.\"a*\"]\nceilings = { fuel = 10 }\n",
    );
    let said = place.run(["policy", "check"]);
    assert!(said.starts_with("exit: 2\n"), "{said}");
    assert!(
        said.contains("line 1: tenants.a*: a tenant stands here by its whole name"),
        "{said}"
    );
}

/// A method that HTTP does not have is warned of where it is like one that it has: a server may know any.
#[test]
fn a_method_that_seems_misspelt_is_warned_of() {
    let place = Place::with_behaviours();
    for (methods, warning) in [
        (
            "GTE",
            Some("grants the method `GTE`, which HTTP does not have\n  hint: did you mean `GET`?"),
        ),
        (
            "GET,POTS",
            Some(
                "grants the method `POTS`, which HTTP does not have\n  hint: did you mean `POST`?",
            ),
        ),
        ("PURGE", None),
        ("GET", None),
    ] {
        let _ = std::fs::remove_file(place.path("home/policy.toml"));
        let grant = format!("{methods} https://a.example");
        let granted = place.run(["policy", "grant", "behaviours.wasm", "--http", &grant]);
        assert!(granted.starts_with("exit: 0\n"), "{granted}");
        let checked = place.run(["policy", "check", "--strict"]);
        let code = if warning.is_some() {
            "exit: 3\n"
        } else {
            "exit: 0\n"
        };
        assert!(checked.starts_with(code), "{checked}");
        for said in [granted, checked] {
            assert_eq!(
                said.contains("which HTTP does not have"),
                warning.is_some(),
                "{said}"
            );
            assert!(said.contains(warning.unwrap_or_default()), "{said}");
        }
    }
}

/// Where the skill does not declare it because it is misspelt, that is said.
#[test]
fn a_method_that_is_misspelt_and_so_not_declared_is_told() {
    let place = Place::new();
    place.add_example("fetch-page");
    let said = |grant: &str| place.run(["policy", "grant", "fetch-page", "--http", grant]);
    let misspelt = said("GTE https://a.example");
    crate::harness::says(
        &misspelt,
        &[
            "exit: 3\n",
            "granted, but not declared by the skill",
            "hint: `GTE https://a.example/` grants the method `GTE`, which HTTP does not have; did you mean `GET`?\n",
        ],
    );
    let other = said("POST https://a.example");
    assert!(other.starts_with("exit: 3\n"), "{other}");
    assert!(!other.contains("which HTTP does not have"), "{other}");
}

/// Addresses that let each name lead anywhere are warned of, where they are granted and where they stand.
#[test]
fn addresses_that_name_nothing_are_warned_of() {
    let place = Place::with_behaviours();
    for (address, is_wide) in [
        ("0.0.0.0/0", true),
        ("::/0", true),
        ("128.0.0.0/1", true),
        ("10.0.0.0/8", false),
        ("fc00::/7", false),
        ("127.0.0.1", false),
    ] {
        let _ = std::fs::remove_file(place.path("home/policy.toml"));
        let said = place.run(["policy", "grant", "behaviours.wasm", "--address", address]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        let warning = match address {
            "128.0.0.0/1" => "are granted: every granted name may lead to addresses that are not",
            _ => {
                "are granted: every granted name may lead to this machine's loopback, addresses that"
            }
        };
        assert_eq!(said.contains(warning), is_wide, "{address}: {said}");
        let said = place.run(["policy", "check", "--strict"]);
        assert_eq!(said.starts_with("exit: 3\n"), is_wide, "{address}: {said}");
        assert_eq!(said.contains(warning), is_wide, "{address}: {said}");
    }
}
