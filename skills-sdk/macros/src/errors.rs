use quote::ToTokens;
use syn::{Error, Result};

/// Collects errors, so that an author sees them all at once.
#[derive(Default)]
pub struct Errors(Option<Error>);

impl Errors {
    /// Adds an error at the given tokens.
    pub fn push(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.take::<()>(Err(Error::new_spanned(tokens, message)));
    }

    /// The value; or nothing, once the error is put with the others.
    pub fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                match &mut self.0 {
                    Some(errors) => errors.combine(error),
                    None => self.0 = Some(error),
                }
                None
            }
        }
    }

    /// All errors as one, if there are any.
    pub fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
