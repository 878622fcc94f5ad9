//! What is said beside clap's own words, or in their place: the arguments of a tool are no flags, the value of a secret
//! is no argument, short commands are alike, too, and some have another name elsewhere.

mod meant;

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Write as _;

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use skillhost::grant::shell_word;

/// The error, said so that whoever typed the arguments knows what to do.
pub fn beside(error: clap::Error, mut all: Command, arguments: &[OsString]) -> clap::Error {
    all.build();
    let error = told(error, &mut all, arguments);
    cut(error, &mut all, arguments)
}

fn told(error: clap::Error, all: &mut Command, arguments: &[OsString]) -> clap::Error {
    match error.kind() {
        ErrorKind::InvalidSubcommand => with_similar(error, all, arguments),
        ErrorKind::UnknownArgument if is_of(&error, " secrets set ") => without_value(error, all),
        ErrorKind::UnknownArgument if of_worker(&error).is_some() => with_worker(error),
        ErrorKind::InvalidUtf8 => with_unreadable(error, all, arguments),
        ErrorKind::UnknownArgument => with_argument(error, all, arguments),
        ErrorKind::ValueValidation => once(without_source(error), all),
        _ => error,
    }
}

/// What `run` takes for itself, and for a job the worker that runs it.
const OF_WORKER: [&str; 4] = ["--secret-from", "--certificate", "--roots", "--no-policy"];

/// Which of those was typed where a job is submitted.
fn of_worker(error: &clap::Error) -> Option<&'static str> {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_of_job = is_of(error, " jobs submit ") || is_of(error, " schedules add ");
    let typed = unknown.split('=').next().filter(|_| is_of_job);
    OF_WORKER.into_iter().find(|flag| typed == Some(flag))
}

/// With what to do about a flag that is the worker's.
fn with_worker(mut error: clap::Error) -> clap::Error {
    let Some(flag) = of_worker(&error) else {
        return error;
    };
    error.remove(ContextKind::SuggestedArg);
    let tip = format!("it is the worker's, which runs the job: `skillhost worker {flag} …`");
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
    error
}

/// Which argument it is that is no text. It may be a secret's value, and is not shown.
fn with_unreadable(error: clap::Error, all: &mut Command, arguments: &[OsString]) -> clap::Error {
    let mut numbered = arguments.iter().enumerate();
    let Some((number, argument)) = numbered.find(|(_, argument)| argument.to_str().is_none())
    else {
        return error;
    };
    // The flag that it is the value of, as `--flag=…` or behind it.
    let flag = |argument: &OsString| {
        let bytes = argument.as_encoded_bytes();
        let name = bytes.split(|byte| *byte == b'=').next()?;
        let name = std::str::from_utf8(name).ok()?;
        let is_flag = |rest: &str| {
            rest.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        name.strip_prefix("--")
            .is_some_and(is_flag)
            .then(|| name.to_owned())
    };
    let before = &arguments[..number];
    let Some(command) = named(all, arguments.iter()) else {
        return error;
    };
    // One that has its value already is followed by something else; so is one that takes none.
    let takes_it = |flag: &String| {
        let mut flags = command.get_arguments();
        let known = flags.find(|known| known.get_long() == flag.strip_prefix("--"));
        known.is_some_and(|known| known.get_action().takes_values())
            && !before.iter().any(|argument| argument == "--")
            && before.last().is_some_and(|last| last == flag.as_str())
    };
    let of = flag(argument).or_else(|| before.last().and_then(flag).filter(takes_it));
    let of = of.map_or_else(String::new, |flag| format!(" (of `{flag}`)"));
    let message = format!("argument {number}{of} is not UTF-8");
    command.error(ErrorKind::InvalidUtf8, message)
}

/// With where a flag is to stand that is proposed as it was typed.
fn with_place(mut error: clap::Error, flag: &str, arguments: &[OsString]) -> clap::Error {
    let mut before = arguments.iter().take_while(|argument| {
        argument
            .to_str()
            .is_none_or(|argument| argument.split('=').next() != Some(flag))
    });
    let tip = match before.any(|argument| argument == "--") {
        true => format!("nothing that stands behind `--` is a flag: put `{flag}` before it"),
        false => format!("it belongs to the command that is named: put `{flag}` behind that"),
    };
    error.remove(ContextKind::SuggestedArg);
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
    error
}

/// The most characters of what was typed that an error shows.
const MOST_SHOWN: usize = 100;

/// The beginning of a text that is longer than an error may be.
fn beginning(text: &str) -> Option<String> {
    let (end, _) = text.char_indices().nth(MOST_SHOWN)?;
    Some(format!("{}…", &text[..end]))
}

/// With no more of what was typed than the beginning, so that what is said of it can be seen.
fn cut(mut error: clap::Error, all: &mut Command, arguments: &[OsString]) -> clap::Error {
    for kind in [
        ContextKind::InvalidValue,
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
    ] {
        let Some(ContextValue::String(typed)) = error.get(kind) else {
            continue;
        };
        let typed = typed.clone();
        let Some(short) = beginning(&typed) else {
            continue;
        };
        let why = error.source().map(ToString::to_string);
        if let Some(why) = why.filter(|why| why.contains(&typed))
            && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
            && let Some(command) = named(all, arguments.iter())
        {
            let why = why.replace(&typed, &short);
            let message = format!("invalid value for '{argument}': {why}");
            return command.error(error.kind(), message);
        }
        error.insert(kind, ContextValue::String(short));
        // clap proposes to write it in another place, whole.
        error.remove(ContextKind::Suggested);
    }
    error
}

/// With the command that is called otherwise elsewhere, and those that are but one slip away. clap compares letters
/// that stand near one another, of which a short word has none, and `uninstall` has those of `install`.
fn with_similar(mut error: clap::Error, all: &mut Command, arguments: &[OsString]) -> clap::Error {
    let unknown = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(unknown)) => unknown.clone(),
        _ => return error,
    };
    let before = arguments
        .iter()
        .take_while(|text| text.to_str() != Some(unknown.as_str()));
    let Some(command) = named(all, before) else {
        return error;
    };
    let tip =
        meant::called(command, &unknown).or_else(|| meant::skill(command, &unknown, arguments));
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
        return error;
    }
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    let similar: Vec<String> = command
        .get_subcommands()
        .map(Command::get_name)
        .filter(|name| strsim::osa_distance(&unknown, name) == 1)
        .map(str::to_owned)
        .collect();
    if !similar.is_empty() {
        error.insert(
            ContextKind::SuggestedSubcommand,
            ContextValue::Strings(similar),
        );
    }
    error
}

