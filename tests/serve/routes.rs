//! The document says what there is.

use serde_json::Value;
use skillhost::serve::document;

use crate::server::{Wanted, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_and_whole() {
    let server = start(Wanted::default()).await;
    let served = server.client().get("/openapi.json").await.json();
    assert_eq!(served, document());
    assert_eq!(served["openapi"], "3.1.0");
    let mut ids = std::collections::HashSet::new();
    for (path, operations) in served["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{name} has no summary");
            assert!(ids.insert(operation["operationId"].clone()), "{name}");
            let problems = &operation["responses"]["404"]["content"];
            assert!(problems.get("application/problem+json").is_some(), "{name}");
        }
    }
    references(&served, &served);
    server.end().await;
}

/// Every reference leads somewhere.
fn references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let pointer = reference.strip_prefix('#').expect("it stays within");
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            fields
                .values()
                .for_each(|value| references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| references(document, value)),
        _ => {}
    }
}

/// What the server takes fits what the document says, also where it is seldom sent.
#[test]
fn the_document_is_no_narrower_than_the_server() {
    let document = document();
    for (schema, texts) in [
        (
            "Cron",
            &[
                "0 9 * * MON-FRI",
                "*/10 * * * * *",
                "0 8-18/2 1,15 jan-mar 5L",
                "0 9 1-7 * +MON",
                "0 0 ? * FRI#2",
                "@daily",
            ][..],
        ),
        (
            "TimeZone",
            &["UTC", "America/Argentina/Ushuaia", "Etc/GMT+5"],
        ),
        (
            "CallbackUrl",
            &[
                "http://example.org/done?for=you#x",
                "HTTPS://[2001:db8::1]:8443/",
            ],
        ),
        ("ScheduleName", &["daily.report", "_", "a-1"]),
        ("QueueName", &["nightly", ".", "a.b-c_d"]),
        ("SkillName", &["a", "text-stats"]),
        ("TenantName", &["acme", "Müller & Söhne"]),
        (
            "SkillReference",
            &["text-stats", "a@1.2.3-beta.1+build", "a-1-b"],
        ),
        ("Tag", &["report", "Bericht für März"]),
    ] {
        let schema = &document["components"]["schemas"][schema];
        let pattern = schema["pattern"].as_str().expect("it has one");
        let pattern = regex::Regex::new(pattern).expect("it is one");
        let examples = schema["examples"].as_array().expect("it has some");
        let examples = examples.iter().filter_map(Value::as_str);
        for text in examples.chain(texts.iter().copied()) {
            assert!(pattern.is_match(text), "{text}");
        }
    }
}
