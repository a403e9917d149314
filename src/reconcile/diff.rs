//! The smallest write that brings one registration closer to what it should be. Pure.

use std::sync::Arc;

use arcstr::ArcStr;

use crate::consul::{ActualCheck, ActualService, Check, CheckKind, Service, Status};
use crate::telemetry::{ConsulCall, WriteOp};

/// One write to Consul.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Register this definition.
    Register(Arc<Service>),
    /// Deregister the service with this id (in the agent's own spelling).
    Deregister(ArcStr),
    /// Set status and output of a check that we feed.
    UpdateCheck {
        /// The check.
        id: ArcStr,
        /// Its status.
        status: Status,
        /// Its output.
        output: ArcStr,
    },
    /// Deregister a check that is not part of the definition any more.
    RemoveCheck(ArcStr),
}

impl Op {
    /// Its name in metrics, and in the log.
    #[must_use]
    pub const fn kind(&self) -> WriteOp {
        match self {
            Self::Register(_) => WriteOp::Register,
            Self::Deregister(_) => WriteOp::Deregister,
            Self::UpdateCheck { .. } => WriteOp::Check,
            Self::RemoveCheck(_) => WriteOp::Uncheck,
        }
    }

    /// The call that it is made with.
    #[must_use]
    pub const fn call(&self) -> ConsulCall {
        match self {
            Self::Register(_) => ConsulCall::Register,
            Self::Deregister(_) => ConsulCall::Deregister,
            Self::UpdateCheck { .. } => ConsulCall::UpdateCheck,
            Self::RemoveCheck(_) => ConsulCall::RemoveCheck,
        }
    }
}

/// What has to be written so that `actual` becomes `wanted`; `None` when it is already so. `known`: whether it is known what a check
/// that we feed has to say; what is not known is left as it is.
#[must_use]
pub fn towards(wanted: &Arc<Service>, actual: Option<&ActualService>, known: impl Fn(&Check) -> bool) -> Option<Op> {
    let Some(actual) = actual else { return Some(Op::Register(Arc::clone(wanted))) };
    if wanted.id != actual.id {
        // The agent tells `Web` from `web`, the catalog does not: both at once would be one row that changes hands.
        return Some(Op::Deregister(actual.id.clone()));
    }
    if difference(wanted, actual).is_some() {
        return Some(Op::Register(with_foreign_tags(wanted, actual)));
    }
    let mut fed = wanted.checks.iter().filter(|check| is_fed(wanted, check) && known(check));
    fed.find_map(|check| report(&check.id, check.status, &check.output, actual)).or_else(|| {
        let strange =
            |id: &&ArcStr| of_definition(id, &actual.id) && !wanted.checks.iter().any(|check| check.id == **id);
        actual.checks.keys().find(strange).map(|id| Op::RemoveCheck(id.clone()))
    })
}

/// The write that makes a check of `actual` say this; `None` when it says so already.
///
/// A text that changes while the status stays is only written when the status is not passing: for a passing instance
/// nobody reads it, and Consul would move its index for it minutes later.
#[must_use]
pub fn report(check_id: &str, status: Status, output: &str, actual: &ActualService) -> Option<Op> {
    let check = actual.checks.get(check_id)?;
    let same = check.status == status && (status == Status::Passing || check.output == output);
    (!same).then(|| Op::UpdateCheck { id: check_id.into(), status, output: output.into() })
}

/// The first field in which a registration differs from its definition; `None` when it does not.
///
/// Consul does not give back how a check is defined; the hash in the meta stands for that. What Consul gives back is
/// compared field by field on top, because the hash would not notice an edit from outside.
#[must_use]
pub fn difference(wanted: &Service, actual: &ActualService) -> Option<&'static str> {
    let weights = wanted.weights.unwrap_or_default();
    let fields = [
        ("name", wanted.name == actual.name),
        ("address", wanted.address == actual.address),
        ("port", wanted.port == actual.port),
        // With tag override the catalog's tags are the truth: others put theirs there.
        ("tags", wanted.enable_tag_override || wanted.tags == actual.tags),
        ("tag override", wanted.enable_tag_override == actual.enable_tag_override),
        ("weights", (weights.passing, weights.warning) == actual.weights),
        ("meta", wanted.meta == actual.meta),
        // Consul adds lan_ipv4, wan_ipv4 and the like by itself: only ours are compared, and of those only what says more
        // than the service's own address.
        (
            "tagged addresses",
            wanted.tagged_addresses.iter().all(|(tag, at)| {
                let own = (&at.address, at.port) == (&actual.address, actual.port);
                own || actual.tagged_addresses.get(tag) == Some(&(at.address.clone(), at.port))
            }),
        ),
        ("checks", wanted.checks.iter().all(|check| actual.checks.contains_key(&check.id))),
    ];
    fields.iter().find(|(_, same)| !same).map(|(field, _)| *field)
}

