//! A skill that makes the calls to `wasi:filesystem` that it is told to, one after the other, and
//! says what came of each. What a language's own library would never do can be done with it.
//!
//! The input is `{"calls": [{"call": "open", "at": 0, "path": "a"}, ...]}`. Handles are kept in a
//! list that begins with the granted directories; `at` and `to` are places in it. `times` repeats a
//! call, `{n}` in a path being the number of the repetition, until the first error. A path that is a list
//! of numbers is those bytes, whatever they are. Where `fail` is true, it fails at the end, with what came
//! of the calls in its message.

use exports::skillhost::skill::tools::{Attachment, Context, Description, Failure, Guest, Output};
use serde_json::{Value, json};
use skillhost::skill::types::{Annotations, Error as SkillError, Tool};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DirectoryEntryStream, ErrorCode, MetadataHashValue, NewTimestamp,
    OpenFlags, PathFlags,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

wit_bindgen::generate!({
    path: "../../../wit",
    world: "skill",
    generate_all,
});

struct Directories;

export!(Directories);

/// Everything that is held until the end.
#[derive(Default)]
struct Held {
    // Streams belong to descriptors, and so go first.
    readers: Vec<InputStream>,
    writers: Vec<OutputStream>,
    listings: Vec<DirectoryEntryStream>,
    handles: Vec<Descriptor>,
}

impl Guest for Directories {
    fn describe() -> Description {
        Description {
            name: "directories".into(),
            version: "1.0.0".into(),
            description: "Makes the calls that it is told to.".into(),
            tools: vec![Tool {
                name: "calls".into(),
                title: None,
                description: String::new(),
                input_schema: json!({"type": "object"}).to_string(),
                output_schema: None,
                annotations: Annotations {
                    read_only: None,
                    destructive: None,
                    idempotent: None,
                    open_world: None,
                },
            }],
        }
    }

    fn execute(
        _tool: String,
        input: String,
        _attachments: Vec<Attachment>,
        _context: Context,
    ) -> Result<Output, Failure> {
        let input: Value = serde_json::from_str(&input).expect("the host sends JSON");
        let mut held = Held::default();
        let granted = get_directories();
        let paths: Vec<String> = granted.iter().map(|(_, path)| path.clone()).collect();
        held.handles = granted.into_iter().map(|(handle, _)| handle).collect();
        let calls = input["calls"].as_array().expect("there are calls");
        let answers: Vec<Value> = calls.iter().map(|call| repeated(&mut held, call)).collect();
        let json = json!({"granted": paths, "answers": answers}).to_string();
        if input["fail"] == true {
            return Err(Failure::Error(SkillError {
                code: Some("told".into()),
                message: json,
                details: None,
            }));
        }
        Ok(Output {
            json,
            attachments: Vec::new(),
        })
    }
}

fn repeated(held: &mut Held, call: &Value) -> Value {
    let Some(times) = call["times"].as_u64() else {
        return match made(held, call, 0) {
            Ok(value) => value,
            Err(error) => json!({ "error": error }),
        };
    };
    for number in 0..times {
        if let Err(error) = made(held, call, number) {
            return json!({"error": error, "after": number});
        }
    }
    json!({ "after": times })
}

