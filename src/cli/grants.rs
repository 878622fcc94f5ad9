//! Grants: the flags, for every command that takes them, and how they are shown.

use std::borrow::Cow;
use std::path::Path;

use clap::{Args, ValueHint};
use skillhost::grant::{
    AddressGrant, Capability, Clock, Denial, DirectoryGrant, Grants, HttpGrant,
    ParseDirectoryError, Random, SCRATCH, SecretGrant, SocketGrant, check_name, check_value,
    command, for_this_run, intersection, shell_word,
};
use skillhost::text::printable;
use skillhost::{Admission, Failure, Policy};

use super::complaint::Complaint;
use super::repeated::in_text;
use super::table::Table;

/// What can be granted on the command line.
#[derive(Debug, Default, Args)]
pub struct GrantArgs {
    /// Grant a folder, read-only unless it ends in :rw
    ///
    /// The skill sees it under GUEST, or where that is left out, under the path that is written
    /// here.
    #[arg(
        long,
        value_name = "HOST[:GUEST][:ro|rw]",
        value_parser = directory,
        value_hint = ValueHint::DirPath,
        help_heading = "Grants"
    )]
    pub dir: Vec<DirectoryGrant>,
    /// Give the skill an empty folder at /scratch that is gone afterwards
    #[arg(long, help_heading = "Grants")]
    pub scratch: bool,
    /// Grant HTTP requests: methods, where not all, then scheme, host, port and path prefix
    ///
    /// Such as 'GET https://example.com/api' or https://*.example.com. An address in place of a
    /// name is granted by that, also where it is not public: http://127.0.0.1:3000.
    #[arg(
        long,
        value_name = "[METHODS ]URL",
        value_parser = str::parse::<HttpGrant>,
        help_heading = "Grants"
    )]
    pub http: Vec<HttpGrant>,
    /// Grant a socket to one address and port, past HTTP
    #[arg(
        long,
        value_name = "tcp|udp://IP:PORT",
        value_parser = str::parse::<SocketGrant>,
        help_heading = "Grants"
    )]
    pub socket: Vec<SocketGrant>,
    /// Let granted names lead to an address, or a network, that is not public
    #[arg(
        long,
        value_name = "IP[/BITS]",
        value_parser = str::parse::<AddressGrant>,
        help_heading = "Grants"
    )]
    pub address: Vec<AddressGrant>,
    /// Grant an environment variable; none is inherited
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable, help_heading = "Grants")]
    pub env: Vec<(String, String)>,
    /// Give a configuration key a value
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting, help_heading = "Grants")]
    pub config: Vec<(String, String)>,
    /// Let the host put a secret into a header of the skill's requests; the skill never sees it
    ///
    /// Such as github=authorization:Bearer@https://api.github.com: the secret's name, the header, what
    /// stands before the value in it, and the requests, as for --http, which has to grant them. Plain
    /// HTTP only where the scheme says so. See `skillhost secrets --help`.
    #[arg(
        long,
        value_name = "NAME=HEADER[:PREFIX]@URL",
        value_parser = str::parse::<SecretGrant>,
        help_heading = "Grants"
    )]
    pub secret: Vec<SecretGrant>,
    /// Let the skill keep keys and values from one run to the next
    #[arg(long, help_heading = "Grants")]
    pub storage: bool,
    /// `system`, or the time at which the skill's clocks stand still, such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = str::parse::<Clock>, help_heading = "Grants")]
    pub clock: Option<Clock>,
    /// `system`, or `seed:N` for random numbers that are the same each time
    #[arg(
        long,
        value_name = "SOURCE",
        value_parser = str::parse::<Random>,
        help_heading = "Grants"
    )]
    pub random: Option<Random>,
}

