//! A hostile guest for each capability: with nothing granted it sees nothing, with something
//! granted exactly that, and what it does not declare it does not get.

mod address;
mod consent;
mod directory;
mod http;
pub(super) mod network;
mod races;
mod reproducible;
pub(super) mod secret;
pub(super) mod storage;
mod values;

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble, ended};
use super::handmade::Handmade;
use crate::execution::{BoxFuture, Cause, ExecutionRequest, ExecutionResult};
use crate::grant::{Capability, Denial, Grants};
use crate::host::Skill;
use crate::skill::Package;

/// One entry or more for each capability; a test sees to that.
pub(super) const PROBES: &[Probe] = &[
    grant("directory", "with nothing granted", |ground| {
        Box::pin(directory::nothing_granted(ground))
    }),
    grant("directory", "a handle it was not given", |ground| {
        Box::pin(directory::forged_handle(ground))
    }),
    grant("directory", "writing, `ro` granted", |ground| {
        Box::pin(directory::read_only(ground))
    }),
    grant("directory", "writing, `ro` declared", |ground| {
        Box::pin(directory::declared_read_only(ground))
    }),
    grant("directory", "`..` and absolute paths", |ground| {
        Box::pin(directory::paths(ground))
    }),
    grant("directory", "symlinks that lead out", |ground| {
        Box::pin(directory::symlinks(ground))
    }),
    grant("directory", "moving a file out", |ground| {
        Box::pin(directory::renames(ground))
    }),
    grant("directory", "hard links that lead out", |ground| {
        Box::pin(directory::hard_links(ground))
    }),
    grant("directory", "moving a link to lead out", |ground| {
        Box::pin(directory::carried_links(ground))
    }),
    grant("directory", "links swapped meanwhile", |ground| {
        Box::pin(races::swapped_links(ground))
    }),
    grant("directory", "opening a FIFO or a socket", |ground| {
        Box::pin(directory::special_files(ground))
    }),
    grant("directory", "opening a device", |ground| {
        Box::pin(directory::devices(ground))
    }),
    grant("directory", "what the kernel makes up", |ground| {
        Box::pin(directory::of_the_kernel(ground))
    }),
    grant("directory", "the host's own folder", |ground| {
        Box::pin(directory::own_folders(ground))
    }),
    grant("directory", "granted and not declared", |ground| {
        Box::pin(directory::undeclared(ground))
    }),
    grant("environment", "reading all variables", |ground| {
        Box::pin(values::environment(ground))
    }),
    grant("environment", "granted and not declared", |ground| {
        Box::pin(values::undeclared_environment(ground))
    }),
    grant("config", "reading all keys", |ground| {
        Box::pin(values::config(ground))
    }),
    grant("config", "granted and not declared", |ground| {
        Box::pin(values::undeclared_config(ground))
    }),
    grant("consent", "another skill's name", |ground| {
        Box::pin(consent::stolen_name(ground))
    }),
    grant("consent", "what it declares changed", |ground| {
        Box::pin(consent::changed_declaration(ground))
    }),
    grant("socket", "connecting to this machine", |ground| {
        Box::pin(network::tcp(ground))
    }),
    grant("socket", "a socket for datagrams", |ground| {
        Box::pin(network::udp(ground))
    }),
    grant("socket", "looking a name up", |ground| {
        Box::pin(network::lookup(ground))
    }),
    grant("socket", "connecting to another port", |ground| {
        Box::pin(network::another_port(ground))
    }),
    grant("socket", "granted and not declared", |ground| {
        Box::pin(network::undeclared(ground))
    }),
    grant("http", "with nothing granted", |ground| {
        Box::pin(http::nothing_granted(ground))
    }),
    grant("http", "a request for another path", |ground| {
        Box::pin(http::another_path(ground))
    }),
    grant("http", "a request by another method", |ground| {
        Box::pin(http::another_method(ground))
    }),
    grant("http", "a request to another host", |ground| {
        Box::pin(http::another_host(ground))
    }),
    grant("http", "a request by another scheme", |ground| {
        Box::pin(http::another_scheme(ground))
    }),
    grant("http", "a redirect to another port", |ground| {
        Box::pin(http::redirect(ground))
    }),
    grant("http", "granted and not declared", |ground| {
        Box::pin(http::undeclared(ground))
    }),
    grant("address", "a name for this machine", |ground| {
        Box::pin(http::loopback(ground))
    }),
    grant("address", "a name for a private address", |ground| {
        Box::pin(address::private(ground))
    }),
    grant("address", "a name for a metadata server", |ground| {
        Box::pin(address::metadata(ground))
    }),
    grant("address", "IPv4 addresses within IPv6", |ground| {
        Box::pin(address::within(ground))
    }),
    grant("secret", "a host it is not bound to", |ground| {
        Box::pin(secret::another_host(ground))
    }),
    grant("secret", "answering with its value", |ground| {
        Box::pin(secret::printed(ground))
    }),
    grant("secret", "granted and not declared", |ground| {
        Box::pin(secret::undeclared(ground))
    }),
    grant("storage", "with nothing granted", |ground| {
        Box::pin(storage::nothing_granted(ground))
    }),
    grant("storage", "what another one keeps", |ground| {
        Box::pin(storage::another(ground))
    }),
    grant("storage", "granted and not declared", |ground| {
        Box::pin(storage::undeclared(ground))
    }),
    grant("scratch", "what another run left", |ground| {
        Box::pin(reproducible::scratch(ground))
    }),
    grant("scratch", "what is left on the disk", |ground| {
        Box::pin(directory::scratch_is_gone(ground))
    }),
    grant("scratch", "granted and not declared", |ground| {
        Box::pin(reproducible::undeclared_scratch(ground))
    }),
    grant("clock", "time off a still clock", |ground| {
        Box::pin(reproducible::clock(ground))
    }),
    grant("random", "drawing with one seed", |ground| {
        Box::pin(reproducible::random(ground))
    }),
];

const fn grant(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Grant,
        name,
        tried,
        probe,
    }
}

/// Loads a guest with a `skill.toml`.
async fn with_manifest(
    ground: &Ground,
    guest: &Handmade,
    manifest: &str,
) -> Result<Skill, Trouble> {
    let component = guest.component().map_err(Trouble::Text)?;
    let package = Package::from_parts(component, Some(manifest.into()), None)
        .map_err(|error| Trouble::Load(error.into()))?;
    Ok(ground.host.load_package(package).await?)
}

/// What a skill does not declare in its `skill.toml` it does not get, whoever grants it.
async fn undeclared(
    ground: &Ground,
    capability: Capability,
    grants: Grants,
) -> Result<Finding, Trouble> {
    let skill = with_manifest(ground, &Handmade::default(), "").await?;
    let request = || ExecutionRequest::new(skill.digest(), serde_json::json!({}));
    let within = ground.request(request()).await?.result;
    if within.failure.is_some() {
        let how = ended(&within);
        return Ok(Finding::unknown(format!("with nothing granted: {how}")));
    }
    let past = ground.request(request().grants(grants)).await?.result;
    Ok(judge_undeclared(capability, &past))
}

fn judge_undeclared(capability: Capability, past: &ExecutionResult) -> Finding {
    let rejected = past.failure.as_ref().is_some_and(|failure| {
        let named = |denial: &Denial| denial.capability == capability;
        matches!(failure.cause, Cause::Rejected { .. }) && failure.denials.iter().any(named)
    });
    if rejected && past.usage.fuel == 0 {
        return Finding::holds("rejected");
    }
    Finding::broken(format!("it was not rejected: {}", ended(past)))
}
