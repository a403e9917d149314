//! From the inspect document of a container to the calls that make another one like it. Pure: documents go in, bodies come out.
//!
//! The base rule is "send back what inspect says", with the *raw* document, so that fields which this version does not know travel
//! too. Everything here is about the places where that would not give the same container; the numbers in the comments and
//! tests (`case 16`) count these places through.
//!
//! * `clone`: puts a clone together. `identity`: host name, entry point, image. `mounts`: volumes. `networks`: places in networks,
//!   shared namespaces, links. `ports`: what is exposed and published.
//! * `marks`: the labels that an operation writes.
//! * `compare`, `view`: whether a clone has become what it should be.
//! * `order`: whether two of a kind can run side by side.
//! * `json`: reading raw documents.
//!
//! A raw document holds the container's environment. It is held as long as an operation needs it, and never shown: no type of this
//! room prints what came out of one.

mod clone;
mod compare;
mod identity;
mod json;
mod marks;
mod mounts;
mod networks;
mod order;
mod ports;
#[cfg(test)]
mod testing;
mod view;

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

pub use clone::clone_of;
pub use compare::{Difference, differences};
pub use identity::image_reference;
pub use marks::{Marks, is_mark, restart_policy, written_restart_policy};
pub use mounts::has_anonymous_volumes;
pub use order::stop_first_reasons;

/// The labels that an operation writes on the container that it makes.
pub mod label {
    /// The operation's number.
    pub const OP: &str = "remora.heal.op";
    /// The plain name.
    pub const NAME: &str = "remora.heal.name";
    /// Full ids of the former containers in this place, the newest first, separated by commas.
    pub const REPLACES: &str = "remora.heal.replaces";
    /// How many replacements there have been.
    pub const GENERATION: &str = "remora.heal.generation";
    /// The order of the operation. Not `remora.heal.order`: that is the operator's wish, which has to outlive every generation.
    pub const ORDER: &str = "remora.heal.op-order";
    /// Why it was replaced.
    pub const CAUSE: &str = "remora.heal.cause";
    /// Since when.
    pub const SINCE: &str = "remora.heal.since";
    /// Who replaced it.
    pub const BY: &str = "remora.heal.by";
    /// JSON of the restart policy that it gets once it is settled.
    pub const RESTART_POLICY: &str = "remora.heal.restart-policy";
    /// The image as it was asked for in the first place.
    pub const IMAGE: &str = "remora.heal.image";
    /// Names of anonymous volumes that were taken over: as they are mounted by name now, nothing else tells that they may be
    /// removed with the last container that uses them.
    pub const ANONYMOUS: &str = "remora.heal.anonymous";
    /// Set by the *operator*: the address of the hardware that was asked for. Engines from API 1.52 on do not tell.
    pub const MAC: &str = "remora.heal.mac";
}

/// Every label that an operation writes; all of them are rewritten by the next one. Any other `remora.heal.*` is the operator's.
pub const OPERATION_LABELS: [&str; 11] = [
    label::OP,
    label::NAME,
    label::REPLACES,
    label::GENERATION,
    label::ORDER,
    label::CAUSE,
    label::SINCE,
    label::BY,
    label::RESTART_POLICY,
    label::IMAGE,
    label::ANONYMOUS,
];

/// A version of the engine's API: `1.41`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The number before the point.
    pub major: u16,
    /// The number behind it.
    pub minor: u16,
}

impl ApiVersion {
    /// All places in networks are given in the create call, each with its own hardware address.
    pub(crate) const ALL_ENDPOINTS: Self = Self { major: 1, minor: 44 };
}

impl FromStr for ApiVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (major, minor) = text.trim().split_once('.')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        read().ok_or_else(|| format!("expected a version of Docker's API, such as 1.41, got {text:?}"))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What is cloned, and what has to be known of the engine.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// `GET /containers/{id}/json`, the raw document.
    pub container: &'a Value,
    /// `GET /images/{id}/json` of the container's `Image`; `None` if the engine does not have it any more.
    pub image: Option<&'a Value>,
    /// The image id that [`image_reference`] resolves to right now; `None` if it resolves to nothing.
    pub tag: Option<&'a str>,
    /// The highest version that the engine speaks; the create call has to be made with it.
    pub api: ApiVersion,
    /// The node's own host name, as the engine says it (`Name` of `GET /info`).
    pub node: Option<&'a str>,
}

