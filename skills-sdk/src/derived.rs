use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;
use crate::input::parse;
use crate::schema::input_schema;

/// A tool's input, of a type that `#[tool]` writes and has serde and schemars derive their traits for.
///
/// Where they refuse an attribute of an argument, they say so, and derive nothing. [`Underived`] then
/// keeps the compiler from saying of a type that no author wrote that it lacks their traits.
pub struct Derived<T>(PhantomData<T>);

impl<T: DeserializeOwned> Derived<T> {
    /// Reads the input.
    ///
    /// # Errors
    /// [`Failure::InvalidInput`], with a pointer to what does not fit.
    pub fn parse(input: &str) -> Result<T, Failure> {
        parse(input)
    }
}

impl<T: JsonSchema> Derived<T> {
    /// The schema of what the tool called `tool` takes.
    pub fn schema(tool: &str) -> Value {
        input_schema::<T>(tool)
    }
}

/// What [`Derived`] does where a trait is not derived: it does not compile.
pub trait Underived<T> {
    /// Fails wherever it is used, as no type is that large.
    const REFUSED: () = assert!(
        size_of::<T>() > isize::MAX as usize,
        "nothing is derived for the arguments of a tool"
    );

    /// Stands for [`Derived::parse`].
    fn parse(_: &str) -> Result<T, Failure> {
        let () = Self::REFUSED;
        unreachable!()
    }

    /// Stands for [`Derived::schema`].
    fn schema(_: &str) -> Value {
        let () = Self::REFUSED;
        unreachable!()
    }
}

impl<T> Underived<T> for Derived<T> {}
