//! Commands by the names that they have elsewhere, and skills where a command is expected.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Command;
use skillhost::grant::shell_word;

use crate::cli::locate;
use crate::cli::places::Places;

/// What other programs call a command, and what it is called here: the first of these that there is.
const CALLED: [(&[&str], &[&str]); 9] = [
    (
        &["uninstall", "delete", "del", "rm"],
        &["remove", "revoke", "discard", "cancel"],
    ),
    (&["remove"], &["revoke", "discard", "cancel"]),
    (&["ls"], &["list", "show"]),
    (&["list"], &["show"]),
    (&["exec", "execute", "call", "invoke"], &["run"]),
    (
        &["info", "describe", "show", "view", "cat"],
        &["show", "inspect"],
    ),
    (
        &["add", "create"],
        &["set", "submit", "add", "create", "grant", "install"],
    ),
    (&["init"], &["new"]),
    (&["kill", "stop", "abort"], &["cancel", "pause"]),
];

/// Says what is called otherwise here; `typed` is no command of this one.
pub fn called(command: &Command, typed: &str) -> Option<String> {
    let path = command.get_bin_name().unwrap_or(command.get_name());
    if command.get_name() == "secrets" && ["show", "get", "view", "cat", "read"].contains(&typed) {
        return Some(format!(
            "no command shows the value of a secret; `{path} list` shows the names"
        ));
    }
    let (_, names) = CALLED.iter().find(|(words, _)| words.contains(&typed))?;
    let name = names
        .iter()
        .find(|name| command.find_subcommand(name).is_some())?;
    Some(format!("it is called `{path} {name}` here"))
}

/// Says how a skill is run that stands where a command is to: one that is installed, or a path.
pub fn skill(command: &Command, typed: &str, arguments: &[OsString]) -> Option<String> {
    if command.get_name() != "skillhost" {
        return None;
    }
    let is_skill = locate::may_be_skill(Path::new(typed)) || installed(typed, arguments);
    is_skill.then(|| format!("did you mean `skillhost run {}`?", shell_word(typed)))
}

fn installed(name: &str, arguments: &[OsString]) -> bool {
    let home = home(arguments);
    let Ok(places) = Places::find(home.as_deref()) else {
        return false;
    };
    let found = places.library().list().unwrap_or_default();
    found.iter().any(|skill| skill.name == name)
}

/// The folder of `--home`. Nothing was parsed where a command was not known.
fn home(arguments: &[OsString]) -> Option<PathBuf> {
    let mut typed = arguments.iter();
    let mut home = std::env::var_os("SKILLHOST_HOME");
    while let Some(argument) = typed.next() {
        match argument.to_str() {
            Some("--home") => home = typed.next().cloned(),
            Some(argument) => {
                if let Some(named) = argument.strip_prefix("--home=") {
                    home = Some(named.into());
                }
            }
            None => {}
        }
    }
    home.filter(|home| !home.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn each_word_leads_to_a_command_that_there_is() {
        let mut all = Cli::command();
        all.build();
        let said = |path: &[&str], typed: &str| {
            let command = path.iter().fold(&all, |command, name| {
                command.find_subcommand(name).expect("there is one")
            });
            called(command, typed).unwrap_or_default()
        };
        for (path, typed, name) in [
            (&[][..], "uninstall", "skillhost remove"),
            (&[], "rm", "skillhost remove"),
            (&[], "ls", "skillhost list"),
            (&[], "exec", "skillhost run"),
            (&[], "show", "skillhost inspect"),
            (&[], "add", "skillhost install"),
            (&["jobs"], "add", "skillhost jobs submit"),
            (&["jobs"], "rm", "skillhost jobs cancel"),
            (&["jobs"], "kill", "skillhost jobs cancel"),
            (&["jobs", "dead"], "rm", "skillhost jobs dead discard"),
            (&["tokens"], "delete", "skillhost tokens revoke"),
            (&["tokens"], "add", "skillhost tokens create"),
            (&["policy"], "remove", "skillhost policy revoke"),
            (&["policy"], "list", "skillhost policy show"),
            (&["policy"], "add", "skillhost policy grant"),
            (&["secrets"], "add", "skillhost secrets set"),
            (&["secrets"], "rm", "skillhost secrets remove"),
        ] {
            let expected = format!("it is called `{name}` here");
            assert_eq!(said(path, typed), expected, "{path:?} {typed}");
        }
        let none =
            "no command shows the value of a secret; `skillhost secrets list` shows the names";
        assert_eq!(said(&["secrets"], "show"), none);
        assert_eq!(said(&["mcp"], "rm"), "");
    }
}
