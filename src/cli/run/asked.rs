//! What is asked of a skill on a command line: checked, and with everything read that it takes.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value};
use skillhost::grant::{Grants, shell_word};
use skillhost::limits::{display_bytes, exact_bytes};
use skillhost::skill::SkillRef;
use skillhost::{Attachment, ExecutionRequest, LimitOverrides, Limits, Skill};

use super::args::{Argument, LimitArg, LimitArgs, RequestArgs};
use super::{attachments, input};
use crate::cli::complaint::Complaint;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::tip;
use crate::cli::units;
use crate::cli::unread::unread;

/// What a host can be given for a stack.
const STACK_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 20;

/// The largest file of certificates, in bytes: more than any list of authorities has.
const MAX_CERTIFICATES: u64 = 16 << 20;

/// What is asked of a skill, ready to become a request once the skill is there.
#[derive(Debug)]
pub struct Asked {
    /// The limits asked for.
    pub limits: LimitOverrides,
    /// The stack that is asked for. It is the host's, not the request's.
    pub stack_bytes: Option<u64>,
    /// What the skill is granted.
    pub grants: Grants,
    tool: Option<String>,
    input: Map<String, Value>,
    arguments: Vec<Argument>,
    attachments: Vec<Attachment>,
}

impl Asked {
    /// Checks what was typed, and reads the files that it names.
    ///
    /// # Errors
    /// What does not go together, or cannot be read.
    pub fn new(tool: Option<String>, args: RequestArgs) -> anyhow::Result<Self> {
        let stdin = |path: &PathBuf| path.as_os_str() == "-";
        let readers = args.attach.iter().filter(|path| stdin(path)).count()
            + usize::from(args.input.as_deref() == Some("-"));
        if readers > 1 {
            return Err(Complaint::usage("standard input can be read only once")
                .hint("write one of them to a file, and name that")
                .into());
        }
        if let Some(tool) = tool.as_deref().filter(|tool| tip::is_argument(tool)) {
            let message = format!("no tool has the name `{tool}`");
            let argument = shell_word(tool);
            return Err(Complaint::usage(message)
                .hint(format!(
                    "an argument of a tool is given with `--arg {argument}`"
                ))
                .into());
        }
        let (limits, stack_bytes) = limits(&args.limits)?;
        for (at, argument) in args.arg.iter().enumerate() {
            if args.arg[..at].iter().any(|other| other.key == argument.key) {
                let message = format!("the field `{}` is given twice", argument.key);
                return Err(Complaint::usage(message)
                    .hint("a list is written as JSON: --arg 'KEY:=[1, 2]'")
                    .into());
            }
        }
        let input = match args.input.as_deref() {
            None => Map::new(),
            Some("-") => input::object(&read(None, "--input")?, "standard input")?,
            Some(text) => match text.strip_prefix('@') {
                Some(path) => {
                    let bytes = read(Some(Path::new(path)), "--input")?;
                    input::object(&bytes, &format!("`{path}`"))?
                }
                None => input::object(text.as_bytes(), "--input")?,
            },
        };
        let attachments = args
            .attach
            .iter()
            .map(|path| {
                let path = (!stdin(path)).then_some(path.as_path());
                Ok(attachments::incoming(path, read(path, "--attach")?))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Asked {
            limits,
            stack_bytes,
            grants: args.grants.grants_of_folders_here()?,
            tool,
            input,
            arguments: args.arg,
            attachments,
        })
    }

    /// The request, now that the skill's schemas are known, and hints for where its input should
    /// not fit them.
    pub fn request(self, skill: &Skill) -> (ExecutionRequest, Vec<String>) {
        let tools = &skill.description().tools;
        let tool = match (&self.tool, tools.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), tools) => tools.iter().find(|tool| tool.name == *name),
        };
        let schema = tool.map(|tool| &tool.input_schema);
        let mut input = self.input;
        let mut hints = input::merge(&mut input, self.arguments, schema);
        hints.extend(schema.and_then(|schema| input::unknown(&input, schema)));
        let mut request = ExecutionRequest::new(skill.digest(), Value::Object(input))
            .limits(self.limits)
            .grants(self.grants);
        if let (Some(text), None, [only]) = (&self.tool, tool, tools.as_slice()) {
            hints.extend(input::meant(text, only));
        }
        // Named in the result, too, where the input does not fit.
        request.tool = tool.map(|tool| tool.name.clone()).or(self.tool);
        request.attachments = self.attachments;
        (request, hints)
    }

    /// The request for a skill of which nothing is known here: what is text stays text.
    pub fn request_for(self, skill: SkillRef) -> ExecutionRequest {
        let mut input = self.input;
        input::merge(&mut input, self.arguments, None);
        let mut request = ExecutionRequest::new(skill, Value::Object(input))
            .limits(self.limits)
            .grants(self.grants);
        request.tool = self.tool;
        request.attachments = self.attachments;
        request
    }

    /// Says where the host's ceiling is lower than what was asked for.
    pub fn warn_of_ceiling(&self, console: Console) {
        let allowed = Limits::resolve(&Limits::ceiling(), &[&self.limits], &Limits::default());
        let asked = units::limits(&self.limits);
        let allowed = units::limits(&allowed);
        for (name, asked) in &asked {
            if let Some((_, allowed)) = allowed.iter().find(|(other, _)| other == name)
                && allowed != asked
            {
                console.warn(format_args!(
                    "{name} of {asked} is more than this host allows; the most is {allowed}"
                ));
            }
        }
    }
}