impl GrantArgs {
    /// The same for a request, with the whole paths of the folders: a worker stands elsewhere, and whoever approves of
    /// one approves of no other. Links are left to the host, which looks at where they stand.
    ///
    /// # Errors
    /// As [`GrantArgs::grants`].
    pub fn grants_of_folders_here(self) -> anyhow::Result<Grants> {
        let mut grants = self.grants()?;
        for directory in &mut grants.directories {
            directory.host = std::path::absolute(&directory.host)?;
        }
        Ok(grants)
    }

    /// What is granted by all flags together.
    ///
    /// # Errors
    /// Where one variable or key is named twice, or something cannot be granted to any skill.
    pub fn grants(self) -> Result<Grants, Complaint> {
        if let Some(directory) = self.dir.iter().find(|dir| is_unexpanded(&dir.host)) {
            let path = directory.host.display();
            let message = format!(
                "`{path}` is not a folder that is there: `~` is what the shell puts the home folder for, and it did not"
            );
            return Err(Complaint::usage(message)
                .hint("leave `~/` outside of quotation marks and at the beginning of a word, or write `$HOME/`"));
        }
        let mut grants = Grants {
            directories: self.dir,
            scratch: self.scratch,
            clock: self.clock,
            random: self.random,
            http: self.http,
            sockets: self.socket,
            addresses: self.address,
            secrets: self.secret,
            storage: self.storage,
            ..Grants::default()
        };
        for (what, flags, granted) in [
            ("variable", self.env, &mut grants.environment),
            ("configuration key", self.config, &mut grants.config),
        ] {
            for (name, value) in flags {
                if granted.insert(name.clone(), value).is_some() {
                    let message = format!("the {what} `{name}` is given twice");
                    return Err(Complaint::usage(message));
                }
            }
        }
        // What cannot be granted to any skill is a wrong argument.
        if let Some(denial) = intersection(None, &grants).1.into_iter().next() {
            let message = format!("cannot be granted: {denial}");
            return Err(Complaint::usage(message).hint(denial.hint));
        }
        Ok(grants)
    }
}

/// What is granted, a row each; those that come from the policy are marked where it is told apart.
pub fn table(grants: &Grants, from_policy: &Grants) -> Table {
    let mut table = Table::new(2);
    let mark = |text: String, marked: bool| {
        if marked {
            format!("{text} (policy)")
        } else {
            text
        }
    };
    for directory in &grants.directories {
        table.row([
            "directory".to_owned(),
            printable(&directory.guest, false).into_owned(),
            directory.mode.as_str().to_owned(),
            mark(
                format!(
                    "from {}",
                    printable(&directory.host.to_string_lossy(), false)
                ),
                from_policy
                    .directories
                    .iter()
                    .any(|other| other.guest == directory.guest),
            ),
        ]);
    }
    if grants.scratch {
        let what = "empty, and gone afterwards".to_owned();
        table.row([
            "scratch".to_owned(),
            SCRATCH.to_owned(),
            "rw".to_owned(),
            mark(what, from_policy.scratch),
        ]);
    }
    let mut texts = Vec::new();
    texts.extend(rows("http", &grants.http, &from_policy.http));
    texts.extend(rows("socket", &grants.sockets, &from_policy.sockets));
    texts.extend(rows("address", &grants.addresses, &from_policy.addresses));
    texts.extend(rows("secret", &grants.secrets, &from_policy.secrets));
    if grants.storage {
        let what = "kept for the next time".to_owned();
        texts.push(("storage", what, from_policy.storage));
    }
    if let Some(clock) = grants.clock {
        let marked = from_policy.clock.is_some();
        texts.push(("clock", clock.to_string(), marked));
    }
    if let Some(random) = grants.random {
        let marked = from_policy.random.is_some();
        texts.push(("random", random.to_string(), marked));
    }
    for (kind, text, marked) in texts {
        table.row([kind.to_owned(), mark(text, marked)]);
    }
    for (kind, entries, marked) in [
        ("environment", &grants.environment, &from_policy.environment),
        ("config", &grants.config, &from_policy.config),
    ] {
        for (key, value) in entries {
            table.row([
                kind.to_owned(),
                printable(key, false).into_owned(),
                mark(
                    format!("= {}", printable(value, false)),
                    marked.contains_key(key),
                ),
            ]);
        }
    }
    table
}