/// The check that beats feed, so that it does not expire: a definition's first one, with Docker's word or, for the agent's own
/// service, with its own.
#[must_use]
pub fn beaten_check(service: &Service) -> Option<&Check> {
    service.checks.first()
}

/// Whether a check's status comes from us: the one that beats feed, and the one that says whether the container is healed.
fn is_fed(service: &Service, check: &Check) -> bool {
    beaten_check(service).is_some_and(|first| first.id == check.id) || is_healing(&check.id, &service.id)
}

/// Whether this is the id of the service's healing check.
#[must_use]
pub fn is_healing(check_id: &str, service_id: &str) -> bool {
    check_id.strip_prefix(service_id) == Some(":healing")
}

/// The same definition with fewer checks, for a Consul that refuses this one: first without those that it has to be set up
/// for (scripts), then with those alone that we feed. `None` when there is nothing left to leave out.
#[must_use]
pub fn with_fewer_checks(service: &Service) -> Option<Service> {
    let script = |check: &Check| matches!(*check.kind, CheckKind::Script { .. });
    let others: Vec<&Check> = service.checks.iter().filter(|check| !is_fed(service, check)).collect();
    if others.is_empty() {
        return None;
    }
    let scripts = others.iter().any(|check| script(check));
    let kept = service.checks.iter().filter(|check| is_fed(service, check) || (scripts && !script(check)));
    let mut fewer = Service { checks: kept.cloned().collect(), ..service.clone() };
    fewer.seal();
    Some(fewer)
}

/// Whether a check id is one that a definition of this service made: ours (`<service id>:…`) or the one that Consul
/// makes for registrator (`service:<service id>`, with `:2` and so on). An operator's maintenance mode
/// (`_service_maintenance:…`) is neither.
fn of_definition(check_id: &str, service_id: &str) -> bool {
    let rest = |prefix: &str| check_id.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(service_id));
    let ours = rest("").is_some_and(|rest| rest.starts_with(':'));
    let consuls = rest("service:").is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    ours || consuls
}

/// A definition that has to be sent although others own its tags: with the tags as they are.
fn with_foreign_tags(wanted: &Arc<Service>, actual: &ActualService) -> Arc<Service> {
    if wanted.enable_tag_override && actual.enable_tag_override && wanted.tags != actual.tags {
        Arc::new(Service { tags: actual.tags.clone(), ..Service::clone(wanted) })
    } else {
        Arc::clone(wanted)
    }
}

/// What the agent holds after `op` succeeded on `before`.
#[must_use]
pub fn after(op: &Op, before: Option<&ActualService>) -> Option<ActualService> {
    match op {
        Op::Deregister(_) => None,
        Op::Register(service) => Some(registered(service, before)),
        Op::UpdateCheck { id, status, output } => before.cloned().map(|mut service| {
            service.checks.insert(id.clone(), ActualCheck { status: *status, output: output.clone() });
            service
        }),
        Op::RemoveCheck(id) => before.cloned().map(|mut service| {
            service.checks.remove(id);
            service
        }),
    }
}

fn registered(service: &Service, before: Option<&ActualService>) -> ActualService {
    let weights = service.weights.unwrap_or_default();
    // A check that was there keeps its status and its output; a registration does not carry an output.
    let mut checks = before.map(|before| before.checks.clone()).unwrap_or_default();
    for check in &service.checks {
        checks.entry(check.id.clone()).or_insert_with(|| ActualCheck { status: check.status, output: ArcStr::new() });
    }
    ActualService {
        id: service.id.clone(),
        name: service.name.clone(),
        address: service.address.clone(),
        port: service.port,
        tags: service.tags.clone(),
        meta: service.meta.clone(),
        tagged_addresses: service
            .tagged_addresses
            .iter()
            .map(|(tag, at)| (tag.clone(), (at.address.clone(), at.port)))
            .collect(),
        weights: (weights.passing, weights.warning),
        enable_tag_override: service.enable_tag_override,
        checks,
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
pub(super) mod tests;
