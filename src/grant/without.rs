//! Refusals that no grant changes, as the skill does not declare what it asked for.

use super::hint::BY_A_GRANT;
use super::{Capability, Declared, Denial, HttpGrant, HttpTarget, MAX_QUOTED, Mode, SocketGrant};

/// Takes the hint to grant something from refusals of what this skill does not declare, and says that.
pub(crate) fn without_declaration(denials: &mut [Denial], declared: &Declared) {
    for denial in denials {
        if !denial.hint.starts_with(BY_A_GRANT) {
            continue;
        }
        let line = match denial.capability {
            Capability::Http => request(&denial.subject, declared),
            Capability::Socket => socket(&denial.subject, declared),
            Capability::Storage if !declared.storage => Some("storage = true".to_owned()),
            Capability::Directory => {
                let mut wanted = declared.directories.iter();
                if !wanted.any(|one| one.matches(&denial.subject) && one.mode == Mode::Rw) {
                    let hint = "no grant changes that: the skill's skill.toml declares it `ro`";
                    denial.hint = hint.into();
                }
                None
            }
            _ => None,
        };
        if let Some(line) = line {
            denial.hint = format!(
                "no grant changes that, as the skill's skill.toml does not declare it; it would have to, with \
                 `{line}` under `[grants]`"
            );
        }
    }
}

/// What would have to be declared for a request.
fn request(subject: &str, declared: &Declared) -> Option<String> {
    // Of a longer one only the beginning is known.
    if subject.len() > MAX_QUOTED {
        return None;
    }
    let (method, url) = subject.split_once(' ')?;
    let target = HttpTarget::new(method, url).ok()?;
    let is_declared = declared.http.iter().any(|wanted| wanted.allows(&target));
    (!is_declared).then(|| {
        let grant = toml::Value::from(HttpGrant::of(&target).to_string());
        format!("http = [{grant}]")
    })
}

/// What would have to be declared for a socket.
fn socket(subject: &str, declared: &Declared) -> Option<String> {
    let grant: SocketGrant = subject.parse().ok()?;
    let is_declared = declared.sockets.iter().any(|wanted| wanted.covers(&grant));
    (!is_declared).then(|| format!("sockets = [\"{grant}\"]"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Protocol, http_denied, socket_denied, to_grant};
    use super::*;

    #[test]
    fn what_is_not_declared_is_not_to_be_granted() {
        let declared: Declared = toml::from_str(
            r#"
            http = ["GET https://*/api"]
            sockets = ["udp://*:53"]
            directories = [{ path = "/in", mode = "ro" }, { path = "/out", mode = "rw" }]
            "#,
        )
        .unwrap();
        let http = |method, url| http_denied("a", &HttpTarget::new(method, url).unwrap());
        let socket = |protocol, to: &str| socket_denied("a", protocol, to.parse().unwrap());
        let directory = |guest: &str| Denial {
            capability: Capability::Directory,
            subject: guest.into(),
            reason: "the skill wanted to write there, and may only read".into(),
            hint: to_grant("a", Capability::Directory, PathBuf::from("/x:/y").to_str()),
        };
        let storage = Denial {
            capability: Capability::Storage,
            subject: "a".into(),
            reason: String::new(),
            hint: to_grant("a", Capability::Storage, None),
        };
        let long = format!("https://a.example/{}", "x".repeat(300));
        for (denial, line) in [
            (http("GET", "https://a.example/api/x"), None),
            (
                http("POST", "https://a.example/api/x"),
                Some("`http = [\"POST https://a.example/api/x\"]`"),
            ),
            (
                http("GET", "https://a.example/"),
                Some("`http = [\"GET https://a.example/\"]`"),
            ),
            // Of which only the beginning is told.
            (http("GET", &long), None),
            (socket(Protocol::Udp, "10.0.0.1:53"), None),
            (
                socket(Protocol::Tcp, "10.0.0.1:53"),
                Some("`sockets = [\"tcp://10.0.0.1:53\"]`"),
            ),
            (
                socket(Protocol::Udp, "10.0.0.1:54"),
                Some("`sockets = [\"udp://10.0.0.1:54\"]`"),
            ),
            (directory("/out"), None),
            (directory("/in"), Some("declares it `ro`")),
            (storage, Some("`storage = true`")),
        ] {
            let mut told = [denial.clone()];
            without_declaration(&mut told, &declared);
            match line {
                None => assert_eq!(told[0], denial),
                Some(line) => {
                    assert!(
                        told[0].hint.starts_with("no grant changes that"),
                        "{told:?}"
                    );
                    assert!(told[0].hint.contains(line), "{told:?}");
                }
            }
        }
    }
}
