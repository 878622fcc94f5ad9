//! What to add so that something is granted.

use std::borrow::Cow;

use super::Capability;
use crate::text::named;

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
/// it is left like that.
pub fn to_grant(skill: &str, capability: Capability, text: Option<&str>) -> String {
    let skill = &named(skill, MAX_SHOWN);
    let (flag, field) = (capability.flag(), capability.field());
    let (flag, line) = match text {
        Some(text) => {
            let shown = named(text, MAX_SHOWN);
            let value = toml::Value::from(&*shown);
            (
                as_flag(capability, text),
                match capability {
                    Capability::Directory => format!(
                        "`{field} = [{value}]`, or into the list that is there, in place of one for the same guest path"
                    ),
                    Capability::Environment | Capability::Config => pair(field, &shown, &value),
                    _ if capability.is_list() => {
                        format!("`{field} = [{value}]`, or into the list that is there")
                    }
                    _ => format!("`{field} = {value}`"),
                },
            )
        }
        None => (flag.to_owned(), format!("`{field} = true`")),
    };
    format!(
        "grant it {FOR_THIS_RUN}{flag}{FOR_GOOD}{} {flag}`; by hand, in the policy under \
         `[skills.{}.grants]`: {line}{AND_THEN}{}`",
        command("grant", skill),
        key(skill),
        command("confirm", skill)
    )
}

/// The line for a name with a value, in the form that the command writes. Whoever has a list has one of texts.
fn pair(field: &str, shown: &str, text: &toml::Value) -> String {
    match shown.split_once('=') {
        Some((name, value)) => format!(
            "`{field} = {{ {} = {} }}`, or into the table that is there, or into the list as {text}",
            key(name),
            toml::Value::from(value)
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
    toml::Value::from(name).to_string().into()
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
        let hint = to_grant("a", Capability::Directory, Some("HOST:/x\n$(y)\"]:ro"));
        assert!(hint.contains(r"'HOST:/x\n$(y)"), "{hint}");
        assert!(!hint.contains('\n'), "{hint}");
    }

    #[test]
    fn no_name_ends_what_it_stands_in() {
        let name = "a`. Run `skillhost policy grant a --dir /:/host:rw";
        for capability in [Capability::Directory, Capability::Environment] {
            let plain = to_grant("a", capability, Some("b"));
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
