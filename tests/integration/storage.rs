//! Storage: what a skill keeps is there the next time, is nobody else's, and stays within its quota.

use std::time::Duration;

use serde_json::{Value, json};
use skillhost::grant::{Capability, Grants};
use skillhost::{ExecutionRequest, ExecutionResult, Host, Limit, LimitOverrides, Status};

use crate::handmade::Handmade;
use crate::harness::{
    Record, builder, check_exhausted, check_result, check_timeout, execute, network_path, output,
};

struct Place {
    folder: tempfile::TempDir,
    host: Host,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let host = Place::host(folder.path());
        Place { folder, host }
    }

    fn host(folder: &std::path::Path) -> Host {
        let builder = builder().storage(folder.join("data/storage.db"));
        builder.build().expect("a host")
    }

    async fn request(&self, steps: Value, tenant: Option<&str>) -> ExecutionRequest {
        let path = network_path().with_file_name("storage.wasm");
        let skill = self.host.load(path).await.expect("it loads");
        let mut request =
            ExecutionRequest::new(skill.digest(), json!({ "steps": steps })).tool("do");
        request.tenant = tenant.map(Into::into);
        request
    }

    async fn run(
        &self,
        steps: Value,
        tenant: Option<&str>,
        grants: Grants,
        limits: LimitOverrides,
    ) -> ExecutionResult {
        let request = self.request(steps, tenant).await;
        execute(&self.host, request.grants(grants).limits(limits)).await
    }

    /// What the steps come to, with storage granted.
    async fn done(&self, steps: Value) -> Value {
        self.done_for(None, steps).await
    }

    async fn done_for(&self, tenant: Option<&str>, steps: Value) -> Value {
        let granted = Grants::default().storage();
        let result = self
            .run(steps, tenant, granted, LimitOverrides::default())
            .await;
        output(&result)["done"].clone()
    }
}

