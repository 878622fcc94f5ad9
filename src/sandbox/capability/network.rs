//! What HTTP and sockets share: the network's grants and meters of one execution.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView};

use super::http::Hooks;
use super::{LateRefusals, Refusals};
use crate::egress::{Egress, Meter, Rules, Traffic};
use crate::grant::{Denial, Grants, SocketGrant, Sought};
use crate::limits::Limits;
use crate::sandbox::classify::Stop;
use crate::secret::Held;

/// The network of one execution. With nothing granted, it holds nothing.
pub(in crate::sandbox) struct Network {
    context: WasiHttpCtx,
    hooks: Hooks,
}

/// What is granted, shared with the requests on their way.
pub(super) struct Granted {
    pub egress: Arc<Egress>,
    pub rules: Rules,
    pub sockets: Vec<SocketGrant>,
    pub meter: Arc<Meter>,
}

impl Network {
    /// None at all.
    pub fn none(refusals: LateRefusals, limits: &Limits) -> Self {
        let mut context = WasiHttpCtx::new();
        // Whatever is granted: what a guest makes of them is the host's memory.
        let fields = usize::try_from(limits.http_fields_bytes).unwrap_or(usize::MAX);
        context.set_field_size_limit(fields);
        Network {
            context,
            hooks: Hooks {
                granted: None,
                addresses: Vec::new(),
                refusals,
                sought: Sought::default(),
            },
        }
    }

    /// Exactly what is granted.
    pub fn grant(
        &mut self,
        grants: &Grants,
        egress: &Arc<Egress>,
        limits: &Limits,
        secrets: Option<&Arc<Held>>,
    ) {
        if let Some(secrets) = secrets {
            self.refusals().scrub(Arc::clone(secrets));
        }
        self.hooks.addresses.clone_from(&grants.addresses);
        if grants.http.is_empty() && grants.sockets.is_empty() {
            return;
        }
        let mut rules = Rules::new(Arc::clone(self.refusals().asker()), grants);
        if let Some(secrets) = secrets {
            rules = rules.with_secrets(Arc::clone(secrets), self.refusals().told());
        }
        self.hooks.granted = Some(Arc::new(Granted {
            egress: Arc::clone(egress),
            rules,
            sockets: grants.sockets.clone(),
            meter: egress.meter(limits),
        }));
    }

    pub(super) fn granted(&self) -> Option<&Arc<Granted>> {
        self.hooks.granted.as_ref()
    }

    /// What was refused to the guest, of the network and of all else.
    pub fn refusals(&self) -> &Refusals {
        self.hooks.refusals.get()
    }

    /// All of them, so far.
    pub fn take_refusals(&self) -> Vec<Denial> {
        self.hooks.refusals.take()
    }

    /// What the guest looked for, of the network and of all else.
    pub fn sought(&mut self) -> &mut Sought {
        &mut self.hooks.sought
    }

    fn meter(&self) -> Option<&Meter> {
        self.hooks.granted.as_ref().map(|granted| &*granted.meter)
    }

    /// What was done so far.
    pub fn used(&self) -> Traffic {
        self.meter().map(Meter::read).unwrap_or_default()
    }

    /// Whether a limit of the network was met, which ends the execution.
    pub fn stop(&self) -> Option<Stop> {
        let (limit, allowed) = self.meter()?.met()?;
        Some(Stop::Limit {
            limit,
            allowed,
            requested: None,
        })
    }

    /// What `wasi:http` works on.
    pub fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table,
            ctx: &mut self.context,
        }
    }
}
