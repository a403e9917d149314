//! The node in the catalog: whose it is, and how ours looks.

use std::collections::BTreeMap;

use super::view::View;
use crate::consul::client::Client;
use crate::consul::error::ConsulError;
use crate::consul::meta::Meta;
use crate::consul::model::{Service, Status};
use crate::consul::txn::{CheckRow, NodeRow, Op, ServiceRow, Write, split};

/// The id of the check about the whole node. While it is critical, all that is registered on the node is; a node without
/// any such check counts as healthy for ever.
pub const NODE_CHECK: &str = "remora-node";

/// Title of its card in Consul's UI.
pub(in crate::consul) const NODE_CHECK_NAME: &str = "Remora on this node";

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    name: String,
    address: String,
    engine: String,
}

impl NodeIdentity {
    /// The node `name` (`REMORA_NODE`) with its advertised address, and the id of its Docker engine. Node names are
    /// case-insensitive in the catalog: there is one spelling of it, the small one.
    #[must_use]
    pub fn new(name: &str, address: &str, engine: &str) -> Self {
        Self { name: name.to_lowercase(), address: address.to_owned(), engine: engine.to_owned() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The id of its Docker engine.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// What every node of ours says of itself. Not `external-node`: a consul-esm of the cluster would run the checks that Remora runs.
    #[must_use]
    pub fn meta(&self) -> BTreeMap<String, String> {
        let pairs = [(Service::META_OWNER, "remora"), (Service::META_ENGINE, self.engine.as_str())];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The check about the whole node.
    #[must_use]
    pub fn check(&self, status: Status, output: &str) -> CheckRow {
        CheckRow::of_node(&self.name, NODE_CHECK, NODE_CHECK_NAME, status, output)
    }

    /// Whether the node that was read may be written to.
    ///
    /// Ours is what carries our mark. Besides, what another engine left behind that is known to be dead (its node check is
    /// critical: this host's own past, or nobody's any more), and a node without any meta on which there is nothing but
    /// registrations of this engine: a registration with tagged addresses makes such a one when the node was removed at
    /// that moment.
    pub(super) fn owns(&self, view: &View) -> Result<(), ConsulError> {
        let Some((node, _)) = &view.node else { return Ok(()) };
        let meta = |key: &str| node.meta.get(key).map(String::as_str);
        let whose = match (meta(Service::META_OWNER), meta(Service::META_ENGINE)) {
            (Some("remora"), Some(engine)) if engine == self.engine => return Ok(()),
            (Some("remora"), Some(engine)) => {
                let dead = view.checks.get(NODE_CHECK).is_some_and(|(check, _)| check.status == Status::Critical);
                if dead {
                    return Ok(());
                }
                format!("it is that of the Docker engine {engine}: two hosts with one name?")
            }
            _ => {
                let bare = node.meta.is_empty() && view.checks.values().all(|(check, _)| check.service.is_some());
                let ours = view.services.values().all(|(service, _)| {
                    service.meta.get(Service::META_OWNER) == Some("remora")
                        && service.meta.get(Service::META_ENGINE) == Some(self.engine.as_str())
                });
                if bare && ours && !view.services.is_empty() {
                    return Ok(());
                }
                format!(
                    "it has no {}=remora with this agent's {} in its meta",
                    Service::META_OWNER,
                    Service::META_ENGINE
                )
            }
        };
        Err(ConsulError::NotOurs { node: self.name.clone(), whose })
    }

    /// What has to be written so that the node is there and looks like ours. Meta that others added stay.
    pub(super) fn ensure(&self, view: &View) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut row = NodeRow { name: self.name.clone(), address: self.address.clone(), meta: self.meta() };
        match &view.node {
            None => ops.push(Op::Node(Write::Cas(0), row)),
            Some((node, index)) => {
                let mut meta = node.meta.clone();
                meta.append(&mut row.meta);
                if meta != node.meta || row.address != node.address {
                    ops.push(Op::Node(Write::Cas(*index), NodeRow { meta, ..row }));
                }
            }
        }
        if !view.checks.contains_key(NODE_CHECK) {
            ops.push(Op::Check(Write::Cas(0), self.check(Status::Passing, "registered")));
        }
        ops
    }

    /// Removes what is ours: the whole node with everything on it, and its sessions; where somebody else has registered
    /// something on it, only what carries our mark, and the node stays. `false`: the node stays, or there is none.
    ///
    /// Compares with the indexes of a fresh look; whoever registers something on the node in the moment between loses it.
    ///
    /// # Errors
    /// [`ConsulError`]; [`ConsulError::NotOurs`] and nothing happens when it is somebody else's.
    pub async fn remove(&self, client: &Client) -> Result<bool, ConsulError> {
        let view = super::read::look(client, self).await?;
        let Some((node, index)) = &view.node else { return Ok(false) };
        self.owns(&view)?;
        let ours = |meta: &Meta| {
            meta.get(Service::META_OWNER).is_some_and(|owner| owner == "remora")
                && meta.get(Service::META_ENGINE).is_none_or(|engine| engine == self.engine)
        };
        let alone = view.services.values().all(|(service, _)| ours(&service.meta));
        if alone {
            let ops = [Op::Node(Write::DeleteCas(*index), NodeRow { name: node.name.clone(), ..NodeRow::default() })];
            client.transact(&ops).await?.written(&ops)?;
            return Ok(true);
        }
        let ops: Vec<Op> = view
            .services
            .values()
            .filter(|(service, _)| ours(&service.meta))
            .map(|(service, index)| {
                let (id, name) = (service.id.clone(), service.name.clone());
                let row = ServiceRow { node: self.name.as_str().into(), id, name, ..ServiceRow::default() };
                Op::Service(Write::DeleteCas(*index), row)
            })
            .collect();
        for part in split(&ops) {
            client.transact(part).await?.written(part)?;
        }
        Ok(false)
    }
}
