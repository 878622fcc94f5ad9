//! Skills that are built from their source first.

use snapbox::str;

use crate::harness::{NEED_NOT_BE_FAST, Place, check, root, says, source, target};

#[test]
fn a_source_folder() {
    let place = Place::new();
    let source = source("text-stats");
    let mut command = place.command(["run"]);
    command
        .arg(source)
        .args(["--arg", "text=to be", "--arg", "top=0"])
        .env("CARGO_TARGET_DIR", target())
        .envs([NEED_NOT_BE_FAST]);
    check(
        place.said(&command.output().expect("the command starts")),
        str![[r#"
exit: 0
--- stdout
{"characters":5,"distinct_words":2,"lines":1,"longest_line":{"characters":5,"number":1},"top_words":[],"words":2}
--- stderr
✓ text-stats 0.1.0 · count · [COST]

"#]],
    );
}

#[test]
fn a_source_that_does_not_build() {
    let place = Place::new();
    place.write(
        "broken/Cargo.toml",
        "[package]\nname = \"broken\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n",
    );
    place.write("broken/src/lib.rs", "fn f() -> u8 { \"no\" }\n");
    let said = place.run(["run", "broken"]);
    assert!(said.contains("mismatched types"), "{said}");
    let end = said.find("error: `broken`").expect("it says so");
    check(
        &said[end..],
        str![[r#"
error: `broken` does not build
  what cargo says about it stands above

"#]],
    );
}

#[test]
fn a_source_that_is_no_component() {
    let place = Place::new();
    place.write(
        "plain/Cargo.toml",
        "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    place.write("plain/src/lib.rs", "");
    check(
        place.run(["run", "plain"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `plain` is the source of no skill: it does not build to a component
hint: its Cargo.toml needs `[lib]` with `crate-type = ["cdylib", "rlib"]`
hint: `skillhost new NAME` starts a skill

"#]],
    );
    // Nothing was built for that.
    assert!(!place.path("plain/target").exists());
}

/// The SDK that `new` unpacked may be removed with the home that it was in.
#[test]
fn a_source_whose_sdk_is_gone() {
    let place = Place::new();
    let said = place.run(["new", "mine"]);
    assert!(said.starts_with("exit: 0"), "{said}");
    std::fs::remove_dir_all(place.path("home/sdk")).expect("it is there");
    let said = place.run(["run", "mine"]);
    says(
        &said,
        &[
            "exit: 6\n",
            "error: `mine` depends on an SDK that is gone: `[PLACE]/home/sdk/",
            "hint: `skillhost new NAME` unpacks this program's SDK again",
        ],
    );
    let said = place.run(["new", "other"]);
    assert!(said.starts_with("exit: 0"), "{said}");
    let mut command = place.command(["run", "mine", "--arg", "name=World"]);
    command
        .env("CARGO_TARGET_DIR", target())
        .envs([NEED_NOT_BE_FAST]);
    let said = place.said(&command.output().expect("the command starts"));
    says(
        &said,
        &["exit: 0\n", "Hello, World!", "✓ mine 0.1.0 · greet"],
    );
}

#[test]
fn a_source_without_skill() {
    let place = Place::new();
    place.write(
        "forgot/Cargo.toml",
        "[package]\nname = \"forgot\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n[workspace]\n",
    );
    place.write("forgot/src/lib.rs", "pub fn count() {}\n");
    for command in ["run", "inspect"] {
        let said = place.run([command, "forgot"]);
        assert!(said.starts_with("exit: 6\n"), "{said}");
        let end = said.find("error: ").expect("it says so");
        check(
            &said[end..],
            str![[r#"
error: cannot load `forgot`: it does not fit this host
  it does not export `skillhost:skill/tools@1.0.0`, and so is not a skill
hint: its `lib.rs` needs `skills_sdk::skill! { tools: [...] }`, with its functions that have `#[tool]` in the list

"#]],
        );
    }
}

#[test]
fn a_workspace_of_sources() {
    let place = Place::new();
    place.write(
        "all/Cargo.toml",
        "[workspace]\nmembers = [\"one\", \"two\"]\n",
    );
    check(
        place.run(["run", "all"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `all` holds a workspace of crates, and is no skill itself
  its crates: one, two
hint: name one of them: `all/one`

"#]],
    );
}

/// Runs a crate with tools of Rust that only say what the real ones would, from these folders of
/// `tests/cli/tools`.
fn run_with_tools<const N: usize>(folders: [&str; N]) -> String {
    let place = Place::with_behaviours();
    place.write(
        "source/Cargo.toml",
        "[package]\nname = \"x\"\n[lib]\ncrate-type = [\"cdylib\"]\n",
    );
    let tools = folders.map(|folder| root().join("tests/cli/tools").join(folder));
    let path = std::env::join_paths(tools).expect("no path has a colon");
    let mut command = place.command(["run", "source", "echo"]);
    command.env("PATH", path);
    place.said(&command.output().expect("the command starts"))
}

#[test]
fn the_target_is_added_where_it_is_missing() {
    check(
        run_with_tools(["rust", "rustup"]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
Rust's target wasm32-wasip2, which skills are built for, is missing; trying `rustup target add wasm32-wasip2`
this is rustup with target add wasm32-wasip2
✓ behaviours 1.2.3 · echo · [COST]

"#]],
    );
}

#[test]
fn the_target_cannot_be_added() {
    check(
        run_with_tools(["rust"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
Rust's target wasm32-wasip2, which skills are built for, is missing; trying `rustup target add wasm32-wasip2`
error: Rust's target wasm32-wasip2 is missing, and there is no rustup to add it with
hint: install the standard library for wasm32-wasip2 the way Rust was installed, or use https://rustup.rs

"#]],
    );
    check(
        run_with_tools(["rust", "broken-rustup"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
Rust's target wasm32-wasip2, which skills are built for, is missing; trying `rustup target add wasm32-wasip2`
no network
error: Rust's target wasm32-wasip2 cannot be added
  what rustup says about it stands above

"#]],
    );
}

#[test]
fn there_is_no_rust() {
    check(
        run_with_tools([]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot build: `rustc` cannot be started: No such file or directory (os error 2)
hint: building a skill takes Rust: https://rustup.rs

"#]],
    );
}

/// Nobody waits for a build that comes to nothing.
#[test]
fn what_is_wrong_with_its_texts_is_told_before_it_is_built() {
    let place = Place::new();
    place.write(
        "broken/Cargo.toml",
        "[package]\nname = \"broken\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n",
    );
    place.write("broken/src/lib.rs", "fn f() -> u8 { \"no\" }\n");
    place.write("broken/skill.toml", "grant = 3\n");
    check(
        place.run(["run", "broken"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `broken/skill.toml` cannot be used: line 1: unknown field `grant`, expected one of `grants`, `config`, `limits`; did you mean `grants`?
hint: a skill.toml has the tables `grants`, `config` and `limits`, and nothing else

"#]],
    );
}
