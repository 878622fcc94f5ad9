//! `skillhost serve` as a process of its own.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::json;
use skillhost::queue::{JobStatus, Queue};
use tempfile::TempDir;

use crate::client::Client;
use crate::harness::behaviours_path;
use crate::mcp::underway;
use crate::server::behaviour;

/// The command with a home of its own, in which the skill `behaviours` is installed.
pub struct Home(pub TempDir);

impl Home {
    pub fn new() -> Self {
        let home = Home(tempfile::tempdir().expect("a folder can be made"));
        let skill = behaviours_path().to_str().expect("it is text");
        home.run(&["install", skill]);
        home
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skillhost"));
        command
            .args(args)
            .env("SKILLHOST_HOME", self.0.path())
            .env_remove("SKILLHOST_DATABASE")
            .env_remove("SKILLHOST_POLICY")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, and gives its standard output.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("it can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    /// Puts a policy there.
    pub fn policy(&self, text: &str) {
        let path = self.0.path().join("policy.toml");
        std::fs::write(&path, text).expect("it can be written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    }

    pub fn queue(&self) -> Queue {
        Queue::open(self.0.path().join("queue.db")).expect("it can be opened")
    }
}

/// A process that serves, and is killed where a test forgets it.
pub struct Serving {
    pub child: Child,
    pub address: SocketAddr,
    /// What it says on standard error.
    said: Option<std::thread::JoinHandle<String>>,
}

impl Serving {
    pub fn start(home: &Home, args: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let mut child = home
            .command(&all)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let said = child.stderr.take().expect("it is piped");
        let said = std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(said).lines() {
                let line = line.expect("it is text");
                // As if it were not read here.
                eprintln!("{line}");
                all += &line;
                all.push('\n');
            }
            all
        });
        let output = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says where it listens");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.expect(&line).parse().expect("it is an address");
        Serving {
            child,
            address,
            said: Some(said),
        }
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).expect("it is a number");
        // SAFETY: the process is a child that was not waited for, so that the number is its own.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    pub fn end(mut self) -> std::process::ExitStatus {
        self.signal(libc::SIGTERM);
        self.child.wait().expect("it ends")
    }

    /// Ends it, and gives all that it said on standard error.
    pub fn end_and_tell(mut self) -> String {
        self.signal(libc::SIGTERM);
        assert!(self.child.wait().expect("it ends").success());
        let said = self.said.take().expect("it is listened to");
        said.join().expect("it is text")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_serves_executions_jobs_and_schedules() {
    let home = Home::new();
    let serving = Serving::start(&home, &[]);
    let client = serving.client();
    client.get("/readyz").await.json();
    let skills = client.get("/v1/skills").await.json();
    assert_eq!(skills["skills"][0]["name"], "behaviours");
    let shown = client.get("/v1/skills/behaviours").await.json();
    assert!(shown["description"]["tools"].as_array().unwrap().len() > 10);
    let echo = behaviour("echo", json!({"text": "x"}));
    client.post("/v1/executions", echo.clone()).await.json();
    let job = client.post("/v1/jobs", echo).await.json();
    let id = job["id"].as_str().unwrap();
    let path = format!("/v1/jobs/{id}/result?wait_ms=60000");
    let result = client.get(&path).await;
    assert_eq!(result.json()["status"], "success");
    assert!(serving.end().success());
}

/// Whoever tells it to stop is told what it waits for.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_waits_for_once_it_was_told_to_stop_is_said() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--grace", "60s", "--rate", "1000000"]);
    let (client, watching) = (serving.client(), serving.client());
    let sleep = behaviour("sleep", json!({"ms": 3_000}));
    let call = tokio::spawn(async move { client.post("/v1/executions", sleep).await.json() });
    underway(&watching, 1).await;
    let said = tokio::task::spawn_blocking(move || serving.end_and_tell());
    let said = said.await.unwrap();
    let stopping = "stopping: what runs may finish within 1 min; Ctrl-C once more stops it at once";
    assert!(said.contains(stopping), "{said}");
    assert_eq!(call.await.unwrap()["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skill_is_uploaded_replaced_and_removed() {
    let home = Home::new();
    let serving = Serving::start(&home, &[]);
    let client = serving.client();
    let remove = client.request("DELETE", "/v1/skills/behaviours@1.2.3", "");
    client.send(remove).await.json();
    client
        .get("/v1/skills/behaviours")
        .await
        .problem(404, "not-found");
    let component = std::fs::read(behaviours_path()).unwrap();
    let mut upload = client.request("POST", "/v1/skills", component);
    upload
        .headers_mut()
        .insert("content-type", "application/wasm".parse().unwrap());
    let uploaded = client.send(upload).await;
    assert_eq!(uploaded.status, 201, "{}", uploaded.text());
    assert_eq!(
        uploaded.header("location"),
        Some("/v1/skills/behaviours@1.2.3")
    );
    let echo = behaviour("echo", json!({"text": "x"}));
    client.post("/v1/executions", echo).await.json();
    let mut broken = client.request("POST", "/v1/skills", "nothing");
    broken
        .headers_mut()
        .insert("content-type", "application/wasm".parse().unwrap());
    client.send(broken).await.problem(422, "no-skill");

    // With a manifest it is another one of the same name and version.
    let digest = uploaded.json()["digest"].clone();
    let component = std::fs::read(behaviours_path()).unwrap();
    let other = json!({
        "component": base64::engine::general_purpose::STANDARD.encode(component),
        "manifest": "# another\n",
    });
    client
        .post("/v1/skills", other.clone())
        .await
        .problem(409, "conflict");
    let kept = client.get("/v1/skills/behaviours").await.json();
    assert_eq!(kept["installed"]["digest"], digest);
    let replaced = client.post("/v1/skills?replace=true", other).await;
    assert_eq!(replaced.status, 201, "{}", replaced.text());
    let replaced = replaced.json()["digest"].clone();
    assert_ne!(replaced, digest);
    let echo = behaviour("echo", json!({"text": "x"}));
    let result = client.post("/v1/executions", echo).await.json();
    assert_eq!(result["skill"]["digest"], replaced);
    // And with what a model reads, which changes no digest.
    let encoded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut whole = json!({
        "component": encoded(&std::fs::read(behaviours_path()).unwrap()),
        "manifest": "# another\n",
        "document": "---\nname: behaviours\ndescription: Behaves.\n---\nSee references/units.md.\n",
        "files": {"references/units.md": encoded(b"In metres.")},
    });
    let with_files = client.post("/v1/skills", whole.clone()).await;
    assert_eq!(with_files.status, 201, "{}", with_files.text());
    assert_eq!(with_files.json()["digest"], replaced);
    let file = home
        .0
        .path()
        .join("skills/behaviours@1.2.3/references/units.md");
    assert_eq!(std::fs::read(file).unwrap(), b"In metres.");
    whole["files"] = json!({"../units.md": ""});
    let problem = client
        .post("/v1/skills", whole)
        .await
        .problem(422, "no-skill");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("`../units.md` cannot belong to a skill: "),
        "{detail}"
    );
    let broken = json!({"component": "AAAA", "manifest": "# x\n"});
    client
        .post("/v1/skills", broken)
        .await
        .problem(422, "no-skill");
    client
        .post("/v1/skills", json!({"component": "no base64!"}))
        .await
        .problem(422, "invalid-body");
    assert!(serving.end().success());
}

async fn upload(client: &Client, manifest: &str) -> String {
    use base64::Engine as _;
    let component = std::fs::read(behaviours_path()).unwrap();
    let component = base64::engine::general_purpose::STANDARD.encode(component);
    let upload = json!({"component": component, "manifest": manifest});
    let installed = client.post("/v1/skills?replace=true", upload).await.json();
    installed["digest"].as_str().unwrap().to_owned()
}

/// Of what was uploaded, and never read from the library.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_replayed_with_the_skill_that_it_died_of() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    let first = upload(&client, "[limits]\nmemory_bytes = 100000000\n").await;
    let mut job = behaviour("exit", json!({"code": 1}));
    job["max_attempts"] = json!(1);
    let job = client.post("/v1/jobs", job).await.json();
    let id = job["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/jobs/{id}");
    while client.get(&path).await.json()["status"] != "dead" {
        tokio::task::yield_now().await;
    }
    let second = upload(&client, "[limits]\nmemory_bytes = 200000000\n").await;
    assert_ne!(first, second);
    // Loaded in no process any more.
    assert!(serving.end().success());
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    let path = format!("/v1/dead-letters/{id}/replay");
    let again = client.post(&path, json!({"version": "same"})).await.json();
    let path = format!("/v1/jobs/{}", again["id"].as_str().unwrap());
    while client.get(&path).await.json()["status"] != "dead" {
        tokio::task::yield_now().await;
    }
    let attempts = client.get(&format!("{path}/attempts")).await.json();
    let text = attempts.to_string();
    assert!(
        text.contains("\"exit\"") && !text.contains("not_loaded"),
        "{text}"
    );
    assert!(serving.end().success());
}

/// What is going on when SIGTERM comes is answered; jobs that are not done by then wait for the next.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cut_and_nothing_is_lost() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--jobs", "1"]);
    let client = serving.client();
    let slow = behaviour("sleep", json!({"ms": 300}));
    let mut jobs = Vec::new();
    for _ in 0..20 {
        let job = client.post("/v1/jobs", slow.clone()).await.json();
        jobs.push(job["id"].as_str().unwrap().to_owned());
    }
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (client, slow) = (client.clone(), slow.clone());
            tokio::spawn(async move { client.post("/v1/executions", slow).await })
        })
        .collect();
    loop {
        let metrics = client.get("/metrics").await;
        let running = metrics
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("skillhost_executions_running "))
            .map(|many| many.parse::<u32>().unwrap());
        // Those that ask, and a job.
        if running.is_some_and(|many| many >= 4) {
            break;
        }
        assert!(asking.iter().any(|asking| !asking.is_finished()));
        tokio::task::yield_now().await;
    }
    assert!(serving.end().success());
    for asking in asking {
        assert_eq!(asking.await.unwrap().json()["status"], "success");
    }
    let again = Serving::start(&home, &[]);
    let queue = home.queue();
    for id in jobs {
        let job = queue.wait(id.parse().unwrap()).await.unwrap();
        assert_eq!(job.status, JobStatus::Completed);
        assert_eq!(
            queue.attempts(job.id).await.unwrap().len(),
            1,
            "none was begun twice"
        );
    }
    assert!(again.end().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_hurries() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--grace", "1h"]);
    let client = serving.client();
    let mut waits = behaviour("wait_for_ever", json!({}));
    waits["limits"] = json!({"wall_time_ms": 3_600_000});
    let job = client.post("/v1/jobs", waits).await.json();
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    while client.get(&path).await.json()["status"] != "running" {
        tokio::task::yield_now().await;
    }
    serving.signal(libc::SIGTERM);
    // The first was heard once nobody is served any more.
    while tokio::net::TcpStream::connect(serving.address)
        .await
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    assert!(serving.end().success());
    let queue = home.queue();
    let id = job["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(queue.job(id).await.unwrap().status, JobStatus::Pending);
}

#[test]
fn an_address_of_others_needs_a_token() {
    let home = Home::new();
    let args = ["serve", "--listen", "0.0.0.0:0"];
    let output = home.command(&args).output().expect("it can be started");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no token that holds"), "{said}");
    assert!(said.contains("skillhost tokens create"), "{said}");
}

/// Behind a proxy on this machine everybody comes from it, and from a page anybody may.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_origin_of_others_needs_a_token() {
    let home = Home::new();
    for others in [
        ["--host", "skills.example.com"],
        ["--origin", "https://app.example.com"],
    ] {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0"];
        args.extend(others);
        let output = home.command(&args).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("there is no token that holds"), "{said}");
    }
    let create = ["tokens", "create", "--tenant", "acme", "--scope", "jobs"];
    let token = home.run(&create).trim().to_owned();
    let serving = Serving::start(&home, &["--host", "skills.example.com"]);
    let client = serving.client();
    client.get("/v1/jobs").await.problem(401, "unauthorized");
    client.with(&token).get("/v1/jobs").await.json();
    assert!(serving.end().success());
}

