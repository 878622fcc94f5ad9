//! How servers may read the path of a request.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::target::escape;

/// How many times over a server might decode a path.
const DECODINGS: usize = 3;

/// How servers may read a path, found out when it is compared for the first time: a skill may declare hundreds of
/// prefixes to compare it with, and its path take milliseconds.
#[derive(Clone, Default)]
pub(super) struct Readings(OnceLock<Arc<Option<Vec<Vec<u8>>>>>);

impl Readings {
    /// As much of each as prefixes are compared with. A grant's text has 2,048 bytes, of which encoding makes three
    /// times as many at most.
    const KEPT_BYTES: usize = 3 * 2_048 + 1;

    /// Whether all readings of this path are below a prefix.
    pub fn are_below(&self, path: &str, prefix: &str) -> bool {
        let all = |readings: &Option<Vec<Vec<u8>>>| match readings {
            Some(readings) => readings.iter().all(|reading| below(reading, prefix)),
            None => false,
        };
        // A longer one is made of a request, and no grant that was read.
        if prefix.len() < Self::KEPT_BYTES {
            let found = || Arc::new(readings(path, Self::KEPT_BYTES));
            all(self.0.get_or_init(found))
        } else {
            all(&readings(path, usize::MAX))
        }
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

/// What a path is once it was decoded so often and its dots were followed or not; so many bytes of each. `None`
/// where servers decode it in different ways.
fn readings(path: &str, keep: usize) -> Option<Vec<Vec<u8>>> {
    let mut kept = BTreeSet::new();
    if !path.contains(['%', ';', '\\']) && !path.contains("//") {
        return Some(Vec::new());
    }
    // A server may follow dots, and leave parameters out, each time, at the end, or never: what is one
    // segment in one of these readings is two in another, once that is decoded.
    let mut readings = BTreeSet::from([path.to_owned()]);
    for _ in 0..DECODINGS {
        let mut further = BTreeSet::new();
        for reading in &readings {
            let decoded = decoded(reading)?;
            for parameters in [true, false] {
                let followed = followed(&decoded, parameters);
                kept.insert(followed.as_bytes()[..followed.len().min(keep)].to_vec());
                further.insert(followed);
            }
            further.insert(decoded);
        }
        readings = further;
    }
    Some(kept.into_iter().collect())
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
    while let Some(first) = rest.chars().next() {
        if first == '%' && is_wide_escape(rest) {
            return None;
        }
        match escape(rest) {
            Some(byte) if first == '%' => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            _ => {
                let (taken, left) = rest.split_at(first.len_utf8());
                bytes.extend_from_slice(taken.as_bytes());
                rest = left;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// The path as a liberal server might read it: backslashes taken for slashes, several slashes for one, dot
/// segments followed, and parameters (`;x`) kept, or left out before that.
fn followed(path: &str, parameters: bool) -> String {
    let text = path.replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        let named = match parameters {
            true => segment,
            false => segment.split(';').next().unwrap_or_default(),
        };
        match named {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let end = if text.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", segments.join("/"))
}

/// Whether a path is the prefix itself, or goes on below it.
pub(super) fn below(path: impl AsRef<[u8]>, prefix: &str) -> bool {
    match path.as_ref().strip_prefix(prefix.as_bytes()) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with(b"/"),
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

    /// What is kept of the readings decides as all of them do.
    #[test]
    fn what_is_kept_of_a_path_decides_as_the_whole() {
        let long = "/b".repeat(3_500);
        for path in [
            "/a/b".to_owned(),
            "/a/b;c/d".into(),
            "/a//b".into(),
            "/a/%2e%2e/b".into(),
            "/a/b/%252e%252e/c".into(),
            "/a/x;%252f..%252f..%252fadmin".into(),
            "/a/%25ff/b".into(),
            "/a/%u002e".into(),
            format!("/a{long}"),
            format!("/a{long};/../%252e%252e"),
        ] {
            let target = target(&format!("http://a.example{path}"));
            let whole = readings(target.path(), usize::MAX);
            let prefixes = ["/a", "/a/", "/a/b", "/a/b/", "/b", "/admin"];
            let prefixes = prefixes.map(str::to_owned).into_iter().chain([
                format!("/a{}", &long[..2_000]),
                format!("/a{}", &long[..6_142]),
                format!("/a{}", &long[..6_144]),
                format!("/a{long}"),
            ]);
            for prefix in prefixes {
                let expected = below(target.path(), &prefix)
                    && whole
                        .as_ref()
                        .is_some_and(|whole| whole.iter().all(|reading| below(reading, &prefix)));
                assert_eq!(target.is_below(&prefix), expected, "{path} {prefix}");
                // Once they are known, too; also of one that is cloned.
                assert_eq!(
                    target.clone().is_below(&prefix),
                    expected,
                    "{path} {prefix}"
                );
            }
        }
        // To have been compared makes it no other.
        let (one, other) = (
            target("http://a.example/a/b;c"),
            target("http://a.example/a/b;c"),
        );
        assert!(one.is_below("/a"));
        assert_eq!(one, other);
    }
}
