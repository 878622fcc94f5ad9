//! Secrets: they reach the server that they are for, and are seen nowhere else.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skillhost::audit::{AuditError, AuditSink, Audited, Entry, What};
use skillhost::grant::{Capability, Grants};
use skillhost::secret::{SecretSource, SecretValue, Secrets};
use skillhost::{
    Control, Event, Execute, ExecutionRequest, Host, LimitOverrides, NameServers, Observer, Status,
};
use uuid::Uuid;

use super::servers::{Answer, Names, Server};
use super::{Ended, fetch, http, run};
use crate::harness::{builder, check_result, network_path};

/// The value, which must be nowhere but at the server.
pub(super) const VALUE: &str = "hunter2/\"correct horse\"";

fn value() -> SecretValue {
    SecretValue::new(VALUE.to_owned()).expect("it is a value")
}

pub(super) fn host() -> Host {
    let secrets = Secrets::default().value("token", value());
    builder().secrets(secrets).build().expect("a host")
}

pub(super) fn with(grants: Grants, texts: &[&str]) -> Grants {
    let add = |grants: Grants, text: &&str| grants.secret(text.parse().expect("a grant"));
    texts.iter().fold(grants, add)
}

/// Checks that nothing of an execution has the value in it, in any form that is looked for.
#[track_caller]
fn check_unseen(ended: &Ended) {
    let seen = format!(
        "{} {:?} {:?}",
        serde_json::to_string(&ended.result).expect("it is JSON"),
        ended.result,
        ended.denials
    );
    assert_clean(&seen);
}

#[track_caller]
fn assert_clean(text: &str) {
    let hexed: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in [
        "hunter2",
        "correct horse",
        "correct%20horse",
        &hexed,
        "aHVudGVyMi",
    ] {
        assert!(!text.contains(form), "{form} is in it: {text}");
    }
}

/// A server that answers with what it was sent: in a header, and in its body, cut at some place.
async fn echo(cut: usize) -> Server {
    Server::with(move |mut connection| async move {
        let head = connection.head().await;
        let line = |name: &str| {
            let found = head.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or("-").to_owned()
        };
        let body = format!("it is {} and so on", line("authorization: "));
        let cut = cut.min(body.len());
        let answer = format!(
            "HTTP/1.1 200 OK\r\nx-echo: {}\r\nset-cookie: {}\r\ncontent-length: {}\r\n\r\n",
            line("authorization: "),
            line("authorization: "),
            body.len(),
        );
        connection.send(answer).await;
        connection.send(&body[..cut]).await;
        // A piece of its own, whatever the kernel joins.
        tokio::task::yield_now().await;
        connection.send(&body[cut..]).await;
        connection.gone().await;
    })
    .await
}

#[tokio::test]
async fn it_reaches_its_server_and_its_echo_reaches_nobody() {
    let host = host();
    for cut in 0..=VALUE.len() + 20 {
        let server = echo(cut).await;
        let grant = format!("token=authorization:Bearer@{}", server.grant());
        let grants = with(http(&[&server.grant()]), &[&grant]);
        let ended = fetch(&host, grants, server.request("/")).await;
        let head = server.heads().concat();
        assert!(
            head.contains(&format!("authorization: Bearer {VALUE}\r\n")),
            "{head}"
        );
        assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
        let output = ended.output();
        assert_eq!(
            output["body"], "it is Bearer [secret] and so on",
            "cut at {cut}"
        );
        let headers: Vec<_> = output["headers"]
            .as_array()
            .expect("a list")
            .iter()
            .collect();
        assert!(
            headers.contains(&&json!(["x-echo", "Bearer [secret]"])),
            "{headers:?}"
        );
        assert!(!output.to_string().contains("content-length"), "{output}");
        check_unseen(&ended);
    }
}

