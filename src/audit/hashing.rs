//! Hashes of what goes into an execution and comes out of it, which stand in an entry in its place.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Hashed;
use crate::execution::{Attachment, ExecutionRequest, ExecutionResult};

/// The hash of an input: SHA-256 over its JSON text; where there are attachments, over that and, for
/// each, its name, media type and bytes, each behind its length (8 bytes, the highest first).
pub fn hashed_input(request: &ExecutionRequest) -> Hashed {
    hashed(&request.input, &request.attachments)
}

/// The hash of an answer, in the same way; `None` where there is none.
pub fn hashed_output(result: &ExecutionResult) -> Option<Hashed> {
    let output = result.output.as_ref()?;
    Some(hashed(output, &result.attachments))
}

fn hashed(value: &impl Serialize, attachments: &[Attachment]) -> Hashed {
    // What cannot be written cannot be run either.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut bytes = text.len() as u64;
    if attachments.is_empty() {
        return Hashed {
            sha256: Sha256::digest(&text).into(),
            bytes,
        };
    }
    let mut hasher = Sha256::new();
    let mut part = |part: &[u8]| {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    };
    part(&text);
    for attachment in attachments {
        part(attachment.name.as_bytes());
        part(attachment.media_type.as_bytes());
        part(&attachment.data);
        bytes += attachment.counted_bytes();
    }
    Hashed {
        sha256: hasher.finalize().into(),
        bytes,
    }
}
