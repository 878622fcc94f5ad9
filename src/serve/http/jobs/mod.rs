//! Jobs: submitted, looked at, and stepped in with.

pub(super) mod change;
pub(super) mod read;
pub(super) mod submit;
pub(super) mod view;
