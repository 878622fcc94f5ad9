//! The queue on its stores.

mod postgres;
mod server;
