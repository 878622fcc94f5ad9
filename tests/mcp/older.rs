//! Clients of older revisions of the protocol.

use serde_json::json;
use skillhost::InstalledSkills;
use skillhost::serve::mcp::McpServer;
use skillhost::skill::Library;
use std::sync::Arc;

use crate::http::host;
use crate::replaced::{Client, install};

#[tokio::test(flavor = "multi_thread")]
async fn older_revisions_are_spoken() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let library = Library::new(folder.path());
    let installed = InstalledSkills::builder(host(), library).build();
    install(&installed, "[limits]\nfuel = 1000000000\n").await;
    let server = McpServer::builder(Arc::new(installed.clone()), installed.clone()).build();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18"] {
        let mut client = Client::of(&server);
        client
            .send(
                json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": version, "capabilities": {},
                "clientInfo": {"name": "test", "version": "0"}}}),
            )
            .await;
        let begun = client.next(|message| message["id"] == 0).await;
        assert_eq!(begun["result"]["protocolVersion"], version, "{begun}");
        client
            .send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        client
            .send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
            .await;
        let listed = client.next(|message| message["id"] == 1).await;
        let tools = listed["result"]["tools"].as_array().expect("a list");
        assert!(
            tools.iter().any(|tool| tool["name"] == "behaviours__echo"),
            "{version}: {listed}"
        );
        client
            .send(
                json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
                "name": "behaviours__echo", "arguments": {"x": version}}}),
            )
            .await;
        let answer = client.next(|message| message["id"] == 2).await;
        let result = &answer["result"];
        assert_ne!(result["isError"], true, "{version}: {answer}");
        let text = result["content"][0]["text"].as_str().expect("it has text");
        assert!(text.contains(version), "{version}: {answer}");
    }
}
