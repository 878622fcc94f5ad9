//! What can be typed after `skillhost run`. Nothing here has an effect.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Map, Value};
use skillhost::limits::parse_count;
use skillhost::text::{closest, named};
use skillhost::{Limit, Limits, Roots, parse_bytes, parse_duration};

use crate::cli::database::DatabaseArgs;
use crate::cli::exit::CODES;
use crate::cli::grants::GrantArgs;
use crate::cli::locate::SKILL_HELP;
use crate::cli::secrets::SourceArgs;

const EXAMPLES: &str = "\
Examples:
  Run the only tool of a skill:
    skillhost run text-stats --arg text='to be or not to be'
  Give the whole input, as JSON, from a file, or from standard input:
    skillhost run text-stats count --input '{\"text\": \"to be\", \"top\": 3}'
    skillhost run text-stats count --input @input.json
  Build a skill from its source and run it on a file:
    skillhost run ./image-tools thumbnail --attach photo.jpg --arg width=64 \\
        --out thumbnails
  Let it read a folder, and write to another one:
    skillhost run ./my-skill --dir notes --dir /tmp/result:/out:rw
  Let it fetch from one site:
    skillhost run ./fetch-page --http 'GET https://example.com' \\
        --arg url=https://example.com/
  Set limits; the names for --limit are those in the output of --json:
    skillhost run ./my-skill --timeout 500ms --fuel 5M --limit handles=20
  See whether it would be admitted, and under which limits:
    skillhost run ./my-skill --dir notes --dry-run";

/// Whose certificates are trusted.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RootsArg {
    /// Mozilla's list, which is part of this program
    Bundled,
    /// Those that this machine trusts
    Platform,
    /// Nobody's but those of `--certificate`
    None,
}

impl From<RootsArg> for Roots {
    fn from(roots: RootsArg) -> Self {
        match roots {
            RootsArg::Bundled => Roots::Bundled,
            RootsArg::Platform => Roots::Platform,
            RootsArg::None => Roots::None,
        }
    }
}

/// Run a tool of a skill, in a fresh sandbox
///
/// The tool's output goes to standard output: JSON on one line, on a terminal over several. What the
/// skill logs, how far it has come, what went wrong and what it cost go to standard error. Nothing is
/// granted that is named neither here nor in the policy: no files, no environment, no network.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub struct RunArgs {
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    pub skill: PathBuf,
    /// The tool; may be left out where the skill has one only
    #[arg(value_name = "TOOL", value_parser = NonEmptyStringValueParser::new())]
    pub tool: Option<String>,

    /// What is asked of the skill.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Whose certificates are trusted.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Where secrets come from.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// On whose behalf it runs: whose ceilings and rates the policy has hold for it
    #[arg(long, value_name = "NAME", help_heading = "Limits", value_parser = NonEmptyStringValueParser::new())]
    pub tenant: Option<String>,
    /// Leave the policy out: grant nothing but what is named here, and bound and ask nothing
    ///
    /// Its ceilings, turns, rates, circuits and approvals do not hold then, nor does what it says of the
    /// audit, which is kept in the usual folder.
    #[arg(long, help_heading = "Grants")]
    pub no_policy: bool,

    /// Write the attachments of the answer to this folder; no file that is there is overwritten
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Run nothing; say whether it would be admitted, with which limits and grants
    #[arg(long, help_heading = "Output")]
    pub dry_run: bool,
    /// Print the whole result as JSON, also of a failure
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Where approvals are kept.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// What is asked of a skill: input, limits and grants.
#[derive(Debug, Default, Args)]
pub struct RequestArgs {
    /// The input, a JSON object; from a file with @FILE, from standard input with -
    #[arg(long, short, value_name = "JSON|@FILE|-", help_heading = "Input")]
    pub input: Option<String>,
    /// Set a field of the input, also over one in --input
    ///
    /// What is text by the tool's schema is taken as it is; numbers, booleans, lists and objects
    /// are read as JSON. A field that takes anything is a text, but for a list or an object. With
    /// KEY:=JSON the value is JSON in any case.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = argument, help_heading = "Input")]
    pub arg: Vec<Argument>,
    /// Attach a file to the input; standard input with -
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help_heading = "Input"
    )]
    pub attach: Vec<PathBuf>,

    /// The limits that it runs under.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What the skill may touch.
    #[command(flatten)]
    pub grants: GrantArgs,
}

