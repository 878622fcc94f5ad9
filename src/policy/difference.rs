//! How what a skill wants differs from what it wanted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Wants;
use crate::grant::Mode;
use crate::limits::Limit;
use crate::text::{printable, shortened};

/// What a skill wants that declares nothing.
pub const UNDECLARED: &str = "anything that is granted, having no skill.toml";

/// The longest text of a change that is shown, in bytes.
const MAX_SHOWN: usize = 200;

/// What changed: first what is wanted more of, from what reaches furthest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Difference {
    /// Each change.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How it changed.
    pub kind: Kind,
    /// What it is: a field of what a skill declares, `limits` or `tools`.
    pub field: String,
    /// Which one: a guest path, a variable, a key, a limit, a tool. From the skill, and so made
    /// printable.
    #[serde(serialize_with = "shown")]
    pub subject: String,
    /// How it was, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// How it is, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is new.
    Added,
    /// It is no longer there.
    Removed,
    /// The skill wants more of it.
    Widened,
    /// The skill wants less of it.
    Narrowed,
    /// It is another.
    Changed,
}

fn shown<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&printable(text, false))
}

impl Kind {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Widened => "widened",
            Kind::Narrowed => "narrowed",
            Kind::Changed => "changed",
        }
    }
}

/// Without its kind: `directories /data: {"mode":"ro"} → {"mode":"rw"}`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if !self.subject.is_empty() {
            write!(f, " {}", one_line(&self.subject))?;
        }
        let [before, after] = [&self.before, &self.after].map(|text| {
            text.as_deref()
                .filter(|text| !text.is_empty())
                .map(|text| self.limit(text).unwrap_or_else(|| one_line(text)))
        });
        match (before, after) {
            (Some(before), Some(after)) => write!(f, ": {before} → {after}"),
            (None, Some(only)) | (Some(only), None) => write!(f, ": {only}"),
            (None, None) => Ok(()),
        }
    }
}

impl Change {
    /// A value with its unit, where it is one of a limit.
    fn limit(&self, value: &str) -> Option<String> {
        let mut limits = Limit::ASKED.into_iter();
        let limit =
            limits.find(|limit| self.field == "limits" && limit.as_str() == self.subject)?;
        Some(limit.display(value.parse().ok()?))
    }
}

fn one_line(text: &str) -> String {
    printable(&shortened(text, MAX_SHOWN), false).into_owned()
}

impl Difference {
    /// What is different now.
    pub fn between(before: &Wants, after: &Wants) -> Self {
        let (before, after) = (entries(before), entries(after));
        let mut all: BTreeMap<&Place, (Option<&Value>, Option<&Value>)> = BTreeMap::new();
        for (place, value) in &before {
            all.entry(place).or_default().0 = Some(value);
        }
        for (place, value) in &after {
            all.entry(place).or_default().1 = Some(value);
        }
        let mut changes: Vec<Change> = all
            .into_iter()
            .filter(|(_, (before, after))| before != after)
            .map(|((field, subject), (before, after))| Change {
                kind: kind(before, after),
                field: field.clone(),
                subject: subject.clone(),
                before: before.map(text),
                after: after.map(text),
            })
            .collect();
        changes.sort_by_key(Change::weight);
        Difference { changes }
    }

