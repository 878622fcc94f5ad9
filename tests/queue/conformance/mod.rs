//! What a queue does, on every store.
//!
//! A case is a function of a [`Place`]; `cases!` makes a test of it that runs it on each store.

mod approvals;
mod bounds;
mod control;
mod dead;
mod events;
mod leases;
mod lost;
mod order;
mod retries;
mod schedules;
mod submitting;

use std::future::Future;

use crate::place::{LONG, Place, stores};

/// Runs a case on every store.
async fn on_every_store<F, R>(case: F)
where
    F: Fn(Place) -> R,
    R: Future<Output = ()>,
{
    for store in stores() {
        let name = store.name();
        let done = tokio::time::timeout(LONG, async {
            case(Place::new(&*store).await).await;
        });
        assert!(done.await.is_ok(), "on {name} it took too long");
    }
}

/// Makes a test of each case.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod on_every_store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::conformance::on_every_store(super::$case).await;
                }
            )+
        }
    };
}
use cases;
