//! What is wrong with a value, in words.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};

use super::meant::not_among;
use crate::text::said_of;

/// What the library says is wrong, but where it would show a part of the schema: that has keywords of ours in it.
pub(super) fn said_of_error(error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Not { .. } => {
            format!(
                "{} is what the schema excludes",
                said_of(error.instance(), 200)
            )
        }
        Kind::Enum { options } => {
            let said = not_among(error.instance(), options);
            said.unwrap_or_else(|| said_of(error, 300))
        }
        // What may be left out is told by what it is otherwise.
        Kind::Type {
            kind: TypeKind::Multiple(types),
        } if types.contains(JsonType::Null) => {
            let mut others = types.iter().filter(|one| *one != JsonType::Null);
            match (others.next(), others.next()) {
                (Some(other), None) => format!(
                    "{} is not of type \"{other}\", nor null",
                    said_of(error.instance(), 200)
                ),
                _ => said_of(error, 300),
            }
        }
        _ => said_of(error, 300),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::skill::schema::Schema;

    #[test]
    fn an_enum_and_what_may_be_null_are_told_in_full() {
        let said = |schema: Value, value: Value| {
            Schema::new(&schema)
                .unwrap()
                .check(&value)
                .unwrap_err()
                .message
        };
        assert_eq!(
            said(
                json!({"enum": ["red", "green", "blue", "black", "white"]}),
                json!("gren")
            ),
            r#""gren" is not one of "red", "green", "blue", "black" or "white"; did you mean "green"?"#
        );
        let many: Vec<String> = (0..40).map(|n| format!("value {n} of them")).collect();
        let said_of_many = said(json!({"enum": many}), json!(true));
        assert!(said_of_many.ends_with(" or 28 others"), "{said_of_many}");
        // What was meant is said, however long they are.
        let long: Vec<String> = (0..20).map(|n| format!("{n}{}", "x".repeat(50))).collect();
        let said_of_long = said(
            json!({"enum": long}),
            json!(format!("1{}y", "x".repeat(49))),
        );
        assert!(
            said_of_long.contains(" or 15 others; did you mean \"1xxx"),
            "{said_of_long}"
        );
        assert_eq!(
            said(json!({"enum": ["", "asc"]}), json!(5)),
            r#"5 is not one of "" or "asc""#
        );
        assert_eq!(
            said(json!({"type": ["integer", "null"]}), json!("many")),
            r#""many" is not of type "integer", nor null"#
        );
    }
}