/// What becomes of anonymous volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Volumes {
    /// The clone gets the same volumes, with their data.
    #[default]
    Adopt,
    /// The clone gets new, empty ones.
    Fresh,
}

/// How to clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// `remora.heal.volumes`.
    pub volumes: Volumes,
    /// `remora.heal.pin-ports`: random ports of the host stay the numbers that they are now. Only where the old container is
    /// stopped first.
    pub pin_ports: bool,
}

/// The calls that make a clone.
#[derive(Clone, PartialEq)]
pub struct CloneSpec {
    /// The staged name: `?name=` of `POST /containers/create`.
    pub name: String,
    /// The body of that call.
    pub body: Value,
    /// Further networks, to be connected between create and start, each with its `EndpointConfig` ([`Self::connect_body`]).
    pub connect: Vec<(String, Value)>,
    /// `?platform=` of the create call.
    pub platform: Option<String>,
    /// What the clone will not have, one sentence each.
    pub warnings: Vec<String>,
}

impl CloneSpec {
    /// The body of `POST /networks/{network}/connect` for this container and one entry of [`Self::connect`].
    #[must_use]
    pub fn connect_body(container: &str, endpoint: &Value) -> Value {
        json!({"Container": container, "EndpointConfig": endpoint})
    }

    /// The volumes that the clone mounts by name. The engine makes those that are missing, silently and empty: whoever creates the
    /// clone has to see first that they are there.
    #[must_use]
    pub fn volumes(&self) -> Vec<&str> {
        mounts::named_volumes(json::at(&self.body, "HostConfig"))
    }
}

/// Bodies hold the environment: only what is around them is shown.
impl fmt::Debug for CloneSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<_> = self.connect.iter().map(|(network, _)| network).collect();
        f.debug_struct("CloneSpec")
            .field("name", &self.name)
            .field("connect", &networks)
            .field("platform", &self.platform)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Why a container cannot be replaced by one like it; restarting it in place is what remains.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclonable {
    /// The document is not one of a container.
    #[error("the engine's document about it has no readable {field}")]
    Unreadable {
        /// What is missing.
        field: &'static str,
    },
    /// `--rm`.
    #[error("it was made with --rm: once stopped it is gone, and there would be nothing to go back to")]
    AutoRemove,
    /// A task of Docker Swarm.
    #[error("it is a task of Docker Swarm: its secrets and configs cannot be asked for by a create call")]
    Swarm,
    /// A container of another operating system.
    #[error("it is a container of {platform}: only those of Linux can be cloned")]
    Platform {
        /// Its platform.
        platform: String,
    },
    /// A mount that no create call gives.
    #[error("what is mounted at {target} (a mount of type {kind}) cannot be asked for by a create call")]
    Mount {
        /// Where.
        target: String,
        /// Docker's word for what it is.
        kind: String,
    },
    /// Not in any network.
    #[error("it has been disconnected from every network, and a create call always connects to one")]
    NoNetwork,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("1.9") < version("1.41"), "a number, not a text");
        assert!(version("1.44") >= ApiVersion::ALL_ENDPOINTS);
        assert_eq!(version("1.41").to_string(), "1.41");
        for wrong in ["", "1", "v1.41", "1.x", "1.41.2"] {
            assert!(wrong.parse::<ApiVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let body = json!({"Env": ["PASSWORD=canary-secret"]});
        let connect = vec![("net".to_owned(), json!({"DriverOpts": {"key": "canary-secret"}}))];
        let spec = CloneSpec { name: "web".to_owned(), body, connect, platform: None, warnings: Vec::new() };
        assert!(!format!("{spec:?}").contains("canary-secret"));
    }
}
