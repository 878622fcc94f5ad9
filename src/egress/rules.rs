//! What one execution may reach.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

use crate::grant::{
    AddressGrant, Asker, Denial, Grants, HostName, HttpGrant, HttpTarget, SecretGrant, canonical,
    not_public, not_written, sends_secret, sets_header,
};
use crate::secret::Held;

/// The grants that outgoing HTTP is held to.
pub(crate) struct Rules {
    /// Whose requests they are, for hints.
    asker: Arc<Asker>,
    http: Vec<HttpGrant>,
    addresses: Vec<AddressGrant>,
    /// What is put into requests, where that is anything.
    secrets: Option<Secrets>,
}

struct Secrets {
    held: Arc<Held>,
    told: Told,
}

/// Hears of each secret that is to go into a request, and says whether it may.
pub(crate) type Told = Box<dyn Fn(&SecretGrant, &HttpTarget) -> bool + Send + Sync>;

impl Rules {
    /// Those of effective grants.
    pub fn new(asker: Arc<Asker>, grants: &Grants) -> Self {
        Rules {
            asker,
            http: grants.http.clone(),
            addresses: grants.addresses.clone(),
            secrets: None,
        }
    }

    /// The same with secrets to put into requests.
    pub fn with_secrets(mut self, held: Arc<Held>, told: Told) -> Self {
        self.secrets = Some(Secrets { held, told });
        self
    }

    /// Whose requests they are.
    pub fn by(&self) -> &str {
        self.asker.name()
    }

    /// The secrets of this execution, where it has any.
    pub fn secrets(&self) -> Option<&Arc<Held>> {
        self.secrets.as_ref().map(|secrets| &secrets.held)
    }

    /// The headers that the host adds to a request: secrets, where some are for it. A request that has
    /// such a header already, or the value of a secret anywhere in its head, is refused.
    pub fn authorization(
        &self,
        target: &HttpTarget,
        headers: &HeaderMap,
    ) -> Result<HeaderMap, Box<Denial>> {
        let mut added = HeaderMap::new();
        let Some(secrets) = self.secrets() else {
            return Ok(added);
        };
        let sent = headers
            .iter()
            .flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()])
            .chain([
                target.method().as_bytes(),
                target.path_and_query().as_bytes(),
                target.authority().as_bytes(),
            ])
            .find_map(|part| secrets.scrubber.find(part));
        if let Some(name) = sent {
            return Err(Box::new(sends_secret(name, target)));
        }
        for bound in secrets.for_request(target) {
            let header = bound.grant.header_name();
            if headers.contains_key(header) {
                return Err(Box::new(sets_header(&bound.grant, target)));
            }
            // What it is made of was checked when it was read.
            if let Some(value) = bound.header_value() {
                added.insert(header.clone(), value);
            }
        }
        if !added.is_empty() {
            // An answer that is packed could not be searched.
            added.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(added)
    }

    /// The secrets for a request are about to go out. Refused where one of them may not.
    pub fn used(&self, target: &HttpTarget) -> Result<(), Box<Denial>> {
        if let Some(Secrets { held, told }) = &self.secrets {
            for bound in held.for_request(target) {
                if !told(&bound.grant, target) {
                    return Err(Box::new(not_written(&bound.grant, target)));
                }
            }
        }
        Ok(())
    }

    /// Whether a request may be sent at all, as far as its text tells.
    pub fn admit(&self, target: &HttpTarget) -> Result<(), Box<Denial>> {
        if self.http.iter().any(|grant| grant.allows(target)) {
            Ok(())
        } else {
            Err(Box::new(self.asker.http_denied(target, &self.addresses)))
        }
    }

    /// Of the addresses of a request's host, those to which it may go.
    pub fn reachable(
        &self,
        target: &HttpTarget,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Vec<IpAddr>, Box<Denial>> {
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in addresses {
            if !self.may_reach(target, address) {
                refused.get_or_insert(address);
            } else if !allowed.contains(&canonical(address)) {
                allowed.push(canonical(address));
            }
        }
        match refused {
            Some(address) if allowed.is_empty() => {
                Err(Box::new(self.asker.address_denied(target, address)))
            }
            _ => Ok(allowed),
        }
    }

    fn may_reach(&self, target: &HttpTarget, address: IpAddr) -> bool {
        let by_itself = |grant: &HttpGrant| {
            *target.host() == HostName::Address(canonical(address))
                && grant.address() == Some(canonical(address))
                && grant.allows(target)
        };
        not_public(address).is_none()
            || self.addresses.iter().any(|grant| grant.contains(address))
            || self.http.iter().any(by_itself)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(http: &[&str], addresses: &[&str]) -> Rules {
        Rules {
            asker: Arc::default(),
            http: http.iter().map(|text| text.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            secrets: None,
        }
    }

    fn reachable(rules: &Rules, url: &str, addresses: &[&str]) -> Result<Vec<String>, String> {
        let target = HttpTarget::new("GET", url).unwrap();
        rules
            .reachable(&target, addresses.iter().map(|text| text.parse().unwrap()))
            .map(|addresses| addresses.iter().map(ToString::to_string).collect())
            .map_err(|denial| denial.subject)
    }

    #[test]
    fn of_several_addresses_the_allowed_ones_remain() {
        let rules = rules(&["http://a.example"], &[]);
        let url = "http://a.example/";
        let found = |addresses: &[&str]| reachable(&rules, url, addresses);
        assert_eq!(found(&["10.0.0.1", "1.1.1.1", "::1"]).unwrap(), ["1.1.1.1"]);
        assert_eq!(found(&["10.0.0.1", "::1"]).unwrap_err(), "10.0.0.1");
        assert_eq!(
            found(&["::ffff:127.0.0.1"]).unwrap_err(),
            "::ffff:127.0.0.1"
        );
        assert_eq!(found(&["::ffff:1.1.1.1", "1.1.1.1"]).unwrap(), ["1.1.1.1"]);
        assert!(found(&[]).unwrap().is_empty());
    }

    #[test]
    fn an_address_that_is_not_public_is_granted_by_itself() {
        let literal = rules(&["http://127.0.0.1:80", "http://a.example"], &[]);
        let local = ["127.0.0.1"];
        assert!(reachable(&literal, "http://127.0.0.1/", &local).is_ok());
        // A name that leads there is another matter.
        assert!(reachable(&literal, "http://a.example/", &local).is_err());
        let named = rules(&["http://a.example"], &["127.0.0.0/8"]);
        assert!(reachable(&named, "http://a.example/", &local).is_ok());
    }
}