#[tokio::test]
async fn it_goes_to_no_other_host_and_no_other_path() {
    let (bound, other) = (echo(0).await, echo(0).await);
    let grant = format!("token=authorization@{}/api", bound.grant());
    let grants = with(http(&[&bound.grant(), &other.grant()]), &[&grant]);
    let host = host();
    for request in [
        other.request("/api"),
        bound.request("/"),
        bound.request("/apix"),
    ] {
        let ended = fetch(&host, grants.clone(), request).await;
        assert_eq!(ended.output()["body"], "it is - and so on");
    }
    assert_clean(&format!(
        "{}{}",
        bound.heads().concat(),
        other.heads().concat()
    ));
    let ended = fetch(&host, grants, bound.request("/api/x")).await;
    assert_eq!(ended.output()["body"], "it is [secret] and so on");
}

/// What the guest is told to go on to is another request, and is matched anew.
#[tokio::test]
async fn a_redirect_does_not_carry_it_along() {
    let other = echo(0).await;
    let location = other.grant();
    let server = Server::with(move |mut connection| {
        let location = location.clone();
        async move {
            connection.head().await;
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}/\r\ncontent-length: 0\r\n\r\n"
            );
            connection.send(answer).await;
            connection.gone().await;
        }
    })
    .await;
    let grant = format!("token=authorization@{}", server.grant());
    let grants = with(http(&[&server.grant(), &other.grant()]), &[&grant]);
    let host = host();
    let ended = fetch(&host, grants.clone(), server.request("/")).await;
    assert_eq!(ended.output()["status"], 307);
    assert_eq!(other.accepted(), 0, "the host follows none itself");
    let ended = fetch(&host, grants, other.request("/")).await;
    assert_eq!(ended.output()["body"], "it is - and so on");
    assert_clean(&other.heads().concat());
}

/// A grant for HTTPS is none for HTTP, whatever port.
#[tokio::test]
async fn plain_http_gets_it_only_where_that_is_granted() {
    let server = echo(0).await;
    let grants = http(&[&server.grant()]);
    for (scheme, heard) in [("https", false), ("*", true), ("http", true)] {
        let grant = format!("token=authorization@{scheme}://{}", server.address);
        let ended = fetch(
            &host(),
            with(grants.clone(), &[&grant]),
            server.request("/"),
        )
        .await;
        let expected = if heard {
            "it is [secret] and so on"
        } else {
            "it is - and so on"
        };
        assert_eq!(ended.output()["body"], expected, "{scheme}");
    }
}

#[tokio::test]
async fn inside_tls_it_reaches_the_server_whose_certificate_is_good() {
    let names = Names::with(|_, _| Answer::addresses(&["127.0.0.1"])).await;
    let server = super::tls::server("a.example").await;
    let host = |trusting: bool| {
        let builder = builder()
            .name_servers(NameServers::Servers(vec![names.address]))
            .secrets(Secrets::default().value("token", value()));
        match trusting {
            true => builder.certificate(server.authority.clone()),
            false => builder,
        }
        .build()
        .expect("a host")
    };
    let url = format!("https://a.example:{}", server.port);
    let grants = super::to(http(&[&url]), &["127.0.0.1"]);
    let grants = with(grants, &[&format!("token=authorization:Bearer@{url}")]);
    let input = json!({
        "scheme": "https", "authority": format!("a.example:{}", server.port), "path": "/",
    });
    let ended = fetch(&host(false), grants.clone(), input.clone()).await;
    assert_eq!(ended.output()["error"], "certificate");
    assert_eq!(server.heads(), Vec::<String>::new());
    let ended = fetch(&host(true), grants, input).await;
    assert_eq!(ended.output()["body"], "secret");
    let head = server.heads().concat();
    assert!(
        head.contains(&format!("authorization: Bearer {VALUE}\r\n")),
        "{head}"
    );
    check_unseen(&ended);
}

#[tokio::test]
async fn a_guest_does_not_set_the_header_itself() {
    let server = echo(0).await;
    let grant = format!("token=authorization@{}/api", server.grant());
    let grants = with(http(&[&server.grant()]), &[&grant]);
    let host = host();
    let mut input = server.request("/api");
    input["headers"] = json!([["Authorization", "of my own"]]);
    let ended = fetch(&host, grants.clone(), input.clone()).await;
    assert_eq!(ended.output()["error"], "denied");
    assert_eq!(ended.denial().capability, Capability::Secret);
    assert!(
        ended.denial().reason.contains("`authorization`"),
        "{:?}",
        ended.denial()
    );
    assert_eq!(server.accepted(), 0);
    // Where no secret goes into it, it is the guest's.
    input["path"] = json!("/");
    let ended = fetch(&host, grants, input).await;
    assert_eq!(ended.output()["body"], "it is of my own and so on");
}

