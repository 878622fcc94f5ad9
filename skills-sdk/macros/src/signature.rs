//! A tool's arguments and return type, as its function declares them.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemFn, Pat, PatType, Path, PathArguments,
    Result, ReturnType, Safety, Signature, Type, parse_quote,
};

use crate::attribute::{ArgumentOptions, is_any};
use crate::errors::Errors;
use crate::field;

/// The arguments in the order of the signature.
pub struct Arguments {
    pub list: Vec<Argument>,
}

pub enum Argument {
    Context,
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
            Argument::Context => None,
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
        let arguments = Self { list };
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
    if is_context(&argument.ty)? {
        return match outside_docs(&taken) {
            None => Ok(Argument::Context),
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

/// Whether the type is `&Context`. Any other type without a value of its own
/// is an error.
fn is_context(ty: &Type) -> Result<bool> {
    let reference = match ungrouped(ty) {
        Type::Reference(reference) => reference,
        Type::ImplTrait(_) => {
            return Err(Error::new_spanned(
                ty,
                "an argument needs a named type: `impl Trait` has no schema",
            ));
        }
        _ => return Ok(false),
    };
    let referent = ungrouped(&reference.elem);
    let is_context = matches!(
        referent,
        Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Context")
    );
    match (is_context, &reference.mutability) {
        (true, None) => Ok(true),
        (true, Some(_)) => Err(Error::new_spanned(
            ty,
            "the context is shared: write `&Context`",
        )),
        (false, _) => {
            let owned = match referent {
                Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
                Type::Slice(slice) => format!("Vec<{}>", slice.elem.to_token_stream()),
                other => other.to_token_stream().to_string(),
            };
            Err(Error::new_spanned(
                ty,
                format!("an argument owns its value: write `{owned}`"),
            ))
        }
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
    pub success: Option<Type>,
    pub failure: Option<Type>,
}

impl Returned {
    pub fn read(signature: &Signature) -> Result<Self> {
        let ty: Type = match &signature.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        let fallible = match ungrouped(&ty) {
            Type::ImplTrait(_) => return Err(unnamed(&ty)),
            Type::Path(path) => match path.path.segments.last() {
                Some(last) if last.ident == "Result" => Some(Fallible::read(&last.arguments)?),
                _ => None,
            },
            _ => None,
        };
        Ok(Self { ty, fallible })
    }
}

impl Fallible {
    fn read(arguments: &PathArguments) -> Result<Self> {
        let mut types = match arguments {
            PathArguments::AngleBracketed(arguments) => arguments
                .args
                .iter()
                .filter_map(|argument| match argument {
                    GenericArgument::Type(ty) => Some(ty.clone()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
        .into_iter();
        match (types.next(), types.next()) {
            (Some(ty @ Type::ImplTrait(_)), _) => Err(unnamed(&ty)),
            (success, failure) => Ok(Self { success, failure }),
        }
    }
}

fn unnamed(ty: &Type) -> Error {
    Error::new_spanned(
        ty,
        "an answer needs a named type: `impl Trait` has no schema",
    )
}
