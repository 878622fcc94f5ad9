use super::*;
use serde_json::json;

mod looks;

#[test]
fn a_mismatch_says_where() {
    let schema = Schema::new(&json!({
        "type": "object",
        "properties": {"list": {"type": "array", "items": {"type": "integer"}}},
    }))
    .unwrap();
    assert_eq!(schema.check(&json!({"list": [1, 2]})), Ok(()));
    let mismatch = schema.check(&json!({"list": [1, "two"]})).unwrap_err();
    assert_eq!(mismatch.pointer, "/list/1");
    assert!(mismatch.message.contains("integer"), "{}", mismatch.message);
}

#[test]
fn a_known_schema_checks_as_it_did_when_it_was_new() {
    let tree = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/tree"}, "value": {"type": "integer"}},
        "unevaluatedProperties": false,
    }}});
    let tuple = json!({"prefixItems": [{"type": "string"}], "items": {"minimum": 3}});
    let older = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"type": "string"}],
        "additionalItems": {"minimum": 3},
    });
    let named = json!({"$id": "https://example.com/x", "properties": {"x": {"$ref": "#"}},
        "type": "object", "dependentRequired": {"value": ["left"]}});
    let values = [
        json!({}),
        json!({"left": {"left": {"value": 1}}, "value": 2}),
        json!({"left": {"left": {"value": "one"}}}),
        json!({"left": {"right": 1}}),
        json!({"x": [1]}),
        json!({"value": 1}),
        json!(["a", 3, 4]),
        json!(["a", 1]),
        json!([1, 3]),
        json!("text"),
    ];
    for schema in [
        json!({}),
        json!(true),
        json!(false),
        tree,
        tuple,
        older,
        named,
    ] {
        let (new, known) = (Schema::new(&schema), Schema::known(&schema));
        let (new, known) = (new.unwrap(), known.unwrap());
        for value in &values {
            assert_eq!(new.check(value), known.check(value), "{schema} {value}");
        }
    }
}

#[test]
fn an_exponential_schema_is_refused_at_once() {
    let mut defs = serde_json::Map::new();
    for level in 0..64 {
        let next = format!("#/$defs/l{}", level + 1);
        defs.insert(
            format!("l{level}"),
            json!({"allOf": [{"$ref": next}, {"$ref": next}]}),
        );
    }
    defs.insert("l64".into(), json!({"type": "object"}));
    let schema = json!({"$ref": "#/$defs/l0", "$defs": defs});
    assert_eq!(Schema::new(&schema).unwrap_err(), SchemaError::TooExpensive);
}

#[test]
fn an_exponential_recursion_is_bounded_in_depth() {
    let schema = Schema::new(&json!({
        "anyOf": [
            {"properties": {"x": {"$ref": "#"}}, "required": ["y"]},
            {"properties": {"x": {"$ref": "#"}}, "required": ["z"]},
            {"type": "object"},
        ],
    }))
    .unwrap();
    assert!(schema.max_depth < 30, "{}", schema.max_depth);
    let mut value = json!({});
    for _ in 0..100 {
        value = json!({"x": value});
    }
    assert!(schema.check(&value).unwrap_err().message.contains("nested"));
}

#[test]
fn an_ordinary_recursive_schema_keeps_its_depth() {
    let schema = Schema::new(&json!({
        "$ref": "#/$defs/tree",
        "$defs": {"tree": {"type": "object", "properties": {
            "left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
        }}},
    }))
    .unwrap();
    assert_eq!(schema.max_depth, MAX_DEPTH);
}

#[test]
fn a_schema_that_refers_to_itself_in_place_is_refused() {
    assert_eq!(
        Schema::new(&json!({"$ref": "#"})).unwrap_err(),
        SchemaError::TooExpensive
    );
    assert_eq!(
        Schema::new(&json!({"allOf": [{"not": {"$ref": "#"}}]})).unwrap_err(),
        SchemaError::TooExpensive
    );
}

