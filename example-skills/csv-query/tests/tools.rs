//! The tools, called as a host calls them.

use csv_query::skill;
use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

const CITIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/cities.csv");

const STOCK: &str = "\
item,shelf,count,price
bolt,A,100,0.10
nut,A,200,0.05
drill,B,3,59.90
saw,B,,24.50
";

fn query(mut input: Value) -> Result<Value, Failure> {
    input["text"] = json!(STOCK);
    skill().call("query", input, &TestContext::new())
}

fn rows(input: Value) -> Value {
    query(input).unwrap()["rows"].clone()
}

#[track_caller]
fn refused(result: Result<Value, Failure>, expected: &str, part: &str) {
    match result {
        Err(Failure::InvalidInput { pointer, message }) => {
            assert_eq!(pointer, expected);
            assert!(message.contains(part), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_anything_all_comes_back() {
    let table = query(json!({})).unwrap();
    assert_eq!(table["columns"], json!(["item", "shelf", "count", "price"]));
    assert_eq!(table["rows"][3], json!(["saw", "B", null, 24.5]));
    assert_eq!(table["rows_read"], 4);
    assert_eq!(table["rows_matched"], 4);
    assert_eq!(table["truncated"], false);
}

#[test]
fn columns_filter_order_and_limit_work_together() {
    let input = json!({
        "columns": ["item"],
        "filter": [{ "column": "price", "op": "<", "value": 50 }],
        "order_by": [{ "column": "price", "descending": true }],
        "limit": 2,
    });
    let table = query(input).unwrap();
    assert_eq!(table["rows"], json!([["saw"], ["bolt"]]));
    assert_eq!(table["rows_matched"], 3);
    assert_eq!(table["truncated"], true);
}

#[test]
fn empty_cells_come_last_in_either_direction() {
    for (descending, expected) in [
        (false, json!([["drill"], ["bolt"], ["nut"], ["saw"]])),
        (true, json!([["nut"], ["bolt"], ["drill"], ["saw"]])),
    ] {
        let order = [json!({ "column": "count", "descending": descending })];
        assert_eq!(
            rows(json!({ "columns": ["item"], "order_by": order })),
            expected
        );
    }
}

#[test]
fn groups_have_their_figures() {
    let input = json!({
        "group_by": ["shelf"],
        "aggregates": [
            { "fn": "count" },
            { "fn": "count", "column": "count" },
            { "fn": "sum", "column": "count" },
            { "fn": "avg", "column": "price", "as": "mean price" },
            { "fn": "min", "column": "item" },
            { "fn": "max", "column": "price" },
        ],
        "order_by": [{ "column": "max_price", "descending": true }],
    });
    let table = query(input).unwrap();
    assert_eq!(
        table["columns"],
        json!([
            "shelf",
            "count",
            "count_count",
            "sum_count",
            "mean price",
            "min_item",
            "max_price"
        ])
    );
    assert_eq!(
        table["rows"],
        json!([
            ["B", 2, 1, 3, 42.2, "drill", 59.9],
            ["A", 2, 2, 300, 0.07500000000000001, "bolt", 0.1]
        ])
    );
}

#[test]
fn figures_of_the_whole_table_need_no_groups() {
    assert_eq!(
        rows(json!({ "aggregates": [{ "fn": "sum", "column": "count" }] })),
        json!([[303]])
    );
    let nothing = [json!({ "column": "item", "op": "=", "value": "axe" })];
    let aggregates = [
        json!({ "fn": "count" }),
        json!({ "fn": "max", "column": "price" }),
    ];
    assert_eq!(
        rows(json!({ "filter": nothing, "aggregates": aggregates })),
        json!([[0, null]])
    );
}

#[test]
fn cells_that_are_no_numbers_are_left_out_of_sums_and_logged() {
    let ctx = TestContext::new();
    let input =
        json!({ "text": "n\n1\nmany\n2\n", "aggregates": [{ "fn": "sum", "column": "n" }] });
    assert_eq!(
        skill().call("query", input, &ctx).unwrap()["rows"],
        json!([[3]])
    );
    assert!(ctx.logs()[0].message.starts_with("1 cells are no numbers"));
}

#[test]
fn sorting_many_rows_keeps_the_first_ones() {
    let numbers: String = (0..500).map(|i| format!("{}\n", i * 7919 % 500)).collect();
    let input =
        json!({ "text": format!("n\n{numbers}"), "order_by": [{ "column": "n" }], "limit": 3 });
    let table = skill().call("query", input, &TestContext::new()).unwrap();
    assert_eq!(table["rows"], json!([[0], [1], [2]]));
    assert_eq!(table["truncated"], true);
}

#[test]
fn files_and_attachments_are_read() {
    let ctx = TestContext::new();
    let input =
        json!({ "path": CITIES, "filter": [{ "column": "city", "op": "=", "value": "Oslo" }] });
    let table = skill().call("query", input, &ctx).unwrap();
    assert_eq!(
        table["rows"],
        json!([["Oslo", "Norway", "Europe", 709_000, 454, "true"]])
    );

    let ctx = TestContext::new().attachment(Attachment::new(
        "a.tsv",
        "text/tab-separated-values",
        "a\tb\n1\t2\n",
    ));
    let table = skill()
        .call("query", json!({ "delimiter": "\t" }), &ctx)
        .unwrap();
    assert_eq!(table["rows"], json!([[1, 2]]));
}

#[test]
fn the_configuration_bounds_the_rows() {
    let ctx = TestContext::new().config("max_rows", "2");
    let table = skill()
        .call("query", json!({ "text": STOCK }), &ctx)
        .unwrap();
    assert_eq!(table["rows"].as_array().unwrap().len(), 2);
    refused(
        skill().call("query", json!({ "text": STOCK, "limit": 3 }), &ctx),
        "/limit",
        "max_rows",
    );
    refused(query(json!({ "limit": 1001 })), "/limit", "at most 1000");
}

#[test]
fn progress_is_reported_on_long_tables() {
    let ctx = TestContext::new();
    let text = format!("n\n{}", "1\n".repeat(20_000));
    skill()
        .call("columns", json!({ "text": text }), &ctx)
        .unwrap();
    let percents: Vec<_> = ctx
        .progress()
        .into_iter()
        .map(|report| report.percent.unwrap())
        .collect();
    assert!(percents.len() > 5 && percents.is_sorted(), "{percents:?}");
}

#[test]
fn mistakes_are_located() {
    let missing = "no column `colour`; the columns are: item, shelf, count, price";
    refused(
        query(json!({ "columns": ["item", "colour"] })),
        "/columns/1",
        missing,
    );
    refused(
        query(json!({ "group_by": ["colour"] })),
        "/group_by/0",
        missing,
    );
    refused(
        query(json!({ "order_by": [{ "column": "colour" }] })),
        "/order_by/0/column",
        missing,
    );
    let condition = json!({ "column": "colour", "op": "=", "value": 1 });
    refused(
        query(json!({ "filter": [condition] })),
        "/filter/0/column",
        missing,
    );
    let condition = json!({ "column": "item", "op": "like", "value": 1 });
    refused(
        query(json!({ "filter": [condition] })),
        "/filter/0/op",
        "starts_with",
    );
    let condition = json!({ "column": "item", "op": "in", "value": 1 });
    refused(
        query(json!({ "filter": [condition] })),
        "/filter/0/value",
        "array",
    );
    refused(
        query(json!({ "aggregates": [{ "fn": "sum" }] })),
        "/aggregates/0/column",
        "needs a column",
    );
    let input = json!({ "columns": ["item"], "group_by": ["shelf"] });
    refused(query(input), "/columns", "leave `columns` out");
    refused(query(json!({ "path": "a.csv" })), "/text", "not both");
    refused(query(json!({ "delimiter": "é" })), "/delimiter", "ASCII");
}

#[test]
fn unusable_tables_are_named() {
    let call = |input| skill().call("query", input, &TestContext::new());
    refused(call(json!({})), "", "give `path`, `text` or an attachment");
    refused(
        call(json!({ "path": "none/such.csv" })),
        "/path",
        "not granted (--dir)",
    );
    let directory = json!({ "path": env!("CARGO_MANIFEST_DIR") });
    refused(call(directory), "/path", "is a directory");
    refused(call(json!({ "text": "a,b\n1\n" })), "/text", "line: 2");
}

#[test]
fn columns_are_described() {
    let text =
        "id,code,when,ok,note,void\n1,007,2024-05-06,true,x,\n2.5,010,2024-05-07 12:00,false,,\n";
    let ctx = TestContext::new();
    let table = skill()
        .call("columns", json!({ "text": text, "samples": 1 }), &ctx)
        .unwrap();
    assert_eq!(
        table,
        json!({ "rows": 2, "columns": [
            { "name": "id", "type": "number", "empty": 0, "samples": [1] },
            { "name": "code", "type": "text", "empty": 0, "samples": ["007"] },
            { "name": "when", "type": "date", "empty": 0, "samples": ["2024-05-06"] },
            { "name": "ok", "type": "boolean", "empty": 0, "samples": ["true"] },
            { "name": "note", "type": "text", "empty": 1, "samples": ["x"] },
            { "name": "void", "type": "empty", "empty": 2, "samples": [] },
        ] })
    );
}

#[test]
fn too_many_groups_are_refused() {
    let text: String = (0..=50_000).map(|i| format!("\n{i}")).collect();
    let input = json!({ "text": format!("n{text}"), "group_by": ["n"] });
    match skill().call("query", input, &TestContext::new()) {
        Err(Failure::Error { code, .. }) => assert_eq!(code.as_deref(), Some("too-many-groups")),
        other => panic!("{other:?}"),
    }
}
