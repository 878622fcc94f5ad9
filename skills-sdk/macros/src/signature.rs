//! A tool's arguments and return type, as its function declares them.

use proc_macro2::Span;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemFn, Pat, PatType, Path, PathArguments,
    PathSegment, Result, ReturnType, Safety, Signature, Type, TypeReference, parse_quote,
};

use crate::attribute::{ArgumentOptions, is_any};
use crate::errors::Errors;
use crate::field;

/// The arguments in the order of the signature.
pub struct Arguments {
    pub list: Vec<Argument>,
    /// Where they stand.
    pub span: Span,
}

pub enum Argument {
    /// The context; where its type is named.
    Context(Span),
    Input(Box<InputArgument>),
}

/// An argument that the input provides.
pub struct InputArgument {
    pub name: Ident,
    pub ty: Type,
    pub options: ArgumentOptions,
    /// Attributes for the input's field: doc comments, `serde`, `schemars`.
    pub attributes: Vec<Attribute>,
}

impl Arguments {
    /// The arguments that the input provides.
    pub fn inputs(&self) -> impl Iterator<Item = &InputArgument> {
        self.list.iter().filter_map(|argument| match argument {
            Argument::Context(_) => None,
            Argument::Input(input) => Some(&**input),
        })
    }

    /// Where an argument is said to take the whole input, if one is.
    pub fn whole(&self) -> Option<&Path> {
        self.inputs().find_map(|input| input.options.input.as_ref())
    }

    /// Reads the arguments, and takes the attributes that the compiler would
    /// not understand out of the function.
    pub fn take(function: &mut ItemFn) -> Result<Self> {
        let mut errors = Errors::default();
        check_kind(&function.sig, &mut errors);
        let mut list = Vec::new();
        for argument in &mut function.sig.inputs {
            if let FnArg::Typed(argument) = argument {
                list.extend(errors.take(take_argument(argument)));
            }
        }
        let arguments = Self {
            list,
            span: function.sig.paren_token.span.join(),
        };
        if arguments.whole().is_none() {
            field::check(arguments.inputs(), &mut errors);
        }
        if let Some(whole) = arguments.whole() {
            for input in arguments.inputs() {
                if input.options.input.is_none() {
                    errors.push(
                        whole,
                        "`input` takes the whole input: only `&Context` can stand beside it",
                    );
                    break;
                }
                if is_no_object(&input.ty) {
                    errors.push(
                        &input.ty,
                        format!(
                            "`{}` is no object in JSON, and the whole input is one: a struct, or a map \
                             with texts as keys. Without `#[tool(input)]` this is the field `{}` of it",
                            written(&input.ty),
                            input.name.unraw()
                        ),
                    );
                }
                errors.take(check_within(&input.ty));
                if input.options.default.is_some() {
                    errors.push(whole, "the whole input has no `default`");
                }
                if let Some(attribute) = outside_docs(&input.attributes) {
                    errors.push(attribute, "this goes on the fields of the input's type");
                }
            }
        }
        errors.finish()?;
        Ok(arguments)
    }
}

/// A tool is a plain function.
fn check_kind(signature: &Signature, errors: &mut Errors) {
    if let Some(keyword) = &signature.asyncness {
        errors.push(
            keyword,
            "a tool is a plain function; the host does not await an `async fn`",
        );
    }
    if let Safety::Unsafe(keyword) = &signature.safety {
        errors.push(keyword, "a tool cannot be an `unsafe fn`");
    }
    if !signature.generics.params.is_empty() {
        errors.push(
            &signature.generics,
            "a tool cannot be generic: its input and its output have one schema each",
        );
    }
}

