//! What a container means in Consul. Pure: a container, its peers and the settings go in, services come out; no I/O, no
//! clock, no globals. May know `docker::container`, `consul::model` and `config`.
//!
//! One bad key costs what that key sets, and is told in a [`Note`]; it never costs the registration, nor another container's.
//!
//! * `verdict`: from what a container is doing to services, nothing, or holding on.
//! * `keys`, `metadata`: the grammar of `SERVICE_*` keys, and their precedence. `table` documents every key; `docs/labels.md`
//!   is checked against it.
//! * `filters`: which containers are published at all.
//! * `network`, `address`, `ports`: whose network stack it is, which ports are reached, and where.
//! * `names`, `tags`, `meta`: what a service is called and what is said about it.
//! * `docker_check`, `checks`, `probes`: the check that says what Docker says, and those that keys ask for.
//! * `services`: puts all of it together.
//! * `values`, `notes`: how values are read, and how what is wrong with them is told.

mod address;
mod checks;
mod docker_check;
mod filters;
mod keys;
mod meta;
mod metadata;
mod names;
mod network;
mod notes;
mod ports;
mod probes;
mod services;
#[cfg(test)]
mod table;
mod tags;
pub(crate) mod values;
mod verdict;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::config::Publish;
use crate::consul::{Service, Status};
use crate::docker::names::{Role, logical};
use crate::docker::{Container, NetworkMode, Sight};
use notes::Notes;

/// What the rules need to know besides the container.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The node's name: first part of every id, value of `remora-node`.
    pub node: String,
    /// The engine's id, first twelve characters: value of `remora-engine`.
    pub engine: String,
    /// The operator's settings. `publish.address` has been filled in: it is the address to advertise.
    pub publish: Publish,
    /// TTL of the `docker` checks.
    pub health_ttl: Option<std::time::Duration>,
}

/// What a container means in Consul.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// What should be registered.
    pub verdict: Verdict,
    /// What the author of the labels should know: bad keys, values that were left out, skipped ports.
    pub notes: Vec<Note>,
}

/// What should be registered for a container.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// These services, and no others.
    Services(Vec<Planned>),
    /// Nothing, and why: `not running (exited, code 0)`, `no published ports`.
    Nothing(String),
    /// It cannot be judged before this peer has been looked at: everything stays as it is until then.
    Wait {
        /// Its id or name.
        peer: String,
        /// Why it is needed.
        reason: String,
    },
    /// Whatever is registered for it now stays, with this status of its `docker` check: it has no ports at the moment, but
    /// it is expected back (restarting), or its failure is to stay visible.
    Hold {
        /// Critical, usually.
        status: Status,
        /// Why.
        output: String,
    },
}

/// One service with the reasons for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What to register: sealed, with its docker check first.
    pub service: Service,
    /// Field → the label, variable or rule that produced it: `address` → `REMORA_ADDRESS`.
    pub reasons: BTreeMap<&'static str, String>,
}

/// Something that the author of the labels, or the operator, should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The key or the port that it is about.
    pub about: String,
    /// What is wrong or worth knowing, and what is expected.
    pub text: String,
    /// Whether something was left out because of it.
    pub warning: bool,
}

/// Finds a container by full id or by name: the owner of a shared network stack.
pub trait Peers {
    /// The container, if the observation knows it.
    fn find(&self, id_or_name: &str) -> Option<Sight>;

    /// Whether Docker has said that there is no such container (any more). What is neither found nor gone is unknown.
    fn is_gone(&self, id_or_name: &str) -> bool;
}

/// The peers, by id or name, that [`register`] asks for when it judges this container: when one of them changes, this one
/// has to be judged again.
pub fn depends_on(container: &Container) -> impl Iterator<Item = &str> {
    let owner = match &container.network_mode {
        NetworkMode::Container(owner) => Some(owner.as_str()),
        _ => None,
    };
    let place = match logical(&container.name) {
        (name, Role::Staged) => Some(name),
        _ => None,
    };
    owner.into_iter().chain(place)
}

/// Why the operator's filters, or its own label, keep this container out, whatever it does: it may be another agent's.
#[must_use]
pub fn left_out(container: &Container, peers: &dyn Peers, settings: &Settings) -> Option<String> {
    let networks = network::stack(container, peers).ok();
    let enabled = filters::enabled(container, &mut Notes::default());
    filters::left_out(container, networks.as_deref(), &settings.publish, enabled)
}

/// The rules: what this container means in Consul.
#[must_use]
pub fn register(sight: &Sight, peers: &dyn Peers, settings: &Settings) -> Registration {
    let mut notes = Notes::default();
    let verdict = verdict::judge(sight, peers, settings, &mut notes);
    Registration { verdict, notes: notes.into_list() }
}
