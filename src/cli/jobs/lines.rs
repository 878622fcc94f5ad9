//! Jobs from a file of JSON lines: one object a job, its keys being the long names of the options.
//!
//! A line is read as if its options had been typed, so that there is one set of rules.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser};
use serde_json::{Map, Value};
use skillhost::text::{closest, printable};

use super::asked::JobArgs;
use crate::cli::complaint::Complaint;
use crate::cli::console::say;
use crate::cli::run::RequestArgs;
use crate::cli::unread::unread;

/// The longest line, in bytes: more than the largest job.
const MAX_LINE: u64 = 64 << 20;

/// One line.
#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Line {
    /// The skill.
    #[arg(value_name = "SKILL")]
    pub skill: PathBuf,
    /// The tool.
    #[arg(value_name = "TOOL")]
    pub tool: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    #[command(flatten)]
    pub job: JobArgs,
}

/// A line with its number, or what is wrong with it.
pub type Numbered = (usize, Result<Line, Complaint>);

/// Reads all lines of a file, or of standard input.
///
/// # Errors
/// Where they cannot be read, or one is too long.
pub fn read(path: &Path) -> anyhow::Result<Vec<Numbered>> {
    let stdin = path.as_os_str() == "-";
    let failed = |error: std::io::Error| unread((!stdin).then_some(path), "--from", &error);
    let mut reader: Box<dyn BufRead> = match stdin {
        true => {
            if std::io::stdin().is_terminal() {
                say("reading standard input; end it with Ctrl-D");
            }
            Box::new(std::io::stdin().lock())
        }
        false => Box::new(BufReader::new(File::open(path).map_err(failed)?)),
    };
    let mut parser = LineParser::new();
    let mut lines = Vec::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = reader
            .by_ref()
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(failed)?;
        if read == 0 {
            break;
        }
        if bytes.len() as u64 > MAX_LINE {
            return Err(at(number, Complaint::usage("longer than 64 MiB")).into());
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        // Without its end, behind which a column would count from 0.
        lines.push((number, parser.parse(bytes.trim_ascii_end())));
    }
    Ok(lines)
}

/// What is wrong with several lines.
#[derive(Default)]
pub struct Wrong(Vec<Complaint>);

/// The most lines of which is said what is wrong with them.
const MAX_WRONG: usize = 20;

impl Wrong {
    /// Remembers what is wrong with a line; with number 0 it is no line.
    ///
    /// # Errors
    /// What is wrong altogether: there are no other lines, or it is enough of them.
    pub fn add(&mut self, number: usize, complaint: Complaint) -> Result<(), Complaint> {
        if number == 0 {
            return Err(complaint);
        }
        self.0.push(at(number, complaint));
        match self.0.len() < MAX_WRONG {
            true => Ok(()),
            false => self.or_none(),
        }
    }

    /// # Errors
    /// What is wrong, where something is: the first, and the others below it.
    pub fn or_none(&mut self) -> Result<(), Complaint> {
        let mut wrong = std::mem::take(&mut self.0).into_iter();
        let Some(first) = wrong.next() else {
            return Ok(());
        };
        Err(wrong.fold(first, |first, next| first.detail(next.message)))
    }
}

/// What is wrong with a line.
pub fn at(number: usize, complaint: Complaint) -> Complaint {
    Complaint {
        message: format!("line {number}: {}", complaint.message),
        ..complaint
    }
}

/// What is wrong with the JSON of a line, and where in it.
pub fn not_json(what: &str, error: &serde_json::Error) -> Complaint {
    let text = error.to_string();
    // It counts from the start of what it was given, which is one line.
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    Complaint::usage(format!("{what}, at column {}: {text}", error.column()))
}

struct LineParser {
    command: Command,
}

impl LineParser {
    fn new() -> Self {
        let mut command = Line::command();
        command.build();
        LineParser { command }
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Line, Complaint> {
        let fields: Map<String, Value> = match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => {
                return Err(Complaint::usage("not a JSON object")
                    .hint("a line is such as {\"skill\": \"text-stats\", \"input\": {}}"));
            }
            Err(error) => return Err(not_json("not JSON", &error)),
        };
        let mut options = Vec::new();
        let (mut skill, mut tool) = (None, None);
        for (key, value) in fields {
            match key.as_str() {
                "skill" => skill = Some(text(&key, value)?),
                "tool" if value.is_null() => {}
                "tool" => tool = Some(text(&key, value)?),
                _ => self.option(&key, value, &mut options)?,
            }
        }
        let Some(skill) = skill else {
            return Err(Complaint::usage("the key `skill` is missing"));
        };
        options.push("--".to_owned());
        options.push(skill);
        options.extend(tool);
        let matches = self
            .command
            .try_get_matches_from_mut(options)
            .and_then(|matches| Line::from_arg_matches(&matches));
        matches.map_err(|error| {
            let message = error.to_string();
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            let message = message.split("\n\n").next().unwrap_or(message);
            Complaint::usage(message.trim_end())
        })
    }

