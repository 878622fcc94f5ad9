//! The queue, from the outside.

/// x
pub struct Queue;
