//! What stands in the catalog: nodes, services and checks, as a transaction writes and answers them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;

use crate::consul::meta::Meta;
use crate::consul::model::{Status, Weights};
use crate::text::Texts;

/// A node of the catalog. A write replaces all of it: meta that are not sent are erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeRow {
    /// Case-insensitive.
    pub name: String,
    /// An IP address or a name; not needed to delete it.
    pub address: String,
    /// Anything; Consul 1.8 does not check it.
    pub meta: BTreeMap<String, String>,
}

/// A service on a node. A write replaces all of it, and erases its tagged addresses: a transaction cannot carry those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceRow {
    /// The node that it is on.
    pub node: ArcStr,
    /// Case-insensitive on its node.
    pub id: ArcStr,
    /// Needed also to delete it.
    pub name: ArcStr,
    /// May be empty.
    pub address: ArcStr,
    /// 0 for none.
    pub port: u16,
    /// In order.
    pub tags: Arc<[ArcStr]>,
    /// At most 64 pairs.
    pub meta: Meta,
    /// `None` leaves Consul's 1 and 1.
    pub weights: Option<Weights>,
    /// Others may change its tags.
    pub enable_tag_override: bool,
}

/// A check of a service, or of a whole node. A write replaces all of it: without notes and definition these are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRow {
    /// The node that it is on.
    pub node: ArcStr,
    /// Case-insensitive on its node, whatever service it belongs to.
    pub id: ArcStr,
    /// Title of its card in Consul's UI.
    pub name: ArcStr,
    /// Not needed to delete it.
    pub status: Status,
    /// What it is.
    pub notes: ArcStr,
    /// The catalog bounds nothing: whoever sends it does.
    pub output: ArcStr,
    /// Id and name of its service; `None`: it is about the whole node.
    pub service: Option<(ArcStr, ArcStr)>,
    /// `http`, `ttl`…; Consul up to now drops it in a transaction.
    pub kind: ArcStr,
    /// How it is asked; `None`: nothing is set.
    pub definition: Option<Box<Definition>>,
}

impl CheckRow {
    /// Shares its texts with those that are kept anyway.
    pub(in crate::consul) fn share(&mut self, texts: &mut Texts) {
        let Self { node, id, name, status: _, notes, output, service, kind, definition: _ } = self;
        let of_service = service.iter_mut().flat_map(|(id, name)| [id, name]);
        [node, id, name, notes, output, kind].into_iter().chain(of_service).for_each(|text| texts.share(text));
    }

    /// A check about a whole node, without notes and definition.
    #[must_use]
    pub fn of_node(node: &str, id: &str, name: &str, status: Status, output: &str) -> Self {
        Self {
            node: node.into(),
            id: id.into(),
            name: name.into(),
            status,
            notes: ArcStr::new(),
            output: output.into(),
            service: None,
            kind: ArcStr::new(),
            definition: None,
        }
    }
}

/// How a check is asked, for whoever looks at it. Empty and zero are "not set". Headers and body are never in it: the
/// catalog is open to readers for whom a password in them is not meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// A URL.
    pub http: String,
    /// `GET` when empty.
    pub method: String,
    /// `host:port`.
    pub tcp: String,
    /// `host:port[/service]`; dropped by a transaction of Consul 1.8.
    pub grpc: String,
    /// Over TLS.
    pub grpc_use_tls: bool,
    /// The certificate is not verified.
    pub tls_skip_verify: bool,
    /// Between two probes.
    pub interval: Duration,
    /// Of one probe.
    pub timeout: Duration,
    /// Nobody in Consul acts on it in a catalog without an agent.
    pub deregister_after: Duration,
}

impl Definition {
    /// `None` when nothing is set.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}
