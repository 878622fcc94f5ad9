//! The tool, called as a host calls it.

use html_to_markdown::skill;
use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/page.html");

fn convert(input: Value) -> Result<Value, Failure> {
    skill().call("convert", input, &TestContext::new())
}

#[track_caller]
fn refused(input: Value, expected: &str, part: &str) {
    match convert(input) {
        Err(Failure::InvalidInput { pointer, message }) => {
            assert_eq!(pointer, expected);
            assert!(message.contains(part), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn html_is_converted() {
    let page = convert(json!({ "html": "<title>t</title><h1>a <a href='b'>b</a></h1>" })).unwrap();
    assert_eq!(page, json!({ "title": "t", "markdown": "# a [b](b)" }));
    let page = convert(
        json!({ "html": "<p><a href='b'>b</a><img src='c'>", "keep_links": false, "keep_images": false }),
    );
    assert_eq!(page.unwrap()["markdown"], "b");
}

#[test]
fn a_file_is_converted_to_its_main_content() {
    let page = convert(json!({ "path": PAGE, "main_only": true })).unwrap();
    assert_eq!(page["title"], "Why bread rises – The Slow Oven");
    let markdown = page["markdown"].as_str().unwrap();
    assert!(markdown.starts_with("# Why bread rises\n\nPublished 3 February 2025"));
    assert!(markdown.contains("| 22 °C | 3 hours    | an everyday loaf        |"));
    assert!(markdown.contains("```python\nhydration = "));
    for left_out in ["Recipes", "You may also like", "Privacy", "analytics"] {
        assert!(!markdown.contains(left_out), "{left_out}");
    }
}

#[test]
fn an_attachment_is_converted() {
    let ctx = TestContext::new().attachment(Attachment::new(
        "a.html",
        "text/html",
        b"<p>caf\xe9".as_slice(),
    ));
    let page = skill().call("convert", json!({}), &ctx).unwrap();
    assert_eq!(page["markdown"], "caf\u{fffd}");
}

#[test]
fn an_empty_page_is_mentioned() {
    let ctx = TestContext::new();
    skill()
        .call(
            "convert",
            json!({ "html": "<div id=app></div><script>run()</script>" }),
            &ctx,
        )
        .unwrap();
    assert!(ctx.logs()[0].message.contains("built by scripts"));
}

#[test]
fn mistakes_are_located() {
    refused(json!({}), "", "give `html`, `path` or an attachment");
    refused(json!({ "html": "a", "path": "b" }), "/path", "not both");
    refused(
        json!({ "path": "none/such.html" }),
        "/path",
        "not granted (--dir)",
    );
    refused(
        json!({ "html": "<div>".repeat(300) }),
        "/html",
        "nested more than 200 deep",
    );
    refused(
        json!({ "html": " ".repeat(5 << 20) }),
        "/html",
        "at most 4194304",
    );
}
