//! A skill that is replaced while somebody is asked about it.

use std::sync::Arc;

use serde_json::{Value, json};
use skillhost::InstalledSkills;
use skillhost::serve::Caller;
use skillhost::serve::mcp::McpServer;
use skillhost::skill::{Library, Package};
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, split,
};

use crate::harness::skills;
use crate::http::{Asking, host};

/// A client that is spoken with line by line.
pub struct Client {
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
}

impl Client {
    pub fn of(server: &McpServer) -> Self {
        let (here, there) = tokio::io::duplex(1 << 20);
        let (read, write) = split(there);
        let server = server.clone();
        tokio::spawn(async move { server.serve(Caller::operator(), read, write).await });
        let (read, write) = split(here);
        Client {
            lines: BufReader::new(read).lines(),
            write,
        }
    }

    pub async fn send(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.write
            .write_all(line.as_bytes())
            .await
            .expect("it takes it");
    }

    /// The next message of a kind: an answer to a request, or a request.
    pub async fn next(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self
                .lines
                .next_line()
                .await
                .expect("it is text")
                .expect("it is there");
            let message: Value = serde_json::from_str(&line).expect("it is JSON");
            if is_it(&message) {
                return message;
            }
        }
    }

    async fn begin(&mut self) {
        self.send(
            json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "test", "version": "0"}}}),
        )
        .await;
        self.next(|message| message["id"] == 0).await;
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
    }
}

pub async fn install(skills: &InstalledSkills, limits: &str) {
    let component = std::fs::read(self::skills().behaviours.join("skill.wasm"));
    let component = component.expect("it was built");
    let package = Package::from_parts(component, Some(limits.to_owned()), None);
    let package = package.expect("it is one");
    skills
        .install(package, true)
        .await
        .expect("it can be installed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_one_skill_runs_no_other() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let library = Library::new(folder.path());
    let installed = InstalledSkills::builder(host(), library).build();
    install(&installed, "[limits]\nfuel = 1000000000\n").await;
    let guarded = Arc::new(Asking(installed.clone()));
    let server = McpServer::builder(guarded, installed.clone()).build();
    let mut client = Client::of(&server);
    client.begin().await;
    for (id, replaced) in [(1, false), (2, true)] {
        client
            .send(
                json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
                "name": "behaviours__echo", "arguments": {"x": id}}}),
            )
            .await;
        let asked = client
            .next(|message| message["method"] == "elicitation/create")
            .await;
        if replaced {
            install(&installed, "[limits]\nfuel = 2000000000\n").await;
        }
        client
            .send(json!({"jsonrpc": "2.0", "id": asked["id"],
                "result": {"action": "accept", "content": {}}}))
            .await;
        let answer = client
            .next(|message| message["id"] == id && message["result"].is_object())
            .await;
        let failure = &answer["result"]["_meta"]["skillhost/failure"]["kind"];
        match replaced {
            false => assert_eq!(answer["result"]["structuredContent"], json!({"x": id})),
            true => assert_eq!(failure, "not_loaded", "{answer}"),
        }
    }
}
