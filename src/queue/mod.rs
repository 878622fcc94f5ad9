//! A durable job queue.

pub mod callback;
pub mod schedule;
