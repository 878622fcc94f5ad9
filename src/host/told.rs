//! What the host's own log says of an execution, at its finest.

use tracing::Level;

use crate::execution::ExecutionRequest;
use crate::grant::{Capability, Grants};
use crate::limits::{Limit, Limits};

/// Says what holds for a request that is admitted. Values of variables and of the configuration may be anything, and
/// stay out of it.
pub(super) fn of_admission(request: &ExecutionRequest, limits: &Limits, grants: &Grants) {
    // Written only where somebody reads it.
    if !tracing::enabled!(Level::TRACE) {
        return;
    }
    let request_id = request.request_id;
    let limits = all_limits(limits);
    tracing::trace!(%request_id, "limits that apply: {limits}");
    match all_grants(grants).as_slice() {
        [] => tracing::trace!(%request_id, "nothing is granted"),
        granted => tracing::trace!(%request_id, "granted: {}", granted.join(", ")),
    }
}

fn all_limits(limits: &Limits) -> String {
    let all = Limit::ASKED.into_iter().chain([Limit::Stack]);
    let all: Vec<String> = all.map(|limit| limit.asked(limits.get(limit))).collect();
    all.join(", ")
}

fn all_grants(grants: &Grants) -> Vec<String> {
    let Grants {
        directories,
        scratch,
        http,
        sockets,
        addresses,
        environment,
        config,
        secrets,
        storage,
        clock,
        random,
    } = grants;
    let mut all = Vec::new();
    let mut add = |capability: Capability, name: String| all.push(format!("{capability} `{name}`"));
    for grant in directories {
        add(Capability::Directory, grant.to_string());
    }
    for grant in http {
        add(Capability::Http, grant.to_string());
    }
    for grant in sockets {
        add(Capability::Socket, grant.to_string());
    }
    for grant in addresses {
        add(Capability::Address, grant.to_string());
    }
    for name in environment.keys() {
        add(Capability::Environment, name.clone());
    }
    for key in config.keys() {
        add(Capability::Config, key.clone());
    }
    for grant in secrets {
        add(Capability::Secret, grant.to_string());
    }
    if let Some(clock) = clock {
        add(Capability::Clock, clock.to_string());
    }
    if let Some(random) = random {
        add(Capability::Random, random.to_string());
    }
    for (capability, is_granted) in [
        (Capability::Scratch, *scratch),
        (Capability::Storage, *storage),
    ] {
        if is_granted {
            all.push(capability.to_string());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Mode;

    #[test]
    fn values_are_left_out() {
        let grants = Grants::default()
            .directory("/reports", "/data", Mode::Ro)
            .environment("TOKEN", "hunter2")
            .config("key", "hunter2")
            .scratch()
            .storage();
        let told = all_grants(&grants).join(", ");
        assert!(!told.contains("hunter2"), "{told}");
        for name in [
            "/data",
            "environment `TOKEN`",
            "config `key`",
            "scratch",
            "storage",
        ] {
            assert!(told.contains(name), "{told}");
        }
    }

    #[test]
    fn every_limit_is_told() {
        let told = all_limits(&Limits::default());
        for limit in Limit::ASKED {
            assert!(told.contains(limit.as_str()), "{limit}: {told}");
        }
        assert!(told.contains("stack_bytes"), "{told}");
    }
}