fn made(held: &mut Held, call: &Value, number: u64) -> Result<Value, String> {
    let text = |key: &str| match call[key].as_array() {
        Some(bytes) => text_of(bytes),
        None => {
            let text = call[key].as_str().unwrap_or_default();
            text.replace("{n}", &number.to_string())
        }
    };
    let count = |key: &str| call[key].as_u64().unwrap_or_default();
    let flag = |key: &str| call[key].as_bool().unwrap_or_default();
    let follow = match flag("follow") {
        true => PathFlags::SYMLINK_FOLLOW,
        false => PathFlags::empty(),
    };
    // A repeated call that opens may go on from what it opened last.
    let at = match flag("last") && number > 0 {
        true => held.handles.len() - 1,
        false => count("at") as usize,
    };
    let handle = &held.handles[at];
    let path = text("path");
    let done = |result: Result<(), ErrorCode>| result.map(|()| json!({})).map_err(named);
    match call["call"].as_str().unwrap_or_default() {
        "open" => {
            let mut open = OpenFlags::empty();
            for (key, one) in [
                ("create", OpenFlags::CREATE),
                ("exclusive", OpenFlags::EXCLUSIVE),
                ("truncate", OpenFlags::TRUNCATE),
                ("directory", OpenFlags::DIRECTORY),
            ] {
                if flag(key) {
                    open |= one;
                }
            }
            let mut flags = DescriptorFlags::READ;
            if flag("write") {
                flags |= DescriptorFlags::WRITE;
            }
            let opened = handle.open_at(follow, &path, open, flags).map_err(named)?;
            // Which one it is.
            let answer = match flag("look") {
                true => hash(opened.metadata_hash().map_err(named)?),
                false => json!({}),
            };
            if !flag("drop") {
                held.handles.push(opened);
            }
            Ok(answer)
        }
        "read" => {
            let (bytes, ended) = handle
                .read(count("bytes"), count("offset"))
                .map_err(named)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(
                json!({"bytes": bytes.len(), "ended": ended, "text": text.get(..100.min(text.len()))}),
            )
        }
        "write" => {
            let bytes = vec![b'x'; count("bytes") as usize];
            let written = handle.write(&bytes, count("offset")).map_err(named)?;
            Ok(json!({ "written": written }))
        }
        "try" => {
            // Again and again, while somebody changes what stands there; and, where so told, until so many
            // different things were seen.
            let mut seen = std::collections::BTreeMap::<String, u64>::new();
            let mut turns = 0;
            while turns < count("count") || (seen.len() as u64) < count("until") {
                turns += 1;
                let (open, flags) = match flag("write") {
                    true => (
                        OpenFlags::CREATE,
                        DescriptorFlags::READ | DescriptorFlags::WRITE,
                    ),
                    false => (OpenFlags::empty(), DescriptorFlags::READ),
                };
                let opened = handle.open_at(follow, &path, open, flags);
                let what = match opened.and_then(|file| {
                    if flag("write") {
                        file.write(b"overwritten", 0)?;
                    }
                    file.read(100, 0)
                }) {
                    Ok((bytes, _)) => String::from_utf8_lossy(&bytes).into_owned(),
                    Err(error) => named(error),
                };
                *seen.entry(what).or_default() += 1;
            }
            Ok(json!({ "seen": seen }))
        }
        "again" => {
            // The same for any call, until something that begins like each of these was seen.
            let mut seen = std::collections::BTreeMap::<String, u64>::new();
            let until = call["until"].as_array().cloned().unwrap_or_default();
            let begins = |what: &str| {
                until
                    .iter()
                    .position(|begin| what.starts_with(begin.as_str().unwrap_or("")))
            };
            let mut met = std::collections::BTreeSet::new();
            let mut turns = 0;
            while turns < count("count") || met.len() < until.len() {
                let what = match made(held, &call["each"], turns) {
                    Ok(value) => value.to_string(),
                    Err(error) => error,
                };
                met.extend(begins(&what));
                *seen.entry(what).or_default() += 1;
                turns += 1;
            }
            Ok(json!({ "seen": seen }))
        }
        "set_size" => done(handle.set_size(count("bytes"))),
        "stat" => {
            let stat = match call["path"].is_null() {
                true => handle.stat(),
                false => handle.stat_at(follow, &path),
            };
            let stat = stat.map_err(named)?;
            Ok(
                json!({"type": format!("{:?}", stat.type_), "size": stat.size, "links": stat.link_count}),
            )
        }
        "make_directory" => done(handle.create_directory_at(&path)),
        "remove_directory" => done(handle.remove_directory_at(&path)),
        "unlink" => done(handle.unlink_file_at(&path)),
        "link" => {
            let to = &held.handles[count("to") as usize];
            done(handle.link_at(follow, &path, to, &text("new_path")))
        }
        "rename" => {
            let to = &held.handles[count("to") as usize];
            done(handle.rename_at(&path, to, &text("new_path")))
        }
        "symlink" => done(handle.symlink_at(&text("target"), &path)),
        "read_link" => Ok(json!({"target": handle.readlink_at(&path).map_err(named)?})),
        "hash" => Ok(hash(handle.metadata_hash_at(follow, &path).map_err(named)?)),
        "set_times" => {
            done(handle.set_times_at(follow, &path, NewTimestamp::NoChange, NewTimestamp::Now))
        }
        "sync" => done(handle.sync()),
        "flags" => Ok(json!({"flags": format!("{:?}", handle.get_flags().map_err(named)?)})),
        "same" => {
            let to = &held.handles[count("to") as usize];
            let alike = |one: &Descriptor, other: &Descriptor| {
                let (one, other) = (one.metadata_hash().ok()?, other.metadata_hash().ok()?);
                Some(one.lower == other.lower && one.upper == other.upper)
            };
            Ok(json!({"same": handle.is_same_object(to), "hash": alike(handle, to)}))
        }
        "list" => {
            let listing = handle.read_directory().map_err(named)?;
            let mut names = Vec::new();
            let mut entries = 0;
            while let Some(entry) = listing.read_directory_entry().map_err(named)? {
                entries += 1;
                if names.len() < 20 {
                    names.push(format!("{} {:?}", entry.name, entry.type_));
                }
            }
            names.sort();
            Ok(json!({"names": names, "entries": entries}))
        }
        "hold_listing" => {
            let listing = handle.read_directory().map_err(named)?;
            listing.read_directory_entry().map_err(named)?;
            held.listings.push(listing);
            Ok(json!({}))
        }
        "hold_reader" => {
            let reader = handle.read_via_stream(count("offset")).map_err(named)?;
            reader.subscribe().block();
            held.readers.push(reader);
            Ok(json!({}))
        }
        "hold_writer" => {
            held.writers
                .push(handle.write_via_stream(0).map_err(named)?);
            Ok(json!({}))
        }
        "stream_in" => {
            let reader = handle.read_via_stream(count("offset")).map_err(named)?;
            let mut total = 0;
            loop {
                match reader.blocking_read(count("bytes").max(1)) {
                    Ok(bytes) => total += bytes.len(),
                    Err(StreamError::Closed) => return Ok(json!({ "total": total })),
                    Err(StreamError::LastOperationFailed(error)) => {
                        return Err(error.to_debug_string());
                    }
                }
            }
        }
        "stream_out" | "append" => {
            let writer = match call["call"] == "append" {
                true => handle.append_via_stream(),
                false => handle.write_via_stream(count("offset")),
            }
            .map_err(named)?;
            let piece = vec![b'y'; 4096];
            let mut left = count("bytes") as usize;
            // No bytes are written, too: once.
            loop {
                let now = left.min(piece.len());
                // Without waiting for the end of what was written before, where so told.
                let written = match flag("unflushed") {
                    true => {
                        writer.subscribe().block();
                        writer
                            .check_write()
                            .and_then(|_| writer.write(&piece[..now]))
                    }
                    false => writer.blocking_write_and_flush(&piece[..now]),
                };
                written.map_err(|error| format!("{error:?}"))?;
                left -= now;
                if left == 0 {
                    return Ok(json!({}));
                }
            }
        }
        other => Err(format!("there is no call `{other}`")),
    }
}

/// A text of these bytes, also where they are none.
fn text_of(bytes: &[Value]) -> String {
    let bytes = bytes
        .iter()
        .map(|byte| byte.as_u64().unwrap_or_default() as u8);
    // SAFETY: nobody reads it as a text before the host does. What hands it over looks at where it is, and how long.
    unsafe { String::from_utf8_unchecked(bytes.collect()) }
}

fn hash(hash: MetadataHashValue) -> Value {
    json!({"hash": [hash.lower, hash.upper]})
}

fn named(error: ErrorCode) -> String {
    error.name().to_owned()
}
