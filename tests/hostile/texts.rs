//! Guests that hand over bytes that are no text, wherever there must be one: in what they say that they are, in
//! answers, failures and attachments, and in what they tell the host meanwhile. Paths and requests that are none
//! are in `directories` and `network`.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use skillhost::grant::Grants;
use skillhost::{ExecutionRequest, Status};

use crate::attack::{Attack, End, builder, runtime};
use crate::chatter::that_talks;
use crate::handmade::{self, Answer, Handmade};
use crate::harness::{execute, load};
use crate::load::Load;
use crate::measure::alone;
use crate::volume::heard;

const VIOLATION: End<'static> = End::Trap("contract_violation");

/// What begins no character, what ends within one, half of a pair, and more than there is.
const NO_TEXTS: [&[u8]; 4] = [b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"];

/// Where they stand in memory, below all else.
const AT: u32 = 16;

/// A text of a record: the record, where the text is in it, and whether it may be none.
type Place = (&'static str, u32, bool);

const DESCRIPTION: &str = "(i32.const $description)";
const TOOL: &str = "(i32.load offset=24 (i32.const $description))";
const ANSWER: &str = "(i32.const $answer)";
const ATTACHMENT: &str = "(i32.const 64)";

/// Bytes as the text format has them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// A skill that has these bytes at [`AT`].
fn having(bytes: &[u8]) -> Handmade {
    Handmade {
        fields: format!(r#"(data (i32.const {AT}) "{}")"#, escaped(bytes)),
        ..Handmade::default()
    }
}

/// Code that makes these bytes the text at a place.
fn put((record, offset, is_optional): Place, bytes: &[u8]) -> String {
    let (there_is, offset) = match is_optional {
        true => (
            format!("(i32.store8 offset={offset} {record} (i32.const 1))"),
            offset + 4,
        ),
        false => (String::new(), offset),
    };
    format!(
        "{there_is} (i32.store offset={offset} {record} (i32.const {AT}))
        (i32.store offset={} {record} (i32.const {}))",
        offset + 4,
        bytes.len()
    )
}

/// Each place with bytes that are no text, and each of those at some place.
fn everywhere<const N: usize>(places: [Place; N]) -> impl Iterator<Item = (Place, &'static [u8])> {
    let no_texts = NO_TEXTS.into_iter().cycle();
    let count = N.max(NO_TEXTS.len());
    places.into_iter().cycle().zip(no_texts).take(count)
}

#[test]
fn in_what_a_skill_says_that_it_is() {
    let _alone = alone();
    for (place, bytes) in everywhere([
        // Its name, version and description.
        (DESCRIPTION, 0, false),
        (DESCRIPTION, 8, false),
        (DESCRIPTION, 16, false),
        // Of a tool: name, title, description and both schemas.
        (TOOL, 0, false),
        (TOOL, 8, true),
        (TOOL, 20, false),
        (TOOL, 28, false),
        (TOOL, 36, true),
    ]) {
        let skill = Handmade {
            describe: format!("{} i32.const $description", put(place, bytes)),
            ..having(bytes)
        };
        let failure = Load::by(&skill).describing_ends_with(VIOLATION);
        assert!(failure.message.contains("utf-8"), "{place:?}: {failure}");
    }
}

#[test]
fn in_a_failure() {
    let _alone = alone();
    for (case, places) in [
        // An input that is refused: where, and why.
        (1, &[(ANSWER, 16, false), (ANSWER, 24, false)][..]),
        // To be tried again: why.
        (2, &[(ANSWER, 16, false)]),
        // Any other: message, code and details.
        (
            3,
            &[(ANSWER, 16, false), (ANSWER, 24, true), (ANSWER, 36, true)],
        ),
    ] {
        for (place, bytes) in places.iter().zip(NO_TEXTS) {
            let skill = Handmade {
                execute: format!(
                    "(i32.store8 offset=8 {ANSWER} (i32.const {case})) {} i32.const $answer",
                    put(*place, bytes)
                ),
                answer: Answer {
                    case: 1,
                    ..Handmade::default().answer
                },
                ..having(bytes)
            };
            let result = Attack::by(skill).ends_with(VIOLATION);
            let failure = result.failure.expect("it failed");
            assert!(failure.message.contains("utf-8"), "{place:?}: {failure}");
            assert_eq!(result.usage.output_bytes, 0);
        }
    }
}

/// The output that comes before them is there.
#[test]
fn in_an_attachment() {
    let _alone = alone();
    // Its name and its media type.
    for (place, bytes) in everywhere([(ATTACHMENT, 0, false), (ATTACHMENT, 8, false)]) {
        let skill = Handmade {
            execute: format!("{} i32.const $answer", put(place, bytes)),
            answer: Answer {
                attachments: (64, 1),
                ..Handmade::default().answer
            },
            ..having(bytes)
        };
        let result = Attack::by(skill).ends_with(VIOLATION);
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains("utf-8"), "{place:?}: {failure}");
        assert_eq!(result.usage.output_bytes, 2);
    }
}

/// Half of a pair, where texts are UTF-16.
#[test]
fn in_another_encoding() {
    let _alone = alone();
    for (encoding, mark) in [("utf16", 0), ("latin1+utf16", 1 << 31)] {
        let skill = Handmade {
            encoding,
            answer: Answer {
                json: b"\"\0\0\xd8\"\0".to_vec(),
                json_length: Some(3 | mark),
                ..Handmade::default().answer
            },
            ..Handmade::default()
        };
        let result = Attack::by(skill).ends_with(VIOLATION);
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains("surrogate"), "{failure}");
        assert_eq!(result.usage.output_bytes, 0);
    }
}

/// A record, a step and its details: nobody hears of them.
#[test]
fn in_what_the_host_is_told() {
    let _alone = alone();
    for bytes in NO_TEXTS {
        let length = bytes.len();
        for call in [
            format!("(call $log (i32.const 2) (i32.const 0) (i32.const {length}))"),
            format!(
                "(call $report (i32.const 0) (f64.const 0) (i32.const 0) (i32.const {length})
                (i32.const 0) (i32.const 0) (i32.const 0))"
            ),
            format!(
                "(call $report (i32.const 0) (f64.const 0) (i32.const 0) (i32.const 0)
                (i32.const 1) (i32.const 0) (i32.const {length}))"
            ),
        ] {
            let skill = Handmade {
                execute: format!("{call} i32.const $answer"),
                ..that_talks(&escaped(bytes))
            };
            let (sum, hear) = heard();
            let result = Attack::by(skill)
                .watched_by(Arc::new(hear))
                .ends_with(VIOLATION);
            let failure = result.failure.expect("it failed");
            assert!(failure.message.contains("utf-8"), "{call}: {failure}");
            assert_eq!(result.usage.dropped, Default::default());
            assert_eq!(*sum.lock().expect("nobody panics here"), 0);
        }
    }
}

