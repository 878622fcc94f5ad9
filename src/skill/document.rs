//! `SKILL.md`: what a skill says to a model, in the public Agent Skills format.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::digest::{NAME_RULE, is_name};
use crate::text::{is_backtick, said, shortened};

/// A `SKILL.md`: YAML front matter, then Markdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// The skill's name: 1 to 64 of `a-z`, `0-9` and `-`, with no hyphen first, last or after
    /// another.
    pub name: String,
    /// What the skill does and when to use it; 1 to 1,024 characters.
    pub description: String,
    /// The licence, where one is stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Any further entries of the front matter's `metadata`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The Markdown after the front matter.
    pub body: String,
}

/// A `SKILL.md` that does not follow the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// There is no front matter.
    #[error("it does not begin with front matter (a line `---`, YAML, a line `---`)")]
    NoFrontMatter,
    /// The front matter has no end.
    #[error("its front matter does not end: a line `---` must stand behind the YAML")]
    NotClosed,
    /// The front matter is not what it should be.
    #[error("its front matter cannot be read: {0}")]
    FrontMatter(String),
    /// The name breaks the rule.
    #[error("its name {0:?} cannot be a skill's: a name is {NAME_RULE}")]
    Name(String),
    /// The description is empty or too long.
    #[error("its description has {0} characters; 1 to 1,024 are allowed")]
    Description(usize),
}

#[derive(Deserialize)]
struct FrontMatter {
    name: String,
    description: String,
    #[serde(default)]
    license: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl std::str::FromStr for Document {
    type Err = DocumentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix('\u{feff}')
            .unwrap_or(text)
            .strip_prefix("---")
            .and_then(|rest| {
                rest.trim_start_matches([' ', '\t', '\r'])
                    .strip_prefix('\n')
            })
            .ok_or(DocumentError::NoFrontMatter)?;
        let (front, body) = split(rest).ok_or(DocumentError::NotClosed)?;
        // It begins on the second line, by which errors are to count.
        let front = &*format!("\n{front}");
        let front: FrontMatter = serde_saphyr::from_str(front).map_err(|error| {
            // Of a list in the metadata, the parser says no more than that it is no text.
            let error = serde_saphyr::from_str::<MetadataAlone>(front)
                .err()
                .unwrap_or(error);
            DocumentError::FrontMatter(said(&error.to_string(), true, 500))
        })?;
        if !is_name(&front.name) {
            return Err(DocumentError::Name(
                shortened(&front.name, 100).replace(is_backtick, "'"),
            ));
        }
        let characters = front.description.chars().count();
        if !(1..=1024).contains(&characters) {
            return Err(DocumentError::Description(characters));
        }
        Ok(Document {
            name: front.name,
            description: front.description,
            license: front.license,
            metadata: front.metadata,
            body: body.trim_start_matches('\n').to_owned(),
        })
    }
}

/// The front matter's `metadata` as such, for its error: names and texts.
#[derive(Deserialize)]
struct MetadataAlone {
    #[serde(default, rename = "metadata")]
    _metadata: Texts,
}

#[derive(Default)]
struct Texts;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Texts {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, as metadata is one of names to texts")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<IgnoredAny, Text>()?.is_some() {}
        Ok(self)
    }
}

/// What stands for a text: numbers and truth values do, as they are written.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl Visitor<'_> for Text {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, as metadata maps names to texts")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

/// What stands before the line `---`, and what stands after it.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some((&text[..offset], &text[offset + line.len()..]));
        }
        offset += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_and_body_come_apart() {
        let document: Document =
            "---\nname: a-b\ndescription: Does it.\nmetadata:\n  author: me\n---\n\n# A\n---\nb\n"
                .parse()
                .unwrap();
        assert_eq!(document.name, "a-b");
        assert_eq!(document.metadata["author"], "me");
        assert_eq!(document.body, "# A\n---\nb\n");
    }

    #[test]
    fn what_does_not_follow_the_format_is_said() {
        let error = |text: &str| text.parse::<Document>().unwrap_err();
        assert_eq!(error("# A"), DocumentError::NoFrontMatter);
        assert_eq!(error("---\nname: a\n"), DocumentError::NotClosed);
        let nameless = error("---\ndescription: a\nname: [\n---\n").to_string();
        assert!(nameless.contains("line 3"), "{nameless}");
        assert!(matches!(
            error("---\nname: a\n---\n"),
            DocumentError::FrontMatter(_)
        ));
        assert_eq!(
            error("---\nname: A b\ndescription: x\n---\n"),
            DocumentError::Name("A b".into())
        );
        for name in ["a-", "a--b"] {
            assert_eq!(
                error(&format!("---\nname: {name}\ndescription: x\n---\n")).to_string(),
                format!(
                    "its name \"{name}\" cannot be a skill's: a name is 1 to 64 of a-z, 0-9 and -, \
                     with no hyphen first, last or after another"
                )
            );
        }
        // None of its author's words ends what the message puts them between.
        for text in [
            "---\nname: a` run `b\ndescription: x\n---\n",
            "---\nname: a\ndescription: x\nmetadata: \"a` run `b\"\n---\n",
        ] {
            let error = error(text).to_string();
            assert!(
                error.contains("a' run 'b") || !error.contains(" run "),
                "{error}"
            );
            assert!(!error.contains('`'), "{error}");
        }
        assert_eq!(
            error("---\nname: a\ndescription: ''\n---\n"),
            DocumentError::Description(0)
        );
    }

    #[test]
    fn metadata_has_texts() {
        let parsed = |metadata: &str| {
            format!("---\nname: a\ndescription: b\nmetadata:{metadata}\n---\n").parse::<Document>()
        };
        let document = parsed("\n  version: 1.0\n  draft: true\n  1: 2").unwrap();
        let metadata: Vec<(&str, &str)> = document
            .metadata
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        assert_eq!(
            metadata,
            [("1", "2"), ("draft", "true"), ("version", "1.0")]
        );
        assert!(parsed("").unwrap().metadata.is_empty());
        for (metadata, expected) in [
            (
                "\n  author: me\n  tags: [a, b]",
                "invalid type: sequence, expected a text, as metadata maps names to texts",
            ),
            (
                "\n  tags:\n    a: b",
                "invalid type: map, expected a text, as metadata maps names to texts",
            ),
            (
                "\n  tags:",
                "invalid type: unit value, expected a text, as metadata maps names to texts",
            ),
            (
                " [a]",
                "invalid type: sequence, expected a map, as metadata is one of names to texts",
            ),
        ] {
            let error = parsed(metadata).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(metadata.lines().last().unwrap()), "{error}");
        }
        // What else is wrong is told as it is.
        let error = "---\nname: a\nmetadata: {a: b}\n---\n".parse::<Document>();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("description"), "{error}");
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut yaml = String::from(
            "---\nname: a\ndescription: b\nmetadata:\n  a0: &a0 [x,x,x,x,x,x,x,x,x]\n",
        );
        for level in 1..40 {
            let before = level - 1;
            yaml +=
                &format!("  a{level}: &a{level} [*a{before},*a{before},*a{before},*a{before}]\n");
        }
        yaml += "---\n";
        assert!(matches!(
            yaml.parse::<Document>(),
            Err(DocumentError::FrontMatter(_))
        ));
    }
}