#[test]
fn nothing_is_fetched() {
    for reference in [
        "https://example.com/x",
        "other.json",
        "#anchor",
        "#/nowhere",
    ] {
        assert!(matches!(
            Schema::new(&json!({"properties": {"a": {"$ref": reference}}})),
            Err(SchemaError::Reference { .. })
        ));
    }
    assert!(Schema::new(&json!({"$id": "https://example.com/x", "type": "object"})).is_ok());
}

#[test]
fn a_pattern_cannot_backtrack_or_grow() {
    let schema = Schema::new(&json!({"type": "string", "pattern": "^(a+)+$"})).unwrap();
    assert!(schema.check(&json!("a".repeat(50_000) + "!")).is_err());
    assert!(matches!(
        Schema::new(&json!({"pattern": "((a{1000}){1000}){1000}"})),
        Err(SchemaError::Invalid(_))
    ));
}

#[test]
fn a_costly_schema_refuses_a_large_value_and_a_cheap_one_takes_it() {
    let names: serde_json::Map<String, Value> = (0..5_000)
        .map(|n| (format!("n{n}"), json!({"type": "integer"})))
        .collect();
    let costly = Schema::new(&json!({"items": {"properties": names}})).unwrap();
    let rows = |count: usize| json!(vec![json!({}); count]);
    assert_eq!(costly.check(&rows(100)), Ok(()));
    assert!(
        costly
            .check(&rows(100_000))
            .unwrap_err()
            .message
            .contains("too large")
    );
    let cheap = Schema::new(&json!({"items": {"properties": {"n": {"type": "integer"}}}}));
    assert_eq!(cheap.unwrap().check(&rows(100_000)), Ok(()));
}

#[test]
fn no_backtick_of_a_strangers_is_in_a_message() {
    let schema = Schema::new(&json!({"properties": {"a": {"type": "integer"}}})).unwrap();
    let mismatch = schema.check(&json!({"a": "x` run `y"})).unwrap_err();
    assert!(mismatch.message.contains("x' run 'y"), "{mismatch:?}");
    for schema in [
        json!({"$ref": "x` run `y"}),
        json!({"properties": {"a": {"type": "x` run `y"}}}),
        json!({"$dynamicRef": "x` run `y"}),
    ] {
        let error = Schema::new(&schema).unwrap_err().to_string();
        assert!(!error.contains("x`") && !error.contains("`y"), "{error}");
    }
}

#[test]
fn patterns_are_bounded_in_number() {
    let patterns: Vec<Value> = (0..300)
        .map(|n| json!({"pattern": format!("a{n}")}))
        .collect();
    assert_eq!(
        Schema::new(&json!({"anyOf": patterns})).unwrap_err(),
        SchemaError::TooManyPatterns(300)
    );
}

#[test]
fn an_ordinary_pattern_is_taken() {
    let schema = Schema::new(&json!({
        "items": {"type": "string", "pattern": r"^[\w.+-]+@[\w-]+\.[\w.]+$"},
    }));
    let schema = schema.unwrap();
    assert_eq!(schema.check(&json!(vec!["a.b@example.org"; 1_000])), Ok(()));
    assert!(schema.check(&json!(["nobody"])).is_err());
}

#[test]
fn a_pattern_with_many_states_is_left_in_the_middle_of_a_long_text() {
    let patterns: Vec<Value> = (0..20)
        .map(|n| json!({"pattern": format!("(a|b|ab)*a(a|b){{60}}{n}")}))
        .collect();
    let schema = Schema::new(&json!({"not": {"anyOf": patterns}})).unwrap();
    let text = json!(
        (0..100_000_u64)
            .map(|n| if (n * n / 7 + n / 3).is_multiple_of(2) {
                'a'
            } else {
                'b'
            })
            .collect::<String>()
    );
    assert_eq!(schema.check_quickly(&text), None);
    // It looks at the time while it is at it.
    let over = Until {
        moment: Some(std::time::Instant::now()),
        ..Until::default()
    };
    assert_eq!(schema.check_until(&text, &over), Err(Interrupted));
    // An ordinary one is through a longer text in no time.
    let plain = Schema::new(&json!({"pattern": "^[ab]+$"})).unwrap();
    assert_eq!(plain.check(&text), Ok(()));
}

