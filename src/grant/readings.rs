//! How servers may read the path of a request.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::target::escape;

/// How many times over a server might decode a path.
const DECODINGS: usize = 3;

/// How servers may read a path, found out when it is compared for the first time: a skill may declare hundreds of
/// prefixes to compare it with, and its path take milliseconds.
#[derive(Clone, Default)]
pub(super) struct Readings(OnceLock<Arc<Option<Found>>>);

/// Each reading once, and in which order servers come to them: for two paths, the same places stand for the same way to
/// read. Nothing where there is only one way.
#[derive(Default)]
struct Found {
    texts: Vec<Arc<str>>,
    order: Vec<usize>,
}

/// The most bytes of a path that is read in several ways: one that is longer is below no prefix. To find out which takes
/// up to 25 µs for each 256 of them, on a thread of the runtime's.
const MAX_PATH_IN_SEVERAL_WAYS: usize = 4 * 1024;

/// The most bytes of a prefix that is read in several ways. Some skill's request may be compared with hundreds of them.
pub(super) const MAX_SEVERAL_WAYS: usize = 256;

/// A prefix of paths, and what it is in each way to read it: found out once for all clones, as a skill may declare
/// hundreds, with each of which each of its requests is compared.
#[derive(Clone)]
pub(super) struct Prefix(Arc<Text>);

struct Text {
    text: String,
    /// `None` where nobody sees what it grants.
    readings: OnceLock<Option<Vec<Arc<str>>>>,
}

impl Prefix {
    /// Whether every server reads it as it stands there.
    pub fn is_read_in_one_way(&self) -> bool {
        is_read_in_one_way(self)
    }

    /// Whether what the one is read as is found out for the other as well.
    #[cfg(test)]
    pub fn is_the_very(&self, other: &Prefix) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn readings(&self) -> Option<&[Arc<str>]> {
        let found = || match self.len() <= MAX_SEVERAL_WAYS {
            true => prefixes(self),
            false => None,
        };
        self.0.readings.get_or_init(found).as_deref()
    }
}

impl From<&str> for Prefix {
    fn from(text: &str) -> Self {
        Prefix(Arc::new(Text {
            text: text.to_owned(),
            readings: OnceLock::new(),
        }))
    }
}

