//! What names and values of the environment and of the configuration may be.

use std::collections::BTreeMap;

use super::hint::NO_VALUE;
use super::{Capability, Denial, Grants, Remedy};
use crate::text::{is_backtick, named};

/// The longest name of a variable or a key, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest value of a variable or a key, in bytes.
pub const MAX_VALUE_BYTES: usize = 32 << 10;
/// The most variables, keys, directories, requests and so on that a skill can declare or be granted, each.
pub const MAX_ENTRIES: usize = 256;
/// The most that all names and values of the environment, or of the configuration, may come to, in
/// bytes.
pub const MAX_TOTAL_BYTES: usize = 1 << 20;

/// Whether a text can be the name of an environment variable, or a configuration key: not empty,
/// at most 256 bytes, no `=`, no control characters, no backtick (messages have names between those).
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let reason = if name.is_empty() {
        return Err("a name is empty".into());
    } else if name.len() > MAX_NAME_BYTES {
        format!("is longer than {MAX_NAME_BYTES} bytes")
    } else if name.contains('=') {
        "has a `=` in it".into()
    } else if name.chars().any(char::is_control) {
        "has a control character in it".into()
    } else if name.contains(is_backtick) {
        "has a backtick in it".into()
    } else {
        return Ok(());
    };
    Err(format!("the name `{}` {reason}", named(name, 64)))
}

/// Whether a text can be the value of an environment variable, or of a configuration key: at most
/// 32 KiB, no NUL, and not the `<VALUE>` that stands for one in a hint.
///
/// # Errors
/// What is wrong with it.
pub fn check_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_VALUE_BYTES {
        Err(format!(
            "the value has {} bytes; {MAX_VALUE_BYTES} are allowed",
            value.len()
        ))
    } else if value.contains('\0') {
        Err("the value has a NUL in it".into())
    } else if value == NO_VALUE {
        Err(format!("put a value in the place of {NO_VALUE}"))
    } else {
        Ok(())
    }
}

/// What is granted that cannot be.
pub(super) fn check(grants: &Grants) -> Vec<Denial> {
    let mut denials = Vec::new();
    check_pairs(Capability::Environment, &grants.environment, &mut denials);
    check_pairs(Capability::Config, &grants.config, &mut denials);
    for (capability, granted) in [
        (Capability::Directory, grants.directories.len()),
        (Capability::Http, grants.http.len()),
        (Capability::Socket, grants.sockets.len()),
        (Capability::Address, grants.addresses.len()),
    ] {
        if granted > MAX_ENTRIES {
            let reason = format!("more than {MAX_ENTRIES} are granted");
            denials.push(denial(capability, "*", reason));
        }
    }
    denials
}

fn check_pairs(
    capability: Capability,
    pairs: &BTreeMap<String, String>,
    denials: &mut Vec<Denial>,
) {
    let mut total = 0;
    for (name, value) in pairs {
        total += name.len() + value.len();
        if let Err(reason) = check_name(name).and_then(|()| check_value(value)) {
            denials.push(denial(capability, name, reason));
        }
    }
    if pairs.len() > MAX_ENTRIES {
        let reason = format!("more than {MAX_ENTRIES} are granted");
        denials.push(denial(capability, "*", reason));
    } else if total > MAX_TOTAL_BYTES {
        let reason = format!("all of it has {total} bytes; {MAX_TOTAL_BYTES} are allowed");
        denials.push(denial(capability, "*", reason));
    }
}

fn denial(capability: Capability, subject: &str, reason: String) -> Denial {
    let subject = named(subject, MAX_NAME_BYTES);
    Denial {
        capability,
        subject,
        reason,
        remedy: Remedy::Operator,
        grant: None,
        hint: "grant fewer, or smaller ones; what is large can be read from a directory".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hint_leaves_open_is_no_value() {
        let reason = check_value("<VALUE>").unwrap_err();
        assert_eq!(reason, "put a value in the place of <VALUE>");
        assert_eq!(check_value("<VALUES>"), Ok(()));
    }

    #[test]
    fn names_and_values_have_bounds() {
        for name in ["TZ", "max rows", "größe", &"a".repeat(MAX_NAME_BYTES)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "A=B",
            "A\0",
            "A\nB",
            "\x1b[2J",
            &"a".repeat(MAX_NAME_BYTES + 1),
        ] {
            let reason = check_name(name).unwrap_err();
            assert!(!reason.contains(char::is_control), "{reason:?}");
        }
        assert_eq!(check_value(&"x".repeat(MAX_VALUE_BYTES)), Ok(()));
        assert!(check_value(&"x".repeat(MAX_VALUE_BYTES + 1)).is_err());
        assert!(check_value("a\0b").is_err());
    }

    #[test]
    fn there_is_an_end_to_each_kind() {
        let (mut most, mut more) = (Grants::default(), Grants::default());
        for index in 0..=MAX_ENTRIES {
            let (path, port) = (format!("/p{index}"), index + 1);
            more = more.directory("/", &path, crate::grant::Mode::Ro);
            more.http
                .push(format!("https://a.com{path}").parse().unwrap());
            more.sockets
                .push(format!("tcp://10.0.0.1:{port}").parse().unwrap());
            more.addresses.push(
                format!("10.0.{}.{}", port / 250, port % 250)
                    .parse()
                    .unwrap(),
            );
            if index + 1 == MAX_ENTRIES {
                most = more.clone();
            }
        }
        assert_eq!(check(&most), []);
        let denials = check(&more);
        let kinds: Vec<Capability> = denials.iter().map(|denial| denial.capability).collect();
        use Capability::{Address, Directory, Http, Socket};
        assert_eq!(kinds, [Directory, Http, Socket, Address]);
        assert!(
            denials
                .iter()
                .all(|denial| denial.reason == "more than 256 are granted")
        );
    }

    #[test]
    fn there_is_an_end_to_what_can_be_granted() {
        let mut many = Grants::default();
        let mut large = Grants::default();
        for index in 0..=MAX_ENTRIES {
            many = many.environment(format!("A{index}"), "");
        }
        for index in 0..40 {
            large = large.config(format!("a{index}"), "x".repeat(MAX_VALUE_BYTES));
        }
        for grants in [many, large] {
            let denials = check(&grants);
            assert_eq!(denials.len(), 1, "{denials:?}");
            assert!(!denials[0].hint.is_empty());
        }
    }
}
