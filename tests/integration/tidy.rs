//! The invariants of the architecture that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

use skillhost::{Limit, Limits};

/// A source file: its path below `src`, and its text without the unit tests at its end.
struct Source {
    path: String,
    text: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open: Vec<PathBuf> = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("src can be read");
            open.extend(entries.map(|entry| entry.expect("src can be read").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("src can be read");
            let below = path.strip_prefix(&root).expect("it is below");
            sources.push(Source {
                path: below.to_str().expect("names are UTF-8").to_owned(),
                lines: text.lines().count(),
                text,
            });
        }
    }
    assert!(sources.len() > 20);
    sources
}

/// The lines that are code and have one of these words in them.
fn lines_with<'s>(source: &'s Source, words: &'s [&str]) -> impl Iterator<Item = String> + 's {
    let is_word = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
            !line[..at].ends_with(part_of_name)
                && !line[at + word.len()..].starts_with(part_of_name)
        })
    };
    source
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter(move |(_, line)| words.iter().any(|word| is_word(line, word)))
        .map(|(number, line)| format!("src/{}:{}: {}", source.path, number + 1, line.trim()))
}

/// Checks that these words stand in code at these places only.
fn check_only(words: &[&str], allowed: impl Fn(&str) -> bool) {
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| !allowed(&source.path))
        .flat_map(|source| lines_with(source, words).collect::<Vec<_>>())
        .collect();
    assert!(
        found.is_empty(),
        "{words:?} must not stand here:\n{}",
        found.join("\n")
    );
}

/// Checks that these words do not stand in code at these places.
fn check_never(words: &[&str], forbidden: impl Fn(&str) -> bool) {
    check_only(words, |path| !forbidden(path));
}

#[test]
fn only_the_sandbox_knows_wasmtime() {
    check_only(
        &[
            "wasmtime",
            "wasmtime_wasi",
            "wasmtime_wasi_config",
            "wasmtime_wasi_http",
        ],
        |path| path.starts_with("sandbox/"),
    );
}

#[test]
fn only_egress_opens_outgoing_connections() {
    check_only(
        &[
            "TcpStream",
            "TcpSocket",
            "UdpSocket",
            "hickory_resolver",
            "rustls",
            "tokio_rustls",
        ],
        // `sandbox/capability/sockets` names WASI's types of these names.
        |path| path.starts_with("egress/") || path.starts_with("sandbox/capability/sockets/"),
    );
}

#[test]
fn only_stores_know_sql() {
    // The index that searches tools is in memory, and nobody else's; what skills keep is theirs, and
    // has nothing to do with the queue.
    let index = "serve/mcp/search.rs";
    let store = |path: &str| {
        path.starts_with("queue/store/") || path.starts_with("storage/") || path == index
    };
    check_only(
        &[
            "rusqlite",
            "rusqlite_migration",
            "refinery",
            "deadpool_postgres",
        ],
        store,
    );
    // A caller's own transaction is handed through; TLS is egress's.
    check_only(&["tokio_postgres"], |path| {
        store(path) || path == "queue/handle.rs" || path == "egress/database.rs"
    });
}

#[test]
fn the_queue_does_not_know_what_executes() {
    check_never(
        &[
            "crate::sandbox",
            "crate::host",
            "crate::cli",
            "crate::doctor",
        ],
        |path| path.starts_with("queue/"),
    );
    check_never(&["crate::queue", "skillhost::queue"], |path| {
        !["queue/", "serve/", "cli/"]
            .iter()
            .any(|may| path.starts_with(may))
            && path != "lib.rs"
    });
}

#[test]
fn only_doors_know_what_they_speak() {
    // The console names it as a source of records.
    check_only(&["rmcp"], |path| {
        path.starts_with("serve/mcp/") || path == "cli/console.rs"
    });
    check_only(
        &["axum", "hyper_util", "tower", "tower_http", "utoipa_axum"],
        |path| path.starts_with("serve/"),
    );
    check_never(&["crate::serve", "skillhost::serve"], |path| {
        !path.starts_with("serve/") && !path.starts_with("cli/") && path != "lib.rs"
    });
    check_never(&["crate::sandbox", "crate::cli", "crate::doctor"], |path| {
        path.starts_with("serve/")
    });
}

#[test]
fn only_the_command_line_knows_its_parser_and_anyhow() {
    let cli = |path: &str| path.starts_with("cli/") || path == "cli.rs";
    check_only(&["clap", "clap_complete"], cli);
    check_only(&["anyhow"], |path| cli(path) || path == "main.rs");
}

