//! Key-value storage, through `wasi:keyvalue`: both drafts of it that are in use, on the same data.

mod draft;

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};

use super::few::Few;
use super::{Backing, Own};
use crate::execution::HostError;
use crate::grant::Grants;
use crate::limits::Limits;
use crate::sandbox::classify::Stop;
use crate::sandbox::contract::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::sandbox::disk::Disk;
use crate::sandbox::state::State;
use crate::storage::{
    DEFAULT_BUCKET, Owner, Page, Place, Quota, Storage, StorageError, Version, check_key, is_bucket,
};
use crate::turns::Party;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, Own>(linker, State::called)?;
    atomics::add_to_linker::<State, Own>(linker, State::called)?;
    batch::add_to_linker::<State, Own>(linker, State::called)?;
    link_batch(linker, "wasi:keyvalue/batch@0.2.0-draft2")?;
    draft::link(linker)
}

/// What one execution may keep; nothing where it is not granted.
#[derive(Default)]
pub(in crate::sandbox) struct Keeping {
    granted: Option<Arc<Granted>>,
    cursors: draft::Cursors,
}

struct Granted {
    storage: Arc<Storage>,
    disk: Arc<Disk>,
    party: Party,
    skill: Arc<str>,
    tenant: Option<Arc<str>>,
    quota: Quota,
}

impl Keeping {
    /// What is granted to a skill of this name, for this tenant.
    pub(super) fn grant(
        grants: &Grants,
        skill: &str,
        tenant: Option<&str>,
        limits: &Limits,
        backing: &Backing,
    ) -> Self {
        let granted = || {
            Some(Arc::new(Granted {
                storage: Arc::clone(backing.storage.as_ref()?),
                disk: Arc::clone(&backing.disk),
                party: Party::of(tenant, skill),
                skill: skill.into(),
                tenant: tenant.map(Into::into),
                quota: Quota::new(limits),
            }))
        };
        Keeping {
            granted: grants.storage.then(granted).flatten(),
            cursors: draft::Cursors::default(),
        }
    }
}

/// An open bucket.
pub struct Bucket {
    name: Arc<str>,
}

/// A key as it was at one moment.
pub struct Cas {
    place: Place,
    version: Version,
}

/// What is done with what is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    /// One at a time.
    Write,
}

/// Why a call came to nothing.
enum Fault {
    Denied,
    NoSuchBucket,
    NoSuchCursor,
    /// The guest hears of it.
    Other(StorageError),
}

type Done<T> = wasmtime::Result<Result<T, Fault>>;

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Fault::Other(error)
    }
}

impl State {
    /// Has something done with what is kept, on a thread that may block, once it is its owner's turn. What meets a
    /// limit ends the execution.
    fn keep<T, W>(
        &self,
        access: Access,
        work: W,
    ) -> impl Future<Output = Done<T>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce(&Storage, &Owner) -> Result<T, StorageError> + Send + 'static,
    {
        let granted = self.keeping.granted.clone();
        let deadline = self.deadline();
        async move {
            let Some(granted) = granted else {
                return Ok(Err(Fault::Denied));
            };
            let owner = Owner {
                skill: Arc::clone(&granted.skill),
                tenant: granted.tenant.clone(),
                quota: granted.quota,
                deadline,
            };
            let storage = Arc::clone(&granted.storage);
            let turn = match access {
                Access::Read => None,
                Access::Write => Some(storage.turn(&granted.party).await),
            };
            let working = granted.disk.spawn(&granted.party, move || {
                // It is its turn until that is done.
                let _turn = turn;
                work(&storage, &owner)
            });
            let working = match working {
                Ok(working) => working,
                Err(error) => {
                    tracing::error!("no thread for the storage of skills: {error}");
                    return Ok(Err(StorageError::Broken.into()));
                }
            };
            match working.await {
                Ok(Ok(done)) => Ok(Ok(done)),
                Ok(Err(StorageError::Quota {
                    limit,
                    allowed,
                    asked,
                })) => Err(Stop::Limit {
                    limit,
                    allowed,
                    requested: Some(asked),
                }
                .into()),
                Ok(Err(StorageError::TimeIsUp)) => Err(Stop::TimeIsUp.into()),
                // Not the guest's to hear: the execution ends with it.
                Ok(Err(StorageError::Unusable(why))) => Err(HostError::Unavailable {
                    what: "cannot use the storage of skills",
                    path: granted.storage.path().to_owned(),
                    source: std::io::Error::other(why),
                }
                .into()),
                Ok(Err(error)) => Ok(Err(error.into())),
                Err(undone) => Err(Stop::from(undone).into()),
            }
        }
    }