/// Limits on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitArgs {
    /// Fuel: about one unit for each instruction, such as 5000000 or 5M
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = fuel,
        help_heading = "Limits"
    )]
    pub fuel: Option<u64>,
    /// Memory, such as 64MiB
    #[arg(
        long,
        value_name = "SIZE",
        allow_hyphen_values = true,
        value_parser = size,
        help_heading = "Limits"
    )]
    pub memory: Option<u64>,
    /// Wall time, such as 2s or 500ms
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = time,
        help_heading = "Limits"
    )]
    pub timeout: Option<Duration>,
    /// Size of the output, such as 1MiB
    #[arg(
        long,
        value_name = "SIZE",
        allow_hyphen_values = true,
        value_parser = size,
        help_heading = "Limits"
    )]
    pub output_limit: Option<u64>,
    /// Set any limit by its name
    ///
    /// What is not set here is as the skill's skill.toml says, else as the host does: 10 G units of
    /// fuel, 64 MiB of memory, 10 s of wall time, 1 MiB of output. `run --dry-run` shows all that apply.
    ///
    /// The names are those of `limits` in the output of --json, such as `table_elements`,
    /// `attachment_bytes` or `handles`. Sizes and times may have a unit.
    #[arg(long, value_name = "NAME=VALUE", value_parser = limit, help_heading = "Limits")]
    pub limit: Vec<LimitArg>,
}

/// Whose certificates are trusted.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Trust the certificate authorities of a file in PEM form, beside those of `--roots`
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help_heading = "Grants"
    )]
    pub certificate: Vec<PathBuf>,
    /// Whose certificates are trusted for https
    #[arg(
        long,
        value_name = "WHOSE",
        default_value = "bundled",
        help_heading = "Grants"
    )]
    pub roots: RootsArg,
}

/// `KEY=VALUE` or `KEY:=JSON`.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// The field.
    pub key: String,
    /// What was written.
    pub value: ArgumentValue,
}

/// The value of an [`Argument`].
#[derive(Debug, Clone, PartialEq)]
pub enum ArgumentValue {
    /// To be read as the tool's schema says.
    Text(String),
    /// JSON, whatever the schema says.
    Json(Value),
}

fn argument(text: &str) -> Result<Argument, String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err("there is no `=`; write KEY=VALUE, or KEY:=JSON".into());
    };
    let (key, value) = match key.strip_suffix(':') {
        Some(key) => {
            let value = serde_json::from_str(value)
                .map_err(|error| format!("`{}` is not JSON: {error}", named(value, 100)))?;
            (key, ArgumentValue::Json(value))
        }
        None => (key, ArgumentValue::Text(value.to_owned())),
    };
    if key.is_empty() {
        return Err("the key is empty; write KEY=VALUE".into());
    }
    Ok(Argument {
        key: key.to_owned(),
        value,
    })
}

/// One limit by its name in JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitArg {
    /// The name.
    pub name: String,
    /// The value in its base unit.
    pub value: u64,
}

fn nothing(example: &str) -> String {
    format!("with nothing of it no skill can run; write such as {example}")
}

fn fuel(text: &str) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err(nothing("5M")),
        fuel => Ok(fuel),
    }
}

fn size(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err(nothing("1MiB")),
        size => Ok(size),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    // A number alone has no unit; of none at all that does not matter.
    let is_nothing = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit == b'0');
    match parse_duration(text) {
        Ok(time) if time >= Duration::from_millis(1) => Ok(time),
        Ok(time) if !time.is_zero() => Err(format!(
            "`{text}` is less than a millisecond, the least that can be given; write such as 500ms"
        )),
        Err(error) if !is_nothing(text) => Err(error),
        _ => Err(nothing("500ms or 2s")),
    }
}

