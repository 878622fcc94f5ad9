//! `skillhost policy schema`, against what the parser takes.

use std::fs;

use skillhost::grant::intersection;
use skillhost::policy::Wants;
use skillhost::skill::{Annotations, Description, Manifest, Tool};

use crate::harness::{Place, root};

/// The example in the README is one that the parser and the schema take, and says of `csv-query` what
/// is so.
#[test]
fn the_schema_describes_what_is_read() {
    let place = Place::new();
    let output = place.output(["policy", "schema"]);
    let schema = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let schema = jsonschema::validator_for(&schema).expect("it is a JSON Schema");
    let readme = fs::read_to_string(root().join("README.md")).expect("a file can be read");
    let (_, section) = readme
        .split_once("## Granting")
        .expect("there is a section");
    let (_, example) = section
        .split_once("```toml\n")
        .expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    place.write("home/policy.toml", example);
    let said = place.run(["policy", "show"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let json = |text: &str| -> serde_json::Value { toml::from_str(text).expect("it is TOML") };
    if let Err(error) = schema.validate(&json(example)) {
        panic!("{error} at {}", error.instance_path());
    }
    let policy: skillhost::Policy = example.parse().expect("it is a policy");
    let manifest = fs::read_to_string(root().join("example-skills/csv-query/skill.toml"));
    let manifest: Manifest = manifest
        .expect("a file can be read")
        .parse()
        .expect("it is a manifest");
    let entry = &policy.skills["csv-query"];
    let (fitting, denials) = intersection(Some(&manifest.grants), &entry.grants);
    assert_eq!(denials, [], "csv-query declares what it is granted");
    assert_eq!(fitting.directories, entry.grants.directories);
    let tool = |name: &str| Tool {
        name: name.into(),
        title: None,
        description: String::new(),
        input_schema: serde_json::json!({}),
        output_schema: None,
        annotations: Annotations::resolve(Some(true), None, Some(true), Some(false)),
        marked_destructive: false,
    };
    let description = Description {
        name: "csv-query".into(),
        version: "0.1.0".into(),
        description: String::new(),
        tools: vec![tool("columns"), tool("query")],
    };
    let wants = Wants::new(Some(&manifest), &description);
    assert_eq!(entry.confirmed[0].wanted.as_ref(), Some(&wants));
    let right = r#"
        [skills.a.grants]
        directories = ["/a:/b:rw", "/a/../c:../d.e:ro", { host = "/c", guest = "d" }]
        http = ["GET,HEAD *://*.example.com:8443/api"]
        sockets = ["udp://[::1]:53"]
        addresses = ["10.0.0.0/8"]
        environment = { TZ = "UTC", N = 1 }
        config = ["a=b=c"]
        secrets = ["t=authorization:Bearer@https://example.com"]
        clock = "2026-01-01T00:00:00Z"
        random = "seed:1"
        [[skills.a.confirmed]]
        digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        [skills.a.confirmed.wanted.declared]
        directories = [{ path = "/b" }]
        http = ["https://*"]
        sockets = ["tcp://*:*"]
        [skills.a.defaults]
        fuel = "5M"
        memory_bytes = "64MiB"
        [secrets]
        t = "env:TOKEN"
        u = "file:/run/secrets/u"
    "#;
    assert!(schema.is_valid(&json(right)));
    assert!(right.parse::<skillhost::Policy>().is_ok());
    for wrong in [
        "skill = {}",
        "[skills.a]\ngrant = {}",
        "[skills.a.grants]\ndirectorys = []",
        "[skills.a.grants]\ndirectories = [7]",
        "[skills.a.grants]\ndirectories = [{ host = \"/a\" }]",
        "[skills.a.grants]\nenvironment = [\"A\"]",
        "[[skills.a.confirmed]]\ndigest = \"sha256:12\"",
        "[skills.a.grants]\nhttp = [\"example.com\"]",
        "[skills.a.grants]\nhttp = [\"GET https://*/api\"]",
        "[skills.a.grants]\nclock = \"yesterday\"",
        "[skills.a.grants]\nrandom = \"x\"",
        "[skills.a.grants]\nsockets = [\"tcp://host:5\"]",
        "[skills.a.grants]\nsockets = [\"tcp://*:5\"]",
        "[skills.a.grants]\naddresses = [\"nope\"]",
        "[skills.a.grants]\ndirectories = [\"rel:/b\"]",
        "[skills.a.grants]\ndirectories = [\"/a:/b:/c\"]",
        "[skills.a.grants]\ndirectories = [\"/a:/b/../c:rw\"]",
        "[skills.a.grants]\ndirectories = [\"/a:/..\"]",
        "[skills.a.grants]\ndirectories = [\"/a:/./..\"]",
        "[skills.a.grants]\ndirectories = [\"/a://..:ro\"]",
        "[skills.a.grants]\ndirectories = [\"/a:.../..\"]",
        "[skills.a.grants]\ndirectories = [\"/a/../b\"]",
        "[skills.a.grants]\ndirectories = [\"/a/..:rw\"]",
        "[skills.a.grants]\ndirectories = [\"/a\\u0001b:ro\"]",
        "[skills.a.grants]\ndirectories = [\"/a:/b\\u0001c\"]",
        "[skills.a.grants]\ndirectories = [{ host = \"a\", guest = \"/b\" }]",
        "[skills.a.grants]\nsecrets = [\"t\"]",
        "[skills.a.grants]\nsecrets = [\"t=x-key@https://*\"]",
        "[skills.a.grants]\nenvironment = { \"A=B\" = \"c\" }",
        "[skills.a.grants]\nconfig = [\"a=<VALUE>\"]",
        "[skills.a.grants]\nconfig = { a = \"\\u0000\" }",
        "[skills.a.defaults]\nfuel = 0",
        "[general]\nceilings = { wall_time_ms = 0 }",
        "[secrets]\na = \"hunter2\"",
        "[secrets]\na = \"file:key\"",
    ] {
        assert!(!schema.is_valid(&json(wrong)), "{wrong}");
        assert!(wrong.parse::<skillhost::Policy>().is_err(), "{wrong}");
    }
}
