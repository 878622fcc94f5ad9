//! `skillhost secrets`: which values skills may use without ever holding them.

use std::io::{IsTerminal, Read};

use clap::{Args, Subcommand};
use skillhost::grant::{Declared, Grants, HttpGrant, SecretGrant, intersection, shell_word};
use skillhost::secret::{
    MAX_SECRET_BYTES, SecretError, SecretSource, SecretStore, SecretValue, Secrets,
};
use skillhost::text::closest;
use zeroize::Zeroizing;

use super::Session;
use super::complaint::Complaint;
use super::console::{Console, GOOD, print, print_json, say, styled};
use super::exit::Exit;
use super::question::unseen;

const EXAMPLES: &str = "\
Examples:
  Keep a value, typed without being shown, or from another program:
    skillhost secrets set github
    pass show github | skillhost secrets set github
  Let the host put it into a skill's requests; the skill never sees it:
    skillhost run ./my-skill --http https://api.github.com \\
        --secret github=authorization:Bearer@https://api.github.com";

/// Keep values that skills use without holding them
///
/// The host puts a secret into the header of a request that it is granted for, and takes every trace of
/// it out of what the skill hears and says. They are kept in a file for this user alone, in the folder
/// of --home or ~/.local/share/skillhost. No command shows one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    Set(SetArgs),
    List(ListArgs),
    Remove(RemoveArgs),
}

/// Keep a value: typed without being shown, or from standard input
///
/// It has 8 bytes to 8 KiB of visible ASCII, also with spaces within it. A newline at its end is left off.
#[derive(Debug, Args)]
struct SetArgs {
    /// The name by which it is granted
    #[arg(value_name = "NAME")]
    name: String,
}

/// List the names of the secrets that are kept
#[derive(Debug, Args)]
struct ListArgs {
    /// Print the names as JSON
    #[arg(long)]
    json: bool,
}

/// Forget a secret
#[derive(Debug, Args)]
struct RemoveArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// Where secrets come from, beside those that are kept.
#[derive(Debug, Default, Args)]
pub struct SourceArgs {
    /// Take a secret from a variable of this environment, or from a file of mode 0600
    ///
    /// Without it, from where the policy says, else from those kept with `skillhost secrets set`.
    #[arg(
        long,
        value_name = "NAME=env:VAR|file:PATH",
        value_parser = source,
        help_heading = "Grants"
    )]
    pub secret_from: Vec<(String, SecretSource)>,
}

impl SourceArgs {
    /// The names of the secrets of which is said where they come from.
    pub fn names(&self) -> Vec<String> {
        self.secret_from
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Where all secrets are looked for.
    pub fn secrets(&self, session: &Session) -> anyhow::Result<Secrets> {
        let secrets = Secrets::default().store(store(session)?);
        let named = self.secret_from.iter().cloned();
        Ok(named.fold(secrets, |secrets, (name, source)| {
            secrets.source(name, source)
        }))
    }
}

/// Warns of secrets that `--secret-from` names and that are not granted, so that nothing comes of it.
pub fn warn_of_ungranted(named: &[String], granted: &[&str], console: Console) {
    for name in named {
        if let Some(warning) = ungranted(name, granted) {
            console.warn(warning);
        }
    }
}

/// Warns of secrets that these grants have, for requests that none of `all` allows. Of one that is not declared
/// nothing is said: with it the request is rejected, whatever else is granted.
pub fn warn_of_idle(
    these: &Grants,
    all: &[&Grants],
    declared: Option<&Declared>,
    console: Console,
) {
    let is_declared = |secret: &SecretGrant| {
        let alone = Grants::default().secret(secret.clone());
        !intersection(declared, &alone).0.secrets.is_empty()
    };
    for secret in these.secrets.iter().filter(|secret| is_declared(secret)) {
        if let Some(message) = goes_nowhere(secret, all.iter().flat_map(|grants| &grants.http)) {
            let requests = secret.requests().to_string();
            console.warn(format_args!(
                "{message}; `--http {}` grants it",
                shell_word(&requests)
            ));
        }
    }
}

/// What is to be said of a secret for whose requests nothing is granted.
pub fn goes_nowhere<'a>(
    secret: &SecretGrant,
    granted: impl IntoIterator<Item = &'a HttpGrant>,
) -> Option<String> {
    let requests = secret.requests();
    let mut granted = granted.into_iter();
    if granted.any(|http| http.intersection(requests).is_some()) {
        return None;
    }
    Some(format!(
        "the secret `{}` is granted for `{requests}`, and no such request is granted: it goes nowhere",
        secret.name()
    ))
}

fn ungranted(name: &str, granted: &[&str]) -> Option<String> {
    if granted.contains(&name) {
        return None;
    }
    let mut all = granted.to_vec();
    all.sort_unstable();
    all.dedup();
    let mut said =
        format!("`--secret-from {name}=…` has no effect: no secret of this name is granted");
    match (closest(name, all.iter().copied()), all.as_slice()) {
        (_, []) => said.push_str(", nor any other; `--secret` grants one"),
        (Some(close), [_]) => said.push_str(&format!("; did you mean `{close}`?")),
        (close, all) => {
            said.push_str(&format!("; granted are: `{}`", all.join("`, `")));
            if let Some(close) = close {
                said.push_str(&format!("; did you mean `{close}`?"));
            }
        }
    }
    Some(said)
}