#[test]
fn a_part_with_an_identity_of_its_own_is_refused() {
    let hidden = json!({
        "$ref": "#/$defs/x/$defs/l0",
        "$defs": {"l0": {}, "x": {"$id": "urn:x", "$defs": {"l0": {"$ref": "#/$defs/l0"}}}},
    });
    assert!(matches!(
        Schema::new(&hidden),
        Err(SchemaError::Reference { .. })
    ));
    let property = json!({"properties": {"$id": {"type": "string"}, "id": {"const": "a"}}});
    assert!(Schema::new(&property).is_ok());
    let draft_4 = json!({"$schema": "http://json-schema.org/draft-04/schema#"});
    assert!(matches!(
        Schema::new(&draft_4),
        Err(SchemaError::Invalid(_))
    ));
}

#[test]
fn a_schema_of_long_names_costs_little() {
    let many: Vec<Value> = vec![json!({}); 60_000];
    let schema = json!({"properties": {"k".repeat(7_000): {"anyOf": many}}});
    assert!(Schema::new(&schema).is_err());
}

#[test]
fn what_a_mismatch_says_is_escaped() {
    let schema = Schema::new(&json!({"additionalProperties": {"type": "string"}})).unwrap();
    let mismatch = schema.check(&json!({"\u{1b}[2J\nforged": 1})).unwrap_err();
    assert!(
        !mismatch.pointer.chars().any(char::is_control),
        "{:?}",
        mismatch.pointer
    );
}

#[test]
fn depth_counts_levels() {
    assert_eq!(depth(&json!(1)), 0);
    assert_eq!(depth(&json!([])), 1);
    assert_eq!(depth(&json!({"a": [{}]})), 3);
}

/// A chain of references to two of the next each, as often asked for what it did not evaluate.
fn branching(levels: usize, often: usize) -> Value {
    let mut defs = serde_json::Map::new();
    for level in 0..levels {
        let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
        defs.insert(level.to_string(), json!({"allOf": [next, next]}));
    }
    defs.insert(levels.to_string(), json!({"type": "object"}));
    let asks = json!({"$ref": "#/$defs/0", "unevaluatedProperties": false});
    let properties: serde_json::Map<_, _> = (0..often)
        .map(|number| (format!("p{number}"), asks.clone()))
        .collect();
    json!({"properties": properties, "$defs": defs})
}

/// A chain of references in a row, at whose end something is asked.
fn row(length: usize, between: &str) -> Value {
    let mut defs = serde_json::Map::new();
    for number in 0..length {
        let next = json!({"$ref": format!("#/$defs/{}", number + 1)});
        let next = match between {
            "allOf" => json!({"allOf": [next]}),
            "then" => json!({"if": true, "then": next}),
            _ => next,
        };
        defs.insert(number.to_string(), next);
    }
    defs.insert(length.to_string(), json!({"type": "object"}));
    json!({"$ref": "#/$defs/0", "$defs": defs})
}

/// A few lines that the library would make gigabytes of.
#[test]
fn what_comes_to_many_copies_is_refused_before_they_are_made() {
    assert!(Schema::new(&branching(5, 10)).is_ok());
    let refused = |schema: &Value| Schema::new(schema).unwrap_err() == SchemaError::TooExpensive;
    assert!(refused(&branching(12, 1)));
    assert!(refused(&branching(5, 1_000)));
    // Those of the tools together are bounded, too.
    let copies = Schema::new(&branching(5, 10)).unwrap().copies();
    assert!((600..MAX_COPIES).contains(&copies), "{copies}");
    assert_eq!(Schema::new(&branching(5, 0)).unwrap().copies(), 0);
}

