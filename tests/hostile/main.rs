//! The hostile suite: every attack on a host that we know of, each run in one and the same way.
//!
//! A file holds one family of attacks. What is checked of each is written down in [`attack`], and
//! is not for a family to say: an attack is a skill, the limits that it runs under, and what it ends
//! with:
//!
//! ```ignore
//! Attack::by(Handmade { execute: SPIN.into(), ..Handmade::default() })
//!     .under(fuel(1_000_000))
//!     .ends_with(met(Limit::Fuel));
//! ```
//!
//! A further family is a further file or folder and its line below, and a further way to end a further
//! case of `attack::End`. Each test begins with `let _alone = alone();`, as it measures the process.
//! Attacks of a skill made by hand begin with `Attack::by`, of a behaviour of `tests/guests` with
//! `Attack::with`, of another guest there with `Attack::from`, of what is to be loaded with `Load::by`; a
//! host with settings of its own is made by `attack::builder` (one slot) and handed in with `on`, and what
//! is granted with `granted`. Where the test takes part in an attack (as a server, or as somebody who
//! changes a folder meanwhile), `settled_by` waits until that part is over, before anything is measured.
//!
//! Not here: what stopping costs (`benches/`), and that nothing of one execution is seen by the
//! next (`tests/integration/isolation.rs`).

#[path = "../integration/handmade.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, and each uses its part"
)]
mod handmade;
#[path = "../integration/harness.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, and each uses its part"
)]
mod harness;

#[path = "../integration/child.rs"]
mod child;

mod attack;
mod load;
mod measure;
mod neighbour;

mod describing;
mod instantiating;
mod loading;

mod chatter;
mod checking;
mod computing;
mod crowd;
mod directories;
mod lies;
mod mappings;
mod memory;
mod network;
mod over_and_over;
mod panics;
mod terminal;
mod texts;
mod unyielding;
mod volume;
mod waiting;
