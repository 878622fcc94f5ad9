//! A durable job queue.

pub mod schedule;
