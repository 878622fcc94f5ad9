//! Directory grants: a host path, the path under which the guest sees it, and a mode.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::hint::{NO_GUEST, NO_HOST, directory_text, grant_text, to_grant_directory};
use super::{Capability, Declared, Denial, Grants, Missing, Remedy, SCRATCH, quoted};

/// What a guest may do in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Read only. The default.
    #[default]
    Ro,
    /// Read and write.
    Rw,
}

impl Mode {
    /// `ro` or `rw`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Ro => "ro",
            Mode::Rw => "rw",
        }
    }
}

/// A directory of the host that a guest may use.
///
/// In JSON and TOML a table, or the text of the flag `--dir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = or_text))]
pub struct DirectoryGrant {
    /// The directory on the host.
    pub host: PathBuf,
    /// The path under which the guest sees it: absolute, or relative to its working directory.
    pub guest: String,
    /// What the guest may do there.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub mode: Mode,
}

impl<'de> Deserialize<'de> for DirectoryGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TableOrText)
    }
}

struct TableOrText;

impl<'de> Visitor<'de> for TableOrText {
    type Value = DirectoryGrant;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text HOST[:GUEST][:ro or :rw], or a table of `host`, `guest` and `mode`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DirectoryGrant, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DirectoryGrant, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            host: PathBuf,
            guest: String,
            #[serde(default)]
            mode: Mode,
        }
        let Table { host, guest, mode } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(DirectoryGrant { host, guest, mode })
    }
}

/// A table, or a text.
#[cfg(feature = "schema")]
fn or_text(schema: &mut schemars::Schema) {
    let table = std::mem::take(schema);
    *schema = schemars::json_schema!({ "anyOf": [super::pattern::directory(), table] });
}

/// The whole form: `HOST:GUEST:ro` or `HOST:GUEST:rw`. Paths with a `:` in them do not come back.
impl fmt::Display for DirectoryGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DirectoryGrant { host, guest, mode } = self;
        write!(f, "{}:{guest}:{}", host.display(), mode.as_str())
    }
}

impl DirectoryGrant {
    /// Whether both are under the same guest path.
    pub(super) fn same_path(&self, other: &DirectoryGrant) -> bool {
        normal(&self.guest) == normal(&other.guest)
    }
}

/// A text that is no directory grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a directory grant: {reason}; write HOST, HOST:GUEST or HOST:GUEST:ro|rw")]
pub struct ParseDirectoryError {
    text: String,
    reason: &'static str,
}

/// `HOST`, `HOST:ro`, `HOST:GUEST` or `HOST:GUEST:rw`. The guest path is the host path as written
/// where none is given, so that a path typed beside the grant is right for the guest too.
impl FromStr for DirectoryGrant {
    type Err = ParseDirectoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ParseDirectoryError {
            text: quoted(text),
            reason,
        };
        let (rest, mode) = match text.rsplit_once(':') {
            Some((rest, "ro")) => (rest, Mode::Ro),
            Some((rest, "rw")) => (rest, Mode::Rw),
            _ => (text, Mode::default()),
        };
        let (host, guest) = rest.split_once(':').unwrap_or((rest, rest));
        if host.is_empty() {
            return Err(error("the host path is empty"));
        }
        if host == NO_HOST {
            return Err(error("put a directory in the place of <HOST>"));
        }
        if guest.is_empty() {
            return Err(error("the guest path is empty"));
        }
        if guest == NO_GUEST {
            return Err(error("put a path in the place of <GUEST>"));
        }
        if let Some(reason) = fault(guest) {
            return Err(error(reason));
        }
        if let Some((_, last)) = guest.split_once(':') {
            return Err(error(match last.contains([':', '/']) {
                true => "there is a `:` too many",
                false => "what stands last is no mode: it is `ro` or `rw`",
            }));
        }
        let typed = guest.trim_end_matches('/');
        // Where it is the host's path, it is what is typed for the guest, too.
        let short = match typed == host.trim_end_matches('/') {
            true => typed,
            false => trimmed(typed),
        };
        let guest = if short.is_empty() { "/" } else { short };
        Ok(DirectoryGrant {
            host: PathBuf::from(host),
            guest: guest.to_owned(),
            mode,
        })
    }
}

/// A directory that a skill wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a table with `path` and `mode`, such as `{ path = \"/data\", mode = \"ro\" }`"
)]
pub struct DeclaredDirectory {
    /// The guest path at which the skill expects it, or `*` where any path will do because the
    /// caller names it in the input.
    pub path: String,
    /// What the skill wants to do there.
    #[serde(default)]
    pub mode: Mode,
    /// What the directory is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl DeclaredDirectory {
    pub(super) fn matches(&self, guest: &str) -> bool {
        self.path == "*" || normal(&self.path) == normal(guest)
    }
}

