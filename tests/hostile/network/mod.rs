//! Hostile servers, and guests that are hostile by way of the network. The servers are real, and every
//! byte of theirs is the test's; names are answered by a server of the test's as well.
//!
//! They run on a runtime of their own, in the process that is measured: each attack waits until its
//! servers have no connection left before anything is counted.

#[path = "../../integration/network/servers.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, and each uses its part"
)]
mod servers;
#[path = "../../integration/network/tls.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, and each uses its part"
)]
mod tls;

mod answers;
mod names;
mod redirects;
mod requests;
mod secure;
mod sockets;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use skillhost::grant::{Denial, Grants};
use skillhost::{Event, ExecutionResult, Host, NameServers, Observer};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::attack::{Attack, End, builder};
use crate::harness::{PAGE, network_path, output};
pub use servers::{Answer, Carried, Connection, Counted, Names, Server};

const KIB: u64 = 1024;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What servers run on.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be set up")
    })
}

/// A server that does this with each connection.
pub fn server<F, W>(handler: F) -> Arc<Server>
where
    F: Fn(Connection) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    Arc::new(runtime().block_on(Server::with(handler)))
}

/// A server that answers each request with these bytes.
pub fn answering(bytes: impl Into<Vec<u8>>) -> Arc<Server> {
    Arc::new(runtime().block_on(Server::answering(bytes)))
}

/// A server that hears whatever it is sent, and says nothing.
pub fn silent() -> Arc<Server> {
    server(|mut connection| async move { connection.gone().await })
}

/// A server of names.
pub fn names(answer: impl Fn(&str, usize) -> Answer + Send + 'static) -> Names {
    runtime().block_on(Names::with(answer))
}

/// A host with one slot, that asks this server for names.
pub fn host_with(names: &Names) -> Host {
    builder()
        .name_servers(NameServers::Servers(vec![names.address]))
        .build()
        .expect("a host can be set up")
}

pub fn network() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(network_path)
}

/// Grants of these requests.
pub fn http(texts: &[&str]) -> Grants {
    let add = |grants: Grants, text: &&str| grants.http(text.parse().expect("it is a grant"));
    texts.iter().fold(Grants::default(), add)
}

/// Adds addresses to which granted names may lead.
fn to(grants: Grants, addresses: &[&str]) -> Grants {
    let add = |grants: Grants, text: &&str| grants.address(text.parse().expect("it is a grant"));
    addresses.iter().fold(grants, add)
}

/// An attack by way of this server, which is granted as a whole.
pub fn by_way_of(server: &Arc<Server>, tool: &'static str, input: Value) -> Attack {
    Attack::from(network(), tool, input)
        .granted(http(&[&server.grant()]))
        .settled_by(quiet(&[server]))
}

/// Waits until none of these servers has a connection any more.
pub fn quiet(servers: &[&Arc<Server>]) -> impl Fn() + Send + Sync + 'static {
    let servers: Vec<Arc<Server>> = servers.iter().map(|server| Arc::clone(server)).collect();
    move || {
        for server in &servers {
            runtime().block_on(server.quiet());
        }
    }
}

/// An attack on this server alone, of which this is checked after each execution: what the server has counted
/// meanwhile, whatever the host says of it.
pub fn counted_by(
    server: &Arc<Server>,
    attack: Attack,
    check: impl Fn(Carried) + Send + Sync + 'static,
) -> Attack {
    let server = Arc::clone(server);
    attack.settled_by(move || check(runtime().block_on(server.carried())))
}

/// The same, where the server is to have heard so many bytes in each execution.
pub fn heard_by(server: &Arc<Server>, attack: Attack, bytes: RangeInclusive<u64>) -> Attack {
    counted_by(server, attack, move |carried| {
        assert!(bytes.contains(&carried.heard), "{carried:?}, not {bytes:?}");
    })
}

/// The same, where so many bytes are to have been taken from it, or a page more, as some are under way. It waits for
/// the end of each piece ([`Connection::hand`]).
pub fn taken_from(server: &Arc<Server>, attack: Attack, bytes: RangeInclusive<u64>) -> Attack {
    let most = bytes.end() + PAGE;
    counted_by(server, attack, move |carried| {
        let said = carried.said;
        assert!(*bytes.start() <= said && said <= most, "{carried:?}");
    })
}

/// Checks that nobody ever connected to this server.
pub fn check_untouched(server: &Server) {
    runtime().block_on(server.check_untouched());
}

/// Hears what was refused in the last execution.
#[derive(Default)]
pub struct Refused(Mutex<Vec<Denial>>);

impl Observer for Refused {
    fn observe(&self, _: Uuid, event: &Event<'_>) {
        let mut denials = self.0.lock().expect("nobody panics here");
        match event {
            Event::Admitted { .. } => denials.clear(),
            Event::Denied { denial } => denials.push((*denial).clone()),
            _ => {}
        }
    }
}

/// Runs an attack of which things are refused without its end.
#[track_caller]
fn refused_of(attack: Attack, end: End<'_>) -> (ExecutionResult, Vec<Denial>) {
    let refused = Arc::new(Refused::default());
    let observer = Arc::clone(&refused) as Arc<dyn Observer>;
    let result = attack.watched_by(observer).ends_with(end);
    let denials = refused.0.lock().expect("nobody panics here").clone();
    (result, denials)
}

/// Runs an attack that is told of an error, and goes on.
#[track_caller]
fn check_error(attack: Attack, error: &str) -> ExecutionResult {
    let result = attack.ends_with(End::Success);
    assert_eq!(output(&result)["error"], error, "{:?}", output(&result));
    result
}
