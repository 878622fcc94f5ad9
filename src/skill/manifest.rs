//! `skill.toml`: what a skill declares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use crate::grant::{
    ConfigKey, Declared, DeclaredDirectory, HttpGrant, MAX_ENTRIES, SecretGrant, SocketGrant,
    check_name,
};
use crate::limits::{LimitOverrides, NOTHING_OF_IT};
use crate::text::{form, is_backtick, meant, printable, shortened};

/// The longest guest path that can be declared, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// The contents of a `skill.toml`.
///
/// ```
/// let manifest: skillhost::skill::Manifest = r#"
///     [[grants.directories]]
///     path = "*"
///     mode = "ro"
///
///     [config.max_rows]
///     type = "integer"
///     default = 1000
///
///     [limits]
///     memory_bytes = "32MiB"
/// "#.parse()?;
/// assert_eq!(manifest.limits.memory_bytes, Some(32 << 20));
/// # Ok::<(), skillhost::skill::ManifestError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Manifest {
    /// What the skill wants to touch.
    pub grants: Declared,
    /// The skill's own default limits.
    pub limits: LimitOverrides,
}

/// A `skill.toml` that cannot be used: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ManifestError {
    message: String,
    is_of_table: bool,
}

impl ManifestError {
    fn new(message: &str) -> Self {
        ManifestError {
            message: readable(message),
            is_of_table: false,
        }
    }

    /// Whether it is of a table, or a key outside of all, that no `skill.toml` has.
    pub fn is_of_table(&self) -> bool {
        self.is_of_table
    }
}

/// What serde says of a key of [`Raw`] that it does not know ends so.
const TABLES: &str = "expected one of `grants`, `config`, `limits`";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    grants: RawGrants,
    #[serde(default)]
    config: BTreeMap<String, ConfigKey>,
    #[serde(default)]
    limits: LimitOverrides,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGrants {
    directories: Vec<DeclaredDirectory>,
    scratch: bool,
    storage: bool,
    http: Vec<HttpGrant>,
    sockets: Vec<SocketGrant>,
    secrets: Vec<SecretGrant>,
    environment: Vec<String>,
}

impl std::str::FromStr for Manifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let mut message = placed(&error, text);
            // The author's words stand between the library's backticks, and end them by none of their own.
            // A key may have one as an escape.
            if text.contains(is_backtick) || text.contains('\\') {
                message = message.replace(is_backtick, "'");
            }
            // Nor is a word proposed that may be the author's own.
            let plain = !text.contains(is_backtick) && !text.contains('\\');
            if let Some(word) = meant(error.message()).filter(|_| plain) {
                message.push_str(&format!("; did you mean `{word}`?"));
            }
            if let Some(form) = form(error.message()) {
                message.push_str(&format!("; {form}"));
            }
            let is_of_table =
                error.message().starts_with("unknown field") && error.message().ends_with(TABLES);
            ManifestError {
                is_of_table,
                ..ManifestError::new(&message)
            }
        })?;
        check(&raw).map_err(|message| ManifestError::new(&message))?;
        Ok(Manifest {
            grants: Declared {
                directories: raw.grants.directories,
                scratch: raw.grants.scratch,
                storage: raw.grants.storage,
                http: raw.grants.http,
                sockets: raw.grants.sockets,
                secrets: raw.grants.secrets,
                environment: raw.grants.environment,
                config: raw.config,
            },
            limits: raw.limits,
        })
    }
}

/// What is wrong, behind the line and the table that it is in.
fn placed(error: &toml::de::Error, text: &str) -> String {
    let Some(at) = error.span().map(|span| span.start) else {
        return error.message().to_owned();
    };
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let mut table = Vec::new();
    if let Ok(root) = DeTable::parse(text) {
        lead_to(root.get_ref(), at, &mut table);
    }
    let table = match table.is_empty() {
        true => String::new(),
        false => format!(", in [{}]", table.join(".")),
    };
    format!("line {line}{table}: {}", error.message())
}

/// How many tables within each other are looked into, and more than a manifest has.
const DEEPEST: usize = 8;

