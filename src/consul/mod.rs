//! The only room that speaks Consul's API. May know `config`.
//!
//! * [`model`]: the values.
//! * [`registry`]: the port that reconciling uses; [`agent`] implements it for a Consul client agent on the node.
//! * [`client`]: transport, authentication, time-outs, error classes.

pub mod error;
pub mod model;
pub mod registry;

pub use error::{Class, ConsulError};
pub use model::{
    ActualCheck, ActualService, Check, CheckKind, CheckTls, Probe, Service, Snapshot, Status, TaggedAddress, Weights,
};
pub use registry::Registry;
