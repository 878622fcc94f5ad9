//! Redirects: a guest that follows wherever an answer leads, by itself, taking each location at its word,
//! and with the SDK's client. Each hop is a request of its own, which is granted or refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use skillhost::grant::Grants;
use skillhost::{Cause, ExecutionResult, Limit, LimitOverrides};

use super::{
    Answer, KIB, OK, Server, answering, check_untouched, host_with, http, names, network, quiet,
    refused_of, server, silent, to,
};
use crate::attack::{Attack, End, NONE, met};
use crate::harness::output;
use crate::measure::alone;

/// The component of `tests/guests/redirects`, built with the other ones.
fn sdk() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| network().with_file_name("redirects.wasm"))
}

/// A server that sends whoever asks for `/start` elsewhere, and answers all others.
fn leading(status: u16, location: &str) -> Arc<Server> {
    let away =
        format!("HTTP/1.1 {status} Away\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    server(move |mut connection| {
        let away = away.clone();
        async move {
            let head = connection.head().await;
            let begins = head.split(' ').nth(1) == Some("/start");
            connection.send(if begins { &away } else { OK }).await;
            connection.gone().await;
        }
    })
}

/// Follows by itself, from `/start` on this server.
fn by_itself(start: &Arc<Server>, grants: Grants, method: &str) -> Attack {
    let mut input = start.request("/start");
    input["count"] = json!(1_000_000);
    input["method"] = json!(method);
    Attack::from(network(), "follow", input)
        .granted(grants)
        .settled_by(quiet(&[start]))
}

/// Follows with the SDK's client.
fn by_sdk(start: &Arc<Server>, grants: Grants, method: &str) -> Attack {
    let input = json!({"url": format!("{}/start", start.grant()), "method": method});
    Attack::from(sdk(), "follow", input)
        .granted(grants)
        .settled_by(quiet(&[start]))
}

/// The code of the guest's own error, where it has one.
#[track_caller]
fn code(result: &ExecutionResult) -> Option<&str> {
    match result.failure.as_ref().map(|failure| &failure.cause) {
        Some(Cause::SkillError { code, .. }) => code.as_deref(),
        other => panic!("{other:?}"),
    }
}

/// What a guest that follows by itself ended with, after so many hops.
#[track_caller]
fn check_last(result: &ExecutionResult, hops: u64, error: &str) {
    let said = output(result);
    assert_eq!(said["hops"], hops, "{said}");
    assert_eq!(said["last"]["error"], error, "{said}");
}

/// Both ways to follow end at the second request, which is refused; the first is all that went out.
#[track_caller]
fn check_refused(start: &Arc<Server>, grants: &Grants, method: &str) {
    let before = start.accepted();
    let (result, denials) = refused_of(by_itself(start, grants.clone(), method), End::Success);
    check_last(&result, 2, "denied");
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert_eq!(result.usage.connections, 1);
    let by_itself = start.accepted() - before;
    let (result, denials) = refused_of(by_sdk(start, grants.clone(), method), End::SkillError);
    assert_eq!(code(&result), Some("http-denied"), "{:?}", result.failure);
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert_eq!(result.usage.connections, 1);
    assert!(by_itself > 0 && start.accepted() > before + by_itself);
    let heads = start.heads();
    assert!(
        heads.iter().all(|head| head.contains(" /start ")),
        "{heads:?}"
    );
}

/// To another port of this machine, in all spellings of it, and to servers of metadata.
#[test]
fn to_the_inside() {
    let _alone = alone();
    let forbidden = silent();
    let port = forbidden.address.port();
    for location in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://127.0.0.1.:{port}/"),
        format!("//127.0.0.1:{port}/"),
        format!("HTTP://127.0.0.1:{port}"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::ffff:169.254.169.254]/latest/meta-data/".to_owned(),
        "http://[::ffff:a9fe:a9fe]/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/latest/meta-data/".to_owned(),
    ] {
        let start = leading(302, &location);
        check_refused(&start, &http(&[&start.grant()]), "GET");
    }
    check_untouched(&forbidden);
}

/// To another scheme, path and method on the same server, which is granted in part.
#[test]
fn to_what_is_not_granted_of_the_same_server() {
    let _alone = alone();
    for location in [
        "/private",
        "/start/../private",
        "/start/%2e%2e/private",
        "/starting",
    ] {
        let start = leading(301, location);
        let part = http(&[&format!("GET {}/start", start.grant())]);
        check_refused(&start, &part, "GET");
    }
    // A method that goes along to another path.
    for status in [307, 308] {
        let start = leading(status, "/form");
        let grants = http(&[
            &format!("POST {}/start", start.grant()),
            &format!("GET {}", start.grant()),
        ]);
        check_refused(&start, &grants, "POST");
    }
}

