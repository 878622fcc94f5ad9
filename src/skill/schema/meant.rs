//! Which of several alternatives was meant by a value that fits none of them.
//!
//! Of an `anyOf` or `oneOf`, the library says no more than that. But mostly the alternatives are the variants of an enum,
//! and the value says by a tag, its type or its keys which of them it is to be: then it is that one's error that helps.

use std::fmt;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::paths::Location;
use serde_json::Value;

use crate::text::{closest, said_of};

/// What is wrong with a value.
pub(super) enum Wrong<'e> {
    /// This, by the alternative that was meant.
    Error(&'e ValidationError<'static>),
    /// What it says to tell the alternatives apart.
    Tag(UnknownTag<'e>),
}

/// A value that tells alternatives apart, and is that of none of them.
pub(super) struct UnknownTag<'e> {
    pub place: &'e Location,
    given: &'e Value,
    known: Vec<&'e Value>,
}

/// How many errors are looked at, as each is compared with all others.
const MOST_ERRORS: usize = 1_000;
/// Among how many tags the one is looked for that may have been meant.
const MOST_COMPARED: usize = 1_000;
/// How many tags are named.
const MOST_NAMED: usize = 12;
/// How long they may be together, in bytes, where it is more than one.
const MOST_NAMED_BYTES: usize = 300;

impl fmt::Display for UnknownTag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = said_of(self.given, 60);
        write!(f, "{given} is not one of ")?;
        let named = self.named();
        let more = self.known.len() - named.len();
        for (at, tag) in named.iter().enumerate() {
            let before = match at {
                0 => "",
                _ if at + 1 == named.len() && more == 0 => " or ",
                _ => ", ",
            };
            write!(f, "{before}{tag}")?;
        }
        match more {
            0 => {}
            1 => write!(f, " or 1 other")?,
            _ => write!(f, " or {more} others")?,
        }
        match self.close() {
            Some(close) => write!(f, "; did you mean {}?", said_of(close, 60)),
            None => Ok(()),
        }
    }
}

impl UnknownTag<'_> {
    /// The first of the tags, as they are shown.
    fn named(&self) -> Vec<String> {
        let mut bytes = 0;
        let tags = self.known.iter().take(MOST_NAMED);
        let tags = tags.map(|tag| said_of(tag, 60)).enumerate();
        tags.take_while(|(at, tag)| {
            bytes += tag.len();
            *at == 0 || bytes <= MOST_NAMED_BYTES
        })
        .map(|(_, tag)| tag)
        .collect()
    }

    /// The one that may have been meant.
    fn close(&self) -> Option<&Value> {
        let given = self.given.as_str()?;
        // A skill's schema may have any number.
        let compared = self.known.iter().take(MOST_COMPARED).copied();
        let close = closest(given, compared.clone().filter_map(Value::as_str))?;
        compared.into_iter().find(|tag| tag.as_str() == Some(close))
    }
}

/// What is said of a value that is none of an enum's.
pub(super) fn not_among(given: &Value, options: &Value) -> Option<String> {
    let known: Vec<&Value> = options.as_array()?.iter().collect();
    let place = &Location::new();
    let tag = UnknownTag {
        place,
        given,
        known,
    };
    Some(tag.to_string())
}

/// What is wrong by the alternative that was meant, where an error is about alternatives and that can be told.
pub(super) fn meant<'e>(error: &'e ValidationError<'_>) -> Option<Wrong<'e>> {
    let (Kind::AnyOf { context } | Kind::OneOfNotValid { context }) = error.kind() else {
        return None;
    };
    if context.iter().map(Vec::len).sum::<usize>() > MOST_ERRORS {
        return None;
    }
    let base = depth(error);
    let is_another = |errors: &&Vec<ValidationError<'_>>| {
        let mut errors = errors.iter();
        errors.any(|error| is_of_another_type(error, base) || wrong_tag(error, base).is_some())
    };
    let others_keys = |errors: &&Vec<ValidationError<'_>>| {
        let mut errors = errors.iter();
        errors.any(|error| is_about_keys(error) && depth(error) == base)
    };
    let possible: Vec<_> = context
        .iter()
        .filter(|errors| !is_another(errors))
        .collect();
    let errors = match possible.as_slice() {
        [] => return unknown_tag(context, base),
        [only] => *only,
        several => {
            if let Some(missing) = missing_in_all(several, base) {
                return Some(Wrong::Error(missing));
            }
            let mut fitting = several.iter().filter(|errors| !others_keys(errors));
            match (fitting.next(), fitting.next()) {
                (Some(only), None) => *only,
                _ => return None,
            }
        }
    };
    let first = errors.first()?;
    Some(meant(first).unwrap_or(Wrong::Error(first)))
}

fn depth(error: &ValidationError<'_>) -> usize {
    error.instance_path().segments().count()
}

/// The error of a key that each of these wants and that is not there.
fn missing_in_all<'e>(
    alternatives: &[&'e Vec<ValidationError<'static>>],
    base: usize,
) -> Option<&'e ValidationError<'static>> {
    let (first, others) = alternatives.split_first()?;
    let missing = |error: &'e ValidationError<'static>| match error.kind() {
        Kind::Required { property } if depth(error) == base => Some(property),
        _ => None,
    };
    first.iter().find(|error| {
        missing(error).is_some_and(|wanted| {
            let lacks = |error| missing(error) == Some(wanted);
            others.iter().all(|errors| errors.iter().any(lacks))
        })
    })
}

