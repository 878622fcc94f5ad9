//! Games with names: what a name leads to is checked, every address of it, each time.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use skillhost::{Limit, LimitOverrides};

use super::{
    Answer, OK, Server, answering, check_error, check_untouched, host_with, http, names, network,
    quiet, refused_of, runtime, to,
};
use crate::attack::{Attack, DEADLINE, End, NONE, SHORT, TIMEOUT, met, wall_time};
use crate::harness::output;
use crate::measure::alone;
use crate::waiting::check_mostly_in_time;

/// A name that is answered like this leads nowhere.
#[track_caller]
fn check_prohibited(answer: Answer, first: &str) {
    let names = names(move |_, _| answer.clone());
    let host = host_with(&names);
    let server = answering(OK);
    let attack = Attack::from(network(), "request", server.request_by("a.example"))
        .granted(http(&[&server.grant_of("a.example")]))
        .on(&host);
    let (result, denials) = refused_of(attack, End::Success);
    assert_eq!(output(&result)["error"], "address prohibited");
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert_eq!(denials[0].subject, first);
    // Its questions for the name.
    assert_eq!(result.usage.http_request_bytes, 2 * (9 + 18));
    check_untouched(&server);
}

#[test]
fn names_that_lead_inside() {
    let _alone = alone();
    for address in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fe80::1",
        "fd00:ec2::254",
    ] {
        check_prohibited(Answer::addresses(&[address]), address);
    }
    check_prohibited(Answer::addresses(&["10.0.0.1", "127.0.0.1"]), "10.0.0.1");
}

#[test]
fn an_alias_to_the_inside() {
    let _alone = alone();
    let address = "127.0.0.1".parse().expect("an address");
    check_prohibited(Answer::Alias("db.internal", vec![address]), "127.0.0.1");
}

/// Of an allowed address and one that is not, only the allowed one is connected to, though it is the
/// other that answers.
#[test]
fn an_allowed_address_beside_another() {
    let _alone = alone();
    let names = names(|_, _| Answer::addresses(&["127.0.0.3", "127.0.0.2"]));
    let host = host_with(&names);
    let forbidden = runtime().block_on(Server::at(
        SocketAddr::from(([127, 0, 0, 2], 0)),
        |mut connection| async move { connection.gone().await },
    ));
    let grants = to(http(&[&forbidden.grant_of("a.example")]), &["127.0.0.3"]);
    let attack = Attack::from(network(), "request", forbidden.request_by("a.example"))
        .granted(grants)
        .on(&host);
    check_error(attack, "refused");
    check_untouched(&forbidden);
}

/// A name that leads to a granted address when it is first asked for leads inside the next time, and
/// back, within one execution. Somebody listens there.
#[test]
fn a_name_that_leads_elsewhere_the_next_time() {
    let _alone = alone();
    let names = names(|_, before| match before % 2 {
        0 => Answer::addresses(&["127.0.0.1"]),
        _ => Answer::addresses(&["127.0.0.2"]),
    });
    let host = host_with(&names);
    let server = answering(OK);
    let inside = SocketAddr::from(([127, 0, 0, 2], server.address.port()));
    let forbidden = runtime().block_on(Server::at(inside, |mut connection| async move {
        connection.gone().await
    }));
    let mut input = server.request_by("a.example");
    input["count"] = json!(4);
    let grants = to(http(&[&server.grant_of("a.example")]), &["127.0.0.1"]);
    let attack = Attack::from(network(), "many", input)
        .granted(grants)
        .settled_by(quiet(&[&server]))
        .on(&host);
    let (result, denials) = refused_of(attack, End::Success);
    assert_eq!(output(&result)["statuses"], json!([200, null, 200, null]));
    assert_eq!(denials.len(), 1, "the same is told once: {denials:?}");
    assert_eq!(denials[0].subject, "127.0.0.2");
    assert_eq!(names.asked("a.example"), 2 * server.accepted());
    check_untouched(&forbidden);
}

/// What a guest asks for can carry what it knows to the servers of a name: so that has a limit.
#[test]
fn names_without_end() {
    let _alone = alone();
    let names = names(|_, _| Answer::NoSuchName);
    let host = host_with(&names);
    let limits = LimitOverrides {
        http_request_bytes: Some(10 * 2 * (9 + 18)),
        ..NONE
    };
    let input = json!({"authority": "a.example:9", "path": "/", "count": 1000});
    let result = Attack::from(network(), "many", input)
        .granted(http(&["http://a.example:9"]))
        .under(limits)
        .on(&host)
        .ends_with(met(Limit::HttpRequestBytes));
    assert_eq!(result.usage.http_request_bytes, 540);
    assert_eq!(names.asked("a.example") % 10, 0);
}

#[test]
fn a_server_of_names_that_is_silent() {
    let _alone = alone();
    let names = names(|_, _| Answer::Silence);
    let host = host_with(&names);
    let asking = |mut input: serde_json::Value| {
        input["authority"] = json!("a.example:9");
        input["path"] = json!("/");
        Attack::from(network(), "request", input)
            .granted(http(&["http://a.example:9"]))
            .on(&host)
    };
    asking(json!({})).under(wall_time(SHORT)).ends_with(TIMEOUT);
    asking(json!({})).deadline(SHORT).ends_with(DEADLINE);
    check_mostly_in_time(asking(json!({})));
    check_error(asking(json!({"connect_ms": 50})), "dns timeout");
}

/// Names that are no names, and spellings of an address that is granted by another name only.
#[test]
fn names_that_are_something_else() {
    let _alone = alone();
    let names = names(|_, _| Answer::addresses(&["127.0.0.1"]));
    let host = host_with(&names);
    let server: Arc<Server> = answering(OK);
    let port = server.address.port();
    let long = format!("{}example", "a.".repeat(200));
    for (host_name, error) in [
        ("2130706433", "denied"),
        ("0x7f.1", "denied"),
        ("0177.0.0.1", "denied"),
        ("127.1", "denied"),
        ("[::ffff:127.0.0.1]", "denied"),
        ("[::1]", "denied"),
        ("a.example.evil.example", "denied"),
        ("evil.example#a.example", "uri invalid"),
        ("a.example@evil.example", "uri invalid"),
        ("a.example\u{0}evil.example", "uri invalid"),
        (&long, "uri invalid"),
    ] {
        let input = json!({"authority": format!("{host_name}:{port}"), "path": "/"});
        let attack = Attack::from(network(), "request", input)
            .granted(to(http(&[&server.grant_of("a.example")]), &["127.0.0.1"]))
            .on(&host);
        check_error(attack, error);
    }
    check_untouched(&server);
    assert_eq!(names.asked("a.example.evil.example"), 0);
}
