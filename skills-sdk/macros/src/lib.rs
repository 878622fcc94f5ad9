//! The macros of `skills-sdk`, which re-exports and documents them.
#![forbid(unsafe_code)]

mod attribute;
mod errors;
mod field;
mod signature;
mod skill;
mod tool;

use proc_macro::TokenStream;

#[proc_macro_attribute]
pub fn tool(attribute: TokenStream, function: TokenStream) -> TokenStream {
    tool::expand(attribute.into(), function.into()).into()
}

/// The entry of a tool in its skill's list. Where a path leads to no tool, the compiler's error
/// tells the name of the macro that it comes from.
#[proc_macro]
pub fn each_tool_needs_the_attribute_tool(path: TokenStream) -> TokenStream {
    skill::entry(path.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

#[proc_macro]
pub fn skill(input: TokenStream) -> TokenStream {
    skill::expand(input.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