/// It has the value from elsewhere, and wants to send it somewhere.
#[tokio::test]
async fn a_guest_does_not_send_it_itself() {
    let server = echo(0).await;
    let grants = with(
        http(&[&server.grant()]),
        &["token=authorization@https://a.example"],
    );
    let host = host();
    let mut in_header = server.request("/");
    in_header["headers"] = json!([["x", format!("it is {VALUE}")]]);
    let in_path = server.request("/hunter2%2F%22correct%20horse%22");
    let mut as_method = server.request("/");
    as_method["method"] = json!(hex::encode_upper(VALUE));
    let mut in_body = server.request("/");
    in_body["method"] = json!("POST");
    in_body["upload_text"] = json!(format!("it is {VALUE} and more"));
    for input in [in_header, in_path, as_method, in_body] {
        let ended = fetch(&host, grants.clone(), input.clone()).await;
        let error = &ended.output()["error"];
        assert!(
            error == "denied" || input["upload_text"].is_string(),
            "{error}"
        );
        assert_eq!(ended.denial().capability, Capability::Secret);
        assert_eq!(ended.denial().subject, "token");
        assert!(
            ended.denial().reason.contains("send its value"),
            "{:?}",
            ended.denial()
        );
        check_unseen(&ended);
    }
    assert_clean(&server.heads().concat());
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn observe(&self, _: Uuid, event: &Event<'_>) {
        let text = format!(
            "{} {event:?}",
            serde_json::to_string(event).expect("it is JSON")
        );
        self.0.lock().expect("nobody panics here").push(text);
    }
}

#[tokio::test]
async fn its_use_is_told_and_not_its_value() {
    let server = echo(3).await;
    let grant = format!("token=authorization:Bearer@{}", server.grant());
    let grants = with(http(&[&server.grant()]), &[&grant]);
    let host = host();
    let skill = host.load(network_path()).await.expect("it loads");
    let heard = Arc::new(Heard::default());
    let request = ExecutionRequest::new(skill.digest(), server.request("/x?y"))
        .tool("request")
        .grants(grants);
    let control = Control::default().observer(Arc::clone(&heard) as Arc<dyn Observer>);
    let result = host
        .execute_with(request, control)
        .await
        .expect("the host is well");
    check_result(&result);
    let heard = heard.0.lock().expect("nobody panics here").join("\n");
    let used = json!({
        "event": "secret_used", "secret": "token", "header": "authorization", "to": server.grant(),
    });
    let lines = heard.lines().filter(|line| line.contains("secret_used"));
    let used_lines: Vec<&str> = lines.collect();
    assert_eq!(used_lines.len(), 1, "{heard}");
    for (key, value) in used.as_object().expect("an object") {
        assert!(
            used_lines[0].contains(&format!("\"{key}\":{value}")),
            "{}",
            used_lines[0]
        );
    }
    assert_clean(&heard);
}

