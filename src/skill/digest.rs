//! Which skill: digests and references.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// Identifies exactly what was loaded: SHA-256 over the component's bytes; where there is a
/// `skill.toml`, SHA-256 over the component's 32-byte digest followed by the manifest's bytes. A
/// manifest that asks for more thus makes another skill.
///
/// Reads and writes as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

const PREFIX: &str = "sha256:";
/// How long it is when it is written.
const WRITTEN: usize = PREFIX.len() + 64;

impl Digest {
    /// The digest of a lone component. The same as `sha256sum skill.wasm` prints.
    pub fn of_component(component: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(component).into())
    }

    /// The digest of a component of this digest together with the bytes of its `skill.toml`.
    pub fn with_manifest(self, manifest: &[u8]) -> Self {
        let mut hasher = sha2::Sha256::new();
        hasher.update(self.0);
        hasher.update(manifest);
        Digest(hasher.finalize().into())
    }

    /// The 64 hexadecimal digits alone.
    pub fn hex(&self) -> String {
        self.written(&mut [0; WRITTEN])[PREFIX.len()..].to_owned()
    }

    /// As it is written, in there.
    fn written<'a>(&self, room: &'a mut [u8; WRITTEN]) -> &'a str {
        let (prefix, digits) = room.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        hex::encode_to_slice(self.0, digits).expect("two digits for each byte");
        std::str::from_utf8(room).expect("digits are ASCII")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written(&mut [0; WRITTEN]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest; write `sha256:` and 64 hexadecimal digits")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        match text
            .strip_prefix(PREFIX)
            .map(|digits| hex::decode_to_slice(digits, &mut bytes))
        {
            Some(Ok(())) => Ok(Digest(bytes)),
            _ => Err(ParseDigestError(text.to_owned())),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.written(&mut [0; WRITTEN]))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A reference to a skill: `name`, `name@version`, or a digest.
///
/// ```
/// use skillhost::skill::SkillRef;
///
/// let reference: SkillRef = "csv-query@1.2.0".parse().unwrap();
/// assert_eq!(reference.to_string(), "csv-query@1.2.0");
/// assert!("../csv".parse::<SkillRef>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SkillRef {
    /// By name; the highest version where none is given.
    Name {
        /// The name.
        name: String,
        /// The exact version.
        version: Option<String>,
    },
    /// By digest.
    Digest(Digest),
}

/// A text that is no reference to a skill.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a reference to a skill; write `name`, `name@version`, or a digest `sha256:…`"
)]
pub struct ParseSkillRefError(String);

impl FromStr for SkillRef {
    type Err = ParseSkillRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("sha256:") {
            return text
                .parse()
                .map(SkillRef::Digest)
                .map_err(|_| ParseSkillRefError(text.to_owned()));
        }
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let versioned = version.is_none_or(|version| semver::Version::parse(version).is_ok());
        if !is_name(name) || !versioned {
            return Err(ParseSkillRefError(text.to_owned()));
        }
        Ok(SkillRef::Name {
            name: name.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

/// What [`is_name`] asks for, in words: a skill's name is …
pub(crate) const NAME_RULE: &str =
    "1 to 64 of a-z, 0-9 and -, with no hyphen first, last or after another";

/// A skill's name: 1 to 64 of `a-z`, `0-9` and `-`, with no hyphen first, last or after another.
/// The public Agent Skills format has the same rule.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

impl fmt::Display for SkillRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SkillRef::Name {
                name,
                version: Some(version),
            } => write!(f, "{name}@{version}"),
            SkillRef::Name {
                name,
                version: None,
            } => f.write_str(name),
            SkillRef::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Digest> for SkillRef {
    fn from(digest: Digest) -> Self {
        SkillRef::Digest(digest)
    }
}

/// A text that does not parse becomes a name that no skill has, so that the request ends as "not
/// loaded" and says which text it was.
impl From<&str> for SkillRef {
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| SkillRef::Name {
            name: text.to_owned(),
            version: None,
        })
    }
}

impl Serialize for SkillRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SkillRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_component_has_the_digest_that_sha256sum_prints() {
        assert_eq!(
            Digest::of_component(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_manifest_makes_another_skill() {
        let lone = Digest::of_component(b"abc");
        assert_ne!(lone, lone.with_manifest(b""));
        assert_ne!(lone.with_manifest(b"a"), lone.with_manifest(b"b"));
    }

    #[test]
    fn references_come_back() {
        let digest = Digest::of_component(b"").to_string();
        for text in ["a", "a-b@1.0.0", "a@1.0.0-rc.1", digest.as_str()] {
            assert_eq!(text.parse::<SkillRef>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "A",
            "-a",
            "a-",
            "a--b",
            "a@",
            "a@1",
            "a/b",
            "sha256:12",
            "a@1.0.0@2",
        ] {
            assert!(text.parse::<SkillRef>().is_err(), "{text}");
        }
    }
}
