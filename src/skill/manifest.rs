//! `skill.toml`: what a skill declares.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grant::{
    ConfigKey, Declared, DeclaredDirectory, HttpGrant, MAX_ENTRIES, SecretGrant, SocketGrant,
    check_name,
};
use crate::limits::{LimitOverrides, NOTHING_OF_IT};
use crate::placed;
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
        check(&raw).map_err(|wrong| ManifestError::new(&wrong.told(text)))?;
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
    let (line, tables) = (placed::line(text, at), placed::tables_around(text, at));
    let table = match tables.is_empty() {
        true => String::new(),
        false => format!(", in [{}]", tables.join(".")),
    };
    format!("line {line}{table}: {}", error.message())
}

/// What is wrong, of what stands where these keys lead.
struct Wrong<'a> {
    place: Vec<Cow<'a, str>>,
    reason: String,
}

impl<'a> Wrong<'a> {
    fn new<const N: usize>(place: [&'a str; N], reason: impl Into<String>) -> Self {
        Wrong {
            place: place.map(Cow::Borrowed).into(),
            reason: reason.into(),
        }
    }

    /// The same of one in a list.
    fn of_row(mut self, row: usize) -> Self {
        self.place.push(row.to_string().into());
        self
    }

    /// What is wrong, behind its line and the keys that lead there.
    fn told(&self, text: &str) -> String {
        let place: Vec<&str> = self.place.iter().map(AsRef::as_ref).collect();
        // A row of a list is told by its line.
        let is_row = |key: &str| key.starts_with(|first: char| first.is_ascii_digit());
        let keys = match place.as_slice() {
            [list @ .., row] if list.len() == 2 && is_row(row) => list,
            keys => keys,
        };
        let said = format!("{}: {}", keys.join("."), self.reason);
        match placed::span(text, &place) {
            Some(span) => format!("line {}: {said}", placed::line(text, span.start)),
            None => said,
        }
    }
}

/// What the types do not say.
fn check(raw: &Raw) -> Result<(), Wrong<'_>> {
    let RawGrants {
        directories,
        scratch: _,
        storage: _,
        http,
        sockets,
        secrets,
        environment,
    } = &raw.grants;
    let too_many = |count: usize| {
        (count > MAX_ENTRIES).then(|| format!("there are {count}; {MAX_ENTRIES} are allowed"))
    };
    for (what, count) in [
        ("directories", directories.len()),
        ("http", http.len()),
        ("sockets", sockets.len()),
        ("secrets", secrets.len()),
        ("environment", environment.len()),
    ] {
        if let Some(reason) = too_many(count) {
            return Err(Wrong::new(["grants", what], reason));
        }
    }
    if let Some(reason) = too_many(raw.config.len()) {
        return Err(Wrong::new(["config"], reason));
    }
    for (index, directory) in directories.iter().enumerate() {
        let DeclaredDirectory { path, .. } = directory;
        let wrong =
            |reason: String| Err(Wrong::new(["grants", "directories"], reason).of_row(index));
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            return wrong(format!("the path {path:?} is empty or has `..` in it"));
        }
        let unfit = |part: char| part.is_control() || is_backtick(part);
        if path.len() > MAX_PATH_BYTES || path.chars().any(unfit) {
            return wrong(format!(
                "the path {path:?} is longer than {MAX_PATH_BYTES} bytes, or \
                 has a control character or a backtick in it"
            ));
        }
        let mut earlier = directories[..index].iter();
        if earlier.any(|earlier| earlier.same_path(directory)) {
            return wrong(format!("the path {path:?} stands there twice"));
        }
    }
    for (index, name) in environment.iter().enumerate() {
        let wrong = |reason: String| Wrong::new(["grants", "environment"], reason).of_row(index);
        check_name(name).map_err(|reason| match name.split_once('=') {
            Some((name, _)) if check_name(name).is_ok() => wrong(format!(
                "{reason}: a skill declares the name alone, `{name}`, and who grants it gives the value"
            )),
            _ => wrong(reason),
        })?;
        if environment[..index].contains(name) {
            return Err(wrong(format!("`{name}` stands there twice")));
        }
    }
    if let Some(limit) = raw.limits.nothing_of() {
        return Err(Wrong::new(["limits", limit.as_str()], NOTHING_OF_IT));
    }
    for (key, declaration) in &raw.config {
        check_name(key).map_err(|reason| Wrong::new(["config"], reason))?;
        declaration
            .check_declaration()
            .map_err(|reason| Wrong::new(["config", key], reason))?;
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
            (
                r#"grants.environment = ["A=B"]"#,
                "line 1: grants.environment: the name `A=B` has a `=` in it: a skill declares the name alone, `A`",
            ),
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
                format!("line 2: limits.{limit}: with nothing of it no skill can run")
            );
        }
        for time in ["0s", "999us"] {
            let said = error(&format!("[limits]\nwall_time_ms = \"{time}\""));
            assert!(
                said.starts_with("line 2: limits.wall_time_ms: with nothing"),
                "{said}"
            );
        }
    }

    #[test]
    fn an_empty_manifest_declares_nothing() {
        assert_eq!("".parse::<Manifest>().unwrap(), Manifest::default());
    }
}
