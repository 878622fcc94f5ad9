//! Callbacks: what became of a job, posted to a URL, signed, and tried again where that may help.
//!
//! Signatures and headers are those of [Standard Webhooks](https://www.standardwebhooks.com) 1.0, so
//! that a receiver can check them with a library of its language, or with [`verify`]. A callback
//! goes out through the same door as a skill's requests: its name is looked up once, every address is
//! checked, and one that is not public is refused unless the operator allows it. No redirect is
//! followed.
//!
//! Deciding is apart from sending: [`Callbacks::deliver`] makes one attempt and says what became of
//! it, and [`delay_before`] when to make the next.

mod backoff;
mod deliver;
mod judge;
mod signature;

pub use backoff::{DELAYS, MAX_RETRY_AFTER, delay_before};
pub use deliver::{Callback, CallbackSettings, Callbacks, UrlError};
pub use judge::{Delivery, Verdict};
pub use signature::{
    HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret, SecretError, TOLERANCE, VerifyError,
    sign, verify,
};
