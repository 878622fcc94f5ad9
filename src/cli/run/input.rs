//! The input of a tool, from what was typed.

use serde_json::{Map, Value};

use skillhost::grant::shell_word;
use skillhost::skill::Tool;
use skillhost::text::{named, printable};

use super::args::{Argument, ArgumentValue};
use crate::cli::complaint::Complaint;

/// The most levels of JSON within JSON that are read.
const MAX_LEVELS: usize = 127;

/// The JSON object in some bytes; `name` says where they are from.
///
/// # Errors
/// Where it is none.
pub fn object(bytes: &[u8], name: &str) -> anyhow::Result<Map<String, Value>> {
    if bytes.trim_ascii().is_empty() {
        let message = format!("{name} is empty, and a tool's input is a JSON object");
        let hint = "write {} where it takes nothing; --arg NAME=VALUE sets single fields";
        return Err(Complaint::usage(message).hint(hint).into());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(Complaint::usage(format!(
            "{name} is of type {}, and a tool's input is a JSON object",
            kind(&other)
        ))
        .hint("write such as '{\"text\": \"to be\"}', or --arg text='to be'")
        .into()),
        // The library has a bound, and no other way to say that it was met.
        Err(error) if error.to_string().starts_with("recursion limit") => {
            let message =
                format!("{name} is nested too deep: at most {MAX_LEVELS} levels are read");
            Err(Complaint::usage(message).into())
        }
        Err(error) => {
            let complaint = Complaint::usage(format!("{name} is not JSON: {error}"));
            let complaint = match place(bytes, &error) {
                Some(place) => complaint.detail(place),
                None => complaint,
            };
            let file = name == "--input" && std::str::from_utf8(bytes).is_ok_and(looks_like_file);
            Err(if file {
                let path = String::from_utf8_lossy(bytes);
                complaint.hint(format!("a file is named with `@`: --input @{path}"))
            } else {
                complaint.hint("fields can be given without JSON: --arg NAME=VALUE")
            }
            .into())
        }
    }
}

fn looks_like_file(text: &str) -> bool {
    !text.trim_start().starts_with(['{', '[']) && std::path::Path::new(text).is_file()
}

/// The line that an error is on, and a mark below the place.
fn place(bytes: &[u8], error: &serde_json::Error) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().nth(error.line().checked_sub(1)?)?;
    if line.chars().count() > 100 {
        return None;
    }
    // The column counts bytes, from 1; an end that comes too early is at 0 of the next line.
    let before = line.get(..error.column().saturating_sub(1).min(line.len()))?;
    Some(format!("{line}\n{}^", " ".repeat(before.chars().count())))
}

/// Sets fields by the arguments, each read as the tool's schema says, where there is one. What
/// cannot be read so stays a text, for the schema to refuse; then there is a hint for it.
pub fn merge(
    input: &mut Map<String, Value>,
    arguments: Vec<Argument>,
    schema: Option<&Value>,
) -> Vec<String> {
    let mut hints = Vec::new();
    for Argument { key, value } in arguments {
        let value = match value {
            ArgumentValue::Json(value) => value,
            ArgumentValue::Text(text) => {
                let (value, hint) = read(&key, text, schema);
                hints.extend(hint);
                value
            }
        };
        input.insert(key, value);
    }
    hints
}

/// What was meant by items that are written with commas between them.
fn items_of(text: &str, of: Option<&str>) -> Vec<Value> {
    let item = |written: &str| match serde_json::from_str(written) {
        Ok(value) if of.is_some_and(|of| is_of(&value, of)) => value,
        _ => Value::String(written.to_owned()),
    };
    text.split(',')
        .map(|written| item(written.trim()))
        .collect()
}

fn read(key: &str, text: String, schema: Option<&Value>) -> (Value, Option<String>) {
    let mut types = Vec::new();
    let declared = schema.and_then(|root| Some((root, root.get("properties")?.get(key)?)));
    if let Some((root, field)) = declared {
        collect_types(root, field, 8, &mut types);
    }
    let has = |kind: &str| types.contains(&kind);
    // Whoever writes a list or an object for a field that takes anything means one.
    if declared.is_some()
        && types.is_empty()
        && text.trim_start().starts_with(['[', '{'])
        && let Ok(value) = serde_json::from_str(&text)
    {
        return (value, None);
    }
    if types.is_empty() || types.iter().all(|kind| matches!(*kind, "string" | "null")) {
        return (Value::String(text), None);
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if types.iter().any(|kind| is_of(&value, kind)) => (value, None),
        _ if has("string") => (Value::String(text), None),
        // Another number than it takes, of which the schema says more than of a text.
        Ok(value) if value.is_number() && (has("integer") || has("number")) => (value, None),
        Err(error) if has("array") && text.trim_start().starts_with('[') => (
            Value::String(text),
            Some(format!("it begins like a list, and is no JSON: {error}")),
        ),
        Err(error) if has("object") && text.trim_start().starts_with('{') => (
            Value::String(text),
            Some(format!("it begins like an object, and is no JSON: {error}")),
        ),
        _ if has("array") => {
            let of = declared.and_then(|(_, field)| field.get("items")?.get("type")?.as_str());
            let items = Value::Array(items_of(&text, of));
            let example = example(&format!("{key}={items}"), "'NAMES=[\"a\", \"b\"]'");
            let hint = format!("a list is written as JSON: --arg {example}");
            (Value::String(text), Some(hint))
        }
        _ if has("object") => {
            let example = example(&format!("{key}={{\"name\": 1}}"), "'KEY={\"name\": 1}'");
            let hint = format!("an object is written as JSON: --arg {example}");
            (Value::String(text), Some(hint))
        }
        _ => (Value::String(text), None),
    }
}

