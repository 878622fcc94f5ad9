//! The tenant that was named, and the tenants that the policy knows.

use skillhost::Policy;
use skillhost::text::{closest, printable};

use super::console::Console;

/// Warns of a tenant that the policy says nothing of, where it speaks of one that is spelt almost so: what
/// is meant for that one does not hold for another.
pub fn warn_of_misspelt(tenant: &str, policy: Option<&Policy>, console: Console) {
    if let Some(meant) = policy.and_then(|policy| meant(tenant, policy)) {
        console.warn(format_args!(
            "the policy says nothing of the tenant `{}`; did you mean `{}`?",
            printable(tenant, false),
            printable(meant, false)
        ));
    }
}

fn meant<'p>(tenant: &str, policy: &'p Policy) -> Option<&'p str> {
    match policy.tenants.contains_key(tenant) {
        true => None,
        false => closest(tenant, policy.tenants.keys().map(String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_tenant_is_meant() {
        let policy: Policy =
            "[tenants.acme]\nceilings.fuel = 1\n[tenants.guest]\nceilings.fuel = 1\n"
                .parse()
                .unwrap();
        assert_eq!(meant("acmee", &policy), Some("acme"));
        assert_eq!(meant("geust", &policy), Some("guest"));
        assert_eq!(meant("acme", &policy), None);
        assert_eq!(meant("somebody", &policy), None);
        assert_eq!(meant("acmee", &Policy::default()), None);
    }
}
