//! The queue on its stores.

mod conformance;
mod place;
mod postgres;
mod server;