    fn open_bucket(&mut self, identifier: &str) -> Done<Resource<Bucket>> {
        if self.keeping.granted.is_none() {
            let refusals = self.network.refusals();
            refusals.add(refusals.asker().storage_denied());
            return Ok(Err(Fault::Denied));
        }
        let name = match identifier {
            "" => DEFAULT_BUCKET,
            name if is_bucket(name) => name,
            _ => return Ok(Err(Fault::NoSuchBucket)),
        };
        let name = name.into();
        Ok(Ok(self.table().push(Bucket { name })?))
    }

    fn place(&mut self, bucket: &Resource<Bucket>, key: String) -> Done<Place> {
        let bucket = Arc::clone(&self.table().get(bucket)?.name);
        Ok(match check_key(&key) {
            Ok(()) => Ok(Place { bucket, key }),
            Err(error) => Err(error.into()),
        })
    }

    fn places(&mut self, bucket: &Resource<Bucket>, keys: Vec<String>) -> Done<Vec<Place>> {
        let bucket = Arc::clone(&self.table().get(bucket)?.name);
        let place = |key: String| -> Result<Place, Fault> {
            check_key(&key)?;
            let bucket = Arc::clone(&bucket);
            Ok(Place { bucket, key })
        };
        Ok(keys.into_iter().map(place).collect())
    }

    async fn get_value(&mut self, bucket: &Resource<Bucket>, key: String) -> Done<Option<Vec<u8>>> {
        let place = match self.place(bucket, key)? {
            Ok(place) => place,
            Err(fault) => return Ok(Err(fault)),
        };
        self.keep(Access::Read, move |storage, owner| {
            Ok(storage.get(owner, &[place])?.pop().flatten())
        })
        .await
    }

