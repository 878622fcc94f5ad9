//! Texts of a body that are bounded as they are read: of what is longer or more, nothing is kept, and nothing is to be
//! dropped where others wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::queue::{MAX_LABELS, MAX_NAME_CHARS, MAX_TAGS, check_label, has_at_most};

/// A name that may be left out: of a tool, a user, a session.
pub(super) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    match &name {
        Some(name) if !has_at_most(MAX_NAME_CHARS, name) => {
            let why = format_args!("it has more than {MAX_NAME_CHARS} characters");
            Err(D::Error::custom(why))
        }
        _ => Ok(name),
    }
}

/// Words to find a job by. Each is looked at when the job is kept.
pub(super) fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    struct Tags;

    impl<'de> Visitor<'de> for Tags {
        type Value = BTreeSet<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut tags = BTreeSet::new();
            while let Some(tag) = from.next_element()? {
                tags.insert(tag);
                if tags.len() > MAX_TAGS {
                    let why = format_args!("there are more than {MAX_TAGS}");
                    return Err(A::Error::custom(why));
                }
            }
            Ok(tags)
        }
    }

    from.deserialize_seq(Tags)
}

/// Notes of the client's own.
pub(super) fn labels<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Labels;

    impl<'de> Visitor<'de> for Labels {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut labels = BTreeMap::new();
            while let Some((name, value)) = from.next_entry::<String, String>()? {
                check_label(&name, &value).map_err(A::Error::custom)?;
                labels.insert(name, value);
                if labels.len() > MAX_LABELS {
                    let why = format_args!("there are more than {MAX_LABELS}");
                    return Err(A::Error::custom(why));
                }
            }
            Ok(labels)
        }
    }

    from.deserialize_map(Labels)
}
