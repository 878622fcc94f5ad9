//! A skill that keeps what it is told. It speaks `wasi:keyvalue` directly, without the SDK, so that
//! nothing stands between a test and the host.

use exports::skillhost::skill::tools::{Attachment, Context, Description, Failure, Guest, Output};
use serde_json::{Value, json};
use skillhost::skill::logging::{Level, log};
use skillhost::skill::types::{Annotations, Tool};
use wasi::keyvalue::atomics::{Cas, CasError, increment, swap};
use wasi::keyvalue::batch::{delete_many, get_many, set_many};
use wasi::keyvalue::store::{self, Bucket, open};

wit_bindgen::generate!({
    path: "../../../wit",
    world: "skill",
    generate_all,
});

struct Storage;

export!(Storage);

const TOOLS: &[&str] = &["append", "batches", "do"];

impl Guest for Storage {
    fn describe() -> Description {
        // Nothing is granted to whoever describes itself.
        assert!(matches!(open("default"), Err(store::Error::AccessDenied)));
        let tool = |name: &&str| Tool {
            name: (*name).to_owned(),
            title: None,
            description: "Does what its name says.".into(),
            input_schema: r#"{"type": "object"}"#.into(),
            output_schema: None,
            annotations: Annotations {
                read_only: None,
                destructive: None,
                idempotent: None,
                open_world: None,
            },
        };
        Description {
            name: "storage".into(),
            version: "1.0.0".into(),
            description: "Keeps what it is told.".into(),
            tools: TOOLS.iter().map(tool).collect(),
        }
    }

    fn execute(
        tool: String,
        input: String,
        _: Vec<Attachment>,
        _: Context,
    ) -> Result<Output, Failure> {
        let input: Value = serde_json::from_str(&input).expect("the host sends JSON");
        let answer = match tool.as_str() {
            // Adds a letter to a value and one to a number, so many times.
            "append" => {
                let bucket = open("").expect("it is granted");
                for _ in 0..input["times"].as_u64().unwrap_or(1) {
                    append(&bucket);
                    increment(&bucket, "number", 1).expect("it is a number");
                }
                json!({})
            }
            // Gives several keys the same value, again and again without end.
            "batches" => {
                let bucket = open("").expect("it is granted");
                for round in 0_u64.. {
                    let value = round.to_string().repeat(100).into_bytes();
                    let pairs: Vec<_> = ["a", "b", "c", "d"]
                        .map(|key| (key.to_owned(), value.clone()))
                        .into();
                    set_many(&bucket, &pairs).expect("they can be kept");
                    if round == 50 {
                        log(Level::Warn, "under way");
                    }
                }
                json!({})
            }
            "do" => {
                let done: Vec<Value> = input["steps"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|step| match one(step) {
                        Ok(value) => value,
                        Err(error) => json!({"error": said(error)}),
                    })
                    .collect();
                json!(done)
            }
            _ => return Err(Failure::UnknownTool),
        };
        Ok(Output {
            json: json!({ "done": answer }).to_string(),
            attachments: Vec::new(),
        })
    }
}

fn append(bucket: &Bucket) {
    let mut cas = Cas::new(bucket, "text").expect("it can be looked at");
    loop {
        let mut value = cas.current().expect("it can be read").unwrap_or_default();
        value.push(b'x');
        match swap(cas, &value) {
            Ok(()) => return,
            Err(CasError::CasFailed(again)) => cas = again,
            Err(CasError::StoreError(error)) => panic!("{}", said(error)),
        }
    }
}

fn said(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "no such store".into(),
        store::Error::AccessDenied => "access denied".into(),
        store::Error::Other(reason) => reason,
    }
}

/// One step: what to do, in which bucket, with which key, and with which value.
fn one(step: &Value) -> Result<Value, store::Error> {
    let text = |at: usize| step[at].as_str().unwrap_or_default();
    let number = |at: usize| step[at].as_u64().unwrap_or_default() as usize;
    let bucket = open(text(1))?;
    let shown = |value: Option<Vec<u8>>| match value {
        Some(value) => json!(String::from_utf8_lossy(&value)),
        None => Value::Null,
    };
    Ok(match text(0) {
        "open" => json!(true),
        "log" => {
            log(Level::Warn, text(2));
            json!(true)
        }
        "get" => shown(bucket.get(text(2))?),
        "set" => {
            bucket.set(text(2), text(3).as_bytes())?;
            json!(true)
        }
        // A value of so many bytes.
        "fill" => {
            bucket.set(text(2), &vec![b'v'; number(3)])?;
            json!(true)
        }
        "delete" => {
            bucket.delete(text(2))?;
            json!(true)
        }
        "exists" => json!(bucket.exists(text(2))?),
        "increment" => json!(increment(&bucket, text(2), step[3].as_i64().unwrap_or(1))?),
        "keys" => {
            let (mut keys, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = bucket.list_keys(cursor.as_deref())?;
                keys.extend(page.keys);
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            keys.sort();
            json!({"keys": keys, "pages": pages})
        }
        "page" => json!(bucket.list_keys(Some(text(2)))?.keys),
        // Where the first page ended.
        "cursor" => json!(bucket.list_keys(None)?.cursor),
        // So many keys at once, from a number on.
        "set-many" => {
            let pairs: Vec<_> = (number(3)..number(3) + number(2))
                .map(|number| (format!("k{number:05}"), number.to_string().into_bytes()))
                .collect();
            set_many(&bucket, &pairs)?;
            json!(true)
        }
        "get-many" => {
            let keys: Vec<String> = (2..step.as_array().map_or(0, Vec::len))
                .map(|at| text(at).to_owned())
                .collect();
            let found = get_many(&bucket, &keys)?;
            let found = found.into_iter().map(|pair| match pair {
                Some((key, value)) => json!([key, String::from_utf8_lossy(&value)]),
                None => Value::Null,
            });
            json!(found.collect::<Vec<_>>())
        }
        // So many keys, and how many of them are there.
        "get-many-of" => {
            let keys: Vec<_> = (0..number(2)).map(|at| format!("k{at:05}")).collect();
            let found = get_many(&bucket, &keys)?;
            json!(found.into_iter().flatten().count())
        }
        "delete-many" => {
            delete_many(&bucket, &[text(2).to_owned(), text(3).to_owned()])?;
            json!(true)
        }
        other => panic!("{other}"),
    })
}
