//! Whose refusals they are, and what is said of what it asked for while it ran.

mod wanting;

pub(crate) use wanting::{Ended, says_plainly};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::hint::{
    MAX_SHOWN, NO_HOST, NO_VALUE, directory_text, grant_text, to_grant_both, to_grant_directory,
};
use super::{
    AddressGrant, Capability, Declared, Denial, DirectoryGrant, HostName, HttpGrant, HttpTarget,
    MAX_QUOTED, Mode, Protocol, Remedy, SocketGrant, directory, not_public, shell_word, to_grant,
};
use crate::text::{named, shortened};

/// A skill that asks for something while it runs: its name, for hints, and what it declares. No grant changes a
/// refusal of what it does not.
#[derive(Debug, Default)]
pub(crate) struct Asker {
    name: String,
    /// A skill without a manifest may be granted anything.
    declared: Option<Declared>,
    /// Whether the operator reads them, and so may hear of paths of the host.
    for_operator: bool,
}

impl Asker {
    /// A skill of this name, and whether the operator reads what is refused to it.
    pub fn new(name: &str, declared: Option<&Declared>, for_operator: bool) -> Self {
        Asker {
            name: name.to_owned(),
            declared: declared.cloned(),
            for_operator,
        }
    }

    /// Whether the operator reads what is refused to it.
    pub fn for_operator(&self) -> bool {
        self.for_operator
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may be granted something: it declares it, or has no manifest to declare it in.
    fn may_be_granted(&self, declares: impl FnOnce(&Declared) -> bool) -> bool {
        self.declared.as_ref().is_none_or(declares)
    }

    /// A request that no grant allows, where these addresses are granted.
    pub fn http_denied(&self, target: &HttpTarget, addresses: &[AddressGrant]) -> Denial {
        let wanted = |declared: &Declared| declared.http.iter().any(|wanted| wanted.allows(target));
        let (remedy, grant, hint) = if self.may_be_granted(wanted) {
            let (grant, hint) = self.http_hint(target, addresses);
            (Remedy::Grant, grant, hint)
        } else {
            to_declare(&in_a_list(
                Capability::Http,
                &HttpGrant::narrowest(target, MAX_SHOWN).to_string(),
            ))
        };
        Denial {
            capability: Capability::Http,
            subject: asked(target),
            reason: match special(target) {
                Some(kind) => {
                    format!(
                        "no grant allows this request, to an address that is not public ({kind})"
                    )
                }
                None => "no grant allows this request".into(),
            },
            remedy,
            grant,
            hint,
        }
    }

    /// What grants what it asked for, and how.
    fn to_be_granted(
        &self,
        capability: Capability,
        text: Option<&str>,
    ) -> (Remedy, Option<String>, String) {
        let hint = to_grant(&self.name, capability, text);
        (Remedy::Grant, grant_text(text), hint)
    }

    /// What grants a request, and how.
    fn http_hint(
        &self,
        target: &HttpTarget,
        addresses: &[AddressGrant],
    ) -> (Option<String>, String) {
        // What does not fit into a hint cannot be copied from it.
        let narrow = HttpGrant::narrowest(target, MAX_SHOWN);
        let (wide, path) = (narrow.clone().for_all_paths().to_string(), narrow.path());
        let text = narrow.to_string();
        let leads_here = is_this_machine(target) && !addresses.iter().any(is_loopback);
        let mut hint = match leads_here {
            true => {
                let address = Ipv4Addr::LOCALHOST.to_string();
                let address = (Capability::Address, address.as_str());
                let both = to_grant_both(&self.name, (Capability::Http, &text), address);
                let host = target.host();
                format!(
                    "{both}; `{host}` leads to this machine, whose address needs a grant of its own"
                )
            }
            false => to_grant(&self.name, Capability::Http, Some(&text)),
        };
        if path != target.path() {
            let all = match path {
                "/" => "the whole host".to_owned(),
                folder => format!("all below `{}`", named(folder, MAX_SHOWN)),
            };
            hint.push_str(&format!(
                "; it grants {all}, as the request's own path cannot be granted by itself"
            ));
        }
        if path != "/" && special(target).is_none() {
            hint.push_str(&format!("; `{}` grants the whole host", shell_word(&wide)));
        }
        (grant_text(Some(&text)), hint)
    }

    /// A request whose host leads to nothing but addresses that are not granted.
    pub fn address_denied(&self, target: &HttpTarget, address: IpAddr) -> Denial {
        let kind = not_public(address).unwrap_or("not granted");
        let host = target.host();
        let reason = format!("`{host}` leads to this address, which is not public ({kind})");
        let text = address.to_string();
        let subject = text.clone();
        Denial::lacking(
            &self.name,
            Capability::Address,
            subject,
            reason,
            Some(&text),
        )
    }

    /// A socket to an address that is not granted.
    pub fn socket_denied(&self, protocol: Protocol, to: SocketAddr) -> Denial {
        let grant = SocketGrant::new(protocol, to);
        let wanted = |declared: &Declared| declared.sockets.iter().any(|one| one.covers(&grant));
        let subject = grant.to_string();
        let (remedy, grant, hint) = if self.may_be_granted(wanted) {
            self.to_be_granted(Capability::Socket, Some(&subject))
        } else {
            to_declare(&in_a_list(Capability::Socket, &subject))
        };
        Denial {
            capability: Capability::Socket,
            subject,
            reason: "no grant allows a socket to this address and port".into(),
            remedy,
            grant,
            hint,
        }
    }

    /// It wanted to keep data.
    pub fn storage_denied(&self) -> Denial {
        let (remedy, grant, hint) = if self.may_be_granted(|declared| declared.storage) {
            self.to_be_granted(Capability::Storage, None)
        } else {
            to_declare("storage = true")
        };
        Denial {
            capability: Capability::Storage,
            subject: self.name.clone(),
            reason: "the skill wanted to keep data, and no storage is granted".into(),
            remedy,
            grant,
            hint,
        }
    }

    /// It wanted to write where it may only read.
    pub fn write_denied(&self, granted: &DirectoryGrant) -> Denial {
        let mode = |declared: &Declared| directory::mode(&declared.directories, &granted.guest);
        let (remedy, grant, hint) = if self.may_be_granted(|one| mode(one) == Some(Mode::Rw)) {
            let host = match self.for_operator && granted.host.to_str().is_some() {
                // As it must stand in the policy.
                true => std::path::absolute(&granted.host).unwrap_or_else(|_| granted.host.clone()),
                false => NO_HOST.into(),
            };
            let wider = DirectoryGrant {
                mode: Mode::Rw,
                host,
                ..granted.clone()
            };
            let grant = directory_text(&wider).and_then(|text| grant_text(Some(&text)));
            let hint = to_grant_directory(&self.name, &wider);
            (Remedy::Grant, grant, hint)
        } else {
            let hint = format!(
                "no grant changes that: the skill's skill.toml declares `{}` with the mode `ro`",
                named(&granted.guest, MAX_SHOWN)
            );
            (Remedy::Skill, None, hint)
        };
        Denial {
            capability: Capability::Directory,
            subject: granted.guest.clone(),
            reason: "the skill wanted to write there, and may only read".into(),
            remedy,
            grant,
            hint,
        }
    }
}

/// What was asked, with the whole host and as much of the path as can be shown.
pub(super) fn asked(target: &HttpTarget) -> String {
    let (scheme, authority) = (target.scheme().as_str(), target.authority());
    let to = format!("{} {scheme}://{authority}", target.method());
    let path = shortened(
        &target.path_and_query(),
        MAX_QUOTED.saturating_sub(to.len()).max(60),
    )
    .into_owned();
    named(&format!("{to}{path}"), 2 * MAX_QUOTED)
}

/// Of which kind the address is that a request names, where it is one that is not public.
fn special(target: &HttpTarget) -> Option<&'static str> {
    match target.host() {
        HostName::Address(address) => not_public(*address),
        HostName::Name(_) => None,
    }
}

