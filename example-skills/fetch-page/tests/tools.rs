//! The tool, called as a host calls it, with answers in place of the web.

use fetch_page::skill;
use skills_sdk::http::{HttpError, Response};
use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

const URL: &str = "https://a.example/page";

fn html(body: &str) -> Response {
    Response::new(200, body).with_header("content-type", "text/html; charset=utf-8")
}

fn fetch(ctx: &TestContext) -> Result<Value, Failure> {
    skill().call("fetch", json!({ "url": URL }), ctx)
}

#[test]
fn a_page_becomes_markdown() {
    let page = "<title>T</title><nav>menu</nav><main><h1>A</h1><p>b <a href='/c'>c</a></main>";
    let ctx = TestContext::new().answer("GET", URL, html(page));
    assert_eq!(
        fetch(&ctx).unwrap(),
        json!({
            "url": URL, "title": "T", "markdown": "# A\n\nb [c](/c)", "media_type": "text/html",
        })
    );
}

#[test]
fn redirects_are_followed() {
    let there = "https://b.example/there";
    let ctx = TestContext::new()
        .answer(
            "GET",
            URL,
            Response::new(301, "").with_header("location", there),
        )
        .answer("GET", there, html("<p>there"));
    let page = fetch(&ctx).unwrap();
    assert_eq!(
        (&page["url"], &page["markdown"]),
        (&json!(there), &json!("there"))
    );
}

#[test]
fn text_comes_as_it_is_in_any_encoding() {
    let latin = Response::new(200, b"caf\xe9".as_slice())
        .with_header("content-type", "Text/Plain; charset=\"ISO-8859-1\"");
    let ctx = TestContext::new().answer("GET", URL, latin);
    assert_eq!(fetch(&ctx).unwrap()["markdown"], "café");
}

#[test]
fn what_is_no_page_is_refused() {
    let image = Response::new(200, "x").with_header("content-type", "image/png");
    let ctx = TestContext::new().answer("GET", URL, image);
    assert!(
        matches!(fetch(&ctx), Err(Failure::Error { code: Some(code), .. }) if code == "not-a-page")
    );
    let ctx = TestContext::new().answer("GET", URL, html(&"x".repeat(5 << 20)));
    assert!(
        matches!(fetch(&ctx), Err(Failure::Error { code: Some(code), .. }) if code == "http-too-large")
    );
    let ctx = TestContext::new().answer("GET", URL, Response::new(404, "gone"));
    assert!(
        matches!(fetch(&ctx), Err(Failure::Error { code: Some(code), .. }) if code == "http-status")
    );
}

#[test]
fn what_may_pass_is_tried_again_and_what_is_denied_is_not() {
    let unreachable = HttpError::Unreachable {
        request: format!("GET {URL}"),
        reason: "the connection was refused".into(),
    };
    let ctx = TestContext::new().answer_with("GET", URL, Err(unreachable));
    assert!(matches!(fetch(&ctx), Err(Failure::Retryable { .. })));
    let denied = fetch(&TestContext::new());
    assert!(
        matches!(denied, Err(Failure::Error { code: Some(code), .. }) if code == "http-denied")
    );
}

#[test]
fn an_odd_url_is_the_inputs_fault() {
    let answer = skill().call(
        "fetch",
        json!({ "url": "ftp://a.example" }),
        &TestContext::new(),
    );
    assert!(matches!(answer, Err(Failure::InvalidInput { pointer, .. }) if pointer == "/url"));
}
