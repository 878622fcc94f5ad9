//! From HTML to Markdown.

use std::rc::Rc;

use htmd::element_handler::Handlers;
use htmd::options::{BulletListMarker, Options};
use htmd::{Element, HtmlToMarkdown, Node};
use markup5ever_rcdom::NodeData;

/// Deeper HTML is refused: the converter descends recursively.
const MAX_DEPTH: usize = 200;

/// Never content.
const INVISIBLE: [&str; 8] = [
    "canvas", "head", "iframe", "noscript", "script", "style", "svg", "template",
];
/// Not the content that a page is for.
const SURROUNDINGS: [&str; 7] = [
    "aside", "button", "dialog", "footer", "form", "nav", "search",
];

/// What to keep.
pub struct Keep {
    pub links: bool,
    pub images: bool,
    /// Only the main content, without navigation and the like.
    pub main_only: bool,
}

/// A converted page.
#[derive(Debug)]
pub struct Page {
    pub title: Option<String>,
    pub markdown: String,
}

/// The HTML has elements in elements in elements, beyond reason.
#[derive(Debug)]
pub struct TooDeep;

impl std::fmt::Display for TooDeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the elements are nested more than {MAX_DEPTH} deep")
    }
}

impl std::error::Error for TooDeep {}

pub fn convert(html: &str, keep: &Keep) -> Result<Page, TooDeep> {
    let document = parse(html);
    if depth(&document) > MAX_DEPTH {
        return Err(TooDeep);
    }
    let title = elements(&document)
        .find(|node| is(node, "title"))
        .map(|node| text(&node))
        .filter(|t| !t.is_empty());
    let main = keep.main_only.then(|| main_content(&document)).flatten();

    let mut skipped = INVISIBLE.to_vec();
    if keep.main_only {
        skipped.extend(SURROUNDINGS);
        if main.is_none() {
            skipped.push("header");
        }
    }
    let markdown = converter(keep, skipped).tree_to_markdown(main.as_ref().unwrap_or(&document));
    Ok(Page {
        title,
        markdown: markdown.trim().to_owned(),
    })
}

fn parse(html: &str) -> Rc<Node> {
    HtmlToMarkdown::new()
        .html_to_tree(html)
        .expect("reading from memory does not fail")
}

fn converter(keep: &Keep, skipped: Vec<&str>) -> HtmlToMarkdown {
    let options = Options {
        bullet_list_marker: BulletListMarker::Dash,
        ul_bullet_spacing: 1,
        ol_number_spacing: 1,
        ..Options::default()
    };
    let mut builder = HtmlToMarkdown::builder()
        .options(options)
        .skip_tags(skipped);
    if !keep.links {
        builder = builder.add_handler(vec!["a"], |handlers: &dyn Handlers, element: Element| {
            Some(handlers.walk_children(element.node))
        });
    }
    if !keep.images {
        builder = builder.skip_tags(vec!["img", "picture"]);
    }
    builder.build()
}

/// The element that holds what the page is for: `main`, or else the only `article`.
fn main_content(document: &Rc<Node>) -> Option<Rc<Node>> {
    let has_main_role = |node: &Rc<Node>| attribute(node, "role").as_deref() == Some("main");
    if let Some(main) = elements(document).find(|node| is(node, "main") || has_main_role(node)) {
        return Some(main);
    }
    let mut articles = elements(document).filter(|node| is(node, "article"));
    articles.next().filter(|_| articles.next().is_none())
}

/// All elements, in the order of the page.
fn elements(root: &Rc<Node>) -> impl Iterator<Item = Rc<Node>> {
    let mut open = vec![root.clone()];
    std::iter::from_fn(move || {
        let node = open.pop()?;
        open.extend(node.children.borrow().iter().rev().cloned());
        Some(node)
    })
    .filter(|node| matches!(node.data, NodeData::Element { .. }))
}

