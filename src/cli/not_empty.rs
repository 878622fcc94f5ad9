//! What is typed as nothing is a mistake, such as a variable of a script that is not set. A variable of the environment
//! that is empty is one that is not set.

use std::ffi::OsStr;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use clap::error::Error;
use clap::parser::ValueSource;
use clap::{Arg, Command};

/// Parses by another parser what is not an empty text on the command line.
#[derive(Clone)]
pub struct NotEmpty<P>(pub P);

impl<P: TypedValueParser> TypedValueParser for NotEmpty<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<P::Value, Error> {
        self.parse_ref_(command, argument, value, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<P::Value, Error> {
        if source == ValueSource::CommandLine && value.is_empty() {
            NonEmptyStringValueParser::new().parse_ref(command, argument, value)?;
        }
        self.0.parse_ref_(command, argument, value, source)
    }
}
