//! Converts HTML pages to Markdown.

mod page;

use std::io::{Error, ErrorKind};

use skills_sdk::prelude::*;

use crate::page::Keep;

/// Larger pages are refused: in memory, a page takes up to thirty times its size.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A converted page.
#[derive(Serialize, JsonSchema)]
pub struct Page {
    /// The page's title, where it has one.
    title: Option<String>,
    /// The page's content.
    markdown: String,
}

/// Converts an HTML page to Markdown.
///
/// The page is `html`, or the file `path`, or else the first attachment. Scripts, styles and
/// the like are left out; `main_only` also leaves out navigation, side bars and footers.
#[tool(
    title = "Convert HTML to Markdown",
    read_only,
    idempotent,
    open_world = false
)]
pub fn convert(
    /// The page itself.
    html: Option<String>,
    /// An HTML file, in a granted directory.
    path: Option<String>,
    /// Give the main content only: what stands in `main`, or in the only `article`.
    #[tool(default = false)]
    main_only: bool,
    /// Keep the targets of links; without them, only their texts stay.
    #[tool(default = true)]
    keep_links: bool,
    /// Keep references to images.
    #[tool(default = true)]
    keep_images: bool,
    ctx: &Context,
) -> Result<Page, Failure> {
    let (html, pointer) = match (html, path, ctx.attachments().first()) {
        (Some(_), Some(_), _) => {
            return Err(Failure::invalid_input(
                "/path",
                "give either `html` or `path`, not both",
            ));
        }
        (Some(html), None, _) => (html, "/html"),
        (None, Some(path), _) => (read_file(&path)?, "/path"),
        (None, None, Some(page)) => (String::from_utf8_lossy(&page.data).into_owned(), ""),
        (None, None, None) => {
            return Err(Failure::invalid_input(
                "",
                "no page: give `html`, `path` or an attachment",
            ));
        }
    };
    check_size(html.len() as u64, pointer)?;

    let keep = Keep {
        links: keep_links,
        images: keep_images,
        main_only,
    };
    let page = page::convert(&html, &keep)
        .map_err(|error| Failure::invalid_input(pointer, error.to_string()))?;
    if page.markdown.is_empty() {
        ctx.warn("the page has no text; it may be built by scripts, which are not run");
    }
    Ok(Page {
        title: page.title,
        markdown: page.markdown,
    })
}

fn read_file(path: &str) -> Result<String, Failure> {
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(path, &error))?
        .len();
    check_size(size, "/path")?;
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unreadable(path: &str, error: &Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            "no such file, or its directory is not granted (--dir)".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::invalid_input("/path", format!("cannot read `{path}`: {reason}"))
}

fn check_size(size: u64, pointer: &str) -> Result<(), Failure> {
    if size <= MAX_BYTES {
        return Ok(());
    }
    let message = format!("the page has {size} bytes; at most {MAX_BYTES} can be converted");
    Err(Failure::invalid_input(pointer, message))
}

skills_sdk::skill! { tools: [convert] }
