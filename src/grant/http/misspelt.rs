//! Methods that are like those of HTTP, and are none.

use super::HttpGrant;

/// The methods that requests mostly have.
const COMMON: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Others that are registered (IANA's registry of HTTP methods), but for CONNECT and TRACE, which cannot be granted.
const OTHERS: [&str; 31] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

impl HttpGrant {
    /// The first method that it grants, that is not registered, and that is one slip (a letter more, less or other, or two
    /// swapped, behind the first) from one which requests mostly have: and that one. A server may know any method, so
    /// that none is refused for it.
    ///
    /// ```
    /// use skillhost::grant::HttpGrant;
    ///
    /// let grant: HttpGrant = "GTE https://example.com".parse().unwrap();
    /// assert_eq!(grant.misspelt(), Some(("GTE", "GET")));
    /// ```
    pub fn misspelt(&self) -> Option<(&str, &'static str)> {
        let methods = self.methods.iter().map(String::as_str);
        let mut strange =
            methods.filter(|method| !COMMON.contains(method) && !OTHERS.contains(method));
        strange.find_map(|method| {
            let slip = |one: &&str| {
                method.as_bytes()[0] == one.as_bytes()[0] && strsim::osa_distance(method, one) == 1
            };
            Some((method, COMMON.into_iter().find(slip)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_like_a_method_and_is_none_is_misspelt() {
        for (methods, meant) in [
            ("GTE", Some("GET")),
            ("GET,POTS", Some("POST")),
            ("DELET", Some("DELETE")),
            ("PACTH", Some("PATCH")),
            ("PURGE", None),
            ("UPDATE,LINK,PRI", None),
            ("NOTIFY,SUBSCRIBE,BAN,REFRESH,SET", None),
            ("BATCH,MATCH,DELEGATE,POSTPONE,HEADER,OPTIONAL", None),
            ("GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS", None),
        ] {
            let grant: HttpGrant = format!("{methods} https://a.example").parse().unwrap();
            assert_eq!(grant.misspelt().map(|(_, meant)| meant), meant, "{methods}");
        }
        let every: HttpGrant = "https://a.example".parse().unwrap();
        assert_eq!(every.misspelt(), None);
    }
}
