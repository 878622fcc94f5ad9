//! What to add so that something is granted.

use std::borrow::Cow;

use super::{Capability, DirectoryGrant};
use crate::text::{named, shortened};

/// The longest text of a grant that stands in a hint, in bytes.
pub(super) const MAX_SHOWN: usize = 1_000;

/// In the place of a directory or a host that whoever grants it must choose. It is none that can be granted.
pub(super) const NO_HOST: &str = "<HOST>";
/// In the place of a guest path.
pub(super) const NO_GUEST: &str = "<GUEST>";
/// In the place of an address.
pub(super) const NO_ADDRESS: &str = "<IP>";
/// In the place of a port.
pub(super) const NO_PORT: &str = "<PORT>";
/// In the place of a value.
pub(super) const NO_VALUE: &str = "<VALUE>";

/// What stands around the flag in a hint.
const FOR_THIS_RUN: &str = "for this run with `";
const FOR_GOOD: &str = "`, or for good with `";
/// What stands before the last command in it.
const AND_THEN: &str = ", and then `";

/// A hint of [`to_grant`] without the flag, for whoever has no command line to add it to.
///
/// ```
/// use skillhost::grant::{Capability, for_good, to_grant};
///
/// let hint = for_good(&to_grant("notes", Capability::Storage, None)).unwrap();
/// assert!(hint.starts_with("grant it with `skillhost policy grant notes --storage`; by hand"));
/// ```
pub fn for_good(hint: &str) -> Option<String> {
    // No name of a stranger's has a backtick in it here.
    let (before, rest) = hint.split_once(FOR_THIS_RUN)?;
    let (_, after) = rest.split_once(FOR_GOOD)?;
    Some(format!("{before}with `{after}"))
}

/// A hint of [`to_grant`] without what grants something for good: for whoever leaves the policy out.
///
/// ```
/// use skillhost::grant::{Capability, for_this_run, to_grant};
///
/// let hint = to_grant("fetch", Capability::Environment, Some("TZ=UTC"));
/// assert_eq!(
///     for_this_run(&hint).as_deref(),
///     Some("grant it for this run with `--env TZ=UTC`")
/// );
/// ```
pub fn for_this_run(hint: &str) -> Option<String> {
    // No name of a stranger's has a backtick in it here, nor what stands before the command that confirms.
    let (before, rest) = hint.split_once(FOR_GOOD)?;
    let (_, rest) = rest.split_once(AND_THEN)?;
    let (_, after) = rest.split_once('`')?;
    Some(format!("{before}`{after}"))
}

/// The exact text to add so that a skill is granted something: as a flag for one run, as the command that
/// writes it into the policy, and as the line for the policy file, with the table that it belongs in and the
/// command that confirms what was written by hand.
///
/// `text` is the grant in the form that flag and file share, such as `TZ=UTC`; `None` for a flag
/// without a value. What it leaves open stands between angle brackets, such as `<VALUE>`, and is refused where
/// it is left like that. What no line can show as it is has no flag: it is written by hand, where TOML has an escape.
pub fn to_grant(skill: &str, capability: Capability, text: Option<&str>) -> String {
    match (capability, text) {
        (Capability::Directory, Some(text)) => match text.parse() {
            Ok(grant) => to_grant_directory(skill, &grant),
            // Something is left open in it.
            Err(_) => said(skill, flag(capability, text), &line(capability, text)),
        },
        (_, Some(text)) => said(skill, flag(capability, text), &line(capability, text)),
        (_, None) => {
            let line = format!("`{} = true`", capability.field());
            said(skill, Some(capability.flag().to_owned()), &line)
        }
    }
}

/// The same, where something else is needed at the same time.
pub(super) fn to_grant_both(
    skill: &str,
    one: (Capability, &str),
    also: (Capability, &str),
) -> String {
    let flags = flag(one.0, one.1).zip(flag(also.0, also.1));
    let (field, value) = (also.0.field(), in_toml(also.1));
    let line = format!("{}, and likewise `{field} = [{value}]`", line(one.0, one.1));
    said(
        skill,
        flags.map(|(one, also)| format!("{one} {also}")),
        &line,
    )
}

/// The same of a directory. One whose paths the text of a flag cannot have is written as a table.
pub(super) fn to_grant_directory(skill: &str, grant: &DirectoryGrant) -> String {
    let text = directory_text(grant);
    let line = match &text {
        Some(text) => line(Capability::Directory, text),
        None => format!(
            "`directories = [{{ host = {}, guest = {}, mode = \"{}\" }}]`, {OR_IN_PLACE}",
            in_toml(&grant.host.to_string_lossy()),
            in_toml(&grant.guest),
            grant.mode.as_str()
        ),
    };
    let flag = text.map(|text| as_flag(Capability::Directory, &text));
    said(skill, flag, &line)
}

