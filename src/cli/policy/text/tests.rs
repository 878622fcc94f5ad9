use skillhost::grant::Mode;

use super::*;

const TEXT: &str = r#"# Mine.
[skills.b.grants] # of b
directories = [
    "/x:/x:ro", # the first
    { host = "/y", guest = "/y" },
]
config = { n = 1, m = "two" } # a comment
environment = ["TZ=UTC", "A=b"]

# Of a.
[skills.a]
grants.config.z = true
"#;

fn after(change: impl FnOnce(&mut Policy)) -> String {
    let before: Policy = TEXT.parse().unwrap();
    let mut after = before.clone();
    change(&mut after);
    edited(TEXT, &before, &after).unwrap()
}

#[test]
fn what_is_not_changed_stays_as_it_is() {
    assert_eq!(after(|_| {}), TEXT);
    let text = after(|policy| {
        let b = &mut policy.skills.get_mut("b").unwrap().grants;
        *b = std::mem::take(b).with(
            &Grants::default()
                .directory("/z", "/y", Mode::Rw)
                .config("n", "2")
                .environment("TZ", "CET"),
        );
    });
    check(
        &text,
        r#"# Mine.
[skills.b.grants] # of b
directories = [
    "/x:/x:ro", # the first
    "/z:/y:rw",
]
config = { n = "2", m = "two" } # a comment
environment = ["TZ=CET", "A=b"]

# Of a.
[skills.a]
grants.config.z = true
"#,
    );
}

/// A comment is about what it stands directly before; another one stays.
#[test]
fn comments_about_something_else_stay() {
    let without = |text: &str, names: &[&str]| {
        let before: Policy = text.parse().unwrap();
        let mut after = before.clone();
        for name in names {
            after.skills.remove(*name);
        }
        edited(text, &before, &after).unwrap()
    };
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = format!(
        "# Owned by us.\n\n# Of a.\n[skills.a.grants]\nstorage = true\n\n# Of b.\n[skills.b.grants]\nstorage = true\n\n\
         # Look at this soon.\n\n[[skills.a.confirmed]]\ndigest = \"{digest}\"\n\n# Of c.\n[skills.c.grants]\nstorage = true\n\n\
         # The end.\n"
    );
    assert_eq!(
        without(&text, &["a"]),
        "# Owned by us.\n\n# Of b.\n[skills.b.grants]\nstorage = true\n\n# Look at this soon.\n\n# Of c.\n\
         [skills.c.grants]\nstorage = true\n\n# The end.\n"
    );
    assert_eq!(
        without(&text, &["a", "b", "c"]),
        "# Owned by us.\n\n# Look at this soon.\n\n# The end.\n"
    );
    // What stands directly before it goes with it.
    let text = "# Of a.\n[skills.a.grants]\nstorage = true\n\n[skills.b.grants]\nstorage = true\n";
    assert_eq!(without(text, &["a"]), "[skills.b.grants]\nstorage = true\n");
    // But where the file has nothing else, of which it may be the head.
    assert_eq!(without(text, &["a", "b"]), "# Of a.\n");
}

#[test]
fn what_is_taken_out_leaves_the_rest_in_order() {
    let text = after(|policy| {
        let b = &mut policy.skills.get_mut("b").unwrap().grants;
        b.directories.remove(1);
        b.environment.remove("TZ");
        b.config.remove("n");
    });
    check(
        &text,
        r#"# Mine.
[skills.b.grants] # of b
directories = [
    "/x:/x:ro", # the first
]
config = { m = "two" } # a comment
environment = ["A=b"]

# Of a.
[skills.a]
grants.config.z = true
"#,
    );
    let text = after(|policy| {
        let b = &mut policy.skills.get_mut("b").unwrap().grants;
        b.directories.remove(0);
        b.environment.remove("A");
        policy.skills.remove("a");
    });
    check(
        &text,
        r#"# Mine.
[skills.b.grants] # of b
directories = [
    { host = "/y", guest = "/y" },
]
config = { n = 1, m = "two" } # a comment
environment = ["TZ=UTC"]
"#,
    );
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(text, expected, "\n{text}");
}

/// The text after grants were added to the skill `a`.
#[track_caller]
fn granting(text: &str, grants: Grants) -> String {
    let before: Policy = text.parse().unwrap();
    let mut after = before.clone();
    let entry = after.skills.entry("a".into()).or_default();
    entry.grants = std::mem::take(&mut entry.grants).with(&grants);
    edited(text, &before, &after).unwrap()
}

#[test]
fn what_is_added_moves_no_comment() {
    let b = || Grants::default().environment("B", "c");
    let added = "[skills.a.grants]\nenvironment = { B = \"c\" }\n";
    // In a file of comments alone, and behind everything else.
    let text = "# My policy.\n# Nothing yet.\n";
    check(&granting(text, b()), &format!("{text}\n{added}"));
    let text = "# Mine.\n[general]\nceilings.fuel = 5 # few\n\n# The end.";
    check(&granting(text, b()), &format!("{text}\n\n{added}"));
    let text = "[skills.a.grants] # of a\nscratch = true # yes\n# The end.\n";
    check(
        &granting(text, b()),
        &format!("{text}environment = {{ B = \"c\" }}\n"),
    );
    // Between tables, each with its own.
    let text = "# Of a.\n[skills.a.grants]\nscratch = true # yes\n\n# In general.\n[general]\nceilings.fuel = 5\n";
    check(
        &granting(text, b()),
        &text.replace("# yes\n", "# yes\nenvironment = { B = \"c\" }\n"),
    );
}