impl DeclaredDirectory {
    /// Whether both are at the same guest path.
    pub(crate) fn same_path(&self, other: &DeclaredDirectory) -> bool {
        normal(&self.path) == normal(&other.path)
    }
}

/// Why no guest finds a path, where that is so. A `..` that stands first is part of a path that is typed beside the grant.
fn fault(guest: &str) -> Option<&'static str> {
    if guest.chars().any(char::is_control) {
        return Some("the guest path has a control character in it");
    }
    let mut is_inside = guest.starts_with('/');
    for part in guest.split('/') {
        match part {
            ".." if is_inside => {
                return Some("the guest path has a `..` in it, and so leads nowhere");
            }
            "" | "." | ".." => {}
            _ => is_inside = true,
        }
    }
    None
}

/// A guest path without what makes no difference: `./` before it, and `/` or `/.` after it.
fn normal(path: &str) -> &str {
    let path = path.strip_prefix("./").unwrap_or(path);
    match trimmed(path) {
        "" if path.starts_with('/') => "/",
        path => path,
    }
}

/// A path without each `/` and `/.` that it ends with.
fn trimmed(path: &str) -> &str {
    let mut path = path.trim_end_matches('/');
    while let Some(shorter) = path.strip_suffix("/.") {
        path = shorter.trim_end_matches('/');
    }
    path
}

/// Whether the target of a link may lead out of the folder that the link is in: it is absolute, or has
/// a `..` in it.
pub fn leads_out(target: &str) -> bool {
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    !Path::new(target).components().all(inside)
}

/// Two grants under one guest path cannot both hold, nor one under a path that no guest finds.
pub(super) fn check(granted: &Grants) -> Vec<Denial> {
    let mut denials = Vec::new();
    let grants = &granted.directories;
    for (index, grant) in grants.iter().enumerate() {
        if let Some(reason) = fault(&grant.guest) {
            denials.push(refused(grant, reason, "give it another: `<HOST>:<GUEST>`"));
            continue;
        }
        let is_scratch = granted.scratch && normal(&grant.guest) == SCRATCH;
        let mut earlier = grants[..index].iter();
        let earlier = earlier.find(|earlier| earlier.same_path(grant));
        if !is_scratch && earlier.is_none() {
            continue;
        }
        let hint = match earlier {
            Some(earlier) if earlier.host == grant.host => {
                "it is the same folder twice: leave one of them out"
            }
            _ => "give each a guest path of its own: `<HOST>:<GUEST>`",
        };
        let reason = "two directories are granted under this guest path";
        denials.push(refused(grant, reason, hint));
    }
    denials
}

fn refused(grant: &DirectoryGrant, reason: &str, hint: &str) -> Denial {
    Denial {
        capability: Capability::Directory,
        subject: grant.guest.clone(),
        reason: reason.into(),
        remedy: Remedy::Operator,
        grant: None,
        hint: hint.into(),
    }
}

/// The mode that is declared for a guest path, where it is declared. An exact path goes before `*`, and of several
/// the widest mode: the skill asked for it.
pub(super) fn mode(declared: &[DeclaredDirectory], guest: &str) -> Option<Mode> {
    let widest = |exact: bool| {
        declared
            .iter()
            .filter(|wanted| (wanted.path == "*") != exact && wanted.matches(guest))
            .map(|wanted| wanted.mode)
            .max()
    };
    widest(true).or_else(|| widest(false))
}

/// The grant in the narrower of the granted and the declared mode.
pub(super) fn narrow(
    declared: &[DeclaredDirectory],
    grant: &DirectoryGrant,
) -> Result<DirectoryGrant, Denial> {
    match mode(declared, &grant.guest) {
        Some(mode) => Ok(DirectoryGrant {
            mode: mode.min(grant.mode),
            ..grant.clone()
        }),
        None => Err(super::undeclared(
            Capability::Directory,
            &grant.guest,
            declared.iter().map(|wanted| &wanted.path),
        )),
    }
}

/// What is to be known of a directory whose guest path whoever grants it chooses.
const PATHS_BELOW: &str = "; the skill finds what is in it under paths that begin with <GUEST>";

/// What grants a directory whose guest path whoever grants it chooses.
pub(super) fn of_any_path(skill: &str, mode: Mode, subject: String, reason: String) -> Denial {
    let text = format!("{NO_HOST}:{NO_GUEST}:{}", mode.as_str());
    let text = Some(text.as_str());
    let lacking = Denial::lacking(skill, Capability::Directory, subject, reason, text);
    let hint = format!("{}{PATHS_BELOW}", lacking.hint);
    Denial { hint, ..lacking }
}

