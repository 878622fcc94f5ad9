//! The HTTP matcher: two grants, a method and a URL, a line each. What is allowed follows from the
//! parts, and what was normalised stays as it is.

#![no_main]

mod seeds;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::grant::{HttpGrant, HttpTarget};

/// What inputs are made from.
const SEEDS: [&[u8]; 4] = [
    include_bytes!("../corpus/http/below.txt"),
    include_bytes!("../corpus/http/decoded.txt"),
    include_bytes!("../corpus/http/names.txt"),
    include_bytes!("../corpus/http/odd.txt"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut grant = || lines.next().and_then(|line| line.parse::<HttpGrant>().ok());
    let (first, second) = (grant(), grant());
    for grant in [&first, &second].into_iter().flatten() {
        let again: HttpGrant = grant.to_string().parse().expect("its own text is a grant");
        assert_eq!(&again, grant);
        assert_eq!(grant.intersection(grant).as_ref(), Some(grant));
    }
    let method = lines.next().unwrap_or("GET");
    let Some(Ok(target)) = lines.next().map(|url| HttpTarget::new(method, url)) else {
        return;
    };
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
