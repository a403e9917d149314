//! What one request costs: the operations that make it so, none where it is so already. Pure.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::node::{NODE_CHECK, NodeIdentity};
use super::view::{View, key};
use crate::consul::error::ConsulError;
use crate::consul::model::{ActualService, Check, CheckKind, Service, Status, TaggedAddress};
use crate::consul::txn::{CheckRow, Definition, Op, ServiceRow, Write};

/// An output that changes while the status stays is written at most so often: an agent of Consul waits as long
/// (`check_update_interval`), and each write wakes everybody who watches the service.
pub(super) const OUTPUT_EVERY: Duration = Duration::from_secs(300);

/// What somebody asks the catalog to be.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// This service with these checks.
    Register(Box<Service>),
    /// No service of this id.
    Deregister(ArcStr),
    /// This status and output of a service's check.
    Update { id: ArcStr, status: Status, output: ArcStr },
    /// No check of this id.
    Remove(ArcStr),
    /// This status and output of the check about the whole node.
    Node { status: Status, output: ArcStr },
}

impl Request {
    /// The rows that it touches (services and checks have names of their own): two requests about one row do not go into
    /// one transaction, because the second one needs the index that the first one makes.
    pub(super) fn rows(&self, view: &View) -> Vec<String> {
        let service = |id: &ArcStr| format!("s{}", key(id));
        let check = |id: &ArcStr| format!("c{}", key(id));
        match self {
            Self::Register(wanted) => {
                let checks = wanted.checks.iter().map(|it| check(&it.id));
                checks.chain([service(&wanted.id)]).collect()
            }
            Self::Deregister(id) => vec![service(id)],
            Self::Update { id, .. } | Self::Remove(id) => {
                let its = view.checks.get(&key(id)).and_then(|(it, _)| it.service.as_ref());
                its.map(|(of, _)| service(of)).into_iter().chain([check(id)]).collect()
            }
            Self::Node { .. } => vec![format!("c{NODE_CHECK}")],
        }
    }

    /// The call that errors name.
    pub(super) const fn call(&self) -> &'static str {
        match self {
            Self::Register(_) => "register in the catalog",
            Self::Deregister(_) => "deregister in the catalog",
            Self::Update { .. } | Self::Node { .. } => "update a check in the catalog",
            Self::Remove(_) => "remove a check in the catalog",
        }
    }

    /// Whether the node has to be there for it.
    pub(super) const fn needs_node(&self) -> bool {
        matches!(self, Self::Register(_) | Self::Node { .. })
    }
}

/// What a request comes to.
#[derive(Debug)]
pub(super) enum Plan {
    /// It is so already.
    Done,
    /// Only the output would change, and not yet.
    Later(Instant),
    /// In one transaction.
    Ops(Vec<Op>),
    /// By `PUT /v1/catalog/register`.
    Call(Box<Registration>),
    /// What it is about is not known here: look, and ask again.
    Unknown,
    /// It cannot be.
    Refused(ConsulError),
}

/// A registration that a transaction cannot carry.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) row: ServiceRow,
    pub(super) tagged: BTreeMap<ArcStr, TaggedAddress>,
    pub(super) checks: Vec<CheckRow>,
}

/// When the output of a check was last written without its status.
pub(super) type Outputs = HashMap<ArcStr, Instant>;

/// What makes `request` so. `looked`: the view is new, so what it does not show does not exist.
pub(super) fn plan(
    request: &Request,
    node: &NodeIdentity,
    view: &View,
    outputs: &Outputs,
    looked: bool,
    now: Instant,
) -> Plan {
    match request {
        Request::Register(wanted) => register(wanted, node, view),
        Request::Deregister(id) => match view.services.get(&key(id)) {
            // In another case it is another's: a row that has changed hands is not to be deleted.
            Some((actual, index)) if actual.id == *id => {
                let row = ServiceRow {
                    node: node.name().into(),
                    id: id.clone(),
                    name: actual.name.clone(),
                    ..ServiceRow::default()
                };
                Plan::Ops(vec![Op::Service(Write::DeleteCas(*index), row)])
            }
            None if !looked => Plan::Unknown,
            _ => Plan::Done,
        },
        Request::Update { id, status, output } => match view.checks.get(&key(id)) {
            Some((row, index)) if row.id == *id && row.service.is_some() => {
                update(row, *index, *status, output, outputs, now)
            }
            None if !looked => Plan::Unknown,
            _ => Plan::Refused(ConsulError::NotFound {
                call: request.call(),
                message: format!("there is no check {id} of a service on the node {}", node.name()),
            }),
        },
        Request::Remove(id) => match view.checks.get(&key(id)) {
            Some((row, index)) if row.id == *id && row.service.is_some() => {
                Plan::Ops(vec![Op::Check(Write::DeleteCas(*index), row.clone())])
            }
            None if !looked => Plan::Unknown,
            _ => Plan::Done,
        },
        Request::Node { status, output } => match view.checks.get(NODE_CHECK) {
            Some((row, index)) => update(row, *index, *status, output, outputs, now),
            // The operation that makes the node there makes this check too, as passing; this one goes behind it.
            None => Plan::Ops(vec![Op::Check(Write::Set, node.check(*status, output))]),
        },
    }
}

fn update(row: &CheckRow, index: u64, status: Status, output: &ArcStr, outputs: &Outputs, now: Instant) -> Plan {
    if row.status == status {
        if row.output == *output {
            return Plan::Done;
        }
        if let Some(again) = outputs.get(&key(&row.id)).map(|last| *last + OUTPUT_EVERY).filter(|again| now < *again) {
            return Plan::Later(again);
        }
    }
    let row = CheckRow { status, output: output.clone(), ..row.clone() };
    Plan::Ops(vec![Op::Check(Write::Cas(index), row)])
}