/// Declared directories for which nothing is granted.
pub(super) fn missing(
    skill: &str,
    declared: &Declared,
    granted: &Grants,
    which: &dyn Fn(Missing<'_>) -> bool,
) -> Vec<Denial> {
    let granted = &granted.directories;
    declared
        .directories
        .iter()
        .filter(|wanted| !granted.iter().any(|grant| wanted.matches(&grant.guest)))
        .filter(|_| which(Missing::Directory))
        .map(|wanted| {
            let reason = match &wanted.description {
                // Their author's words are none of ours, such as a command to be typed.
                Some(description) => format!(
                    "declared by the skill and not granted, for: \"{}\"",
                    quoted(
                        description
                            .replace(['`', '"', '“', '”'], "'")
                            .trim_end_matches('.')
                    )
                ),
                None => "declared by the skill and not granted".into(),
            };
            let subject = wanted.path.clone();
            if wanted.path == "*" {
                return of_any_path(skill, wanted.mode, subject, reason);
            }
            let grant = DirectoryGrant {
                host: NO_HOST.into(),
                guest: wanted.path.clone(),
                mode: wanted.mode,
            };
            Denial {
                capability: Capability::Directory,
                subject,
                reason,
                remedy: Remedy::Grant,
                grant: directory_text(&grant).and_then(|text| grant_text(Some(&text))),
                hint: to_grant_directory(skill, &grant),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, String, Mode) {
        let grant: DirectoryGrant = text.parse().unwrap();
        (grant.host.display().to_string(), grant.guest, grant.mode)
    }

    #[test]
    fn the_four_forms() {
        let case = |host: &str, guest: &str, mode| (host.to_owned(), guest.to_owned(), mode);
        assert_eq!(parsed("data"), case("data", "data", Mode::Ro));
        assert_eq!(parsed("data/:rw"), case("data/", "data", Mode::Rw));
        assert_eq!(parsed("/a/b:/data"), case("/a/b", "/data", Mode::Ro));
        assert_eq!(parsed("/a/b:/data:rw"), case("/a/b", "/data", Mode::Rw));
        assert_eq!(parsed("/"), case("/", "/", Mode::Ro));
        assert_eq!(parsed("/a:/data/."), case("/a", "/data", Mode::Ro));
        assert_eq!(parsed("/a:/."), case("/a", "/", Mode::Ro));
        assert_eq!(parsed("/a:/data/.//./"), case("/a", "/data", Mode::Ro));
        for (text, host) in [("d/.", "d/."), ("d/./", "d/./"), ("d/.:d/.:ro", "d/.")] {
            assert_eq!(parsed(text), case(host, "d/.", Mode::Ro));
        }
        // Also of a table, in which nothing is trimmed.
        let grant = |guest: &str| DirectoryGrant {
            host: "/a".into(),
            guest: guest.into(),
            mode: Mode::Ro,
        };
        for same in ["/data/.", "/data/", "/data/./"] {
            assert!(grant(same).same_path(&grant("/data")), "{same}");
        }
        assert!(!grant("/data/.a").same_path(&grant("/data")));
        let itself: DirectoryGrant = "./.".parse().unwrap();
        assert_eq!(itself.to_string().parse(), Ok(itself));
        assert_eq!(parsed("../../a"), case("../../a", "../../a", Mode::Ro));
        assert_eq!(parsed("a/../b:b"), case("a/../b", "b", Mode::Ro));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("", "the host path is empty"),
            (":ro", "the host path is empty"),
            ("<HOST>:/a:ro", "put a directory in the place of <HOST>"),
            ("/a:<GUEST>", "put a path in the place of <GUEST>"),
            ("a:", "the guest path is empty"),
            (
                "a:/b/../c",
                "the guest path has a `..` in it, and so leads nowhere",
            ),
            (
                "a:/..:rw",
                "the guest path has a `..` in it, and so leads nowhere",
            ),
            (
                "a/../b",
                "the guest path has a `..` in it, and so leads nowhere",
            ),
            ("a:/b\nc", "the guest path has a control character in it"),
            ("a:b:/c", "there is a `:` too many"),
            ("a:b:c", "what stands last is no mode: it is `ro` or `rw`"),
        ] {
            let error = text.parse::<DirectoryGrant>().unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
        }
    }

    /// Also where it comes as a table, or from a program.
    #[test]
    fn what_no_guest_finds_is_not_granted() {
        for (guest, reason) in [
            ("/b/../c", "`..`"),
            ("b\n/c", "control character"),
            ("/b/./c", ""),
            ("../c", ""),
        ] {
            let grants = Grants::default().directory("/a", guest, Mode::Ro);
            let reasons: Vec<String> = check(&grants).into_iter().map(|one| one.reason).collect();
            assert_eq!(
                reasons.is_empty(),
                reason.is_empty(),
                "{guest}: {reasons:?}"
            );
            assert!(
                reasons.iter().all(|one| one.contains(reason)),
                "{reasons:?}"
            );
        }
    }
}
