//! The host library, with real guests in it: from the outside, through its public interface only.
//!
//! The guests are built by the test run itself: the skill in `tests/guests` by cargo, once, and
//! those in `handmade` from text.

#[allow(
    dead_code,
    reason = "shared with the hostile suite, and each uses its part"
)]
mod handmade;
mod harness;

mod limits;
mod usage;

mod life;
mod results;
mod schemas;
mod sdk;

mod approval;
mod audit;
mod benchmarks;
mod directories;
mod grants;
mod guards;
mod isolation;
mod network;
mod policy;
mod storage;

mod cache;
mod child;
mod compiling;
mod loading;

mod installed;

mod doctor;

mod tidy;