#[tokio::test]
async fn what_is_kept_is_there_the_next_time() {
    let mut place = Place::new();
    let done = place
        .done(json!([
            ["get", "", "k"],
            ["set", "", "k", "v"],
            ["get", "default", "k"],
            ["get", "other", "k"],
            ["exists", "", "k"],
            ["exists", "", "none"],
            ["increment", "", "n", 41],
            ["increment", "", "n", -42],
            ["increment", "", "k", 1],
        ]))
        .await;
    let number = json!({"error": "the value is no whole number"});
    assert_eq!(
        done,
        json!([null, true, "v", null, true, false, 41, -1, number])
    );
    // Another host, as after a restart.
    place.host = Place::host(place.folder.path());
    let done = place
        .done(json!([
            ["get", "", "k"],
            ["delete", "", "k"],
            ["get", "", "k"],
            ["get", "", "n"]
        ]))
        .await;
    assert_eq!(done, json!(["v", true, null, "-1"]));
    let file = place.folder.path().join("data/storage.db");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &file.metadata().expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn each_tenant_has_its_own() {
    let place = Place::new();
    for tenant in [None, Some(""), Some("a"), Some("b")] {
        let value = format!("{tenant:?}");
        let done = place
            .done_for(tenant, json!([["get", "", "k"], ["set", "", "k", value]]))
            .await;
        assert_eq!(done, json!([null, true]));
    }
    let done = place
        .done_for(Some("a"), json!([["get", "", "k"], ["keys", ""]]))
        .await;
    assert_eq!(done, json!(["Some(\"a\")", {"keys": ["k"], "pages": 1}]));
}

#[tokio::test]
async fn several_keys_at_once_and_page_by_page() {
    let place = Place::new();
    let done = place
        .done(json!([
            ["set-many", "", 1_000],
            ["set-many", "", 1_000, 1_000],
            ["set-many", "", 500, 2_000],
            ["set-many", "", 1_001],
            ["get-many", "", "k00003", "none", "k02499"],
            ["delete-many", "", "k00000", "none"],
            ["keys", ""],
            ["page", "", "no cursor"],
            ["page", "", "behind "],
            ["page", "", "behind k02497"],
            ["get-many-of", "", 1_000],
            ["get-many-of", "", 1_001],
        ]))
        .await;
    let too_many = "one call may name 1000 keys, and this one names 1001";
    assert_eq!(done[3], json!({"error": too_many}));
    assert_eq!(done[4], json!([["k00003", "3"], null, ["k02499", "2499"]]));
    assert_eq!(done[6]["keys"].as_array().map(Vec::len), Some(2_499));
    assert_eq!(done[6]["pages"], 3);
    for unknown in [7, 8] {
        let error = json!({"error": "the cursor is none that a page ended with"});
        assert_eq!(done[unknown], error);
    }
    assert_eq!(done[9], json!(["k02498", "k02499"]));
    assert_eq!(done[10], 999);
    assert_eq!(done[11], json!({"error": too_many}));
    // Of very many, none is so much as read.
    for many in ["set-many", "get-many-of"] {
        let steps = json!([[many, "", 20_000, 0]]);
        let granted = Grants::default().storage();
        let result = place.run(steps, None, granted, LimitOverrides::default());
        check_exhausted(&result.await, Limit::HostBytes, 4 << 20);
    }
}

/// However much others keep, and how much was kept before: where a page ends tells of its own keys alone.
#[tokio::test]
async fn a_cursor_tells_nothing_of_what_others_keep() {
    let place = Place::new();
    let mut seen = Vec::new();
    for tenant in ["a", "b", "c"] {
        let done = place
            .done_for(
                Some(tenant),
                json!([
                    ["set-many", "", 1_000],
                    ["set", "", "z", ""],
                    ["cursor", ""]
                ]),
            )
            .await;
        seen.push(done[2].clone());
    }
    assert!(seen[0].is_string(), "{seen:?}");
    assert_eq!(seen, vec![seen[0].clone(); 3]);
}

#[tokio::test]
async fn without_a_grant_there_is_none_and_the_denial_says_what_to_add() {
    let place = Place::new();
    let steps = json!([["open", ""], ["get", "", "k"]]);
    let result = place
        .run(steps, None, Grants::default(), LimitOverrides::default())
        .await;
    let denied = json!({"error": "access denied"});
    assert_eq!(output(&result)["done"], json!([denied, denied]));
    assert!(!place.folder.path().join("data").exists());
    // A failure tells what was refused, and what to add.
    let path = network_path().with_file_name("storage.wasm");
    let skill = place.host.load(path).await.expect("it loads");
    let request = ExecutionRequest::new(skill.digest(), json!({})).tool("append");
    let result = execute(&place.host, request).await;
    let denial = &result.failure.as_ref().expect("it fails").denials[0];
    assert_eq!(denial.capability, Capability::Storage);
    assert!(denial.hint.contains("`--storage`"), "{denial:?}");
    assert!(denial.hint.contains("`storage = true`"), "{denial:?}");
    // A host that keeps nothing says so.
    let host = builder().build().expect("a host");
    let path = network_path().with_file_name("storage.wasm");
    let skill = host.load(path).await.expect("it loads");
    let request = ExecutionRequest::new(skill.digest(), json!({}))
        .tool("append")
        .grants(Grants::default().storage());
    let result = execute(&host, request).await;
    assert_eq!(result.status, Status::Rejected);
    check_result(&result);
}

#[tokio::test]
async fn a_bucket_and_a_key_have_their_bounds() {
    let place = Place::new();
    let (long, longer) = ("k".repeat(1_024), "k".repeat(1_025));
    let done = place
        .done(json!([
            ["set", "", long, "v"],
            ["set", "", longer, "v"],
            ["get", "", ""],
            ["open", "../x"],
            ["open", "x".repeat(65)],
            ["open", "x".repeat(64)],
        ]))
        .await;
    let key = json!({"error": "the key is empty, or longer than 1024 bytes"});
    let bucket = json!({"error": "no such store"});
    assert_eq!(done, json!([true, key, key, bucket, bucket, true]));
}

#[tokio::test]
async fn past_its_quota_a_skill_is_stopped_and_keeps_what_it_had() {
    let place = Place::new();
    let limits = LimitOverrides {
        storage_keys: Some(10),
        storage_bytes: Some(1_000),
        storage_value_bytes: Some(600),
        ..Default::default()
    };
    for (steps, limit, value) in [
        (json!([["set-many", "", 11]]), Limit::StorageKeys, 10),
        (
            json!([["fill", "", "a", 601]]),
            Limit::StorageValueBytes,
            600,
        ),
        (
            json!([["fill", "", "a", 500], ["fill", "", "b", 499]]),
            Limit::StorageBytes,
            1_000,
        ),
    ] {
        let granted = Grants::default().storage();
        let result = place.run(steps, None, granted, limits).await;
        check_exhausted(&result, limit, value);
    }
    let done = place
        .done(json!([["keys", ""], ["fill", "", "b", 498]]))
        .await;
    assert_eq!(done, json!([{"keys": ["a"], "pages": 1}, true]));
}

/// What is read at once counts as one call.
#[tokio::test]
async fn values_that_are_read_at_once_are_bounded() {
    let place = Place::new();
    place
        .done(json!([
            ["fill", "", "a", 200_000],
            ["fill", "", "b", 200_000]
        ]))
        .await;
    let limits = LimitOverrides {
        host_bytes: Some(300_000),
        ..Default::default()
    };
    let granted = Grants::default().storage();
    let steps = json!([["get", "", "a"], ["get-many", "", "a", "b"]]);
    let result = place.run(steps, None, granted, limits).await;
    check_exhausted(&result, Limit::HostBytes, 300_000);
}

/// Many at once, in one process: nothing is lost, and nobody hears that the file is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_lose_nothing() {
    let place = Place::new();
    let path = network_path().with_file_name("storage.wasm");
    let skill = place.host.load(path).await.expect("it loads");
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = ExecutionRequest::new(skill.digest(), json!({"times": 10}))
            .tool("append")
            .grants(Grants::default().storage());
        let host = place.host.clone();
        running.spawn(async move { execute(&host, request).await });
    }
    for result in running.join_all().await {
        assert_eq!(result.status, Status::Success, "{result:?}");
    }
    let done = place
        .done(json!([["get", "", "number"], ["get", "", "text"]]))
        .await;
    assert_eq!(done, json!(["200", "x".repeat(200)]));
}

