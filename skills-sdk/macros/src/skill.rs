//! `skill!`: what turns a crate with tools into a component.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitStr, Path, Result, Token, bracketed};

/// What stands in `skill! { ... }`.
struct Input {
    tools: Vec<Path>,
    name: TokenStream,
    version: TokenStream,
    description: TokenStream,
}

const KEYS: &str = "`tools`, `name`, `version`, `description`";

impl Parse for Input {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut tools: Option<Vec<Path>> = None;
        let (mut name, mut version, mut description) = (None, None, None);
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![:]>()?;
            let text = match key.to_string().as_str() {
                "tools" => {
                    let list;
                    let brackets = bracketed!(list in input);
                    let list = Punctuated::<Path, Token![,]>::parse_terminated(&list)?;
                    if list.is_empty() {
                        return Err(Error::new(
                            brackets.span.join(),
                            "a skill has at least one tool: list the functions with `#[tool]`",
                        ));
                    }
                    if tools.replace(list.into_iter().collect()).is_some() {
                        return Err(Error::new(key.span(), "`tools` is given twice"));
                    }
                    None
                }
                "name" => Some(&mut name),
                "version" => Some(&mut version),
                "description" => Some(&mut description),
                other => {
                    return Err(Error::new(
                        key.span(),
                        format!("unknown key `{other}`; the keys are {KEYS}"),
                    ));
                }
            };
            if let Some(text) = text
                && text.replace(input.parse::<LitStr>()?).is_some()
            {
                return Err(Error::new(key.span(), format!("`{key}` is given twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let Some(tools) = tools else {
            return Err(Error::new(
                Span::call_site(),
                "a skill lists its tools: `skill! { tools: [...] }`",
            ));
        };
        Ok(Self {
            tools,
            name: text(name, "name", "CARGO_PKG_NAME", check_name)?,
            version: text(version, "version", "CARGO_PKG_VERSION", check_version)?,
            description: text(
                description,
                "description",
                "CARGO_PKG_DESCRIPTION",
                check_description,
            )?,
        })
    }
}

/// The text given for `key`, or else that of the package, once it is checked.
fn text(
    given: Option<LitStr>,
    key: &str,
    variable: &str,
    check: fn(&str) -> std::result::Result<(), String>,
) -> Result<TokenStream> {
    match given {
        Some(text) => {
            check(&text.value()).map_err(|why| Error::new(text.span(), why))?;
            Ok(text.to_token_stream())
        }
        None => {
            // Where cargo is not the one who builds, `env!` reports what lacks.
            if let Ok(value) = std::env::var(variable) {
                check(&value).map_err(|why| {
                    let hint =
                        format!("change `{key}` in Cargo.toml, or give `{key}: \"...\"` here");
                    Error::new(Span::call_site(), format!("{why}\nhint: {hint}"))
                })?;
            }
            Ok(quote!(::core::env!(#variable)))
        }
    }
}

/// What a skill's name may be, as the contract has it.
fn check_name(name: &str) -> std::result::Result<(), String> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if fits {
        Ok(())
    } else {
        Err(format!(
            "`{name}` cannot name a skill: a name is 1 to 64 of a-z, 0-9 and `-`, \
             with no hyphen first, last or after another"
        ))
    }
}

fn check_version(version: &str) -> std::result::Result<(), String> {
    match semver::Version::parse(version) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("`{version}` is no semantic version: {why}")),
    }
}

fn check_description(description: &str) -> std::result::Result<(), String> {
    if description.trim().is_empty() {
        Err("a skill needs a description: one paragraph on what it is for".to_owned())
    } else {
        Ok(())
    }
}

/// Where the path names the tool itself.
fn name_of(tool: &Path) -> Span {
    tool.segments
        .last()
        .map_or_else(Span::call_site, |last| last.ident.span())
}

/// The entry of the tool that the path leads to.
pub fn entry(path: TokenStream) -> Result<TokenStream> {
    let mut tool: Path = syn::parse2(path)?;
    // Resolved as it is written, and shown where it is written, but as a part of this expansion.
    let here = |span: Span| Span::call_site().located_at(span);
    let written = tool.segments.iter_mut().map(|segment| &mut segment.ident);
    for name in written.filter(|name| *name != "$crate") {
        name.set_span(here(name.span()));
    }
    let span = here(name_of(&tool));
    Ok(quote_spanned!(span=> <#tool as ::skills_sdk::__private::Tool>::ENTRY))
}

pub fn expand(input: TokenStream) -> Result<TokenStream> {
    let Input {
        tools,
        name,
        version,
        description,
    } = syn::parse2(input)?;
    let entries = tools
        .iter()
        .map(|tool| quote!(::skills_sdk::__private::each_tool_needs_the_attribute_tool!(#tool)));
    // Each name is checked against those before it, so that the error points
    // at the second tool of a name.
    let checks = tools.iter().enumerate().map(|(index, tool)| {
        let span = name_of(tool);
        quote_spanned!(span=> const _: () = ::skills_sdk::__private::check_unique(TOOLS, #index);)
    });
    Ok(quote! {
        /// The skill that this crate is, for its tests.
        pub const fn skill() -> ::skills_sdk::Skill {
            const TOOLS: &[::skills_sdk::__private::ToolEntry] = &[#(#entries),*];
            #(#checks)*
            ::skills_sdk::Skill::new(#name, #version, #description, TOOLS)
        }

        ::skills_sdk::__export!();
    })
}
