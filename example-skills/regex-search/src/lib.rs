//! Searches the files of a directory with regular expressions.

mod lines;
mod tree;

use regex::bytes::{Regex, RegexBuilder};
use skills_sdk::prelude::*;

use crate::lines::{Match, is_binary, matches};

/// Larger files are not searched, where the configuration does not say.
const DEFAULT_MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// More lines of context than this cannot be asked for.
const MAX_CONTEXT: usize = 20;

/// What to search for, and where.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The regular expression, in the syntax of the Rust crate `regex`: no look-around, no
    /// back-references.
    pattern: String,
    /// The directory or file to search, in a granted directory.
    path: String,
    /// Search only files that match one of these patterns: `*.md` by the name, `src/**/*.rs` by
    /// the path below `path`.
    #[serde(default)]
    glob: Vec<String>,
    /// Take upper and lower case as the same.
    #[serde(default)]
    ignore_case: bool,
    /// Take the pattern as it is, not as a regular expression.
    #[serde(default)]
    literal: bool,
    /// How many lines to give before and after each match, at most 20.
    #[serde(default)]
    #[schemars(range(max = 20))]
    context: usize,
    /// Also search files and directories whose names begin with a dot.
    #[serde(default)]
    hidden: bool,
    /// Stop after this many matching lines.
    #[serde(default = "default_max_matches")]
    max_matches: usize,
}

/// What a search found.
#[derive(Default, Serialize, JsonSchema)]
pub struct Matches {
    /// The matching lines, in the order of the files' names.
    matches: Vec<Match>,
    /// How many files were searched.
    files_searched: u64,
    /// How many files were left out because they are binary, too large or unreadable.
    files_skipped: u64,
    /// Whether there is more than `max_matches`.
    truncated: bool,
}

fn default_max_matches() -> usize {
    100
}

/// Searches the text files of a directory tree for a regular expression.
///
/// Binary files are skipped, as are hidden ones unless asked for. Symbolic links are not followed.
#[tool(title = "Search files", read_only, idempotent, open_world = false)]
pub fn search(#[tool(input)] search: Search, ctx: &Context) -> Result<Matches, Failure> {
    let regex = search.regex()?;
    if search.context > MAX_CONTEXT {
        return Err(Failure::invalid_input(
            "/context",
            format!("at most {MAX_CONTEXT} lines"),
        ));
    }
    let max_bytes = ctx
        .config_as("max_file_bytes")?
        .unwrap_or(DEFAULT_MAX_FILE_BYTES);

    let mut result = Matches::default();
    for file in tree::files(&search.path, &search.glob, search.hidden, ctx)? {
        let bytes = match read(&file, max_bytes) {
            Ok(bytes) => bytes,
            Err(reason) => {
                ctx.debug(format_args!("skipped {}: {reason}", file.path));
                result.files_skipped += 1;
                continue;
            }
        };
        result.files_searched += 1;
        for found in matches(&regex, &file.path, &bytes, search.context) {
            if result.matches.len() == search.max_matches {
                result.truncated = true;
                return Ok(result);
            }
            result.matches.push(found);
        }
        if result.files_searched.is_multiple_of(100) {
            ctx.progress(
                None,
                format_args!("{} files searched", result.files_searched),
            );
        }
    }
    Ok(result)
}

impl Search {
    fn regex(&self) -> Result<Regex, Failure> {
        let pattern = if self.literal {
            regex::escape(&self.pattern)
        } else {
            self.pattern.clone()
        };
        RegexBuilder::new(&pattern)
            .case_insensitive(self.ignore_case)
            .build()
            .map_err(|error| Failure::invalid_input("/pattern", error.to_string()))
    }
}

fn read(file: &tree::Found, max_bytes: u64) -> Result<Vec<u8>, String> {
    if file.bytes > max_bytes {
        return Err(format!("{} bytes, more than {max_bytes}", file.bytes));
    }
    let bytes = std::fs::read(&file.path).map_err(|error| error.to_string())?;
    if is_binary(&bytes) {
        Err("binary".to_owned())
    } else {
        Ok(bytes)
    }
}

/// The files of a directory tree.
#[derive(Serialize, JsonSchema)]
pub struct Files {
    /// The files, in the order of their names.
    files: Vec<File>,
    /// How many files there are, also past `max_files`.
    count: usize,
    /// The size of all of them, in bytes.
    bytes: u64,
}

/// A file.
#[derive(Serialize, JsonSchema)]
pub struct File {
    /// Its path.
    path: String,
    /// Its size in bytes.
    bytes: u64,
}

/// Lists the files of a directory tree with their sizes.
///
/// Use it before `search` to see what there is. Symbolic links are not followed.
#[tool(title = "List files", read_only, idempotent, open_world = false)]
pub fn list_files(
    /// The directory, which must be granted or lie in one that is.
    path: String,
    /// List only files that match one of these patterns: `*.md` by the name, `src/**/*.rs` by the
    /// path below `path`.
    #[tool(default)]
    glob: Vec<String>,
    /// Also list files and look into directories whose names begin with a dot.
    #[tool(default = false)]
    hidden: bool,
    /// List at most this many files.
    #[tool(default = 1000)]
    max_files: usize,
    ctx: &Context,
) -> Result<Files, Failure> {
    let mut list = Files {
        files: Vec::new(),
        count: 0,
        bytes: 0,
    };
    for found in tree::files(&path, &glob, hidden, ctx)? {
        list.count += 1;
        list.bytes += found.bytes;
        if list.files.len() < max_files {
            list.files.push(File {
                path: found.path,
                bytes: found.bytes,
            });
        }
    }
    Ok(list)
}

skills_sdk::skill! { tools: [search, list_files] }
