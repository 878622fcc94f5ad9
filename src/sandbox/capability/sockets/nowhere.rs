//! What a guest gets where no socket of a protocol is granted.
//!
//! What is to be granted is known only once a guest says where it connects or sends to, and for that it
//! must have a socket. So it gets a [`Nowhere`]: no socket of the system's, and no way to learn anything of
//! that. It takes what is set on it, and refuses what is asked of it.

use std::net::{IpAddr, SocketAddr};

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::{Pollable, SocketResult};

use super::{Sockets, is_broadcast, is_of_the_systems_choice};
use crate::grant::Protocol;

/// A socket that is none. The guest's handle names it by wasmtime-wasi's type, which is only a name:
/// what stands behind the number in the table is ours.
pub(super) struct Nowhere(pub IpAddressFamily);

/// That socket, behind the handle of a guest.
pub(super) fn nowhere<T: 'static>(socket: &Resource<T>) -> Resource<Nowhere> {
    Resource::new_borrow(socket.rep())
}

#[wasmtime_wasi::async_trait]
impl Pollable for Nowhere {
    async fn ready(&mut self) {}
}

/// Whether a socket of this family that is one could be granted to go there: what it would not take, no
/// grant changes.
fn leads_somewhere(protocol: Protocol, family: IpAddressFamily, to: SocketAddr) -> bool {
    let fits = match (family, to.ip()) {
        (IpAddressFamily::Ipv4, IpAddr::V4(_)) => true,
        // Neither mapped nor, as was done once, compatible ones.
        (IpAddressFamily::Ipv6, IpAddr::V6(ip)) => ip.to_ipv4().is_none() || ip.is_loopback(),
        _ => false,
    };
    let to_many = protocol == Protocol::Tcp && to.ip().is_multicast() || is_broadcast(to);
    fits && !to_many && to.port() != 0 && !to.ip().is_unspecified()
}

impl Sockets<'_> {
    /// The family of one that is none.
    pub(super) fn family<T: 'static>(&mut self, socket: &Resource<T>) -> Option<IpAddressFamily> {
        let Nowhere(family) = self.0.table().get(&nowhere(socket)).ok()?;
        Some(*family)
    }

    /// Refuses what is asked of one that is none.
    pub(super) fn one<T: 'static>(&mut self, socket: &Resource<T>) -> SocketResult<()> {
        match self.family(socket) {
            None => Ok(()),
            Some(_) => {
                self.0.called();
                Err(ErrorCode::AccessDenied.into())
            }
        }
    }

    /// The end of one that is none.
    pub(super) fn end<T: 'static>(&mut self, socket: &Resource<T>) -> wasmtime::Result<()> {
        let socket = Resource::<Nowhere>::new_own(socket.rep());
        self.0.called().table().delete(socket)?;
        Ok(())
    }

    /// One of this family that is none is to go there, which is refused by name.
    pub(super) fn refuse<T>(
        &mut self,
        protocol: Protocol,
        family: IpAddressFamily,
        to: IpSocketAddress,
    ) -> SocketResult<T> {
        let refusals = self.0.called().network.refusals();
        let to = SocketAddr::from(to);
        if !leads_somewhere(protocol, family, to) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        refusals.add(refusals.asker().socket_denied(protocol, to));
        Err(ErrorCode::AccessDenied.into())
    }

    /// One that is none is to be bound, as one is that connects or sends.
    pub(super) fn bind(&mut self, protocol: Protocol, to: IpSocketAddress) -> SocketResult<()> {
        if is_of_the_systems_choice(SocketAddr::from(to)) {
            self.0.called();
            return Ok(());
        }
        self.refuse_to_bind(protocol)
    }

    /// One that is none is to have an address of the guest's choice, or to listen.
    pub(super) fn refuse_to_bind(&mut self, protocol: Protocol) -> SocketResult<()> {
        super::not_bound(self.0.called().network.refusals(), protocol);
        Err(ErrorCode::AccessDenied.into())
    }
}

/// What is set before a socket goes anywhere. One that is none takes it, so that its guest goes on to say
/// where it goes.
macro_rules! set_on_one {
    ($of:ty: $($name:ident($($argument:ident: $type:ty)?);)*) => {$(
        fn $name(&mut self, socket: Resource<$of> $(, $argument: $type)?) -> SocketResult<()> {
            if self.family(&socket).is_some() {
                self.0.called();
                return Ok(());
            }
            self.view().$name(socket $(, $argument)?)
        }
    )*};
}

/// What is asked of a socket, and refused of one that is none.
macro_rules! asked_of_one {
    ($of:ty: $($name:ident($($argument:ident: $type:ty)?) -> $answer:ty;)*) => {$(
        fn $name(&mut self, socket: Resource<$of> $(, $argument: $type)?) -> SocketResult<$answer> {
            self.one(&socket)?;
            self.view().$name(socket $(, $argument)?)
        }
    )*};
}

/// The family of a socket.
macro_rules! family_of_one {
    ($of:ty) => {
        fn address_family(&mut self, socket: Resource<$of>) -> wasmtime::Result<IpAddressFamily> {
            if let Some(family) = self.family(&socket) {
                self.0.called();
                return Ok(family);
            }
            self.view().address_family(socket)
        }
    };
}

/// Something to wait for: one that is none is always ready.
macro_rules! subscribe_to_one {
    ($host:ident: $of:ty) => {
        fn subscribe(&mut self, of: Resource<$of>) -> wasmtime::Result<Resource<DynPollable>> {
            if self.family(&of).is_some() {
                return subscribe(self.0.called().table(), nowhere(&of));
            }
            $host::subscribe(&mut self.view(), of)
        }
    };
}

/// The end.
macro_rules! drop_one {
    ($host:ident: $of:ty) => {
        fn drop(&mut self, of: Resource<$of>) -> wasmtime::Result<()> {
            match self.family(&of) {
                Some(_) => self.end(&of),
                None => $host::drop(&mut self.view(), of),
            }
        }
    };
}

pub(super) use {asked_of_one, drop_one, family_of_one, set_on_one, subscribe_to_one};
