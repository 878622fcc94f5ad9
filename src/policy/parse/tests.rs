use super::*;

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let twice = format!(
        "[[skills.a.confirmed]]\ndigest = \"{digest}\"\n\n[[skills.a.confirmed]]\ndigest = \"{digest}\""
    );
    for (text, line, reason, hint) in [
        ("x = 1", 1, "unknown field `x`", None),
        (
            "[skills.a.grants]\nhttp = [\"https://a.example\"]\nhttp = [\"https://b.example\"]",
            3,
            "duplicate key `http`",
            Some("leave one of them out, or put both into one list"),
        ),
        (
            "[general]\nceilings = { fuel = 0 }",
            2,
            "general.ceilings.fuel: with nothing of it no skill can run",
            None,
        ),
        (
            "[tenants.t.defaults]\nwall_time_ms = \"0s\"",
            2,
            "tenants.t.defaults.wall_time_ms: with nothing of it no skill can run",
            None,
        ),
        (
            "[each_skill.ceilings]\nmemory_bytes = 0",
            2,
            "each_skill.ceilings.memory_bytes: with nothing",
            None,
        ),
        (
            "[skills.a]\ndefaults.instances = 0",
            2,
            "skills.a.defaults.instances: with nothing",
            None,
        ),
        (
            "[skills.a.defaults]\nhttp = []",
            2,
            "unknown field `http`",
            Some("what is granted stands under `[skills.NAME.grants]`"),
        ),
        (
            "\n[skill.a]",
            2,
            "unknown field `skill`",
            Some("did you mean `skills`?"),
        ),
        (
            "[skills.a.grants]\nmax_rows = 5",
            2,
            "unknown field `max_rows`",
            Some(
                "if the skill declares it as its configuration, write `config = { max_rows = … }`",
            ),
        ),
        (
            "[secrets]\n\"a b\" = \"env:A\"",
            2,
            "secrets.a b: the name of a secret has letters, digits, `_`, `-` and `.` only",
            None,
        ),
        (
            "[general.concurrency]\nwait = 5",
            2,
            "unknown field `wait`",
            Some("did you mean `wait_ms`?"),
        ),
        (
            "[skills.a.grants]\n\ndirectorys = []",
            3,
            "unknown field `directorys` in [skills.a.grants], expected one of `directories`",
            Some("did you mean `directories`?"),
        ),
        (
            "[skills.a.grants]\ndirectories = 7",
            2,
            "invalid type",
            Some("write a list, also of one: [\"…\"]"),
        ),
        (
            "[skills.a.grants]\nconfig = [{ depth = \"3\" }, \"name=x\"]",
            2,
            "invalid type: map, expected a text NAME=VALUE",
            Some(
                "write all of them into one table, { NAME = \"VALUE\" }, or each as a text, [\"NAME=VALUE\"]",
            ),
        ),
        (
            "[skills.a.grants]\n\nstorage = \"yes\"",
            3,
            "invalid type",
            Some("write true or false, without quotes"),
        ),
        (
            "[fetch-page.grants]\nstorage = true",
            1,
            "unknown field `fetch-page`",
            Some("what is about one skill stands under `[skills.NAME]` or `[skills.NAME.grants]`"),
        ),
        ("[logging]\nlevel = 1", 1, "unknown field `logging`", None),
        (
            "[approval.rules]\naction = 'ask'",
            1,
            "invalid type",
            Some("write a list, [\"…\"], or of tables, whose headers have two brackets, [[…]]"),
        ),
        (
            "[each_tenant]\nconcurrency = 4",
            2,
            "invalid type: integer `4`, expected a table",
            Some("write a table: { NAME = VALUE }"),
        ),
        (
            "[audit]\nkeep = 90",
            2,
            "invalid type: integer `90`, expected a string",
            Some("write it in quotes; a time has its unit: \"90d\", \"5s\""),
        ),
        (
            "[audit]\nmax_file_bytes = \"64MiB\"",
            2,
            "invalid type: string \"64MiB\", expected u64",
            Some("write a whole number, without quotes and without a unit"),
        ),
        (
            "[skills.a.grants]\ndirectories = [\n\"/a:/b\",\n\"/a:b:c:d\"]",
            4,
            "there is a `:` too many",
            None,
        ),
        (
            "[skills.a.grants]\ndirectories = [\n\"/a:/b\",\n\"b\"]",
            4,
            "the host path `b` is not absolute",
            Some("a policy holds wherever the command is run, so write the whole path"),
        ),
        (
            "[skills.a.grants]\nenvironment = [\"A=1\"]\ndirectories = [\"/a:/b\", \"/c:/b:rw\"]",
            3,
            "`/b`: two directories are granted under this guest path",
            Some("give each a guest path of its own: `<HOST>:<GUEST>`"),
        ),
        (
            "[skills.a.grants]\ndirectories = [\"/a:/b\", \"/a:/b:rw\"]",
            2,
            "`/b`: two directories are granted under this guest path",
            Some("it is the same folder twice: leave one of them out"),
        ),
        (
            "[skills.a.grants]\nenvironment = [\"A=1\", \"A=2\"]",
            2,
            "`A` is granted twice",
            None,
        ),
        (
            "[skills.a.grants]\nconfig.a = 1\nconfig.a = 2",
            3,
            "duplicate key",
            Some("leave one of them out, or put both into one list"),
        ),
        (
            "[skills.a.grants]\nclock = 2026-01-01T00:00:00Z",
            2,
            "invalid type: map, expected",
            Some("put it into quotes: `\"2026-01-01T00:00:00Z\"`"),
        ),
        (
            "[skills.a.grants]\nscratch = true\n[skills.a.grants]\nstorage = true",
            3,
            "duplicate key `grants`",
            Some("leave one of them out, or put what stands under both under one of them"),
        ),
        ("[skills.A_b]", 1, "a skill's name is", None),
        (
            "[skills.a--b]",
            1,
            "no hyphen first, last or after another",
            None,
        ),
        (
            "[[skills.a.confirmed]]\ndigest = \"sha256:12\"",
            2,
            "is not a digest",
            None,
        ),
        (twice.as_str(), 4, "is confirmed twice", None),
        ("[skills", 1, "unclosed table", None),
        (
            "[general.concurrency]\nat_once = 0",
            2,
            "general.concurrency.at_once: the least is 1, and it is 0",
            Some("write 1 or more"),
        ),
        (
            "[tenants.a]\n\nconcurrency.waiting = 5_000_000_000",
            3,
            "tenants.a.concurrency.waiting: the most is 4,294,967,295, and it is 5000000000",
            Some("write less"),
        ),
        (
            "[each_skill]\nbreaker = { minimum = \"3\" }",
            2,
            "each_skill.breaker.minimum: it must be a whole number from 1 on",
            Some("write digits alone"),
        ),
        (
            "[general.concurrency]\nat_once = 2\nweight = 2",
            3,
            "general.concurrency.weight: only a tenant has a weight",
            None,
        ),
        (
            "[tenants.a]\nconcurrency.weight = 1001",
            2,
            "tenants.a.concurrency.weight: a weight is 1 to 1,000",
            None,
        ),
        (
            "[tenants.a]\n\nconcurrency = { wait_ms = \"2days\" }",
            3,
            "this time is at most a day",
            None,
        ),
        (
            "[tenants.a.ceilings]\n\nmemory = 1",
            3,
            "unknown field `memory`",
            Some("did you mean `memory_bytes`?"),
        ),
        (
            "[tenants.a]\nover_ceiling = \"clam\"",
            2,
            "unknown variant `clam`",
            Some("did you mean `clamp`?"),
        ),
        (
            "[tenants.a.rates]\nper_minute = 0",
            2,
            "tenants.a.rates.per_minute: the least is 1, and it is 0",
            Some("write 1 or more"),
        ),
        (
            "[tenants.a.rates]\nper_hour = { at_most = 2,\nburst = 0 }",
            3,
            "tenants.a.rates.per_hour.burst: the least is 1, and it is 0",
            Some("write 1 or more"),
        ),
        (
            "[tenants.a.rates]\nper_minute = \"3\"",
            2,
            "a number from 1 on",
            None,
        ),
        (
            "[tenants.a.rates]\nper_minute = { at_most = 2, bust = 3 }",
            2,
            "unknown field `bust`",
            Some("did you mean `burst`?"),
        ),
        (
            "[skills.a.rates]\nper_hour = 1000001",
            2,
            "skills.a.rates.per_hour: a rate is 1 to 1,000,000",
            None,
        ),
        (
            "[general]\nrates = { per_second = 99999999999 }",
            2,
            "general.rates.per_second: the most is 1,000,000, and it is 99999999999",
            Some("write less"),
        ),
        (
            "[each_tenant.rates]\nper_hour = { at_most = 5000000000 }",
            2,
            "each_tenant.rates.per_hour.at_most: the most is 1,000,000, and it is 5000000000",
            Some("write less"),
        ),
        (
            "[tenants.rates.concurrency]\nwaiting = 5000000000",
            2,
            "tenants.rates.concurrency.waiting: the most is 4,294,967,295, and",
            Some("write less"),
        ),
        (
            "[tenants.a.concurrency]\nweight = 5000000000",
            2,
            "tenants.a.concurrency.weight: the most is 1,000, and it is 5000000000",
            Some("write less"),
        ),
        (
            "[each_skill.breaker]\nprobes = 2\nfailure_rate = 0.0",
            3,
            "a failure rate is above 0, and at most 1",
            None,
        ),
        (
            "[each_host.breaker]\nwindow_ms = 0",
            2,
            "this time is at least 1 ms",
            None,
        ),
        ("[tenants.\"\"]", 1, "a tenant's name is", None),
    ] {
        let error = text.parse::<Policy>().unwrap_err();
        assert!(error.message.contains(reason), "{text}: {error}");
        assert_eq!(error.line, Some(line), "{text}: {error}");
        assert_eq!(error.hint.as_deref(), hint, "{text}");
    }
}

#[test]
fn an_empty_policy_grants_nothing() {
    assert_eq!("".parse(), Ok(Policy::default()));
    assert_eq!("[skills.a]".parse::<Policy>().unwrap().skills.len(), 1);
}

#[test]
fn text_from_the_file_cannot_forge_a_line() {
    let error = "\"x\\u001b[2J\\n\" = 1".parse::<Policy>().unwrap_err();
    assert!(!error.to_string().contains(char::is_control), "{error:?}");
}
