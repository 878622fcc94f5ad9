//! `skillhost policy revoke`: take grants back.

mod confirmed;

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use skillhost::grant::{
    AddressGrant, Capability, DirectoryGrant, GrantNames, Grants, HttpGrant, Mode, SecretGrant,
    SocketGrant, by_flag, command, shell_word,
};
use skillhost::policy::SkillPolicy;
use skillhost::text::{closest, printable};

use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::{GOOD, styled};
use crate::cli::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  skillhost policy revoke csv-query /data max_rows
  skillhost policy revoke csv-query --all
  Take back that one version was confirmed, and so all that it is granted:
    skillhost policy revoke csv-query@0.1.0";

/// Take from a skill what the policy grants it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RevokeArgs {
    /// The skill's name, as in the policy; it need not be installed. With a version, or as a digest (its first 8 digits
    /// will do): that this one is confirmed is taken back, and the grants stay for others
    #[arg(value_name = "NAME[@VERSION]|sha256:DIGEST")]
    name: String,
    /// What is taken back: guest paths, variables, keys, requests and the like, as `skillhost policy show` lists
    /// them, or the text that they were granted by; a secret also by its name
    #[arg(value_name = "GRANT")]
    subjects: Vec<String>,
    /// What is taken back of one kind, where grants of several have the same name.
    #[command(flatten)]
    kinds: KindArgs,
    /// Take everything back, and the confirmations, too
    #[arg(long, conflicts_with_all = ["subjects", "KindArgs"])]
    all: bool,
}

/// Takes grants out of the policy.
///
/// # Errors
/// Where they are not in it.
pub fn revoke(args: &RevokeArgs, session: &Session) -> anyhow::Result<Exit> {
    let file = session.policy_file()?;
    let name = &args.name;
    let wanted = args.wanted();
    let policy = file.read()?.unwrap_or_default();
    if let Some((name, which)) = confirmed::meant(name, &wanted, args.all, &policy) {
        return confirmed::revoke(name, &which, args, session);
    }
    if wanted.is_empty() && !args.all {
        let message = format!(
            "it is not said what is taken from `{}`",
            printable(name, false)
        );
        return Err(Complaint::usage(message)
            .hint(format!(
                "name it as `{}` lists it; `--all` takes everything back",
                command("show", name)
            ))
            .into());
    }
    let record = super::record::Record::open(session)?;
    let (taken, nothing_left) = super::edit::edit(&file, |policy| {
        let Some(entry) = policy.skills.get_mut(name) else {
            return Err(super::unknown(name, policy, &file).into());
        };
        if args.all {
            let mut taken = super::record::names(&entry.grants);
            taken.extend(entry.confirmed.iter().map(confirmed::confirmation));
            policy.skills.remove(name);
            return Ok((taken, false));
        }
        let mut taken = Vec::new();
        let all = entry.grants.clone();
        for (kind, subject) in &wanted {
            let granted = match kind {
                Some(kind) => &of_kind(&all, *kind),
                None => &all,
            };
            let meant = match without(granted, subject) {
                Some(others) => {
                    one_alone(name, subject, granted)?;
                    granted.clone().except(&others)
                }
                None => match as_granted(subject, granted) {
                    Some(meant) => meant,
                    None => match of_secret(name, subject, granted)? {
                        Some(meant) => meant,
                        None => return Err(not_granted(name, subject, &all).into()),
                    },
                },
            };
            let left = entry.grants.clone().except(&meant);
            if left != entry.grants {
                entry.grants = left;
                taken.extend(subjects(&meant));
            }
        }
        let nothing_left = entry.grants.is_empty() && !entry.confirmed.is_empty();
        if nothing_left {
            // A grant that is given later is not to find an old consent.
            entry.confirmed.clear();
        }
        if *entry == SkillPolicy::default() {
            policy.skills.remove(name);
        }
        Ok((taken, nothing_left))
    })?;
    record.taken(name, &taken)?;
    let more = match nothing_left {
        true => "; that was all it was granted, and the confirmations are taken away, too",
        false => "",
    };
    let said = match args.all {
        true => "everything".to_owned(),
        false => taken.join(", "),
    };
    session.console.note(format_args!(
        "{} taken from {name}: {}{more}",
        styled(GOOD, "✓"),
        printable(&said, false)
    ));
    Ok(Exit::Success)
}

