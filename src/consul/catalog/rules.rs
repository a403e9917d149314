//! What a Consul agent would refuse, and the catalog would store: it looks at next to nothing.

use crate::consul::error::ConsulError;
use crate::consul::model::Service;
use crate::consul::registry::is_addressable;

/// Consul's own limits for a service's meta.
const META_PAIRS: usize = 64;
const META_KEY: usize = 128;
const META_VALUE: usize = 512;

/// Whether a definition is one that a Consul agent would take.
///
/// # Errors
/// [`ConsulError::Invalid`] names what is wrong with it.
pub(super) fn valid(call: &'static str, service: &Service) -> Result<(), ConsulError> {
    let wrong = |message: String| Err(ConsulError::Invalid { call, message });
    let mut ids = service.checks.iter().map(|check| &check.id).chain([&service.id]);
    if let Some(id) = ids.find(|id| !is_addressable(id)) {
        return wrong(format!(
            "the id {id:?} cannot be part of a path of Consul's API: between slashes it needs more than dots"
        ));
    }
    if service.name.is_empty() {
        return wrong(format!("the service {:?} has no name", service.id));
    }
    let addresses = service.tagged_addresses.values().map(|at| &at.address).chain([&service.address]);
    for address in addresses {
        if matches!(address.as_str(), "0.0.0.0" | "::" | "[::]") {
            return wrong(format!("{address} is no address that anybody could connect to"));
        }
    }
    if service.meta.len() > META_PAIRS {
        return wrong(format!("it has {} meta, Consul takes {META_PAIRS}", service.meta.len()));
    }
    for (key, value) in service.meta.iter() {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if key.is_empty() || key.len() > META_KEY || !key.chars().all(good) {
            return wrong(format!("the meta key {key:?} is none: up to {META_KEY} of A-Z, a-z, 0-9, _ and -"));
        }
        if key.starts_with("consul-") {
            return wrong(format!("the meta key {key:?} is reserved for Consul itself"));
        }
        if value.len() > META_VALUE {
            return wrong(format!("the value of the meta {key:?} has {} bytes, at most {META_VALUE}", value.len()));
        }
    }
    if let Some(weights) = service.weights.filter(|weights| weights.passing == 0) {
        return wrong(format!("a passing weight of {} takes it out of rotation", weights.passing));
    }
    Ok(())
}
