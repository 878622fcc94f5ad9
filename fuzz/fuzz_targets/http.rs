//! The HTTP matcher: two grants, a method and a URL, a line each. What is allowed follows from the
//! parts, and what was normalised stays as it is. Where all of it is plain, it is worked out a second time, from the
//! texts alone.

#![no_main]

mod seeds;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::grant::{HttpGrant, HttpTarget};

/// What inputs are made from.
const SEEDS: [&[u8]; 6] = [
    include_bytes!("../corpus/http/below.txt"),
    include_bytes!("../corpus/http/decoded.txt"),
    include_bytes!("../corpus/http/names.txt"),
    include_bytes!("../corpus/http/odd.txt"),
    include_bytes!("../corpus/http/plain.txt"),
    include_bytes!("../corpus/http/ports.txt"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

/// The parts of a URL, or of a grant without its methods, in which there is nothing to be read in several ways: words
/// of small letters, with dots and slashes between them.
struct Plain<'t> {
    scheme: &'t str,
    /// Of a grant, it may begin with `*.`.
    host: &'t str,
    port: Option<u16>,
    path: Vec<&'t str>,
}

fn plain(text: &str) -> Option<Plain<'_>> {
    let is_word =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let (scheme, rest) = text.split_once("://")?;
    if !["http", "https", "*"].contains(&scheme) {
        return None;
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, Some(port.parse().ok()?))
        }
        Some(_) => return None,
        None => (authority, None),
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    let path: Vec<&str> = path.split('/').filter(|_| !path.is_empty()).collect();
    let is_plain = name.split('.').all(is_word) && path.iter().all(|segment| is_word(segment));
    (is_plain && name.len() < 200 && name.split('.').all(|label| label.len() < 60)).then_some(
        Plain {
            scheme,
            host,
            port,
            path,
        },
    )
}

/// Whether a grant allows a request, where both are plain.
fn is_allowed(grant: &str, method: &str, url: &str) -> Option<bool> {
    let (methods, grant) = match grant.split_once(' ') {
        Some((methods, grant)) => (Some(methods), plain(grant)?),
        None => (None, plain(grant)?),
    };
    let url = plain(url)?;
    let own = match url.scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let is_plain =
        |method: &str| !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if url.host.starts_with('*')
        || !is_plain(method)
        || !methods.is_none_or(|list| list.split(',').all(is_plain))
    {
        return None;
    }
    let host = match grant.host.strip_prefix('*') {
        Some(below) => url.host.ends_with(below),
        None => url.host == grant.host,
    };
    Some(
        methods.map_or(!["CONNECT", "TRACE"].contains(&method), |list| {
            list.split(',').any(|one| one == method)
        }) && (grant.scheme == "*" || grant.scheme == url.scheme)
            && host
            && grant.port.unwrap_or(own) == url.port.unwrap_or(own)
            && url.path.starts_with(&grant.path),
    )
}

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let texts = [(); 2].map(|()| lines.next().unwrap_or_default());
    let [first, second] = texts.map(|text| text.parse::<HttpGrant>().ok());
    for grant in [&first, &second].into_iter().flatten() {
        let again: HttpGrant = grant.to_string().parse().expect("its own text is a grant");
        assert_eq!(&again, grant);
        assert_eq!(grant.intersection(grant).as_ref(), Some(grant));
    }
    let method = lines.next().unwrap_or("GET");
    let url = lines.next().unwrap_or_default();
    let Ok(target) = HttpTarget::new(method, url) else {
        return;
    };
    for (text, grant) in texts.iter().zip([&first, &second]) {
        if let (Some(grant), Some(allowed)) = (grant, is_allowed(text, method, url)) {
            assert_eq!(grant.allows(&target), allowed, "{text}");
        }
    }
    let again = HttpTarget::new(method, &target.to_string()).expect("its own text is a target");
    assert_eq!(again, target);
    assert!(!target.path().contains("/../"));
    let narrowest = HttpGrant::of(&target);
    assert!(narrowest.allows(&target));
    let again: HttpGrant = narrowest.to_string().parse().expect("its text is a grant");
    assert!(again.allows(&target));
    assert!(narrowest.for_all_paths().allows(&target));
    if let (Some(first), Some(second)) = (first, second) {
        let both = first.intersection(&second);
        assert_eq!(both, second.intersection(&first));
        assert_eq!(
            both.is_some_and(|both| both.allows(&target)),
            first.allows(&target) && second.allows(&target)
        );
    }
});