/// What was known a second ago still holds; then it does not. Whoever is still let in came before that second was over,
/// however long the answer took.
async fn is_shut_out_within_a_second(client: &Client, since: Instant) {
    loop {
        let came = since.elapsed();
        let status = client.get("/v1/jobs").await.status;
        if status == 401 {
            return;
        }
        assert_eq!(status, 200);
        assert!(came < Duration::from_secs(1), "let in {came:?} later");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_and_revoked() {
    let home = Home::new();
    let serving = Serving::start(&home, &["-vvv"]);
    let create = ["tokens", "create", "--tenant", "acme", "--scope", "jobs"];
    let token = home.run(&create).trim().to_owned();
    let made = Instant::now();
    let client = serving.client();
    is_shut_out_within_a_second(&client, made).await;
    let client = client.with(&token);
    client.get("/v1/jobs").await.json();
    let listed = home.run(&["tokens", "list", "--json"]);
    // The secret may have a `_` in it as well.
    let (_, secret) = token["skillhost_".len()..].split_once('_').unwrap();
    assert_eq!(secret.len(), 43, "256 bits");
    assert!(!listed.contains(secret));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = listed[0]["id"].as_str().unwrap();
    home.run(&["tokens", "revoke", id]);
    let revoked = Instant::now();
    is_shut_out_within_a_second(&client, revoked).await;
    assert!(home.run(&["tokens", "list"]).contains("revoked"));
    assert!(!holds(home.0.path(), secret.as_bytes()));
    let said = serving.end_and_tell();
    assert!(said.contains("/v1/jobs"), "it says much: {said}");
    assert!(!said.contains(secret));
    // Nobody gets in now, and that is said at once.
    let nobody = "warning: no token holds any more, and so nobody is let in\n  hint: make one with `skillhost";
    assert!(!said.contains(nobody), "{said}");
    let said = Serving::start(&home, &[]).end_and_tell();
    assert!(said.contains(nobody), "{said}");
}

/// Whether a file below this folder has these bytes in it.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(folder).expect("it can be read");
    entries
        .map(|entry| entry.expect("it can be read").path())
        .any(|path| match path.is_dir() {
            true => holds(&path, bytes),
            false => std::fs::read(&path)
                .is_ok_and(|text| text.windows(bytes.len()).any(|window| window == bytes)),
        })
}
