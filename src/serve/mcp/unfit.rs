//! Requests whose params do not fit, or of methods that there are not. The library takes either for a request of
//! its embedder's own.

#![expect(
    deprecated,
    reason = "log records are deprecated in the current revision, and still wanted by clients"
)]

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CancelTaskParams, CustomRequest, ErrorCode, GetSkillRequestParams,
    GetTaskParams, InitializeRequestParams, PaginatedRequestParams,
    ReadResourceDirectoryRequestParams, ReadResourceRequestParams, SetLevelRequestParams,
    SubscriptionsListenRequestParams, UpdateTaskParams,
};
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde_json::{Map, Value};

use crate::text::{named, printable, shortened};

/// The longest name of a method in an answer, in bytes.
const MAX_NAME: usize = 100;
/// The most that is said of what does not fit, in bytes.
const MAX_WHY: usize = 300;
/// The most params among which the one that does not fit is looked for. No method has as many.
const MAX_PARAMS: usize = 16;

/// What the sender of such a request is told.
pub(super) fn refusal(request: &CustomRequest, has_tasks: bool) -> ErrorData {
    let none = Map::new();
    let params = request.params.as_ref().and_then(Value::as_object);
    let params = params.unwrap_or(&none);
    let why = match request.method.as_str() {
        "initialize" => why::<InitializeRequestParams>(params),
        "tools/list" | "resources/list" | "resources/templates/list" | "skills/list" => {
            why::<PaginatedRequestParams>(params)
        }
        "tools/call" => why::<CallToolRequestParams>(params),
        "resources/read" => why::<ReadResourceRequestParams>(params),
        "resources/directory/read" => why::<ReadResourceDirectoryRequestParams>(params),
        "skills/get" => why::<GetSkillRequestParams>(params),
        "logging/setLevel" => why::<SetLevelRequestParams>(params),
        "subscriptions/listen" => why::<SubscriptionsListenRequestParams>(params),
        "tasks/get" if has_tasks => why::<GetTaskParams>(params),
        "tasks/update" if has_tasks => why::<UpdateTaskParams>(params),
        "tasks/cancel" if has_tasks => why::<CancelTaskParams>(params),
        "server/discover" => "it takes none but `_meta`".to_owned(),
        unknown => return self::unknown(unknown),
    };
    let message = format!("the params of `{}` do not fit: {why}", request.method);
    ErrorData::invalid_params(message, None)
}

/// That there is no such method.
pub(super) fn unknown(method: &str) -> ErrorData {
    let message = format!("there is no method `{}`", named(method, MAX_NAME));
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None)
}

/// What does not fit, and in which of the params.
fn why<P: DeserializeOwned>(params: &Map<String, Value>) -> String {
    let error = match read::<P>(params, None) {
        Ok(_) => return "they are not an object that this method takes".to_owned(),
        Err(error) => error.to_string(),
    };
    // Without the one that is at fault, nothing is wrong, or only that it is not there.
    let at_fault = params.keys().take(MAX_PARAMS).find(|name| {
        let missing = format!("missing field `{name}`");
        let without = read::<P>(params, Some(name.as_str()));
        without.map_or_else(|error| error.to_string() == missing, |_| true)
    });
    // It may repeat what the client has sent, at any length.
    let error = shortened(&printable(&error, false), MAX_WHY).into_owned();
    match at_fault {
        Some(name) => format!("`{}`: {error}", named(name, MAX_NAME)),
        None => error,
    }
}

fn read<P: DeserializeOwned>(
    params: &Map<String, Value>,
    without: Option<&str>,
) -> Result<P, serde_json::Error> {
    let kept = params
        .iter()
        .filter(|(name, _)| Some(name.as_str()) != without);
    let kept = kept.map(|(name, value)| (name.as_str(), value));
    P::deserialize(MapDeserializer::new(kept))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(method: &str, params: Value) -> (i32, String) {
        let refusal = refusal(&CustomRequest::new(method, Some(params)), true);
        (refusal.code.0, refusal.message.into_owned())
    }

    #[test]
    fn params_that_do_not_fit_are_named() {
        for (method, params, why) in [
            ("tools/call", json!({}), "missing field `name`"),
            (
                "tools/call",
                json!({"name": 5}),
                "`name`: invalid type: integer `5`",
            ),
            (
                "tools/call",
                json!({"name": "a", "arguments": "text", "more": [1]}),
                "`arguments`: invalid type: string \"text\"",
            ),
            ("resources/read", json!({}), "missing field `uri`"),
            (
                "logging/setLevel",
                json!({"level": "loud"}),
                "`level`: unknown variant `loud`",
            ),
            (
                "tools/list",
                json!({"cursor": 5}),
                "`cursor`: invalid type: integer `5`",
            ),
            (
                "tasks/get",
                json!({"taskId": []}),
                "`taskId`: invalid type: sequence",
            ),
        ] {
            let (code, message) = told(method, params);
            assert_eq!(code, -32602, "{message}");
            let start = format!("the params of `{method}` do not fit: {why}");
            assert!(message.starts_with(&start), "{message}");
        }
        let (_, message) = told("logging/setLevel", json!({"level": "x".repeat(10_000)}));
        assert!(message.len() < 500, "{message}");
        let none = refusal(&CustomRequest::new("tools/call", None), false);
        assert!(none.message.ends_with("missing field `name`"), "{none:?}");
    }

    #[test]
    fn methods_that_there_are_not_are_named() {
        let (code, message) = told("tools/cal`\n", json!({"name": "a"}));
        assert_eq!(code, -32601);
        assert_eq!(message, "there is no method `tools/cal\\u{60}\\n`");
        let request = CustomRequest::new("tasks/get", Some(json!({})));
        let message = refusal(&request, false).message;
        assert_eq!(message, "there is no method `tasks/get`");
    }
}
