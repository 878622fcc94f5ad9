//! Fetches a web page and turns it into Markdown.

// The conversion is that of the skill `html-to-markdown`. Two skills cannot be linked into one
// component, so the file itself is shared.
#[path = "../../html-to-markdown/src/page.rs"]
mod page;

use std::time::Duration;

use encoding_rs::{Encoding, UTF_8};
use skills_sdk::http::{HttpError, Response};
use skills_sdk::prelude::*;

use crate::page::Keep;

/// Larger pages are refused: in memory, a page takes up to thirty times its size.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A page that was fetched.
#[derive(Serialize, JsonSchema)]
pub struct Page {
    /// The URL that answered in the end, after all redirects.
    url: String,
    /// The page's title, where it has one.
    title: Option<String>,
    /// The page's content.
    markdown: String,
    /// What the server says that the page is, such as `text/html`.
    media_type: String,
}

/// Fetches a web page and turns it into Markdown.
///
/// Plain text, Markdown and JSON come as they are. Scripts are not run; `main_only` leaves out
/// navigation, side bars and footers.
#[tool(title = "Fetch a page", read_only, idempotent, open_world)]
pub fn fetch(
    /// The page's URL, with `http://` or `https://`.
    url: String,
    /// Give the main content only: what stands in `main`, or in the only `article`.
    #[tool(default = true)]
    main_only: bool,
    /// Keep the targets of links; without them, only their texts stay.
    #[tool(default = true)]
    keep_links: bool,
    ctx: &Context,
) -> Result<Page, Failure> {
    let answer = ctx
        .http()
        .get(&url)
        .header(
            "accept",
            "text/markdown, text/html;q=0.9, text/plain;q=0.8, */*;q=0.1",
        )
        .header(
            "user-agent",
            concat!("fetch-page/", env!("CARGO_PKG_VERSION")),
        )
        .max_bytes(MAX_BYTES)
        .timeout(PATIENCE)
        .send()
        .and_then(Response::ok)
        .map_err(|error| match error {
            HttpError::Url { .. } => Failure::invalid_input("/url", error),
            error => error.into(),
        })?;
    let (media_type, charset) = content_type(&answer);
    let (text, _, _) = charset.decode(answer.bytes());
    let (title, markdown) = match media_type.as_str() {
        "text/html" | "application/xhtml+xml" => {
            let keep = Keep {
                links: keep_links,
                images: false,
                main_only,
            };
            let page = page::convert(&text, &keep).map_err(Failure::error)?;
            (page.title, page.markdown)
        }
        "application/json" => (None, text.into_owned()),
        text_type if text_type.starts_with("text/") => (None, text.into_owned()),
        other => {
            return Err(
                Failure::error(format_args!("the page is no text, but `{other}`"))
                    .code("not-a-page"),
            );
        }
    };
    if markdown.trim().is_empty() {
        ctx.warn("the page has no text; it may be built by scripts, which are not run");
    }
    Ok(Page {
        url: answer.url().to_owned(),
        title,
        markdown,
        media_type,
    })
}

/// The media type, HTML where none is said, and how the text is encoded.
fn content_type(answer: &Response) -> (String, &'static Encoding) {
    let header = answer.header("content-type").unwrap_or("text/html");
    let mut parts = header.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_lowercase();
    let charset = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("charset"))
        .and_then(|(_, label)| Encoding::for_label(label.trim_matches('"').as_bytes()));
    (media_type, charset.unwrap_or(UTF_8))
}

skills_sdk::skill! { tools: [fetch] }