/// One tenant's writers never leave a moment free, and are more than there are threads. Whoever else writes does so
/// after one of theirs; whoever reads, or uses a directory, waits for none of them; and who waits is stopped in time.
#[tokio::test]
async fn whoever_writes_without_end_is_in_nobodys_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, record) = (folder.path().join("data/storage.db"), Record::new());
    let builder = builder().storage(file.clone()).observer(record.clone());
    let host = builder.build().expect("a host");
    let place = Place { folder, host };
    let before = place
        .done_for(Some("other"), json!([["set", "", "first", "v"]]))
        .await;
    assert_eq!(before, json!([true]));
    // As another process does that writes. The first writer waits for that with its turn, the others for theirs.
    let holder = rusqlite::Connection::open(&file).expect("it can be opened");
    let begun = holder.execute_batch("BEGIN IMMEDIATE");
    begun.expect("nobody else writes");

    let mut running = tokio::task::JoinSet::new();
    let writers = [("busy", 20), ("other", 1), ("third", 1)];
    let mut asked = 0;
    for (tenant, count) in writers {
        for number in 0..count {
            let steps = json!([
                ["log", "", "asks"],
                ["set", "", format!("a{number}"), "v"],
                ["set", "", format!("b{number}"), "v"],
            ]);
            let request = place.request(steps, Some(tenant)).await;
            let request = request
                .grants(Grants::default().storage())
                .limits(LimitOverrides {
                    wall_time: Some(Duration::from_secs(300)),
                    ..Default::default()
                });
            let host = place.host.clone();
            running.spawn(async move { execute(&host, request).await });
        }
        asked += count;
        record.wait_for("log asks", asked).await;
        // All run on this thread: what each does after that, up to where it waits, is done then.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    let steps = json!([["get", "", "first"], ["keys", ""]]);
    let read = place.done_for(Some("other"), steps).await;
    assert_eq!(read, json!(["v", {"keys": ["first"], "pages": 1}]));
    let scratch = Grants::default().scratch();
    let steps = json!([]);
    let scratch = place.run(steps, Some("other"), scratch, LimitOverrides::default());
    assert_eq!(scratch.await.status, Status::Success);
    let soon = Duration::from_millis(200);
    let limits = LimitOverrides {
        wall_time: Some(soon),
        ..Default::default()
    };
    let granted = Grants::default().storage();
    let steps = json!([["set", "", "late", "v"]]);
    let late = place.run(steps, Some("late"), granted, limits).await;
    check_timeout(&late, soon);

    holder.execute_batch("ROLLBACK").expect("it had begun");
    for result in running.join_all().await {
        assert_eq!(result.status, Status::Success, "{result:?}");
    }
    // Each entry has a number that is higher than all before it.
    let mut statement = holder
        .prepare("SELECT tenant FROM entry JOIN owner ON owner.id = entry.owner ORDER BY entry.id")
        .expect("the tables are there");
    let order: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect)
        .expect("it can be read");
    assert_eq!(order.len(), 1 + 2 * 22, "{order:?}");
    assert_eq!(order[..4], ["=other", "=busy", "=other", "=third"]);
}