/// References in a row that would overflow the stack of whoever follows them.
#[test]
fn references_in_a_row_overflow_no_stack() {
    for between in ["", "allOf", "then"] {
        for unevaluated in ["unevaluatedProperties", "unevaluatedItems"] {
            for (length, taken) in [(20, true), (2_000, false)] {
                let mut schema = row(length, between);
                schema[unevaluated] = json!(false);
                let taken = match taken {
                    true => Schema::new(&schema).is_ok(),
                    false => Schema::new(&schema).unwrap_err() == SchemaError::TooExpensive,
                };
                assert!(taken, "{between} {unevaluated} {length}");
            }
        }
        // Where nobody asks, none is followed while the schema is made ready.
        assert!(Schema::new(&row(2_000, "")).is_ok());
    }
}

/// What asks for what was not evaluated, within what asks for that, and so on.
#[test]
fn what_is_looked_through_again_and_again_counts_as_often() {
    let nested = |levels: usize| {
        (0..levels).fold(
            json!({"additionalProperties": true}),
            |inner, _| json!({"anyOf": [inner], "unevaluatedProperties": false}),
        )
    };
    assert!(Schema::new(&nested(5)).is_ok());
    assert_eq!(
        Schema::new(&nested(13)).unwrap_err(),
        SchemaError::TooExpensive
    );
    // One more level is 2.6 times the work, the square of the golden ratio.
    let work = |levels| *Schema::new(&nested(levels)).unwrap().visits.last().unwrap() as f64;
    let ratio = work(5) / work(4);
    assert!((2.5..2.8).contains(&ratio), "{ratio}");
}

/// So many definitions in a row, each so deep in itself before it refers to the next; and from the last back to the
/// first, one level further into a value.
fn nests(definitions: usize, depth: usize, keyword: &str) -> Value {
    let mut defs = serde_json::Map::new();
    for number in 0..definitions {
        let next = json!({"$ref": format!("#/$defs/{}", number + 1)});
        let nest = (0..depth).fold(next, |inner, _| match keyword {
            "not" => json!({"not": inner}),
            "then" => json!({"if": true, "then": inner}),
            _ => json!({"allOf": [inner]}),
        });
        defs.insert(number.to_string(), nest);
    }
    let again = json!({"additionalProperties": {"$ref": "#/$defs/0"}, "type": "object"});
    defs.insert(definitions.to_string(), again);
    json!({"$defs": defs, "additionalProperties": {"$ref": "#/$defs/0"}})
}

/// Tests run on 2 MB, as executions do: neither making a schema ready nor checking with it overflows that.
#[test]
fn what_nests_deep_overflows_no_stack() {
    for keyword in ["not", "then", "allOf"] {
        for (definitions, depth) in [(20, 110), (40, 60), (40, 28), (1, 60)] {
            let made = Schema::new(&nests(definitions, depth, keyword));
            let levels = if keyword == "allOf" { 2 * depth } else { depth };
            if levels + 4 > MAX_NESTED {
                assert_eq!(made.unwrap_err(), SchemaError::TooExpensive);
            }
        }
        // Visits by the ten thousands, in a value of a few levels.
        let many = match keyword {
            "not" => 4_000,
            _ => 3_000,
        };
        let schema = Schema::new(&nests(many, 1, keyword)).unwrap();
        for levels in 1..20 {
            let value = (0..levels).fold(json!({}), |inner, _| json!({"a": inner}));
            // Fits or not, or is refused as too deep.
            let _ = schema.check(&value);
        }
    }
}

