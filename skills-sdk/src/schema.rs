use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

/// The schema of what the tool called `tool` takes.
///
/// # Panics
/// Where `T` is not an object in JSON.
pub fn input_schema<T: JsonSchema>(tool: &str) -> Value {
    let mut schema = root::<T>(SchemaSettings::draft2020_12());
    let kind = schema
        .ensure_object()
        .entry("type")
        .or_insert(json!("object"));
    assert!(
        kind == "object",
        "the input of the tool `{tool}` must be an object in JSON, as a struct is, or a map with \
         texts as keys; its type, `{}`, is {kind} there",
        std::any::type_name::<T>()
    );
    schema.to_value()
}

/// The schema of what a tool answers, unless it says nothing.
pub fn output_schema<T: JsonSchema>() -> Option<Value> {
    let schema = root::<T>(SchemaSettings::draft2020_12().for_serialize());
    let says_something = schema.as_object()?.keys().any(|key| key != "$schema");
    says_something.then(|| schema.to_value())
}

/// The schema of `T`, without a title that only repeats the type's name.
fn root<T: JsonSchema>(settings: SchemaSettings) -> Schema {
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    if schema.get("title").and_then(Value::as_str) == Some(&*T::schema_name()) {
        schema.remove("title");
    }
    schema
}