#[test]
fn what_is_added_to_a_list_moves_no_comment() {
    let head =
        "[skills.a.grants]\ndirectories = [\n    \"/a:/a:ro\", # the first\n    \"/b:/b:ro\"";
    let tail = "] # all\nscratch = true\n";
    let line = "\n    \"/c:/c:ro\"";
    for (comma, comments) in [
        (",", " # the second"),
        (",", " # the second\n    # and no more"),
        (",", "\n    # and no more"),
        (",", ""),
        ("", " # the second"),
        ("", ""),
    ] {
        let text = format!("{head}{comma}{comments}\n{tail}");
        let grants = Grants::default().directory("/c", "/c", Mode::Ro);
        let expected = format!("{head},{comments}{line}{comma}\n{tail}");
        check(&granting(&text, grants), &expected);
    }
    let text = "[skills.a.grants]\n\
        environment = { A = \"b\" } # a comment\n\
        config = [\"n=1\"] # another\n";
    let both = Grants::default().environment("B", "c").config("m", "2");
    let expected = "[skills.a.grants]\n\
        environment = { A = \"b\", B = \"c\" } # a comment\n\
        config = [\"n=1\", \"m=2\"] # another\n";
    check(&granting(text, both), expected);
}

#[test]
fn what_takes_the_place_of_another_keeps_the_comments_around_it() {
    let text = "[[skills.a.grants.directories]]\n# Where they come from.\nhost = \"/x\" # for now\nguest = \"/data\" # as declared\n# The end.\n";
    check(
        &granting(text, Grants::default().directory("/y", "/data", Mode::Ro)),
        &text
            .replace("/x", "/y")
            .replace("# The end.\n", "mode = \"ro\"\n# The end.\n"),
    );
}

/// Running processes take an empty file as none at all.
#[test]
fn what_is_left_is_never_empty() {
    let none = Policy::default();
    for text in [
        "[skills.a.grants]\nscratch = true\n",
        "\n\n[skills.a.grants]\nscratch = true\n\n \n",
    ] {
        let before: Policy = text.parse().unwrap();
        let taken = edited(text, &before, &none).unwrap();
        check(&taken, NOTHING);
        check(
            &granting(&taken, Grants::default().environment("B", "c")),
            "[skills.a.grants]\nenvironment = { B = \"c\" }\n",
        );
    }
    // What the file begins with stays.
    let text = "# Mine.\n# Ask me.\n[skills.a.grants]\nscratch = true # for now\n";
    let taken = edited(text, &text.parse().unwrap(), &none).unwrap();
    check(&taken, "# Mine.\n# Ask me.\n");
    // A comment is enough.
    let text = "# Mine.\n\n# Of a.\n[skills.a.grants]\nscratch = true\n# The end.\n";
    let taken = edited(text, &text.parse().unwrap(), &none).unwrap();
    assert!(
        taken.contains("# The end.") && !taken.contains(NOTHING),
        "{taken}"
    );
}

#[test]
fn every_change_reads_as_what_was_meant() {
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let confirmation: Confirmation =
        serde_json::from_value(serde_json::json!({ "digest": digest, "version": "1.0.0" }))
            .unwrap();
    // `edited` itself compares what was meant with what the text says.
    let text = after(|policy| {
        policy.skills.remove("b");
        let mut new = SkillPolicy::default();
        new.grants = Grants::default()
            .directory("/a:b", "/c d", Mode::Ro)
            .config("key with \"quotes\"", "a\nb");
        new.confirm(confirmation.clone());
        policy.skills.insert("c".into(), new);
        policy.skills.get_mut("a").unwrap().grants = Grants::default();
        policy
            .skills
            .get_mut("a")
            .unwrap()
            .confirm(confirmation.clone());
    });
    assert!(
        text.contains("{ guest = \"/c d\", host = \"/a:b\", mode = \"ro\" }"),
        "{text}"
    );
    assert!(text.contains("[[skills.c.confirmed]]"), "{text}");
    let inline = "skills = { a = { grants = { environment = { A = 1 } } } }";
    let before: Policy = inline.parse().unwrap();
    let mut policy = before.clone();
    let a = policy.skills.get_mut("a").unwrap();
    a.grants = a.grants.clone().config("x", "y");
    a.confirm(confirmation);
    policy.skills.insert("d".into(), policy.skills["a"].clone());
    let text = edited(inline, &before, &policy).unwrap();
    assert!(!text.contains("\n["), "{text}");
}

#[test]
fn tables_on_one_line_stay_tidy() {
    let text = "[skills.a]\n\
                grants = { storage = true, config = { n = \"1\", f = \"2\", z = \"3\" }, environment = {A = \"1\"} }\n";
    let before: Policy = text.parse().unwrap();
    let mut after = before.clone();
    let grants = &mut after.skills.get_mut("a").unwrap().grants;
    grants.config.remove("z");
    grants.scratch = true;
    grants.environment.insert("B".into(), "2".into());
    check(
        &edited(text, &before, &after).unwrap(),
        "[skills.a]\n\
         grants = { storage = true, config = { n = \"1\", f = \"2\" }, environment = {A = \"1\", B = \"2\"}, \
         scratch = true }\n",
    );
}
