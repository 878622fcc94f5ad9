//! Where templates and their data come from.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use skills_sdk::prelude::*;

/// Larger files are refused.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The data of a template.
type Data = serde_json::Map<String, Value>;

/// A template, not yet compiled.
pub struct Template {
    /// The file's name, which decides how inserted values are escaped.
    pub name: String,
    pub text: String,
    /// The directory it stands in, where further templates may stand.
    pub directory: Option<PathBuf>,
    /// The argument to blame for what is wrong in it.
    pub pointer: &'static str,
}

impl Template {
    /// The one of the three that is given.
    pub fn open(
        text: Option<String>,
        path: Option<String>,
        attachment: Option<&Attachment>,
    ) -> Result<Self, Failure> {
        match (text, path, attachment) {
            (Some(_), Some(_), _) => Err(Failure::invalid_input(
                "/path",
                "give either `template` or `path`, not both",
            )),
            (Some(text), None, _) => Ok(Self {
                name: "template".to_owned(),
                text,
                directory: None,
                pointer: "/template",
            }),
            (None, Some(path), _) => {
                let text = read_file(&path, "/path")?;
                let path = Path::new(&path);
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                Ok(Self {
                    name,
                    text,
                    directory: path.parent().map(Path::to_owned),
                    pointer: "/path",
                })
            }
            (None, None, Some(attachment)) => {
                let text = String::from_utf8(attachment.data.clone())
                    .map_err(|error| Failure::invalid_input("", error.to_string()))?;
                Ok(Self {
                    name: attachment.name.clone(),
                    text,
                    directory: None,
                    pointer: "",
                })
            }
            (None, None, None) => Err(Failure::invalid_input(
                "",
                "no template: give `template`, `path` or an attachment",
            )),
        }
    }
}

/// The variables: those given, or those of a file, or none.
pub fn data(data: Option<Data>, path: Option<&str>) -> Result<Data, Failure> {
    match (data, path) {
        (Some(_), Some(_)) => Err(Failure::invalid_input(
            "/data_path",
            "give either `data` or `data_path`, not both",
        )),
        (Some(data), None) => Ok(data),
        (None, Some(path)) => {
            serde_json::from_str(&read_file(path, "/data_path")?).map_err(|error| {
                Failure::invalid_input("/data_path", format!("not a JSON object: {error}"))
            })
        }
        (None, None) => Ok(Data::new()),
    }
}

fn read_file(path: &str, pointer: &str) -> Result<String, Failure> {
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(path, pointer, &error))?
        .len();
    if size > MAX_BYTES {
        let message = format!("the file has {size} bytes; at most {MAX_BYTES} can be read");
        return Err(Failure::invalid_input(pointer, message));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(path, pointer, &error))
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
