//! What is said beside clap's own words of an argument that it does not know: the arguments of a tool are no flags.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use skillhost::grant::shell_word;

/// The error, with a tip where what is not known may be an argument of a tool. A flag that is like it but for one slip
/// stays what is proposed; another one does not.
pub fn beside(mut error: clap::Error, mut all: Command, arguments: &[OsString]) -> clap::Error {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(unknown)) if error.kind() == ErrorKind::UnknownArgument => {
            unknown.clone()
        }
        _ => return error,
    };
    let similar = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(similar)) => Some(similar),
        _ => None,
    };
    if similar.is_some_and(|similar| strsim::osa_distance(&unknown, similar) <= 1) {
        return error;
    }
    all.build();
    let (Some(command), Some(argument)) = (
        taking_arguments(&mut all, arguments),
        meant(&unknown, arguments),
    ) else {
        return error;
    };
    error.remove(ContextKind::SuggestedArg);
    // It shows what was proposed.
    let usage = ContextValue::StyledStr(command.render_usage());
    error.insert(ContextKind::Usage, usage);
    let valid = command.get_styles().get_valid();
    let mut tip = StyledStr::new();
    let _ = write!(
        tip,
        "an argument of a tool is given with `{valid}--arg {}{valid:#}`",
        shell_word(&argument)
    );
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    error
}

/// Whether a text is written as an argument of a tool is, with `--arg` before it.
pub fn is_argument(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, _)| {
        let key = key.strip_suffix(':').unwrap_or(key);
        key.starts_with(|first: char| first.is_alphabetic() || first == '_')
    })
}

/// The command that was named, where it takes arguments of a tool.
fn taking_arguments<'c>(all: &'c mut Command, arguments: &[OsString]) -> Option<&'c mut Command> {
    let mut command = all;
    for argument in arguments.iter().skip(1).filter_map(|text| text.to_str()) {
        if command.find_subcommand(argument).is_some() {
            command = command.find_subcommand_mut(argument)?;
        }
    }
    let takes = command
        .get_arguments()
        .any(|argument| argument.get_long() == Some("arg"));
    takes.then_some(command)
}

/// What would stand behind `--arg`.
fn meant(unknown: &str, arguments: &[OsString]) -> Option<String> {
    let Some(flag) = unknown.strip_prefix("--") else {
        return is_argument(unknown).then(|| unknown.to_owned());
    };
    let key = flag.split('=').next().filter(|key| !key.is_empty())?;
    let mut typed = arguments.iter().filter_map(|text| text.to_str());
    while let Some(text) = typed.next() {
        let Some(rest) = text
            .strip_prefix("--")
            .and_then(|text| text.strip_prefix(key))
        else {
            continue;
        };
        let value = match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if rest.is_empty() => typed.next().filter(|next| !next.starts_with("--")),
            None => continue,
        };
        return Some(format!("{key}={}", value.unwrap_or("VALUE")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found_with_its_value() {
        let meant = |unknown: &str, typed: &str| {
            let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            super::meant(unknown, &typed)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(meant("--text", "x run a --text hi"), text("text=hi"));
        assert_eq!(meant("--text", "x run a --text=hi"), text("text=hi"));
        assert_eq!(meant("--text", "x run a --text"), text("text=VALUE"));
        assert_eq!(meant("--text", "x run a --text --json"), text("text=VALUE"));
        assert_eq!(meant("--by", "x run a --bytes 1 --by -1"), text("by=-1"));
        assert_eq!(meant("text=hi", "x run a b text=hi"), text("text=hi"));
        assert_eq!(meant("n:=3", "x run a b n:=3"), text("n:=3"));
        assert_eq!(meant("c", "x run a b c"), None);
        assert_eq!(meant("-t", "x run a -t"), None);
        assert_eq!(meant("=3", "x run a b =3"), None);
    }
}
