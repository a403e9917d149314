//! Makes Consul what it should be: what containers mean against what is registered, the smallest write for each
//! difference, and the task that writes. May know `registration`, `consul`, the values of `docker`, and of `heal` the pure `policy`,
//! `labels` and `hands_off`.
//!
//! * [`own`]: whose a registration is: the gate before every overwrite and every removal.
//! * [`diff`]: one wanted registration against the actual one → the next write.
//! * [`healing`]: what a container means, with the check that says whether it is healed.
//! * [`claims`]: who may use which id.
//! * [`items`]: one entry per registration: queued, being written, waiting after a failure.
//! * [`containers`]: the containers that were told about, and which depend on which.
//! * [`shown`]: a snapshot of Consul by key.
//! * [`book`]: the whole state; pure.
//! * [`worker`]: the task around the book; [`telling`]: what it logs.

pub mod book;
pub mod claims;
mod containers;
pub mod diff;
pub mod healing;
pub mod items;
pub mod own;
mod shown;
pub mod telling;
pub mod worker;

pub use book::Book;
pub use healing::{GivenUp, Healing};
pub use worker::{Wiring, Worker};
