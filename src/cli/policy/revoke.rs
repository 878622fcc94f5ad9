//! `skillhost policy revoke`: take grants back.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use skillhost::grant::{
    AddressGrant, DirectoryGrant, Grants, HttpGrant, Mode, SecretGrant, SocketGrant, command,
    shell_word,
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
  skillhost policy revoke csv-query --all";

/// Take from a skill what the policy grants it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RevokeArgs {
    /// The skill's name, as in the policy; it need not be installed
    #[arg(value_name = "NAME")]
    name: String,
    /// What is taken back: guest paths, variables, keys, requests and the like, as `skillhost policy show` lists
    /// them, or the text that they were granted by; a secret also by its name
    #[arg(value_name = "GRANT")]
    subjects: Vec<String>,
    /// Take everything back, and the confirmations, too
    #[arg(long, conflicts_with = "subjects")]
    all: bool,
}

/// Takes grants out of the policy.
///
/// # Errors
/// Where they are not in it.
pub fn revoke(args: &RevokeArgs, session: &Session) -> anyhow::Result<Exit> {
    let file = session.policy_file()?;
    let name = &args.name;
    if args.subjects.is_empty() && !args.all {
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
            policy.skills.remove(name);
            return Ok((vec!["everything".to_owned()], false));
        }
        let mut taken = Vec::new();
        let granted = entry.grants.clone();
        for subject in &args.subjects {
            if without(&granted, subject).is_some() {
                if let Some(left) = without(&entry.grants, subject) {
                    entry.grants = left;
                    taken.push(subject.clone());
                }
                continue;
            }
            let meant = match as_granted(subject, &granted) {
                Some(meant) => meant,
                None => of_secret(name, subject, &granted)?,
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
    session.console.note(format_args!(
        "{} taken from {name}: {}{more}",
        styled(GOOD, "✓"),
        printable(&taken.join(", "), false)
    ));
    Ok(Exit::Success)
}

/// What to run where a grant is not wanted; `None` where there is none for this subject.
pub fn to_take_out(name: &str, grants: &Grants, subject: &str) -> Option<String> {
    without(grants, subject)?;
    Some(format!(
        "{} {}",
        command("revoke", name),
        shell_word(subject)
    ))
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
fn of_secret(name: &str, secret: &str, grants: &Grants) -> Result<Grants, Complaint> {
    let named = grants.secrets.iter().filter(|grant| grant.name() == secret);
    let named: Vec<&SecretGrant> = named.collect();
    match named.as_slice() {
        [] => Err(not_granted(name, secret, grants)),
        [one] => Ok(Grants::default().secret((*one).clone())),
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

fn not_granted(name: &str, subject: &str, grants: &Grants) -> Complaint {
    let subjects = subjects(grants);
    let complaint = Complaint::usage(format!("the policy does not grant `{subject}` to `{name}`"));
    match closest(subject, subjects.iter().map(String::as_str)) {
        Some(close) => complaint.hint(format!("did you mean `{}`?", shell_word(close))),
        None if subjects.is_empty() => complaint.hint(format!(
            "it grants nothing to it; `{} --all` takes the confirmations away, too",
            command("revoke", name)
        )),
        None => complaint.hint(format!("it grants: {}", words(&subjects))),
    }
}