/// Whoever may read from a server is not led to write to it.
#[test]
fn with_a_method_to_another_server() {
    let _alone = alone();
    let forbidden = silent();
    let start = leading(307, &format!("{}/", forbidden.grant()));
    let grants = http(&[
        &format!("POST {}", start.grant()),
        &format!("GET {}", forbidden.grant()),
    ]);
    check_refused(&start, &grants, "POST");
    let start = leading(302, &format!("https://{}/", forbidden.address));
    let grants = http(&[&start.grant(), &forbidden.grant()]);
    check_refused(&start, &grants, "GET");
    check_untouched(&forbidden);
}

/// Locations that are no address of a page, or that are read as one server and mean another.
#[test]
fn to_odd_places() {
    let _alone = alone();
    let names = names(|_, _| Answer::NoSuchName);
    let host = host_with(&names);
    let forbidden = silent();
    let inside = forbidden.address;
    let granted = "a.example";
    for (location, error, sdk) in [
        ("file:///etc/passwd".to_owned(), "uri invalid", Some("http")),
        (
            format!("gopher://{inside}/"),
            "protocol error",
            Some("http"),
        ),
        (
            format!("http://user@{inside}/"),
            "uri invalid",
            Some("http"),
        ),
        (
            format!("http://{granted}:80@{inside}/"),
            "uri invalid",
            Some("http"),
        ),
        (
            format!("http://{inside}#@{granted}/"),
            "uri invalid",
            Some("http-denied"),
        ),
        (
            format!("http://{inside}?@{granted}/"),
            "denied",
            Some("http-denied"),
        ),
        (
            format!("http:\\\\{inside}\\"),
            "uri invalid",
            Some("http-denied"),
        ),
        (
            format!("http://{inside}\t/"),
            "uri invalid",
            Some("http-denied"),
        ),
        ("http://".to_owned(), "uri invalid", Some("http")),
        ("http://[::1".to_owned(), "uri invalid", Some("http")),
        // To the SDK's client a path at the granted server, which is not there.
        (format!("http://{granted}\\@{inside}/"), "uri invalid", None),
    ] {
        let start = leading(302, &location);
        let grants = http(&[&start.grant(), "http://a.example"]);
        let attack = by_itself(&start, grants.clone(), "GET").on(&host);
        let result = attack.ends_with(End::Success);
        let last = &output(&result)["last"];
        assert_eq!(last["error"], error, "{location}: {last}");
        let result = by_sdk(&start, grants, "GET")
            .on(&host)
            .ends_with(End::SkillError);
        assert_eq!(code(&result), sdk, "{location}: {:?}", result.failure);
    }
    check_untouched(&forbidden);
}

/// To a name that is granted, and that leads inside.
#[test]
fn to_a_name_that_leads_inside() {
    let _alone = alone();
    let forbidden = silent();
    for address in [
        "127.0.0.1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "::1",
    ] {
        let names = names(move |_, _| Answer::addresses(&[address]));
        let host = host_with(&names);
        let location = format!("{}/", forbidden.grant_of("a.test.example"));
        let start = leading(302, &location);
        let grants = http(&[&start.grant(), &forbidden.grant_of("*.test.example")]);
        let attack = by_itself(&start, grants.clone(), "GET").on(&host);
        let (result, denials) = refused_of(attack, End::Success);
        check_last(&result, 2, "address prohibited");
        assert_eq!(denials[0].subject, address);
        let attack = by_sdk(&start, grants, "GET").on(&host);
        let (result, denials) = refused_of(attack, End::SkillError);
        assert_eq!(code(&result), Some("http-denied"));
        assert_eq!(denials[0].subject, address);
    }
    check_untouched(&forbidden);
}

