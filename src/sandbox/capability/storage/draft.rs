//! The earlier draft, 0.2.0-draft: no swap, numbers without a sign, and a number as the cursor.

use std::collections::VecDeque;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};

use super::{Bucket, Fault};
use crate::sandbox::capability::Own;
use crate::sandbox::capability::few::Few;
use crate::sandbox::state::State;
use crate::storage::{Page, Place};

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
    batch::add_to_linker::<State, Own>(linker, State::called)?;
    link_batch(linker, "wasi:keyvalue/batch@0.2.0-draft")
}

super::keyvalue! {
    store, batch,
    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Result<store::KeyResponse, store::Error>> {
        let name = self.table().get(&bucket)?.name.clone();
        let after = match cursor {
            None => String::new(),
            Some(cursor) => match self.keeping.cursors.find(&name, cursor) {
                Some(key) => key.to_owned(),
                None => return Ok(Err(Fault::NoSuchCursor.into())),
            },
        };
        let page = self.page_of_keys(&bucket, after).await?;
        Ok(match page {
            Ok(Page { keys, next }) => {
                let cursors = &mut self.keeping.cursors;
                let cursor = next.map(|key| cursors.add(Place { bucket: name, key }));
                Ok(store::KeyResponse { keys, cursor })
            }
            Err(fault) => Err(fault.into()),
        })
    }
}

/// The most cursors that are remembered. A key has 1 KiB at most, and so have they all together 1 MiB.
const MAX_CURSORS: usize = 1_000;

/// Where pages ended, the last ones of this execution. As a cursor is a number, it is one that tells nothing: 1,
/// and then 2, and so on.
#[derive(Default)]
pub(super) struct Cursors {
    ends: VecDeque<Place>,
    forgotten: u64,
}

impl Cursors {
    fn add(&mut self, end: Place) -> u64 {
        if self.ends.len() >= MAX_CURSORS {
            self.ends.pop_front();
            self.forgotten += 1;
        }
        self.ends.push_back(end);
        self.forgotten + self.ends.len() as u64
    }

    /// The key that a page of this bucket ended with.
    fn find(&self, bucket: &str, cursor: u64) -> Option<&str> {
        let at = cursor.checked_sub(self.forgotten)?.checked_sub(1)?;
        let end = self.ends.get(usize::try_from(at).ok()?)?;
        (&*end.bucket == bucket).then_some(&*end.key)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_counted_and_the_oldest_forgotten() {
        let end = |number: u64| Place {
            bucket: "b".into(),
            key: number.to_string(),
        };
        let mut cursors = Cursors::default();
        let most = MAX_CURSORS as u64;
        for number in 1..=most + 2 {
            assert_eq!(cursors.add(end(number)), number);
            assert_eq!(cursors.find("b", number), Some(&*number.to_string()));
        }
        for (cursor, found) in [(0, false), (2, false), (3, true), (most + 2, true)] {
            assert_eq!(cursors.find("b", cursor).is_some(), found, "{cursor}");
        }
        assert_eq!(cursors.ends.len(), MAX_CURSORS);
        for cursor in [most + 3, u64::MAX] {
            assert_eq!(cursors.find("b", cursor), None);
        }
        assert_eq!(cursors.find("another", most), None);
    }
}
