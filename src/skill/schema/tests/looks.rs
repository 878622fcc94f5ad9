//! Looking at the time wherever a check goes on.

use super::*;
use crate::turns::interrupt::within;

/// A check that is told to end before it begins.
fn over() -> Until {
    let until = Until::default();
    until
        .stopped
        .store(true, std::sync::atomic::Ordering::Relaxed);
    until
}

/// None of these values fits what is looked for, and each is left at the first keyword that says so.
#[test]
fn a_check_that_goes_on_where_nothing_fits_ends_when_it_is_told_to() {
    let fraction = json!({"multipleOf": 0.3});
    let (flat, nested, object) = (json!([7.1]), json!([[7.1]]), json!({"a": 7.1}));
    for (schema, value) in [
        (json!({ "contains": fraction }), &flat),
        (json!({"contains": fraction, "minContains": 2}), &flat),
        (
            json!({"contains": fraction, "minContains": 1, "maxContains": 2}),
            &flat,
        ),
        (json!({"contains": {"contains": fraction}}), &nested),
        (
            json!({"contains": fraction, "unevaluatedItems": {"type": "number"}}),
            &flat,
        ),
        (json!({ "unevaluatedItems": fraction }), &flat),
        (json!({ "unevaluatedProperties": fraction }), &object),
        (
            json!({"unevaluatedProperties": fraction, "anyOf": [{"properties": {"b": {}}}]}),
            &object,
        ),
        (
            json!({"allOf": [{"$ref": "#/$defs/a/contains"}], "$defs": {"a": {"contains": {"contains": fraction}}}}),
            &flat,
        ),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "contains": fraction}),
            &flat,
        ),
        (
            json!({"items": {"$ref": "#/properties"}, "properties": {"contains": fraction}}),
            &nested,
        ),
    ] {
        for ready in [Schema::new(&schema), Schema::known(&schema)] {
            let ready = ready.unwrap();
            let checked = ready.check_thoroughly(value, &over());
            assert_eq!(checked, Err(Interrupted), "{schema} {value}");
            assert!(ready.check(value).is_err(), "{schema} {value}");
        }
    }
}

#[test]
fn what_goes_on_is_checked_as_it_is_written() {
    let schema = json!({
        "type": "object",
        "properties": {
            // A property of this name is no list.
            "contains": {"type": "string"},
            "numbers": {"contains": {"$ref": "#/$defs/number"}, "minContains": 2},
            "lists": {"contains": {"contains": {"const": 7}, "title": "seven"}},
            "same": {"$ref": "#/properties/lists/contains"},
            "seven": {"$ref": "#/properties/lists/contains/contains"},
            "name": {"$ref": "#/properties/contains"},
            "rest": {"prefixItems": [{}], "unevaluatedItems": {"type": "string"}},
            "open": {"properties": {"a": {}}, "unevaluatedProperties": {"allOf": [{"type": "string"}, {"minLength": 2}]}},
            "text": {"$ref": "#/properties/open/unevaluatedProperties"},
            "long": {"$ref": "#/properties/open/unevaluatedProperties/allOf/1"},
        },
        "$defs": {"number": {"type": "number"}},
    });
    let new = Schema::new(&schema).unwrap();
    let known = Schema::known(&schema).unwrap();
    for (value, fits) in [
        (json!({"contains": "a"}), true),
        (json!({"contains": 1}), false),
        (json!({"numbers": [1, "a", 2]}), true),
        (json!({"numbers": [1, "a"]}), false),
        (json!({"lists": [[1], [7, 1]]}), true),
        (json!({"lists": [[1], 7, []]}), true),
        (json!({"lists": [[1], []]}), false),
        (json!({"same": [7]}), true),
        (json!({"same": [1]}), false),
        (json!({"seven": 7}), true),
        (json!({"seven": 1}), false),
        (json!({"name": "a"}), true),
        (json!({"name": 1}), false),
        (json!({"rest": [1, "a"]}), true),
        (json!({"rest": ["a", 1]}), false),
        (json!({"open": {"a": 1, "b": "bb"}}), true),
        (json!({"open": {"a": 1, "b": "b"}}), false),
        (json!({"open": {"a": 1, "b": 1}}), false),
        (json!({"text": "aa"}), true),
        (json!({"text": "a"}), false),
        (json!({"long": 1}), true),
        (json!({"long": "a"}), false),
    ] {
        for schema in [&new, &known] {
            assert_eq!(schema.check(&value).is_ok(), fits, "{value}");
        }
    }
    let mismatch = new.check(&json!({"lists": [[1]]})).unwrap_err();
    assert_eq!(mismatch.pointer, "/lists");
    assert!(!mismatch.message.contains("allOf"), "{mismatch:?}");
    let mismatch = new.check(&json!({"open": {"b": "b"}})).unwrap_err();
    assert_eq!(mismatch.pointer, "/open");
    assert!(
        mismatch.message.contains("'b' was unexpected"),
        "{mismatch:?}"
    );
}

