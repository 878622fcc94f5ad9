//! Reading entries back.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::folder::{AuditError, Folder, Open, failed, parse_head, parse_segment, tail_name};
use super::line::next_line;
use super::tail::Ended;
use crate::skill::{FEWEST_DIGITS, SkillRef};

/// Which entries are wanted. All that are named must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Not before then.
    pub since: Option<DateTime<Utc>>,
    /// Before then.
    pub until: Option<DateTime<Utc>>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this skill, by name, `name@version` or digest, of which the first 8 digits will do. What was taken back from
    /// it is found by its name alone.
    pub skill: Option<String>,
    /// Of one of these kinds; any where empty.
    pub kinds: Vec<Kind>,
    /// That ended so, as a [`Status`](crate::Status) is written.
    pub outcome: Option<String>,
    /// Of this request.
    pub request: Option<uuid::Uuid>,
    /// At most so many, the last ones; 100 unless set.
    pub limit: Option<usize>,
}

/// A kind of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A request that ended, or was not admitted.
    Execution,
    /// Somebody was asked.
    ApprovalAsked,
    /// Somebody answered.
    ApprovalDecided,
    /// A grant was given or taken back for good.
    Grant,
    /// Another policy holds.
    Policy,
    /// A secret was used.
    Secret,
    /// A breaker changed.
    Breaker,
    /// A process began to write.
    Opened,
    /// Entries could be written again.
    Resumed,
}

impl Kind {
    /// Every one.
    pub const ALL: [Kind; 9] = [
        Kind::Execution,
        Kind::ApprovalAsked,
        Kind::ApprovalDecided,
        Kind::Grant,
        Kind::Policy,
        Kind::Secret,
        Kind::Breaker,
        Kind::Opened,
        Kind::Resumed,
    ];

    /// The name, as in the line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Execution => "execution",
            Kind::ApprovalAsked => "approval_asked",
            Kind::ApprovalDecided => "approval_decided",
            Kind::Grant => "grant",
            Kind::Policy => "policy",
            Kind::Secret => "secret",
            Kind::Breaker => "breaker",
            Kind::Opened => "opened",
            Kind::Resumed => "resumed",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                let all = Kind::ALL.map(Kind::as_str).join(", ");
                format!("there is no kind `{text}`; there are {all}")
            })
    }
}

/// An entry as it stands in the audit. Texts in it may be anybody's: escape them before you show
/// them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// The file.
    pub file: String,
    /// The line in it, counted from 1.
    pub line: u64,
    /// The entry.
    pub entry: Value,
}

/// Reads the last entries that are wanted, in the order of their times. What is no line of an audit
/// is passed over: [`verify`](super::verify()) tells.
///
/// # Errors
/// Where the folder cannot be read, or is not this user's alone.
pub fn read(folder: impl AsRef<Path>, filter: &Filter) -> Result<Vec<Record>, AuditError> {
    let folder = Folder::at(folder.as_ref())?;
    let most = filter.limit.unwrap_or(100).max(1);
    // By time; of several at the same time, by where they stand.
    let mut kept: BTreeMap<(String, String, u64), Record> = BTreeMap::new();
    let mut look = |name: &str, reader: &mut dyn BufRead, path: &Path| {
        let (mut bytes, mut number) = (Vec::new(), 0);
        loop {
            bytes.clear();
            let read = next_line(reader, &mut bytes).map_err(failed("read", path))?;
            if read == 0 {
                return Ok::<(), AuditError>(());
            }
            number += 1;
            let Ok(entry) = serde_json::from_slice::<Value>(&bytes) else {
                continue;
            };
            let Some(at) = entry["at"].as_str() else {
                continue;
            };
            if !filter.fits(at, &entry) {
                continue;
            }
            let record = Record {
                file: name.to_owned(),
                line: number,
                entry: entry.clone(),
            };
            kept.insert((at.to_owned(), name.to_owned(), number), record);
            if kept.len() > most {
                kept.pop_first();
            }
        }
    };
    let names = folder.names()?;
    let mut ends: BTreeMap<u32, Ended> = BTreeMap::new();
    // First the ends, so that what is put into a file meanwhile is not read twice.
    for chain in names.iter().filter_map(|name| parse_head(name)) {
        let Ok(head) = folder.open(&folder.head(chain), Open::Read) else {
            continue;
        };
        if let Ok(Some(ended)) = Ended::read(&folder, chain, &head)
            && ended.head.tail > 0
        {
            let (name, path) = (tail_name(chain), folder.tail(chain));
            look(&name, &mut ended.lines(), &path)?;
            ends.insert(chain, ended);
        }
    }
    for name in names {
        let Some((chain, segment)) = parse_segment(&name) else {
            continue;
        };
        let most = match ends.get(&chain) {
            Some(ended) if segment > ended.head.segment => continue,
            Some(ended) if segment == ended.head.segment => ended.head.bytes,
            _ => u64::MAX,
        };
        let path = folder.path().join(&name);
        let Ok(file) = folder.open(&path, Open::Read) else {
            continue;
        };
        look(&name, &mut BufReader::new(file).take(most), &path)?;
    }
    Ok(kept.into_values().collect())
}

