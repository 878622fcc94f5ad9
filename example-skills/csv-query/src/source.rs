//! Where a table comes from.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read};

use skills_sdk::prelude::*;

/// An opened table.
pub struct Source<'a> {
    reader: Box<dyn Read + 'a>,
    size: u64,
    /// The argument to blame for what is wrong in it.
    pointer: &'static str,
}

impl<'a> Source<'a> {
    /// Opens the one of the three that is given.
    pub fn open(
        path: Option<&str>,
        text: Option<&'a str>,
        attachment: Option<&'a Attachment>,
    ) -> Result<Self, Failure> {
        match (path, text, attachment) {
            (Some(_), Some(_), _) => Err(Failure::invalid_input(
                "/text",
                "give either `path` or `text`, not both",
            )),
            (Some(path), None, _) => Self::open_file(path),
            (None, Some(text), _) => Ok(Self::from_bytes(text.as_bytes(), "/text")),
            (None, None, Some(attachment)) => Ok(Self::from_bytes(&attachment.data, "")),
            (None, None, None) => Err(Failure::invalid_input(
                "",
                "no table: give `path`, `text` or an attachment",
            )),
        }
    }

    fn open_file(path: &str) -> Result<Self, Failure> {
        let open = || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(ErrorKind::IsADirectory.into());
            }
            Ok((file, metadata.len()))
        };
        let (file, size) = open().map_err(|error| unreadable(path, &error))?;
        Ok(Self {
            reader: Box::new(BufReader::new(file)),
            size,
            pointer: "/path",
        })
    }

    fn from_bytes(bytes: &'a [u8], pointer: &'static str) -> Self {
        Self {
            reader: Box::new(bytes),
            size: bytes.len() as u64,
            pointer,
        }
    }

    /// Reads the header and gives the rest to `row`, one row at a time.
    pub fn read<State>(
        self,
        delimiter: char,
        ctx: &Context,
        start: impl FnOnce(&csv::StringRecord) -> Result<State, Failure>,
        mut row: impl FnMut(&mut State, &csv::StringRecord) -> Result<(), Failure>,
    ) -> Result<State, Failure> {
        let delimiter = u8::try_from(delimiter)
            .ok()
            .filter(u8::is_ascii)
            .ok_or_else(|| {
                Failure::invalid_input("/delimiter", "the delimiter must be an ASCII character")
            })?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .from_reader(self.reader);
        let malformed = |error: csv::Error| Failure::invalid_input(self.pointer, error.to_string());

        let mut state = start(reader.headers().map_err(malformed)?)?;
        let mut record = csv::StringRecord::new();
        let (mut read, mut reported) = (0_u64, 0);
        while reader.read_record(&mut record).map_err(malformed)? {
            row(&mut state, &record)?;
            read += 1;
            let percent = (reader.position().byte() * 100 / self.size.max(1)).min(100) as u8;
            if read.is_multiple_of(1000) && percent > reported {
                reported = percent;
                ctx.progress(f64::from(percent), format_args!("{read} rows read"));
            }
        }
        Ok(state)
    }
}

fn unreadable(path: &str, error: &Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            "no such file, or its directory is not granted (--dir)".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::invalid_input("/path", format!("cannot read `{path}`: {reason}"))
}

/// Finds a column by its name; `pointer` is the argument that names it.
pub fn column_index(
    header: &csv::StringRecord,
    name: &str,
    pointer: &str,
) -> Result<usize, Failure> {
    header
        .iter()
        .position(|column| column.trim() == name)
        .ok_or_else(|| {
            let known: Vec<&str> = header.iter().map(str::trim).collect();
            Failure::invalid_input(
                pointer,
                format!("no column `{name}`; the columns are: {}", known.join(", ")),
            )
        })
}