fn source(text: &str) -> Result<(String, SecretSource), String> {
    let Some((name, source)) = text.split_once('=') else {
        return Err("write NAME=env:VARIABLE or NAME=file:/PATH".into());
    };
    skillhost::grant::check_secret_name(name)?;
    let source = source.parse().map_err(|error| format!("{error}"))?;
    Ok((name.to_owned(), source))
}

fn store(session: &Session) -> anyhow::Result<SecretStore> {
    Ok(SecretStore::new(session.places()?.secrets()))
}

/// Whether the secrets that are kept can be read.
///
/// # Errors
/// Why not.
pub fn kept_can_be_read(session: &Session) -> anyhow::Result<()> {
    let names = store(session)?.names();
    names
        .map(drop)
        .map_err(|error| explained("", &error).into())
}

/// Does what is asked.
///
/// # Errors
/// Where there is no such secret, a value is none, or the file cannot be used.
pub fn secrets(args: SecretsArgs, session: &Session) -> anyhow::Result<Exit> {
    let store = store(session)?;
    match args.command {
        SecretsCommand::Set(SetArgs { name }) => {
            skillhost::grant::check_secret_name(&name).map_err(Complaint::usage)?;
            let explained = |error| explained(&name, &error);
            let value = SecretValue::new(typed(&name)?).map_err(explained)?;
            let replaced = store.set(&name, value).map_err(explained)?;
            session.console.note(format_args!(
                "{} {name} is kept{}",
                styled(GOOD, "✓"),
                if replaced {
                    ", in place of the one before"
                } else {
                    ""
                }
            ));
        }
        SecretsCommand::List(ListArgs { json }) => {
            let names = store.names().map_err(|error| explained("", &error))?;
            if json {
                print_json(session.console, &names)?;
            } else if names.is_empty() {
                session.console.note("no secret is kept");
            } else {
                print(format_args!("{}\n", names.join("\n")))?;
            }
        }
        SecretsCommand::Remove(RemoveArgs { name }) => {
            if !store
                .remove(&name)
                .map_err(|error| explained(&name, &error))?
            {
                return Err(unknown(&name, &store).into());
            }
            session
                .console
                .note(format_args!("{} {name} is forgotten", styled(GOOD, "✓")));
        }
    }
    Ok(Exit::Success)
}

/// The value, from whoever types it or from standard input. Never an argument: those can be seen by
/// everybody on the machine, and stay in the history of the shell.
fn typed(name: &str) -> anyhow::Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        return unseen(format!("value of {name}: ")).map_err(|error| {
            match error
                .downcast_ref::<std::io::Error>()
                .map(std::io::Error::kind)
            {
                Some(std::io::ErrorKind::UnexpectedEof) => {
                    // Behind the prompt.
                    say("");
                    let message = format!("no value was given for `{name}`");
                    Complaint::usage(message).into()
                }
                _ => error,
            }
        });
    }
    let most = MAX_SECRET_BYTES + 3;
    let mut text = Zeroizing::new(String::with_capacity(most));
    std::io::stdin()
        .take(most as u64)
        .read_to_string(&mut text)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => explained(name, &SecretError::Characters),
            _ => Complaint::new(Exit::Host, format!("cannot read standard input: {error}")),
        })?;
    if text.is_empty() {
        let message = format!("nothing came from standard input for `{name}`");
        return Err(Complaint::usage(message)
            .hint("the program before the `|` gave nothing, or the file is empty")
            .into());
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    Ok(Zeroizing::new(value.to_owned()))
}

fn explained(name: &str, error: &SecretError) -> Complaint {
    let exit = match error {
        SecretError::TooShort
        | SecretError::TooLong
        | SecretError::Characters
        | SecretError::Name(_)
        // As of a policy that cannot be used.
        | SecretError::Open { .. }
        | SecretError::Damaged(_)
        | SecretError::Line { .. } => Exit::Usage,
        _ => Exit::Host,
    };
    Complaint::new(exit, error.to_string()).hint(error.hint(name))
}

fn unknown(name: &str, store: &SecretStore) -> Complaint {
    let names = store.names().unwrap_or_default();
    let complaint = Complaint::usage(format!("no secret `{name}` is kept"));
    match closest(name, names.iter().map(String::as_str)) {
        Some(close) => complaint.hint(format!("did you mean `{}`?", shell_word(close))),
        None => complaint.hint("`skillhost secrets list` shows which there are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_a_secret_that_is_not_granted_is_told() {
        let said = |name: &str, granted: &[&str]| ungranted(name, granted).unwrap_or_default();
        assert_eq!(said("token", &["other", "token"]), "");
        let begin = "`--secret-from tokne=…` has no effect: no secret of this name is granted";
        for (granted, end) in [
            (&[][..], ", nor any other; `--secret` grants one"),
            (&["token", "token"], "; did you mean `token`?"),
            (&["key"], "; granted are: `key`"),
            (
                &["token", "key"],
                "; granted are: `key`, `token`; did you mean `token`?",
            ),
        ] {
            assert_eq!(said("tokne", granted), format!("{begin}{end}"));
        }
    }
}
