//! The document that describes the door: OpenAPI 3.1, made from the code.

use std::sync::OnceLock;

use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::openapi::schema::{
    AdditionalProperties, ObjectBuilder, OneOfBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, OpenApi, PartialSchema, ToSchema};

use super::extract::json as answer;
use super::problem::{PROBLEM_JSON, Problem, ProblemKind};
use crate::queue::{MAX_LABELS, MAX_NAME_CHARS, MAX_VALUE_CHARS};
use crate::skill::Digest;
use crate::{LimitOverrides, Limits};

/// What the document says beside the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "skillhost",
        description = "Runs agent skills in a sandbox with limits that hold: at once, or as jobs. \
            Errors are problem details (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Problem, ScheduleName, SkillName, TenantName)),
    tags(
        (name = "executions", description = "Skills executed at once"),
        (name = "jobs", description = "Executions that are kept in the queue"),
        (name = "dead letters", description = "Jobs that will not be tried again by themselves"),
        (name = "approvals", description = "Jobs that wait for somebody's word"),
        (name = "schedules", description = "Jobs that come up again and again"),
        (name = "events", description = "What happened to jobs"),
        (name = "skills", description = "What is installed"),
        (name = "queues", description = "Queues, tenants and skills: paused, and bounded over all workers"),
        (name = "statistics", description = "What goes on, in numbers"),
        (name = "policy", description = "What skills are granted for good"),
        (name = "health", description = "For whoever watches the server"),
    )
)]
struct Document;

/// The document that the paths are added to.
pub(super) fn begin() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// A text of a form that has a name, with a pattern, a length and an example.
macro_rules! texts {
    ($($(#[doc = $doc:literal])+
        $name:ident: $format:literal, $pattern:literal, $most:literal, $example:literal;)+) => {
        $(
            $(#[doc = $doc])+
            pub(super) struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new()
                        .schema_type(SchemaType::Type(Type::String))
                        .description(Some(concat!($($doc),+).trim()))
                        .format(Some(SchemaFormat::Custom($format.to_owned())))
                        .pattern(Some($pattern))
                        .max_length(Some($most))
                        .examples([json!($example)])
                        .build()
                        .into()
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

texts! {
    /// A skill: `name`, `name@version`, or `sha256:` and the digest.
    SkillReference: "skill", "^(?:[a-z0-9]+(?:-[a-z0-9]+)*(?:@[0-9]+\\.[0-9]+\\.[0-9]+(?:-[0-9A-Za-z.-]+)?(?:\\+[0-9A-Za-z.-]+)?)?|sha256:[0-9A-Fa-f]{64})$", 1024, "text-stats";
    /// The name of a skill.
    SkillName: "skill-name", "^[a-z0-9]+(?:-[a-z0-9]+)*$", 64, "text-stats";
    /// The name of a tenant: 1 to 255 bytes of UTF-8, without control characters.
    TenantName: "tenant-name", "^[^\\x00-\\x1f\\x7f-\\x9f]{1,255}$", 255, "acme";
    /// The name of a queue.
    QueueName: "queue-name", "^[a-zA-Z0-9_.-]{1,64}$", 64, "default";
    /// The name of a schedule.
    ScheduleName: "schedule-name", "^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,44}$", 45, "morning";
    /// A word to find jobs by.
    Tag: "tag", "^[^\\x00-\\x1f\\x7f-\\x9f]{1,64}$", 64, "report";
    /// Minute, hour, day of the month, month, day of the week, each of `*`, numbers, names, ranges, lists
    /// and steps; with seconds before them where there are six. Or a word such as `@daily`.
    Cron: "cron", "^\\s*(?:@[A-Za-z]+|[0-9A-Za-z*?,/#+-]+(?:\\s+[0-9A-Za-z*?,/#+-]+){4,5})\\s*$", 256, "0 9 * * MON-FRI";
    /// An `http` or `https` URL at an address that is public.
    CallbackUrl: "callback-url", "^[Hh][Tt][Tt][Pp][Ss]?:", 16384, "https://hooks.example.com/skillhost";
    /// The name of a time zone of the IANA database.
    TimeZone: "time-zone", "^\\s*[A-Za-z][A-Za-z0-9_+/-]*\\s*$", 64, "Europe/Zurich";
}

impl PartialSchema for Digest {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .description(Some("SHA-256 over what was loaded."))
            .pattern(Some("^sha256:[0-9a-f]{64}$"))
            .build()
            .into()
    }
}

impl ToSchema for Digest {}

/// Notes of the client's own.
pub struct Labels;

impl PartialSchema for Labels {
    fn schema() -> RefOr<Schema> {
        let text = |most: usize| {
            let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
            text.max_length(Some(most))
        };
        ObjectBuilder::new()
            .description(Some("Notes of the client's own."))
            .max_properties(Some(MAX_LABELS))
            .property_names(Some(text(MAX_NAME_CHARS)))
            .additional_properties(Some(text(MAX_VALUE_CHARS)))
            .build()
            .into()
    }
}

impl ToSchema for Labels {}

impl PartialSchema for LimitOverrides {
    fn schema() -> RefOr<Schema> {
        let known = serde_json::to_value(Limits::default()).unwrap_or_default();
        let names = known
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name);
        // The stack is set for the whole host.
        let mut schema = ObjectBuilder::new()
            .description(Some(
                "Limits that are asked for; what is left out is not asked for.",
            ))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        for name in names.filter(|name| *name != "stack_bytes") {
            let whole = ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::Integer))
                .minimum(Some(0))
                .maximum(Some(usize::MAX))
                .build();
            let mut one = OneOfBuilder::new()
                .item(ObjectBuilder::new().schema_type(Type::Null).build())
                .item(whole);
            let (format, description, example) = match name.as_str() {
                "wall_time_ms" => ("time", "A number and a unit, such as `1m 30s`.", "2s"),
                name if name.ends_with("_bytes") => (
                    "size",
                    "Bytes, or a number and a unit, such as `1.5 MiB`.",
                    "64MiB",
                ),
                _ => (
                    "count",
                    "Digits, or digits and one of `k`, `M`, `G` and `T`.",
                    "5M",
                ),
            };
            let text = ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::String))
                .format(Some(SchemaFormat::Custom(format!("skillhost-{format}"))))
                .description(Some(description))
                .examples([json!(example)]);
            one = one.item(text.build());
            schema = schema.property(name, Schema::OneOf(one.build()));
        }
        schema.build().into()
    }
}

