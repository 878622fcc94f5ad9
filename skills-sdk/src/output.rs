use serde::Serialize;

use crate::Failure;

/// What a tool returns that may fail. It lets an alias such as
/// `std::io::Result<T>` stand for the `Result` it is.
pub trait Fallible {
    /// What it returns when all went well.
    type Output;
    /// What it returns when something failed.
    type Failure;

    /// The result as such.
    fn into_result(self) -> Result<Self::Output, Self::Failure>;
}

impl<T, E> Fallible for Result<T, E> {
    type Output = T;
    type Failure = E;

    fn into_result(self) -> Self {
        self
    }
}

/// Writes a tool's answer as JSON text.
///
/// # Errors
/// An error where the answer has no JSON form, such as a map whose keys are
/// not strings.
pub fn write<T: Serialize>(answer: &T) -> Result<String, Failure> {
    serde_json::to_string(answer)
        .map_err(|error| Failure::error(format_args!("the answer has no JSON form: {error}")))
}
