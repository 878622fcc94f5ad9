//! The queue on its stores.

mod conformance;
mod crash;
mod files;
mod model;
mod place;
mod postgres;
mod server;
mod tables;
mod within;
