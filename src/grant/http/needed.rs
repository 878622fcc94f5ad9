//! The grant that a request, or a declaration, needs.

use super::super::HttpTarget;
use super::super::hint::NO_HOST;
use super::{Hosts, HttpGrant, Port};

/// The folders above a path of which it is asked whether they can be granted. Each answer takes as long as
/// the path is.
const MAX_FOLDERS: usize = 8;

impl HttpGrant {
    /// The narrowest grant that allows a request, as far as one can be written: a grant has no query,
    /// and a path that another decoding would change, or that has a `*`, is none to compare with. For such a
    /// one it is the nearest folder above it that can be granted.
    pub fn of(target: &HttpTarget) -> Self {
        Self::narrowest(target, usize::MAX)
    }

    /// The narrowest that allows a request, whose text has at most so many bytes or is for all paths.
    pub(in crate::grant) fn narrowest(target: &HttpTarget, most: usize) -> Self {
        let mut grant = HttpGrant {
            methods: vec![target.method().to_owned()],
            scheme: Some(target.scheme()),
            host: Hosts::One(target.host().clone()),
            port: if target.port() == target.scheme().default_port() {
                Port::Default
            } else {
                Port::One(target.port())
            },
            path: "/".into(),
        };
        let most = (most - grant.to_string().len().min(most)).saturating_add(1);
        let path = target.path();
        let end = path.find('*').unwrap_or(path.len()).min(most);
        let mut path = match end < path.len() {
            true => folder(&path.as_bytes()[..end], path),
            false => path,
        };
        for _ in 0..MAX_FOLDERS {
            grant.path = path.into();
            if grant.allows(target) {
                return grant;
            }
            path = folder(path.trim_end_matches('/').as_bytes(), path);
        }
        grant.for_all_paths()
    }

    /// The grant of what is declared so. Hosts are named in it.
    pub(in crate::grant) fn to_be_granted(&self) -> String {
        let text = self.to_string();
        match self.is_for_all_hosts() {
            true => text.replacen("://*", &format!("://{NO_HOST}"), 1),
            false => text,
        }
    }
}

/// The folder of a path that begins with these bytes, with a `/` at its end.
fn folder<'p>(beginning: &[u8], path: &'p str) -> &'p str {
    let slash = beginning.iter().rposition(|byte| *byte == b'/');
    // Behind a `/` a character begins.
    path.get(..=slash.unwrap_or(0)).unwrap_or("/")
}
