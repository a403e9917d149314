//! Which checks have to be run by us, where no Consul agent does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Book;
use crate::consul::{Check, Service};
use crate::probe::{Wanted, Wants};

impl Book {
    /// Checks that are wanted and registered and that a probe or the service itself feeds, with the status that Consul has.
    #[must_use]
    pub fn probes(&self) -> Wants {
        let mut probes = BTreeMap::new();
        for (at, service) in &self.wanted {
            let Some(actual) = self.actual.get(at).filter(|_| *at != self.own_key) else { continue };
            for check in service.checks.iter().filter(|check| !is_ours(service, check)) {
                if let Some(known) = actual.checks.get(&check.id) {
                    probes.insert(check.id.clone(), Wanted { check: Arc::new(check.clone()), status: known.status });
                }
            }
        }
        Arc::new(probes)
    }

    /// Whether [`Book::probes`] may be another one than at the last call of this.
    pub fn probes_changed(&mut self) -> bool {
        std::mem::take(&mut self.probes_changed)
    }

    /// Something about this registration changed.
    pub(super) fn touch_probes(&mut self, services: [Option<&Arc<Service>>; 2]) {
        let has_some = |service: &Arc<Service>| service.checks.iter().any(|check| !is_ours(service, check));
        self.probes_changed |= services.into_iter().flatten().any(has_some);
    }
}

/// Whether this check says what we know at first hand.
fn is_ours(service: &Service, check: &Check) -> bool {
    check.id == Service::docker_check_id(&service.id) || check.id == Service::healing_check_id(&service.id)
}