/// The functions that take a key: a name, the instance that exports it, its name there, and what it takes.
const OF_KEYS: &[[&str; 4]] = &[
    ["config", "config", "get", "i32 i32 i32"],
    ["open", "store", "open", "i32 i32 i32"],
    ["get", "store", "[method]bucket.get", "i32 i32 i32 i32"],
    [
        "set",
        "store",
        "[method]bucket.set",
        "i32 i32 i32 i32 i32 i32",
    ],
    [
        "delete",
        "store",
        "[method]bucket.delete",
        "i32 i32 i32 i32",
    ],
    [
        "exists",
        "store",
        "[method]bucket.exists",
        "i32 i32 i32 i32",
    ],
    ["increment", "atomics", "increment", "i32 i32 i32 i64 i32"],
    ["get-many", "batch", "get-many", "i32 i32 i32 i32"],
    ["set-many", "batch", "set-many", "i32 i32 i32 i32"],
    ["delete-many", "batch", "delete-many", "i32 i32 i32 i32"],
];

/// Those that only the newer draft has, or has with a text.
const OF_KEYS_NEWER: &[[&str; 4]] = &[
    [
        "list",
        "store",
        "[method]bucket.list-keys",
        "i32 i32 i32 i32 i32",
    ],
    ["cas", "atomics", "[static]cas.new", "i32 i32 i32 i32"],
];

/// The bucket that was opened.
const BUCKET: &str = "(i32.load (i32.const 68))";