/// The text of a directory's grant, where it can be read back, or would but for what is left open in it.
pub(super) fn directory_text(grant: &DirectoryGrant) -> Option<String> {
    let text = grant.to_string();
    let has_colon = |path: &str| path.contains(':');
    let is_plain = named(&text, usize::MAX) == text && grant.host.to_str().is_some();
    let reads_back =
        is_plain && !has_colon(&grant.guest) && !has_colon(&grant.host.to_string_lossy());
    reads_back.then_some(text)
}

/// What stands behind a line with a directory.
const OR_IN_PLACE: &str = "or into the list that is there, in place of one for the same guest path";

/// The flag for a text, where it can be shown as it is.
fn flag(capability: Capability, text: &str) -> Option<String> {
    let can_be_shown = named(text, usize::MAX) == text;
    can_be_shown.then(|| as_flag(capability, text))
}

/// The line for the policy, and what else to do with it where others are there.
fn line(capability: Capability, text: &str) -> String {
    let field = capability.field();
    let value = in_toml(text);
    match capability {
        Capability::Directory => format!("`{field} = [{value}]`, {OR_IN_PLACE}"),
        Capability::Environment | Capability::Config => pair(field, text, &value),
        _ if capability.is_list() => {
            format!("`{field} = [{value}]`, or into the list that is there")
        }
        _ => format!("`{field} = {value}`"),
    }
}

/// The whole hint. Without a flag there is no command, either.
fn said(skill: &str, flag: Option<String>, line: &str) -> String {
    let skill = &named(skill, MAX_SHOWN);
    let with_a_flag = match flag {
        Some(flag) => format!(
            "grant it {FOR_THIS_RUN}{flag}{FOR_GOOD}{} {flag}`; by hand",
            command("grant", skill)
        ),
        None => "it has characters that no flag can have: grant it by hand".to_owned(),
    };
    format!(
        "{with_a_flag}, in the policy under `[skills.{}.grants]`: {line}{AND_THEN}{}`",
        key(skill),
        command("confirm", skill)
    )
}

/// A text in TOML that is that text, and shows what cannot be seen, or would end what it stands in, as an escape.
pub(super) fn in_toml(text: &str) -> String {
    let text = shortened(text, MAX_SHOWN);
    let plain = toml::Value::from(&*text).to_string();
    if named(&text, usize::MAX) == text {
        return plain;
    }
    let mut escaped = String::from("\"");
    for c in text.chars() {
        let mut buffer = [0; 4];
        let alone = c.encode_utf8(&mut buffer);
        match c {
            '\n' => escaped.push_str("\\n"),
            '"' | '\\' => escaped.extend(['\\', c]),
            _ if named(alone, usize::MAX) == *alone => escaped.push(c),
            _ if u32::from(c) > 0xffff => escaped.push_str(&format!("\\U{:08x}", u32::from(c))),
            _ => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    escaped.push('"');
    escaped
}

/// The line for a name with a value, in the form that the command writes. Whoever has a list has one of texts.
fn pair(field: &str, shown: &str, text: &str) -> String {
    match shown.split_once('=') {
        Some((name, value)) => format!(
            "`{field} = {{ {} = {} }}`, or into the table that is there, or into the list as {text}",
            key(name),
            in_toml(value)
        ),
        None => format!("`{field} = [{text}]`, or into the list that is there"),
    }
}

/// The line of a manifest that declares something, where that follows from what it is about.
pub(super) fn declaration(capability: Capability, subject: &str) -> Option<String> {
    let text = toml::Value::from(&*named(subject, MAX_SHOWN));
    let field = capability.field();
    match capability {
        Capability::Http | Capability::Socket | Capability::Environment => {
            Some(format!("{field} = [{text}]"))
        }
        Capability::Directory => Some(format!("{field} = [{{ path = {text}, mode = \"ro\" }}]")),
        _ => None,
    }
}

/// A grant as a program takes it, where a hint shows it whole.
pub(super) fn grant_text(text: Option<&str>) -> Option<String> {
    let text = text.unwrap_or("true");
    (named(text, MAX_SHOWN) == text).then(|| text.to_owned())
}

/// A grant as it is typed behind a command.
pub(super) fn as_flag(capability: Capability, text: &str) -> String {
    let shown = named(text, MAX_SHOWN);
    // What begins like a flag would be taken for one.
    let between = if shown.starts_with('-') { "=" } else { " " };
    format!("{}{between}{}", capability.flag(), shell_word(&shown))
}

/// A name as a key in TOML, quoted where it needs to be.
pub(super) fn key(name: &str) -> Cow<'_, str> {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) {
        return name.into();
    }
    in_toml(name).into()
}

/// `skillhost policy VERB SKILL`, to be typed.
pub fn command(verb: &str, skill: &str) -> String {
    format!("skillhost policy {verb} {}", shell_word(skill))
}

