//! Skills that cannot be found, or are none.

use std::os::unix::fs::PermissionsExt;

use snapbox::str;

use crate::harness::{Place, check, says};

#[test]
fn nothing_of_that_name() {
    check(
        Place::new().run(["run", "text-stats"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `text-stats` was found
  as a path: no such file or folder
  as an installed skill: none of that name in `[PLACE]/home/skills`
hint: `skillhost list` shows what is installed

"#]],
    );
    check(
        Place::new().run(["run", "skills/text-stats.wasm"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `skills/text-stats.wasm` was found
  as a path: no such file or folder
  as an installed skill: it is not a name, name@version or digest of one
hint: is the path right? It is taken from the folder that this runs in

"#]],
    );
}

#[test]
fn something_of_a_similar_name() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    check(
        place.run(["run", "txt-stats"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `txt-stats` was found
  as a path: no such file or folder
  as an installed skill: none of that name in `[PLACE]/home/skills`
hint: did you mean `text-stats@0.1.0`?

"#]],
    );
    check(
        place.run(["run", "text-stats@2.0.0"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `text-stats@2.0.0` was found
  as a path: no such file or folder
  as an installed skill: none of that name in `[PLACE]/home/skills`
hint: did you mean `text-stats@0.1.0`?

"#]],
    );
}

/// What no name may look like.
#[test]
fn a_name_that_is_spelt_as_none_may_be() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    for typed in [
        "text_stats",
        "Text-Stats",
        "text-stats@9",
        "text-stats@latest",
    ] {
        let said = place.run(["run", typed]);
        says(
            &said,
            &[
                "exit: 6\n",
                &format!("error: no skill `{typed}` was found\n"),
                "it is not a name, name@version or digest of one\n",
                "hint: did you mean `text-stats@0.1.0`?\n",
            ],
        );
        assert!(!said.contains("is the path right"), "{said}");
    }
    let said = place.run(["run", "skills/text_stats"]);
    says(&said, &["hint: is the path right?"]);
}

/// Only of what may be a skill.
#[test]
fn a_misspelt_path() {
    let place = Place::with_behaviours();
    place.add_example("csv-query");
    place.write("source/words/Cargo.toml", "");
    place.write("csv-qeries/rows.csv", "");
    place.write("behaviours.wsm.txt", "");
    for (typed, meant) in [
        ("csv-qery", "csv-query"),
        ("./csv-qery", "./csv-query"),
        ("behaviours.wsm", "behaviours.wasm"),
        ("source/wrods", "source/words"),
        ("csv-query/skil.wasm", "csv-query/skill.wasm"),
    ] {
        for command in ["run", "install", "inspect"] {
            let said = place.run([command, typed]);
            says(
                &said,
                &[
                    "exit: 6\n--- stdout\n--- stderr\n",
                    &format!("error: no skill `{typed}` was found\n"),
                    "  as a path: no such file or folder\n",
                    &format!("\nhint: did you mean `{meant}`?\n"),
                ],
            );
        }
    }
    check(
        place.run(["run", "csv-qery"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `csv-qery` was found
  as a path: no such file or folder
  as an installed skill: none of that name in `[PLACE]/home/skills`
hint: did you mean `csv-query`?

"#]],
    );
    // An installed one of almost that name is rather meant by a name, and not by what looks like a path.
    place.run(["install", "csv-query"]);
    place.run(["install", "behaviours.wasm"]);
    for (typed, meant) in [
        ("csv-qery", "csv-query@0.1.0"),
        ("./csv-qery", "./csv-query"),
        ("behaviours.wsm", "behaviours.wasm"),
        ("behaviour", "behaviours@1.2.3"),
    ] {
        let said = place.run(["run", typed]);
        says(&said, &[&format!("\nhint: did you mean `{meant}`?\n")]);
    }
}

/// What is installed is of no use to who installs.
#[test]
fn nothing_to_install() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    std::fs::remove_dir_all(place.path("text-stats")).expect("it can be removed");
    for typed in ["nothing", "text-stat", "nothing.wasm", "sha256:00000000"] {
        let said = place.run(["install", typed]);
        says(
            &said,
            &[
                "exit: 6\n--- stdout\n--- stderr\n",
                &format!("error: no skill `{typed}` was found\n"),
                "\nhint: is the path right? It is taken from the folder that this runs in\n",
            ],
        );
        assert_eq!(said.matches("hint: ").count(), 1, "{said}");
    }
}

#[test]
fn a_folder_with_nothing_of_a_skill() {
    let place = Place::new();
    place.write("notes/a.txt", "");
    check(
        place.run(["inspect", "notes"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `notes` was found
  as a path: the folder has neither a `.wasm` file nor a Cargo.toml
  as an installed skill: none of that name in `[PLACE]/home/skills`
hint: `skillhost list` shows what is installed

"#]],
    );
}

#[test]
fn a_folder_with_several_components() {
    let place = Place::new();
    place.write("two/a.wasm", "");
    place.write("two/b.wasm", "");
    check(
        place.run(["run", "two"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: the folder `two` has several `.wasm` files in it; name the one to run `skill.wasm`

"#]],
    );
}

#[test]
fn garbage() {
    let place = Place::new();
    place.write("garbage.wasm", "#!/bin/sh\n");
    check(
        place.run(["run", "garbage.wasm"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `garbage.wasm`: it is not a WebAssembly component: it does not begin with the bytes \0asm
hint: `skillhost new NAME` starts a skill, and `cargo build --release --target wasm32-wasip2` builds it

"#]],
    );
    place.write("empty.wasm", "");
    check(
        place.run(["run", "empty.wasm"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `empty.wasm`: it is not a WebAssembly component: it is empty
hint: `skillhost new NAME` starts a skill, and `cargo build --release --target wasm32-wasip2` builds it

"#]],
    );
}

#[test]
fn a_core_module() {
    let place = Place::new();
    place.write("core.wasm", b"\0asm\x01\0\0\0");
    check(
        place.run(["run", "core.wasm"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `core.wasm`: it is not a WebAssembly component: it is a core module; build it for the target wasm32-wasip2
hint: `skillhost new NAME` starts a skill, and `cargo build --release --target wasm32-wasip2` builds it

"#]],
    );
}

#[test]
fn a_component_that_is_no_skill() {
    let place = Place::new();
    place.write("none.wasm", b"\0asm\x0d\0\x01\0");
    check(
        place.run(["run", "none.wasm"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `none.wasm`: it does not fit this host
  it does not export `skillhost:skill/tools@1.0.0`, and so is not a skill
hint: start a skill with `skillhost new NAME`

"#]],
    );
}

#[test]
fn a_manifest_with_a_mistake() {
    let place = Place::with_text_stats();
    place.write("text-stats/skill.toml", "[limits]\nmemory = 1\n");
    check(
        place.run(["run", "text-stats"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `text-stats/skill.toml` cannot be used: line 2, in [limits]: unknown field `memory`, expected one of `fuel`, `memory_bytes`, `table_elements`, `instances`, `wall_time_ms`, `input_bytes`, `output_bytes`, `attachment_bytes`, `stdout_bytes`, `stderr_bytes`, `log_bytes`, `progress_bytes`, `host_bytes`, `handles`, `open_files`, `created_files`, `write_bytes`, `connections`, `http_request_bytes`, `http_response_bytes`, `http_fields_bytes`, `socket_sent_bytes`, `socket_read_bytes`, `storage_keys`, `storage_bytes`, `storage_value_bytes`; did you mean `memory_bytes`?

"#]],
    );
    place.write("text-stats/skill.toml", "fuel = 1\n");
    let said = place.run(["run", "text-stats"]);
    let hint =
        "hint: a skill.toml has the tables `grants`, `config` and `limits`, and nothing else\n";
    assert!(said.contains(hint), "{said}");
    place.write(
        "text-stats/skill.toml",
        "[[grants.directories]]\npath = '*'\nmode = 'rx'\n",
    );
    let said = place.run(["run", "text-stats"]);
    assert!(
        said.starts_with("exit: 6\n") && !said.contains("hint: "),
        "{said}"
    );
}

#[test]
fn a_document_of_another_name() {
    let place = Place::with_text_stats();
    place.write(
        "text-stats/SKILL.md",
        "---\nname: other\ndescription: Another.\n---\n",
    );
    check(
        place.run(["run", "text-stats"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `text-stats`: its SKILL.md names it "other", and the component says "text-stats"
hint: give both the same name: the package in Cargo.toml, and `name:` in SKILL.md

"#]],
    );
    place.write("text-stats/SKILL.md", "# Text stats\n");
    check(
        place.run(["run", "text-stats"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `text-stats/SKILL.md` does not follow the Agent Skills format: it does not begin with front matter (a line `---`, YAML, a line `---`)
hint: a SKILL.md begins with `---`, `name: …`, `description: …`, `---`

"#]],
    );
}

/// Lines are counted from the beginning of the file, and what has no end is told so.
#[test]
fn a_document_with_a_mistake() {
    let place = Place::with_text_stats();
    place.write(
        "text-stats/SKILL.md",
        "---\nname: text-stats\ndescription: [\n---\n",
    );
    let said = place.run(["run", "text-stats"]);
    assert!(said.contains("line 3 column 14: unclosed"), "{said}");
    place.write(
        "text-stats/SKILL.md",
        "---\nname: text-stats\ndescription: 1\nmetadata: 7\n---\n",
    );
    let said = place.run(["run", "text-stats"]);
    assert!(said.contains("line 4"), "{said}");
    place.write("text-stats/SKILL.md", "---\nname: text-stats\n");
    let said = place.run(["run", "text-stats"]);
    let wanted = "its front matter does not end: a line `---` must stand behind the YAML\n";
    assert!(said.contains(wanted), "{said}");
}

/// A digest is no path, and is not looked for as one.
#[test]
fn nothing_of_that_digest() {
    let place = Place::new();
    check(
        place.run(["run", "sha256:00000000"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `sha256:00000000` was found
  as a path: no such file or folder
  as an installed skill: none of that digest in `[PLACE]/home/skills`
hint: `skillhost list` shows what is installed

"#]],
    );
    let whole = format!("sha256:{}", "0".repeat(64));
    let said = place.run(["run", &whole]);
    assert!(said.contains("none of that digest in"), "{said}");
}

#[test]
fn a_cache_that_others_may_enter() {
    let place = Place::with_text_stats();
    place.write("open/compiled/x", "");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path("open/compiled"), open).expect("it can be opened");
    check(
        place.run(["--home", "open", "run", "text-stats", "--arg", "text=a"]),
        str![[r#"
exit: 70
--- stdout
--- stderr
error: refuses to use the compiled cache `[PLACE]/open/compiled`: others may enter it; run `chmod 700` on it, or remove it

"#]],
    );
}

#[test]
fn no_home() {
    let place = Place::with_text_stats();
    let mut command = place.command(["list"]);
    command.env_remove("SKILLHOST_HOME").env("HOME", "");
    let said = place.said(&command.output().expect("the command starts"));
    // Where the user database names a home, that is used.
    assert!(
        said.starts_with("exit: 0\n") || said.contains("--home DIR"),
        "{said}"
    );
}

#[test]
fn the_folders_of_the_xdg_specification() {
    let place = Place::with_text_stats();
    let run = |name: &str, arg: &str| {
        let mut command = place.command([name, arg]);
        command
            .env_remove("SKILLHOST_HOME")
            .env("HOME", place.path("user"))
            .env("XDG_CACHE_HOME", place.path("cache"));
        command.output().expect("the command starts")
    };
    assert!(run("install", "text-stats").status.success());
    let data = place.path("user/.local/share/skillhost/skills/text-stats@0.1.0");
    assert!(data.join("skill.wasm").is_file());
    let cache = place.path("cache/skillhost/compiled");
    let mode = cache.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// A variable that is empty is one that is not set.
#[test]
fn a_variable_that_is_empty() {
    let place = Place::new();
    let output = place
        .command(["list"])
        .env("SKILLHOST_HOME", "")
        .env("SKILLHOST_POLICY", "")
        .env("XDG_DATA_HOME", place.path("data"))
        .env("XDG_CONFIG_HOME", place.path("config"))
        .env("XDG_CACHE_HOME", place.path("cache"))
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", place.said(&output));
}

/// A folder that came with something else is not built because an installed skill has its name.
#[test]
fn a_source_folder_of_an_installed_name() {
    let place = Place::new();
    place.add_example("text-stats");
    place.run(["install", "text-stats"]);
    std::fs::remove_dir_all(place.path("text-stats")).expect("it can be removed");
    place.write(
        "text-stats/Cargo.toml",
        "[package]\nname = \"text-stats\"\n[lib]\ncrate-type = [\"cdylib\"]\n\n[workspace]\n",
    );
    place.write("text-stats/src/lib.rs", "");
    place.write(
        "text-stats/build.rs",
        "fn main() { std::fs::write(\"was-built\", \"\").unwrap() }\n",
    );
    for args in [
        ["inspect", "text-stats"].as_slice(),
        &["run", "text-stats", "--dry-run", "--arg", "text=a"],
    ] {
        let output = place
            .command([])
            .args(args)
            .output()
            .expect("it can be started");
        let said = place.said(&output);
        assert!(said.starts_with("exit: 2\n"), "{said}");
        let what =
            "error: `text-stats` is an installed skill, and the source folder of one as well";
        assert!(said.contains(what), "{said}");
        assert!(
            said.contains("hint: `./text-stats` builds the folder"),
            "{said}"
        );
        let installed = "text-stats@0.1.0";
        let which = format!("hint: `{installed}` is the installed one");
        assert!(said.contains(&which), "{said}");
        let said = place.run(["run", installed, "--arg", "text=a"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
    }
    assert!(!place.path("text-stats/was-built").exists());
    // Whoever means the folder says so, and it is built.
    let said = place.run(["inspect", "./text-stats"]);
    assert!(said.starts_with("exit: 6\n"), "{said}");
    assert!(place.path("text-stats/was-built").exists());
}