    async fn set_value(
        &mut self,
        bucket: &Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> Done<()> {
        match self.place(bucket, key)? {
            Ok(place) => {
                self.keep(Access::Write, move |storage, owner| {
                    storage.set(owner, &[(place, value)])
                })
                .await
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    async fn delete_keys(&mut self, bucket: &Resource<Bucket>, keys: Vec<String>) -> Done<()> {
        match self.places(bucket, keys)? {
            Ok(places) => {
                self.keep(Access::Write, move |storage, owner| {
                    storage.delete(owner, &places)
                })
                .await
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    async fn has_key(&mut self, bucket: &Resource<Bucket>, key: String) -> Done<bool> {
        match self.place(bucket, key)? {
            Ok(place) => {
                self.keep(Access::Read, move |storage, owner| {
                    Ok(storage.version(owner, &place)?.is_some())
                })
                .await
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    /// The keys behind this one; all, behind an empty one.
    async fn page_of_keys(&mut self, bucket: &Resource<Bucket>, after: String) -> Done<Page> {
        let bucket = Arc::clone(&self.table().get(bucket)?.name);
        self.keep(Access::Read, move |storage, owner| {
            storage.page(owner, &bucket, &after)
        })
        .await
    }

    async fn get_values(
        &mut self,
        bucket: &Resource<Bucket>,
        keys: Vec<String>,
    ) -> Done<Vec<Option<(String, Vec<u8>)>>> {
        let places = match self.places(bucket, keys)? {
            Ok(places) => places,
            Err(fault) => return Ok(Err(fault)),
        };
        self.keep(Access::Read, move |storage, owner| {
            let values = storage.get(owner, &places)?;
            let keys = places.into_iter().map(|place| place.key);
            let pair = |(key, value): (String, Option<Vec<u8>>)| Some((key, value?));
            Ok(keys.zip(values).map(pair).collect::<Vec<_>>())
        })
        .await
    }

    async fn set_values(
        &mut self,
        bucket: &Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Done<()> {
        let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        match self.places(bucket, keys)? {
            Ok(places) => {
                let pairs: Vec<_> = places.into_iter().zip(values).collect();
                self.keep(Access::Write, move |storage, owner| {
                    storage.set(owner, &pairs)
                })
                .await
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    async fn add_to_number(
        &mut self,
        bucket: &Resource<Bucket>,
        key: String,
        delta: i128,
        range: std::ops::RangeInclusive<i128>,
    ) -> Done<i128> {
        match self.place(bucket, key)? {
            Ok(place) => {
                self.keep(Access::Write, move |storage, owner| {
                    storage.add(owner, &place, delta, range)
                })
                .await
            }
            Err(fault) => Ok(Err(fault)),
        }
    }
}

/// What both drafts say in the same words, in the modules that their bindings are in, and how each has the
/// keys of a bucket listed, which they do not.
macro_rules! keyvalue {
    ($store:ident, $batch:ident, $($list_keys:tt)*) => {
        type Answered<'s, T> = Box<
            dyn Future<Output = wasmtime::Result<(Result<T, $store::Error>,)>> + Send + 's,
        >;

        /// Puts what takes no more than a few keys at once in the place of what takes any number.
        fn link_batch(linker: &mut Linker<State>, name: &str) -> wasmtime::Result<()> {
            fn get_many<'s>(
                mut store: StoreContextMut<'s, State>,
                (bucket, Few(keys)): (Resource<Bucket>, Few<String>),
            ) -> Answered<'s, Vec<Option<(String, Vec<u8>)>>> {
                Box::new(async move {
                    let state = store.data_mut().called();
                    Ok(($batch::Host::get_many(state, bucket, keys).await?,))
                })
            }

            fn set_many<'s>(
                mut store: StoreContextMut<'s, State>,
                (bucket, Few(pairs)): (Resource<Bucket>, Few<(String, Vec<u8>)>),
            ) -> Answered<'s, ()> {
                Box::new(async move {
                    let state = store.data_mut().called();
                    Ok(($batch::Host::set_many(state, bucket, pairs).await?,))
                })
            }

            fn delete_many<'s>(
                mut store: StoreContextMut<'s, State>,
                (bucket, Few(keys)): (Resource<Bucket>, Few<String>),
            ) -> Answered<'s, ()> {
                Box::new(async move {
                    let state = store.data_mut().called();
                    Ok(($batch::Host::delete_many(state, bucket, keys).await?,))
                })
            }

            linker.allow_shadowing(true);
            let mut batch = linker.instance(name)?;
            batch.func_wrap_async("get-many", get_many)?;
            batch.func_wrap_async("set-many", set_many)?;
            batch.func_wrap_async("delete-many", delete_many)?;
            linker.allow_shadowing(false);
            Ok(())
        }

        impl From<Fault> for $store::Error {
            fn from(fault: Fault) -> Self {
                match fault {
                    Fault::Denied => $store::Error::AccessDenied,
                    Fault::NoSuchBucket => $store::Error::NoSuchStore,
                    Fault::NoSuchCursor => {
                        let why = "the cursor is none that a page ended with";
                        $store::Error::Other(why.into())
                    }
                    Fault::Other(error) => $store::Error::Other(error.to_string()),
                }
            }
        }

        impl $store::Host for State {
            async fn open(
                &mut self,
                identifier: String,
            ) -> wasmtime::Result<Result<Resource<Bucket>, $store::Error>> {
                Ok(self.open_bucket(&identifier)?.map_err(Into::into))
            }
        }

        impl $store::HostBucket for State {
            async fn get(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<Option<Vec<u8>>, $store::Error>> {
                Ok(self.get_value(&bucket, key).await?.map_err(Into::into))
            }

            async fn set(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> wasmtime::Result<Result<(), $store::Error>> {
                Ok(self
                    .set_value(&bucket, key, value)
                    .await?
                    .map_err(Into::into))
            }

            async fn delete(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<(), $store::Error>> {
                Ok(self
                    .delete_keys(&bucket, vec![key])
                    .await?
                    .map_err(Into::into))
            }

            async fn exists(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<bool, $store::Error>> {
                Ok(self.has_key(&bucket, key).await?.map_err(Into::into))
            }

            $($list_keys)*

            async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
                self.table().delete(bucket)?;
                Ok(())
            }
        }

        impl $batch::Host for State {
            async fn get_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, $store::Error>> {
                Ok(self.get_values(&bucket, keys).await?.map_err(Into::into))
            }

            async fn set_many(
                &mut self,
                bucket: Resource<Bucket>,
                pairs: Vec<(String, Vec<u8>)>,
            ) -> wasmtime::Result<Result<(), $store::Error>> {
                Ok(self.set_values(&bucket, pairs).await?.map_err(Into::into))
            }

            async fn delete_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<(), $store::Error>> {
                Ok(self.delete_keys(&bucket, keys).await?.map_err(Into::into))
            }
        }
    };
}
use keyvalue;

keyvalue! {
    store, batch,
    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<store::KeyResponse, store::Error>> {
        let after = match cursor.as_deref().map(key_of) {
            None => String::new(),
            Some(Some(key)) => key.to_owned(),
            Some(None) => return Ok(Err(Fault::NoSuchCursor.into())),
        };
        let page = self.page_of_keys(&bucket, after).await?;
        Ok(match page {
            Ok(Page { keys, next }) => Ok(store::KeyResponse {
                keys,
                cursor: next.map(|key| format!("{BEHIND}{key}")),
            }),
            Err(fault) => Err(fault.into()),
        })
    }
}

/// What a cursor begins with. The last key of the page follows: it is the guest's own, and tells it nothing.
const BEHIND: &str = "behind ";

/// The key in a cursor.
fn key_of(cursor: &str) -> Option<&str> {
    let key = cursor.strip_prefix(BEHIND)?;
    check_key(key).is_ok().then_some(key)
}

impl atomics::Host for State {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, store::Error>> {
        let range = i64::MIN.into()..=i64::MAX.into();
        let sum = self
            .add_to_number(&bucket, key, delta.into(), range)
            .await?;
        // Within the range, as was asked for.
        Ok(sum
            .map(|sum| i64::try_from(sum).unwrap_or(i64::MAX))
            .map_err(Into::into))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let Cas { place, version } = self.table().delete(cas)?;
        let kept = place.clone();
        let swapped = self
            .keep(Access::Write, move |storage, owner| {
                storage.swap(owner, &place, version, &value)
            })
            .await?;
        Ok(match swapped {
            Ok(Ok(())) => Ok(()),
            Ok(Err(version)) => {
                let place = kept;
                let now = self.table().push(Cas { place, version })?;
                Err(atomics::CasError::CasFailed(now))
            }
            Err(fault) => Err(atomics::CasError::StoreError(fault.into())),
        })
    }
}

impl atomics::HostCas for State {
    async fn new(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Cas>, store::Error>> {
        let place = match self.place(&bucket, key)? {
            Ok(place) => place,
            Err(fault) => return Ok(Err(fault.into())),
        };
        let looked_at = place.clone();
        let version = self
            .keep(Access::Read, move |storage, owner| {
                storage.version(owner, &looked_at)
            })
            .await?;
        Ok(match version {
            Ok(version) => Ok(self.table().push(Cas { place, version })?),
            Err(fault) => Err(fault.into()),
        })
    }

    async fn current(
        &mut self,
        cas: Resource<Cas>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, store::Error>> {
        let place = self.table().get(&cas)?.place.clone();
        let value = self
            .keep(Access::Read, move |storage, owner| {
                Ok(storage.get(owner, &[place])?.pop().flatten())
            })
            .await?;
        Ok(value.map_err(Into::into))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table().delete(cas)?;
        Ok(())
    }
}
