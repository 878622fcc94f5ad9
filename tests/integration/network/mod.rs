//! The network: real servers on this machine, names answered by the test, and a guest that asks for
//! whatever it is told. What hostile servers and guests try is in `tests/hostile/network`.

#[allow(
    dead_code,
    reason = "shared with the hostile suite, and each uses its part"
)]
mod servers;
mod tls;

mod addresses;
mod circuit;
mod fetching;
mod pieces;
mod secrets;
mod secure;
mod sockets;

use std::sync::{Arc, Mutex};

use serde_json::Value;
use skillhost::grant::{Denial, Grants};
use skillhost::{
    Control, Event, ExecutionRequest, ExecutionResult, Host, LimitOverrides, NameServers, Observer,
};
use uuid::Uuid;

use crate::harness::{builder, check_result, network_path};
use servers::Names;

/// Hears what was refused.
#[derive(Default)]
struct Refused(Mutex<Vec<Denial>>);

impl Observer for Refused {
    fn observe(&self, _: Uuid, event: &Event<'_>) {
        if let Event::Denied { denial } = event {
            let mut denials = self.0.lock().expect("nobody panics here");
            denials.push((*denial).clone());
        }
    }
}

/// What came of an execution, and what was refused on the way.
struct Ended {
    result: ExecutionResult,
    denials: Vec<Denial>,
}

impl Ended {
    /// The output, of a success.
    #[track_caller]
    fn output(&self) -> &Value {
        crate::harness::output(&self.result)
    }

    /// The one thing that was refused.
    #[track_caller]
    fn denial(&self) -> &Denial {
        match self.denials.as_slice() {
            [denial] => denial,
            denials => panic!("not one denial: {denials:?}\n{:?}", self.result),
        }
    }
}

/// Grants of these requests.
fn http(texts: &[&str]) -> Grants {
    let add = |grants: Grants, text: &&str| grants.http(text.parse().expect("it is a grant"));
    texts.iter().fold(Grants::default(), add)
}

/// Adds addresses to which granted names may lead.
fn to(grants: Grants, addresses: &[&str]) -> Grants {
    let add = |grants: Grants, text: &&str| grants.address(text.parse().expect("it is a grant"));
    addresses.iter().fold(grants, add)
}

/// A host that asks these servers for names.
fn host_with(names: &Names) -> Host {
    builder()
        .name_servers(NameServers::Servers(vec![names.address]))
        .build()
        .expect("a host can be set up")
}

/// Runs a tool of the guest.
async fn run(
    host: &Host,
    tool: &str,
    grants: Grants,
    input: Value,
    limits: LimitOverrides,
) -> Ended {
    let skill = host.load(network_path()).await.expect("it loads");
    let refused = Arc::new(Refused::default());
    let request = ExecutionRequest::new(skill.digest(), input)
        .tool(tool)
        .grants(grants)
        .limits(limits);
    let control = Control::default().observer(Arc::clone(&refused) as Arc<dyn Observer>);
    let ended = host.execute_with(request, control).await;
    let result = ended.expect("the host is well");
    check_result(&result);
    let denials = refused.0.lock().expect("nobody panics here").clone();
    Ended { result, denials }
}

/// Sends one request.
async fn fetch(host: &Host, grants: Grants, input: Value) -> Ended {
    run(host, "request", grants, input, LimitOverrides::default()).await
}

/// Checks that whatever ran before left the host as it was, for this guest, too.
async fn check_undisturbed(host: &Host) {
    let server = servers::Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let grants = http(&[&server.grant()]);
    let ended = fetch(host, grants, server.request("/")).await;
    assert_eq!(ended.output()["body"], "ok");
    crate::harness::check_undisturbed(host).await;
}
