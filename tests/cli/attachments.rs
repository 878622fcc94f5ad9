//! Files that go in, and files that come out.

use snapbox::str;

use crate::harness::{Place, check};

#[test]
fn a_file_goes_in_with_its_name_and_media_type() {
    let place = Place::with_behaviours();
    place.write("data/table.csv", "a,b\n");
    let output = place.output([
        "run",
        "behaviours.wasm",
        "echo",
        "--attach",
        "data/table.csv",
        "--json",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(
        json["attachments"],
        serde_json::json!([{"name": "table.csv", "media_type": "text/csv", "data": "YSxiCg=="}])
    );
}

#[test]
fn standard_input_goes_in() {
    let place = Place::with_behaviours();
    let said = place.run_with_stdin(
        [
            "run",
            "behaviours.wasm",
            "echo",
            "--attach",
            "-",
            "--out",
            "out",
        ],
        b"hello",
    );
    check(
        said,
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
wrote out/stdin (5 B, application/octet-stream)
✓ behaviours 1.2.3 · echo · [COST]

"#]],
    );
    assert_eq!(place.read("out/stdin"), "hello");
}

#[test]
fn a_file_that_cannot_be_read() {
    let place = Place::new();
    place.write("folder/photo.jpg", "not really");
    for (file, why, hint) in [
        (
            "nowhere.txt",
            "No such file or directory (os error 2)",
            "a path begins in the folder where you are, `[PLACE]`",
        ),
        (
            "folder/poto.jpg",
            "No such file or directory (os error 2)",
            "did you mean `folder/photo.jpg`?",
        ),
        (
            "folder",
            "Is a directory (os error 21)",
            "name a file; that is a folder",
        ),
    ] {
        assert_eq!(
            place.run(["run", "x", "--attach", file]),
            format!(
                "exit: 2\n--- stdout\n--- stderr\nerror: cannot read `{file}`, which `--attach` names: {why}\n\
                 hint: {hint}\n"
            )
        );
    }
}

#[test]
fn without_a_folder_to_write_to() {
    let place = Place::with_behaviours();
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "attach",
            "-i",
            r#"{"count": 2, "bytes": 100}"#,
        ]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
warning: 2 attachments of 200 B not written: a, a
hint: name a folder to write to: --out DIR
✓ behaviours 1.2.3 · attach · [COST]

"#]],
    );
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::with_behaviours();
    place.write("out/a", "mine");
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "attach",
            "-i",
            r#"{"count": 2, "bytes": 3}"#,
            "--out",
            "out",
        ]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
wrote out/a-2 (3 B, b)
wrote out/a-3 (3 B, b)
✓ behaviours 1.2.3 · attach · [COST]

"#]],
    );
    assert_eq!(place.read("out/a"), "mine");
    assert_eq!(place.read("out/a-2"), "\x07\x07\x07");
}

#[test]
fn a_hostile_name_stays_in_the_folder() {
    // The guest hands back what it is given, so a file's own name plays the hostile one.
    let place = Place::with_behaviours();
    place.write(".profile\n\x1b[2J", "x");
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "echo",
            "--attach",
            ".profile\n\x1b[2J",
            "--out",
            "out",
        ]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
wrote out/profile[2J (1 B, application/octet-stream)
✓ behaviours 1.2.3 · echo · [COST]

"#]],
    );
    assert_eq!(place.read("out/profile[2J"), "x");
}

#[test]
fn a_folder_that_cannot_be_made() {
    let place = Place::with_behaviours();
    place.write("out", "a file");
    check(
        place.run(["run", "behaviours.wasm", "echo", "--out", "out"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: cannot make the folder `out`: File exists (os error 17)
hint: that is a file; attachments are written to a folder: --out DIR

"#]],
    );
}

#[test]
fn no_folder_is_made_for_nothing() {
    let place = Place::with_behaviours();
    let said = place.run(["run", "behaviours.wasm", "echo", "--out", "out/new"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = place.run([
        "run",
        "behaviours.wasm",
        "spin",
        "--fuel",
        "1M",
        "--out",
        "out",
    ]);
    assert!(said.starts_with("exit: 4\n"), "{said}");
    let said = place.run(["run", "nothing", "--out", "out"]);
    assert!(said.starts_with("exit: 6\n"), "{said}");
    assert!(!place.path("out").exists());
    let said = place.run([
        "run",
        "behaviours.wasm",
        "attach",
        "-i",
        r#"{"count": 1, "bytes": 3}"#,
        "--out",
        "out/new",
    ]);
    assert!(said.contains("wrote out/new/a (3 B, b)\n"), "{said}");
}

/// Some folders let nobody make anything in them, and say so only then.
#[test]
fn a_folder_of_the_kernels_is_refused_before_anything_runs() {
    let place = Place::with_behaviours();
    let said = place.run(["run", "behaviours.wasm", "echo", "--out", "/proc/x"]);
    assert!(said.starts_with("exit: 2\n"), "{said}");
    assert!(
        said.contains("cannot make the folder `/proc/x`: "),
        "{said}"
    );
    assert!(!said.contains('✓'), "{said}");
}