fn depth(root: &Rc<Node>) -> usize {
    let mut deepest = 0;
    let mut open = vec![(root.clone(), 0)];
    while let Some((node, depth)) = open.pop() {
        deepest = deepest.max(depth);
        open.extend(
            node.children
                .borrow()
                .iter()
                .map(|child| (child.clone(), depth + 1)),
        );
    }
    deepest
}

fn is(node: &Node, tag: &str) -> bool {
    matches!(&node.data, NodeData::Element { name, .. } if &*name.local == tag)
}

fn attribute(node: &Node, name: &str) -> Option<String> {
    let NodeData::Element { attrs, .. } = &node.data else {
        return None;
    };
    attrs
        .borrow()
        .iter()
        .find(|attribute| &*attribute.name.local == name)
        .map(|attribute| attribute.value.to_string())
}

/// The text directly in an element, with its white space collapsed.
fn text(node: &Node) -> String {
    let mut text = String::new();
    for child in node.children.borrow().iter() {
        if let NodeData::Text { contents } = &child.data {
            text.push_str(&contents.borrow());
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Keep = Keep {
        links: true,
        images: true,
        main_only: false,
    };

    fn markdown(html: &str, keep: &Keep) -> String {
        convert(html, keep).unwrap().markdown
    }

    #[test]
    fn the_usual_elements_are_converted() {
        let html = "<h1>Bread</h1><p>Flour, <b>water</b> and <em>salt</em>.</p>\
                    <ul><li>mix</li><li>bake</li></ul><ol><li>eat</li></ol><pre><code class='language-sh'>ls -l\n</code></pre>";
        assert_eq!(
            markdown(html, &ALL),
            "# Bread\n\nFlour, **water** and *salt*.\n\n- mix\n- bake\n\n1. eat\n\n```sh\nls -l\n```"
        );
    }

    #[test]
    fn tables_are_converted() {
        let html = "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>";
        assert_eq!(markdown(html, &ALL), "| a | b |\n| - | - |\n| 1 | 2 |");
    }

    #[test]
    fn links_and_images_can_be_left_out() {
        let html = "<p>See <a href='/b'>the <i>book</i></a>.<img src='x.png' alt='cover'></p>";
        assert_eq!(markdown(html, &ALL), "See [the *book*](/b).![cover](x.png)");
        let keep = Keep {
            links: false,
            images: false,
            main_only: false,
        };
        assert_eq!(markdown(html, &keep), "See the *book*.");
    }

    #[test]
    fn scripts_and_styles_are_never_content() {
        let html =
            "<head><style>p{}</style></head><p>a</p><script>b()</script><noscript>c</noscript>";
        assert_eq!(markdown(html, &ALL), "a");
    }

    #[test]
    fn the_main_content_is_what_main_or_the_only_article_holds() {
        let keep = Keep {
            main_only: true,
            ..ALL
        };
        for (html, expected) in [
            (
                "<nav>n</nav><main><header><h1>t</h1></header><p>a</p><aside>s</aside></main><footer>f</footer>",
                "# t\n\na",
            ),
            ("<p>x</p><div role=main><p>a</p></div>", "a"),
            ("<p>x</p><article><p>a</p></article>", "a"),
            (
                "<header>h</header><article>a</article><article>b</article><nav>n</nav>",
                "a\n\nb",
            ),
        ] {
            assert_eq!(markdown(html, &keep), expected, "{html}");
        }
    }

    #[test]
    fn the_title_comes_along() {
        let page = convert("<title> A \n page </title><p>b</p>", &ALL).unwrap();
        assert_eq!(page.title.as_deref(), Some("A page"));
        assert_eq!(page.markdown, "b");
        assert_eq!(convert("<p>b</p>", &ALL).unwrap().title, None);
    }

    #[test]
    fn absurd_nesting_is_refused() {
        convert(&"<div>".repeat(1_000), &ALL).unwrap_err();
    }
}