/// Grants of one kind, by what they are called.
#[derive(Debug, Args)]
#[group(id = "KindArgs", multiple = true)]
struct KindArgs {
    /// Take back a directory, by its guest path
    #[arg(long, value_name = "GUEST", help_heading = KIND)]
    dir: Vec<String>,
    /// Take back the scratch folder
    #[arg(long, help_heading = KIND)]
    scratch: bool,
    /// Take back HTTP requests
    #[arg(long, value_name = "[METHODS ]URL", help_heading = KIND)]
    http: Vec<String>,
    /// Take back a socket
    #[arg(long, value_name = "tcp|udp://IP:PORT", help_heading = KIND)]
    socket: Vec<String>,
    /// Take back an address
    #[arg(long, value_name = "IP[/BITS]", help_heading = KIND)]
    address: Vec<String>,
    /// Take back an environment variable
    #[arg(long, value_name = "KEY", help_heading = KIND)]
    env: Vec<String>,
    /// Take back a configuration key
    #[arg(long, value_name = "KEY", help_heading = KIND)]
    config: Vec<String>,
    /// Take back a secret
    #[arg(long, value_name = "NAME", help_heading = KIND)]
    secret: Vec<String>,
    /// Take back the storage; what is kept in it stays
    #[arg(long, help_heading = KIND)]
    storage: bool,
    /// Take back what is said of the clocks
    #[arg(long, help_heading = KIND)]
    clock: bool,
    /// Take back what is said of the random numbers
    #[arg(long, help_heading = KIND)]
    random: bool,
}

const KIND: &str = "One kind alone, where several have the same name";

impl RevokeArgs {
    /// What is to be taken back, and of which kind where that is said.
    fn wanted(&self) -> Vec<(Option<Capability>, String)> {
        let KindArgs {
            dir,
            scratch,
            http,
            socket,
            address,
            env,
            config,
            secret,
            storage,
            clock,
            random,
        } = &self.kinds;
        let mut wanted: Vec<_> = self
            .subjects
            .iter()
            .map(|one| (None, one.clone()))
            .collect();
        for (kind, names) in [
            (Capability::Directory, dir),
            (Capability::Http, http),
            (Capability::Socket, socket),
            (Capability::Address, address),
            (Capability::Environment, env),
            (Capability::Config, config),
            (Capability::Secret, secret),
        ] {
            wanted.extend(names.iter().map(|name| (Some(kind), name.clone())));
        }
        for (kind, is_said) in [
            (Capability::Scratch, *scratch),
            (Capability::Storage, *storage),
            (Capability::Clock, *clock),
            (Capability::Random, *random),
        ] {
            wanted.extend(is_said.then(|| (Some(kind), kind.field().to_owned())));
        }
        wanted
    }
}

/// Of the grants those of one kind.
fn of_kind(grants: &Grants, kind: Capability) -> Grants {
    let mut fields = super::text::fields(grants);
    fields.retain(|field, _| field == kind.field());
    serde_json::from_value(serde_json::Value::Object(fields)).unwrap_or_default()
}

/// Refuses a name that several kinds of grants have: to take all of them is rarely what is meant.
fn one_alone(name: &str, subject: &str, grants: &Grants) -> Result<(), Complaint> {
    let names = GrantNames::of(grants);
    let kinds = names.kinds(subject);
    if kinds.len() < 2 {
        return Ok(());
    }
    let subject_said = printable(subject, false);
    let message = format!(
        "the policy grants `{name}` {} things that are called `{subject_said}`",
        kinds.len()
    );
    let flags: Vec<String> = kinds.iter().map(|kind| by_flag(*kind, subject)).collect();
    Err(Complaint::usage(message).hint(format!("say which: `{}`", flags.join("`, `"))))
}

/// The grants without those for one subject; `None` where there are none for it.
fn without(grants: &Grants, subject: &str) -> Option<Grants> {
    let mut fields = super::text::fields(grants);
    let mut found = false;
    for (field, value) in &mut fields {
        match value {
            serde_json::Value::Array(list) => list.retain(|grant| {
                let matches = super::text::subject(grant) == subject;
                found |= matches;
                !matches
            }),
            serde_json::Value::Object(table) => found |= table.remove(subject).is_some(),
            _ if field == subject => found = true,
            _ => {}
        }
    }
    if !found {
        return None;
    }
    fields.retain(|field, value| field != subject || value.is_array() || value.is_object());
    serde_json::from_value(serde_json::Value::Object(fields)).ok()
}

