//! `#[tool]`: a function, and beside it what the skill needs to offer it.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Ident, ItemFn, Lit, Result};

use crate::attribute::{ArgumentDefault, ToolOptions, check_tool_name, doc_text, is_any};
use crate::errors::Errors;
use crate::field::{default_of_type, with_default};
use crate::signature::{Argument, Arguments, Fallible, InputArgument, Returned};

/// Expands `#[tool(attribute)] function`.
///
/// The function stays what it was. An empty type of the same name implements
/// the trait `Tool`, so that one path, and one `use`, stands for both.
pub fn expand(attribute: TokenStream, function: TokenStream) -> TokenStream {
    let mut function: ItemFn = match syn::parse2(function.clone()) {
        Ok(function) => function,
        Err(error) => {
            return match function_name(&function) {
                Some(name) => unreadable(&name, error),
                None => {
                    let error = Error::new(Span::call_site(), "`#[tool]` goes on a function");
                    [error.into_compile_error(), function].into_iter().collect()
                }
            };
        }
    };
    if let Some(receiver) = function.sig.receiver() {
        // A type cannot stand beside a method, so nothing does.
        let error = Error::new_spanned(
            receiver,
            "a tool is a function outside any `impl`; it has no `self`",
        );
        return [error.into_compile_error(), function.to_token_stream()]
            .into_iter()
            .collect();
    }
    let twice = take_second(&mut function);
    let arguments = twice.and_then(|()| Arguments::take(&mut function));
    let implementation = match Tool::read(attribute, &function, arguments) {
        Ok(tool) => tool.to_token_stream(),
        Err(error) => stub(&function.sig.ident, error),
    };
    let visibility = &function.vis;
    let name = &function.sig.ident;
    // Where nothing can stand beside the function, as in an `impl`, the compiler points at its name.
    let here = at(name.span());
    let cfg = function.attrs.iter().filter(|a| is_any(a, &["cfg"]));
    let cfg = quote!(#(#cfg)*);
    let beside = quote_spanned! {here=>
        #cfg
        #[doc(hidden)]
        #[allow(non_camel_case_types)]
        #visibility enum #name {}

        #cfg
        const _: () = {
            #implementation
        };
    };
    quote!(#function #beside)
}

/// The name of a function that is not written to its end as one.
fn function_name(item: &TokenStream) -> Option<Ident> {
    let mut tokens = item.clone().into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word == "fn"))?;
    match tokens.next()? {
        TokenTree::Ident(name) => Some(name),
        _ => None,
    }
}

/// In the place of a function that has a mistake in it. Left as it is, with what was ours to take off it, it would
/// be found fault with where there is none.
fn unreadable(name: &Ident, error: Error) -> TokenStream {
    let stub = stub(name, error);
    quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code)]
        pub enum #name {}

        const _: () = {
            #stub
        };
    }
}

/// The span as one of the expansion's own: what the compiler finds there is shown there, and lints
/// know that no author wrote it.
fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// Takes a second `#[tool]` off the function, which would make the same again.
fn take_second(function: &mut ItemFn) -> Result<()> {
    let mut errors = Errors::default();
    function.attrs.retain(|attribute| {
        let second = is_any(attribute, &["tool"]);
        if second {
            errors.push(attribute, "`#[tool]` is given twice");
        }
        !second
    });
    errors.finish()
}

/// The error, and what keeps a `skill!` that lists the tool from adding one of
/// its own.
fn stub(name: &Ident, error: Error) -> TokenStream {
    let error = error.into_compile_error();
    quote! {
        #error

        impl ::skills_sdk::__private::Tool for #name {
            const NAME: &'static str = ::core::stringify!(#name);

            fn describe() -> ::skills_sdk::ToolDescription {
                ::core::unreachable!()
            }

            fn call(
                _: &str,
                _: &::skills_sdk::Context,
            ) -> ::core::result::Result<::std::string::String, ::skills_sdk::Failure> {
                ::core::unreachable!()
            }
        }
    }
}

