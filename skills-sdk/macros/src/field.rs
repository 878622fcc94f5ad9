//! What `#[serde(...)]` and `#[schemars(...)]` make of an argument, as a field of the input.

use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Lit, Meta, Token};

use crate::attribute::is_any;
use crate::errors::Errors;
use crate::signature::InputArgument;

/// Refuses two fields of one name, and what would make the input that the host lets through
/// another than the one that the tool can read.
pub fn check<'a>(inputs: impl Iterator<Item = &'a InputArgument>, errors: &mut Errors) {
    let mut names: Vec<String> = Vec::new();
    for input in inputs {
        let keys: Vec<(bool, Meta)> = keys(&input.attributes).collect();
        for (_, key) in &keys {
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
        if keys
            .iter()
            .any(|(serde, key)| *serde && is_skipped(key.path()))
        {
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

fn is_skipped(key: &syn::Path) -> bool {
    key.is_ident("skip") || key.is_ident("skip_deserializing")
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