/// What is granted is followed, and a hop from there is looked at like the first.
#[test]
fn through_a_server_that_is_granted() {
    let _alone = alone();
    let forbidden = silent();
    let second = leading(302, &format!("{}/", forbidden.grant()));
    let start = leading(302, &format!("{}/start", second.grant()));
    let grants = || http(&[&start.grant(), &second.grant()]);
    let attack = by_itself(&start, grants(), "GET").settled_by(quiet(&[&start, &second]));
    let result = attack.ends_with(End::Success);
    check_last(&result, 3, "denied");
    assert_eq!(result.usage.connections, 2);
    let attack = by_sdk(&start, grants(), "GET").settled_by(quiet(&[&start, &second]));
    let result = attack.ends_with(End::SkillError);
    assert_eq!(code(&result), Some("http-denied"));
    assert_eq!(result.usage.connections, 2);
    check_untouched(&forbidden);
    // Where all of it is granted, it arrives.
    let end = answering(OK);
    let start = leading(302, &format!("{}/", end.grant()));
    let grants = http(&[&start.grant(), &end.grant()]);
    let attack = by_sdk(&start, grants, "GET").settled_by(quiet(&[&start, &end]));
    let result = attack.ends_with(End::Success);
    assert_eq!(output(&result)["body"], "ok");
}

/// One page leads to the next, or back to the first.
#[test]
fn without_end() {
    let _alone = alone();
    let chain = server(|mut connection| async move {
        let head = connection.head().await;
        let path = head.split(' ').nth(1).unwrap_or("/");
        let next = path.trim_start_matches(|c: char| !c.is_ascii_digit());
        let next = next.parse::<u64>().unwrap_or(0) + 1;
        connection
            .send(format!(
                "HTTP/1.1 302 Found\r\nlocation: /{next}\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
        connection.gone().await;
    });
    for start in [chain, leading(302, "/start")] {
        let grants = || http(&[&start.grant()]);
        let limits = LimitOverrides {
            http_request_bytes: Some(2 * KIB),
            ..NONE
        };
        let result = by_itself(&start, grants(), "GET")
            .under(limits)
            .ends_with(met(Limit::HttpRequestBytes));
        assert!(result.usage.connections < 50, "{:?}", result.usage);
        let limits = LimitOverrides {
            http_response_bytes: Some(2 * KIB),
            ..NONE
        };
        let result = by_itself(&start, grants(), "GET")
            .under(limits)
            .ends_with(met(Limit::HttpResponseBytes));
        assert!(result.usage.connections < 60, "{:?}", result.usage);
        let result = by_sdk(&start, grants(), "GET").ends_with(End::SkillError);
        assert_eq!(code(&result), Some("http-redirects"));
        assert_eq!(result.usage.connections, 11, "ten hops beside the first");
    }
}

/// A location that is longer than a head may be, and one that is longer than a path may be.
#[test]
fn to_a_giant_location() {
    let _alone = alone();
    let start = leading(302, &format!("/{}", "a".repeat(200_000)));
    let grants = http(&[&start.grant()]);
    let result = by_itself(&start, grants.clone(), "GET").ends_with(End::Success);
    check_last(&result, 1, "head too large");
    let result = by_sdk(&start, grants, "GET").ends_with(End::SkillError);
    assert_eq!(code(&result), Some("http"));
    let start = leading(302, &format!("/{}", "a".repeat(40_000)));
    let grants = http(&[&start.grant()]);
    let result = by_itself(&start, grants.clone(), "GET").ends_with(End::Success);
    check_last(&result, 2, "uri invalid");
    let result = by_sdk(&start, grants, "GET").ends_with(End::SkillError);
    assert_eq!(code(&result), Some("http"));
    let failure: Value = serde_json::to_value(&result.failure).expect("it is JSON");
    assert!(failure.to_string().len() < 20_000);
}

/// Two names of one server, each of which leads to the other: each hop asks for its name anew.
#[test]
fn in_circles_over_names() {
    let _alone = alone();
    let names = names(|_, _| Answer::addresses(&["127.0.0.1"]));
    let host = host_with(&names);
    let start = server(|mut connection| async move {
        let head = connection.head().await;
        let from = head.lines().find_map(|line| line.strip_prefix("host: "));
        let from = from.unwrap_or_default();
        let other = match from.strip_prefix("a.") {
            Some(rest) => format!("b.{rest}"),
            None => format!("a.{}", from.trim_start_matches("b.")),
        };
        connection
            .send(format!(
                "HTTP/1.1 302 Found\r\nlocation: http://{other}/\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
        connection.gone().await;
    });
    let grants = || to(http(&[&start.grant_of("*.test.example")]), &["127.0.0.1"]);
    let input = json!({"url": format!("{}/", start.grant_of("a.test.example"))});
    let result = Attack::from(sdk(), "follow", input)
        .granted(grants())
        .settled_by(quiet(&[&start]))
        .on(&host)
        .ends_with(End::SkillError);
    assert_eq!(code(&result), Some("http-redirects"));
    assert_eq!(result.usage.connections, 11);
}
