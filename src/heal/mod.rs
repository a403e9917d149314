//! The health-watcher. `docs/healing-design.md` is its plan.
//!
//! * [`policy`]: labels and settings → what may be done to a container; pure.
//! * [`labels`]: every label with its default and its meaning.
//! * [`managed`]: containers that somebody else looks after; pure.
//! * [`cluster`]: what agents and operators tell each other through Consul's KV.

pub mod cluster;
pub mod labels;
pub mod managed;
pub mod policy;
