//! From the text of a policy file to a [`Policy`], and what is wrong with it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::de::DeTable;

use super::approval::Place;
use super::{Policy, sound};
use crate::grant;
use crate::limits::grouped;
use crate::text::{form, meant, of_table, printable, shortened};

/// The longest text of an error that is kept, in bytes.
const MAX_SHOWN: usize = 2_000;

/// A policy that cannot be used: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The file, where it was one.
    pub path: Option<PathBuf>,
    /// The line in it, counted from 1, where it is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// Where, and what is wrong; the hint stands apart.
impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "the policy `{}`", path.display())?,
            None => f.write_str("the policy")?,
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl PolicyError {
    pub(super) fn new(message: impl AsRef<str>) -> Self {
        PolicyError {
            path: None,
            line: None,
            message: readable(message.as_ref()),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn in_file(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    fn at(mut self, text: &str, span: Option<Range<usize>>) -> Self {
        self.line = span.map(|span| {
            let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        });
        self
    }
}

fn readable(text: &str) -> String {
    printable(&shortened(text.trim_end(), MAX_SHOWN), false).into_owned()
}

/// What to do about a field of grants that stands where there are none.
fn misplaced(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (field, _) = rest.split_once('`')?;
    let is_grant = grant::Capability::ALL
        .iter()
        .any(|one| *one != grant::Capability::Consent && one.field() == field);
    is_grant.then(|| "what is granted stands under `[skills.NAME.grants]`".to_owned())
}

/// What to do about a field that stands among grants and is none, and so may be a skill's own.
fn is_config(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (field, known) = rest.split_once('`')?;
    let among_grants = known.contains("`config`") && known.contains("`directories`");
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (among_grants && !field.is_empty() && field.bytes().all(is_bare)).then(|| {
        format!("if the skill declares it as its configuration, write `config = {{ {field} = … }}`")
    })
}

/// The fields that only a table about a skill has.
const OF_A_SKILL: [&str; 3] = ["grants", "confirmed", "defaults"];

/// What to do about a table at the top that is one about a skill, as it seems.
fn is_skill(message: &str, text: &str) -> Option<&'static str> {
    let rest = message.strip_prefix("unknown field `")?;
    let (field, known) = rest.split_once('`')?;
    let root = DeTable::parse(text).ok()?;
    let table = root.get_ref().get(field)?.get_ref().as_table()?;
    let is_one = OF_A_SKILL.iter().any(|name| table.contains_key(*name));
    (is_one && known.contains("`skills`"))
        .then_some("what is about one skill stands under `[skills.NAME]` or `[skills.NAME.grants]`")
}

/// How many tables there are at most around a number in a policy, and more.
const DEEPEST: usize = 8;

/// What is wrong with a number that is none of those that it may be, and what to do, where the library says it in
/// the words of its own language.
fn number(message: &str, text: &str, span: Option<Range<usize>>) -> Option<(String, String)> {
    let (given, expected) = message
        .strip_prefix("invalid ")?
        .rsplit_once(", expected ")?;
    let (least, is_no_table) = match expected {
        "a nonzero u32" => (1, true),
        "u32" => (0, true),
        rate if rate.starts_with("a number from 1 on, or ") => (1, false),
        _ => return None,
    };
    let given = given
        .strip_prefix("value: integer `")
        .or_else(|| given.strip_prefix("type: integer `"))
        .and_then(|given| given.strip_suffix('`')?.parse::<i64>().ok());
    let (message, hint) = match given {
        Some(given) if given < least => (
            format!("the least is {least}, and it is {given}"),
            format!("write {least} or more"),
        ),
        Some(given) => {
            let most = grouped(u32::MAX.into());
            (
                format!("the most is {most}, and it is {given}"),
                "write less".to_owned(),
            )
        }
        None if is_no_table => (
            format!("it must be a whole number from {least} on"),
            "write digits alone".to_owned(),
        ),
        None => return None,
    };
    let mut keys = Vec::new();
    let root = DeTable::parse(text).ok()?;
    let message = match span {
        Some(span) if leads_to(root.get_ref(), span.start, &mut keys) => {
            format!("{}: {message}", keys.join("."))
        }
        _ => message,
    };
    Some((message, hint))
}

/// Whether a value that stands at that place of the text is in a table; its keys are added then.
fn leads_to(table: &DeTable<'_>, at: usize, keys: &mut Vec<String>) -> bool {
    keys.len() < DEEPEST
        && table.iter().any(|(key, value)| {
            keys.push(key.get_ref().clone().into_owned());
            let found = match value.get_ref().as_table() {
                Some(table) => leads_to(table, at, keys),
                None => value.span().contains(&at),
            };
            if !found {
                keys.pop();
            }
            found
        })
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let policy: Policy = toml::from_str(text).map_err(|error| {
            let span = error.span();
            // Of a key that is there twice, the library does not say which it is.
            let key = span.clone().and_then(|span| text.get(span)).unwrap_or("");
            let twice = error.message() == "duplicate key" && !key.is_empty();
            let (said, hint) = number(error.message(), text, span.clone()).unzip();
            let mut wrong = match said {
                Some(said) => PolicyError::new(said),
                None if twice => PolicyError::new(format!("duplicate key `{key}`")),
                None => PolicyError::new(of_table(error.message())),
            }
            .at(text, span);
            wrong.hint = hint
                .or_else(|| misplaced(error.message()))
                .or_else(|| meant(error.message()).map(|word| format!("did you mean `{word}`?")))
                .or_else(|| is_skill(error.message(), text).map(str::to_owned))
                .or_else(|| is_config(error.message()))
                .or_else(|| form(error.message()).map(str::to_owned))
                .or_else(|| {
                    let all = "leave one of them out, or put both into one list";
                    twice.then(|| all.to_owned())
                });
            wrong
        })?;
        if let Err(unsound) = sound::check(&policy) {
            let place: Vec<&str> = unsound.place.iter().map(String::as_str).collect();
            let message = format!("{}: {}", place.join("."), unsound.message);
            return Err(PolicyError::new(message).at(text, span(text, &place)));
        }
        for (name, skill) in &policy.skills {
            let wrong = |place: &[&str], message: String| {
                let mut whole = vec!["skills", name.as_str()];
                whole.extend(place);
                PolicyError::new(format!("{}: {message}", whole.join(".")))
                    .at(text, span(text, &whole))
            };
            if !crate::skill::is_name(name) {
                return Err(wrong(
                    &[],
                    format!("a skill's name is {}", crate::skill::NAME_RULE),
                ));
            }
            for (index, directory) in skill.grants.directories.iter().enumerate() {
                if !directory.host.is_absolute() {
                    let path = directory.host.display();
                    let index = index.to_string();
                    return Err(wrong(
                        &["grants", "directories", &index],
                        format!("the host path `{path}` is not absolute"),
                    )
                    .hint("a policy holds wherever the command is run, so write the whole path"));
                }
            }
            // Of what the types do not say, a component without `skill.toml` is told all.
            if let Some(denial) = grant::intersection(None, &skill.grants)
                .1
                .into_iter()
                .next()
            {
                let field = denial.capability.field();
                return Err(wrong(
                    &["grants", field],
                    format!("`{}`: {}", denial.subject, denial.reason),
                )
                .hint(denial.hint));
            }
            for (index, confirmed) in skill.confirmed.iter().enumerate() {
                let twice = skill.confirmed[..index]
                    .iter()
                    .any(|other| other.digest == confirmed.digest);
                if twice {
                    let index = index.to_string();
                    let message = format!("{} is confirmed twice", confirmed.digest);
                    return Err(wrong(&["confirmed", &index], message));
                }
            }
        }
        super::approval::check(&policy.approval).map_err(|(place, message)| {
            let (field, index);
            let place: &[&str] = match place {
                Place::Field(name) => {
                    field = name;
                    &["approval", field]
                }
                Place::Rule(number) => {
                    index = number.to_string();
                    &["approval", "rules", &index]
                }
            };
            PolicyError::new(format!("{}: {message}", place.join("."))).at(text, span(text, place))
        })?;
        policy.audit.check().map_err(|(field, message)| {
            let place = ["audit", field];
            PolicyError::new(format!("audit.{field}: {message}")).at(text, span(text, &place))
        })?;
        Ok(policy)
    }
}

/// Where in a text something stands; of what is not there, where what it is in stands.
fn span(text: &str, place: &[&str]) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut table = Some(root.get_ref());
    let mut list = None;
    for part in place {
        let value = match (table, list) {
            (Some(table), _) => {
                let (key, value) = DeTable::get_key_value(table, *part)?;
                found = Some(key.span());
                value
            }
            (None, Some(list)) => {
                let list: &toml::de::DeArray<'_> = list;
                let Some(value) = part.parse::<usize>().ok().and_then(|at| list.get(at)) else {
                    break;
                };
                found = Some(value.span());
                value
            }
            (None, None) => break,
        };
        table = value.get_ref().as_table();
        list = value.get_ref().as_array();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let twice = format!(
            "[[skills.a.confirmed]]\ndigest = \"{digest}\"\n\n[[skills.a.confirmed]]\ndigest = \"{digest}\""
        );
        for (text, line, reason, hint) in [
            ("x = 1", 1, "unknown field `x`", None),
            (
                "[skills.a.grants]\nhttp = [\"https://a.example\"]\nhttp = [\"https://b.example\"]",
                3,
                "duplicate key `http`",
                Some("leave one of them out, or put both into one list"),
            ),
            (
                "[general]\nceilings = { fuel = 0 }",
                2,
                "general.ceilings.fuel: with nothing of it no skill can run",
                None,
            ),
            (
                "[tenants.t.defaults]\nwall_time_ms = \"0s\"",
                2,
                "tenants.t.defaults.wall_time_ms: with nothing of it no skill can run",
                None,
            ),
            (
                "[each_skill.ceilings]\nmemory_bytes = 0",
                2,
                "each_skill.ceilings.memory_bytes: with nothing",
                None,
            ),
            (
                "[skills.a]\ndefaults.instances = 0",
                2,
                "skills.a.defaults.instances: with nothing",
                None,
            ),
            (
                "[skills.a.defaults]\nhttp = []",
                2,
                "unknown field `http`",
                Some("what is granted stands under `[skills.NAME.grants]`"),
            ),
            (
                "\n[skill.a]",
                2,
                "unknown field `skill`",
                Some("did you mean `skills`?"),
            ),
            (
                "[skills.a.grants]\nmax_rows = 5",
                2,
                "unknown field `max_rows`",
                Some(
                    "if the skill declares it as its configuration, write `config = { max_rows = … }`",
                ),
            ),
            (
                "[secrets]\n\"a b\" = \"env:A\"",
                2,
                "secrets.a b: the name of a secret has letters, digits, `_`, `-` and `.` only",
                None,
            ),
            (
                "[general.concurrency]\nwait = 5",
                2,
                "unknown field `wait`",
                Some("did you mean `wait_ms`?"),
            ),
            (
                "[skills.a.grants]\n\ndirectorys = []",
                3,
                "unknown field `directorys`",
                Some("did you mean `directories`?"),
            ),
            (
                "[skills.a.grants]\ndirectories = 7",
                2,
                "invalid type",
                Some("write a list, also of one: [\"…\"]"),
            ),
            (
                "[skills.a.grants]\n\nstorage = \"yes\"",
                3,
                "invalid type",
                Some("write true or false, without quotes"),
            ),
            (
                "[fetch-page.grants]\nstorage = true",
                1,
                "unknown field `fetch-page`",
                Some(
                    "what is about one skill stands under `[skills.NAME]` or `[skills.NAME.grants]`",
                ),
            ),
            ("[logging]\nlevel = 1", 1, "unknown field `logging`", None),
            (
                "[approval.rules]\naction = 'ask'",
                1,
                "invalid type",
                Some("write a list, [\"…\"], or of tables, whose headers have two brackets, [[…]]"),
            ),
            (
                "[each_tenant]\nconcurrency = 4",
                2,
                "invalid type: integer `4`, expected a table",
                Some("write a table: { NAME = VALUE }"),
            ),
            (
                "[audit]\nkeep = 90",
                2,
                "invalid type: integer `90`, expected a string",
                Some("write it in quotes; a time has its unit: \"90d\", \"5s\""),
            ),
            (
                "[audit]\nmax_file_bytes = \"64MiB\"",
                2,
                "invalid type: string \"64MiB\", expected u64",
                Some("write a whole number, without quotes and without a unit"),
            ),
            (
                "[skills.a.grants]\ndirectories = [\n\"/a:/b\",\n\"/a:b:c:d\"]",
                4,
                "there is a `:` too many",
                None,
            ),
            (
                "[skills.a.grants]\ndirectories = [\n\"/a:/b\",\n\"b\"]",
                4,
                "the host path `b` is not absolute",
                Some("a policy holds wherever the command is run, so write the whole path"),
            ),
            (
                "[skills.a.grants]\nenvironment = [\"A=1\"]\ndirectories = [\"/a:/b\", \"/c:/b:rw\"]",
                3,
                "`/b`: two directories are granted under this guest path",
                Some("give each a guest path of its own: `<HOST>:<GUEST>`"),
            ),
            (
                "[skills.a.grants]\ndirectories = [\"/a:/b\", \"/a:/b:rw\"]",
                2,
                "`/b`: two directories are granted under this guest path",
                Some("it is the same folder twice: leave one of them out"),
            ),
            (
                "[skills.a.grants]\nenvironment = [\"A=1\", \"A=2\"]",
                2,
                "`A` is granted twice",
                None,
            ),
            (
                "[skills.a.grants]\nconfig.a = 1\nconfig.a = 2",
                3,
                "duplicate key",
                Some("leave one of them out, or put both into one list"),
            ),
            ("[skills.A_b]", 1, "a skill's name is", None),
            (
                "[skills.a--b]",
                1,
                "no hyphen first, last or after another",
                None,
            ),
            (
                "[[skills.a.confirmed]]\ndigest = \"sha256:12\"",
                2,
                "is not a digest",
                None,
            ),
            (twice.as_str(), 4, "is confirmed twice", None),
            ("[skills", 1, "unclosed table", None),
            (
                "[general.concurrency]\nat_once = 0",
                2,
                "general.concurrency.at_once: the least is 1, and it is 0",
                Some("write 1 or more"),
            ),
            (
                "[tenants.a]\n\nconcurrency.waiting = 5_000_000_000",
                3,
                "tenants.a.concurrency.waiting: the most is 4,294,967,295, and it is 5000000000",
                Some("write less"),
            ),
            (
                "[each_skill]\nbreaker = { minimum = \"3\" }",
                2,
                "each_skill.breaker.minimum: it must be a whole number from 1 on",
                Some("write digits alone"),
            ),
            (
                "[general.concurrency]\nat_once = 2\nweight = 2",
                3,
                "general.concurrency.weight: only a tenant has a weight",
                None,
            ),
            (
                "[tenants.a]\nconcurrency.weight = 1001",
                2,
                "tenants.a.concurrency.weight: a weight is 1 to 1,000",
                None,
            ),
            (
                "[tenants.a]\n\nconcurrency = { wait_ms = \"2days\" }",
                3,
                "this time is at most a day",
                None,
            ),
            (
                "[tenants.a.ceilings]\n\nmemory = 1",
                3,
                "unknown field `memory`",
                Some("did you mean `memory_bytes`?"),
            ),
            (
                "[tenants.a]\nover_ceiling = \"clam\"",
                2,
                "unknown variant `clam`",
                Some("did you mean `clamp`?"),
            ),
            (
                "[tenants.a.rates]\nper_minute = 0",
                2,
                "tenants.a.rates.per_minute: the least is 1, and it is 0",
                Some("write 1 or more"),
            ),
            (
                "[tenants.a.rates]\nper_hour = { at_most = 2,\nburst = 0 }",
                3,
                "tenants.a.rates.per_hour.burst: the least is 1, and it is 0",
                Some("write 1 or more"),
            ),
            (
                "[tenants.a.rates]\nper_minute = \"3\"",
                2,
                "a number from 1 on",
                None,
            ),
            (
                "[tenants.a.rates]\nper_minute = { at_most = 2, bust = 3 }",
                2,
                "unknown field `bust`",
                Some("did you mean `burst`?"),
            ),
            (
                "[skills.a.rates]\nper_hour = 1000001",
                2,
                "skills.a.rates.per_hour: a rate is 1 to 1,000,000",
                None,
            ),
            (
                "[each_skill.breaker]\nprobes = 2\nfailure_rate = 0.0",
                3,
                "a failure rate is above 0, and at most 1",
                None,
            ),
            (
                "[each_host.breaker]\nwindow_ms = 0",
                2,
                "this time is at least 1 ms",
                None,
            ),
            ("[tenants.\"\"]", 1, "a tenant's name is", None),
        ] {
            let error = text.parse::<Policy>().unwrap_err();
            assert!(error.message.contains(reason), "{text}: {error}");
            assert_eq!(error.line, Some(line), "{text}: {error}");
            assert_eq!(error.hint.as_deref(), hint, "{text}");
        }
    }

    #[test]
    fn an_empty_policy_grants_nothing() {
        assert_eq!("".parse(), Ok(Policy::default()));
        assert_eq!("[skills.a]".parse::<Policy>().unwrap().skills.len(), 1);
    }

    #[test]
    fn text_from_the_file_cannot_forge_a_line() {
        let error = "\"x\\u001b[2J\\n\" = 1".parse::<Policy>().unwrap_err();
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}