/// Whether it is about what was typed behind this command.
fn is_of(error: &clap::Error, command: &str) -> bool {
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string().contains(command),
        _ => false,
    }
}

/// What others call a flag, and what it is here.
const OTHERWISE: [(&str, &str); 9] = [
    ("force", "replace"),
    ("overwrite", "replace"),
    ("net", "http"),
    ("network", "http"),
    ("allow-net", "http"),
    ("mount", "dir"),
    ("volume", "dir"),
    ("environment", "env"),
    ("deadline", "timeout"),
];

/// The one flag that begins with what was typed, or has it as one of its words; or that has another name elsewhere.
fn kin(command: &Command, unknown: &str) -> Option<String> {
    const SHORTEST: usize = 3;
    let typed = unknown.strip_prefix("--")?;
    let typed = typed.split('=').next().unwrap_or_default();
    if typed.len() < SHORTEST {
        return None;
    }
    let otherwise = OTHERWISE.iter().find(|(there, _)| *there == typed);
    let typed = otherwise.map_or(typed, |(_, here)| here);
    let mut alike = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(clap::Arg::get_long)
        .filter(|long| long.starts_with(typed) || long.split('-').any(|word| word == typed));
    let one = alike.next()?;
    alike.next().is_none().then(|| format!("--{one}"))
}

/// What stands behind a secret's name is its value, and is not shown again. A flag that is misspelt is.
fn without_value(error: clap::Error, all: &mut Command) -> clap::Error {
    if error.get(ContextKind::SuggestedArg).is_some() {
        return error;
    }
    let set = all
        .find_subcommand_mut("secrets")
        .and_then(|secrets| secrets.find_subcommand_mut("set"));
    let Some(set) = set else { return error };
    let valid = set.get_styles().get_valid();
    let message = format!(
        "the value of a secret is not taken as an argument: others can see it there, and the shell's history keeps it\n\n  \
         {valid}tip:{valid:#} `{valid}skillhost secrets set NAME{valid:#}` asks for it without showing it, or takes it from \
         standard input"
    );
    set.error(ErrorKind::UnknownArgument, message)
}

/// What was typed in the place of a secret's source may be its value, and is not shown again.
fn without_source(mut error: clap::Error) -> clap::Error {
    let typed = match (
        error.get(ContextKind::InvalidArg),
        error.get(ContextKind::InvalidValue),
    ) {
        (Some(ContextValue::String(argument)), Some(ContextValue::String(typed)))
            if argument.starts_with("--secret-from ") || argument.starts_with("--secret ") =>
        {
            typed.clone()
        }
        _ => return error,
    };
    let shown = match typed.split_once('=') {
        Some((_, source)) if source.starts_with("env:") || source.starts_with("file:") => {
            return error;
        }
        Some((name, rest))
            if skillhost::grant::check_secret_name(name).is_ok()
                && !rest.trim_matches('=').is_empty() =>
        {
            format!("{name}=…")
        }
        _ => "…".to_owned(),
    };
    error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    error
}