struct Tool<'a> {
    function: &'a Ident,
    /// The tool's name, which may be another than the function's.
    name: String,
    options: ToolOptions,
    description: TokenStream,
    arguments: Arguments,
    returned: Returned,
}

impl<'a> Tool<'a> {
    fn read(
        attribute: TokenStream,
        function: &'a ItemFn,
        arguments: Result<Arguments>,
    ) -> Result<Self> {
        let ident = &function.sig.ident;
        let mut errors = Errors::default();
        let options = errors.take(ToolOptions::parse(attribute));
        let arguments = errors.take(arguments);
        let returned = errors.take(Returned::read(&function.sig));
        let description = doc_text(&function.attrs);
        if description.is_none() {
            errors.push(
                ident,
                "a tool needs a description: a doc comment that says what it does and when to use it",
            );
        }
        let mut name = ident.unraw().to_string();
        match options.as_ref().and_then(|options| options.name.as_ref()) {
            Some(given) => name = given.value(),
            None => {
                errors.take(check_tool_name(&name, ident.span()));
            }
        }
        errors.finish()?;
        Ok(Self {
            function: ident,
            name,
            options: options.unwrap(),
            description: description.unwrap(),
            arguments: arguments.unwrap(),
            returned: returned.unwrap(),
        })
    }

