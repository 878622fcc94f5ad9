//! Why there is no value of a secret.

use std::path::PathBuf;

use super::{MAX_SECRET_BYTES, MIN_SECRET_BYTES};

/// Why there is no value. No error repeats any part of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The name is none.
    #[error("{0}")]
    Name(String),
    /// The value is too short to be a secret.
    #[error("the value is shorter than {MIN_SECRET_BYTES} bytes")]
    TooShort,
    /// The value is too long for a header.
    #[error("the value is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong,
    /// The value cannot stand in a header.
    #[error("the value has something else than visible ASCII in it, or a space at an end")]
    Characters,
    /// Nobody keeps a secret of this name.
    #[error("no secret of this name is kept")]
    NotKept,
    /// The variable that it comes from is not set.
    #[error("the environment variable `{0}` of the host, which it comes from, is not set")]
    NotSet(String),
    /// The file is open to others.
    #[error("the file `{}` {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Who else may read or write it.
        reason: String,
    },
    /// The file cannot be used.
    #[error("{what} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of kept secrets is damaged.
    #[error("the file `{}` is none of kept secrets", .0.display())]
    Damaged(PathBuf),
    /// A line of that file, which somebody wrote by hand, has no name that a secret may have.
    #[error("line {number} of the file `{}`: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        number: usize,
        /// What is wrong with the name.
        reason: String,
    },
}

impl SecretError {
    /// What to do about it.
    pub fn hint(&self, name: &str) -> String {
        let name = crate::grant::shell_word(name);
        match self {
            SecretError::NotKept => format!(
                "keep its value with `skillhost secrets set {name}`, or say where it comes from \
                 with `--secret-from {name}=env:VARIABLE`"
            ),
            SecretError::NotSet(variable) => format!("set `{variable}` where the host runs"),
            SecretError::Open { path, .. } => {
                let path = path.to_string_lossy();
                format!(
                    "close it to others: `chmod 600 {}`",
                    crate::grant::shell_word(&path)
                )
            }
            SecretError::TooShort | SecretError::TooLong | SecretError::Characters => {
                "a secret is 8 bytes to 8 KiB of visible ASCII; take one that is, or make one with \
                 `openssl rand -hex 32`"
                    .into()
            }
            SecretError::Name(_) => "choose another name, such as `api-key`".into(),
            SecretError::Line { .. } => {
                "write it as NAME=VALUE, without a blank around the `=`, which would be part of one of them".into()
            }
            SecretError::Damaged(_) => {
                "put it right, a line NAME=VALUE for each, or remove it and keep them anew".into()
            }
            SecretError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "is the path right? The file has to be there when the host reads it".into()
            }
            SecretError::Io { .. } => "see whether this user may read and write it".into(),
        }
    }
}
