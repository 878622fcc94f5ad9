//! What two grants have in common.

use super::super::readings::below;
use super::{Hosts, HttpGrant, Port};

impl HttpGrant {
    /// Whether it can be seen at once that it allows all that the other allows.
    pub(in crate::grant) fn covers(&self, other: &HttpGrant) -> bool {
        (self.scheme.is_none() || self.scheme == other.scheme)
            && (self.port == Port::All || self.port == other.port)
            && (self.host == Hosts::All || self.host == other.host)
            && below(&other.path, &self.path)
            && (self.methods.is_empty()
                || !other.methods.is_empty()
                    && other
                        .methods
                        .iter()
                        .all(|method| self.methods.contains(method)))
    }

    /// What both allow.
    pub fn intersection(&self, other: &HttpGrant) -> Option<HttpGrant> {
        let scheme = match (self.scheme, other.scheme) {
            (None, scheme) | (scheme, None) => scheme,
            (ours, theirs) if ours == theirs => ours,
            _ => return None,
        };
        let (port, scheme) = self.port.intersection(other.port, scheme)?;
        let host = self.host.intersection(&other.host)?;
        let path = if below(&self.path, &other.path) {
            &self.path
        } else if below(&other.path, &self.path) {
            &other.path
        } else {
            return None;
        };
        let methods = match (self.methods.as_slice(), other.methods.as_slice()) {
            ([], methods) | (methods, []) => methods.to_vec(),
            (ours, theirs) => {
                let both: Vec<String> = ours
                    .iter()
                    .filter(|method| theirs.contains(method))
                    .cloned()
                    .collect();
                if both.is_empty() {
                    return None;
                }
                both
            }
        };
        Some(HttpGrant {
            methods,
            scheme,
            host,
            port,
            path: path.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a path is read as is not found out anew for each execution.
    #[test]
    fn what_is_in_common_has_the_very_path() {
        let declared: HttpGrant = "https://a.example/a%20b/c".parse().unwrap();
        let granted: HttpGrant = "GET https://a.example".parse().unwrap();
        let both = granted.intersection(&declared).unwrap();
        assert!(both.path.is_the_very(&declared.path));
        assert!(!both.path.is_the_very(&granted.path));
    }

    #[test]
    fn what_covers_another_has_all_of_it_in_common() {
        let texts = [
            "https://a.example",
            "http://a.example",
            "*://a.example",
            "*://a.example:443",
            "https://a.example:*",
            "https://a.example/a",
            "GET https://a.example/a/b",
            "GET,POST https://a.example",
            "https://*.example",
            "https://*.a.example/a",
            "https://*",
            "GET *://*/a",
        ];
        let texts = texts
            .iter()
            .filter_map(|text| text.parse::<HttpGrant>().ok());
        let grants: Vec<HttpGrant> = texts.collect();
        assert!(grants.len() > 9);
        let mut covered = 0;
        for one in &grants {
            for other in &grants {
                if one.covers(other) {
                    assert_eq!(
                        one.intersection(other).as_ref(),
                        Some(other),
                        "{one} {other}"
                    );
                    covered += usize::from(one != other);
                }
            }
        }
        assert!(covered > 5, "{covered}");
    }
}
