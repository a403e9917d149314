//! The only room that speaks Docker's API. May know `config` and `template`.
//!
//! * [`container`]: our snapshot of a container.
//! * [`port`]: the narrow trait that the rest uses ([`Engine`]), its errors and events.
//! * `engine`: the real implementation (bollard for the event stream and the facts of the engine; a tolerant reader for
//!   lists and inspect documents).
//! * `observe`: list and event stream as one state machine that yields [`Change`]s.

pub mod container;
pub mod port;

pub use container::{
    Binding, Container, ContainerId, Endpoint, Health, HealthStatus, Lens, NetworkMode, Port, Protocol, Sight, Signal,
    State,
};
pub use port::{DockerError, Engine, EngineInfo, Event, EventKind, EventStream, EventTime, Listing, Summary};