    /// The type that the input is read into, and what defines it.
    fn input(&self) -> (TokenStream, TokenStream) {
        if self.arguments.whole().is_some() {
            let ty = self.arguments.inputs().map(|input| &input.ty);
            return (quote!(#(#ty)*), TokenStream::new());
        }
        let (fields, defaults): (Vec<_>, Vec<_>) = self.arguments.inputs().map(field).unzip();
        // What the derived code lacks is reported where the derived traits are named.
        let derived = quote_spanned! {at(self.arguments.span)=>
            ::skills_sdk::__private::serde::Deserialize,
            ::skills_sdk::__private::schemars::JsonSchema,
        };
        let definition = quote! {
            #[derive(#derived)]
            #[serde(crate = "::skills_sdk::__private::serde", deny_unknown_fields)]
            #[schemars(crate = "::skills_sdk::__private::schemars")]
            struct __Input {
                #(#fields),*
            }

            #[allow(unused_imports)]
            use ::skills_sdk::__private::Underived as _;

            #(#defaults)*
        };
        (
            quote_spanned!(at(self.arguments.span)=> __Input),
            definition,
        )
    }

    /// The type of the answer, and an expression for the answer to `call`.
    fn output(&self, call: TokenStream) -> (TokenStream, TokenStream) {
        let ty = &self.returned.ty;
        let Some(Fallible {
            name,
            success,
            failure,
        }) = &self.returned.fallible
        else {
            let write = quote_spanned!(ty.span()=> ::skills_sdk::__private::write::<#ty>);
            return (ty.to_token_stream(), quote!(#write(&#call)));
        };
        let fallible = quote_spanned!(at(name.span())=> <#ty as ::skills_sdk::__private::Fallible>);
        let answer = match success {
            Some(ty) => ty.to_token_stream(),
            None => quote!(#fallible::Output),
        };
        // What the types lack is reported where they are written.
        let span = success.as_ref().map_or(name.span(), Spanned::span);
        let write = quote_spanned!(span=> ::skills_sdk::__private::write::<#answer>);
        let span = failure.as_ref().map_or(name.span(), Spanned::span);
        let into = quote_spanned! {span.resolved_at(Span::mixed_site())=>
            ::core::convert::Into::<::skills_sdk::Failure>::into(failure)
        };
        let expression = quote_spanned! {Span::mixed_site()=>
            match #fallible::into_result(#call) {
                ::core::result::Result::Ok(answer) => #write(&answer),
                ::core::result::Result::Err(failure) => {
                    ::core::result::Result::Err(#into)
                }
            }
        };
        (answer, expression)
    }
}

/// The field of an argument, and the function that makes its default.
fn field(argument: &InputArgument) -> (TokenStream, TokenStream) {
    let InputArgument {
        name,
        ty,
        options,
        attributes,
    } = argument;
    let value = match (&options.default, &default_of_type(attributes)) {
        (Some(ArgumentDefault::OfType(span)), _) | (None, Some(span)) => {
            quote_spanned!(at(*span)=> ::core::default::Default::default())
        }
        (Some(ArgumentDefault::Of(value)), _) => match value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => quote_spanned!(text.span()=> ::core::convert::From::from(#text)),
            value => value.to_token_stream(),
        },
        (None, None) => return (quote!(#(#attributes)* #name: #ty), TokenStream::new()),
    };
    let function = format_ident!("__default_{}", name.unraw());
    let attributes = with_default(attributes, &function.to_string());
    (
        quote!(#attributes #name: #ty),
        quote!(fn #function() -> #ty { #value }),
    )
}

impl ToTokens for Tool<'_> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self {
            function,
            name,
            options,
            description,
            arguments,
            ..
        } = self;
        // Local names that no name of the author's can meet.
        let input = Ident::new("input", Span::mixed_site());
        let context = Ident::new("context", Span::mixed_site());
        let passed = arguments.list.iter().map(|argument| match argument {
            Argument::Context(span) => {
                Ident::new("context", context.span().located_at(*span)).to_token_stream()
            }
            Argument::Input(_) if arguments.whole().is_some() => quote!(#input),
            Argument::Input(argument) => {
                let name = &argument.name;
                quote!(#input.#name)
            }
        });
        let (output_type, answer) = self.output(quote!(#function(#(#passed),*)));
        let output_schema = quote_spanned! {output_type.span()=>
            ::skills_sdk::__private::output_schema::<#output_type>()
        };
        let (input_type, definition) = self.input();
        let (input_schema, parse) = if arguments.whole().is_some() {
            let span = input_type.span();
            (
                quote_spanned!(span=> ::skills_sdk::__private::input_schema::<#input_type>(#name)),
                quote_spanned!(span=> ::skills_sdk::__private::parse::<#input_type>),
            )
        } else {
            let derived = quote!(::skills_sdk::__private::Derived::<#input_type>);
            (quote!(#derived::schema(#name)), quote!(#derived::parse))
        };
        let title = optional(
            options.title.as_ref(),
            |title| quote!(::std::string::String::from(#title)),
        );
        let [read_only, destructive, idempotent, open_world] = [
            options.read_only,
            options.destructive,
            options.idempotent,
            options.open_world,
        ]
        .map(|stated| optional(stated, |stated| stated.to_token_stream()));
        tokens.extend(quote! {
            #definition

            impl ::skills_sdk::__private::Tool for #function {
                const NAME: &'static str = #name;

                fn describe() -> ::skills_sdk::ToolDescription {
                    ::skills_sdk::ToolDescription {
                        name: ::std::string::String::from(#name),
                        title: #title,
                        description: ::std::string::String::from(#description),
                        input_schema: #input_schema,
                        output_schema: #output_schema,
                        annotations: ::skills_sdk::Annotations {
                            read_only: #read_only,
                            destructive: #destructive,
                            idempotent: #idempotent,
                            open_world: #open_world,
                        },
                    }
                }

                fn call(
                    #input: &str,
                    #context: &::skills_sdk::Context,
                ) -> ::core::result::Result<::std::string::String, ::skills_sdk::Failure> {
                    let #input = #parse(#input)?;
                    #answer
                }
            }
        });
    }
}

fn optional<T>(value: Option<T>, write: impl Fn(T) -> TokenStream) -> TokenStream {
    match value.map(write) {
        None => quote!(::core::option::Option::None),
        Some(value) => quote!(::core::option::Option::Some(#value)),
    }
}
