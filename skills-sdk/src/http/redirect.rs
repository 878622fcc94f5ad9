//! Redirects: where they lead, and what goes along.

use super::{Hop, HttpError, Response, parsed};

/// Never sent to another origin than the one they were meant for.
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "cookie2", "proxy-authorization"];

/// The request that an answer redirects to, if it does.
pub(super) fn next(hop: &Hop, answer: &Response) -> Result<Option<Hop>, HttpError> {
    let keeps_body = match answer.status {
        301..=303 => false,
        307 | 308 => true,
        _ => return Ok(None),
    };
    let Some(location) = answer.header("location") else {
        return Ok(None);
    };
    let url = hop.url.join(location).map_err(|error| HttpError::Url {
        url: location.to_owned(),
        reason: error.to_string(),
    })?;
    let url = parsed(url.as_str())?;
    let mut next = hop.clone();
    if !keeps_body && hop.method != "GET" && hop.method != "HEAD" {
        next.method = "GET".to_owned();
        next.body.clear();
        next.headers
            .retain(|(name, _)| !name.starts_with("content-"));
    }
    if url.origin() != hop.url.origin() {
        next.headers
            .retain(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
    }
    next.url = url;
    Ok(Some(next))
}