/// Everything that a guest can say, by way of a guest that has the value from elsewhere.
#[tokio::test]
async fn whatever_a_guest_says_is_without_it() {
    let host = host();
    let skill = host.load(network_path()).await.expect("it loads");
    let grants = with(
        Grants::default(),
        &["token=authorization@https://a.example"],
    );
    let say = |tool: &str, input: Value| {
        let (host, skill, grants) = (host.clone(), skill.digest(), grants.clone());
        let tool = tool.to_owned();
        async move {
            let heard = Arc::new(Heard::default());
            let request = ExecutionRequest::new(skill, input)
                .tool(tool)
                .grants(grants);
            let control = Control::default().observer(Arc::clone(&heard) as Arc<dyn Observer>);
            let result = host
                .execute_with(request, control)
                .await
                .expect("the host is well");
            let heard = heard.0.lock().expect("nobody panics here").join("\n");
            let attached = result.attachments.iter();
            let attached: Vec<_> = attached
                .map(|one| String::from_utf8_lossy(&one.data))
                .collect();
            let all = format!(
                "{} {result:?} {heard} {attached:?}",
                serde_json::to_string(&result).expect("it is JSON")
            );
            assert_clean(&all);
            assert!(all.contains("[secret]"), "{all}");
            result
        }
    };
    let text = format!("before {VALUE} after");
    for (channel, status) in [
        ("output", Status::Success),
        ("escaped", Status::Success),
        ("key", Status::Success),
        ("attachment", Status::Success),
        ("attachment-name", Status::Success),
        ("log", Status::Success),
        ("progress", Status::Success),
        ("stdout", Status::Success),
        ("stderr", Status::Success),
        ("panic", Status::Failed),
        ("error", Status::Failed),
        ("retry", Status::Failed),
        ("invalid", Status::Failed),
    ] {
        let result = say("tell", json!({"channel": channel, "text": text})).await;
        assert_eq!(result.status, status, "{channel}");
    }
}

#[tokio::test]
async fn what_cannot_be_had_rejects_the_request_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = folder.path().join("open");
    std::fs::write(&open, VALUE).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&open, mode).expect("a mode");
    let grants = with(
        Grants::default(),
        &["token=authorization@https://a.example"],
    );
    let from = |text: String| {
        let source: SecretSource = text.parse().expect("a source");
        Secrets::default().source("token", source)
    };
    for (secrets, reason, hint) in [
        (
            Secrets::default(),
            "no secret of this name",
            "skillhost secrets set token",
        ),
        (
            from("env:SKILLHOST_TEST_UNSET".into()),
            "SKILLHOST_TEST_UNSET",
            "set `",
        ),
        (
            from(format!("file:{}", open.display())),
            "open to others",
            "chmod 600",
        ),
        (
            from(format!("file:{}.gone", open.display())),
            "No such file or directory",
            "is the path right?",
        ),
    ] {
        let host = builder().secrets(secrets).build().expect("a host");
        let ended = run(
            &host,
            "request",
            grants.clone(),
            json!({}),
            LimitOverrides::default(),
        );
        let ended = ended.await;
        assert_eq!(ended.result.status, Status::Rejected);
        let failure = ended.result.failure.as_ref().expect("a failure");
        let denial = &failure.denials[0];
        assert_eq!(denial.capability, Capability::Secret);
        assert!(denial.reason.contains(reason), "{denial:?}");
        assert!(denial.hint.contains(hint), "{denial:?}");
        assert_eq!(ended.result.usage.fuel, 0);
        check_unseen(&ended);
        let skill = host.load(network_path()).await.expect("it loads");
        let request = ExecutionRequest::new(skill.digest(), json!({}))
            .tool("request")
            .grants(grants.clone());
        assert!(!host.can_execute(&request).is_admitted());
    }
}

/// Where the audit is required, nothing goes out that it does not say.
#[tokio::test]
async fn a_use_that_must_be_written_down_and_cannot_be_does_not_happen() {
    struct Full;
    impl AuditSink for Full {
        fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
            match entry.what {
                What::Secret(_) => Err(AuditError::Elsewhere("the disk is full".to_owned())),
                _ => Ok(()),
            }
        }
    }
    let host = host();
    let skill = host.load(network_path()).await.expect("it loads");
    for required in [true, false] {
        let server = echo(0).await;
        let grant = format!("token=authorization:Bearer@{}", server.grant());
        let grants = with(http(&[&server.grant()]), &[&grant]);
        let audited = Audited::new(Arc::new(host.clone()), Arc::new(Full)).required(required);
        let request = ExecutionRequest::new(skill.digest(), server.request("/"))
            .tool("request")
            .grants(grants);
        let control = Control::default().observer(Arc::new(Heard::default()));
        let result = audited.execute(request, control).await;
        let result = result.expect("the host is well");
        let sent = server.heads().concat();
        assert_eq!(sent.contains(VALUE), !required, "{sent} {result:?}");
    }
}