/// The limits of all flags together. Naming one twice is a mistake.
pub fn limits(args: &LimitArgs) -> anyhow::Result<(LimitOverrides, Option<u64>)> {
    // Rounded up: no time at all is not what anybody means.
    let milliseconds =
        |time: Duration| u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let mut all: Vec<(LimitArg, String)> = Vec::new();
    for limit in &args.limit {
        let flag = format!("--limit {}", limit.name);
        all.push((limit.clone(), flag));
    }
    for (name, flag, value) in [
        ("fuel", "--fuel", args.fuel),
        ("memory_bytes", "--memory", args.memory),
        ("wall_time_ms", "--timeout", args.timeout.map(milliseconds)),
        ("output_bytes", "--output-limit", args.output_limit),
    ] {
        all.extend(value.map(|value| {
            let name = name.to_owned();
            (LimitArg { name, value }, flag.to_owned())
        }));
    }
    let mut named = Map::new();
    for (at, (LimitArg { name, value }, flag)) in all.iter().enumerate() {
        if let Some((_, other)) = all[..at].iter().find(|(other, _)| other.name == *name) {
            let flags = match other == flag {
                true => format!("by `{flag}` both times"),
                false => format!("by `{other}` and by `{flag}`"),
            };
            return Err(
                Complaint::usage(format!("the limit `{name}` is given twice, {flags}"))
                    .hint("leave out one of the two")
                    .into(),
            );
        }
        named.insert(name.clone(), (*value).into());
    }
    let stack_bytes = named.remove("stack_bytes").and_then(|value| value.as_u64());
    if let Some(bytes) = stack_bytes.filter(|bytes| !STACK_BYTES.contains(bytes)) {
        let message = format!(
            "`--limit stack_bytes` is {}; a stack can have {} to {}",
            exact_bytes(bytes),
            exact_bytes(*STACK_BYTES.start()),
            exact_bytes(*STACK_BYTES.end())
        );
        let usual = exact_bytes(Limits::default().stack_bytes);
        return Err(Complaint::usage(message)
            .hint(format!("leave it out for the usual {usual}"))
            .into());
    }
    let limits = serde_json::from_value(Value::Object(named)).context("a limit is unknown")?;
    Ok((limits, stack_bytes))
}

/// Reads a file that a flag names, or standard input, up to the most that any limit allows.
///
/// # Errors
/// Where it cannot be read, or is larger.
pub fn read(path: Option<&Path>, flag: &str) -> anyhow::Result<Vec<u8>> {
    let most = Limits::ceiling().input_bytes;
    let too_large = |message: String| {
        Complaint::new(Exit::Limit, message).hint("let the skill read it from a folder: --dir")
    };
    read_at_most(path, flag, most, too_large)
}

/// Reads certificates in a file that a flag names.
///
/// # Errors
/// Where it cannot be read, or is larger than any list of certificates.
pub fn read_certificates(path: &Path, flag: &str) -> anyhow::Result<Vec<u8>> {
    read_at_most(Some(path), flag, MAX_CERTIFICATES, |message| {
        Complaint::usage(message).hint(format!(
            "`{flag}` takes a file with certificates in PEM form"
        ))
    })
}

fn read_at_most(
    path: Option<&Path>,
    flag: &str,
    most: u64,
    too_large: impl FnOnce(String) -> Complaint,
) -> anyhow::Result<Vec<u8>> {
    let name = match path {
        Some(path) => format!("`{}`", path.display()),
        None => "standard input".to_owned(),
    };
    let failed = |error: std::io::Error| unread(path, flag, &error);
    let mut bytes = Vec::new();
    match path {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(most + 1).read_to_end(&mut bytes)
        }
        None => {
            if std::io::stdin().is_terminal() {
                crate::cli::console::say("reading standard input; end it with Ctrl-D");
            }
            std::io::stdin()
                .lock()
                .take(most + 1)
                .read_to_end(&mut bytes)
        }
    }
    .map_err(failed)?;
    if bytes.len() as u64 > most {
        let message = format!("{name} is too large: {} is the most", display_bytes(most));
        return Err(too_large(message).into());
    }
    Ok(bytes)
}