    /// Everything, of a skill that nobody has looked at yet.
    pub fn all(wants: &Wants) -> Self {
        let changes = entries(wants)
            .into_iter()
            .map(|((field, subject), value)| Change {
                kind: Kind::Added,
                field,
                subject,
                before: None,
                after: Some(text(&value)),
            })
            .collect();
        Difference { changes }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl Change {
    /// What weighs most comes first: what is wanted more of, and of that what reaches furthest.
    fn weight(&self) -> (bool, usize) {
        const FURTHEST: [&str; 10] = [
            "sockets",
            "http",
            "secrets",
            "directories",
            "storage",
            "scratch",
            "environment",
            "tools",
            "limits",
            "config",
        ];
        // That all was wanted comes first: what was added is then a part of that.
        let of_all = self.field == UNDECLARED;
        let less = matches!(self.kind, Kind::Removed | Kind::Narrowed) && !of_all;
        // Of another field, such as that all is wanted.
        let reach = FURTHEST.iter().position(|field| *field == self.field);
        (less, reach.map_or(0, |reach| reach + 1))
    }
}

/// A field, and the subject in it.
type Place = (String, String);

/// Everything that a skill wants, each under its place. It goes by the form in JSON, so that a
/// capability that is new appears here by itself.
fn entries(wants: &Wants) -> BTreeMap<Place, Value> {
    let mut entries = BTreeMap::new();
    let Ok(Value::Object(mut parts)) = serde_json::to_value(wants) else {
        return entries;
    };
    match parts.remove("declared") {
        Some(Value::Object(fields)) => {
            for (field, value) in fields {
                add(&mut entries, &field, value);
            }
        }
        _ => {
            let place = (UNDECLARED.to_owned(), String::new());
            entries.insert(place, Value::Null);
        }
    }
    for (field, value) in parts {
        add(&mut entries, &field, value);
    }
    entries
}

fn add(entries: &mut BTreeMap<Place, Value>, field: &str, value: Value) {
    match value {
        Value::Array(list) => {
            for value in list {
                let (subject, value) = match value {
                    Value::String(subject) => (subject, Value::Null),
                    Value::Object(mut table) => match table.remove("path") {
                        Some(Value::String(path)) => (path, Value::Object(table)),
                        _ => (Value::Object(table).to_string(), Value::Null),
                    },
                    other => (other.to_string(), Value::Null),
                };
                let place = (field.to_owned(), subject);
                // A directory may be declared twice; the wider mode is what the skill gets.
                if entries
                    .get(&place)
                    .is_none_or(|other| mode(other) < mode(&value))
                {
                    entries.insert(place, value);
                }
            }
        }
        Value::Object(table) => {
            for (subject, value) in table {
                entries.insert((field.to_owned(), subject), value);
            }
        }
        Value::Bool(false) => {}
        other => {
            entries.insert((field.to_owned(), String::new()), other);
        }
    }
}

fn mode(value: &Value) -> Option<Mode> {
    serde_json::from_value(value.get("mode")?.clone()).ok()
}

fn kind(before: Option<&Value>, after: Option<&Value>) -> Kind {
    match (before, after) {
        (None, _) => Kind::Added,
        (_, None) => Kind::Removed,
        (Some(before), Some(after)) => {
            let order = match (before.as_u64(), after.as_u64()) {
                (Some(before), Some(after)) => Some(before.cmp(&after)),
                _ => mode(before)
                    .zip(mode(after))
                    .map(|(before, after)| before.cmp(&after)),
            };
            match order {
                Some(std::cmp::Ordering::Less) => Kind::Widened,
                Some(std::cmp::Ordering::Greater) => Kind::Narrowed,
                _ => Kind::Changed,
            }
        }
    }
}

/// What is said of a subject: `rw`, `type integer, default 10`, `read_only`.
fn text(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(true) => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let mut parts = Vec::new();
            for (name, value) in fields {
                match value {
                    Value::Bool(true) => parts.push(name.clone()),
                    Value::Bool(false) => {}
                    Value::String(text) if name == "mode" || name == "type" => {
                        parts.push(text.clone());
                    }
                    value => parts.push(format!("{name} {value}")),
                }
            }
            parts.join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skill::{Annotations, Manifest};

    fn wants(manifest: &str) -> Wants {
        let manifest: Manifest = manifest.parse().unwrap();
        Wants {
            declared: Some(manifest.grants),
            limits: manifest.limits,
            tools: BTreeMap::new(),
        }
    }

    fn lines(difference: &Difference) -> Vec<String> {
        difference
            .changes
            .iter()
            .map(|change| format!("{} {change}", change.kind.as_str()))
            .collect()
    }

    #[test]
    fn each_change_is_named() {
        let before = wants(
            r#"
            grants.environment = ["A", "B"]
            grants.directories = [{ path = "/a" }, { path = "/b", mode = "rw" }]
            config.n = { type = "integer", default = 1 }
            limits = { fuel = 10, wall_time_ms = "2s" }
            "#,
        );
        let mut after = wants(
            r#"
            grants.environment = ["B", "C"]
            grants.directories = [{ path = "/a", mode = "rw" }, { path = "/b" }]
            config.n = { type = "string" }
            limits = { fuel = 20 }
            "#,
        );
        let resolved = Annotations::resolve(Some(true), None, None, Some(false));
        after.tools.insert("t".into(), resolved);
        assert_eq!(
            lines(&Difference::between(&before, &after)),
            [
                "widened directories /a: ro → rw",
                "added environment C",
                "added tools t: idempotent, read_only",
                "widened limits fuel: 10 units → 20 units",
                "changed config n: default 1, integer → string",
                "narrowed directories /b: rw → ro",
                "removed environment A",
                "removed limits wall_time_ms: 2 s",
            ]
        );
        assert!(Difference::between(&after, &after).is_empty());
    }

    #[test]
    fn to_lose_the_manifest_is_to_want_anything() {
        let after = Wants::default();
        let difference = Difference::between(&wants("grants.environment = [\"A\"]"), &after);
        assert_eq!(
            lines(&difference),
            [
                "added anything that is granted, having no skill.toml",
                "removed environment A"
            ]
        );
    }

    #[test]
    fn a_skill_cannot_forge_a_line() {
        let change = Change {
            kind: Kind::Added,
            field: "tools".into(),
            subject: "a\n\x1b[2Jb".repeat(100),
            before: None,
            after: None,
        };
        let line = change.to_string();
        assert!(
            !line.contains(char::is_control) && line.len() < 1_000,
            "{line}"
        );
    }
}
