use super::*;
use serde_json::json;

#[test]
fn each_field_has_a_line() {
    let schema = json!({
        "properties": {
            "text": {"type": "string", "description": "The text to look at, which may well be longer than a line."},
            "top": {"type": "integer", "minimum": 0, "default": 10, "description": "How many."},
            "mode": {"$ref": "#/$defs/Mode", "description": "How."},
            "where": {"type": ["array", "null"], "items": {"$ref": "#/$defs/Filter"}},
            "scores": {"type": "object", "additionalProperties": {"type": "number"}},
            "maybe": {"anyOf": [{"$ref": "#/$defs/Mode"}, {"type": "null"}]},
        },
        "required": ["text", "mode"],
        "$defs": {
            "Mode": {"oneOf": [{"const": "fast"}, {"const": "exact"}]},
            "Filter": {"type": "object", "properties": {"column": {"type": "string"}}, "required": ["column"]},
        },
    });
    let expected = r#"
  mode      "fast" | "exact", required – How.
  text      string, required – The text to look at, which
            may well be longer than a line.
  maybe     "fast" | "exact"
  scores    object of number
  top       integer ≥ 0, default 10 – How many.
  where     list of object
    column  string, required
"#;
    let plain = anstream::adapter::strip_str(&fields(&schema, Side::Input, 2, 60)).to_string();
    assert_eq!(format!("\n{plain}"), expected);
}

#[test]
fn the_fields_of_each_variant_are_shown() {
    let variant = |op: &str, field: &str| {
        json!({
            "type": "object",
            "properties": {"op": {"type": "string", "const": op}, field: {"type": "integer"}},
            "required": ["op", field],
        })
    };
    let step = json!({"oneOf": [variant("crop", "left"), variant("turn", "by")]});
    let schema = json!({
        "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}}},
        "required": ["steps"],
        "$defs": {"Step": step},
    });
    let expected = r#"
  steps   list of object, required
    left  integer, required
    op    "crop", required
    or
    by    integer, required
    op    "turn", required
"#;
    let plain = |schema: &Value| {
        let shown = fields(schema, Side::Input, 2, 60);
        anstream::adapter::strip_str(&shown).to_string()
    };
    assert_eq!(format!("\n{}", plain(&schema)), expected);
    let whole = format!("\n{}", plain(&step));
    assert_eq!(
        whole,
        "\n  left  integer, required\n  op    \"crop\", required\n  or\n  by    integer, required\n  op    \"turn\", required\n"
    );
    // One that is itself, and so has no fields.
    let endless = json!({"oneOf": [{"$ref": "#"}, {"$ref": "#"}]});
    assert!(!plain(&endless).contains("or"), "{}", plain(&endless));
}

#[test]
fn what_a_type_is_held_to_is_shown() {
    let schema = json!({
        "properties": {
            "code": {"type": "string", "maxLength": 2},
            "id": {"type": "string", "minLength": 8, "maxLength": 8, "pattern": "^[0-9a-f]+$"},
            "initial": {"type": ["string", "null"], "minLength": 1, "maxLength": 1},
            "long": {"type": "string", "pattern": "a".repeat(100)},
            "name": {"type": "string", "minLength": 1},
            "ratio": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
            "sizes": {
                "type": "array", "minItems": 1, "maxItems": 3, "uniqueItems": true,
                "items": {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 2},
            },
            "pair": {
                "type": "array", "minItems": 2, "maxItems": 2,
                "prefixItems": [{"type": "string"}, {"type": "integer", "minimum": 0}],
            },
            "choice": {"enum": ["a, b", "c", null]},
            "either": {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "boolean"}]},
            "labels": {
                "type": "object", "maxProperties": 5,
                "additionalProperties": {"type": "string", "maxLength": 9},
            },
            "headers": {
                "type": "object",
                "patternProperties": {"^x-": {"type": "string", "description": "One's own."}},
                "additionalProperties": false,
            },
        },
        "patternProperties": {"^_": {"type": "boolean"}},
        "additionalProperties": {"type": "integer"},
        "required": ["code"],
    });
    let expected = r#"
  code       string, at most 2 characters, required
  choice     "a, b" | "c"
  either     (string, at most 2 characters) or boolean
  headers    object
    /^x-/    string – One's own.
  id         string, 8 characters, like /^[0-9a-f]+$/
  initial    string, 1 character
  labels     object of (string, at most 9 characters), at most 5 fields
  long       string, like /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…/
  name       string, at least 1 character
  pair       [string, integer ≥ 0]
  ratio      number ≤ 1, more than 0
  sizes      list of (integer, 1 to 9, a multiple of 2), 1 to 3 items, none twice
  /^_/       boolean
  any other  integer
"#;
    let plain = anstream::adapter::strip_str(&fields(&schema, Side::Input, 2, 100)).to_string();
    assert_eq!(format!("\n{plain}"), expected);
    let odd = json!({
        "properties": {"a": {"type": "string", "pattern": "\u{1b}"}},
        "patternProperties": {"\u{1b}": true},
    });
    let odd = anstream::adapter::strip_str(&fields(&odd, Side::Input, 2, 100)).to_string();
    assert_eq!(
        odd,
        "  a         string, like /\\u{1b}/\n  /\\u{1b}/  anything\n"
    );
    let nullable = json!({"type": ["string", "null"], "maxLength": 2});
    assert_eq!(
        fields(&nullable, Side::Output, 2, 100),
        "  string, at most 2 characters, or null\n"
    );
}

#[test]
fn what_is_no_object_has_its_type() {
    let plain = |schema: &Value| fields(schema, Side::Output, 2, 80);
    assert_eq!(plain(&json!({"type": "string"})), "  string\n");
    assert_eq!(plain(&json!(true)), "  anything\n");
    let endless = json!({"type": "array", "items": {"$ref": "#"}});
    assert!(plain(&endless).starts_with("  list of list of"));
}

#[test]
fn words_are_wrapped_and_made_printable() {
    assert_eq!(wrapped("a bb\nccc dddd", 1, 8), " a bb\n ccc\n dddd\n");
    assert_eq!(wrapped("a\n\nb", 2, 80), "  a\n\n  b\n");
    assert_eq!(wrapped("a\x1b[2J", 0, 80), "a\\u{1b}[2J\n");
    assert_eq!(wrapped("", 2, 80), "\n");
}
