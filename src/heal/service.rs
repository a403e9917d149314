//! The brake of a service: what the other instances of it, wherever they are, say against taking one out. Pure.
//!
//! * When half of them or more are critical, it is not this one's fault: something that all of them need is the suspect, and
//!   replacing them makes it worse.
//! * One that still serves is only taken out while enough others do.

use super::cause::Cause;
use crate::consul::{InstanceHealth, Service, Status};
use crate::docker::ContainerId;

/// Whether what others say has to be known before anything is done about this cause. `serves`: Consul shows it in service.
#[must_use]
pub fn matters(cause: &Cause, serves: bool) -> bool {
    match cause {
        Cause::Critical => true,
        // Its Docker check may be passing before the first verdict (`SERVICE_CHECK_INITIAL_STATUS`).
        Cause::StuckStarting => serves,
        // Docker's verdict takes it out of service: what Consul shows is a moment older. Or somebody is looking, or its parent's
        // operation has to bring it with it.
        Cause::Unhealthy | Cause::Died | Cause::CrashLoop | Cause::StartFailed | Cause::Asked | Cause::Orphaned => {
            false
        }
    }
}

/// What stands against taking this container's instance of a service out, in words; `min_available`: so many others must serve.
#[must_use]
pub fn hindrance(
    service: &str,
    own: &ContainerId,
    cause: &Cause,
    instances: &[InstanceHealth],
    min_available: usize,
) -> Option<String> {
    let is_own = |instance: &&InstanceHealth| {
        instance.meta.get(Service::META_CONTAINER).map(String::as_str) == Some(own.as_str())
    };
    if *cause == Cause::Critical && instances.len() > 1 {
        let critical = instances.iter().filter(|instance| is_critical(instance)).count();
        if critical > 1 && critical * 2 >= instances.len() {
            return Some(format!(
                "{critical} of {} instances of {service} are critical: something that all of them need is the suspect",
                instances.len()
            ));
        }
    }
    let mine = instances.iter().find(is_own)?;
    let others = instances.iter().filter(|instance| !is_own(instance) && serves(instance)).count();
    (serves(mine) && others < min_available).then(|| {
        format!("it still serves, and only {others} other instances of {service} do; {min_available} must be left")
    })
}

/// Whether clients are sent there.
fn serves(instance: &InstanceHealth) -> bool {
    instance.checks.iter().all(|check| check.status != Status::Critical)
}

/// Whether a check of the service itself is critical: not its node's.
fn is_critical(instance: &InstanceHealth) -> bool {
    let own = instance.checks.iter().filter(|check| !check.of_node);
    own.into_iter().any(|check| failed(&instance.service_id, &check.id, check.status, &check.output))
}

/// Whether this check says that the service itself has failed: not Docker's word, which is known at first hand, not ours, no
/// maintenance that somebody switched on, and no report that only stayed away.
#[must_use]
pub fn failed(service_id: &str, check: &str, status: Status, output: &str) -> bool {
    let ours = check == Service::docker_check_id(service_id) || check == Service::healing_check_id(service_id);
    let counts = !ours && !check.starts_with("_service_maintenance") && !output.contains("TTL expired");
    counts && status == Status::Critical
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::consul::InstanceCheck;

    fn instance(container: &str, statuses: &[(&str, Status)]) -> InstanceHealth {
        let service_id = format!("n:{container}:80");
        let checks = statuses.iter().map(|(id, status)| InstanceCheck {
            id: if *id == "serfHealth" { (*id).to_owned() } else { format!("{service_id}:{id}") },
            status: *status,
            output: String::new(),
            of_node: *id == "serfHealth",
        });
        InstanceHealth {
            node: "n".to_owned(),
            checks: checks.collect(),
            meta: BTreeMap::from([(Service::META_CONTAINER.to_owned(), container.to_owned())]),
            service_id,
        }
    }

    fn ill(container: &str) -> InstanceHealth {
        instance(container, &[("docker", Status::Passing), ("http", Status::Critical)])
    }

    fn well(container: &str) -> InstanceHealth {
        instance(container, &[("serfHealth", Status::Passing), ("docker", Status::Passing), ("http", Status::Passing)])
    }

    fn said(cause: &Cause, instances: &[InstanceHealth], min_available: usize) -> Option<String> {
        hindrance("web", &ContainerId::new("a"), cause, instances, min_available)
    }

    #[test]
    fn checks_that_are_critical_everywhere_are_nobodys_own_fault() {
        let critical = |instances: &[InstanceHealth]| said(&Cause::Critical, instances, 1);
        assert_eq!(critical(&[ill("a")]), None, "alone");
        assert_eq!(critical(&[ill("a"), well("b")]), None, "one of two is still the one that is ill");
        assert_eq!(critical(&[ill("a"), ill("b"), well("c"), well("d"), well("e")]), None);
        let half = critical(&[ill("a"), ill("b"), well("c"), well("d")]).unwrap();
        assert!(half.contains("2 of 4 instances of web"), "{half}");
        assert!(critical(&[ill("a"), ill("b")]).is_some());
        assert_eq!(said(&Cause::Unhealthy, &[ill("a"), ill("b")], 1), None, "Docker's own verdict is first-hand");
    }

    #[test]
    fn what_is_said_of_nodes_and_by_us_does_not_count_as_the_services_own_failure() {
        let lost = |name| instance(name, &[("serfHealth", Status::Critical), ("http", Status::Passing)]);
        let given_up = |name| instance(name, &[("healing", Status::Critical), ("docker", Status::Critical)]);
        assert_eq!(said(&Cause::Critical, &[ill("a"), lost("b"), lost("c"), given_up("d")], 1), None);
    }

    #[test]
    fn the_last_one_that_serves_is_not_taken_out() {
        let died = |instances: &[InstanceHealth], least| said(&Cause::StuckStarting, instances, least);
        assert!(died(&[well("a")], 1).unwrap().contains("only 0 other"));
        assert!(died(&[well("a"), ill("b")], 1).is_some(), "the other one does not serve");
        assert_eq!(died(&[well("a"), well("b")], 1), None);
        assert!(died(&[well("a"), well("b")], 2).is_some());
        assert_eq!(died(&[well("a")], 0), None, "its labels allow it");
        assert_eq!(died(&[ill("a")], 1), None, "it does not serve anyway");
        assert_eq!(died(&[well("b")], 1), None, "it is not in service");
    }

    #[test]
    fn others_are_only_asked_where_it_matters() {
        assert!(matters(&Cause::Critical, false) && matters(&Cause::StuckStarting, true));
        assert!(!matters(&Cause::StuckStarting, false));
        assert!(!matters(&Cause::Unhealthy, true), "Consul shows it as passing for a moment more");
        assert!(!matters(&Cause::Asked, true) && !matters(&Cause::Orphaned, true));
    }
}
