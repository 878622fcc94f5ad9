//! What changes the policy file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use snapbox::str;

use super::{by_hand, confirm_as_told, granted, with_data};
use crate::harness::{Place, check, says};

/// What would not be read is not written.
#[test]
fn no_policy_is_made_where_others_could_replace_it() {
    let place = with_data();
    fs::create_dir_all(place.path("home")).expect("it can be made");
    let shared = Permissions::from_mode(0o770);
    fs::set_permissions(place.path("home"), shared).expect("they can be set");
    let args = ["policy", "grant", "csv-query", "--dir", "data:/data"];
    check(
        place.run(args),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy `[PLACE]/home/policy.toml`: the folder that it is in can be written by others (mode 770), who could grant anything
hint: close it to them: `chmod go-w [PLACE]/home`

"#]],
    );
    let left = fs::read_dir(place.path("home")).expect("it is there");
    let left: Vec<_> = left
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with("policy")),
        "{left:?}"
    );
    let closed = Permissions::from_mode(0o750);
    fs::set_permissions(place.path("home"), closed).expect("they can be set");
    let said = place.run(args);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

/// A grant that takes another's place says which: it may have been another folder by mistake.
#[test]
fn what_a_grant_replaces_is_said() {
    let place = granted();
    fs::create_dir(place.path("other")).expect("it can be made");
    let grant = ["policy", "grant", "csv-query", "--dir", "other:/data"];
    let expected = str![[r#"
exit: 0
--- stdout
--- stderr
✓ csv-query@0.1.0 is now granted, in `[PLACE]/home/policy.toml`:
  directory  /data  ro  from [PLACE]/other
in place of:
  directory  /data  ro  from [PLACE]/data

"#]];
    check(place.run(grant), expected);
    for args in [
        grant,
        ["policy", "grant", "csv-query", "--config", "max_rows=1"],
    ] {
        let said = place.run(args);
        assert!(!said.contains("in place of"), "{said}");
    }
}

#[test]
fn what_is_not_declared_cannot_be_granted() {
    let place = with_data();
    check(
        place.run([
            "policy",
            "grant",
            "csv-query",
            "--config",
            "max_row=1",
            "--env",
            "A=b",
        ]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: cannot be granted: environment `A`: granted, but not declared by the skill
  config `max_row`: granted, but not declared by the skill
hint: the skill's skill.toml declares no environment: leave it out, or add `environment = ["A"]` to `[grants]` there
hint: did you mean `max_rows`?

"#]],
    );
    check(
        place.run(["policy", "grant", "csv-query", "--config", "max_rows=many"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: cannot be granted: config `max_rows`: `many` is not of type integer
hint: give `max_rows` a value of type integer

"#]],
    );
    check(
        place.run(["policy", "grant", "csv-query", "--dir", "nowhere"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `nowhere` is not a folder that is there
hint: grant a directory that exists and that this user may read

"#]],
    );
    check(
        place.run(["policy", "grant", "csv-query"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: nothing is named that is to be granted
hint: `skillhost policy show csv-query` lists what the skill wants, and how to grant it

"#]],
    );
    check(
        place.run(["policy", "confirm", "csv-query"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy grants nothing to `csv-query`
hint: `skillhost policy grant csv-query --help` says how to grant, which confirms in one go

"#]],
    );
    assert!(!place.path("home/policy.toml").exists());
}

#[test]
fn what_is_granted_can_be_taken_back() {
    let place = granted();
    check(
        place.run(["policy", "revoke", "csv-query", "max_row"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy does not grant `max_row` to `csv-query`
hint: did you mean `max_rows`?

"#]],
    );
    // All that it names is there, or nothing is taken.
    let before = place.read("home/policy.toml");
    check(
        place.run([
            "policy",
            "revoke",
            "csv-query",
            "max_rows",
            "/data",
            "other",
        ]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy does not grant `other` to `csv-query`
hint: it grants: max_rows, /data

"#]],
    );
    assert_eq!(place.read("home/policy.toml"), before);
    // As it was granted.
    let said = place.run(["policy", "revoke", "csv-query", "--config", "max_rows=5"]);
    assert!(
        said.contains("hint: did you mean `--config max_rows`?"),
        "{said}"
    );
    // Of another kind than it is, or than there is any.
    let said = place.run(["policy", "revoke", "csv-query", "--env", "max_rows"]);
    assert!(
        said.contains("it is granted as another kind: `--config max_rows`"),
        "{said}"
    );
    let said = place.run(["policy", "revoke", "csv-query", "--env", "TZ"]);
    assert!(
        said.contains("hint: it grants: max_rows, /data\n"),
        "{said}"
    );
    check(
        place.run(["policy", "revoke", "csv-query"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: it is not said what is taken from `csv-query`
hint: name it as `skillhost policy show csv-query` lists it; `--all` takes everything back

"#]],
    );
    check(
        place.run(["policy", "revoke", "csv-quer", "--all"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy `[PLACE]/home/policy.toml` says nothing of `csv-quer`
hint: did you mean `csv-query`?

"#]],
    );
    check(
        place.run(["policy", "revoke", "./csv-query", "--all"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy `[PLACE]/home/policy.toml` says nothing of `./csv-query`
hint: did you mean `csv-query`?

"#]],
    );
    check(
        place.run(["policy", "revoke", "/elsewhere/a-skill@1.0.0", "--all"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy `[PLACE]/home/policy.toml` says nothing of `/elsewhere/a-skill@1.0.0`
hint: it is the skill's name alone that stands here; `skillhost policy show` lists all that it has

"#]],
    );
    check(
        place.run(["policy", "revoke", "csv-query", "max_rows"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ taken from csv-query: max_rows

"#]],
    );
    let policy = place.read("home/policy.toml");
    assert!(!policy.contains("max_rows = \"1\""), "{policy}");
    check(
        place.run(["policy", "revoke", "csv-query", "--all"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ taken from csv-query: everything

"#]],
    );
    // An empty one would change nothing for whoever has read more.
    check(
        place.read("home/policy.toml"),
        str![[r#"
# Nothing is granted. Running processes go by this line; an empty file would change nothing for them.

"#]],
    );
    place.write("home/policy.toml", "[skills.csv-query]\n");
    check(
        place.run(["policy", "revoke", "csv-query", "max_rows"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy does not grant `max_rows` to `csv-query`
hint: it grants nothing to it; `skillhost policy revoke csv-query --all` takes the confirmations away, too

"#]],
    );
}

/// A secret by its name, where that is all it takes to tell it; and what is listed can be pasted.
#[test]
fn a_secret_is_taken_back_by_its_name() {
    let place = Place::new();
    place.add_example("fetch-page");
    for [flag, grant] in [
        ["--http", "GET https://a.example/"],
        ["--secret", "token=authorization:Bearer@https://a.example"],
        ["--secret", "token=authorization:Bearer@https://b.example"],
    ] {
        let said = place.run(["policy", "grant", "fetch-page", flag, grant]);
        assert!(said.starts_with("exit: 0\n"), "{flag} {grant}: {said}");
    }
    let revoke = |subject| place.run(["policy", "revoke", "fetch-page", subject]);
    check(
        revoke("other"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy does not grant `other` to `fetch-page`
hint: it grants: 'GET https://a.example/', token=authorization:Bearer@https://a.example/, token=authorization:Bearer@https://b.example/

"#]],
    );
    check(
        revoke("token"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy grants the secret `token` to `fetch-page` more than once
hint: say which: token=authorization:Bearer@https://a.example/, token=authorization:Bearer@https://b.example/

"#]],
    );
    let said = revoke("token=authorization:Bearer@https://a.example/");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    check(
        revoke("token"),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ taken from fetch-page: token=authorization:Bearer@https://b.example/

"#]],
    );
    check(
        revoke("GET https://a.exampl"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy does not grant `GET https://a.exampl` to `fetch-page`
hint: did you mean `'GET https://a.example/'`?

"#]],
    );
    // What it declares is still there, in what was consented to.
    let policy = place.read("home/policy.toml");
    assert!(!policy.contains("Bearer@https://a.example/"), "{policy}");
    assert!(!policy.contains("Bearer@https://b.example/"), "{policy}");
    // With the last of them goes the consent, and it says so. As it was typed when it was granted, it is found, too.
    check(
        revoke("GET https://a.example"),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ taken from fetch-page: GET https://a.example/; that was all it was granted, and the confirmations are taken away, too

"#]],
    );
}

#[test]
fn several_at_once_lose_nothing() {
    const SEVERAL: usize = 8;
    let place = Place::with_text_stats();
    let names: Vec<String> = (0..SEVERAL).map(|n| format!("\"A{n}\"")).collect();
    place.write(
        "text-stats/skill.toml",
        format!("grants.environment = [{}]", names.join(", ")),
    );
    // So that they do not wait for each other to compile it.
    place.run(["inspect", "text-stats"]);
    let children: Vec<_> = (0..SEVERAL)
        .map(|n| {
            place
                .command(["policy", "grant", "text-stats"])
                .args(["--env", &format!("A{n}={n}")])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the command starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("the command ends");
        assert!(output.status.success(), "{}", place.said(&output));
    }
    let output = place.output(["policy", "show", "text-stats", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let variables = json["grants"]["environment"].as_object().expect("a table");
    assert_eq!(variables.len(), SEVERAL, "{json}");
    assert_eq!(json["consent"], "given");
}

#[test]
fn a_link_stays_a_link_and_comments_stay() {
    let place = with_data();
    place.write("dotfiles/policy.toml", "# Mine.\n\n[skills] # all\n");
    fs::set_permissions(
        place.path("dotfiles/policy.toml"),
        Permissions::from_mode(0o640),
    )
    .expect("a mode can be set");
    let link = place.path("home/policy.toml");
    std::os::unix::fs::symlink("../dotfiles/policy.toml", &link).expect("a link can be made");
    let said = place.run(["policy", "grant", "csv-query", "--config", "max_rows=1"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let written = place.read("dotfiles/policy.toml");
    assert!(
        written.starts_with("# Mine.\n\n[skills] # all\n"),
        "{written}"
    );
    assert!(written.contains("max_rows"), "{written}");
    assert!(link.is_symlink());
    let metadata = fs::metadata(&link).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
}

/// What has the text of an address, and of a page at a site's usual port, reads as a directory as well.
#[test]
fn each_kind_of_grant_is_written_as_it_was_meant() {
    let place = Place::with_behaviours();
    place.write("data/a.txt", "");
    let grants = [
        ["--http", "GET https://example.com/"],
        ["--http", "GET https://*.example.com/api"],
        ["--http", "*://example.org/"],
        ["--http", "http://127.0.0.1/"],
        ["--http", "https://example.com:8443/x"],
        ["--address", "127.0.0.1"],
        ["--address", "10.1.0.0/16"],
        ["--socket", "tcp://192.0.2.1:7"],
        ["--env", "LANG=C"],
        ["--config", "a=b:c:ro"],
        ["--dir", "data:/data:rw"],
    ];
    for [flag, grant] in grants {
        let said = place.run(["policy", "grant", "behaviours.wasm", flag, grant]);
        assert!(said.starts_with("exit: 0\n"), "{flag} {grant}: {said}");
    }
    let policy: toml::Table = place.read("home/policy.toml").parse().expect("it is TOML");
    let granted = &policy["skills"]["behaviours"]["grants"];
    let texts = |field: &str| {
        let list = granted[field].as_array().expect("it is a list");
        let texts = list.iter().map(|one| one.as_str().expect("it is a text"));
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        texts("http"),
        [
            "GET https://example.com/",
            "GET https://*.example.com/api",
            "*://example.org/",
            "http://127.0.0.1/",
            "https://example.com:8443/x",
        ]
    );
    assert_eq!(texts("addresses"), ["127.0.0.1", "10.1.0.0/16"]);
    assert_eq!(texts("sockets"), ["tcp://192.0.2.1:7"]);
    assert_eq!(granted["environment"]["LANG"].as_str(), Some("C"));
    assert_eq!(granted["config"]["a"].as_str(), Some("b:c:ro"));
    assert_eq!(granted["directories"].as_array().map(Vec::len), Some(1));
}

/// What the host never opens is not granted, and found where it stands in the policy all the same.
#[test]
fn the_hosts_own_folders_are_not_granted() {
    let place = with_data();
    for (folder, why) in [
        ("home", "`[PLACE]/home` is the host's own\n"),
        (".", " contains `[PLACE]/home`, which is the host's own\n"),
        (
            "home/skills",
            " lies in `[PLACE]/home`, which is the host's own\n",
        ),
    ] {
        fs::create_dir_all(place.path(folder)).expect("a folder can be made");
        let grant = format!("{folder}:/data");
        let said = place.run(["policy", "grant", "csv-query", "--dir", &grant]);
        assert!(
            said.starts_with(
                "exit: 3\n--- stdout\n--- stderr\nerror: cannot be granted: directory `/data`: "
            ),
            "{said}"
        );
        assert!(said.contains(why), "{said}");
        assert!(said.contains("hint: grant a directory beside it"), "{said}");
        assert!(!place.path("home/policy.toml").exists());
    }
    // Where the queue is kept is one of them.
    fs::create_dir_all(place.path("jobs")).expect("a folder can be made");
    let kept = |args: [&str; 5]| {
        let mut command = place.command(args);
        command.env("SKILLHOST_DATABASE", place.path("jobs/queue.db"));
        place.said(&command.output().expect("the command starts"))
    };
    let said = kept(["policy", "grant", "csv-query", "--dir", "jobs:/data"]);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    assert!(said.contains("which is the host's own"), "{said}");
    let place = granted();
    let policy = place
        .read("home/policy.toml")
        .replace("/data:/data", ":/data");
    place.write("home/policy.toml", policy);
    let said = place.run(["policy", "check"]);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    assert!(
        said.contains("found: csv-query: directory `/data`: `[PLACE]` contains `[PLACE]/home"),
        "{said}"
    );
    assert!(
        said.contains("to take it out: `skillhost policy revoke csv-query /data`"),
        "{said}"
    );
}

/// The narrower of what is declared and granted is what holds, which is said where that is not what was
/// granted.
#[test]
fn a_mode_that_is_not_declared_has_no_effect() {
    let place = with_data();
    let warning = "`/data` is granted to be written, and the skill's skill.toml declares it `ro`: it is \
                   opened for reading only\n";
    let grant = |mode: &str| {
        let dir = format!("--dir=data:/data:{mode}");
        place.run(["policy", "grant", "csv-query", &dir])
    };
    let said = grant("rw");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains(&format!("warning: {warning}")), "{said}");
    let said = place.run(["policy", "check"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(
        said.contains(&format!("warning: csv-query: {warning}")),
        "{said}"
    );
    let json = place.output(["policy", "check", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(json["sound"], true, "{json}");
    assert_eq!(json["warnings"][0]["kind"], "wider", "{json}");
    let said = grant("ro");
    assert!(!said.contains("warning"), "{said}");
    let said = place.run(["policy", "check"]);
    assert!(!said.contains("warning"), "{said}");
}

/// What a hint says to write by hand does what the command does.
#[test]
fn what_a_hint_says_can_be_pasted() {
    let place = with_data();
    let query = ["run", "csv-query", "query", "--arg", "path=/data/a.csv"];
    let output = place.output(query);
    let said = String::from_utf8(output.stderr).expect("it is UTF-8");
    let [table, line, confirm] = by_hand(&said);
    let line = line.replace(
        "<HOST>:<GUEST>",
        &format!("{}:/data", place.path("data").display()),
    );
    place.write("home/policy.toml", format!("{table}\n{line}\n"));
    let said = place.run(query);
    assert!(
        said.starts_with("exit: 3\n"),
        "it is to be confirmed: {said}"
    );
    confirm_as_told(&place, confirm);
    let said = place.run(query);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

/// Lines end as they did, however that is.
#[test]
fn a_policy_from_another_system_stays_one() {
    let place = Place::with_behaviours();
    place.write(
        "home/policy.toml",
        "# Mine.\r\n[general.ceilings]\r\nfuel = 1_000_000\r\n",
    );
    let said = place.run(["policy", "grant", "behaviours.wasm", "--env", "A=b"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let written = place.read("home/policy.toml");
    assert!(written.contains("environment"), "{written}");
    assert_eq!(
        written.matches('\n').count(),
        written.matches("\r\n").count()
    );
}

/// A value of several lines is what was granted, whatever ends the lines around it; and it can be taken back.
#[test]
fn a_value_of_several_lines_in_a_policy_from_another_system() {
    for (value, head) in [
        (
            "x\ny",
            "# Mine.\r\n[general.ceilings]\r\nfuel = 1_000_000\r\n",
        ),
        (
            "x\r\ny",
            "# Mine.\r\n[general.ceilings]\r\nfuel = 1_000_000\r\n",
        ),
        (
            "1",
            "[skills.other.grants]\r\nenvironment = { B = \"\"\"x\r\ny\"\"\" }\r\n",
        ),
    ] {
        let place = Place::with_behaviours();
        place.write("home/policy.toml", head);
        let env = format!("A={value}");
        let said = place.run(["policy", "grant", "behaviours.wasm", "--env", &env]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        let written: toml::Table = place.read("home/policy.toml").parse().expect("it is TOML");
        let granted = |skill: &str, name: &str| {
            written["skills"][skill]["grants"]["environment"][name].as_str()
        };
        assert_eq!(granted("behaviours", "A"), Some(value), "{head:?}");
        if head.contains("other") {
            assert_eq!(granted("other", "B"), Some("x\r\ny"));
        }
        let said = place.run(["policy", "revoke", "behaviours", "A"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
    }
}

/// A policy is somebody's text: what is written in it besides stays where it is.
#[test]
fn comments_stay_where_they_are() {
    let place = with_data();
    let text =
        "# Whose this is.\n\n[general]\nceilings.fuel = 5_000_000_000 # plenty\n\n# To do: more.\n";
    place.write("home/policy.toml", text);
    place.run(["policy", "grant", "csv-query", "--dir", "data:/data"]);
    let policy = place.read("home/policy.toml");
    let added = policy.strip_prefix(text).expect(&policy);
    assert!(
        added.starts_with("\n[skills.csv-query.grants]\n"),
        "{policy}"
    );
    assert!(!added.contains('#'), "{policy}");
}

/// What several grants are called is not taken all at once.
#[test]
fn what_is_called_alike_is_taken_one_by_one() {
    let place = Place::new();
    place.write(
        "home/policy.toml",
        "# Mine.
[skills.probe.grants]
environment = { TZ = \"1\", storage = \"1\", \"-x\" = \"1\", \"--all\" = \"1\" }
config = { TZ = \"2\" }
storage = true
",
    );
    check(
        place.run(["policy", "revoke", "probe", "TZ"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy grants `probe` 2 things that are called `TZ`
hint: say which: `--env TZ`, `--config TZ`

"#]],
    );
    check(
        place.run(["policy", "revoke", "probe", "storage"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the policy grants `probe` 2 things that are called `storage`
hint: say which: `--env storage`, `--storage`

"#]],
    );
    let flags: [&[&str]; 3] = [
        &["--storage", "--env", "TZ"],
        &["--env=-x"],
        &["--env=--all"],
    ];
    for flags in flags {
        let mut command = place.command(["policy", "revoke", "probe"]);
        let said = place.said(&command.args(flags).output().expect("it starts"));
        assert!(said.starts_with("exit: 0\n"), "{flags:?}: {said}");
    }
    check(
        place.read("home/policy.toml"),
        str![[r#"
# Mine.
[skills.probe.grants]
environment = { storage = "1" }
config = { TZ = "2" }

"#]],
    );
    let said = place.run(["policy", "revoke", "probe", "--storage"]);
    says(&said, &["exit: 2\n", "does not grant `storage`"]);
    let said = place.run(["policy", "revoke", "probe", "--all", "--env", "storage"]);
    says(&said, &["exit: 2\n", "cannot be used with"]);
}

/// Whoever put a link there is not to find a file in its place, nor that nothing holds.
#[test]
fn a_link_that_leads_nowhere_is_no_missing_policy() {
    let place = Place::with_behaviours();
    let link = place.path("home/policy.toml");
    std::os::unix::fs::symlink("elsewhere.toml", &link).expect("a link can be made");
    let said = "error: the policy `[PLACE]/home/policy.toml`: it is a symbolic link to `elsewhere.toml`, which is not \
                there\nhint: put the policy where the link leads";
    for said_by in [
        place.run(["policy", "check"]),
        place.run(["policy", "grant", "behaviours.wasm", "--scratch"]),
        place.run(["policy", "revoke", "behaviours", "--all"]),
        place.run(["run", "behaviours.wasm", "echo"]),
    ] {
        says(&said_by, &["exit: 2\n", said]);
    }
    assert!(link.is_symlink());
}

/// A process that was killed leaves a whole copy of the policy.
#[test]
fn what_was_left_behind_of_a_change_is_removed() {
    let place = Place::new();
    place.write(
        "home/policy.toml",
        "[skills.probe.grants]\nstorage = true\n",
    );
    let hours =
        |hours: u64| std::time::SystemTime::now() - std::time::Duration::from_secs(3_600 * hours);
    for (name, age) in [
        (".policy-old123", 2),
        (".policy-new123", 0),
        ("policy-mine", 2),
    ] {
        let path = format!("home/{name}");
        place.write(&path, "x");
        let file = fs::File::options().write(true).open(place.path(&path));
        let set = file.and_then(|file| file.set_modified(hours(age)));
        set.expect("a time can be set");
    }
    let said = place.run(["policy", "revoke", "probe", "storage"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let is_there = |name: &str| place.path("home").join(name).exists();
    assert!(!is_there(".policy-old123"));
    assert!(is_there(".policy-new123") && is_there("policy-mine"));
}

/// What is granted does not rest on a folder that it has nothing to do with.
#[test]
fn a_path_is_granted_without_what_leads_up_in_it() {
    let place = super::with_data();
    place.write("gone/sub/x", "");
    let mut command = place.command([
        "policy",
        "grant",
        "../../csv-query",
        "--dir",
        "../../data:/data",
    ]);
    command.current_dir(place.path("gone/sub"));
    let said = place.said(&command.output().expect("it starts"));
    says(&said, &["exit: 0\n", "from [PLACE]/data\n"]);
    let policy = place.read("home/policy.toml");
    assert!(!policy.contains(".."), "{policy}");
    check(
        place.run(["policy", "grant", "csv-query", "--dir", "nowhere:/data"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `nowhere` is not a folder that is there
hint: grant a directory that exists and that this user may read

"#]],
    );
}
