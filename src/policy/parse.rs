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
use crate::placed::{self, DEEPEST, span};
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
        self.line = span.map(|span| placed::line(text, span.start));
        self
    }
}

fn readable(text: &str) -> String {
    printable(&shortened(text.trim_end(), MAX_SHOWN), false).into_owned()
}

/// What the library says; of a field that there is none of, with the table that it is in, which may begin far above.
fn in_its_table(text: &str, error: &toml::de::Error) -> String {
    let said = of_table(error.message());
    let field = said.strip_prefix("unknown field `");
    let Some((field, rest)) = field.and_then(|rest| rest.split_once("`, ")) else {
        return said.into();
    };
    let at = error.span().map(|span| span.start);
    match at.map(|at| placed::tables_around(text, at)) {
        Some(tables) if !tables.is_empty() => {
            format!("unknown field `{field}` in [{}], {rest}", tables.join("."))
        }
        _ => said.into(),
    }
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
    let mut keys = Vec::new();
    let root = DeTable::parse(text).ok()?;
    if !span.is_some_and(|span| leads_to(root.get_ref(), span.start, &mut keys)) {
        keys.clear();
    }
    let (message, hint) = match given {
        Some(given) if given < least => (
            format!("the least is {least}, and it is {given}"),
            format!("write {least} or more"),
        ),
        Some(given) => {
            let most = grouped(most(&keys).into());
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
    let message = match keys.is_empty() {
        true => message,
        false => format!("{}: {message}", keys.join(".")),
    };
    Some((message, hint))
}

/// The most that the number may be that these keys lead to.
fn most(keys: &[String]) -> u32 {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    match keys.as_slice() {
        [.., "weight"] => sound::HEAVIEST,
        [.., "rates", _] | [.., "rates", _, "at_most" | "burst"] => sound::MOST,
        _ => u32::MAX,
    }
}

/// What to do about a date where a text is wanted: the library takes it for a map.
fn unquoted(message: &str, text: &str, span: Option<Range<usize>>) -> Option<String> {
    let (_, expected) = message.split_once("invalid type: map, expected ")?;
    let date = text.get(span?)?.trim();
    let is_date = !expected.starts_with("struct ") && date.parse::<toml::value::Datetime>().is_ok();
    is_date.then(|| format!("put it into quotes: `\"{date}\"`"))
}

/// What to do about a key that is there twice.
fn of_twice(text: &str, span: Option<Range<usize>>) -> &'static str {
    let begins = span.map_or(0, |span| span.start);
    let line = text
        .get(..begins)
        .and_then(|before| before.rsplit('\n').next());
    match line.is_some_and(|line| line.trim_start().starts_with('[')) {
        true => "leave one of them out, or put what stands under both under one of them",
        false => "leave one of them out, or put both into one list",
    }
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
                None => PolicyError::new(in_its_table(text, &error)),
            }
            .at(text, span);
            wrong.hint = hint
                .or_else(|| misplaced(error.message()))
                .or_else(|| meant(error.message()).map(|word| format!("did you mean `{word}`?")))
                .or_else(|| is_skill(error.message(), text).map(str::to_owned))
                .or_else(|| is_config(error.message()))
                .or_else(|| unquoted(error.message(), text, error.span()))
                .or_else(|| form(error.message()).map(str::to_owned))
                .or_else(|| twice.then(|| of_twice(text, error.span()).to_owned()));
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
            let (title, place): (_, &[&str]) = match place {
                Place::Field(name) => {
                    field = name;
                    (format!("approval.{field}"), &["approval", field])
                }
                Place::Rule(number, key) => {
                    index = number.to_string();
                    let rule = policy.approval.rules.get(number);
                    // Counted from 1, as wherever a rule is named.
                    let title = rule.map(|rule| rule.title(number + 1)).unwrap_or_default();
                    match key {
                        Some(key) => {
                            field = key;
                            (title, &["approval", "rules", &index, field])
                        }
                        None => (title, &["approval", "rules", &index]),
                    }
                }
            };
            PolicyError::new(format!("{title}: {message}")).at(text, span(text, place))
        })?;
        policy.audit.check().map_err(|(field, message)| {
            let place = ["audit", field];
            PolicyError::new(format!("audit.{field}: {message}")).at(text, span(text, &place))
        })?;
        Ok(policy)
    }
}

#[cfg(test)]
mod tests;
