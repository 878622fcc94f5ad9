//! The invariants of the architecture that a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Whether a file is in one of these places: folders, with a `/` at their end, and files.
fn is_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| match place.ends_with('/') {
        true => path.starts_with(place),
        false => path == *place,
    })
}

/// Checks that these words stand in code at no place but these.
fn check_only(words: &[&str], allowed: &[&str]) {
    check(words, allowed, |path| !is_in(path, allowed));
}

/// Checks that these words do not stand in code at these places, but for some.
fn check_never(words: &[&str], forbidden: &[&str], except: &[&str]) {
    let places = [forbidden, except].concat();
    check(words, &places, |path| {
        is_in(path, forbidden) && !is_in(path, except)
    });
}

/// `places` are those that the rule names, which are to be there: one that was moved is held to nothing.
fn check(words: &[&str], places: &[&str], forbidden: impl Fn(&str) -> bool) {
    let sources = sources();
    for place in places {
        let there = sources.iter().any(|source| is_in(&source.path, &[*place]));
        assert!(there, "there is no `src/{place}`, which a rule names");
    }
    let found: Vec<String> = sources
        .iter()
        .filter(|source| forbidden(&source.path))
        .flat_map(|source| lines_with(source, words).collect::<Vec<_>>())
        .collect();
    assert!(
        found.is_empty(),
        "{words:?} must not stand here:\n{}",
        found.join("\n")
    );
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
        &["sandbox/"],
    );
}

/// Raw sockets are connected by wasmtime-wasi, once `sandbox/capability/sockets` has checked their address; there,
/// these are the names of WASI's types, too.
#[test]
fn only_egress_and_raw_sockets_open_outgoing_connections() {
    let places = ["egress/", "sandbox/capability/sockets/"];
    check_only(&["TcpStream", "TcpSocket"], &places);
    // The self-test has a name server of its own, which answers and asks nobody.
    check_only(
        &["UdpSocket"],
        &[&places[..], &["doctor/names.rs"]].concat(),
    );
    check_only(&["hickory_resolver"], &["egress/", "doctor/names.rs"]);
    check_only(&["rustls", "tokio_rustls"], &["egress/"]);
}

#[test]
fn only_stores_know_sql() {
    // The index that searches tools is in memory, and nobody else's; what skills keep is theirs, and
    // has nothing to do with the queue.
    let stores = ["queue/store/", "storage/", "serve/mcp/search.rs"];
    check_only(
        &[
            "rusqlite",
            "rusqlite_migration",
            "refinery",
            "deadpool_postgres",
        ],
        &stores,
    );
    // A caller's own transaction is handed through; TLS is egress's.
    let besides = ["queue/handle.rs", "egress/database.rs"];
    check_only(&["tokio_postgres"], &[&stores[..], &besides].concat());
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
        &["queue/"],
        &[],
    );
    check_only(
        &["crate::queue", "skillhost::queue"],
        &["queue/", "serve/", "cli/", "lib.rs"],
    );
}

#[test]
fn only_doors_know_what_they_speak() {
    // The console names it as a source of records.
    check_only(&["rmcp"], &["serve/mcp/", "cli/console.rs"]);
    check_only(
        &["axum", "hyper_util", "tower", "tower_http", "utoipa_axum"],
        &["serve/"],
    );
    check_only(
        &["crate::serve", "skillhost::serve"],
        &["serve/", "cli/", "lib.rs"],
    );
    check_never(
        &["crate::sandbox", "crate::cli", "crate::doctor"],
        &["serve/"],
        &[],
    );
}

#[test]
fn only_the_command_line_knows_its_parser_and_anyhow() {
    check_only(&["clap", "clap_complete"], &["cli/"]);
    check_only(&["anyhow"], &["cli/", "main.rs"]);
}

/// The layers of the architecture, lowest first, as ARCHITECTURE.md has them.
fn layers() -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it can be read");
    let (_, behind) = text
        .split_once("Dependencies run one way.")
        .expect("it says so");
    let block = behind.split("```").nth(1).expect("there is a block");
    let lines = block.lines().skip(1).filter(|line| !line.is_empty());
    let layers: Vec<Vec<String>> = lines
        .map(|line| line.split(", ").map(str::to_owned).collect())
        .collect();
    assert!(layers.len() > 5, "{layers:?}");
    layers
}

