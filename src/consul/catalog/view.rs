//! What is on our node in the catalog, row by row with the indexes that compare-and-set needs. Pure.
//!
//! It is made by a read, and followed up by our own writes, so that a write after a write need not read again. Keys are
//! lower-case: the catalog does not tell `Web` from `web`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::consul::model::{ActualCheck, ActualService, Snapshot};
use crate::consul::txn::{CheckRow, NodeRow, Op, ServiceRow, Write, Written};
use crate::consul::wire::NodeServices;

/// The rows of one node.
#[derive(Debug, Default)]
pub(in crate::consul) struct View {
    pub(super) node: Option<(NodeRow, u64)>,
    /// Their `checks` are those of the last read, and not looked at here.
    pub(super) services: HashMap<String, (Arc<ActualService>, u64)>,
    /// Of services and of the node. In order, so that those of a service are found among ten thousand.
    pub(super) checks: BTreeMap<String, (CheckRow, u64)>,
    /// What we deleted, with the index that it had: an answer that still shows it is an older one.
    pub(super) gone: HashMap<(Kind, String), u64>,
}

/// So many deletions are remembered from one look to the next. What is forgotten costs a look at worst.
const GONE: usize = 1_024;

/// How a row is found.
pub(super) fn key(id: &str) -> String {
    id.to_lowercase()
}

impl View {
    /// The rows of two answers, as a view, and as the picture that reconciling compares with. What is the same in an older
    /// picture is taken from there.
    pub(super) fn new(read: NodeServices, checks: Vec<(CheckRow, u64)>, older: &Snapshot) -> (Self, Snapshot) {
        let checks: BTreeMap<String, (CheckRow, u64)> = checks.into_iter().map(|row| (key(&row.0.id), row)).collect();
        let mut of_service: HashMap<String, Vec<&CheckRow>> = HashMap::new();
        for (check, _) in checks.values() {
            // What is about the whole node is no check of a service.
            if let Some((id, _)) = &check.service {
                of_service.entry(key(id)).or_default().push(check);
            }
        }
        let mut snapshot = Snapshot::default();
        let mut services = HashMap::new();
        for (mut service, index) in read.services {
            let row = key(&service.id);
            let its = of_service.remove(&row).unwrap_or_default().into_iter();
            service.checks = its
                .map(|check| (check.id.clone(), ActualCheck { status: check.status, output: check.output.clone() }))
                .collect();
            let same = older.services.get(&service.id).filter(|older| ***older == service);
            let service = same.map_or_else(|| Arc::new(service), Arc::clone);
            snapshot.services.insert(service.id.clone(), Arc::clone(&service));
            services.insert(row, (service, index));
        }
        (Self { node: read.node, services, checks, gone: HashMap::new() }, snapshot)
    }

    /// Takes over what an older view remembers.
    pub(super) fn remember(&mut self, older: &mut Self) {
        if older.gone.len() <= GONE {
            self.gone = std::mem::take(&mut older.gone);
        }
    }

    /// Follows a transaction that happened. `false`: Consul's answer does not fit it, so that the view is not to be
    /// believed any more.
    pub(super) fn apply(&mut self, ops: Vec<Op>, written: Vec<Written>) -> bool {
        let mut written = written.into_iter();
        for op in ops {
            let index = match (&op, is_delete(&op)) {
                (_, true) => 0,
                (Op::Node(..), _) => match written.next() {
                    Some(Written::Node { index, .. }) => index,
                    _ => return false,
                },
                (Op::Service(_, row), _) => match written.next() {
                    Some(Written::Service { id, index }) if id == row.id => index,
                    _ => return false,
                },
                (Op::Check(_, row), _) => match written.next() {
                    Some(Written::Check { id, index }) if id == row.id => index,
                    _ => return false,
                },
                (Op::Kv(..), _) => continue,
            };
            self.follow(op, index);
        }
        written.next().is_none()
    }

    fn follow(&mut self, op: Op, index: u64) {
        let delete = is_delete(&op);
        match op {
            Op::Node(_, _) if delete => *self = Self::default(),
            Op::Node(_, row) => self.node = Some((row, index)),
            Op::Service(_, row) if delete => {
                let service = key(&row.id);
                // Our checks begin with the id of their service. Another one goes with it too: that the next answer lacks it is
                // news, and costs a look.
                let of_it = |check: &CheckRow| check.service.as_ref().is_some_and(|(id, _)| key(id) == service);
                let near = self.checks.range(service.clone()..).take_while(|(id, _)| id.starts_with(&service));
                let its = near.filter(|(_, (check, _))| of_it(check)).map(|(id, _)| id.clone()).collect::<Vec<_>>();
                for id in its {
                    if let Some((id, (_, index))) = self.checks.remove_entry(&id) {
                        self.gone.insert((Kind::Checks, id), index);
                    }
                }
                if let Some((_, index)) = self.services.remove(&service) {
                    self.gone.insert((Kind::Services, service), index);
                }
            }
            Op::Service(_, row) => {
                self.services.insert(key(&row.id), (Arc::new(actual(row)), index));
            }
            Op::Check(_, row) if delete => {
                let id = key(&row.id);
                if let Some((_, index)) = self.checks.remove(&id) {
                    self.gone.insert((Kind::Checks, id), index);
                }
            }
            Op::Check(_, row) => {
                self.checks.insert(key(&row.id), (row, index));
            }
            Op::Kv(..) => {}
        }
    }

    /// Whether an answer shows what this view does not know: rows that are newer, rows that it has not, rows that are not
    /// there any more. `index` is that of the answer; a row of ours that is younger was written after it.
    pub(super) fn is_news(&self, kind: Kind, node: Option<u64>, rows: &[(String, u64)], index: u64) -> bool {
        let known = |id: &String| {
            let here = match kind {
                Kind::Services => self.services.get(id).map(|(_, index)| *index),
                Kind::Checks => self.checks.get(id).map(|(_, index)| *index),
            };
            here.or_else(|| self.gone.get(&(kind, id.clone())).copied())
        };
        let ids: HashMap<String, u64> = rows.iter().map(|(id, index)| (key(id), *index)).collect();
        let newer = ids.iter().any(|(id, index)| known(id).is_none_or(|known| known < *index));
        let gone = |(id, known): (&String, u64)| known <= index && !ids.contains_key(id);
        let gone = match kind {
            Kind::Services => self.services.iter().any(|(id, (_, known))| gone((id, *known))),
            Kind::Checks => self.checks.iter().any(|(id, (_, known))| gone((id, *known))),
        };
        let of_node = kind == Kind::Services
            && match (&self.node, node) {
                (Some((_, known)), Some(now)) => now > *known,
                (Some((_, known)), None) => *known <= index,
                (None, now) => now.is_some(),
            };
        newer || gone || of_node
    }
}

/// Which of the two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Services,
    Checks,
}

fn is_delete(op: &Op) -> bool {
    let (Op::Node(write, _) | Op::Service(write, _) | Op::Check(write, _)) = op else { return false };
    matches!(write, Write::Delete | Write::DeleteCas(_))
}

fn actual(row: ServiceRow) -> ActualService {
    let weights = row.weights.unwrap_or_default();
    ActualService {
        id: row.id,
        name: row.name,
        address: row.address,
        port: row.port,
        tags: row.tags,
        meta: row.meta.into_iter().collect(),
        weights: (weights.passing, weights.warning),
        enable_tag_override: row.enable_tag_override,
        ..ActualService::default()
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
