//! The health-watcher. `docs/healing-design.md` is its plan.
//!
//! * [`history`]: the events of a container; did it fail, or did somebody want it so?
//! * [`cause`]: what is wrong with a container; pure.
//! * [`record`]: attempts, back-off and quarantine of a place; [`brakes`]: those of the node; pure.
//! * [`service`]: what other instances of a service say against it; pure.
//! * [`decide`]: what is done about a cause; pure.
//! * [`operation`]: the replacement, step by step.
//! * [`treat`]: one attempt, from the last look to the result. [`tell`]: what is told of it; [`teller`]: the task that
//!   carries it to Consul's KV and to a webhook.
//! * [`status`]: one screen that says how healing stands.
//! * [`watcher`]: the task around all of it.
//! * [`policy`]: labels and settings → what may be done to a container; pure.
//! * [`labels`]: every label with its default and its meaning.
//! * [`managed`]: containers that somebody else looks after; [`hands_off`]: those, and whom else nobody touches; pure.
//! * [`cluster`]: what agents and operators tell each other through Consul's KV.

pub mod brakes;
pub mod cause;
pub mod cluster;
pub mod decide;
pub mod hands_off;
pub mod history;
pub mod labels;
pub mod managed;
pub mod operation;
pub mod policy;
pub mod record;
pub mod service;
pub mod status;
pub mod tell;
pub mod teller;
pub mod treat;
pub mod watcher;