fn take_argument(argument: &mut PatType) -> Result<Argument> {
    let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut argument.attrs)
        .into_iter()
        .partition(|attribute| is_any(attribute, &["tool", "doc", "serde", "schemars"]));
    argument.attrs = kept;
    if let Some(cfg) = argument
        .attrs
        .iter()
        .find(|a| is_any(a, &["cfg", "cfg_attr"]))
    {
        return Err(Error::new_spanned(
            cfg,
            "an argument cannot be conditional; the function can",
        ));
    }
    if let Some(context) = context(&argument.ty)? {
        return match outside_docs(&taken) {
            None => Ok(Argument::Context(context)),
            Some(attribute) => Err(Error::new_spanned(
                attribute,
                "the context does not come from the input, so nothing can be said of it here",
            )),
        };
    }
    let name = match &*argument.pat {
        Pat::Ident(pattern) if pattern.subpat.is_none() && pattern.by_ref.is_none() => {
            pattern.ident.clone()
        }
        pattern => {
            return Err(Error::new_spanned(
                pattern,
                "an argument needs a plain name, which is that of its field in the input",
            ));
        }
    };
    Ok(Argument::Input(Box::new(InputArgument {
        name,
        ty: (*argument.ty).clone(),
        options: ArgumentOptions::parse(&taken)?,
        attributes: taken
            .into_iter()
            .filter(|attribute| !is_any(attribute, &["tool"]))
            .collect(),
    })))
}

/// The first attribute that is not a doc comment.
fn outside_docs(attributes: &[Attribute]) -> Option<&Attribute> {
    attributes
        .iter()
        .find(|attribute| !is_any(attribute, &["doc"]))
}

/// Where the type names the context, if it is `&Context`. Any other type without a value of its own
/// is an error.
fn context(ty: &Type) -> Result<Option<Span>> {
    let reference = match ungrouped(ty) {
        Type::Reference(reference) => reference,
        Type::ImplTrait(_) => return Err(unnamed("an argument", ty, "impl")),
        Type::TraitObject(_) => return Err(unnamed("an argument", ty, "dyn")),
        unsized_type if is_unsized(unsized_type) => {
            return Err(owns("an argument", ty, unsized_type));
        }
        owned => {
            return match context_name(owned) {
                Some(_) => Err(Error::new_spanned(
                    ty,
                    "the context is lent for the call: write `&Context`, and call a type of your own something else",
                )),
                None => Ok(None),
            };
        }
    };
    let referent = ungrouped(&reference.elem);
    let lent = reference
        .lifetime
        .as_ref()
        .is_none_or(|lifetime| lifetime.ident != "static");
    match (context_name(referent), &reference.mutability) {
        (Some(name), None) if lent => Ok(Some(name.span())),
        (Some(_), None) => Err(Error::new_spanned(
            ty,
            "the context is lent for the call: write `&Context`",
        )),
        (Some(_), Some(_)) => Err(Error::new_spanned(
            ty,
            "the context is shared: write `&Context`",
        )),
        (None, _) => Err(owns("an argument", ty, referent)),
    }
}

/// The type's name, if that is `Context`.
fn context_name(ty: &Type) -> Option<&Ident> {
    let Type::Path(path) = ty else {
        return None;
    };
    let name = &path.path.segments.last()?.ident;
    (name == "Context").then_some(name)
}

/// Refuses a reference within an argument's type.
pub fn check_within(ty: &Type) -> Result<()> {
    let Some(reference) = reference_within(ty) else {
        return Ok(());
    };
    let referent = ungrouped(&reference.elem);
    Err(match context_name(referent) {
        Some(_) => Error::new_spanned(
            reference,
            "the context is an argument of its own: write `&Context` alone",
        ),
        None => owns("an argument", reference, referent),
    })
}

fn reference_within(ty: &Type) -> Option<&TypeReference> {
    match ty {
        Type::Reference(reference) => Some(reference),
        Type::Group(group) => reference_within(&group.elem),
        Type::Paren(paren) => reference_within(&paren.elem),
        Type::Array(array) => reference_within(&array.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(reference_within),
        Type::Path(path) => {
            types_of(&path.path.segments.last()?.arguments).find_map(reference_within)
        }
        _ => None,
    }
}

/// What is written as a type that has no value of its own, but borrows from `referent`.
fn owns(what: &str, written: impl ToTokens, referent: &Type) -> Error {
    let owned = match referent {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Slice(slice) => format!("Vec<{}>", slice.elem.to_token_stream()),
        other => other.to_token_stream().to_string(),
    };
    Error::new_spanned(written, format!("{what} owns its value: write `{owned}`"))
}

fn is_unsized(ty: &Type) -> bool {
    match ty {
        Type::Slice(_) => true,
        Type::Path(path) => path.path.is_ident("str"),
        _ => false,
    }
}

/// Whether the type, as far as its name tells, is written in JSON as something else than an object.
fn is_no_object(ty: &Type) -> bool {
    const NAMES: &[&str] = &[
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16",
        "u32", "u64", "u128", "usize", "String", "Vec", "HashSet", "BTreeSet",
    ];
    match ungrouped(ty) {
        Type::Array(_) | Type::Tuple(_) => true,
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| NAMES.iter().any(|name| last.ident == name)),
        _ => false,
    }
}

