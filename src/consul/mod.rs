//! The only room that speaks Consul's API. May know `config` and `telemetry`.
//!
//! * [`model`]: the values.
//! * [`registry`]: the port that reconciling uses; [`agent`] implements it for a Consul client agent on the node,
//!   [`catalog`] for a node without one, [`either`] for whichever was chosen.
//! * [`store`]: the port that agreeing with other agents and with operators uses (KV, sessions); [`kv`] implements it.
//! * [`members`]: the port that looking after each other's nodes uses.
//! * [`txn`]: several writes at once, together or not at all.
//! * [`client`]: transport, authentication, time-outs; [`error`]: what can go wrong, classed by what to do about it.
//! * [`facts`]: what an agent says about itself, its cluster and our rights.
//! * [`tls`]: the one TLS provider of the process, and whom to trust.
//! * `token`: where the ACL token comes from; `classify`: status and body → error; `wire`: requests and answers as JSON.
//!
//! Why an own client: no crate knows the hash-blocking query, token files or Consul's error texts, and about ten
//! endpoints are all that is needed. Requests hold no field that Consul 1.8 does not know unless a label asked for it,
//! because Consul refuses a body with an unknown field; answers may hold anything, and only what is read must make sense.

pub mod agent;
pub mod catalog;
mod classify;
pub mod client;
pub mod either;
pub mod error;
pub mod facts;
pub mod kv;
pub mod members;
mod meta;
pub mod model;
pub mod registry;
pub mod store;
mod strays;
pub mod tls;
mod token;
pub mod txn;
mod wire;

pub use agent::AgentRegistry;
pub use catalog::CatalogRegistry;
pub use client::{Client, ClientError};
pub use either::EitherRegistry;
pub use error::{Class, ConsulError};
pub use facts::{AgentFacts, Right};
pub use kv::KvStore;
pub use members::{ClusterClient, Members};
pub use meta::Meta;
pub use model::{
    ActualCheck, ActualService, Check, CheckKind, CheckTls, ConsulSeen, Probe, Service, Snapshot, Status,
    TaggedAddress, Weights,
};
pub use registry::Registry;
pub use store::{Entry, InstanceCheck, InstanceHealth, Listing, Store};
