//! The port through which the rest of Remora keeps a Consul registry true. One implementation per mode; the fake of the
//! tests passes the same conformance suite.

use std::future::Future;
use std::time::Duration;

use super::error::ConsulError;
use super::model::{Service, Snapshot, Status};

/// What reconciling needs of Consul, and nothing else.
///
/// Rights (ACL) each call needs in agent mode: `read` needs `service:read` and `node:read` (without `node:read` a list comes
/// back empty with a 200), the writes need `service:write` of the names in question.
pub trait Registry: Send + Sync + 'static {
    /// Everything that is registered here now. An error is Unknown, never "nothing".
    fn read(&self) -> impl Future<Output = Result<Snapshot, ConsulError>> + Send;

    /// Makes this instance exist with exactly this definition. Checks that are registered already keep their status;
    /// checks that are not in the definition are left alone (see [`Registry::remove_check`]).
    fn register(&self, service: &Service) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Makes this instance not exist. An instance that does not exist is a success.
    fn deregister(&self, service_id: &str) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Sets status and output of a check that is fed by us.
    fn update_check(
        &self,
        check_id: &str,
        status: Status,
        output: &str,
    ) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Makes this check not exist. A check that does not exist is a success.
    fn remove_check(&self, check_id: &str) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Returns when the registration of `sentinel` is not what it was at the last call any more: changed, gone, or the
    /// agent itself went away (an error). Returns `Ok(false)` when nothing happened within `wait`. The first call after
    /// a success of another sentinel, or after an error, only learns what there is and returns at once with `Ok(true)`.
    fn changed(&self, sentinel: &str, wait: Duration) -> impl Future<Output = Result<bool, ConsulError>> + Send;
}