/// Whether a path begins with a `~` that the shell has left as it is.
fn is_unexpanded(path: &Path) -> bool {
    path.starts_with("~") && !path.exists()
}

/// What is missing, as one line: a secret with where it goes, as one may go to several places.
pub fn missing(denial: &Denial) -> String {
    let subject = match &denial.grant {
        Some(grant) if denial.capability == Capability::Secret => grant,
        _ => &denial.subject,
    };
    let kind = denial.capability.to_string();
    match *subject == kind {
        // There is one storage.
        true => kind,
        false => format!("{kind} {}", printable(subject, false)),
    }
}

/// Grants of one kind as texts, and whether each comes from the policy.
fn rows<T: std::fmt::Display + PartialEq>(
    kind: &'static str,
    grants: &[T],
    from_policy: &[T],
) -> Vec<(&'static str, String, bool)> {
    let row = |grant: &T| {
        let text = printable(&grant.to_string(), false).into_owned();
        (kind, text, from_policy.contains(grant))
    };
    grants.iter().map(row).collect()
}

/// What was typed for a skill. The library's hints name commands with the skill's name, which finds
/// only one that is installed; here they get what was typed.
pub struct Typed<'a> {
    name: &'a str,
    typed: Cow<'a, str>,
    /// Whether the policy has grants for it, where that is left out.
    left_out: Option<bool>,
}

impl<'a> Typed<'a> {
    /// The skill of this name, which was called like that.
    pub fn new(name: &'a str, typed: &'a Path) -> Self {
        let typed = typed.to_string_lossy();
        Typed {
            name,
            typed,
            left_out: None,
        }
    }

    /// Where the policy, if it is this one, is left out by `--no-policy`: nothing is granted for good then.
    pub fn leaving_out(mut self, policy: Option<&Policy>) -> Self {
        self.left_out = policy.map(|policy| {
            let entry = policy.skills.get(self.name);
            entry.is_some_and(|entry| !entry.grants.is_empty())
        });
        self
    }

    /// In one hint.
    pub fn in_hint(&self, hint: &mut String) {
        if let Some(has_grants) = self.left_out
            && let Some(flag) = for_this_run(hint)
        {
            *hint = match has_grants {
                true => format!("{flag}; what the policy grants it is left out by `--no-policy`"),
                false => flag,
            };
        }
        if self.typed != self.name {
            self.named(hint);
        }
        *hint = in_text(hint).into_owned();
    }

    fn named(&self, hint: &mut String) {
        // Not `revoke`, which takes a name in the policy.
        for verb in ["grant", "diff", "confirm"] {
            for end in [" ", "`"] {
                *hint = hint.replace(
                    &format!("`{}{end}", command(verb, self.name)),
                    &format!("`{}{end}", command(verb, &self.typed)),
                );
            }
        }
    }

    /// In the hints of these.
    pub fn in_denials(&self, denials: &mut [Denial]) {
        for denial in denials {
            self.in_hint(&mut denial.hint);
        }
    }

    /// In all hints of a failure.
    pub fn in_failure(&self, failure: &mut Failure) {
        if let Some(hint) = &mut failure.hint {
            self.in_hint(hint);
        }
        self.in_denials(&mut failure.denials);
        self.in_denials(&mut failure.missing);
    }

    /// In all hints of an answer to whether a request would be admitted.
    pub fn in_admission(&self, admission: &mut Admission) {
        if let Some(failure) = &mut admission.refusal {
            self.in_failure(failure);
        }
        self.in_denials(&mut admission.missing);
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name is empty; write KEY=VALUE".into()),
        Some((key, value)) => pair(key, value),
        None => Err(format!(
            "nothing is inherited from this environment; write the value out: {}",
            shell_word(&format!("{text}=<VALUE>"))
        )),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => pair(key, value),
        _ => Err("write KEY=VALUE".into()),
    }
}

