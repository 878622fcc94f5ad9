//! Grants of the network: what is declared and granted, and what is said where something is not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::hint::MAX_SHOWN;
use super::{
    Capability, Declared, Denial, Grants, HttpGrant, HttpTarget, Protocol, SocketGrant, not_public,
    quoted, shell_word, to_grant, undeclared,
};
use crate::text::named;

/// Grants that would be too wide, whatever is declared.
pub(super) fn check(granted: &Grants) -> Vec<Denial> {
    let http = granted
        .http
        .iter()
        .filter(|grant| grant.is_for_all_hosts())
        .map(|grant| Denial {
            capability: Capability::Http,
            subject: grant.to_string(),
            reason: "the host `*` can be declared, and not granted".into(),
            hint: "name the hosts: a name, `*.name` for all below it, or an address".into(),
        });
    let sockets = granted
        .sockets
        .iter()
        .filter(|grant| !grant.is_exact())
        .map(|grant| Denial {
            capability: Capability::Socket,
            subject: grant.to_string(),
            reason: "a `*` can be declared, and not granted".into(),
            hint: format!(
                "name the address and the port: {}://<IP>:<PORT>",
                grant.protocol().as_str()
            ),
        });
    http.chain(sockets).collect()
}

/// Adds what is both declared and granted.
pub(super) fn narrow(
    declared: &Declared,
    granted: &Grants,
    effective: &mut Grants,
    denials: &mut Vec<Denial>,
) {
    for grant in &granted.http {
        for both in declared
            .http
            .iter()
            .filter_map(|wanted| wanted.intersection(grant))
        {
            if !effective.http.contains(&both) {
                effective.http.push(both);
            }
        }
        let overlaps = |wanted: &HttpGrant| wanted.intersection(grant).is_some();
        if !declared.http.iter().any(overlaps) {
            let declared: Vec<String> = declared.http.iter().map(ToString::to_string).collect();
            denials.push(undeclared(
                Capability::Http,
                &grant.to_string(),
                declared.iter(),
            ));
        }
    }
    for grant in &granted.sockets {
        if declared.sockets.iter().any(|wanted| wanted.covers(grant)) {
            effective.sockets.push(*grant);
        } else {
            let declared: Vec<String> = declared.sockets.iter().map(ToString::to_string).collect();
            denials.push(undeclared(
                Capability::Socket,
                &grant.to_string(),
                declared.iter(),
            ));
        }
    }
    // Where a name leads is a matter of the operator's network, of which the skill knows nothing:
    // whoever declares HTTP may be led to what is granted.
    if declared.http.is_empty() {
        denials.extend(granted.addresses.iter().map(|grant| Denial {
            capability: Capability::Address,
            subject: grant.to_string(),
            reason: "granted, but the skill declares no http that could lead there".into(),
            hint: "leave it out".into(),
        }));
    } else {
        effective.addresses.clone_from(&granted.addresses);
    }
}

/// What is declared and not granted.
pub(super) fn missing(skill: &str, declared: &Declared, granted: &Grants) -> Vec<Denial> {
    let missing = |capability, subject: String, text: &str| Denial {
        capability,
        reason: "declared by the skill and not granted".into(),
        hint: to_grant(skill, capability, Some(text)),
        subject,
    };
    let http = declared
        .http
        .iter()
        .filter(|wanted| {
            let met = |grant: &HttpGrant| wanted.intersection(grant).is_some();
            !granted.http.iter().any(met)
        })
        .map(|wanted| {
            missing(
                Capability::Http,
                wanted.to_string(),
                &wanted.to_be_granted(),
            )
        });
    let sockets = declared
        .sockets
        .iter()
        .filter(|wanted| !granted.sockets.iter().any(|grant| wanted.covers(grant)))
        .map(|wanted| {
            let wanted = wanted.to_string();
            let text = wanted.replacen("://*", "://<IP>", 1).replace('*', "<PORT>");
            missing(Capability::Socket, wanted, &text)
        });
    http.chain(sockets).collect()
}

/// A request that no grant allows.
pub(crate) fn http_denied(skill: &str, target: &HttpTarget) -> Denial {
    // What does not fit into a hint cannot be copied from it.
    let narrow = HttpGrant::narrowest(target, MAX_SHOWN);
    let (wide, path) = (narrow.clone().for_all_paths().to_string(), narrow.path());
    let mut hint = to_grant(skill, Capability::Http, Some(&narrow.to_string()));
    if path != target.path() {
        let all = match path {
            "/" => "the whole host".to_owned(),
            folder => format!("all below `{}`", named(folder, MAX_SHOWN)),
        };
        hint.push_str(&format!(
            "; it grants {all}, as the request's own path cannot be granted by itself"
        ));
    }
    if path != "/" {
        hint.push_str(&format!("; `{}` grants the whole host", shell_word(&wide)));
    }
    Denial {
        capability: Capability::Http,
        subject: quoted(&format!("{} {target}", target.method())),
        reason: "no grant allows this request".into(),
        hint,
    }
}

/// A request whose host failed too often lately.
pub(crate) fn host_left_alone(target: &HttpTarget, wait: Duration) -> Denial {
    let seconds = wait.as_secs() + 1;
    Denial {
        capability: Capability::Http,
        subject: quoted(&format!("{} {target}", target.method())),
        reason: "its host failed too often lately, and is left alone for a while".into(),
        hint: format!("try again in {seconds} s; the policy says so in `each_host.breaker`"),
    }
}

