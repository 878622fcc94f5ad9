//! `inspect`: what a skill is.

use serde_json::json;
use snapbox::str;

use crate::handmade::Handmade;
use crate::harness::{Place, check, says};

#[test]
fn for_a_person() {
    let place = Place::new();
    place.add_example("csv-query");
    let said = place.run(["inspect", "csv-query"]);
    // Its size and its interfaces are those of the compiler that made it.
    let said = regex::Regex::new(r"component  .*")
        .expect("a pattern of ours")
        .replace(&said, "component  [SIZE]");
    let (shown, imports) = said.split_once("Imports\n").expect("there are some");
    check(
        shown,
        str![[r#"
exit: 0
--- stdout
csv-query 0.1.0
  Selects, filters, groups and sorts the rows of CSV tables

  digest     sha256:[DIGEST]
  component  [SIZE]
  fits       yes

Tool query  read-only
  Selects, filters, groups and sorts the rows of a CSV table.

  The table is the file `path`, or `text`, or else the first attachment; its first row names the
  columns. With `group_by` or `aggregates` the answer has one row per group.
  input
    aggregates    list of object – The figures to give per group, or for the whole table without
                  `group_by`.
      fn          "count" | "sum" | "avg" | "min" | "max", required – What to compute. `sum` and
                  `avg` leave out cells that are no numbers.
      as          string – What to call the result; `sum_population` or the like by default.
      column      string – The column to compute it of; only `count` can do without and then counts
                  rows.
    columns       list of string, default [] – The columns to give, in this order; all of them by
                  default.
    delimiter     string, 1 character, default "," – What separates the cells of a row.
    filter        list of object – The conditions that a row must meet, all of them.
      column      string, required – The column to look at.
      op          "=" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "starts_with" | "ends_with" |
                  "in", required – How to compare.
      value       anything, required – What to compare with. A number compares with cells that are
                  numbers, a string with any cell as text, case-sensitively. `null`, with `=` and
                  `!=`, stands for an empty cell. `in` takes an array.
    group_by      list of string, default [] – Give one row per combination of values in these
                  columns.
    limit         integer ≥ 0 – At most this many rows; 100 by default.
    order_by      list of object – What to sort by, the most important first. Empty cells come last.
      column      string, required – A column of the table or, when grouping, of the result.
      descending  boolean, default false – From the highest to the lowest.
    path          string – The CSV file, in a granted directory.
    text          string – The table itself, in place of a file.
  output
    columns       list of string – The names of the columns.
    rows          list of list of integer or number or string or null – The rows: cells in the order
                  of `columns`, numbers where they look like it, empty cells `null`.
    rows_matched  integer ≥ 0 – Rows of the table that met the conditions.
    rows_read     integer ≥ 0 – Rows of the table that were read.
    truncated     boolean – Whether `limit` cut rows off.

Tool columns  read-only
  Describes the columns of a CSV table: names, types, empty cells, sample values.

  Use it before `query` on a table you do not know. The table is the file `path`, or `text`, or else
  the first attachment; its first row names the columns.
  input
    delimiter  string, 1 character – What separates the cells of a row; a comma by default.
    path       string – The CSV file, in a granted directory.
    samples    integer ≥ 0, default 3 – How many sample values to give per column.
    text       string – The table itself, in place of a file.
  output
    columns    list of object – The columns, in the table's order.
      empty    integer ≥ 0 – How many of its cells are empty.
      name     string – Its name in the header.
      samples  list of integer or number or string or null – The first values that differ.
      type     "boolean" | "integer" | "number" | "text" | "empty" | "date" – What all of its cells
               have in common.
    rows       integer ≥ 0 – Rows, without the header.

Wants
  directory  any path  ro                     Where the CSV files are.
  config     max_rows  integer, default 1000  A query can ask for at most this many rows.

Limits of its own
  fuel          50,000,000,000
  wall_time_ms  1 min

Granted by the policy
  nothing; `skillhost policy grant csv-query --help` says how to grant


"#]],
    );
    assert!(imports.contains("  wasi:filesystem@0.2"), "{imports}");
}

#[test]
fn for_a_program() {
    let place = Place::with_text_stats();
    let output = place.output(["inspect", "text-stats", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["name"], "text-stats");
    assert_eq!(json["version"], "0.1.0");
    assert_eq!(json["fits"], true);
    assert_eq!(json["tools"][0]["name"], "count");
    assert_eq!(json["tools"][0]["annotations"]["read_only"], true);
    assert_eq!(json["tools"][0]["input_schema"]["required"][0], "text");
    assert_eq!(json["manifest"]["limits"]["wall_time_ms"], 5000);
    let size = std::fs::metadata(place.path("text-stats/skill.wasm"));
    assert_eq!(json["component_bytes"], size.expect("it is there").len());
    for list in ["imports", "exports"] {
        let list = json[list].as_array().expect("a list");
        assert!(
            list.iter()
                .any(|name| name.as_str().is_some_and(|name| name.contains(':')))
        );
    }
    for field in ["digest", "description"] {
        assert!(json[field].is_string(), "{field}");
    }
}

/// Nobody can hold against it what it was granted.
#[test]
fn a_component_alone_declares_nothing() {
    let place = Place::with_text_stats();
    place.write(
        "alone.wasm",
        std::fs::read(place.path("text-stats/skill.wasm")).expect("it is there"),
    );
    let said = place.run(["inspect", "alone.wasm"]);
    says(
        &said,
        &[
            "exit: 0\n",
            "\nWants\n  anything that is granted, having no skill.toml\n\nGranted by the policy\n",
        ],
    );
}

#[test]
fn what_does_not_fit_is_shown_as_far_as_it_goes() {
    let place = Place::new();
    place.write("none.wasm", b"\0asm\x0d\0\x01\0");
    check(
        place.run(["inspect", "none.wasm"]),
        str![[r#"
exit: 6
--- stdout
none.wasm

  digest     sha256:[DIGEST]
  component  8 B
  fits       no: it does not export `skillhost:skill/tools@1.0.0`, and so is not a skill

Imports
  nothing

Exports
  nothing
--- stderr
error: cannot load `none.wasm`: it does not fit this host
  it does not export `skillhost:skill/tools@1.0.0`, and so is not a skill
hint: start a skill with `skillhost new NAME`

"#]],
    );
    let output = place.output(["inspect", "none.wasm", "--json"]);
    assert_eq!(output.status.code(), Some(6));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["fits"], false);
    assert_eq!(json["tools"], serde_json::json!([]));
}

/// As far as it can be known: nobody can say what it imports.
#[test]
fn what_cannot_be_compiled_is_told_to_a_program() {
    let place = Place::new();
    let whole = Handmade::default().build();
    place.write("cut/skill.wasm", &whole[..whole.len() / 2]);
    place.write(
        "cut/SKILL.md",
        "---\nname: cut\ndescription: It was cut off.\n---\n",
    );
    let output = place.output(["inspect", "cut", "--json"]);
    assert_eq!(output.status.code(), Some(6));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let reason = json["reason"].as_str().expect("it has one");
    assert!(reason.contains("cannot be compiled: "), "{reason}");
    let bytes = whole.len() / 2;
    for (field, value) in [
        ("name", json!("cut")),
        ("fits", json!(false)),
        ("tools", json!([])),
        ("imports", json!(null)),
        ("exports", json!(null)),
        ("component_bytes", json!(bytes)),
    ] {
        assert_eq!(json[field], value, "{field}");
    }
    let digest = json["digest"].as_str().expect("it has one");
    assert!(digest.starts_with("sha256:"), "{digest}");
    check(
        place.run(["inspect", "cut"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `cut`: it cannot be compiled: [..]
hint: is the file whole? Copy it again, or build it again: cargo build --release --target wasm32-wasip2; threads and memories of 64 bits are not for skills

"#]],
    );
}

#[test]
fn what_exports_another_shape_is_named_with_both_versions() {
    let place = Place::new();
    let text = Handmade::default().text();
    let text = text.replace(r#"(export "describe" (func $describe)) "#, "");
    place.write(
        "bare.wasm",
        wat::parse_str(text).expect("it is a component"),
    );
    check(
        place.run(["run", "bare.wasm"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `bare.wasm`: it does not fit this host
  it exports `skillhost:skill/tools` in version 1.0.0, and not as this host's version 1.0.0 has it: instance export `skillhost:skill/tools@1.0.0` does not have export `describe`
hint: build it with this host's SDK (`skillhost new` unpacks it)

"#]],
    );
}

/// What a skill wishes for itself, and does not get.
#[test]
fn limits_that_are_clamped_are_told() {
    let place = Place::with_text_stats();
    place.write(
        "text-stats/skill.toml",
        "[limits]\nmemory_bytes = \"2GiB\"\nopen_files = 4000\nwall_time_ms = \"20s\"\n",
    );
    let said = place.run(["inspect", "text-stats"]);
    says(
        &said,
        &[
            "Limits of its own\n",
            "2 GiB (clamped to 1 GiB)\n",
            "4,000 (clamped to 64)\n",
            "20 s\n",
        ],
    );
}