/// Collects the keys of the tables around a place of the text; whether it was found.
fn lead_to(table: &DeTable<'_>, at: usize, keys: &mut Vec<String>) -> bool {
    keys.len() < DEEPEST
        && table.iter().any(|(key, value)| {
            if key.span().contains(&at) {
                return true;
            }
            let value_at = value.span().contains(&at);
            let inner = value.get_ref();
            let rows = inner.as_array().into_iter().flat_map(|rows| rows.iter());
            let tables = inner
                .as_table()
                .into_iter()
                .chain(rows.filter_map(|row| row.get_ref().as_table()));
            keys.push(key.get_ref().clone().into_owned());
            if tables.into_iter().any(|table| lead_to(table, at, keys)) {
                return true;
            }
            keys.pop();
            value_at
        })
}

/// What the types do not say.
fn check(raw: &Raw) -> Result<(), String> {
    let RawGrants {
        directories,
        scratch: _,
        storage: _,
        http,
        sockets,
        secrets,
        environment,
    } = &raw.grants;
    for (what, count) in [
        ("grants.directories", directories.len()),
        ("grants.http", http.len()),
        ("grants.sockets", sockets.len()),
        ("grants.secrets", secrets.len()),
        ("grants.environment", environment.len()),
        ("config", raw.config.len()),
    ] {
        if count > MAX_ENTRIES {
            return Err(format!(
                "{what}: there are {count}; {MAX_ENTRIES} are allowed"
            ));
        }
    }
    for (index, directory) in directories.iter().enumerate() {
        let DeclaredDirectory { path, .. } = directory;
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            return Err(format!(
                "grants.directories: the path {path:?} is empty or has `..` in it"
            ));
        }
        let unfit = |part: char| part.is_control() || is_backtick(part);
        if path.len() > MAX_PATH_BYTES || path.chars().any(unfit) {
            return Err(format!(
                "grants.directories: the path {path:?} is longer than {MAX_PATH_BYTES} bytes, or \
                 has a control character or a backtick in it"
            ));
        }
        let mut earlier = directories[..index].iter();
        if earlier.any(|earlier| earlier.same_path(directory)) {
            return Err(format!(
                "grants.directories: the path {path:?} stands there twice"
            ));
        }
    }
    for (index, name) in environment.iter().enumerate() {
        check_name(name).map_err(|reason| format!("grants.environment: {reason}"))?;
        if environment[..index].contains(name) {
            return Err(format!("grants.environment: `{name}` stands there twice"));
        }
    }
    if let Some(limit) = raw.limits.nothing_of() {
        return Err(format!("limits.{limit}: {NOTHING_OF_IT}"));
    }
    for (key, declaration) in &raw.config {
        check_name(key).map_err(|reason| format!("config: {reason}"))?;
        declaration
            .check_declaration()
            .map_err(|reason| format!("config.{key}: {reason}"))?;
    }
    Ok(())
}