fn register(wanted: &Service, node: &NodeIdentity, view: &View) -> Plan {
    let found = view.services.get(&key(&wanted.id));
    if let Some((actual, _)) = found.filter(|(actual, _)| actual.id != wanted.id) {
        let message = format!("the id {} is taken there in another case, as {}", wanted.id, actual.id);
        return Plan::Refused(ConsulError::Conflict { call: "register in the catalog", message });
    }
    let mut checks = Vec::new();
    for check in &wanted.checks {
        let mut row = row_of(check, wanted, node);
        let index = match view.checks.get(&key(&check.id)) {
            Some((seen, index)) => {
                let its = seen.service.as_ref().is_some_and(|(id, _)| key(id) == key(&wanted.id));
                if its {
                    // What is registered already keeps its status.
                    row.status = seen.status;
                    row.output.clone_from(&seen.output);
                    if same_check(seen, &row) {
                        continue;
                    }
                }
                *index
            }
            None => 0,
        };
        checks.push((index, row));
    }
    let row = row_of_service(wanted, node);
    let same = found.is_some_and(|(actual, _)| same_service(wanted, actual));
    if same && checks.is_empty() {
        return Plan::Done;
    }
    let tagged = tagged(wanted);
    if !same && !tagged.is_empty() {
        let checks = checks.into_iter().map(|(_, row)| row).collect();
        return Plan::Call(Box::new(Registration { row, tagged, checks }));
    }
    let service = (!same).then(|| Op::Service(Write::Cas(found.map_or(0, |(_, index)| *index)), row));
    let checks = checks.into_iter().map(|(index, row)| Op::Check(Write::Cas(index), row));
    Plan::Ops(service.into_iter().chain(checks).collect())
}

/// The tagged addresses that say more than the service's own address.
fn tagged(wanted: &Service) -> BTreeMap<ArcStr, TaggedAddress> {
    let own = (wanted.address.as_str(), wanted.port);
    let more = wanted.tagged_addresses.iter().filter(|(_, at)| (at.address.as_str(), at.port) != own);
    more.map(|(key, at)| (key.clone(), at.clone())).collect()
}

fn same_service(wanted: &Service, actual: &ActualService) -> bool {
    let weights = wanted.weights.unwrap_or_default();
    let tagged = tagged(wanted);
    wanted.id == actual.id
        && wanted.name == actual.name
        && wanted.address == actual.address
        && wanted.port == actual.port
        && wanted.tags == actual.tags
        && wanted.meta == actual.meta
        && (weights.passing, weights.warning) == actual.weights
        && wanted.enable_tag_override == actual.enable_tag_override
        && tagged.len() == actual.tagged_addresses.len()
        && tagged.iter().all(|(tag, at)| {
            actual.tagged_addresses.get(tag).is_some_and(|(address, port)| (address, *port) == (&at.address, at.port))
        })
}

/// Compares what comes back: Consul up to now drops the type and, in 1.8, what is asked over gRPC.
fn same_check(seen: &CheckRow, wanted: &CheckRow) -> bool {
    let comparable = |of: &Option<Box<Definition>>| {
        let of = of.as_deref().cloned().unwrap_or_default();
        Definition { grpc: String::new(), grpc_use_tls: false, ..of }
    };
    (&seen.id, &seen.name, &seen.notes, &seen.service) == (&wanted.id, &wanted.name, &wanted.notes, &wanted.service)
        && comparable(&seen.definition) == comparable(&wanted.definition)
}

fn row_of_service(wanted: &Service, node: &NodeIdentity) -> ServiceRow {
    ServiceRow {
        node: node.name().into(),
        id: wanted.id.clone(),
        name: wanted.name.clone(),
        address: wanted.address.clone(),
        port: wanted.port,
        tags: wanted.tags.clone(),
        meta: wanted.meta.clone(),
        weights: wanted.weights,
        enable_tag_override: wanted.enable_tag_override,
    }
}

/// A check as it is when it is new: with its first status, and without an output.
fn row_of(check: &Check, service: &Service, node: &NodeIdentity) -> CheckRow {
    let mut definition =
        Definition { deregister_after: check.deregister_after.unwrap_or_default(), ..Definition::default() };
    let (kind, probe) = match &*check.kind {
        CheckKind::Ttl { .. } => ("ttl", None),
        CheckKind::Http { url, method, tls, probe, .. } => {
            definition.http.clone_from(url);
            definition.method = method.clone().unwrap_or_default();
            definition.tls_skip_verify = tls.skip_verify;
            ("http", Some(probe))
        }
        CheckKind::Tcp { address, probe } => {
            definition.tcp.clone_from(address);
            ("tcp", Some(probe))
        }
        CheckKind::Grpc { target, use_tls, tls, probe } => {
            definition.grpc.clone_from(target);
            definition.grpc_use_tls = *use_tls;
            definition.tls_skip_verify = tls.skip_verify;
            ("grpc", Some(probe))
        }
        CheckKind::Script { probe, .. } => ("script", Some(probe)),
    };
    if let Some(probe) = probe {
        // As exact as it comes back.
        definition.interval = millis(probe.interval);
        definition.timeout = millis(probe.timeout.unwrap_or_default());
    }
    definition.deregister_after = millis(definition.deregister_after);
    CheckRow {
        node: node.name().into(),
        id: check.id.clone(),
        name: check.name.clone(),
        status: check.status,
        notes: check.notes.clone(),
        output: ArcStr::new(),
        service: Some((service.id.clone(), service.name.clone())),
        kind: kind.into(),
        definition: definition.boxed(),
    }
}

fn millis(span: Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
