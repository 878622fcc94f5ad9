//! The attributes that the macros read: `#[tool(...)]` on a function,
//! `#[tool(...)]` on an argument, and doc comments.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitBool, LitStr, Meta, Path, Result, Token};

/// Whether the attribute has one of the names.
pub fn is_any(attribute: &Attribute, names: &[&str]) -> bool {
    names.iter().any(|name| attribute.path().is_ident(name))
}

/// What stands in the parentheses of a function's `#[tool(...)]`.
#[derive(Default)]
pub struct ToolOptions {
    pub name: Option<LitStr>,
    pub title: Option<LitStr>,
    pub read_only: Option<bool>,
    pub destructive: Option<bool>,
    pub idempotent: Option<bool>,
    pub open_world: Option<bool>,
}

const TOOL_KEYS: &[&str] = &[
    "name",
    "title",
    "read_only",
    "destructive",
    "idempotent",
    "open_world",
];

impl ToolOptions {
    pub fn parse(tokens: TokenStream) -> Result<Self> {
        let mut options = Self::default();
        let mut seen = Vec::new();
        syn::meta::parser(|meta| {
            let key = once(&meta, &mut seen)?;
            match key.as_str() {
                "name" => {
                    let name = text(&meta, &key)?;
                    check_tool_name(&name.value(), name.span())?;
                    options.name = Some(name);
                }
                "title" => options.title = Some(text(&meta, &key)?),
                "read_only" => options.read_only = Some(flag(&meta)?),
                "destructive" => options.destructive = Some(flag(&meta)?),
                "idempotent" => options.idempotent = Some(flag(&meta)?),
                "open_world" => options.open_world = Some(flag(&meta)?),
                _ => return Err(unknown_key(&meta, &key, TOOL_KEYS)),
            }
            if options.read_only == Some(true) && options.destructive == Some(true) {
                return Err(meta.error("a tool that is read-only cannot be destructive"));
            }
            Ok(())
        })
        .parse2(tokens)?;
        Ok(options)
    }
}

/// What a tool's name may be, as the contract has it.
pub fn check_tool_name(name: &str, span: Span) -> Result<()> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fits {
        return Ok(());
    }
    Err(Error::new(
        span,
        format!("`{name}` cannot name a tool: a name is 1 to 64 of a-z, A-Z, 0-9, `_` and `-`"),
    ))
}

/// What the `#[tool(...)]` attributes of an argument say.
#[derive(Default)]
pub struct ArgumentOptions {
    /// The argument is the whole input; where that is said.
    pub input: Option<Path>,
    pub default: Option<ArgumentDefault>,
}

/// The value of an argument that the input leaves out.
pub enum ArgumentDefault {
    /// That of its type; where that is said.
    OfType(Span),
    /// That of an expression.
    Of(Expr),
}

const ARGUMENT_KEYS: &[&str] = &["default", "input"];

impl ArgumentOptions {
    /// Reads the `#[tool(...)]` attributes among `attributes`.
    pub fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut options = Self::default();
        let mut seen = Vec::new();
        for attribute in attributes.iter().filter(|a| is_any(a, &["tool"])) {
            attribute.parse_nested_meta(|meta| {
                let key = once(&meta, &mut seen)?;
                match key.as_str() {
                    "default" if meta.input.peek(Token![=]) => {
                        options.default = Some(ArgumentDefault::Of(meta.value()?.parse()?));
                    }
                    "default" => {
                        options.default = Some(ArgumentDefault::OfType(meta.path.span()));
                    }
                    "input" => options.input = Some(meta.path.clone()),
                    _ => return Err(unknown_key(&meta, &key, ARGUMENT_KEYS)),
                }
                Ok(())
            })?;
        }
        Ok(options)
    }
}

/// The key at hand, which must not have come before.
fn once(meta: &ParseNestedMeta, seen: &mut Vec<String>) -> Result<String> {
    let key = meta.path.to_token_stream().to_string();
    if seen.contains(&key) {
        return Err(meta.error(format!("`{key}` is given twice")));
    }
    seen.push(key.clone());
    Ok(key)
}

/// `key = "..."`.
fn text(meta: &ParseNestedMeta, key: &str) -> Result<LitStr> {
    if meta.input.peek(Token![=]) {
        let value = meta.value()?;
        if !value.is_empty() {
            return value.parse();
        }
    }
    Err(meta.error(format!("`{key}` needs a text: `{key} = \"...\"`")))
}

/// `key`, `key = true` or `key = false`.
fn flag(meta: &ParseNestedMeta) -> Result<bool> {
    if meta.input.peek(Token![=]) {
        Ok(meta.value()?.parse::<LitBool>()?.value)
    } else {
        Ok(true)
    }
}

fn unknown_key(meta: &ParseNestedMeta, key: &str, known: &[&str]) -> Error {
    let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    meta.error(format!(
        "unknown key `{key}`; the keys are {}",
        known.join(", ")
    ))
}

/// The text of the doc comments among `attributes` as an expression of the
/// type `&'static str`; `None` where there are none, or only blank ones.
pub fn doc_text(attributes: &[Attribute]) -> Option<TokenStream> {
    let mut lines = Vec::new();
    let mut parts = Vec::new();
    for attribute in attributes {
        let Meta::NameValue(doc) = &attribute.meta else {
            continue;
        };
        if !doc.path.is_ident("doc") {
            continue;
        }
        match &doc.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => lines.extend(text.value().split('\n').map(str::to_owned)),
            // `#[doc = include_str!("...")]`, say, whose text is not known here.
            value => {
                let before = unindent(&std::mem::take(&mut lines));
                parts.push(quote!(#before, "\n", #value, "\n"));
            }
        }
    }
    let text = unindent(&lines);
    if !parts.is_empty() {
        return Some(quote!(::core::concat!(#(#parts,)* #text).trim()));
    }
    (!text.is_empty()).then(|| text.to_token_stream())
}

/// The lines without their common indentation and without blank ends.
fn unindent(lines: &[String]) -> String {
    let indentation = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.get(indentation..).unwrap_or("").trim_end())
        .collect();
    lines.join("\n").trim().to_owned()
}