/// What of the grants was granted by this text, whichever flag it stood behind; and a directory by its guest path,
/// however that is written.
fn as_granted(typed: &str, granted: &Grants) -> Option<Grants> {
    fn parsed<T: FromStr>(typed: &str) -> Vec<T> {
        typed.parse().into_iter().collect()
    }
    let pairs = |mut granted: BTreeMap<String, String>| {
        let pair = typed.split_once('=');
        granted.retain(|name, value| pair == Some((name.as_str(), value.as_str())));
        granted
    };
    let meant = Grants {
        directories: directories(typed, granted),
        http: parsed::<HttpGrant>(typed),
        sockets: parsed::<SocketGrant>(typed),
        addresses: parsed::<AddressGrant>(typed),
        secrets: parsed::<SecretGrant>(typed),
        environment: pairs(granted.environment.clone()),
        config: pairs(granted.config.clone()),
        clock: typed.parse().ok().filter(|it| granted.clock == Some(*it)),
        random: typed.parse().ok().filter(|it| granted.random == Some(*it)),
        ..Grants::default()
    };
    let meant = granted.clone().except(&granted.clone().except(&meant));
    (meant != Grants::default()).then_some(meant)
}

/// The directories that this text means: as it is granted, or the guest path alone.
fn directories(typed: &str, granted: &Grants) -> Vec<DirectoryGrant> {
    let at = |guest: &str| {
        let here = Grants::default().directory("", guest, Mode::default());
        let left = granted.clone().except(&here).directories;
        let all = granted.directories.iter();
        all.filter(move |grant| !left.contains(grant)).cloned()
    };
    let mut meant: Vec<_> = at(typed).collect();
    if let Ok(grant) = typed.parse::<DirectoryGrant>()
        && let Ok(host) = std::path::absolute(&grant.host)
    {
        meant.extend(at(&grant.guest).filter(|it| it.host == host && it.mode == grant.mode));
    }
    meant
}

/// The grant of the secret of this name, where there is one alone.
fn of_secret(name: &str, secret: &str, grants: &Grants) -> Result<Option<Grants>, Complaint> {
    let named = grants.secrets.iter().filter(|grant| grant.name() == secret);
    let named: Vec<&SecretGrant> = named.collect();
    match named.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(Grants::default().secret((*one).clone()))),
        several => {
            let message =
                format!("the policy grants the secret `{secret}` to `{name}` more than once");
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Complaint::usage(message).hint(format!("say which: {}", words(&several))))
        }
    }
}

/// Each as a word of a shell.
fn words(subjects: &[String]) -> String {
    let words: Vec<_> = subjects.iter().map(|subject| shell_word(subject)).collect();
    words.join(", ")
}

/// What each of the grants is called, once.
fn subjects(grants: &Grants) -> Vec<String> {
    let mut subjects = Vec::new();
    for (field, value) in super::text::fields(grants) {
        let of_field: Vec<String> = match value {
            serde_json::Value::Array(list) => list.iter().map(super::text::subject).collect(),
            serde_json::Value::Object(table) => table.into_iter().map(|(key, _)| key).collect(),
            _ => vec![field],
        };
        for subject in of_field {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
    }
    subjects
}

/// That nothing of this name, or of the kind that was said, is among all that is granted.
fn not_granted(name: &str, subject: &str, all: &Grants) -> Complaint {
    let subjects = subjects(all);
    let complaint = Complaint::usage(format!("the policy does not grant `{subject}` to `{name}`"));
    let names = GrantNames::of(all);
    let by_flags = |subject: &str| {
        let kinds = names.kinds(subject).iter();
        let flags: Vec<_> = kinds
            .map(|kind| format!("`{}`", by_flag(*kind, subject)))
            .collect();
        (!flags.is_empty()).then(|| flags.join(", "))
    };
    if let Some(flags) = by_flags(subject) {
        return complaint.hint(format!("it is granted as another kind: {flags}"));
    }
    // As it is granted, and not as it is taken back.
    if let Some(flags) = subject.split_once('=').and_then(|(name, _)| by_flags(name)) {
        return complaint.hint(format!("did you mean {flags}?"));
    }
    match closest(subject, subjects.iter().map(String::as_str)) {
        Some(close) => complaint.hint(format!("did you mean `{}`?", shell_word(close))),
        None if subjects.is_empty() => complaint.hint(format!(
            "it grants nothing to it; `{} --all` takes the confirmations away, too",
            command("revoke", name)
        )),
        None => complaint.hint(format!("it grants: {}", words(&subjects))),
    }
}
