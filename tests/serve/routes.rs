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