/// The part that a file is of.
fn part(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The names behind `crate::` in code that is no test's, of `crate::a::B` and of `crate::{a::B, c}`.
fn named_of_the_crate(text: &str) -> Vec<String> {
    let tests = "\n#[cfg(test)]\nmod tests {";
    let code: String = text[..text.find(tests).unwrap_or(text.len())]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        if code[..at].ends_with(is_name) {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            None => names.push(rest.chars().take_while(|c| is_name(*c)).collect()),
            Some(inner) => {
                let (mut depth, mut begins) = (0, true);
                for (at, c) in inner.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        c if begins && is_name(c) => {
                            begins = false;
                            names.push(inner[at..].chars().take_while(|c| is_name(*c)).collect());
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

#[test]
fn dependencies_run_one_way() {
    let layers = layers();
    let layer = |name: &str| {
        let of = |layer: &Vec<String>| layer.iter().any(|part| part == name);
        layers.iter().position(of)
    };
    let sources = sources();
    let parts: BTreeSet<&str> = sources.iter().map(|source| part(&source.path)).collect();
    for part in &parts {
        let is_root = ["lib", "main"].contains(part);
        assert!(is_root || layer(part).is_some(), "`{part}` has no layer");
    }
    for name in layers.iter().flatten() {
        assert!(parts.contains(name.as_str()), "`{name}` is no part");
    }
    // What `lib.rs` has of others, under the names that it gives them.
    let root = sources.iter().find(|source| source.path == "lib.rs");
    let root = &root.expect("there is one").text;
    let mut from = BTreeMap::new();
    for line in root.split(';').map(str::trim) {
        let Some((part, items)) = line
            .rsplit_once("pub use ")
            .and_then(|(_, used)| used.split_once("::"))
        else {
            continue;
        };
        let items = items.split(|c: char| !c.is_alphanumeric() && c != '_');
        from.extend(items.map(|item| (item.to_owned(), part.to_owned())));
    }
    let mut checked = 0;
    let mut wrong = Vec::new();
    for source in &sources {
        let own = part(&source.path);
        let is_test = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
        let Some(at) = layer(own).filter(|_| !is_test && own != "cli") else {
            continue;
        };
        for name in named_of_the_crate(&source.text) {
            let of = match layer(&name) {
                Some(_) => &name,
                None => from
                    .get(&name)
                    .unwrap_or_else(|| panic!("src/{}: what is `crate::{name}`?", source.path)),
            };
            checked += 1;
            if of != own && layer(of).is_none_or(|of| of >= at) {
                wrong.push(format!("src/{} uses `{of}`", source.path));
            }
        }
    }
    assert!(checked > 500, "{checked}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What goes in and out, and what a skill is, can be read without knowing how it runs.
#[test]
fn data_does_not_know_what_runs_it() {
    let data = [
        "limits/",
        "usage.rs",
        "grant/",
        "skill/",
        "execution/",
        "text.rs",
        "json.rs",
        "json/",
        "turns/",
        "policy/",
    ];
    check_never(&["crate::sandbox", "crate::host", "crate::cli"], &data, &[]);
}

/// What may be touched is decided from what is given, without looking anywhere.
#[test]
fn only_one_file_of_the_policy_opens_files() {
    check_never(
        &["fs", "File", "OpenOptions"],
        &["grant/", "policy/"],
        &["policy/file.rs"],
    );
}

#[test]
fn the_sandbox_does_not_know_the_host() {
    check_never(
        &["crate::host", "crate::cli", "crate::policy"],
        &["sandbox/"],
        &[],
    );
}

/// What an execution waits for blocks on threads that are bounded, and that nobody waits for when the runtime goes.
#[test]
fn executions_block_no_threads_of_the_runtime() {
    check_never(
        &["spawn_blocking", "block_in_place"],
        &["egress/", "sandbox/"],
        &[],
    );
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
        &["egress/"],
        &[],
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
        &["breaker/"],
        &[],
    );
}

#[test]
fn what_is_examined_does_not_know_the_self_test() {
    check_only(&["crate::doctor"], &["doctor/"]);
}

#[test]
fn the_library_does_not_know_the_command_line() {
    check_only(&["crate::cli"], &["cli/", "main.rs"]);
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

/// Who embeds the host alone compiles no server, no database and no command line; nor, with the queue, the rest.
#[test]
fn what_an_embedder_leaves_out_is_not_compiled() {
    let compiled = |features: &str| -> Vec<String> {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--package", "skillhost", "--edges", "normal"])
            .args(["--prefix", "none", "--format", "{p}"])
            .args(["--no-default-features", "--features", features])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).expect("it is text");
        let packages = lines.lines().filter_map(|line| line.split(' ').next());
        packages.map(str::to_owned).collect()
    };
    let databases = ["rusqlite", "libsqlite3-sys", "tokio-postgres", "refinery"];
    let servers = ["axum", "tower-http", "rmcp", "utoipa", "prometheus-client"];
    let command = ["clap", "indicatif", "tracing-subscriber", "toml_edit"];
    let [sqlite, postgres] = [&databases[..2], &databases[2..]];
    for (features, left_out) in [
        ("", [sqlite, postgres, &servers, &command].concat()),
        ("doctor", [postgres, &servers, &command].concat()),
        ("queue", [postgres, &servers, &command].concat()),
        (
            "mcp",
            [postgres, &["axum", "tower-http"], &command].concat(),
        ),
    ] {
        let compiled = compiled(features);
        assert!(compiled.iter().any(|package| package == "wasmtime"));
        for package in left_out {
            let there = compiled.iter().any(|compiled| compiled == package);
            assert!(!there, "`{features}` compiles {package}");
        }
    }
    // What is looked for are names of packages that there are.
    let all = compiled("cli");
    for package in [&databases[..], &servers, &command].concat() {
        assert!(all.iter().any(|compiled| compiled == package), "{package}");
    }
}
