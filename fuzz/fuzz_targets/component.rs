//! Loading a component: whatever the bytes are, the host answers with a skill or a typed error, and
//! neither panics nor hangs. What does load is also run.

#![no_main]

mod seeds;

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::skill::Package;
use skillhost::{ExecutionRequest, Host, Limits};

/// Larger ones only make compiling slow, which is bounded elsewhere.
const MAX_BYTES: usize = 64 * 1024;

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let limits = Limits {
            fuel: 10_000_000,
            wall_time: Duration::from_millis(500),
            ..Limits::default()
        };
        let host = Host::builder()
            .concurrency(4)
            .default_limits(limits)
            .build();
        host.expect("the host can be set up")
    })
}

/// What inputs are made from.
const SEEDS: [&[u8]; 4] = [
    include_bytes!("../corpus/component/core.wasm"),
    include_bytes!("../corpus/component/empty.wasm"),
    include_bytes!("../corpus/component/nested-types.wasm"),
    include_bytes!("../corpus/component/skill.wasm"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > MAX_BYTES {
        return;
    }
    let package = Package::from_bytes(bytes);
    if host().surface(&package).is_err() {
        return;
    }
    if let Ok(skill) = host().load_package_blocking(package) {
        for tool in &skill.description().tools {
            let request = ExecutionRequest::new(skill.digest(), serde_json::json!({}));
            host()
                .execute_blocking(request.tool(&tool.name))
                .expect("the host is not broken by a guest");
        }
        host().unload(&skill.digest());
    }
});
