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

impl From<Fault> for store::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Denied => store::Error::AccessDenied,
            Fault::NoSuchBucket => store::Error::NoSuchStore,
            Fault::Other(error) => store::Error::Other(error.to_string()),
        }
    }
}

impl store::Host for State {
    async fn open(
        &mut self,
        identifier: String,
    ) -> wasmtime::Result<Result<Resource<Bucket>, store::Error>> {
        Ok(self.open_bucket(&identifier)?.map_err(Into::into))
    }
}

impl store::HostBucket for State {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, store::Error>> {
        Ok(self.get_value(&bucket, key).await?.map_err(Into::into))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        Ok(self
            .set_value(&bucket, key, value)
            .await?
            .map_err(Into::into))
    }

    async fn delete(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        Ok(self
            .delete_keys(&bucket, vec![key])
            .await?
            .map_err(Into::into))
    }

    async fn exists(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<bool, store::Error>> {
        Ok(self.has_key(&bucket, key).await?.map_err(Into::into))
    }

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

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table().delete(bucket)?;
        Ok(())
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

impl batch::Host for State {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, store::Error>> {
        Ok(self.get_values(&bucket, keys).await?.map_err(Into::into))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        Ok(self.set_values(&bucket, pairs).await?.map_err(Into::into))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        Ok(self.delete_keys(&bucket, keys).await?.map_err(Into::into))
    }
}
