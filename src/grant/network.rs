//! Grants of the network: what is declared and granted, and what is said where something is not.

use std::collections::HashSet;
use std::time::Duration;

use super::asker::asked;
use super::hint::{NO_ADDRESS, NO_PORT};
use super::{
    Capability, Declared, Denial, Grants, HttpGrant, HttpTarget, Missing, Remedy, undeclared,
};

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
            remedy: Remedy::Operator,
            grant: None,
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
            remedy: Remedy::Operator,
            grant: None,
            hint: format!(
                "name the address and the port: {}://{NO_ADDRESS}:{NO_PORT}",
                grant.protocol().as_str()
            ),
        });
    http.chain(sockets).collect()
}

/// Adds what is both declared and granted.
#[expect(
    clippy::mutable_key_type,
    reason = "what a path is read as follows from its text, which alone is hashed"
)]
pub(super) fn narrow(
    declared: &Declared,
    granted: &Grants,
    effective: &mut Grants,
    denials: &mut Vec<Denial>,
) {
    let mut known = HashSet::new();
    for grant in &granted.http {
        let intersection = HttpGrant::intersection;
        let both = super::common(&declared.http, grant, HttpGrant::covers, intersection);
        let fits = !both.is_empty();
        for both in both {
            if known.insert(both.clone()) {
                effective.http.push(both);
            }
        }
        if !fits {
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
            remedy: Remedy::Operator,
            grant: None,
            hint: "leave it out".into(),
        }));
    } else {
        effective.addresses.clone_from(&granted.addresses);
    }
}

/// What is declared and not granted.
pub(super) fn missing(
    skill: &str,
    declared: &Declared,
    granted: &Grants,
    which: &dyn Fn(Missing<'_>) -> bool,
) -> Vec<Denial> {
    if !which(Missing::Told) {
        return Vec::new();
    }
    let missing = |capability, subject: String, text: &str| {
        let reason = "declared by the skill and not granted".into();
        Denial::lacking(skill, capability, subject, reason, Some(text))
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
            let text = wanted.replacen("://*", &format!("://{NO_ADDRESS}"), 1);
            let text = text.replace('*', NO_PORT);
            missing(Capability::Socket, wanted, &text)
        });
    http.chain(sockets).collect()
}

/// A request whose host failed too often lately.
pub(crate) fn host_left_alone(target: &HttpTarget, wait: Duration) -> Denial {
    let seconds = wait.as_secs() + 1;
    Denial {
        capability: Capability::Http,
        subject: asked(target),
        reason: "its host failed too often lately, and is left alone for a while".into(),
        remedy: Remedy::Wait,
        grant: None,
        hint: format!("try again in {seconds} s; the policy says so in `each_host.breaker`"),
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

    /// What was narrowed once stays as it is, and does not become each part with each.
    #[test]
    fn what_was_narrowed_is_narrowed_no_further() {
        let nested: Vec<String> = (0..200)
            .map(|depth| format!("http = \"http://*{}\"", "/a".repeat(depth)))
            .map(|line| line.replace("http = ", ""))
            .collect();
        let declared = declared(&format!("http = [{}]", nested.join(", ")));
        let once = effective("s", Some(&declared), &http(&["http://a.example/"])).unwrap();
        // The whole host is declared, so that it is granted as it is.
        assert_eq!(once.http.len(), 1);
        let parts: Vec<String> = (1..200)
            .map(|depth| format!("http://a.example{}", "/a".repeat(depth)))
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let granted = http(&parts);
        let once = effective("s", Some(&declared), &granted).unwrap();
        assert_eq!(once, granted);
        assert_eq!(effective("s", Some(&declared), &once).unwrap(), once);
        // In whatever order it is declared.
        let mut other_way_round = declared.clone();
        other_way_round.http.reverse();
        let once = effective("s", Some(&other_way_round), &granted).unwrap();
        assert_eq!(once, granted);
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
            crate::grant::to_grant("a", Capability::Http, Some("https://a.example/x';reboot;'"))
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
}
