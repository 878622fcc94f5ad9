//! From a name to its addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, Resolver};

use super::EgressError;
use super::reading::Reading;

/// How many name servers are asked at once.
const SERVERS_AT_ONCE: usize = 2;
/// How often hickory-net asks one over UDP, side by side where no answer comes (`UdpClientStreamBuilder`).
const TRIES: u64 = 3;
/// The most sockets that a look-up has open at once: it asks each of these for addresses of either version of IP.
pub(super) const LOOK_UP_FILES: u64 = 2 * SERVERS_AT_ONCE as u64 * TRIES;

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

/// For how long the system's files are taken to say what they said.
const KEPT: Duration = Duration::from_secs(5);

/// Looks names up.
pub(super) struct Names {
    servers: NameServers,
    system: System,
}

impl Names {
    pub fn new(servers: NameServers) -> Self {
        Names {
            servers,
            system: System::default(),
        }
    }

    /// The addresses of a name. No answer is remembered: each request asks anew, and what one skill
    /// asked for cannot be told from how soon another gets its answer.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, EgressError> {
        let Files {
            config,
            options,
            hosts,
        } = match &self.servers {
            NameServers::System => {
                let files = self.system.files(Instant::now, Files::read).await;
                files.map_err(|error| broken(name, &error))?
            }
            NameServers::Servers(servers) => Files::none_but(servers),
        };
        let provider = TokioRuntimeProvider::default();
        let mut builder = Resolver::builder_with_config(config, provider).with_options(options);
        let options = builder.options_mut();
        options.cache_size = 0;
        options.num_concurrent_reqs = SERVERS_AT_ONCE;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // It would be read for each name. What stands in it is put in place below.
        options.use_hosts_file = ResolveHosts::Never;
        let mut resolver = builder.build().map_err(|error| broken(name, &error))?;
        resolver.set_hosts(hosts);
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

/// The system's files, and when they were read. Whoever comes meanwhile waits for that.
struct System(Reading<(Instant, Result<Files, NetError>)>);

impl Default for System {
    fn default() -> Self {
        System(Reading::new("skillhost-names"))
    }
}

impl System {
    /// What they say, read anew where that was a while ago. What cannot be read is not kept.
    async fn files(
        &self,
        now: impl Fn() -> Instant + Send + 'static,
        read: impl FnOnce() -> Result<Files, NetError> + Send + 'static,
    ) -> Result<Files, NetError> {
        let asked = now();
        let holds = move |(at, files): &(Instant, Result<_, _>)| {
            files.is_ok() && asked.saturating_duration_since(*at) < KEPT
        };
        let read = move || {
            let files = read();
            (now(), files)
        };
        self.0.get(holds, read).await?.1
    }
}

/// Who is asked, how, and which names need no asking.
#[derive(Clone, Default)]
struct Files {
    config: ResolverConfig,
    options: ResolverOpts,
    hosts: Arc<Hosts>,
}

impl Files {
    /// Reads those of the system. Blocks.
    fn read() -> Result<Self, NetError> {
        let (config, options) = read_system_conf()?;
        let hosts = match Hosts::from_system() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Hosts::default(),
            read => read?,
        };
        Ok(Files {
            config,
            options,
            hosts: Arc::new(hosts),
        })
    }

    /// As if they named these servers, and nothing else.
    fn none_but(servers: &[SocketAddr]) -> Self {
        let servers = servers.iter().copied().map(server).collect();
        Files {
            config: ResolverConfig::from_parts(None, Vec::new(), servers),
            ..Files::default()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_resolver::lookup::Lookup;
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::{RData, Record};

    use super::*;
    use crate::egress::reading::tests::Stalled;

    #[tokio::test]
    async fn the_systems_files_are_read_once_in_a_while() {
        let system = System::default();
        let times = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let ask = async |after: Duration, well: bool| {
            let times = Arc::clone(&times);
            let read = move || {
                times.fetch_add(1, Ordering::Relaxed);
                match well {
                    true => Ok(Files::default()),
                    false => Err(NetError::from(std::io::Error::other("it is away"))),
                }
            };
            system.files(move || began + after, read).await.is_ok()
        };
        let times = || times.load(Ordering::Relaxed);
        let moment = Duration::from_millis(1);
        // What cannot be read is tried again.
        assert!(!ask(Duration::ZERO, false).await);
        assert!(ask(Duration::ZERO, true).await);
        assert_eq!(times(), 2);
        assert!(ask(KEPT - moment, false).await, "what was read holds");
        assert_eq!(times(), 2);
        assert!(ask(KEPT, true).await);
        assert!(ask(KEPT + moment, true).await);
        assert_eq!(times(), 3);
    }

    /// As on a network drive that is gone.
    #[test]
    fn the_systems_files_may_not_answer() {
        let system = System::default();
        let read = Stalled::new().check_held_up(async |file| {
            let read = file.reader();
            let read = move || {
                read();
                Ok(Files::default())
            };
            system.files(Instant::now, read).await
        });
        read.unwrap();
    }

    /// Where they give a name its addresses, nobody is asked.
    #[tokio::test]
    async fn a_name_may_stand_in_the_file_of_hosts() {
        let mut hosts = Hosts::default();
        let name = Name::from_ascii("a.test.").unwrap();
        let addresses: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        for address in addresses {
            let record = Record::from_rdata(name.clone(), 60, RData::from(address));
            let kind = record.record_type();
            let query = Query::query(name.clone(), kind);
            hosts.insert(
                name.clone(),
                kind,
                Lookup::new_with_max_ttl(query, [record]),
            );
        }
        let files = Files {
            hosts: Arc::new(hosts),
            ..Files::default()
        };
        let names = Names::new(NameServers::System);
        let read = names.system.files(Instant::now, move || Ok(files)).await;
        read.unwrap();
        let mut found = names.resolve("a.test").await.unwrap();
        found.sort();
        assert_eq!(found, addresses);
    }
}
