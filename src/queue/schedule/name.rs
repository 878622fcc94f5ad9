//! Names of schedules: each tenant's are its own, and all are kept together.

use sha2::{Digest as _, Sha256};

/// The longest name that leaves room for the tenant's part.
pub const MAX_OWN_NAME: usize = 45;

/// What stands before the name of a tenant's schedule.
const TENANT: &str = "t-";

/// The name that a tenant's schedule of this name is kept under, so that those of different tenants never
/// meet; without a tenant, the name as it is.
///
/// ```
/// use skillhost::queue::schedule::{full_name, own_name};
///
/// let name = full_name(Some("acme"), "morning");
/// assert_ne!(name, full_name(Some("other"), "morning"));
/// assert_eq!(own_name(&name), "morning");
/// assert_eq!(full_name(None, "morning"), "morning");
/// ```
pub fn full_name(tenant: Option<&str>, own: &str) -> String {
    let Some(tenant) = tenant else {
        return own.to_owned();
    };
    let mut hash = Sha256::new();
    hash.update((tenant.len() as u64).to_le_bytes());
    hash.update(tenant);
    format!("{TENANT}{}.{own}", hex::encode(&hash.finalize()[..8]))
}

/// Of a name that a schedule is kept under, what its owner calls it.
pub fn own_name(full: &str) -> &str {
    match full.split_once('.') {
        Some((tenant, own)) if is_tenant(tenant) => own,
        _ => full,
    }
}

fn is_tenant(part: &str) -> bool {
    part.strip_prefix(TENANT).is_some_and(|hash| {
        hash.len() == 16
            && hash
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tenants_never_meet() {
        let (a, b) = (full_name(Some("a"), "x.y"), full_name(Some("b"), "x.y"));
        assert_ne!(a, b);
        assert_eq!(own_name(&a), "x.y");
        assert_eq!(own_name("x.y"), "x.y");
        assert_eq!(own_name("t-x.y"), "t-x.y");
        let longest = full_name(Some("a"), &"x".repeat(MAX_OWN_NAME));
        assert_eq!(longest.len(), 64);
    }
}
