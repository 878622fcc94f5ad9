//! The JSON Schema of the policy file, with descriptions for whoever writes one: those of the types are written for
//! whoever programs with them.

use serde_json::Value;

use super::Policy;

/// How often a description may send on to another.
const MOST_STEPS: usize = 4;

impl Policy {
    /// The JSON Schema of the policy file.
    pub fn json_schema() -> Value {
        let mut schema = schemars::schema_for!(Policy).to_value();
        let types = schema.get("$defs").cloned().unwrap_or_default();
        describe(&mut schema, &types);
        schema
    }
}

/// Puts descriptions for writers in the place of those for programmers.
fn describe(schema: &mut Value, types: &Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = plain(meant(text, types));
            }
            fields.values_mut().for_each(|field| describe(field, types));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| describe(item, types)),
        _ => {}
    }
}

/// What is said of a field elsewhere, where it sends there: ``See [`Type::field`].``
fn meant<'t>(text: &'t str, types: &'t Value) -> &'t str {
    let mut text = text;
    for _ in 0..MOST_STEPS {
        let place = text
            .strip_prefix("See [`")
            .and_then(|rest| rest.strip_suffix("`]."));
        let elsewhere = place.and_then(|place| {
            let (of, field) = place.split_once("::")?;
            types
                .get(of)?
                .get("properties")?
                .get(field)?
                .get("description")?
                .as_str()
        });
        match elsewhere {
            Some(elsewhere) => text = elsewhere,
            None => break,
        }
    }
    text
}

/// A text without examples of code, links, and names of modules and types before a name.
fn plain(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.trim_end();
    while let Some(at) = rest.find(['[', '`']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        rest = match link(from).or_else(|| name(from)) {
            Some((shown, behind)) => {
                plain.push_str(&shown);
                behind
            }
            None => {
                plain.push_str(&from[..1]);
                &from[1..]
            }
        };
    }
    plain + rest
}

/// The text of a link that something begins with, and what stands behind it.
fn link(text: &str) -> Option<(String, &str)> {
    let (shown, behind) = text.strip_prefix('[')?.split_once(']')?;
    let target = behind
        .strip_prefix('(')
        .and_then(|target| target.split_once(')'));
    match target {
        Some((_, behind)) => Some((plain(shown), behind)),
        None if shown.starts_with('`') => Some((plain(shown), behind)),
        None => None,
    }
}

/// The last part of a name between backticks that something begins with, and what stands behind it.
fn name(text: &str) -> Option<(String, &str)> {
    let (name, behind) = text.strip_prefix('`')?.split_once('`')?;
    let last = name.rsplit("::").next().unwrap_or(name);
    Some((format!("`{last}`"), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_programmers_is_left_out() {
        for (text, expected) in [
            ("A folder.", "A folder."),
            (
                "See [`SCRATCH`], or [a page](crate::page).",
                "See `SCRATCH`, or a page.",
            ),
            (
                "[`with`](Grants::with) keeps `Limits::fuel`.",
                "`with` keeps `fuel`.",
            ),
            (
                "What there is.\n\n```\nlet a = b::c();\n```",
                "What there is.",
            ),
            (
                "Such as `http = [\"…\"]`, [METHODS ]URL.",
                "Such as `http = [\"…\"]`, [METHODS ]URL.",
            ),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn no_description_has_anything_of_a_program() {
        fn look(schema: &Value, count: &mut usize) {
            match schema {
                Value::Object(fields) => {
                    if let Some(Value::String(text)) = fields.get("description") {
                        *count += 1;
                        for foreign in ["::", "```", "[`", "See `"] {
                            assert!(!text.contains(foreign), "{text}");
                        }
                    }
                    fields.values().for_each(|field| look(field, count));
                }
                Value::Array(items) => items.iter().for_each(|item| look(item, count)),
                _ => {}
            }
        }
        let schema = Policy::json_schema();
        let mut count = 0;
        look(&schema, &mut count);
        assert!(count > 50, "{count}");
        let said =
            |of: &str, field: &str| schema["$defs"][of]["properties"][field]["description"].clone();
        assert_eq!(said("SkillRules", "ceilings"), said("Rules", "ceilings"));
        assert_eq!(said("SkillPolicy", "rates"), said("Rules", "rates"));
    }
}