/// What is kept of long values, once for each place.
#[test]
fn long_values_count_by_their_length() {
    let zeros = vec![0; 40_000];
    let negated = (0..30).fold(json!({"default": zeros}), |inner, _| json!({"not": inner}));
    assert_eq!(
        Schema::new(&negated).unwrap_err(),
        SchemaError::TooExpensive
    );
    let long = json!({"default": zeros});
    let copied = |places: usize| {
        let all: Vec<Value> = vec![json!({"$ref": "#/$defs/long"}); places];
        json!({"$defs": {"long": {"allOf": [long]}}, "allOf": all, "unevaluatedProperties": false})
    };
    assert!(Schema::new(&copied(2)).is_ok());
    assert_eq!(
        Schema::new(&copied(40)).unwrap_err(),
        SchemaError::TooExpensive
    );
}

#[test]
fn a_draft_is_named_as_it_is() {
    let with = |name: &str| Schema::new(&json!({"$schema": name, "type": "object"}));
    for known in [
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft-06/schema",
    ] {
        assert!(with(known).is_ok(), "{known}");
    }
    for other in ["https://json-schema.org/draft/2020-12/meta/core", "2020-12"] {
        assert!(with(other).is_err(), "{other}");
    }
}

#[test]
fn a_multiple_of_a_fraction_counts_as_what_it_takes() {
    let rows = |count: usize| json!(vec![json!(0.3); count]);
    let of = |multiple: Value| {
        let all = vec![json!({ "multipleOf": multiple }); 40];
        Schema::new(&json!({"items": {"allOf": all}})).unwrap()
    };
    // Each of them takes as long as some sixty other comparisons.
    let (fraction, whole) = (of(json!(0.1)), of(json!(1)));
    let refused = fraction.check(&rows(5_000)).unwrap_err();
    assert!(refused.message.contains("too large"), "{refused:?}");
    assert_eq!(fraction.check(&rows(50)), Ok(()));
    let refused = whole.check(&rows(5_000)).unwrap_err();
    assert!(refused.message.contains("not a multiple"), "{refused:?}");
}

#[test]
fn what_takes_long_is_left_to_who_has_the_time_for_it() {
    let all = vec![json!({"multipleOf": 1}); 10];
    let schema = Schema::new(&json!({"items": {"allOf": all}})).unwrap();
    let rows = |count: usize| json!(vec![json!(1); count]);
    assert_eq!(schema.check_quickly(&rows(10)), Some(Ok(())));
    assert_eq!(schema.check_quickly(&rows(10_000)), None);
    let unbounded = Until::default();
    let checked = schema.check_thoroughly(&rows(10_000), &unbounded);
    assert_eq!(checked, Ok(Ok(())));
    assert_eq!(schema.check(&rows(10_000)), Ok(()));
    // What cannot be checked at all is said at once.
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let refused = schema.check_quickly(&deep).unwrap().unwrap_err();
    assert!(refused.message.contains("levels deep"), "{refused:?}");
}

#[test]
fn a_check_ends_when_it_is_told_to() {
    let slow = Schema::new(&json!({"items": {"$ref": "#/x-elsewhere"},
        "x-elsewhere": {"anyOf": [{"multipleOf": 0.1}, {"type": "string"}]}}))
    .unwrap();
    let unique = Schema::new(&json!({"items": {"uniqueItems": true}})).unwrap();
    let numbers = json!(vec![json!(1.7e308); 10_000]);
    let nested = json!([(0..10_000).collect::<Vec<_>>(), vec![json!([[]]); 10_000]]);
    for (schema, value) in [(&slow, &numbers), (&unique, &nested)] {
        let said = Until::default();
        said.stopped
            .store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(schema.check_thoroughly(value, &said), Err(Interrupted));
        let passed = Until {
            moment: Some(std::time::Instant::now()),
            ..Until::default()
        };
        assert_eq!(schema.check_until(value, &passed), Err(Interrupted));
        // Neither the schema nor the thread keeps anything of that.
        let checked = schema.check_thoroughly(value, &Until::default());
        assert_eq!(checked.unwrap().is_ok(), std::ptr::eq(schema, &slow));
    }
}

