//! What of a command line has to be repeated by whoever follows a hint.
//!
//! A hint that is pasted must act where this command does. Variables are those of the shell that it is pasted into, so
//! only what was typed is repeated.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::OnceLock;

use skillhost::grant::shell_word;

/// What a hint's command begins with.
const COMMAND: &str = "`skillhost ";
/// Commands that have a queue.
const QUEUED: [&str; 8] = [
    "approvals",
    "jobs",
    "mcp",
    "queues",
    "run",
    "schedules",
    "serve",
    "worker",
];
/// Commands that have no use for a policy.
const WITHOUT_POLICY: [&str; 6] = ["audit", "install", "list", "new", "remove", "secrets"];

static TYPED: OnceLock<Typed> = OnceLock::new();

/// Where this command looks, as far as it was typed.
#[derive(Debug, Default)]
struct Typed {
    home: Option<String>,
    policy: Option<String>,
    database: Option<String>,
}

/// Keeps what was typed, for [`in_text`].
pub fn remember(arguments: impl Iterator<Item = OsString>) {
    let _ = TYPED.set(Typed::of(arguments));
}

/// A text with what was typed in each command of a hint.
pub fn in_text(text: &str) -> Cow<'_, str> {
    match TYPED.get() {
        Some(typed) if text.contains(COMMAND) => typed.in_text(text),
        _ => text.into(),
    }
}

impl Typed {
    fn of(arguments: impl Iterator<Item = OsString>) -> Self {
        let mut typed = Typed::default();
        let mut arguments = arguments.take_while(|argument| argument != "--");
        while let Some(argument) = arguments.next() {
            let bytes = argument.as_encoded_bytes();
            let equals = bytes.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(at) => (&bytes[..at], Some(word(&bytes[at + 1..]))),
                None => (bytes, None),
            };
            let Ok(name) = str::from_utf8(name) else {
                continue;
            };
            let kept = match name {
                "--home" => &mut typed.home,
                "--policy" => &mut typed.policy,
                "--database" => &mut typed.database,
                _ => continue,
            };
            let value = value.or_else(|| Some(word(arguments.next()?.as_encoded_bytes())));
            // A URL may have a password in it.
            *kept = value.filter(|value| !value.is_empty() && !value.contains("://"));
        }
        typed
    }

    fn in_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.home.is_none() && self.policy.is_none() && self.database.is_none() {
            return text.into();
        }
        let mut parts = text.split(COMMAND);
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            whole.push_str(COMMAND);
            let word = part.split([' ', '`']).next().unwrap_or_default();
            // What has them already is not given them twice.
            if !word.starts_with('-') {
                let option = |name: &str, value: &Option<String>, wanted: bool| match value {
                    Some(value) if wanted => format!("{name} {value} "),
                    _ => String::new(),
                };
                whole += &option("--home", &self.home, true);
                whole += &option("--policy", &self.policy, !WITHOUT_POLICY.contains(&word));
                if self.database.is_some() && QUEUED.contains(&word) {
                    whole.push_str(word);
                    whole.push(' ');
                    whole += option("--database", &self.database, true).trim_end();
                    whole.push_str(&part[word.len()..]);
                    continue;
                }
            }
            whole.push_str(part);
        }
        whole.into()
    }
}

/// What was typed, as a word of a shell: also a path that is no text, as bash and others read it.
fn word(typed: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(typed) {
        return match text.is_empty() {
            true => String::new(),
            false => shell_word(text).into_owned(),
        };
    }
    let mut word = "$'".to_owned();
    for byte in typed {
        match byte {
            b'\'' | b'\\' => word.extend(['\\', char::from(*byte)]),
            // Commands of hints stand between those.
            b' '..=b'~' if *byte != b'`' => word.push(char::from(*byte)),
            _ => word.push_str(&format!("\\x{byte:02x}")),
        }
    }
    word.push('\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(typed: &str, hint: &str) -> String {
        let arguments = typed.split(' ').map(OsString::from);
        Typed::of(arguments).in_text(hint).into_owned()
    }

    #[test]
    fn what_was_typed_is_repeated_where_it_is_taken() {
        let hint = "grant it with `skillhost policy grant a --dir /x`, or `skillhost inspect a`";
        assert_eq!(told("skillhost run a", hint), hint);
        assert_eq!(
            told(
                "skillhost run a --home /h --policy=p.toml -- --home no",
                hint
            ),
            "grant it with `skillhost --home /h --policy p.toml policy grant a --dir /x`, or `skillhost --home /h \
             --policy p.toml inspect a`"
        );
        assert_eq!(
            told("skillhost --policy p run a", "`skillhost install a`"),
            "`skillhost install a`"
        );
        assert_eq!(
            told(
                "skillhost jobs --database q.db show 1",
                "`skillhost worker`"
            ),
            "`skillhost worker --database q.db`"
        );
        assert_eq!(
            told(
                "skillhost jobs show 1 --database=q.db",
                "`skillhost jobs dead replay 1`"
            ),
            "`skillhost jobs --database q.db dead replay 1`"
        );
        // Also a path that is no text.
        let odd: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"/h'`\xff".to_vec());
        let arguments = ["skillhost".into(), "--home".into(), odd, "list".into()];
        let told_odd = Typed::of(arguments.into_iter());
        assert_eq!(
            told_odd.in_text("`skillhost list`"),
            r"`skillhost --home $'/h\'\x60\xff' list`"
        );
        // Not a password, and nothing twice.
        assert_eq!(
            told(
                "skillhost worker --database postgres://a:b@c/d",
                "`skillhost worker`"
            ),
            "`skillhost worker`"
        );
        let once = told("skillhost --home h list", "`skillhost list`");
        assert_eq!(told("skillhost --home h list", &once), once);
    }
}
