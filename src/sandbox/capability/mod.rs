//! What a guest can import, one file for each: its state, its implementation, and its line in
//! [`link`] and [`Capabilities::grant`].

mod chatter;
mod clock;
mod config;
mod deadline;
mod directory;
mod environment;
mod few;
mod http;
mod network;
mod refusals;
mod reproducible;
mod sockets;
mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use wasmtime::component::{HasData, Linker};

use super::classify::Stop;
use super::contract::bindings::skillhost::skill as contract;
use super::disk::Disk;
use super::state::State;
use super::wasi::Wasi;
use crate::egress::Egress;
use crate::execution::HostError;
use crate::grant::{Asker, Clock, Denial, Grants, Random};
use crate::limits::Limits;
use crate::secret::{Held, Unread, Wanted};
use crate::storage::Storage;
use crate::turns::Party;

pub(super) use chatter::{Chatter, Listeners};
pub(crate) use directory::{Apart, Around, ScratchRoot};
pub(super) use directory::{Directories, Removal};
pub use directory::{carry_below, open_below};
pub(super) use few::TooMany;
pub(super) use network::Network;
pub(super) use refusals::{LateRefusals, Refusals};
pub(super) use reproducible::repeated_id;
pub(super) use storage::Keeping;
pub use storage::{Bucket, Cas};

/// Makes everything importable. Being importable is not being granted: each capability answers
/// from what [`Capabilities::grant`] put into the store.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    clock::link(linker)?;
    directory::link(linker)?;
    environment::link(linker)?;
    sockets::link(linker)?;
    http::link(linker)?;
    storage::link(linker)?;
    super::contract::bindings::wasi::config::store::add_to_linker::<State, Own>(
        linker,
        State::called,
    )?;
    contract::logging::add_to_linker::<State, Own>(linker, State::called)?;
    contract::progress::add_to_linker::<State, Own>(linker, State::called)?;
    contract::tokens::add_to_linker::<State, Own>(linker, State::called)?;
    contract::deadline::add_to_linker::<State, Own>(linker, State::called)
}

/// Our own interfaces, and our own implementations of others, are on the store's state.
struct Own;

impl HasData for Own {
    type Data<'a> = &'a mut State;
}

/// Whether what is granted is there to be given, as far as can be seen without giving it.
///
/// Blocks.
pub(crate) fn openable(grants: &Grants, around: &Around, backing: &Backing) -> Result<(), Denial> {
    let mut directories = grants.directories.iter();
    directories.try_for_each(|grant| directory::openable(grant, around, backing))
}

/// What the capabilities of all executions rest on.
#[derive(Clone)]
pub(crate) struct Backing {
    /// Threads to block on.
    pub disk: Arc<Disk>,
    /// The host's own folders and files, which no grant reaches.
    pub apart: Arc<Apart>,
    /// Whether the operator reads the failures.
    pub for_operator: bool,
    /// Where scratch directories are made.
    pub scratch: Arc<ScratchRoot>,
    /// The way to the network.
    pub egress: Arc<Egress>,
    /// What skills keep, where the host has a place for it.
    pub storage: Option<Arc<Storage>>,
}

/// Why something that is granted cannot be given.
#[derive(Debug)]
pub(super) enum NotGranted {
    /// The fault is the grant's.
    Denied(Denial),
    /// The host has run out of something, such as open files, that others hold for now.
    Exhausted(String),
    /// The fault is the host's.
    Host(HostError),
    /// It is more than a limit allows.
    Stopped(Stop),
}

/// What one execution is granted, ready to go into a store.
pub(super) struct Capabilities {
    pub wasi: Wasi,
    pub directories: Directories,
    /// What a guest is told that it has left, where its clocks stand still.
    pub still: Option<Duration>,
    /// Whether a memory or table that cannot grow stops the guest, which would see how much the machine has left.
    pub must_grow: bool,
    pub config: BTreeMap<String, String>,
    pub chatter: Chatter,
    pub network: Network,
    pub keeping: Keeping,
}

impl Capabilities {
    /// Nothing: no directory, no variable, no key, a closed standard input, and nobody listening. Clocks stand
    /// still, random numbers are always the same and memories grow or end it, so that whoever is asked twice what it
    /// is cannot but say the same.
    pub fn none(limits: &Limits) -> Self {
        let mut nothing = Capabilities::new(Arc::default(), limits, Chatter::unheard());
        let grants = Grants::default()
            .clock(Clock::Still(DateTime::UNIX_EPOCH))
            .random(Random::Seed(0));
        // The same on every host: a skill must not be another one where the operator gives more time.
        nothing.still = Some(Limits::default().wall_time);
        nothing.must_grow = true;
        nothing
            .wasi
            .grant(|wasi| reproducible::grant(wasi, &grants));
        nothing
    }

    /// Nothing yet, for whoever asks, and somebody listening.
    pub fn new(asker: Arc<Asker>, limits: &Limits, chatter: Chatter) -> Self {
        Capabilities {
            wasi: Wasi::new(limits),
            directories: Directories::default(),
            still: None,
            must_grow: false,
            config: BTreeMap::new(),
            network: Network::none(LateRefusals::new(asker, chatter.listeners()), limits),
            chatter,
            keeping: Keeping::default(),
        }
    }

    /// Exactly what is granted, but for directories.
    pub fn grant(
        &mut self,
        grants: &Grants,
        tenant: Option<&str>,
        limits: &Limits,
        backing: &Backing,
        secrets: Option<&Arc<Held>>,
    ) {
        if grants.is_empty() {
            return;
        }
        self.still = match grants.clock.unwrap_or_default() {
            Clock::System => None,
            Clock::Still(_) => Some(limits.wall_time),
        };
        self.config.clone_from(&grants.config);
        self.network.grant(grants, &backing.egress, limits, secrets);
        if let Some(secrets) = secrets {
            self.chatter.scrub(secrets);
        }
        let network = &self.network;
        let skill = network.refusals().asker().name();
        self.keeping = Keeping::grant(grants, skill, tenant, limits, backing);
        self.wasi.grant(|wasi| {
            reproducible::grant(wasi, grants);
            sockets::grant(wasi, network);
            for (name, value) in &grants.environment {
                wasi.env(name, value);
            }
        });
    }

    /// Opens the directories that are granted, by way of no link in one that skills may write in.
    pub async fn open(
        &mut self,
        grants: &Grants,
        around: &Arc<Around>,
        tenant: Option<&str>,
        limits: &Limits,
        backing: &Backing,
    ) -> Result<(), NotGranted> {
        let refusals = self.network.refusals();
        self.directories =
            Directories::open(grants, around, tenant, backing, refusals, limits).await?;
        Ok(())
    }
}

/// Reads the secrets that are granted, on a thread that may block. May be dropped at any point.
pub(super) async fn secrets(
    wanted: Vec<Wanted>,
    party: &Party,
    backing: &Backing,
) -> Result<Arc<Held>, NotGranted> {
    let host = |why: String| NotGranted::Host(HostError::Internal(why));
    let for_operator = backing.for_operator;
    let reading = backing
        .disk
        .spawn(party, move || crate::secret::read(&wanted, for_operator))
        .map_err(|error| {
            NotGranted::Exhausted(format!("the secrets cannot be read at the moment: {error}"))
        })?;
    match reading.await {
        Ok(Ok(held)) => Ok(Arc::new(held)),
        Ok(Err(Unread::Denied(denial))) => Err(NotGranted::Denied(denial)),
        Ok(Err(Unread::Exhausted(why))) => Err(NotGranted::Exhausted(why)),
        Err(_) => Err(host("the secrets could not be read".into())),
    }
}