impl ToSchema for LimitOverrides {}

/// A request that may come twice.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "for the document alone")]
pub(super) struct Idempotent {
    /// Makes the request one that can be sent again: a second one with this key is answered as the
    /// first was, for a day. With another body it is refused (422); while the first goes on, too (409).
    /// 1 to 255 printable ASCII characters, with quotation marks around them or without. What passes by
    /// itself, such as a rate, and what was refused before it ran is not kept: send it again as it is.
    #[param(
        rename = "idempotency-key",
        format = "idempotency-key",
        pattern = r#"^(?:"[ !#-\[\]-~]{1,255}"|"(?:[ -~]{0,253}[!#-~])?|[!#-~](?:[ -~]{0,253}[!-~])?)$"#,
        required = false
    )]
    key: Option<String>,
}

/// The document, as it is served.
pub(super) struct Served {
    bytes: OnceLock<Bytes>,
    api: utoipa::openapi::OpenApi,
}

impl Served {
    pub fn new(api: utoipa::openapi::OpenApi) -> Self {
        Served {
            bytes: OnceLock::new(),
            api,
        }
    }

    /// The answer with it.
    pub fn answer(&self) -> Response {
        let bytes = self
            .bytes
            .get_or_init(|| document(&self.api).to_string().into());
        answer(bytes.clone())
    }
}

/// The document as JSON, with what holds for every operation.
pub(super) fn document(api: &utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["openapi"] = json!("3.1.0");
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["security"] = json!([{"token": []}]);
    document["components"]["securitySchemes"] = json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token that `skillhost tokens create` made. Without any token ever made, \
                            none is needed on the machine itself.",
        }
    });
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, operations) in paths {
            let operations = operations.as_object_mut().into_iter().flatten();
            for (method, operation) in operations.filter(|(name, _)| is_method(name)) {
                operation["operationId"] = json!(name_of(method, path));
                complete(operation);
            }
        }
    }
    bound(&mut document);
    document
}

/// A name of its own for each operation: `get_v1_jobs_id_result`.
fn name_of(method: &str, path: &str) -> String {
    let parts = path.split(['/', '-', '.', '{', '}']);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    format!("{method}_{}", parts.join("_"))
}

fn is_method(name: &str) -> bool {
    matches!(name, "get" | "put" | "post" | "patch" | "delete")
}

/// Adds the problems that every operation can answer with.
fn complete(operation: &mut Value) {
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    let mut by_status = std::collections::BTreeMap::<u16, Vec<&str>>::new();
    for kind in ProblemKind::ALL {
        let titles = by_status.entry(kind.status().as_u16()).or_default();
        titles.push(kind.title());
    }
    let content = json!({
        PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}
    });
    for (status, titles) in by_status {
        let mut headers = json!({});
        if matches!(status, 429 | 503 | 409) {
            headers = json!({"Retry-After": {
                "description": "Seconds until another try may be admitted, where that is known",
                "schema": {"type": "integer", "minimum": 0},
            }});
        }
        if status == 401 {
            headers = json!({"WWW-Authenticate": {"schema": {"type": "string"}}});
        }
        let response = json!({
            "description": titles.join("; "), "content": content, "headers": headers,
        });
        responses.entry(status.to_string()).or_insert(response);
    }
}

/// Gives integers the bounds that their format has.
fn bound(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let unsigned = fields.get("minimum").is_some_and(Value::is_u64);
            let most = match fields.get("format").and_then(Value::as_str) {
                // No format stands for numbers without a sign.
                Some("int32") if unsigned => {
                    fields.remove("format");
                    Some(json!(u32::MAX))
                }
                Some("int64") if unsigned => {
                    fields.remove("format");
                    Some(json!(u64::MAX))
                }
                Some("int32") => Some(json!(i32::MAX)),
                Some("int64") => Some(json!(i64::MAX)),
                _ => None,
            };
            if let Some(most) = most {
                fields.entry("maximum").or_insert(most);
            }
            fields.values_mut().for_each(bound);
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        _ => {}
    }
}