#[test]
fn the_items_of_an_array_are_told_apart_in_linear_time() {
    // Nestings of empty arrays, all of them different: two for each but one before it.
    let mut shapes = vec![json!([])];
    for number in 1..20_000 {
        let inner = [shapes[number / 2].clone(), json!([])];
        shapes.push(match number % 2 {
            0 => json!([inner[0]]),
            _ => json!(inner),
        });
    }
    let schema = Schema::new(&json!({"uniqueItems": true})).unwrap();
    // All pairs would be 200 million.
    assert_eq!(schema.check(&json!(shapes)), Ok(()));
    shapes.push(shapes[777].clone());
    let refused = schema.check(&json!(shapes)).unwrap_err();
    assert_eq!(refused.message, "its items are not all different");
}

#[test]
fn what_is_compared_with_is_no_schema() {
    for (schema, place) in [
        (
            json!({"const": {"type": "string"}, "items": {"$ref": "#/const"}}),
            "#/const",
        ),
        (
            json!({"properties": {"a": {"enum": [{"items": {}}]}, "b": {"$ref": "#/properties/a/enum/0/items"}}}),
            "#/properties/a/enum/0/items",
        ),
    ] {
        let SchemaError::Reference { reference, .. } = Schema::new(&schema).unwrap_err() else {
            panic!("{schema}");
        };
        assert_eq!(reference, place);
    }
    // Properties of these names are something else.
    let named =
        json!({"properties": {"enum": {"type": "string"}, "const": {"$ref": "#/properties/enum"}}});
    let named = Schema::new(&named).unwrap();
    assert!(named.check(&json!({"const": 1})).is_err());
    assert_eq!(named.check(&json!({"const": "a"})), Ok(()));
}

#[test]
fn a_long_pattern_counts_as_several() {
    let of = |pattern: String| Schema::new(&json!({ "pattern": pattern })).map(drop);
    // Each class takes its time to be made ready, and much more where case is ignored.
    assert_eq!(
        of(r"\p{L}".repeat(4_000)),
        Err(SchemaError::TooManyPatterns(250))
    );
    let many = of(format!("(?i)[{}]", r"\p{Any}".repeat(300)));
    assert_eq!(many, Err(SchemaError::TooManyPatterns(211)));
    let many = Schema::new(&json!({"patternProperties": {r"(?m-u:(?si:a))".repeat(200): {}}}));
    assert_eq!(many.map(drop), Err(SchemaError::TooManyPatterns(280)));
    // What nothing refers to is read as well.
    let unused = Schema::new(&json!({"$defs": {"a": {"pattern": "(?<a>a)".repeat(4_000)}}}));
    assert_eq!(unused.map(drop), Err(SchemaError::TooManyPatterns(350)));
    // For each class by itself, the library reads the whole once more.
    for (class, times, counts) in [
        (r"\d", 8_000, 275_400),
        (r"\cA", 400, 707),
        (r"[\s]", 400, 716),
    ] {
        let many = of(class.repeat(times));
        assert_eq!(many, Err(SchemaError::TooManyPatterns(counts)), "{class}");
    }
    assert_eq!(
        of(r"^\d{4}-\d\d-\d\d[T\s]\d\d:\d\d:\d\d(\.\d+)?$".into()),
        Ok(())
    );
    assert_eq!(
        of("(?i)^[a-z0-9._%+-]+@[a-z0-9.-]+[.][a-z]{2,}$".into()),
        Ok(())
    );
    assert_eq!(
        of(format!("^(?<i>a|b)(?:i)[?](?P<i2>i){}$", "a?".repeat(60))),
        Ok(())
    );
}

#[test]
fn what_a_text_has_in_it_is_a_note() {
    let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#",
        "contentMediaType": "application/json", "contentEncoding": "base64"});
    assert_eq!(Schema::new(&schema).unwrap().check(&json!("{")), Ok(()));
}