/// A request whose host leads to nothing but addresses that are not granted.
pub(crate) fn address_denied(skill: &str, target: &HttpTarget, address: IpAddr) -> Denial {
    let kind = not_public(address).unwrap_or("not granted");
    Denial {
        capability: Capability::Address,
        subject: address.to_string(),
        reason: format!(
            "`{}` leads to this address, which is not public ({kind})",
            target.host()
        ),
        hint: to_grant(skill, Capability::Address, Some(&address.to_string())),
    }
}

/// A socket to an address that is not granted.
pub(crate) fn socket_denied(skill: &str, protocol: Protocol, to: SocketAddr) -> Denial {
    let grant = SocketGrant::new(protocol, to).to_string();
    Denial {
        capability: Capability::Socket,
        reason: "no grant allows a socket to this address and port".into(),
        hint: to_grant(skill, Capability::Socket, Some(&grant)),
        subject: grant,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{effective, missing};
    use super::*;

    fn declared(text: &str) -> Declared {
        toml::from_str(text).unwrap()
    }

    fn http(texts: &[&str]) -> Grants {
        texts.iter().fold(Grants::default(), |grants, text| {
            grants.http(text.parse().unwrap())
        })
    }

    fn shown(grants: &Grants) -> Vec<String> {
        grants.http.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn http_is_what_is_declared_and_granted() {
        let declared = declared(r#"http = ["GET https://*", "GET http://*"]"#);
        let granted = http(&["https://a.example/x", "http://127.0.0.1:3000"]);
        assert_eq!(
            shown(&effective("a", Some(&declared), &granted).unwrap()),
            ["GET https://a.example/x", "GET http://127.0.0.1:3000/"]
        );
        assert_eq!(effective("a", None, &granted).unwrap(), granted);
    }

    #[test]
    fn what_is_granted_and_not_declared_is_named() {
        let declared = declared(r#"http = ["GET https://a.example"]"#);
        let granted = http(&["https://b.example"]);
        let denials = effective("a", Some(&declared), &granted).unwrap_err();
        assert_eq!(denials[0].subject, "https://b.example/");
        assert_eq!(denials[0].capability, Capability::Http);
    }

    #[test]
    fn a_star_is_not_granted() {
        for declaration in [None, Some(declared(r#"http = ["*://*"]"#))] {
            let denials = effective("a", declaration.as_ref(), &http(&["https://*"])).unwrap_err();
            assert!(denials[0].reason.contains("not granted"), "{denials:?}");
        }
        let granted = Grants::default().socket("tcp://*:80".parse().unwrap());
        assert!(effective("a", None, &granted).is_err());
    }

    #[test]
    fn sockets_and_addresses() {
        let wants = declared(r#"sockets = ["tcp://*:5432"]"#);
        let granted = Grants::default().socket("tcp://10.0.0.1:5432".parse().unwrap());
        assert_eq!(effective("a", Some(&wants), &granted).unwrap(), granted);
        let other = Grants::default().socket("udp://10.0.0.1:5432".parse().unwrap());
        assert!(effective("a", Some(&wants), &other).is_err());
        let address = Grants::default().address("10.0.0.0/8".parse().unwrap());
        assert!(effective("a", Some(&wants), &address).is_err());
        let wants = declared(r#"http = ["https://wiki.example"]"#);
        assert_eq!(effective("a", Some(&wants), &address).unwrap(), address);
    }

    #[test]
    fn what_is_missing_comes_with_the_flag_to_add() {
        let wants = declared(
            r#"http = ["GET https://*", "https://a.example"]
            sockets = ["tcp://*:5432"]"#,
        );
        let odd = declared(r#"http = ["https://a.example/x';reboot;'"]"#);
        assert_eq!(
            missing("a", Some(&odd), &Grants::default())[0].hint,
            to_grant("a", Capability::Http, Some("https://a.example/x';reboot;'"))
        );
        let check = |granted: &Grants, flags: &[&str]| {
            let missing = missing("a", Some(&wants), granted);
            assert_eq!(missing.len(), flags.len());
            for (denial, flag) in missing.iter().zip(flags) {
                assert!(
                    denial.hint.contains(&format!("with `{flag}`")),
                    "{denial:?}"
                );
            }
        };
        check(
            &Grants::default(),
            &[
                "--http 'GET https://<HOST>/'",
                "--http https://a.example/",
                "--socket 'tcp://<IP>:5432'",
            ],
        );
        check(
            &http(&["https://a.example"]),
            &["--socket 'tcp://<IP>:5432'"],
        );
    }

    #[test]
    fn a_denial_says_what_to_add() {
        let target = HttpTarget::new("GET", "http://a.example:81/x?y").unwrap();
        let denial = http_denied("a", &target);
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
        let hint = http_denied("a", &target).hint;
        assert!(!hint.contains("whole host"), "{hint}");
        let long = format!("http://a.example/{}", "x".repeat(2_000));
        let hint = http_denied("a", &HttpTarget::new("GET", &long).unwrap()).hint;
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
        ] {
            let target = HttpTarget::new("GET", &format!("http://a.example{path}")).unwrap();
            let grant = format!("`--http 'GET http://a.example{granted}'`");
            let hint = http_denied("a", &target).hint;
            assert!(hint.contains(&grant), "{path}: {hint}");
            let told = hint.split_once("; it grants ").map(|(_, told)| told);
            let told = told.and_then(|told| told.split([',', '`']).next().map(str::trim));
            assert_eq!(told, said, "{path}: {hint}");
        }
        let denial = address_denied("a", &target, "127.0.0.1".parse().unwrap());
        assert!(
            denial.hint.contains("--address 127.0.0.1"),
            "{}",
            denial.hint
        );
        assert!(denial.reason.contains("loopback"), "{}", denial.reason);
    }
}
