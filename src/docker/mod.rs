//! The only room that speaks Docker's API. May know `config` and `template`.
//!
//! * `allowed`: which calls a filtering proxy in front of the engine refuses.
//! * [`container`]: our snapshot of a container.
//! * [`port`]: the narrow trait that the rest uses ([`Engine`]), its errors and events.
//! * [`engine`]: the real implementation: bollard for the event stream, a tolerant reader ([`http`], [`list`],
//!   [`inspect`]) for everything else.
//! * [`control`]: the second narrow trait, for what changes something ([`Control`]), implemented in `hands`.
//! * [`ledger`]: what the observation knows and what it has to look at next; pure.
//! * [`names`]: what a container's name tells about a replacement under way.
//! * [`spec`]: from an inspect document to the calls that make another container like it; pure.
//! * [`observe`]: list and event stream as one state machine around the ledger; a second listener hears it raw ([`Heard`]).

mod allowed;
pub mod container;
pub mod control;
pub mod engine;
mod hands;
pub mod http;
pub mod inspect;
pub mod ledger;
mod life;
pub mod list;
mod listen;
mod logs;
pub mod names;
pub mod observe;
pub mod port;
pub mod spec;

pub use allowed::Denied;
pub use container::{
    Binding, COMPOSE_PROJECT, COMPOSE_SERVICE, Container, ContainerId, Endpoint, Health, HealthStatus, Lens, Life,
    NetworkMode, Port, ProbeTimes, Protocol, RestartName, RestartPolicy, Sight, Signal, State,
};
pub use control::{Control, Document, Trouble, classify};
pub use engine::DockerEngine;
pub use http::SetupError;
pub use ledger::{Change, Seen};
pub use listen::Heard;
pub use port::{DockerError, Engine, EngineInfo, Event, EventKind, EventStream, EventTime, Listing, Summary, existing};
