//! The component's side of the contract: what the world `skill` imports and
//! exports, in terms of this crate's types.

use std::time::Duration;

use crate::{Attachment, Context, Failure, Level, Skill, StorageError, ToolDescription};

/// What `wit-bindgen` makes of `wit/`.
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "skill",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "skills_sdk::__private::guest::bindings",
    });
}

pub use bindings::exports::skillhost::skill::tools as exports;
use bindings::skillhost::skill::{deadline, logging, progress, tokens, types};
use bindings::wasi::config::store;
use bindings::wasi::keyvalue::{atomics, batch, store as keyvalue};

/// Answers the host's `describe`.
pub fn describe(skill: Skill) -> exports::Description {
    let description = skill.describe();
    exports::Description {
        name: description.name,
        version: description.version,
        description: description.description,
        tools: description.tools.into_iter().map(tool).collect(),
    }
}

fn tool(tool: ToolDescription) -> types::Tool {
    types::Tool {
        name: tool.name,
        title: tool.title,
        description: tool.description,
        input_schema: tool.input_schema.to_string(),
        output_schema: tool.output_schema.map(|schema| schema.to_string()),
        annotations: types::Annotations {
            read_only: tool.annotations.read_only,
            destructive: tool.annotations.destructive,
            idempotent: tool.annotations.idempotent,
            open_world: tool.annotations.open_world,
        },
    }
}

/// Answers the host's `execute`.
pub fn execute(
    skill: Skill,
    tool: &str,
    input: &str,
    attachments: Vec<exports::Attachment>,
    context: exports::Context,
) -> Result<exports::Output, exports::Failure> {
    let context = Context::new(
        context.request_id,
        context.attempt,
        attachments.into_iter().map(received).collect(),
        Surroundings,
    );
    let json = skill.execute(tool, input, &context).map_err(failure)?;
    let attachments = context.take_attached().into_iter().map(sent).collect();
    Ok(exports::Output { json, attachments })
}

fn received(attachment: exports::Attachment) -> Attachment {
    Attachment {
        name: attachment.name,
        media_type: attachment.media_type,
        data: attachment.data,
    }
}

fn sent(attachment: Attachment) -> exports::Attachment {
    exports::Attachment {
        name: attachment.name,
        media_type: attachment.media_type,
        data: attachment.data,
    }
}

fn failure(failure: Failure) -> exports::Failure {
    match failure {
        Failure::UnknownTool => exports::Failure::UnknownTool,
        Failure::InvalidInput { pointer, message } => {
            exports::Failure::InvalidInput(types::InvalidInput { pointer, message })
        }
        Failure::Retryable { message, after } => exports::Failure::Retryable(types::Retryable {
            message,
            retry_after_ms: after.map(milliseconds),
        }),
        Failure::Error {
            message,
            code,
            details,
        } => exports::Failure::Error(types::Error {
            message,
            code,
            details: details.map(|details| details.to_string()),
        }),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The host, as a context talks to it.
#[derive(Debug)]
pub(crate) struct Surroundings;

impl Surroundings {
    pub(crate) fn time_left(&self) -> Duration {
        Duration::from_nanos(deadline::time_left())
    }

    pub(crate) fn log(&self, level: Level, message: String) {
        let level = match level {
            Level::Trace => logging::Level::Trace,
            Level::Debug => logging::Level::Debug,
            Level::Info => logging::Level::Info,
            Level::Warn => logging::Level::Warn,
            Level::Error => logging::Level::Error,
        };
        logging::log(level, &message);
    }

    pub(crate) fn progress(&self, percent: Option<f64>, step: String, details: Option<String>) {
        progress::report(percent, &step, details.as_deref());
    }

    pub(crate) fn add_tokens(&self, input: u64, output: u64) {
        tokens::add(input, output);
    }

    pub(crate) fn config(&self, key: &str) -> Result<Option<String>, String> {
        store::get(key).map_err(|error| match error {
            store::Error::Upstream(reason) | store::Error::Io(reason) => reason,
        })
    }

    pub(crate) fn get_kept(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(bucket()?.get(key)?)
    }

    pub(crate) fn keep(&self, key: &str, value: &[u8]) -> Result<(), StorageError> {
        Ok(bucket()?.set(key, value)?)
    }

    pub(crate) fn delete_kept(&self, key: &str) -> Result<(), StorageError> {
        Ok(bucket()?.delete(key)?)
    }

    pub(crate) fn kept_keys(&self) -> Result<Vec<String>, StorageError> {
        let bucket = bucket()?;
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = bucket.list_keys(cursor.as_deref())?;
            keys.extend(page.keys);
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(keys),
            }
        }
    }

    pub(crate) fn get_many_kept(
        &self,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let found = batch::get_many(&bucket()?, keys)?;
        Ok(found
            .into_iter()
            .map(|pair| pair.map(|(_, value)| value))
            .collect())
    }

    pub(crate) fn increment_kept(&self, key: &str, delta: i64) -> Result<i64, StorageError> {
        Ok(atomics::increment(&bucket()?, key, delta)?)
    }

    pub(crate) fn update_kept(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<(), StorageError> {
        let mut cas = atomics::Cas::new(&bucket()?, key)?;
        loop {
            let value = change(cas.current()?);
            match atomics::swap(cas, &value) {
                Ok(()) => return Ok(()),
                Err(atomics::CasError::CasFailed(again)) => cas = again,
                Err(atomics::CasError::StoreError(error)) => return Err(error.into()),
            }
        }
    }
}

/// The bucket that all is kept in. Opening it costs the host next to nothing.
fn bucket() -> Result<keyvalue::Bucket, StorageError> {
    Ok(keyvalue::open("default")?)
}

impl From<keyvalue::Error> for StorageError {
    fn from(error: keyvalue::Error) -> Self {
        match error {
            keyvalue::Error::AccessDenied => StorageError::Denied,
            keyvalue::Error::NoSuchStore => StorageError::Failed {
                reason: "the host has no such bucket".to_owned(),
            },
            keyvalue::Error::Other(reason) => StorageError::Failed { reason },
        }
    }
}