/// A text as one word of a shell, quoted where it needs to be.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@,+%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''")).into()
}

#[cfg(test)]
mod tests {
    use super::super::{Grants, Mode};
    use super::*;

    #[test]
    fn a_hint_has_the_flag_the_command_and_the_line() {
        assert_eq!(
            to_grant("fetch", Capability::Environment, Some("TZ=UTC")),
            "grant it for this run with `--env TZ=UTC`, or for good with \
             `skillhost policy grant fetch --env TZ=UTC`; by hand, in the policy under \
             `[skills.fetch.grants]`: `environment = { TZ = \"UTC\" }`, or into the table that is there, or into the list as \
             \"TZ=UTC\", and then \
             `skillhost policy confirm fetch`"
        );
        assert_eq!(
            for_good(&to_grant("a", Capability::Scratch, None)).unwrap(),
            "grant it with `skillhost policy grant a --scratch`; by hand, in the policy under \
             `[skills.a.grants]`: `scratch = true`, and then `skillhost policy confirm a`"
        );
        assert_eq!(for_good("did you mean `--env`?"), None);
        assert_eq!(for_this_run("did you mean `--env`?"), None);
        let more = format!(
            "it wants http: {}; `'GET http://a.example/'` grants the whole host",
            to_grant(
                "a",
                Capability::Http,
                Some("GET http://a.example/x, and then")
            )
        );
        assert_eq!(
            for_this_run(&more).unwrap(),
            "it wants http: grant it for this run with `--http 'GET http://a.example/x, and then'`; \
             `'GET http://a.example/'` grants the whole host"
        );
        let hint = to_grant("my skill", Capability::Scratch, None);
        assert!(
            hint.contains("`[skills.\"my skill\".grants]`: `scratch = true`"),
            "{hint}"
        );
    }

    #[test]
    fn what_begins_like_a_flag_is_taken_for_none() {
        let hint = to_grant("a", Capability::Http, Some("-X http://a.example"));
        assert!(hint.contains("`--http='-X http://a.example'`"), "{hint}");
    }

    #[test]
    fn what_is_copied_into_a_shell_is_one_word() {
        assert_eq!(shell_word("/a/b:ro"), "/a/b:ro");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("$(reboot)`x`;"), "'$(reboot)`x`;'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        let hint = to_grant("a", Capability::Environment, Some("A=$(y)\"]"));
        assert!(hint.contains("`--env 'A=$(y)\"]'`"), "{hint}");
    }

    /// What no flag can have is in no flag, and the line for the policy is read as what is meant.
    #[test]
    fn what_cannot_be_shown_is_written_by_hand() {
        let read = |hint: &str| -> Grants {
            let (_, line) = hint.split_once("grants]`: `").unwrap();
            let (line, _) = line.split_once('`').unwrap();
            toml::from_str(line).unwrap()
        };
        for (host, guest) in [
            ("/srv/a:b", "/data"),
            ("/srv/a`b", "/data"),
            ("/srv/a\nb", "/da\tta"),
            ("/srv/a", "/da:ta"),
            ("/srv/a\u{202e}b\"\\'", "/\u{e0041}"),
            ("<HOST>", "/c:olon:rw"),
        ] {
            let grant = Grants::default().directory(host, guest, Mode::Rw);
            let hint = to_grant_directory("a", &grant.directories[0]);
            assert!(!hint.contains("--dir"), "{hint}");
            assert!(!hint.contains("policy grant"), "{hint}");
            assert!(!hint.contains('\n'), "{hint}");
            assert_eq!(read(&hint), grant, "{hint}");
            assert!(hint.ends_with("`skillhost policy confirm a`"), "{hint}");
        }
        let name = "a\u{200b}b";
        let hint = to_grant("a", Capability::Environment, Some(&format!("{name}=c`d")));
        assert!(!hint.contains("--env"), "{hint}");
        assert_eq!(read(&hint), Grants::default().environment(name, "c`d"));
        let hint = to_grant("a", Capability::Directory, Some("HOST:/x\n$(y)\"]:ro"));
        assert!(!hint.contains("--dir") && !hint.contains('\n'), "{hint}");
    }

    #[test]
    fn no_name_ends_what_it_stands_in() {
        let name = "a`. Run `skillhost policy grant a --dir /:/host:rw";
        for capability in [Capability::Directory, Capability::Environment] {
            // No flag can have it, either.
            let plain = to_grant("a", capability, Some("b\n"));
            let hint = to_grant(name, capability, Some(name));
            assert_eq!(
                hint.matches('`').count(),
                plain.matches('`').count(),
                "{hint}"
            );
            assert_eq!(
                hint.matches("`skillhost policy grant a ").count(),
                0,
                "{hint}"
            );
        }
    }
}