/// Whether an entry is of a skill, by its name, `name@version` or digest, or the first digits of that.
fn is_of(entry: &Value, wanted: &str) -> bool {
    let skill = &entry["skill"];
    // A change of a grant or of a breaker names it in its own way, and so does what asked for one that is not known.
    let text = |of: &'_ Value| of.as_str().map(str::to_owned);
    let named = [
        asked(&entry["asked"]),
        (text(&skill["name"]), text(&skill["version"])),
        (text(&entry["skill_name"]), text(&entry["skill_version"])),
    ];
    let of = entry["of"].as_str();
    let is_named = named.into_iter().any(|(name, version)| {
        let whole = name.as_ref().zip(version);
        let whole = whole.map(|(name, version)| format!("{name}@{version}"));
        name.as_deref() == Some(wanted) || whole.as_deref() == Some(wanted)
    });
    is_named
        || of.and_then(|of| of.strip_prefix("skill ")) == Some(wanted)
        || digits(wanted).is_some_and(|digits| {
            [&skill["digest"], &entry["digest"], &entry["asked"]]
                .into_iter()
                .filter_map(|digest| digest.as_str()?.strip_prefix(PREFIX))
                .any(|hex| hex.starts_with(&digits))
        })
}

/// The name, and the version, of a skill that is not known, by what was asked for. What is neither stands for itself.
fn asked(asked: &Value) -> (Option<String>, Option<String>) {
    let text = asked.as_str();
    match text.map(str::parse) {
        Some(Ok(SkillRef::Name { name, version })) => (Some(name), version),
        _ => (text.map(str::to_owned), None),
    }
}

/// What a digest is written with.
const PREFIX: &str = "sha256:";

/// The digits that a digest begins with, where a text is some of them.
fn digits(text: &str) -> Option<String> {
    let digits = text.strip_prefix(PREFIX).unwrap_or(text);
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && (FEWEST_DIGITS..=64).contains(&digits.len())).then(|| digits.to_ascii_lowercase())
}

impl Filter {
    fn fits(&self, at: &str, entry: &Value) -> bool {
        let at: Option<DateTime<Utc>> = at.parse().ok();
        let is = |field: &str, wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| entry[field].as_str() == Some(wanted))
        };
        self.since
            .is_none_or(|since| at.is_some_and(|at| at >= since))
            && self
                .until
                .is_none_or(|until| at.is_some_and(|at| at < until))
            && is("tenant", &self.tenant)
            && is("outcome", &self.outcome)
            && self
                .skill
                .as_ref()
                .is_none_or(|wanted| is_of(entry, wanted))
            && (self.kinds.is_empty()
                || self
                    .kinds
                    .iter()
                    .any(|kind| entry["kind"].as_str() == Some(kind.as_str())))
            && self
                .request
                .is_none_or(|wanted| entry["request"].as_str() == Some(&wanted.to_string()))
    }
}