/// An argument to be typed; where it cannot be shown as it is, another one.
fn example(argument: &str, otherwise: &str) -> String {
    if argument.len() <= 1_000 && printable(argument, false) == argument {
        shell_word(argument).into_owned()
    } else {
        otherwise.to_owned()
    }
}

/// The fields that are named in a hint.
const MOST_FIELDS: usize = 40;

/// A hint where the input has a field that the tool does not know.
pub fn unknown(input: &Map<String, Value>, schema: &Value) -> Option<String> {
    let known = schema.get("properties")?.as_object()?;
    input.keys().find(|key| !known.contains_key(*key))?;
    // Where others are taken, too, they are not at fault.
    let open = schema.get("additionalProperties") != Some(&Value::Bool(false));
    if open || schema.get("patternProperties").is_some() {
        return None;
    }
    if known.is_empty() {
        return Some("it takes no fields".to_owned());
    }
    let fields = known.keys().take(MOST_FIELDS);
    let fields: Vec<String> = fields
        .map(|field| format!("`{}`", named(field, 100)))
        .collect();
    let more = match known.len() - fields.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!("its fields are: {}{more}", fields.join(", ")))
}

/// A hint where a text was typed in the place of the tool, and may be its argument: no tool has a name like that.
pub fn meant(text: &str, tool: &Tool) -> Option<String> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if text.chars().all(of_name) {
        return None;
    }
    let schema = &tool.input_schema;
    let known = schema.get("properties")?.as_object()?;
    let required: Vec<&str> = list(schema, "required").filter_map(Value::as_str).collect();
    let field = match required.as_slice() {
        [only] => *only,
        _ => known.keys().next().filter(|_| known.len() == 1)?.as_str(),
    };
    let argument = example(
        &format!("{field}={text}"),
        &format!("{}=TEXT", named(field, 100)),
    );
    Some(format!(
        "an argument of a tool is given with `--arg {argument}`"
    ))
}

/// The types that a schema takes, as far as it says so in a plain way.
fn collect_types<'a>(root: &'a Value, schema: &'a Value, depth: u32, types: &mut Vec<&'a str>) {
    // A schema can refer to itself.
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    match schema.get("type") {
        Some(Value::String(kind)) => return types.push(kind),
        Some(Value::Array(kinds)) => return types.extend(kinds.iter().filter_map(Value::as_str)),
        _ => {}
    }
    if let Some(value) = schema.get("const") {
        types.push(kind(value));
    }
    for value in list(schema, "enum") {
        types.push(kind(value));
    }
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str)
        && let Some(target) = pointer
            .strip_prefix('#')
            .and_then(|place| root.pointer(place))
    {
        collect_types(root, target, depth, types);
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        for alternative in list(schema, keyword) {
            collect_types(root, alternative, depth, types);
        }
    }
}