/// The type as it is usually written, without spaces between its tokens.
fn written(ty: &Type) -> String {
    let tokens = ty.to_token_stream().to_string();
    let mut text = String::new();
    for part in tokens.split(' ') {
        let joined = text.is_empty()
            || text.ends_with(['<', '(', '[', ':', '&'])
            || part.starts_with(['<', '>', ')', ']', ',', ':', ';']);
        if !joined {
            text.push(' ');
        }
        text.push_str(part);
    }
    text
}

/// The type without the invisible group that a `macro_rules` macro puts around
/// a fragment.
fn ungrouped(mut ty: &Type) -> &Type {
    while let Type::Group(group) = ty {
        ty = &group.elem;
    }
    ty
}

/// What a function returns.
pub struct Returned {
    /// The type, `()` where none is written.
    pub ty: Type,
    /// The function may fail: the type is called `Result`.
    pub fallible: Option<Fallible>,
}

/// The types of success and failure, where they are written: an alias may
/// leave them out.
pub struct Fallible {
    /// The word `Result`.
    pub name: Ident,
    pub success: Option<Type>,
    pub failure: Option<Type>,
}

impl Returned {
    pub fn read(signature: &Signature) -> Result<Self> {
        let ty: Type = match &signature.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        check_answer(&ty)?;
        let fallible = match ungrouped(&ty) {
            Type::Path(path) => match path.path.segments.last() {
                Some(last) if last.ident == "Result" => Some(Fallible::read(last)?),
                _ => None,
            },
            _ => None,
        };
        Ok(Self { ty, fallible })
    }
}

impl Fallible {
    fn read(result: &PathSegment) -> Result<Self> {
        let mut types = types_of(&result.arguments).cloned();
        let (success, failure) = (types.next(), types.next());
        if let Some(ty) = &success {
            check_answer(ty)?;
        }
        if let Some(ty @ Type::ImplTrait(_)) = &failure {
            return Err(Error::new_spanned(
                ty,
                "a failure needs a named type, which becomes a `Failure`",
            ));
        }
        if let Some(ty) = failure.as_ref().filter(|ty| is_text(ty)) {
            return Err(Error::new_spanned(
                ty,
                "a text is no failure: write `Failure`, and `Failure::error(\"…\")` where it is made; a type that implements `Error` does as well",
            ));
        }
        Ok(Self {
            name: result.ident.clone(),
            success,
            failure,
        })
    }
}

/// Whether the type, as far as its name tells, is a text.
fn is_text(ty: &Type) -> bool {
    match ungrouped(ty) {
        Type::Reference(reference) => is_unsized(ungrouped(&reference.elem)),
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| last.ident == "String"),
        _ => false,
    }
}

/// The types among the generic arguments of a path's segment.
fn types_of(arguments: &PathArguments) -> impl Iterator<Item = &Type> {
    match arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    }
    .into_iter()
    .flatten()
    .filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Refuses an answer without a schema, or without a size.
fn check_answer(ty: &Type) -> Result<()> {
    let written = match ungrouped(ty) {
        Type::ImplTrait(_) => "impl",
        Type::TraitObject(_) => "dyn",
        unsized_type if is_unsized(unsized_type) => {
            return Err(owns("an answer", ty, unsized_type));
        }
        _ => return Ok(()),
    };
    Err(unnamed("an answer", ty, written))
}

fn unnamed(what: &str, ty: &Type, written: &str) -> Error {
    Error::new_spanned(
        ty,
        format!("{what} needs a named type: `{written} Trait` has no schema"),
    )
}