    /// One key as it would be typed.
    fn option(&self, key: &str, value: Value, options: &mut Vec<String>) -> Result<(), Complaint> {
        let long = key.replace('_', "-");
        let known = |arg: &&Arg| arg.get_long() == Some(long.as_str());
        let Some(arg) = self.command.get_arguments().find(known) else {
            return Err(self.unknown(key));
        };
        let mut add = |value: String| options.push(format!("--{long}={value}"));
        let wrong = |wanted: &str| {
            let key = printable(key, false);
            Err(Complaint::usage(format!("`{key}` is no {wanted}")))
        };
        match (arg.get_action(), value) {
            (_, Value::Null) => {}
            (ArgAction::SetTrue, Value::Bool(true)) => options.push(format!("--{long}")),
            (ArgAction::SetTrue, Value::Bool(false)) => {}
            (ArgAction::SetTrue, _) => return wrong("boolean"),
            (_, value @ Value::Object(_)) if long == "input" => add(value.to_string()),
            _ if long == "input" => return wrong("JSON object"),
            (ArgAction::Append, Value::Array(items)) => {
                for item in items {
                    add(scalar(key, item)?);
                }
            }
            (ArgAction::Append, Value::Object(fields)) if has_pairs(&long) => {
                for (name, value) in fields {
                    add(match long.as_str() {
                        "arg" => format!("{name}:={value}"),
                        _ => format!("{name}={}", scalar(key, value)?),
                    });
                }
            }
            (_, value) => add(scalar(key, value)?),
        }
        Ok(())
    }

    fn unknown(&self, key: &str) -> Complaint {
        let longs = self.command.get_arguments().filter_map(Arg::get_long);
        let known: Vec<&str> = ["skill", "tool"].into_iter().chain(longs).collect();
        let complaint = Complaint::usage(format!("there is no key `{}`", printable(key, false)));
        match closest(key, known.iter().copied()) {
            Some(close) => complaint.hint(format!("did you mean `{close}`?")),
            None => complaint.hint(format!("the keys are: {}", known.join(", "))),
        }
    }
}

/// Options whose values are `KEY=VALUE`, and may be an object here.
fn has_pairs(long: &str) -> bool {
    matches!(long, "arg" | "limit" | "env" | "config" | "label")
}

fn text(key: &str, value: Value) -> Result<String, Complaint> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Complaint::usage(format!("`{key}` is no text"))),
    }
}

fn scalar(key: &str, value: Value) -> Result<String, Complaint> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => {
            let key = printable(key, false);
            Err(Complaint::usage(format!(
                "`{key}` is neither a text nor a number"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Line, Complaint> {
        LineParser::new().parse(line.as_bytes())
    }

    #[test]
    fn a_line_is_read_as_if_it_were_typed() {
        let line = parse(
            r#"{"skill": "a", "tool": "-t", "input": {"x": 1}, "memory": "64MiB", "fuel": 5,
                "arg": {"y": [1]}, "tag": ["b", "c"], "paused": true, "priority": "high",
                "output_limit": 10, "env": {"A": "=b"}, "label": {"n": 1}, "scratch": false}"#,
        )
        .unwrap();
        assert_eq!(line.skill, Path::new("a"));
        assert_eq!(line.tool.as_deref(), Some("-t"));
        assert_eq!(line.request.input.as_deref(), Some(r#"{"x":1}"#));
        assert_eq!(line.request.limits.memory, Some(64 << 20));
        assert_eq!(line.request.limits.fuel, Some(5));
        assert_eq!(line.request.limits.output_limit, Some(10));
        assert_eq!(line.request.arg.len(), 1);
        assert_eq!(line.request.grants.env, [("A".into(), "=b".into())]);
        assert!(!line.request.grants.scratch);
        assert_eq!(line.job.tag, ["b", "c"]);
        assert_eq!(line.job.label, [("n".into(), "1".into())]);
        assert!(line.job.paused);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, message) in [
            ("[]", "not a JSON object"),
            ("{", "not JSON, at column 1: EOF while parsing an object"),
            (r#"{"skill" "a"}"#, "not JSON, at column 10: expected `:`"),
            ("{}", "`skill` is missing"),
            (r#"{"skill": 1}"#, "`skill` is no text"),
            (
                r#"{"skill": "a", "prioritty": "high"}"#,
                "no key `prioritty`",
            ),
            (r#"{"skill": "a", "wait": true}"#, "no key `wait`"),
            (
                r#"{"skill": "a", "input": "@x"}"#,
                "`input` is no JSON object",
            ),
            (r#"{"skill": "a", "paused": 1}"#, "`paused` is no boolean"),
            (r#"{"skill": "a", "fuel": [1]}"#, "`fuel` is neither"),
            (r#"{"skill": "a", "fuel": "x"}"#, "not a count"),
            (r#"{"skill": "a", "priority": "urgent"}"#, "no priority"),
        ] {
            let complaint = parse(line).unwrap_err();
            assert!(complaint.message.contains(message), "{}", complaint.message);
        }
        let complaint = parse(r#"{"skill": "a", "prioritty": "high"}"#).unwrap_err();
        assert_eq!(complaint.hints, ["did you mean `priority`?"]);
    }
}