/// A skill that opens a bucket and does this, by one of the two drafts of `wasi:keyvalue`, with these bytes at [`AT`], and
/// as the second key in the lists for [`asking`].
fn that_keeps(is_newer: bool, bytes: &[u8], code: &str) -> Handmade {
    let (draft, number) = match is_newer {
        true => ("0.2.0-draft2", "s64"),
        false => ("0.2.0-draft", "u64"),
    };
    let (list, cas) = match is_newer {
        true => (
            r#"(type $r (record (field "keys" (list string)) (field "cursor" (option string))))
            (export "key-response" (type $response (eq $r)))
            (export "[method]bucket.list-keys" (func (param "self" (borrow $bucket))
                (param "cursor" (option string)) (result (result $response (error $error)))))"#,
            r#"(export "cas" (type $cas (sub resource)))
            (export "[static]cas.new" (func (param "bucket" (borrow $bucket)) (param "key" string)
                (result (result (own $cas) (error $error)))))"#,
        ),
        false => ("", ""),
    };
    let of_bucket = r#"(alias outer $skill $bucket (type $b)) (export "bucket" (type $bucket (eq $b)))
            (alias outer $skill $store-error (type $e)) (export "error" (type $error (eq $e)))"#;
    let mut before = format!(
        r#"(core module $heap
            (memory (export "memory") 4)
            (global $at (mut i32) (i32.const 32768))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $at)
                (global.set $at (i32.and (i32.const -8)
                    (i32.add (global.get $at) (i32.add (local.get 3) (i32.const 7)))))))
        (core instance $heap (instantiate $heap))
        (alias core export $heap "memory" (core memory $memory))
        (alias core export $heap "realloc" (core func $realloc))
        (import "wasi:config/store@0.2.0-rc.1" (instance $config
            (type $a (variant (case "upstream" string) (case "io" string)))
            (export "error" (type $error (eq $a)))
            (export "get" (func (param "key" string)
                (result (result (option string) (error $error)))))))
        (import "wasi:keyvalue/store@{draft}" (instance $store
            (type $a (variant (case "no-such-store") (case "access-denied") (case "other" string)))
            (export "error" (type $error (eq $a)))
            (export "bucket" (type $bucket (sub resource)))
            (export "open" (func (param "identifier" string)
                (result (result (own $bucket) (error $error)))))
            (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string)
                (result (result (option (list u8)) (error $error)))))
            (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
                (param "value" (list u8)) (result (result (error $error)))))
            (export "[method]bucket.delete" (func (param "self" (borrow $bucket))
                (param "key" string) (result (result (error $error)))))
            (export "[method]bucket.exists" (func (param "self" (borrow $bucket))
                (param "key" string) (result (result bool (error $error)))))
            {list}))
        (alias export $store "bucket" (type $bucket))
        (alias export $store "error" (type $store-error))
        (import "wasi:keyvalue/atomics@{draft}" (instance $atomics
            {of_bucket}
            {cas}
            (export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string)
                (param "delta" {number}) (result (result {number} (error $error)))))))
        (import "wasi:keyvalue/batch@{draft}" (instance $batch
            {of_bucket}
            (export "get-many" (func (param "bucket" (borrow $bucket)) (param "keys" (list string))
                (result (result (list (option (tuple string (list u8)))) (error $error)))))
            (export "set-many" (func (param "bucket" (borrow $bucket))
                (param "key-values" (list (tuple string (list u8))))
                (result (result (error $error)))))
            (export "delete-many" (func (param "bucket" (borrow $bucket))
                (param "keys" (list string)) (result (result (error $error)))))))"#
    );
    let mut with = String::from(r#"(export "memory" (memory $memory))"#);
    let mut imports = String::from(r#"(import "host" "memory" (memory 4))"#);
    let newer = OF_KEYS_NEWER.iter().filter(|_| is_newer);
    for [name, instance, function, takes] in OF_KEYS.iter().chain(newer) {
        let lowered = format!(
            r#"(core func ${name} (canon lower (func ${instance} "{function}")
                (memory $memory) (realloc $realloc)))"#
        );
        before.push_str(&lowered);
        let _ = write!(with, r#"(export "{name}" (func ${name}))"#);
        let _ = write!(
            imports,
            r#"(import "host" "{name}" (func ${name} (param {takes})))"#
        );
    }
    // Of each list two: the first is well.
    let (well, key) = ([24, 2], [AT, bytes.len() as u32]);
    let words = |parts: &[[u32; 2]]| {
        let words = parts.iter().flatten().copied();
        escaped(&words.flat_map(u32::to_le_bytes).collect::<Vec<_>>())
    };
    let (keys, pairs) = (words(&[well, key]), words(&[well, well, key, well]));
    Handmade {
        before,
        with: format!(r#"(with "host" (instance {with}))"#),
        imports,
        memory: r#"(export "memory" (memory 0))"#.into(),
        fields: format!(
            r#"{} (data (i32.const 24) "ok") (data (i32.const 192) "{keys}")
            (data (i32.const 256) "{pairs}")"#,
            having(bytes).fields
        ),
        execute: format!(
            "(call $open (i32.const 0) (i32.const 0) (i32.const 64))
            (if (i32.load8_u (i32.const 64)) (then unreachable))
            {code}
            i32.const $answer"
        ),
        ..Handmade::default()
    }
}

/// Every call that takes a key, with the one at [`AT`], which has so many bytes.
fn asking(is_newer: bool, length: usize) -> Vec<String> {
    let key = format!("(i32.const {AT}) (i32.const {length})");
    let (well, to) = ("(i32.const 24) (i32.const 2)", "(i32.const 128)");
    let (keys, pairs) = (
        "(i32.const 192) (i32.const 2)",
        "(i32.const 256) (i32.const 2)",
    );
    let mut calls = vec![
        format!("(call $config {key} {to})"),
        format!("(call $open {key} {to})"),
        format!("(call $get {BUCKET} {key} {to})"),
        format!("(call $set {BUCKET} {key} {well} {to})"),
        format!("(call $exists {BUCKET} {key} {to})"),
        format!("(call $delete {BUCKET} {key} {to})"),
        format!("(call $increment {BUCKET} {key} (i64.const 1) {to})"),
        format!("(call $get-many {BUCKET} {keys} {to})"),
        format!("(call $delete-many {BUCKET} {keys} {to})"),
        format!("(call $set-many {BUCKET} {pairs} {to})"),
    ];
    if is_newer {
        calls.push(format!("(call $cas {BUCKET} {key} {to})"));
        calls.push(format!("(call $list {BUCKET} (i32.const 1) {key} {to})"));
    }
    calls
}

/// In keys of the configuration and of what is kept, of which nothing is kept then, and nothing beside them.
#[test]
fn in_keys() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let host = builder().storage(folder.path().join("storage.db")).build();
    let host = host.expect("a host can be set up");
    let granted = || Grants::default().storage().config("ok", "ok");
    for is_newer in [true, false] {
        let no_texts = NO_TEXTS.into_iter().cycle();
        for (at, bytes) in (0..asking(is_newer, 0).len()).zip(no_texts) {
            let call = asking(is_newer, bytes.len()).remove(at);
            let result = Attack::by(that_keeps(is_newer, bytes, &call))
                .granted(granted())
                .on(&host)
                .ends_with(VIOLATION);
            let failure = result.failure.expect("it failed");
            assert!(failure.message.contains("utf-8"), "{call}: {failure}");
            assert!(failure.missing.is_empty(), "{call}: {failure:?}");
        }
    }
    // Succeeds where there is no key.
    let empty = format!(
        "(call $list {BUCKET} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then unreachable))
        (if (i32.load (i32.const 136)) (then unreachable))"
    );
    let run = |is_newer: bool, bytes: &[u8], code: &str, tenant: Option<&str>| {
        let skill = that_keeps(is_newer, bytes, code);
        runtime().block_on(async {
            let skill = load(&host, &skill).await;
            let request = ExecutionRequest::new(skill.digest(), json!({})).tool(handmade::TOOL);
            let mut request = request.grants(granted());
            request.tenant = tenant.map(Into::into);
            execute(&host, request).await.status
        })
    };
    assert_eq!(run(true, b"", &empty, None), Status::Success);
    // Each of these does something with a text.
    for is_newer in [true, false] {
        let text = b"key";
        for call in asking(is_newer, text.len()) {
            let status = run(is_newer, text, &call, Some("another"));
            assert_eq!(status, Status::Success, "{call}");
        }
    }
    let status = run(true, b"", &empty, Some("another"));
    assert_eq!(status, Status::Failed);
}