/// What goes in and out, and what a skill is, can be read without knowing how it runs.
#[test]
fn data_does_not_know_what_runs_it() {
    let data = |path: &str| {
        path.starts_with("grant/")
            || path.starts_with("skill/")
            || path.starts_with("policy/")
            || [
                "limits.rs",
                "usage.rs",
                "execution.rs",
                "text.rs",
                "json.rs",
            ]
            .contains(&path)
    };
    check_never(&["crate::sandbox", "crate::host", "crate::cli"], data);
}

/// What may be touched is decided from what is given, without looking anywhere.
#[test]
fn only_one_file_of_the_policy_opens_files() {
    check_never(&["fs", "File", "OpenOptions"], |path| {
        path.starts_with("grant/") || (path.starts_with("policy/") && path != "policy/file.rs")
    });
}

#[test]
fn the_sandbox_does_not_know_the_host() {
    check_never(&["crate::host", "crate::cli", "crate::policy"], |path| {
        path.starts_with("sandbox/")
    });
}

#[test]
fn egress_does_not_know_who_uses_it() {
    check_never(
        &[
            "crate::sandbox",
            "crate::host",
            "crate::cli",
            "crate::policy",
        ],
        |path| path.starts_with("egress/"),
    );
}

/// A circuit is told of outcomes, and does not know of what.
#[test]
fn circuits_do_not_know_what_they_stand_for() {
    check_never(
        &[
            "crate::egress",
            "crate::execution",
            "crate::host",
            "crate::policy",
            "crate::sandbox",
        ],
        |path| path.starts_with("breaker/"),
    );
}

#[test]
fn what_is_examined_does_not_know_the_self_test() {
    check_never(&["crate::doctor"], |path| !path.starts_with("doctor/"));
}

#[test]
fn the_library_does_not_know_the_command_line() {
    check_never(&["crate::cli"], |path| {
        !path.starts_with("cli/") && path != "main.rs"
    });
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_unsafe = code
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe");
            if !is_unsafe {
                continue;
            }
            let mut above = lines[..number].iter().rev().take_while(|line| {
                line.trim_start().starts_with("//") || line.trim_start().starts_with("#[")
            });
            assert!(
                above.any(|line| line.contains("SAFETY:")),
                "src/{}:{}: `unsafe` without a comment `SAFETY:` above it",
                source.path,
                number + 1
            );
        }
    }
}

#[test]
fn no_file_grows_past_what_can_be_read() {
    let large: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > 600)
        .map(|source| format!("src/{} has {} lines", source.path, source.lines))
        .collect();
    assert!(
        large.is_empty(),
        "600 lines are enough:\n{}",
        large.join("\n")
    );
}

/// The README's table of limits: of each row, the cells.
fn table_of_limits() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(path).expect("there is a README");
    let (_, table) = readme
        .split_once("| name | flag | default | ceiling |")
        .expect("it has the table");
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// A figure as the README writes it, in the base unit of limits: bytes, milliseconds, or a count.
fn figure(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: u64 = number.replace(',', "").parse().expect(text);
    number
        * match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "s" => 1_000,
            "h" => 3_600_000,
            _ => panic!("a unit that is none: {text}"),
        }
}

#[test]
fn every_limit_stands_in_the_readme_with_its_default_and_its_ceiling() {
    let (default, ceiling) = (Limits::default(), Limits::ceiling());
    let table = table_of_limits();
    let mut named: Vec<&str> = Vec::new();
    for row in &table {
        let [name, _, said_default, said_ceiling, meaning] = &row[..] else {
            panic!("a row of another width: {row:?}");
        };
        let name = name.trim_matches('`');
        let limit = Limit::ASKED
            .into_iter()
            .chain([Limit::Stack])
            .find(|limit| limit.as_str() == name)
            .unwrap_or_else(|| panic!("the README names a limit that is none: `{name}`"));
        assert_eq!(figure(said_default), default.get(limit), "`{name}`");
        match limit {
            // It is the host's, and no request's.
            Limit::Stack => assert_eq!(said_ceiling, "set for the host"),
            _ => assert_eq!(figure(said_ceiling), ceiling.get(limit), "`{name}`"),
        }
        assert!(!meaning.is_empty(), "`{name}`");
        named.push(name);
    }
    // Those that there are, as they stand in JSON.
    let limits = serde_json::to_value(default).expect("limits are JSON");
    let mut keys: Vec<&str> = limits
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, keys, "the README's table of limits");
}