fn list<'a>(schema: &'a Value, keyword: &str) -> impl Iterator<Item = &'a Value> {
    schema
        .get(keyword)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The type of a value, as JSON Schema calls it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(value: &Value, wanted: &str) -> bool {
    kind(value) == wanted || (wanted == "number" && value.is_number())
        // 3.0 is an integer to JSON Schema.
        || (wanted == "integer" && value.as_f64().is_some_and(|number| number.fract() == 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "maybe": {"type": ["string", "null"]},
                "top": {"type": "integer"},
                "ratio": {"type": "number"},
                "deep": {"type": ["boolean", "null"]},
                "list": {"type": "array"},
                "numbers": {"type": "array", "items": {"type": "integer"}},
                "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "mode": {"$ref": "#/$defs/Mode"},
                "maybe_mode": {"anyOf": [{"$ref": "#/$defs/Mode"}, {"type": "null"}]},
                "any": true,
                "loop": {"$ref": "#/properties/loop"},
            },
            "$defs": {"Mode": {"enum": ["a", "1"]}},
        })
    }

    fn value(key: &str, text: &str) -> Value {
        read(key, text.to_owned(), Some(&schema())).0
    }

    #[test]
    fn text_is_taken_as_it_is_and_the_rest_is_json() {
        assert_eq!(value("text", "12"), json!("12"));
        assert_eq!(value("maybe", "null"), json!("null"));
        assert_eq!(value("top", "12"), json!(12));
        assert_eq!(value("top", "12.0"), json!(12.0));
        assert_eq!(value("ratio", "12"), json!(12));
        assert_eq!(value("deep", "true"), json!(true));
        assert_eq!(value("deep", "null"), json!(null));
        assert_eq!(value("list", "[1, \"a\"]"), json!([1, "a"]));
        assert_eq!(value("either", "12"), json!(12));
        assert_eq!(value("either", "[12]"), json!("[12]"));
        assert_eq!(value("mode", "1"), json!("1"));
        assert_eq!(value("maybe_mode", "a"), json!("a"));
        assert_eq!(value("any", "12"), json!("12"));
        assert_eq!(value("any", "{\"a\": 1}"), json!({"a": 1}));
        assert_eq!(value("any", "[1"), json!("[1"));
        assert_eq!(value("unknown", "[1]"), json!("[1]"));
        assert_eq!(value("loop", "12"), json!("12"));
        assert_eq!(value("unknown", "12"), json!("12"));
    }

    #[test]
    fn what_is_of_another_type_is_left_to_the_schema() {
        assert_eq!(value("top", "many"), json!("many"));
        assert_eq!(value("top", "1.5"), json!(1.5));
        assert_eq!(value("top", "true"), json!("true"));
        assert_eq!(value("list", "1.5"), json!("1.5"));
        let (value, hint) = read("list", "a".into(), Some(&schema()));
        assert_eq!(value, json!("a"));
        assert_eq!(
            hint.as_deref(),
            Some("a list is written as JSON: --arg 'list=[\"a\"]'")
        );
        for (key, typed, meant) in [
            ("list", "a, b", r#"'list=["a","b"]'"#),
            ("list", "1,2", r#"'list=["1","2"]'"#),
            ("numbers", "1,2", "'numbers=[1,2]'"),
            ("numbers", "1,b", r#"'numbers=[1,"b"]'"#),
        ] {
            let hint = read(key, typed.into(), Some(&schema())).1.unwrap();
            assert!(hint.ends_with(&format!("--arg {meant}")), "{hint}");
        }
        // Whatever was typed can be typed again.
        let hint = |text: &str| read("list", text.into(), Some(&schema())).1.unwrap();
        assert!(hint("a`b").ends_with("--arg 'list=[\"a`b\"]'"));
        for text in ["\u{202e}", &"x".repeat(2_000)] {
            assert!(hint(text).ends_with("--arg 'NAMES=[\"a\", \"b\"]'"));
        }
        let (value, hint) = read("list", "[\"a\"".into(), Some(&schema()));
        assert_eq!(value, json!("[\"a\""));
        assert!(hint.is_some_and(|hint| hint.starts_with("it begins like a list")));
    }

    #[test]
    fn fields_that_are_not_known_are_said() {
        let input = |key: &str| object(format!("{{\"{key}\": 1}}").as_bytes(), "--input").unwrap();
        let of = |fields: usize| -> Value {
            let names = (0..fields).map(|number| (format!("f{number:03}"), json!(true)));
            json!({"properties": names.collect::<Map<_, _>>(), "additionalProperties": false})
        };
        assert_eq!(unknown(&input("f000"), &of(2)), None);
        assert_eq!(unknown(&input("a"), &of(0)).unwrap(), "it takes no fields");
        assert_eq!(
            unknown(&input("a"), &of(2)).unwrap(),
            "its fields are: `f000`, `f001`"
        );
        // Others are taken, too, and so are not at fault.
        assert_eq!(unknown(&input("a"), &json!({"properties": {}})), None);
        let many = unknown(&input("a"), &of(MOST_FIELDS + 3)).unwrap();
        assert!(many.ends_with("`f039`, and 3 more"), "{many}");
    }

    #[test]
    fn arguments_go_over_the_input() {
        let mut input = object(br#"{"text": "a", "top": 1}"#, "--input").unwrap();
        let argument = |key: &str, value| Argument {
            key: key.to_owned(),
            value,
        };
        let arguments = vec![
            argument("top", ArgumentValue::Text("2".into())),
            argument("any", ArgumentValue::Json(json!({"a": []}))),
        ];
        let hints = merge(&mut input, arguments, Some(&schema()));
        assert_eq!(hints, Vec::<String>::new());
        assert_eq!(
            Value::Object(input),
            json!({"text": "a", "top": 2, "any": {"a": []}})
        );
    }

    #[test]
    fn what_is_no_object_is_said() {
        let complaint = |text: &str| {
            let error = object(text.as_bytes(), "--input").unwrap_err();
            error.downcast::<Complaint>().unwrap()
        };
        assert!(complaint("[]").message.contains("of type array"));
        let complaint = complaint("{\"a\": é}");
        assert!(complaint.message.contains("is not JSON"));
        assert_eq!(complaint.details, ["{\"a\": é}\n      ^"]);
    }
}