fn limit(text: &str) -> Result<LimitArg, String> {
    let names = limit_names();
    let list = || names.keys().cloned().collect::<Vec<_>>().join(", ");
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!(
            "there is no `=`; write NAME=VALUE; the names are: {}",
            list()
        ));
    };
    if !names.contains_key(name) {
        let close = closest(name, names.keys().map(String::as_str));
        return Err(match close {
            Some(close) => format!("there is no limit `{name}`; did you mean `{close}`?"),
            None => format!("there is no limit `{name}`; the names are: {}", list()),
        });
    }
    let value = if name.ends_with("_bytes") {
        parse_bytes(value)?
    } else if name.ends_with("_ms") && !value.bytes().all(|byte| byte.is_ascii_digit()) {
        u64::try_from(parse_duration(value)?.as_millis())
            .map_err(|_| format!("`{value}` is too long"))?
    } else {
        parse_count(value)?
    };
    if value == 0 && Limit::NEEDED.iter().any(|limit| limit.as_str() == name) {
        let example = match name {
            "fuel" => "5M",
            "wall_time_ms" => "2s",
            "instances" => "100",
            _ => "1MiB",
        };
        return Err(nothing(&format!("{name}={example}")));
    }
    Ok(LimitArg {
        name: name.to_owned(),
        value,
    })
}

/// The limits by their names in JSON.
fn limit_names() -> Map<String, Value> {
    match serde_json::to_value(Limits::default()) {
        Ok(Value::Object(limits)) => limits,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_are_text_or_json() {
        let text = |key: &str, value: &str| Argument {
            key: key.into(),
            value: ArgumentValue::Text(value.into()),
        };
        assert_eq!(argument("a=1"), Ok(text("a", "1")));
        assert_eq!(argument("a=b=c"), Ok(text("a", "b=c")));
        assert_eq!(argument("a="), Ok(text("a", "")));
        let json = Argument {
            key: "a".into(),
            value: ArgumentValue::Json(json!([1])),
        };
        assert_eq!(argument("a:=[1]"), Ok(json));
        assert!(argument("a:=[").unwrap_err().contains("not JSON"));
        assert!(argument("a").unwrap_err().contains("no `=`"));
        assert!(argument("=a").unwrap_err().contains("empty"));
    }

    #[test]
    fn every_limit_can_be_named() {
        let value = |text: &str| limit(text).map(|limit| limit.value);
        assert_eq!(value("memory_bytes=2MiB"), Ok(2 << 20));
        assert_eq!(value("wall_time_ms=2s"), Ok(2000));
        assert_eq!(value("wall_time_ms=150"), Ok(150));
        assert_eq!(value("fuel=5M"), Ok(5_000_000));
        assert_eq!(value("handles=1_000"), Ok(1000));
        assert_eq!(value("stack_bytes=64KiB"), Ok(64 << 10));
        assert!(value("handels=1").unwrap_err().contains("`handles`?"));
        assert!(value("zzz=1").unwrap_err().contains("table_elements"));
        assert!(value("handles").unwrap_err().contains("no `=`"));
        assert!(value("handles=-1").unwrap_err().contains("not a count"));
    }

    #[test]
    fn no_skill_runs_with_nothing() {
        let refused = |said: Result<u64, String>, example: &str| {
            let said = said.unwrap_err();
            assert!(said.starts_with("with nothing of it"), "{said}");
            assert!(said.ends_with(example), "{said}");
        };
        let value = |text: &str| limit(text).map(|limit| limit.value);
        refused(fuel("0"), "5M");
        refused(size("0MiB"), "1MiB");
        for text in ["0", "00", "0s", "0ms"] {
            let whole = time(text).map(|time| time.as_secs());
            refused(whole, "500ms or 2s");
        }
        assert!(time("").unwrap_err().len() > 1);
        assert!(!time("2").unwrap_err().contains("nothing"));
        assert_eq!(time("1ms"), Ok(Duration::from_millis(1)));
        for text in ["1ns", "999us"] {
            assert!(time(text).unwrap_err().contains("less than a millisecond"));
        }
        for name in Limit::NEEDED {
            refused(value(&format!("{name}=0")), "");
        }
        refused(value("wall_time_ms=0s"), "wall_time_ms=2s");
        // To ask for none of these is to forbid them.
        for name in [
            "connections",
            "created_files",
            "stdout_bytes",
            "storage_keys",
        ] {
            assert_eq!(value(&format!("{name}=0")), Ok(0));
        }
    }

    #[test]
    fn the_help_names_the_defaults() {
        let Limits {
            fuel,
            memory_bytes,
            wall_time,
            output_bytes,
            ..
        } = Limits::default();
        assert_eq!((fuel, memory_bytes), (10_000_000_000, 64 << 20));
        assert_eq!((wall_time.as_secs(), output_bytes), (10, 1 << 20));
    }
}
