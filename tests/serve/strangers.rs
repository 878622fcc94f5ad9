//! What clients hear of a directory that is granted and gone: neither where it was on the host, nor a flag of a command
//! line that they have not got.

use serde_json::{Value, json};

use crate::process::{Home, Serving};
use crate::server::behaviour;

fn names_the_grant_alone(told: &Value, host: &str) {
    let text = told.to_string();
    assert!(text.contains("/data"), "{text}");
    assert!(!text.contains(host) && !text.contains("--dir"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_hear_nothing_of_where_the_host_has_it() {
    let home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().join("of-the-operator");
    std::fs::create_dir(&folder).unwrap();
    let host = folder.to_str().unwrap();
    let grant = format!("{host}:/data:ro");
    home.run(&["policy", "grant", "behaviours", "--dir", &grant]);
    let serving = Serving::start(&home, &[]);
    let client = serving.client();
    let echo = behaviour("echo", json!({"text": "x"}));
    home.run(&["queues", "pause", "default"]);
    let job = client.post("/v1/jobs", echo.clone()).await.json();
    std::fs::remove_dir(&folder).unwrap();

    // What is asked now is refused at once.
    for path in ["/v1/executions", "/v1/jobs"] {
        let refused = client
            .post(path, echo.clone())
            .await
            .problem(403, "rejected");
        let denial = &refused["failure"]["denials"][0];
        assert_eq!(denial["capability"], "directory", "{path}: {refused}");
        names_the_grant_alone(&refused, host);
    }

    home.run(&["queues", "resume", "default"]);
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let result = format!("{path}/result?wait_ms=60000");
    client.get(&result).await.problem(409, "conflict");
    names_the_grant_alone(&client.get(&format!("{path}/attempts")).await.json(), host);

    // The operator reads it in the log.
    let log = serving.end_and_tell();
    assert!(log.contains(host), "{log}");
}
