//! The HTTP client, answered by the test.

#![cfg(feature = "http")]

use skills_sdk::Failure;
use skills_sdk::http::{HttpError, Response};
use skills_sdk::testing::TestContext;

const A: &str = "https://a.example/";

fn redirect(status: u16, to: &str) -> Response {
    Response::new(status, "").with_header("Location", to)
}

fn names(headers: &[(String, Vec<u8>)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn an_answer_is_what_the_test_gives() {
    let ctx = TestContext::new().answer("GET", A, Response::new(200, "hi").with_header("X-B", "c"));
    let answer = ctx
        .http()
        .get("https://A.example#top")
        .header("X-Y", "z")
        .send()
        .unwrap();
    assert_eq!((answer.status(), answer.bytes()), (200, b"hi".as_slice()));
    assert_eq!((answer.text(), answer.url()), ("hi".to_owned(), A));
    assert_eq!(answer.header("x-b"), Some("c"));
    let sent = &ctx.requests()[0];
    assert_eq!((sent.method.as_str(), sent.url.as_str()), ("GET", A));
    assert_eq!(names(&sent.headers), ["x-y"]);
}

#[test]
fn whatever_is_not_answered_is_denied() {
    let ctx = TestContext::new();
    let error = ctx.http().get(A).send().unwrap_err();
    assert!(matches!(error, HttpError::Denied { .. }), "{error}");
    assert!(matches!(
        Failure::from(error),
        Failure::Error { code: Some(code), .. } if code == "http-denied"
    ));
}

#[test]
#[should_panic = "the answer's URL `a.example` is none: relative URL without a base"]
fn an_answer_to_no_url_is_told() {
    let _ = TestContext::new().answer("GET", "a.example", Response::new(200, ""));
}

#[test]
fn odd_urls_are_refused() {
    let ctx = TestContext::new();
    for url in [
        "",
        "a.example",
        "ftp://a.example/",
        "https://user@a.example/",
        "https://:x@a.example",
    ] {
        let error = ctx.http().get(url).send().unwrap_err();
        assert!(matches!(error, HttpError::Url { .. }), "{url}: {error}");
    }
    assert!(ctx.requests().is_empty());
}

#[test]
fn redirects_are_followed_to_a_bound() {
    let ctx = TestContext::new()
        .answer("GET", A, redirect(302, "/b"))
        .answer("GET", "https://a.example/b", redirect(301, "c?d"))
        .answer("GET", "https://a.example/c?d", Response::new(200, "there"));
    let answer = ctx.http().get(A).send().unwrap();
    assert_eq!(
        (answer.text(), answer.url()),
        ("there".to_owned(), "https://a.example/c?d")
    );
    assert_eq!(ctx.http().get(A).redirects(0).send().unwrap().status(), 302);
    let error = ctx.http().get(A).redirects(1).send().unwrap_err();
    assert_eq!(error, HttpError::TooManyRedirects { most: 1 });

    let ctx = TestContext::new().answer("GET", A, redirect(302, A));
    let error = ctx.http().get(A).send().unwrap_err();
    assert_eq!(error, HttpError::TooManyRedirects { most: 10 });
    assert_eq!(ctx.requests().len(), 11);
}

#[test]
fn credentials_stay_with_their_origin() {
    for (to, kept) in [
        ("https://a.example/b", true),
        ("https://a.example:443/b", true),
        ("https://b.example/", false),
        ("http://a.example/", false),
        ("https://a.example:8443/", false),
    ] {
        let ctx = TestContext::new()
            .answer("GET", A, redirect(307, to))
            .answer("GET", to, Response::new(200, ""));
        let request = ctx
            .http()
            .get(A)
            .header("Authorization", "x")
            .header("cookie", "y");
        request.header("accept", "z").send().unwrap();
        let sent = &ctx.requests()[1];
        let expected: &[&str] = match kept {
            true => &["authorization", "cookie", "accept"],
            false => &["accept"],
        };
        assert_eq!(names(&sent.headers), expected, "{to}");
    }
}

#[test]
fn a_body_goes_along_only_where_it_should() {
    for (status, method, body) in [
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", "body"),
        (308, "POST", "body"),
    ] {
        let ctx = TestContext::new()
            .answer("POST", A, redirect(status, "/b"))
            .answer(method, "https://a.example/b", Response::new(200, ""));
        let request = ctx
            .http()
            .post(A)
            .header("content-type", "text/plain")
            .body("body");
        request.send().unwrap();
        let sent = &ctx.requests()[1];
        assert_eq!(
            (sent.method.as_str(), sent.body.as_slice()),
            (method, body.as_bytes())
        );
        assert_eq!(sent.headers.is_empty(), body.is_empty(), "{status}");
    }
}

#[test]
fn a_redirect_to_nowhere_is_an_error() {
    for to in ["file:///etc/passwd", "https://user:x@a.example/", "//"] {
        let ctx = TestContext::new().answer("GET", A, redirect(302, to));
        let error = ctx.http().get(A).send().unwrap_err();
        assert!(
            matches!(error.innermost(), HttpError::Url { .. }),
            "{to}: {error}"
        );
        let HttpError::Redirected { from, .. } = &error else {
            panic!("{to}: {error}");
        };
        assert_eq!(from, "https://a.example/");
    }
    let ctx = TestContext::new().answer("GET", A, Response::new(302, "no location"));
    assert_eq!(ctx.http().get(A).send().unwrap().status(), 302);
}

/// What a redirect led to is told with from where, and counts as what it is.
#[test]
fn what_a_redirect_led_to_is_said() {
    const B: &str = "https://b.example/";
    let hop = || TestContext::new().answer("GET", A, redirect(302, B));
    // Nothing answers there, so that it is refused.
    let error = hop().http().get(A).send().unwrap_err();
    assert!(
        matches!(error.innermost(), HttpError::Denied { .. }),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        format!("`{A}` redirected the request, and {}", error.innermost())
    );
    assert!(!error.may_pass());
    let code = |error| match Failure::from(error) {
        Failure::Error { code, .. } => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(error).as_deref(), Some("http-denied"));
    let large = hop().answer("GET", B, Response::new(200, "12345"));
    let error = large.http().get(A).max_bytes(4).send().unwrap_err();
    assert!(
        matches!(error.innermost(), HttpError::TooLarge { most: 4 }),
        "{error}"
    );
    assert_eq!(code(error).as_deref(), Some("http-too-large"));
}

#[test]
fn statuses_and_sizes() {
    let ctx = TestContext::new()
        .answer("GET", A, Response::new(503, "later"))
        .answer("GET", A, Response::new(404, "gone"))
        .answer("GET", A, Response::new(200, "12345"));
    let error = ctx.http().get(A).send().unwrap().ok().unwrap_err();
    assert!(matches!(Failure::from(error), Failure::Retryable { .. }));
    let error = ctx.http().get(A).send().unwrap().ok().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`https://a.example/` answered with status 404"
    );
    assert!(matches!(Failure::from(error), Failure::Error { .. }));
    assert_eq!(
        ctx.http().get(A).max_bytes(5).send().unwrap().bytes().len(),
        5
    );
    let error = ctx.http().get(A).max_bytes(4).send().unwrap_err();
    assert_eq!(error, HttpError::TooLarge { most: 4 });
}
