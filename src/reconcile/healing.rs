//! The check that says whether a container is healed: the rules of `registration`, and one check more for what the health-watcher
//! looks after. Pure.
//!
//! Its notes say what will happen when the container fails. It is passing until the watcher gives the container up; then it is
//! critical, and its output says why.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Heal, HealMode};
use crate::consul::{Check, Service, Status};
use crate::docker::names::logical;
use crate::docker::{Container, ContainerId, Sight};
use crate::heal::hands_off::Never;
use crate::heal::labels;
use crate::heal::operation::Order;
use crate::heal::policy::{Applies, Policy, Strategy, Trigger, policy};
use crate::registration::values::{head, one_line, unexpiring};
use crate::registration::{self, Note, Peers, Planned, Registration, Settings, Verdict};

/// Containers that the health-watcher has given up, each with the reason.
pub type GivenUp = Arc<HashMap<ContainerId, String>>;

/// Longest output, in bytes.
const LONGEST: usize = 1024;

/// Longest title, in bytes.
const LONGEST_NAME: usize = 255;

/// What decides whether a container has the check.
#[derive(Debug, Clone, Default)]
pub struct Healing {
    /// The agent's settings.
    pub settings: Heal,
    /// Whom nobody touches.
    pub never: Never,
}

/// What this container means in Consul, its `healing` checks included. `given_up`: why nothing is done for it any more.
#[must_use]
pub fn register(
    sight: &Sight,
    peers: &dyn Peers,
    settings: &Settings,
    healing: &Healing,
    given_up: Option<&str>,
) -> Registration {
    let mut registration = registration::register(sight, peers, settings);
    if let Verdict::Services(planned) = &mut registration.verdict {
        add_check(&sight.container, healing, given_up, planned);
    }
    registration
}

/// What the check says.
#[must_use]
pub fn say(given_up: Option<&str>) -> (Status, String) {
    // Nothing is said while all is well: a registration carries no output, and a second write for one is not worth it.
    given_up
        .map_or((Status::Passing, String::new()), |why| (Status::Critical, head(&one_line(why), LONGEST).to_owned()))
}

fn add_check(container: &Container, healing: &Healing, given_up: Option<&str>, planned: &mut [Planned]) {
    if healing.settings.mode == HealMode::Off {
        return;
    }
    let (policy, doubts) = policy(container, &healing.settings, true);
    if healing.never.reason(container, &policy).is_some() {
        return;
    }
    let name = head(&one_line(&format!("Healing of {}", logical(&container.name).0)), LONGEST_NAME).to_owned();
    let notes: Arc<str> = notes(&policy, container, &doubts).into();
    let (status, output) = say(given_up);
    for Planned { service, .. } in planned {
        // By itself a list of one makes room for four, and a check is a large thing.
        service.checks.reserve_exact(1);
        service.checks.push(Check {
            id: Service::healing_check_id(&service.id),
            name: name.clone().into(),
            notes: Arc::clone(&notes).into(),
            // As with Docker's check: an agent that is dead takes nothing down.
            kind: unexpiring(),
            status,
            output: output.clone().into(),
            deregister_after: None,
            success_before_passing: 0,
            failures_before_critical: 0,
        });
        service.seal();
    }
}

/// What will happen when it fails.
fn notes(policy: &Policy, container: &Container, doubts: &[Note]) -> String {
    let Some(reasons) = reasons(policy, container) else {
        return "Nothing is done for it: what is to be a reason asks for a HEALTHCHECK, and it has none.".to_owned();
    };
    let Some(treatment) = treatment(policy) else {
        let wished = container.labels.get(labels::STRATEGY).map(|label| label.trim());
        // A value that is not understood is told before anything else.
        let why = match doubts.first() {
            Some(doubt) if !wished.is_some_and(|it| it.eq_ignore_ascii_case(Strategy::Notify.as_str())) => {
                format!("its label {} is not understood", doubt.about)
            }
            _ => format!("{}=notify", labels::STRATEGY),
        };
        return format!("When {reasons}, that is told, and nothing is done ({why}).");
    };
    if policy.applies == Applies::Observe {
        return format!("Only observed. When {reasons}, Remora tells that it would be {treatment}, and does nothing.");
    }
    format!(
        "When {reasons}, it is {treatment}. This check turns critical when Remora gives up: after {} attempts within {} at the \
         latest.",
        policy.max_attempts,
        humantime::format_duration(policy.window)
    )
}

/// `it is unhealthy for 15s or Docker cannot start it`. `None`: nothing is a reason.
fn reasons(policy: &Policy, container: &Container) -> Option<String> {
    let lasting = |span: std::time::Duration| {
        if span.is_zero() { String::new() } else { format!(" for {}", humantime::format_duration(span)) }
    };
    let probed = container.life.probe.is_some();
    let reason = |trigger: &Trigger| match trigger {
        Trigger::Unhealthy => probed.then(|| format!("it is unhealthy{}", lasting(policy.unhealthy_for))),
        Trigger::StuckStarting => probed.then(|| {
            format!("its HEALTHCHECK has no verdict after {}", humantime::format_duration(policy.start_deadline))
        }),
        Trigger::Died => Some(format!("it ends and stays down{}", lasting(policy.settle))),
        Trigger::CrashLoop => Some("it ends again and again".to_owned()),
        Trigger::StartFailed => Some("Docker cannot start it".to_owned()),
        Trigger::Critical => Some(format!("a check of its own in Consul is critical{}", lasting(policy.critical_for))),
    };
    let mut reasons: Vec<String> = policy.triggers.iter().filter_map(reason).collect();
    let last = reasons.pop()?;
    Some(if reasons.is_empty() { last } else { format!("{} or {last}", reasons.join(", ")) })
}

/// `restarted`. `None`: nothing is done.
fn treatment(policy: &Policy) -> Option<String> {
    let order = match policy.order {
        None => "started first where the two can run side by side",
        Some(Order::StartFirst) => "started before the old one is stopped",
        Some(Order::StopFirst) => "started after the old one was stopped",
    };
    let replaced = format!("replaced by a new container of the same image, {order}");
    match policy.strategy {
        Strategy::Replace => Some(replaced),
        Strategy::Restart => Some("restarted".to_owned()),
        Strategy::Escalate => Some(format!("restarted once, and then {replaced}")),
        Strategy::Notify => None,
        Strategy::Stop => Some("stopped, and left so".to_owned()),
    }
}

#[cfg(test)]
#[path = "healing_tests.rs"]
mod tests;