fn readable(text: &str) -> String {
    shortened(&printable(text.trim_end(), false), 2_000).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limit;

    fn error(text: &str) -> String {
        text.parse::<Manifest>().unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(error("[limits]\nmemory = 1").contains("unknown field `memory`"));
        assert!(error("[limits]\nmemory = 1").starts_with("line 2, in [limits]: unknown field"));
        assert!(error("grant = 3").starts_with("line 1: unknown field `grant`"));
        assert!(error("grant = 3").ends_with("did you mean `grants`?"));
        let row = error("\n[[grants.http]]\nurl = \"https://a.example\"");
        assert!(row.starts_with("line 2, in [grants]:"), "{row}");
        assert!(error("[config.n]\ntype = 3").starts_with("line 2, in [config.n]:"));
        assert!(error("[limits\n").starts_with("line 1: "));
        assert!(error("[grants]\nenviroment = []").ends_with("did you mean `environment`?"));
        let of_the_host = error("[limits]\nstack_bytes = 1000");
        assert!(
            of_the_host.contains("set where the host is started"),
            "{of_the_host}"
        );
        assert!(!of_the_host.contains("did you mean"), "{of_the_host}");
        assert!(error("[[grants.directories]]\npath = \"../x\"").contains(".."));
        for (first, second) in [("/data", "/data/"), ("*", "*"), ("a", "./a")] {
            let twice = format!(
                "[[grants.directories]]\npath = \"{first}\"\n[[grants.directories]]\npath = \"{second}\"\nmode = \"rw\""
            );
            let said = error(&twice);
            assert!(said.ends_with("stands there twice"), "{said}");
        }
        assert!(
            error("[config.n]\ntype = \"integer\"\ndefault = \"x\"").contains("config.n: default")
        );
        assert!(error("[grants]\nhttp = [\"example.com\"]").contains("no scheme"));
        assert!(
            error("[grants]\nhttp = \"https://a.example\"")
                .ends_with("write a list, also of one: [\"…\"]")
        );
        assert!(error("[grants.directories]\npath = \"/data\"").ends_with("two brackets, [[…]]"));
        for fuel in ["-5", "1.5", "true"] {
            assert!(
                error(&format!("[limits]\nfuel = {fuel}")).contains("; write digits, or a text")
            );
        }
        assert!(error("[grants]\nnetwork = true").contains("unknown field `network`"));
        let directory = error("[grants]\ndirectories = [\"/data\"]");
        let how = "expected a table with `path` and `mode`, such as `{ path = \"/data\", mode = \"ro\" }`";
        assert!(directory.contains(how), "{directory}");
        for (text, is_of_table) in [
            ("[network]", true),
            ("fuel = 1", true),
            ("[grants]\nnetwork = true", false),
            ("[limits]\nmemory = 1", false),
            ("[limits]\nwall_time_ms = \"soon\"", false),
        ] {
            let error = text.parse::<Manifest>().unwrap_err();
            assert_eq!(error.is_of_table(), is_of_table, "{text}");
        }
        // No word of its author's is offered in its place.
        for backtick in ["`", r"\u0060", r"\U00000060"] {
            let forged = format!("[grants]\n\"run this!{backtick} or {backtick}run this\" = true");
            let forged = error(&forged);
            let near = format!("[grants]\n\"http-al{backtick} {backtick}http-all\" = true");
            assert!(!error(&near).contains("did you mean"), "{}", error(&near));
            assert!(
                !forged.contains("did you mean") && !forged.contains('`'),
                "{forged}"
            );
        }
    }

    #[test]
    fn names_and_keys_are_held_to_their_bounds() {
        let many: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("\"A{n}\"")).collect();
        for (text, reason) in [
            (r#"grants.environment = ["A=B"]"#, "`=`"),
            (r#"grants.environment = [""]"#, "empty"),
            (r#"grants.environment = ["A\u0000"]"#, "control character"),
            (r#"grants.environment = ["A", "A"]"#, "twice"),
            (
                &format!("grants.environment = [{}]", many.join(", ")),
                "256 are allowed",
            ),
            (
                r#"grants.directories = [{ path = "/a\nb" }]"#,
                "control character",
            ),
            (r#"grants.directories = [{ path = "/a`b" }]"#, "a backtick"),
            (r#"grants.environment = ["A`. Run `B"]"#, "a backtick"),
            (r#"grants.environment = ["A\u1fef. Run"]"#, "a backtick"),
            ("[config.\"a`b\"]\ntype = \"string\"", "a backtick"),
            ("[config.\"a=b\"]\ntype = \"string\"", "`=`"),
            (
                "[config.a]\ntype = \"string\"\ndefault = [1]",
                "config.a: default",
            ),
            (
                "[config.a]\ntype = \"string\"\ndefault = \"\\u0000\"",
                "NUL",
            ),
            (
                "[config.a]\ntype = \"string\"\ndefault = \"\"\nrequired = true",
                "has no default",
            ),
        ] {
            let error = error(text);
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains('\0'), "{error:?}");
        }
    }

    #[test]
    fn limits_are_written_as_on_the_command_line() {
        let manifest =
            "[limits]\nfuel = \"5M\"\nhandles = 20\nmemory_bytes = \"1MiB\"\nconnections = 0";
        let limits = manifest.parse::<Manifest>().unwrap().limits;
        assert_eq!(limits.fuel, Some(5_000_000));
        assert_eq!((limits.handles, limits.connections), (Some(20), Some(0)));
        assert!(error("[limits]\nfuel = \"5 apples\"").contains("not a count"));
        for limit in Limit::NEEDED {
            let said = error(&format!("[limits]\n{limit} = 0"));
            assert_eq!(
                said,
                format!("limits.{limit}: with nothing of it no skill can run")
            );
        }
        for time in ["0s", "999us"] {
            let said = error(&format!("[limits]\nwall_time_ms = \"{time}\""));
            assert!(
                said.starts_with("limits.wall_time_ms: with nothing"),
                "{said}"
            );
        }
    }

    #[test]
    fn an_empty_manifest_declares_nothing() {
        assert_eq!("".parse::<Manifest>().unwrap(), Manifest::default());
    }
}