impl Deref for Prefix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl PartialEq for Prefix {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Prefix {}

impl Hash for Prefix {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Readings {
    /// Whether all readings of this path are below a prefix: where that can be read in several ways as well, each below the
    /// one that is read in the same way.
    pub fn are_below(&self, path: &str, prefix: &Prefix) -> bool {
        let all = |readings: &Option<Found>| match (readings, prefix.is_read_in_one_way()) {
            (None, _) => false,
            (Some(found), true) => found.texts.iter().all(|reading| below(reading, prefix)),
            (Some(found), false) => match prefix.readings() {
                Some(prefixes) => {
                    let readings = found.order.iter().map(|at| &found.texts[*at]);
                    let mut each = readings.zip(prefixes);
                    found.order.len() == prefixes.len()
                        && each.all(|(reading, prefix)| below(reading, prefix))
                }
                None => false,
            },
        };
        all(self.0.get_or_init(|| Arc::new(readings(path))))
    }
}

/// They follow from the path.
impl PartialEq for Readings {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Readings {}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readings")
    }
}

/// Whether every server reads a path as it stands there.
fn is_read_in_one_way(path: &str) -> bool {
    !path.contains(['%', ';', '\\']) && !path.contains("//")
}

/// What a path is once it was decoded so often and its dots were followed or not. `None` where servers decode it in
/// different ways, and where it would take too long to find out in which.
fn readings(path: &str) -> Option<Found> {
    if is_read_in_one_way(path) {
        return Some(Found::default());
    }
    if path.len() > MAX_PATH_IN_SEVERAL_WAYS {
        return None;
    }
    let read = in_each_way(path, |path| {
        let decoded = decoded(path)?;
        let followed = [true, false].map(|parameters| followed(&decoded, parameters));
        Some((followed, decoded))
    })?;
    let mut found = Found::default();
    let mut known = HashMap::new();
    for reading in read {
        let next = found.texts.len();
        let at = *known.entry(Arc::clone(&reading)).or_insert(next);
        if at == next {
            found.texts.push(reading);
        }
        found.order.push(at);
    }
    Some(found)
}

/// What a prefix is in each way to read it. `None` where servers decode it in different ways, and where one of them
/// finds dots, empty segments or backslashes in it: nobody sees in such a text what it grants.
fn prefixes(prefix: &str) -> Option<Vec<Arc<str>>> {
    in_each_way(prefix, |prefix| {
        let decoded = decoded(prefix)?;
        let inner = decoded.strip_prefix('/')?;
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        // What stands behind a `;` is a name in itself for some.
        let is_named = |segment: &str| {
            let mut names = segment.split(';');
            names.all(|name| !matches!(name, "" | "." | ".."))
        };
        if decoded.contains('\\') || !inner.split('/').all(is_named) {
            return None;
        }
        let followed = [true, false].map(|parameters| followed(&decoded, parameters));
        Some((followed, decoded))
    })
}

/// What comes of a path by each way to read it, always in the same order. `read` gives what it is with and without
/// parameters once it was decoded, and what it is as long as nobody follows its dots.
///
/// A server may follow dots, and leave parameters out, each time, at the end, or never: what is one segment in one of
/// these readings is two in another, once that is decoded.
fn in_each_way(
    path: &str,
    read: impl Fn(&str) -> Option<([String; 2], String)>,
) -> Option<Vec<Arc<str>>> {
    let mut all: Vec<Arc<str>> = Vec::new();
    let mut states: Vec<Arc<str>> = vec![path.into()];
    for _ in 0..DECODINGS {
        // Most of them are the same.
        let mut known: HashMap<Arc<str>, [Arc<str>; 3]> = HashMap::new();
        let mut further = Vec::with_capacity(3 * states.len());
        for state in &states {
            let next = match known.get(state) {
                Some(next) => next.clone(),
                None => {
                    let ([with, without], decoded) = read(state)?;
                    let next = [with.into(), without.into(), decoded.into()];
                    known.insert(Arc::clone(state), next.clone());
                    next
                }
            };
            all.extend_from_slice(&next[..2]);
            further.extend(next);
        }
        states = further;
    }
    Some(all)
}

/// Whether a text begins with `%uXXXX`, which some servers take for a character.
fn is_wide_escape(text: &str) -> bool {
    let marked = text.get(1..2).is_some_and(|u| u.eq_ignore_ascii_case("u"));
    let digits = text.get(2..6).map(str::as_bytes);
    marked && digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// The path with everything decoded once, unless servers might read different ones.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if is_wide_escape(rest) {
            return None;
        }
        let (byte, taken) = match escape(rest) {
            Some(byte) => (byte, 3),
            None => (b'%', 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// The path as a liberal server might read it: backslashes taken for slashes, several slashes for one, dot
/// segments followed, and parameters (`;x`) kept, or left out before that.
fn followed(path: &str, parameters: bool) -> String {
    let mut followed = String::with_capacity(path.len() + 1);
    for segment in path.split(['/', '\\']) {
        let named = match parameters {
            true => segment,
            false => segment.split(';').next().unwrap_or_default(),
        };
        match named {
            "" | "." => {}
            ".." => followed.truncate(followed.rfind('/').unwrap_or_default()),
            segment => {
                followed.push('/');
                followed.push_str(segment);
            }
        }
    }
    if followed.is_empty() || path.ends_with(['/', '\\']) {
        followed.push('/');
    }
    followed
}

/// Whether a path is the prefix itself, or goes on below it.
pub(super) fn below(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::HttpTarget;
    use super::*;

    fn target(url: &str) -> HttpTarget {
        HttpTarget::new("GET", url).unwrap()
    }

    /// A prefix with escapes or parameters in it allows what is below it in each way to read both.
    #[test]
    fn a_prefix_that_is_read_in_several_ways_allows_what_is_below_it_in_each() {
        for (prefix, path, allowed) in [
            ("/a%20b", "/a%20b", true),
            ("/a%20b", "/a%20b/c", true),
            ("/a%20b/", "/a%20b/c%20d", true),
            ("/%C3%A4", "/ä", true),
            ("/ä", "/%C3%A4/x", true),
            ("/wiki/C%2B%2B", "/wiki/C%2B%2B", true),
            ("/x%2Fy", "/x%2Fy/z", true),
            ("/a;b", "/a;b", true),
            ("/a;b", "/a;b/c", true),
            ("/100%25", "/100%25/x", true),
            ("/a%20b", "/a%20bc", false),
            ("/a%20b", "/a", false),
            ("/a%20b", "/a%20b/%2e%2e%2fc", false),
            ("/a%20b", "/a%20b/%252e%252e%252fc", false),
            ("/a%20b", "/a%20b/..;/c", false),
            ("/x%2Fy", "/x/y", false),
            ("/x/y", "/x%2Fy", false),
            ("/a;b", "/a", false),
            ("/a;b", "/a;c", false),
            // In these one sees not what they grant.
            ("/a%2F..%2F", "/a%2F..%2Fb", false),
            ("/a%252F..", "/a%252F..", false),
            ("/a/..;x", "/a/..;x/b", false),
            ("/;x", "/;x/admin", false),
            ("/a%5C", "/a%5C/b", false),
            ("/a%2F%2F", "/a%2F%2F", false),
            ("/a%ff", "/a%ff", false),
            ("/a%u002e", "/a%u002e", false),
        ] {
            let prefix = target(&format!("http://a.example{prefix}"));
            let path = target(&format!("http://a.example{path}"));
            // Also once it was compared with another.
            for first in ["/", "/a", "/nowhere"] {
                let path = path.clone();
                path.is_below(&first.into());
                let below = path.is_below(&prefix.path().into());
                assert_eq!(below, allowed, "{} {}", prefix.path(), path.path());
            }
        }
    }

    /// One that is long and read in several ways allows nothing: each of a skill's requests would take long to be
    /// compared with hundreds of such.
    #[test]
    fn a_long_prefix_is_read_in_one_way_or_allows_nothing() {
        for (fill, allows) in [(MAX_SEVERAL_WAYS - 6, true), (MAX_SEVERAL_WAYS - 5, false)] {
            let path = format!("/a%20b{}", "c".repeat(fill));
            let target = target(&format!("http://a.example{path}/d"));
            assert_eq!(target.is_below(&path.as_str().into()), allows, "{fill}");
        }
        let path = "/a".repeat(1_000);
        let target = target(&format!("http://a.example{path}/d;e"));
        assert!(target.is_below(&path.as_str().into()));
    }

    /// One that is long and read in several ways is below no prefix: to find out in which would hold up others.
    #[test]
    fn a_long_path_is_read_in_one_way_or_is_below_nothing() {
        for (fill, is_below) in [(0, true), (1, false)] {
            let path = format!("/a/b;{}", "c".repeat(MAX_PATH_IN_SEVERAL_WAYS - 5 + fill));
            let target = target(&format!("http://a.example{path}"));
            assert_eq!(target.is_below(&"/a".into()), is_below, "{fill}");
            assert!(target.is_below(&"/".into()));
        }
        let plain = "/b".repeat(MAX_PATH_IN_SEVERAL_WAYS);
        assert!(target(&format!("http://a.example/a{plain}")).is_below(&"/a".into()));
    }

    /// What is known of a path from an earlier comparison decides the next as it would alone.
    #[test]
    fn each_comparison_decides_as_it_would_alone() {
        for path in [
            "/a/b",
            "/a/b;c/d",
            "/a//b",
            "/a/%2e%2e/b",
            "/a/b/%252e%252e/c",
            "/a/x;%252f..%252f..%252fadmin",
            "/a/%25ff/b",
            "/a/%u002e",
        ] {
            let known = target(&format!("http://a.example{path}"));
            for prefix in ["/a", "/a/", "/a/b", "/a/b/", "/b", "/admin"] {
                let prefix = prefix.into();
                let alone = target(&format!("http://a.example{path}")).is_below(&prefix);
                assert_eq!(known.is_below(&prefix), alone, "{path} {prefix:?}");
                assert_eq!(known.clone().is_below(&prefix), alone, "{path} {prefix:?}");
            }
        }
        // To have been compared makes it no other.
        let (one, other) = (
            target("http://a.example/a/b;c"),
            target("http://a.example/a/b;c"),
        );
        assert!(one.is_below(&"/a".into()));
        assert_eq!(one, other);
    }
}
