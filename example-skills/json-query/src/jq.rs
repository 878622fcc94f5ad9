//! Filters of the jq language.

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Exn, Filter, Vars, compile, data::JustLut};
use jaq_json::{Num, Val};
use serde_json::{Map, Number, Value};

/// A compiled filter.
pub struct Jq(Filter<JustLut<Val>>);

/// What a filter made of one value.
pub enum Output {
    Value(Value),
    /// The filter used `halt`.
    Halt,
}

impl Jq {
    /// Compiles a filter; the error says where it is wrong.
    pub fn new(code: &str) -> Result<Self, String> {
        let definitions = jaq_core::defs()
            .chain(jaq_std::defs())
            .chain(jaq_json::defs());
        let functions = jaq_core::funs()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(&arena, File { code, path: () })
            .map_err(|errors| describe_first(errors, |error| load_error(code, error)))?;
        Compiler::default()
            .with_funs(functions)
            .compile(modules)
            .map(Self)
            .map_err(|errors| describe_first(errors, |errors| undefined(code, errors)))
    }

    /// Runs the filter on one value; each item is computed when it is asked for.
    pub fn run(&self, input: Val) -> impl Iterator<Item = Result<Output, String>> {
        let ctx = Ctx::<JustLut<Val>>::new(&self.0.lut, Vars::new([]));
        self.0
            .id
            .run((ctx, input))
            .map(|output| match output.map_err(Exn::get_err) {
                Ok(value) => Ok(Output::Value(to_json(&value))),
                Err(Ok(error)) => Err(error.to_string()),
                Err(Err(_)) => Ok(Output::Halt),
            })
    }
}

fn describe_first<P, E>(
    errors: load::Errors<&str, P, E>,
    describe: impl Fn(&E) -> String,
) -> String {
    errors.first().map_or_else(
        || "not a jq filter".to_owned(),
        |(_, error)| describe(error),
    )
}

fn load_error(code: &str, error: &load::Error<&str>) -> String {
    match error {
        load::Error::Io(errors) => errors
            .first()
            .map(|(path, error)| format!("cannot load `{path}`: {error}")),
        load::Error::Lex(errors) => errors
            .first()
            .map(|(expected, at)| expectation(code, expected.as_str(), at)),
        load::Error::Parse(errors) => errors
            .first()
            .map(|(expected, at)| expectation(code, expected.as_str(), at)),
    }
    .unwrap_or_else(|| "not a jq filter".to_owned())
}

fn expectation(code: &str, expected: &str, found: &str) -> String {
    let offset = load::span(code, found).start;
    match code[offset..].chars().take(20).collect::<String>() {
        rest if rest.is_empty() => format!("expected {expected} at the end"),
        rest => format!(
            "expected {expected} at character {}, before `{rest}`",
            position(code, offset)
        ),
    }
}

fn undefined(code: &str, errors: &[compile::Error<&str>]) -> String {
    errors.first().map_or_else(
        || "not a jq filter".to_owned(),
        |(name, kind)| {
            let offset = load::span(code, name).start;
            format!(
                "undefined {} `{name}` at character {}",
                kind.as_str(),
                position(code, offset)
            )
        },
    )
}

/// The number of a character, from 1.
fn position(code: &str, offset: usize) -> usize {
    code[..offset].chars().count() + 1
}

/// What jaq has and JSON has not becomes the nearest that JSON has, as in jq.
fn to_json(value: &Val) -> Value {
    match value {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Num(number) => to_number(number).map_or(Value::Null, Value::Number),
        Val::TStr(bytes) | Val::BStr(bytes) => {
            Value::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Val::Arr(values) => values.iter().map(to_json).collect(),
        Val::Obj(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (to_key(key), to_json(value)))
                .collect::<Map<_, _>>(),
        ),
    }
}

fn to_number(number: &Num) -> Option<Number> {
    match number {
        Num::Int(integer) => Some(Number::from(*integer)),
        Num::Float(float) if float.fract() == 0.0 && float.abs() < 9e15 => {
            Some(Number::from(*float as i64))
        }
        Num::Float(float) => Number::from_f64(*float),
        Num::BigInt(_) | Num::Dec(_) => number.to_string().parse().ok(),
    }
}

fn to_key(key: &Val) -> String {
    match to_json(key) {
        Value::String(key) => key,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    fn run(code: &str, input: Value) -> Vec<Value> {
        let jq = Jq::new(code).unwrap();
        let outputs = jq.run(Val::deserialize(input).unwrap());
        outputs
            .map_while(|output| match output.unwrap() {
                Output::Value(value) => Some(value),
                Output::Halt => None,
            })
            .collect()
    }

    #[test]
    fn the_language_works() {
        assert_eq!(
            run(".[] | .a", json!([{ "a": 1 }, { "a": "x" }])),
            [json!(1), json!("x")]
        );
        assert_eq!(run("map(. * 2) | add", json!([1, 2.5])), [json!(7)]);
        assert_eq!(
            run("to_entries | map(.key)", json!({ "b": 1, "a": 2 })),
            [json!(["a", "b"])]
        );
        assert_eq!(
            run(
                "group_by(.k) | map({k: .[0].k, n: length})",
                json!([{ "k": 1 }, { "k": 1 }])
            ),
            [json!([{ "k": 1, "n": 2 }])]
        );
        assert_eq!(run(r#"test("^a.c$")"#, json!("abc")), [json!(true)]);
        assert_eq!(
            run("0 | todate", json!(null)),
            [json!("1970-01-01T00:00:00Z")]
        );
    }

    #[test]
    fn numbers_keep_their_precision() {
        let big = json!([
            9_007_199_254_740_993_i64,
            u64::MAX,
            -3_000_000_000_i64,
            0.1,
            1.0
        ]);
        assert_eq!(
            run(".", big.clone()),
            [json!([
                9_007_199_254_740_993_i64,
                u64::MAX,
                -3_000_000_000_i64,
                0.1,
                1
            ])]
        );
    }

    #[test]
    fn what_json_cannot_say_becomes_null() {
        assert_eq!(run("[nan, infinite]", json!(null)), [json!([null, null])]);
    }

    #[test]
    fn halt_ends_the_output() {
        assert_eq!(run("1, halt, 2", json!(null)), [json!(1)]);
    }

    #[test]
    fn output_is_lazy() {
        let jq = Jq::new("repeat(1)").unwrap();
        assert_eq!(jq.run(Val::Null).take(3).count(), 3);
    }

    #[test]
    fn errors_say_what_and_where() {
        for (code, expected) in [
            (".a |", "expected term at the end"),
            ("(.a", "expected closing parenthesis at the end"),
            (".é | ]", "expected token at character 2, before `é | ]`"),
            (r#""é" | frob(1)"#, "undefined filter `frob` at character 7"),
            ("$x", "undefined variable `$x` at character 1"),
            (
                r#"import "a" as a; 1"#,
                "cannot load `a`: module loading not supported",
            ),
        ] {
            assert_eq!(Jq::new(code).map(|_| ()).unwrap_err(), expected, "{code}");
        }
    }

    #[test]
    fn a_failing_filter_says_why() {
        let jq = Jq::new(".a").unwrap();
        let error = jq
            .run(Val::from(1_isize))
            .next()
            .unwrap()
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error, "cannot index 1 with \"a\"");
    }
}