fn pair(key: &str, value: &str) -> Result<(String, String), String> {
    check_name(key)?;
    check_value(value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A directory, as it is typed. The text of one that is there, whatever its name, is not taken for another and a path.
fn directory(text: &str) -> Result<DirectoryGrant, String> {
    let as_a_table = "a path with a `:` in it is granted in the policy, as a table: \
                      `{ host = \"/srv/a:b\", guest = \"/b\", mode = \"ro\" }`, and confirmed then";
    let path = text
        .strip_suffix(":ro")
        .or_else(|| text.strip_suffix(":rw"))
        .unwrap_or(text);
    let (host, guest) = path.split_once(':').unwrap_or((path, ""));
    if !guest.is_empty() && !host.is_empty() && std::fs::symlink_metadata(path).is_ok() {
        return Err(format!(
            "there is `{0}`, and it would be taken for `{1}` under the guest path `{2}`; {as_a_table}",
            printable(path, false),
            printable(host, false),
            printable(guest, false),
        ));
    }
    text.parse().map_err(|error: ParseDirectoryError| {
        let error = error.to_string();
        match error.contains("a `:` too many") {
            true => format!("{error}; {as_a_table}"),
            false => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use skillhost::grant::Capability;

    use super::*;

    #[test]
    fn a_variable_without_a_value_says_that_nothing_is_inherited() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("HOME").unwrap_err().contains("'HOME=<VALUE>'"));
        assert!(variable("=x").is_err());
        assert!(setting("x").is_err());
        assert!(variable("A\nB=x").unwrap_err().contains("control"));
        assert!(setting(&format!("a={}", "x".repeat(1 << 20))).is_err());
    }

    #[test]
    fn what_the_policy_has_is_said_where_it_is_left_out() {
        let policy: Policy = "[skills.a.grants]\ndirectories = ['/srv:/data']\n[skills.b]\n"
            .parse()
            .unwrap();
        for (name, has_grants) in [("a", true), ("b", false), ("c", false)] {
            let hints = Typed::new(name, Path::new(name)).leaving_out(Some(&policy));
            let grant = Some("<HOST>:/data:ro");
            let mut hint = skillhost::grant::to_grant(name, Capability::Directory, grant);
            hints.in_hint(&mut hint);
            assert!(hint.starts_with("grant it for this run with `--"), "{hint}");
            assert!(!hint.contains("policy grant "), "{hint}");
            let end = "`; what the policy grants it is left out by `--no-policy`";
            assert_eq!(hint.ends_with(end), has_grants, "{hint}");
        }
    }

    #[test]
    fn one_name_has_one_value() {
        let pair = |value: &str| ("A".to_owned(), value.to_owned());
        let twice = GrantArgs {
            env: vec![pair("1"), pair("2")],
            ..GrantArgs::default()
        };
        assert!(
            twice
                .grants()
                .unwrap_err()
                .message
                .contains("`A` is given twice")
        );
        let both = GrantArgs {
            env: vec![pair("1")],
            config: vec![pair("2")],
            ..GrantArgs::default()
        };
        assert_eq!(
            both.grants().unwrap(),
            Grants::default().environment("A", "1").config("A", "2")
        );
    }

    #[test]
    fn a_hint_names_what_was_typed() {
        let hint = "see `skillhost policy diff a`; `skillhost policy grant a --env B=c`";
        let for_typed = |hint: &str, typed: &str| {
            let mut hint = hint.to_owned();
            Typed::new("a", Path::new(typed)).in_hint(&mut hint);
            hint
        };
        assert_eq!(for_typed(hint, "a"), hint);
        assert_eq!(
            for_typed(hint, "./my a"),
            "see `skillhost policy diff './my a'`; `skillhost policy grant './my a' --env B=c`"
        );
        assert_eq!(
            for_typed("`skillhost policy diff a-b`", "x"),
            "`skillhost policy diff a-b`"
        );
    }
}
