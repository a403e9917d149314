//! The series of the cluster of agents.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::NodeState;
use super::metrics::{Metrics, plain, set};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: NodeState,
}

#[derive(Debug)]
pub(super) struct Cluster {
    leader: Gauge,
    nodes: Family<ByState, Gauge>,
}

impl Cluster {
    pub(super) fn new(r: &mut Registry) -> Self {
        let nodes = Family::default();
        for state in NodeState::ALL.iter().copied() {
            drop(nodes.get_or_create(&ByState { state }));
        }
        Self {
            leader: plain(
                r,
                "cluster_leader",
                "1 while this agent looks after the nodes of all agents that have no Consul agent",
                Gauge::default(),
            ),
            nodes: plain(
                r,
                "cluster_nodes",
                "Nodes of agents that have no Consul agent, as the leader sees them; 0 on all others. Vanished: not heard of, and not marked (yet)",
                nodes,
            ),
        }
    }
}

impl Metrics {
    /// Whether this agent is the leader.
    pub fn cluster_leader(&self, leader: bool) {
        self.cluster().leader.set(i64::from(leader));
    }

    /// How many nodes are present, have vanished and are not marked, and are marked as gone.
    pub fn cluster_nodes(&self, present: usize, vanished: usize, gone: usize) {
        for (state, count) in [(NodeState::Present, present), (NodeState::Vanished, vanished), (NodeState::Gone, gone)]
        {
            set(&self.cluster().nodes.get_or_create(&ByState { state }), count);
        }
    }
}
