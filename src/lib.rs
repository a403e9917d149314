//! Remora keeps the ports **and the health** of every Docker container true in an external Consul cluster.
//!
//! # Layout
//!
//! | Room | What lives there |
//! |---|---|
//! | [`config`] | environment and registrator's flags → [`config::Config`], all errors at once |
//! | [`template`] | the part of Go's template language that registrator's `-tags` promises |
//! | [`docker`] | the only room that speaks Docker's API: engine, observation, snapshot of a container |
//! | [`consul`] | the only room that speaks Consul's API: client, model, registry |
//! | [`cluster`] | which nodes are alive, where no Consul agent knows: presence, and a leader that marks |
//! | [`registration`] | what a container means in Consul; pure |
//! | [`reconcile`] | the difference between wanted and actual, and the worker that applies it |
//! | [`heal`] | the health-watcher: what is wrong with a container, and what is done about it |
//! | [`probe`] | in catalog mode: asking the services what Consul's agent would ask, and writing down what they say |
//! | [`telemetry`] | metrics, logs, the small HTTP server |
//! | [`cli`] | the commands besides running |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`host`] | which address of this node to advertise |
//! | [`agent`] | which tasks run, how they are supervised, the order of shutdown |
//!
//! `docs/architecture.md` tells the way that data takes through them and the five rules of the house.

pub mod agent;
pub mod backoff;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod consul;
pub mod docker;
mod exact;
pub mod heal;
pub mod host;
pub mod probe;
pub mod reconcile;
pub mod registration;
mod scrub;
pub mod telemetry;
pub mod template;
mod text;
