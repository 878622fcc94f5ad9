//! The earlier draft, 0.2.0-draft: no swap, numbers without a sign, and a number as the cursor.

use wasmtime::component::{Linker, Resource};

use super::{Bucket, Fault};
use crate::sandbox::capability::Own;
use crate::sandbox::state::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::sandbox::capability::Bucket,
        },
    });
}

use bindings::wasi::keyvalue::{atomics, batch, store};

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, Own>(linker, State::called)?;
    atomics::add_to_linker::<State, Own>(linker, State::called)?;
    batch::add_to_linker::<State, Own>(linker, State::called)
}

super::keyvalue! {
    store, batch,
    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Result<store::KeyResponse, store::Error>> {
        // A cursor past every number that a page ends with is behind the last page.
        let after = cursor.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let page = self.page_of_keys(&bucket, after).await?;
        Ok(match page {
            Ok((keys, next)) => Ok(store::KeyResponse {
                keys,
                cursor: next.and_then(|next| u64::try_from(next).ok()),
            }),
            Err(fault) => Err(fault.into()),
        })
    }
}

impl atomics::Host for State {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, store::Error>> {
        let range = 0..=u64::MAX.into();
        let sum = self
            .add_to_number(&bucket, key, delta.into(), range)
            .await?;
        // Within the range, as was asked for.
        Ok(sum
            .map(|sum| u64::try_from(sum).unwrap_or(u64::MAX))
            .map_err(Into::into))
    }
}
