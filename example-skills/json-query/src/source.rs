//! Where JSON comes from.

use std::borrow::Cow;
use std::io::{Error, ErrorKind};

use serde::de::DeserializeOwned;
use skills_sdk::prelude::*;

/// Larger texts are refused: in memory, JSON takes ten times its size, at worst sixty.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A JSON text, or a value that came with the input, and the argument that it came by.
pub enum Source<'a> {
    Value(Value),
    Text {
        bytes: Cow<'a, [u8]>,
        pointer: &'a str,
    },
}

impl<'a> Source<'a> {
    /// The one of the three that is given; `pointers` are those of the first two.
    pub fn open(
        value: Option<Value>,
        path: Option<&str>,
        attachment: Option<&'a Attachment>,
        pointers: (&'a str, &'a str),
    ) -> Result<Self, Failure> {
        let (value_pointer, path_pointer) = pointers;
        match (value, path, attachment) {
            (Some(_), Some(_), _) => {
                let message = format!(
                    "give either `{}` or `{}`, not both",
                    &value_pointer[1..],
                    &path_pointer[1..]
                );
                Err(Failure::invalid_input(path_pointer, message))
            }
            (Some(value), None, _) => Ok(Self::Value(value)),
            (None, Some(path), _) => Ok(Self::Text {
                bytes: read_file(path, path_pointer)?.into(),
                pointer: path_pointer,
            }),
            (None, None, Some(attachment)) => {
                check_size(attachment.data.len() as u64, "")?;
                Ok(Self::Text {
                    bytes: (&attachment.data).into(),
                    pointer: "",
                })
            }
            (None, None, None) => {
                let message = format!(
                    "nothing to read: give `{}` or `{}`",
                    &value_pointer[1..],
                    &path_pointer[1..]
                );
                Err(Failure::invalid_input("", message))
            }
        }
    }

    /// The one value that there is.
    pub fn single(self) -> Result<Value, Failure> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Text { bytes, pointer } => {
                serde_json::from_slice(&bytes).map_err(|error| not_json(pointer, &error))
            }
        }
    }

    /// All values that the text has one after the other, as JSON Lines has them.
    pub fn each<T: DeserializeOwned>(
        self,
        mut use_value: impl FnMut(T) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Value(value) => {
                use_value(T::deserialize(value)?)?;
            }
            Self::Text { bytes, pointer } => {
                for value in serde_json::Deserializer::from_slice(&bytes).into_iter() {
                    if !use_value(value.map_err(|error| not_json(pointer, &error))?)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn read_file(path: &str, pointer: &str) -> Result<Vec<u8>, Failure> {
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(path, pointer, &error))?
        .len();
    check_size(size, pointer)?;
    std::fs::read(path).map_err(|error| unreadable(path, pointer, &error))
}

fn unreadable(path: &str, pointer: &str, error: &Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            "no such file, or its directory is not granted (--dir)".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::invalid_input(pointer, format!("cannot read `{path}`: {reason}"))
}

fn check_size(size: u64, pointer: &str) -> Result<(), Failure> {
    if size <= MAX_BYTES {
        return Ok(());
    }
    let message = format!("the text has {size} bytes; at most {MAX_BYTES} can be read");
    Err(Failure::invalid_input(pointer, message))
}

fn not_json(pointer: &str, error: &serde_json::Error) -> Failure {
    Failure::invalid_input(pointer, format!("not JSON: {error}"))
}
