//! What is on our node in the catalog, row by row with the indexes that compare-and-set needs. Pure.
//!
//! It is made by a read, and followed up by our own writes, so that a write after a write need not read again. Keys are
//! lower-case: the catalog does not tell `Web` from `web`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arcstr::ArcStr;

use crate::consul::error::ConsulError;
use crate::consul::model::{ActualCheck, ActualService, Snapshot};
use crate::consul::txn::{CheckRow, NodeRow, Op, ServiceRow, Write, Written};
use crate::consul::wire::{NodeServices, Rows};
use crate::exact::exact;
use crate::text::{Texts, lower};

/// The rows of one node.
#[derive(Debug, Default)]
pub(in crate::consul) struct View {
    pub(super) node: Option<(NodeRow, u64)>,
    /// Their `checks` are those of the last read, and not looked at here.
    pub(super) services: HashMap<ArcStr, (Arc<ActualService>, u64)>,
    /// Of services and of the node. In order, so that those of a service are found among ten thousand.
    pub(super) checks: BTreeMap<ArcStr, (CheckRow, u64)>,
    /// What we deleted, with the index that it had: an answer that still shows it is an older one.
    pub(super) gone: HashMap<(Kind, ArcStr), u64>,
}

/// So many deletions are remembered from one look to the next. What is forgotten costs a look at worst.
const GONE: usize = 1_024;

/// How a row is found.
pub(super) fn key(id: &ArcStr) -> ArcStr {
    lower(id)
}

impl View {
    /// The rows of two answers, as a view, and as the picture that reconciling compares with. What is the same in an older
    /// picture is taken from there.
    pub(super) fn new(
        read: &NodeServices<'_>,
        checks: Vec<(CheckRow, u64)>,
        older: &Snapshot,
    ) -> Result<(Self, Snapshot), ConsulError> {
        let mut of_service: HashMap<ArcStr, Vec<&CheckRow>> = HashMap::new();
        for (check, _) in &checks {
            // What is about the whole node is no check of a service.
            if let Some((id, _)) = &check.service {
                of_service.entry(key(id)).or_default().push(check);
            }
        }
        let mut snapshot = Snapshot::default();
        let mut services = HashMap::new();
        for service in read.services() {
            let (mut service, index) = service?;
            let its = of_service.remove(&key(&service.id)).unwrap_or_default().into_iter();
            let check = |it: &CheckRow| (it.id.clone(), ActualCheck { status: it.status, output: it.output.clone() });
            service.checks = exact(its.map(check).collect());
            let same = older.services.get(&service.id).filter(|older| ***older == service);
            let service = same.map_or_else(|| Arc::new(service), Arc::clone);
            snapshot.services.insert(service.id.clone(), Arc::clone(&service));
            services.insert(key(&service.id), (service, index));
        }
        let checks = checks.into_iter().map(|row| (key(&row.0.id), row)).collect();
        Ok((Self { node: read.node.clone(), services, checks, gone: HashMap::new() }, snapshot))
    }

    /// The texts that it has.
    pub(super) fn texts(&self) -> Texts {
        let mut texts = Texts::default();
        let checks = self.services.values().flat_map(|(service, _)| service.checks.keys());
        let ids = self.services.values().flat_map(|(service, _)| [&service.id, &service.name]).chain(checks);
        ids.for_each(|text| texts.share(&mut text.clone()));
        for (check, _) in self.checks.values() {
            check.clone().share(&mut texts);
        }
        texts
    }

    /// Takes the services of a picture in the place of those that are the same here: one copy of each is enough.
    pub(super) fn keep(&mut self, snapshot: &Snapshot) {
        let same = |kept: &ActualService, here: &ActualService| {
            *kept == ActualService { checks: kept.checks.clone(), ..here.clone() }
        };
        let services = std::mem::take(&mut self.services).into_values().map(|(service, index)| {
            let kept = snapshot.services.get(&service.id).filter(|kept| same(kept, &service));
            let service = kept.map_or(service, Arc::clone);
            (key(&service.id), (service, index))
        });
        self.services = services.collect();
        // And the texts of the checks are those of their services.
        let mut texts = self.texts();
        let checks = std::mem::take(&mut self.checks).into_values().map(|(mut check, index)| {
            check.share(&mut texts);
            (key(&check.id), (check, index))
        });
        self.checks = checks.collect();
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
                let near = self.checks.range(service.clone()..).take_while(|(id, _)| id.starts_with(&*service));
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
    pub(super) fn is_news(&self, kind: Kind, node: Option<u64>, rows: &Rows, index: u64) -> bool {
        let known = |id: &str| {
            let here = match kind {
                Kind::Services => self.services.get(id).map(|(_, index)| *index),
                Kind::Checks => self.checks.get(id).map(|(_, index)| *index),
            };
            here.or_else(|| self.gone.get(&(kind, id.into())).copied())
        };
        let ids: HashMap<&str, u64> = rows.iter().collect();
        let newer = ids.iter().any(|(id, index)| known(id).is_none_or(|known| known < *index));
        let gone = |(id, known): (&ArcStr, u64)| known <= index && !ids.contains_key(id.as_str());
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
        meta: row.meta,
        weights: (weights.passing, weights.warning),
        enable_tag_override: row.enable_tag_override,
        ..ActualService::default()
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