/// With what shows one of those that are listed, where one was named.
fn with_one(
    mut error: clap::Error,
    unknown: &str,
    all: &mut Command,
    arguments: &[OsString],
) -> clap::Error {
    let list = named(all, arguments.iter()).and_then(|list| list.get_bin_name());
    let path: Vec<String> = match list.and_then(|path| path.strip_suffix(" list")) {
        Some(path) => path.split(' ').map(str::to_owned).collect(),
        None => return error,
    };
    let parent = path
        .iter()
        .skip(1)
        .try_fold(&*all, |command, name| command.find_subcommand(name));
    let shows = parent.and_then(|parent| {
        let mut names = ["show", "inspect"].into_iter();
        names.find(|name| parent.find_subcommand(name).is_some())
    });
    if let Some(shows) = shows {
        let (path, one) = (path.join(" "), shell_word(unknown));
        let tip = format!("`{path} {shows} {one}` shows one of them");
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// With the value once, where what is wrong with it names it.
fn once(error: clap::Error, all: &Command) -> clap::Error {
    let (Some(ContextValue::String(argument)), Some(ContextValue::String(typed)), Some(why)) = (
        error.get(ContextKind::InvalidArg),
        error.get(ContextKind::InvalidValue),
        error.source().map(ToString::to_string),
    ) else {
        return error;
    };
    let names_it = why.contains(&format!("`{typed}`")) || why.starts_with(&format!("{typed} is "));
    if !names_it || beginning(typed).is_some() {
        return error;
    }
    let literal = all.get_styles().get_literal();
    let message = format!(
        "invalid value for '{literal}{argument}{literal:#}': {why}\n\n\
         For more information, try '{literal}--help{literal:#}'.\n"
    );
    clap::Error::raw(error.kind(), message).with_cmd(all)
}

/// With a tip where what is not known may be an argument of a tool. A flag that is like it but for one slip stays what
/// is proposed; another one does not.
fn with_argument(mut error: clap::Error, all: &mut Command, arguments: &[OsString]) -> clap::Error {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(unknown)) => unknown.clone(),
        _ => return error,
    };
    if !unknown.starts_with('-') && is_of(&error, " list ") {
        return with_one(error, &unknown, all, arguments);
    }
    let similar = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(similar)) => Some(similar),
        _ => None,
    };
    if similar.is_some_and(|similar| strsim::osa_distance(&unknown, similar) <= 1) {
        return error;
    }
    let kin = named(all, arguments.iter()).and_then(|command| kin(command, &unknown));
    if kin.as_deref() == unknown.split('=').next() {
        return with_place(error, kin.as_deref().unwrap_or_default(), arguments);
    }
    if let Some(kin) = kin {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(kin));
        return error;
    }
    let (Some(command), Some(argument)) = (
        taking_arguments(all, arguments),
        tool_argument(&unknown, arguments),
    ) else {
        return error;
    };
    error.remove(ContextKind::SuggestedArg);
    // It shows what was proposed.
    let usage = ContextValue::StyledStr(command.render_usage());
    error.insert(ContextKind::Usage, usage);
    let valid = command.get_styles().get_valid();
    let mut tip = StyledStr::new();
    if let Some(tool) = argument
        .strip_prefix("tool=")
        .filter(|_| unknown.starts_with('-'))
    {
        let tool = shell_word(if tool == NO_VALUE { "TOOL" } else { tool });
        let _ = write!(
            tip,
            "the tool stands behind the skill: `{valid}SKILL {tool}{valid:#}`; "
        );
    }
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
    let command = named(all, arguments.iter())?;
    let takes = command
        .get_arguments()
        .any(|argument| argument.get_long() == Some("arg"));
    takes.then_some(command)
}

/// The command that was named.
fn named<'c, 'a>(
    all: &'c mut Command,
    arguments: impl Iterator<Item = &'a OsString>,
) -> Option<&'c mut Command> {
    let mut command = all;
    for argument in arguments.skip(1).filter_map(|text| text.to_str()) {
        if command.find_subcommand(argument).is_some() {
            command = command.find_subcommand_mut(argument)?;
        }
    }
    Some(command)
}

/// What would stand behind `--arg`, where it can be shown whole.
fn tool_argument(unknown: &str, arguments: &[OsString]) -> Option<String> {
    meant(unknown, arguments).filter(|argument| beginning(argument).is_none())
}

/// In the place of a value that was not typed.
const NO_VALUE: &str = "VALUE";

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
        return Some(format!("{key}={}", value.unwrap_or(NO_VALUE)));
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