/// Whether an alternative is for values of another kind than this one is of.
fn is_of_another_type(error: &ValidationError<'_>, base: usize) -> bool {
    depth(error) == base
        && matches!(
            error.kind(),
            Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. }
        )
}

/// The value that an alternative is told apart by, where another one is there.
fn wrong_tag<'e>(error: &'e ValidationError<'_>, base: usize) -> Option<&'e Value> {
    let tag = match error.kind() {
        Kind::Constant { expected_value } => &**expected_value,
        Kind::Enum { options } => match options.as_array()?.as_slice() {
            [only] => only,
            _ => return None,
        },
        _ => return None,
    };
    (depth(error) == base + 1).then_some(tag)
}

fn is_about_keys(error: &ValidationError<'_>) -> bool {
    matches!(
        error.kind(),
        Kind::Required { .. }
            | Kind::AdditionalProperties { .. }
            | Kind::UnevaluatedProperties { .. }
    )
}

/// What is said of a tag that no alternative has, where they are told apart by the same one.
fn unknown_tag<'e>(context: &'e [Vec<ValidationError<'static>>], base: usize) -> Option<Wrong<'e>> {
    let mut found: Option<(&ValidationError<'_>, Vec<&Value>)> = None;
    for errors in context {
        let tagged = errors
            .iter()
            .find_map(|error| Some((error, wrong_tag(error, base)?)));
        match (tagged, &mut found) {
            (Some((error, tag)), None) => found = Some((error, vec![tag])),
            (Some((error, tag)), Some((first, known)))
                if error.instance_path() == first.instance_path() =>
            {
                known.push(tag);
            }
            // A value of this type is none of that alternative's.
            (None, _) if errors.iter().any(|error| is_of_another_type(error, base)) => {}
            _ => return None,
        }
    }
    let (error, known) = found?;
    Some(Wrong::Tag(UnknownTag {
        place: error.instance_path(),
        given: error.instance(),
        known,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Where something is wrong, and what, by a schema that may have alternatives at its top or in `is`.
    fn said(alternatives: &Value, value: &Value) -> String {
        let schema = json!({"properties": {"is": alternatives}});
        let validator = jsonschema::validator_for(&schema).unwrap();
        let error = validator.validate(value).unwrap_err();
        match meant(&error) {
            Some(Wrong::Error(error)) => format!("{}: {error}", error.instance_path()),
            Some(Wrong::Tag(tag)) => format!("{}: {tag}", tag.place),
            None => "?".to_owned(),
        }
    }

    #[test]
    fn the_variant_is_told_by_its_tag() {
        let of = |tag: &str| {
            json!({
                "type": "object",
                "properties": {"op": {"type": "string", "const": tag}, "column": {"type": "string"}},
                "required": ["op", "column"],
            })
        };
        let schema = json!({"oneOf": [of("sum"), of("count"), {"type": "null"}]});
        let said = |value| super::tests::said(&schema, &json!({ "is": value }));
        assert_eq!(
            said(json!({"op": "count", "column": 1})),
            r#"/is/column: 1 is not of type "string""#
        );
        assert_eq!(
            said(json!({"op": "sum"})),
            r#"/is: "column" is a required property"#
        );
        assert_eq!(
            said(json!({"op": "summ"})),
            r#"/is/op: "summ" is not one of "sum" or "count"; did you mean "sum"?"#
        );
        assert_eq!(said(json!(7)), "?");
        let schema = json!({"oneOf": [of("sum"), of("count")]});
        assert_eq!(
            super::tests::said(&schema, &json!({"is": {"column": "a"}})),
            r#"/is: "op" is a required property"#
        );
    }

    #[test]
    fn the_variant_is_told_by_its_key() {
        let of = |key: &str| {
            json!({
                "type": "object",
                "properties": {key: {"type": "object", "properties": {"column": {"type": "string"}}}},
                "required": [key],
                "additionalProperties": false,
            })
        };
        let schema =
            json!({"oneOf": [{"type": "string", "enum": ["all", "none"]}, of("sum"), of("count")]});
        let said = |value| super::tests::said(&schema, &json!({ "is": value }));
        assert_eq!(
            said(json!({"count": {"column": 1}})),
            r#"/is/count/column: 1 is not of type "string""#
        );
        assert_eq!(said(json!({"summ": {}})), "?");
        assert_eq!(said(json!("al")), "?");
    }

    /// Comparing them with each other would take seconds.
    #[test]
    fn of_very_many_errors_none_is_picked() {
        let missing = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
            let alternative = json!({"required": names});
            said(
                &json!({"anyOf": [alternative, alternative]}),
                &json!({"is": {}}),
            )
        };
        assert_eq!(
            missing(MOST_ERRORS / 2),
            "/is: \"n0\" is a required property"
        );
        assert_eq!(missing(MOST_ERRORS / 2 + 1), "?");
    }

    #[test]
    fn alternatives_within_alternatives_are_gone_through() {
        let inner = json!({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]});
        let schema = json!({"anyOf": [{"type": "array", "items": inner}, {"type": "null"}]});
        assert_eq!(
            said(&schema, &json!({"is": [1, null, 0]})),
            "/is/2: 0 is less than the minimum of 1"
        );
        assert_eq!(
            said(&schema, &json!({"is": [1, "a"]})),
            "/is/1: \"a\" is not valid under any of the schemas listed in the 'anyOf' keyword"
        );
    }
}
