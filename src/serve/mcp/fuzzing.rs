//! A way to what is read from a client's message without a session, for the fuzz target `request`.

use std::sync::Arc;

use rmcp::model::{ClientJsonRpcMessage, ClientRequest, JsonObject, JsonRpcMessage};

use super::catalog::ATTACHMENTS;
use super::kept::Kept;
use super::settings::KeptBounds;
use super::{builtin, input};
use crate::Attachment;

/// What a call asks for: the tool, its arguments, and the attachments.
pub type Call = (String, JsonObject, Vec<Attachment>);

/// The call in a message, also where it is one by way of `call_tool`; or what its sender is told. `None` where it is
/// no message, or one of something else.
pub fn call(message: &[u8]) -> Option<Result<Call, String>> {
    crate::json::measure(message).ok()?;
    let message = serde_json::from_slice::<ClientJsonRpcMessage>(message).ok()?;
    let JsonRpcMessage::Request(request) = message else {
        return None;
    };
    let ClientRequest::CallToolRequest(call) = request.request else {
        return None;
    };
    let params = call.params;
    let (name, mut arguments) = match &*params.name {
        builtin::CALL => match builtin::unwrap(params.arguments) {
            Ok(inner) => inner,
            Err(why) => return Some(Err(why)),
        },
        name => (name.to_owned(), params.arguments.unwrap_or_default()),
    };
    let kept = Kept::new(KeptBounds::default());
    let given = arguments.remove(ATTACHMENTS);
    let attachments = input::attachments(given, &kept, &Arc::from("a client"));
    Some(attachments.map(|attachments| (name, arguments, attachments)))
}