/// The earlier draft, by a component that is written by hand.
#[tokio::test]
async fn the_earlier_draft_works_on_the_same_data() {
    let place = Place::new();
    place
        .done(json!([["set", "", "n", "41"], ["set-many", "", 1_000]]))
        .await;
    let text = r#"
        (core module $heap
            (memory (export "memory") 4)
            (global $at (mut i32) (i32.const 32768))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $at)
                (global.set $at (i32.and (i32.const -8)
                    (i32.add (global.get $at) (i32.add (local.get 3) (i32.const 7)))))))
        (core instance $heap (instantiate $heap))
        (alias core export $heap "memory" (core memory $memory))
        (alias core export $heap "realloc" (core func $realloc))
        (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
            (type $a (variant (case "no-such-store") (case "access-denied") (case "other" string)))
            (export "error" (type $error (eq $a)))
            (export "bucket" (type $bucket (sub resource)))
            (type $r (record (field "keys" (list string)) (field "cursor" (option u64))))
            (export "key-response" (type $response (eq $r)))
            (export "[method]bucket.list-keys" (func (param "self" (borrow $bucket))
                (param "cursor" (option u64)) (result (result $response (error $error)))))
            (export "open" (func (param "identifier" string)
                (result (result (own $bucket) (error $error)))))))
        (alias export $store "bucket" (type $bucket))
        (alias export $store "error" (type $store-error))
        (import "wasi:keyvalue/atomics@0.2.0-draft" (instance $atomics
            (alias outer $skill $bucket (type $b))
            (export "bucket" (type $bucket (eq $b)))
            (alias outer $skill $store-error (type $e))
            (export "error" (type $error (eq $e)))
            (export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string)
                (param "delta" u64) (result (result u64 (error $error)))))))
        (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
        (core func $keys (canon lower (func $store "[method]bucket.list-keys")
            (memory $memory) (realloc $realloc)))
        (core func $increment (canon lower (func $atomics "increment")
            (memory $memory) (realloc $realloc)))"#;
    let skill = Handmade {
        before: text.into(),
        with: r#"(with "host" (instance (export "memory" (memory $memory))
            (export "open" (func $open)) (export "keys" (func $keys)) (export "increment" (func $increment))))"#
            .into(),
        imports: r#"(import "host" "memory" (memory 4))
            (import "host" "open" (func $open (param i32 i32 i32)))
            (import "host" "keys" (func $keys (param i32 i32 i64 i32)))
            (import "host" "increment" (func $increment (param i32 i32 i32 i64 i32)))"#
            .into(),
        memory: r#"(export "memory" (memory 0))"#.into(),
        // Adds one, and traps unless that makes 42.
        execute: r#"
            (i32.store8 (i32.const 128) (i32.const 110))
            (call $open (i32.const 0) (i32.const 0) (i32.const 64))
            (if (i32.load8_u (i32.const 64)) (then unreachable))
            (call $increment (i32.load (i32.const 68)) (i32.const 128) (i32.const 1) (i64.const 1)
                (i32.const 80))
            (if (i32.load8_u (i32.const 80)) (then unreachable))
            (if (i64.ne (i64.load (i32.const 88)) (i64.const 42)) (then unreachable))
            ;; The first page of all, which has its cursor in this execution.
            (call $keys (i32.load (i32.const 68)) (i32.const 0) (i64.const 0) (i32.const 160))
            (if (i32.load8_u (i32.const 160)) (then unreachable))
            (if (i32.ne (i32.load (i32.const 172)) (i32.const 1000)) (then unreachable))
            (if (i32.ne (i32.load8_u (i32.const 176)) (i32.const 1)) (then unreachable))
            (if (i64.ne (i64.load (i32.const 184)) (i64.const 1)) (then unreachable))
            ;; The second, and last.
            (call $keys (i32.load (i32.const 68)) (i32.const 1) (i64.const 1) (i32.const 160))
            (if (i32.load8_u (i32.const 160)) (then unreachable))
            (if (i32.ne (i32.load (i32.const 172)) (i32.const 1)) (then unreachable))
            (if (i32.load8_u (i32.const 176)) (then unreachable))
            ;; No page ended with these.
            (call $keys (i32.load (i32.const 68)) (i32.const 1) (i64.const 2) (i32.const 160))
            (if (i32.ne (i32.load8_u (i32.const 160)) (i32.const 1)) (then unreachable))
            (call $keys (i32.load (i32.const 68)) (i32.const 1) (i64.const 0) (i32.const 160))
            (if (i32.ne (i32.load8_u (i32.const 160)) (i32.const 1)) (then unreachable))
            i32.const $answer"#
            .into(),
        description: crate::handmade::Description {
            name: "storage".into(),
            ..Handmade::default().description
        },
        ..Handmade::default()
    };
    let skill = crate::harness::load(&place.host, &skill).await;
    let request =
        ExecutionRequest::new(skill.digest(), json!({})).grants(Grants::default().storage());
    let result = execute(&place.host, request).await;
    assert_eq!(result.status, Status::Success, "{result:?}");
    assert_eq!(place.done(json!([["get", "", "n"]])).await, json!(["42"]));
}
