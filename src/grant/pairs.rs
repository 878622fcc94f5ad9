//! Names with values: `{ NAME = "VALUE" }`, or `["NAME=VALUE"]` as on the command line.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads either form. A value may also be a number or a boolean.
pub(super) fn read<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Pairs)
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of names and values, or a list of texts NAME=VALUE")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some((name, Text(value))) = map.next_entry::<String, Text>()? {
            add(&mut pairs, name, value)?;
        }
        Ok(pairs)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some(Pair(name, value)) = list.next_element()? {
            add(&mut pairs, name, value)?;
        }
        Ok(pairs)
    }
}

fn add<E: Error>(
    pairs: &mut BTreeMap<String, String>,
    name: String,
    value: String,
) -> Result<(), E> {
    super::check_name(&name).map_err(E::custom)?;
    super::check_value(&value).map_err(|reason| E::custom(format!("`{name}`: {reason}")))?;
    if pairs.contains_key(&name) {
        return Err(E::custom(format!("`{name}` is granted twice")));
    }
    pairs.insert(name, value);
    Ok(())
}

struct Pair(String, String);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OnePair)
    }
}

struct OnePair;

impl Visitor<'_> for OnePair {
    type Value = Pair;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text NAME=VALUE")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Pair, E> {
        match text.split_once('=') {
            Some((name, value)) => Ok(Pair(name.to_owned(), value.to_owned())),
            None => Err(E::custom(format!(
                "there is no `=` in `{text}`; write NAME=VALUE"
            ))),
        }
    }
}

/// A scalar, as the text that the guest reads.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar).map(Text)
    }
}

struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a boolean")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

/// Either form, for the JSON Schema.
#[cfg(feature = "schema")]
pub(super) fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    super::pattern::pairs()
}

#[cfg(test)]
mod tests {
    use crate::grant::Grants;

    fn grants(text: &str) -> Result<Grants, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_say_the_same() {
        let table = grants("environment = { TZ = \"UTC\", N = 1, B = true, F = 1.5 }").unwrap();
        let list = grants("environment = [\"TZ=UTC\", \"N=1\", \"B=true\", \"F=1.5\"]").unwrap();
        assert_eq!(table, list);
        assert_eq!(
            grants("config = [\"a=b=c\"]"),
            Ok(Grants::default().config("a", "b=c"))
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, reason) in [
            ("environment = [\"TZ\"]", "there is no `=`"),
            ("environment = [\"A=1\",\n\"A=2\"]", "`A` is granted twice"),
            (
                "config = [{ depth = \"3\" }, \"name=x\"]",
                "expected a text NAME=VALUE",
            ),
            ("environment = { A = [1] }", "a text, a number or a boolean"),
            ("environment = 7", "a list of texts NAME=VALUE"),
            ("config = { \"\" = 1 }", "empty"),
            ("config = { \"a=b\" = 1 }", "`=`"),
            ("environment = { A = \"x\\u0000\" }", "NUL"),
        ] {
            let error = grants(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.contains("line "), "{text}: {error}");
        }
    }
}