/// What does not fit comes to no look of its own, so that the next one counts it.
#[test]
fn a_look_counts_all_that_is_checked_before_it() {
    let fractions = vec![json!({"multipleOf": 0.3}); 10];
    let schema =
        json!({"items": {"anyOf": fractions}, "contains": {"enum": vec!["a long text"; 100]}});
    let graph = Graph::new(&schema).unwrap().that_looks().unwrap();
    let graph = Graph::new(&graph).unwrap();
    let visits = graph.visits().unwrap();
    let ready = graph.with_keyword("look", &visits).unwrap();
    let work = |place: &str| -> u64 {
        let work = ready.pointer(place).unwrap()["look"]["$comment"].as_str();
        work.unwrap().parse().unwrap()
    };
    let fraction = work("/items/anyOf/0");
    assert!(fraction >= 64, "{fraction}");
    assert_eq!(work("/items"), 1 + 10 * fraction);
    let texts = work("/contains/allOf/1");
    assert!(texts >= 80, "{texts}");
    assert_eq!(work("/contains/allOf/0"), 1 + texts);
}

/// A place that is a schema, and has others by their names: what is added to it is one as well.
#[test]
fn names_of_schemas_may_be_one() {
    let schema =
        json!({"properties": {"a": {"type": "string"}}, "items": {"$ref": "#/properties"}});
    for schema in [Schema::new(&schema), Schema::known(&schema)] {
        let schema = schema.unwrap();
        assert_eq!(schema.check(&json!([1])), Ok(()));
        assert!(schema.check(&json!({"a": 1})).is_err());
    }
}

#[test]
fn a_place_has_one_name() {
    let of = |reference: &str| {
        let schema = json!({"properties": {"a~b": {"contains": {}}}, "items": {"$ref": reference}});
        Schema::new(&schema).map(drop)
    };
    assert_eq!(of("#/properties/a~0b"), Ok(()));
    for reference in [
        "#/properties/a~b",
        "#/properties/a~b/contains",
        "#/properties/a~",
    ] {
        assert!(
            matches!(of(reference), Err(SchemaError::Reference { .. })),
            "{reference}"
        );
    }
}

#[test]
fn a_check_ends_when_nobody_waits_any_more() {
    let slow = Schema::new(&json!({"items": {"multipleOf": 0.1}})).unwrap();
    let numbers = json!(vec![json!(1.7e308); 10_000]);
    let check = || slow.check_until(&numbers, &Until::default());
    let now = std::time::Instant::now();
    assert_eq!(within(now, check), Err(Interrupted));
    // No later than that, whatever it is told itself, and only there.
    let later = now + Duration::from_secs(3_600);
    assert_eq!(within(now, || within(later, check)), Err(Interrupted));
    let passed = Until {
        moment: Some(now),
        ..Until::default()
    };
    let checked = within(later, || slow.check_until(&numbers, &passed));
    assert_eq!(checked, Err(Interrupted));
    assert_eq!(check(), Ok(Ok(())));
}

/// What is added to a schema is nobody else's.
#[test]
fn the_hosts_own_key_is_in_no_schema() {
    for schema in [
        json!({"skillhost:interrupt": {"type": "integer"}}),
        json!({"properties": {"a": {"skillhost:interrupt": true}}}),
        json!({"$defs": {"a": [{"skillhost:interrupt": 1}]}}),
    ] {
        let SchemaError::Invalid(why) = Schema::new(&schema).unwrap_err() else {
            panic!("{schema}")
        };
        assert!(why.contains("the host's own"), "{why}");
    }
}

/// Nor is it in what is said.
#[test]
fn no_message_shows_what_was_added() {
    let excludes = json!({"properties": {"x": {"not": {"contains": {"type": "integer"}}}}});
    let excludes = Schema::new(&excludes).unwrap();
    let mismatch = excludes.check(&json!({"x": [1]})).unwrap_err();
    assert_eq!(mismatch.pointer, "/x");
    assert_eq!(mismatch.message, "[1] is what the schema excludes");
    let wrong = Schema::new(&json!({"items": [{"type": "string"}]})).unwrap_err();
    assert!(!wrong.to_string().contains("interrupt"), "{wrong}");
}
