//! From a name to its addresses.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;

use super::EgressError;

/// The most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 64;

/// Who is asked for the addresses of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameServers {
    /// Whom the system asks, after its file of hosts. The system's search domains are left out: a
    /// name is what it says. The default.
    #[default]
    System,
    /// These servers, and no file.
    Servers(Vec<SocketAddr>),
}

impl NameServers {
    /// The addresses of a name. Nothing is remembered: each request asks anew, and what one skill
    /// asked for cannot be told from how soon another gets its answer.
    pub(super) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, EgressError> {
        let mut builder = match self {
            NameServers::System => Resolver::builder(TokioRuntimeProvider::default()),
            NameServers::Servers(servers) => {
                let config = ResolverConfig::from_parts(
                    None,
                    Vec::new(),
                    servers.iter().copied().map(server).collect(),
                );
                Ok(Resolver::builder_with_config(
                    config,
                    TokioRuntimeProvider::default(),
                ))
            }
        }
        .map_err(|error| broken(name, &error))?;
        let options = builder.options_mut();
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        if let NameServers::Servers(_) = self {
            options.use_hosts_file = ResolveHosts::Never;
        }
        let resolver = builder.build().map_err(|error| broken(name, &error))?;
        // With a dot at its end no search domain is tried.
        let mut full = Name::from_ascii(name).map_err(|_| EgressError::NoSuchHost)?;
        full.set_fqdn(true);
        match resolver.lookup_ip(full).await {
            Ok(found) => Ok(found.iter().take(MAX_ADDRESSES).collect()),
            Err(error) if error.is_no_records_found() => Err(EgressError::NoSuchHost),
            Err(error) => Err(broken(name, &error)),
        }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .collect();
    NameServerConfig::new(address.ip(), true, connections)
}

fn broken(name: &str, error: &dyn std::fmt::Display) -> EgressError {
    tracing::debug!(name, %error, "a name could not be looked up");
    EgressError::Names
}