/// Whether the host is `localhost` or a name below it, which lead to loopback addresses (RFC 6761, section 6.3).
fn is_this_machine(target: &HttpTarget) -> bool {
    match target.host() {
        HostName::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        HostName::Address(_) => false,
    }
}

/// Whether it grants an address that `localhost` leads to.
fn is_loopback(grant: &AddressGrant) -> bool {
    grant.contains(Ipv4Addr::LOCALHOST.into()) || grant.contains(Ipv6Addr::LOCALHOST.into())
}

/// A line of a manifest with one thing of a kind.
fn in_a_list(capability: Capability, text: &str) -> String {
    let text = toml::Value::from(named(text, MAX_SHOWN));
    format!("{} = [{text}]", capability.field())
}

/// What to do about what is not declared, which this line of the manifest would.
fn to_declare(line: &str) -> (Remedy, Option<String>, String) {
    let hint = format!(
        "no grant changes that, as the skill's skill.toml does not declare it; it would have to, with `{line}` \
         under `[grants]`"
    );
    (Remedy::Skill, None, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        let declared: Declared = toml::from_str(
            r#"
            http = ["GET https://*/api"]
            sockets = ["udp://*:53"]
            directories = [
                { path = "/in", mode = "ro" },
                { path = "/out", mode = "rw" },
                { path = "/any", mode = "ro" },
                { path = "*", mode = "rw" },
            ]
            "#,
        )
        .unwrap();
        Asker::new("a", Some(&declared), true)
    }

    #[test]
    fn what_is_not_declared_is_not_to_be_granted() {
        let asker = asker();
        let http = |method, url| asker.http_denied(&HttpTarget::new(method, url).unwrap(), &[]);
        let socket = |protocol, to: &str| asker.socket_denied(protocol, to.parse().unwrap());
        let directory = |guest: &str| asker.write_denied(&format!("/x:{guest}").parse().unwrap());
        let long = format!("https://a.example/api/{}", "x".repeat(300));
        let other = format!("https://a.example/{}", "x".repeat(300));
        let others = format!("`http = [\"GET {other}\"]`");
        for (denial, line) in [
            (http("GET", "https://a.example/api/x"), None),
            (http("GET", &long), None),
            (http("GET", &other), Some(others.as_str())),
            (
                http("POST", "https://a.example/api/x"),
                Some("`http = [\"POST https://a.example/api/x\"]`"),
            ),
            (
                http("GET", "https://a.example/"),
                Some("`http = [\"GET https://a.example/\"]`"),
            ),
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
            (directory("/elsewhere"), None),
            // An exact path goes before `*`, as where grants are narrowed.
            (directory("/in"), Some("declares `/in` with the mode `ro`")),
            (directory("/any/"), Some("declares `/any` with the mode")),
            (asker.storage_denied(), Some("`storage = true`")),
        ] {
            let (remedy, begin, line) = match line {
                None => (Remedy::Grant, "grant it ", ""),
                Some(line) => (Remedy::Skill, "no grant changes that", line),
            };
            assert_eq!(denial.remedy, remedy, "{denial:?}");
            assert!(denial.hint.starts_with(begin), "{denial:?}");
            assert!(denial.hint.contains(line), "{denial:?}");
        }
    }

    #[test]
    fn a_path_of_the_host_is_named_where_that_was_wanted() {
        for (for_operator, flag) in [
            (true, "`--dir /srv/data:/out:rw`"),
            (false, "`--dir '<HOST>:/out:rw'`"),
        ] {
            let asker = Asker::new("a", None, for_operator);
            let denial = asker.write_denied(&"/srv/data:/out".parse().unwrap());
            assert!(denial.hint.contains(flag), "{denial:?}");
            assert_eq!(format!("{denial:?}").contains("/srv"), for_operator);
        }
    }

    #[test]
    fn a_skill_without_a_manifest_may_be_granted_anything() {
        let asker = Asker::new("a", None, true);
        let target = HttpTarget::new("POST", "https://a.example/x").unwrap();
        for denial in [
            asker.http_denied(&target, &[]),
            asker.socket_denied(Protocol::Tcp, "10.0.0.1:1".parse().unwrap()),
            asker.address_denied(&target, "10.0.0.1".parse().unwrap()),
            asker.storage_denied(),
            asker.write_denied(&"/x:/y".parse().unwrap()),
        ] {
            assert_eq!(denial.remedy, Remedy::Grant, "{denial:?}");
            assert!(denial.hint.starts_with("grant it "), "{denial:?}");
            // A program need not look for it in the words.
            let grant = denial.grant.as_deref().expect("it is told");
            let line = match denial.capability.is_list() {
                true => format!(
                    "`{} = [{}]`",
                    denial.capability.field(),
                    toml::Value::from(grant)
                ),
                false => format!("`{} = {grant}`", denial.capability.field()),
            };
            assert!(denial.hint.contains(&line), "{denial:?}");
        }
    }

    #[test]
    fn a_denial_says_what_to_add() {
        let asker = Asker::new("a", None, true);
        let target = HttpTarget::new("GET", "http://a.example:81/x?y").unwrap();
        let denial = asker.http_denied(&target, &[]);
        assert_eq!(denial.subject, "GET http://a.example:81/x?y");
        assert!(
            denial.hint.contains("--http 'GET http://a.example:81/x'`"),
            "{}",
            denial.hint
        );
        assert!(
            denial
                .hint
                .contains(r#"http = ["GET http://a.example:81/x"]"#),
            "{}",
            denial.hint
        );
        assert!(
            denial
                .hint
                .ends_with("; `'GET http://a.example:81/'` grants the whole host"),
            "{}",
            denial.hint
        );
        let target = HttpTarget::new("GET", "http://a.example/?y").unwrap();
        let hint = asker.http_denied(&target, &[]).hint;
        assert!(!hint.contains("whole host"), "{hint}");
        let long = format!("http://a.example/{}", "x".repeat(2_000));
        let hint = asker
            .http_denied(&HttpTarget::new("GET", &long).unwrap(), &[])
            .hint;
        assert!(hint.contains("--http 'GET http://a.example/'`"), "{hint}");
        assert!(hint.ends_with(
            "it grants the whole host, as the request's own path cannot be granted by itself"
        ));
        let long = "x".repeat(MAX_SHOWN);
        // The nearest folder that can be granted; and where it grants more than was asked, it says so.
        for (path, granted, said) in [
            ("/orders/*", "/orders/", Some("all below")),
            ("/orders/7/*/x", "/orders/7/", Some("all below")),
            ("/orders/7", "/orders/7", None),
            (&format!("/{long}/7"), "/", Some("the whole host")),
            (&format!("/orders/{long}"), "/orders/", Some("all below")),
            (
                &format!("/a{}/*", "/b".repeat(2_000)),
                &format!("/a{}/", "/b".repeat(488)),
                Some("all below"),
            ),
            ("/orders/%ff", "/", Some("the whole host")),
            ("/orders/a;..", "/orders/", Some("all below")),
            ("/orders/%252e%252e%252fx", "/", Some("the whole host")),
            // What takes long to read is below no prefix.
            (
                &format!("/orders/a;{}", "b".repeat(4_096)),
                "/",
                Some("the whole host"),
            ),
        ] {
            let target = HttpTarget::new("GET", &format!("http://a.example{path}")).unwrap();
            let grant = format!("`--http 'GET http://a.example{granted}'`");
            let hint = asker.http_denied(&target, &[]).hint;
            assert!(hint.contains(&grant), "{path}: {hint}");
            let told = hint.split_once("; it grants ").map(|(_, told)| told);
            let told = told.and_then(|told| told.split([',', '`']).next().map(str::trim));
            assert_eq!(told, said, "{path}: {hint}");
        }
        for (host, told) in [
            ("localhost", true),
            ("a.localhost", true),
            ("alocalhost", false),
            ("127.0.0.1", false),
        ] {
            let target = HttpTarget::new("GET", &format!("http://{host}/x")).unwrap();
            let hint = asker.http_denied(&target, &[]).hint;
            let address = format!("; `{host}` leads to this machine, whose address");
            assert_eq!(hint.contains(&address), told, "{hint}");
            // What is copied does by itself.
            let flags = format!("--http 'GET http://{host}/x' --address 127.0.0.1`");
            for begin in ["for this run with `", "`skillhost policy grant a "] {
                assert_eq!(hint.contains(&format!("{begin}{flags}")), told, "{hint}");
            }
            assert_eq!(hint.contains(r#"`addresses = ["127.0.0.1"]`"#), told);
            // Of what is granted already, nothing is said.
            for granted in ["127.0.0.0/8", "::1"] {
                let hint = asker.http_denied(&target, &[granted.parse().unwrap()]).hint;
                assert!(!hint.contains("leads to this machine"), "{hint}");
            }
        }
        let denial = asker.address_denied(&target, "127.0.0.1".parse().unwrap());
        assert!(
            denial.hint.contains("--address 127.0.0.1"),
            "{}",
            denial.hint
        );
        assert!(denial.reason.contains("loopback"), "{}", denial.reason);
    }
}
