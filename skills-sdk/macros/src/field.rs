//! What `#[serde(...)]` and `#[schemars(...)]` make of an argument, as a field of the input.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, Lit, Meta, Token};

use crate::attribute::is_any;
use crate::errors::Errors;
use crate::signature::{InputArgument, check_within};

/// Refuses two fields of one name, and what would make the input that the host lets through
/// another than the one that the tool can read.
pub fn check<'a>(inputs: impl Iterator<Item = &'a InputArgument>, errors: &mut Errors) {
    let mut names: Vec<String> = Vec::new();
    for input in inputs {
        let keys: Vec<(bool, Meta)> = keys(&input.attributes).collect();
        for (serde, key) in &keys {
            if *serde && key.path().is_ident("default") && input.options.default.is_some() {
                errors.push(
                    key,
                    "the default is given twice: `#[tool(default)]` gives one too",
                );
            }
            if *serde && key.path().is_ident("borrow") {
                errors.push(key, "an argument owns its value: it borrows nothing");
            }
            if key.path().is_ident("flatten") {
                errors.push(
                    key,
                    "an argument cannot be flattened, as fields that are no arguments are refused; take the \
                     whole input instead: `#[tool(input)]`, with a struct that has this field",
                );
            }
            if key.path().is_ident("alias") {
                errors.push(
                    key,
                    "an argument has one name: the schema does not show an alias, so the host would \
                     refuse it",
                );
            }
        }
        let is_any_key = |names: &[&str]| {
            keys.iter()
                .any(|(serde, key)| *serde && names.iter().any(|name| key.path().is_ident(name)))
        };
        let skipped = is_any_key(&["skip", "skip_deserializing"]);
        if !skipped && !is_any_key(&["with", "deserialize_with"]) {
            errors.take(check_within(&input.ty));
        }
        if skipped {
            continue;
        }
        let renamed = keys
            .iter()
            .filter(|(serde, _)| *serde)
            .find_map(|(_, key)| renamed(key));
        let name = renamed.unwrap_or_else(|| input.name.unraw().to_string());
        if names.contains(&name) {
            errors.push(
                &input.name,
                format!("two arguments have the same name in the input: `{name}`"),
            );
        }
        names.push(name);
    }
}

/// What stands in the attributes, and whether it is serde's. What cannot be read is left to serde
/// and schemars, which say so.
fn keys(attributes: &[Attribute]) -> impl Iterator<Item = (bool, Meta)> {
    attributes
        .iter()
        .filter(|attribute| is_any(attribute, &["serde", "schemars"]))
        .filter_map(|attribute| {
            let keys = attribute
                .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
                .ok()?;
            let serde = is_any(attribute, &["serde"]);
            Some(keys.into_iter().map(move |key| (serde, key)))
        })
        .flatten()
}

/// Where serde is told to take the default of an argument's type: by `default`, or as it skips the
/// argument.
pub fn default_of_type(attributes: &[Attribute]) -> Option<Span> {
    let key = |name| {
        keys(attributes)
            .find_map(|(serde, key)| (serde && key.path().is_ident(name)).then_some(key))
    };
    match key("default") {
        Some(Meta::Path(default)) => Some(default.span()),
        Some(_) => None,
        None => Some(
            key("skip")
                .or_else(|| key("skip_deserializing"))?
                .path()
                .span(),
        ),
    }
}

/// The attributes, with `function` as what makes the default. It takes the place of a `default` that
/// names no function.
pub fn with_default(attributes: &[Attribute], function: &str) -> TokenStream {
    let mut attributes = attributes.to_vec();
    let mut named = false;
    for attribute in &mut attributes {
        let Meta::List(list) = &mut attribute.meta else {
            continue;
        };
        let Ok(keys) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else {
            continue;
        };
        if !list.path.is_ident("serde") {
            continue;
        }
        let keys = keys.into_iter().map(|key| match key {
            Meta::Path(default) if default.is_ident("default") => {
                named = true;
                quote!(#default = #function)
            }
            key => key.to_token_stream(),
        });
        list.tokens = quote!(#(#keys),*);
    }
    let default = (!named).then(|| quote!(#[serde(default = #function)]));
    quote!(#(#attributes)* #default)
}

/// The name that `rename = "..."` or `rename(deserialize = "...")` gives.
fn renamed(key: &Meta) -> Option<String> {
    let within;
    let pair = match key {
        Meta::NameValue(pair) if pair.path.is_ident("rename") => pair,
        Meta::List(list) if list.path.is_ident("rename") => {
            within = list
                .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
                .ok()?;
            within.iter().find_map(|key| match key {
                Meta::NameValue(pair) if pair.path.is_ident("deserialize") => Some(pair),
                _ => None,
            })?
        }
        _ => return None,
    };
    match &pair.value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(name),
            ..
        }) => Some(name.value()),
        _ => None,
    }
}
