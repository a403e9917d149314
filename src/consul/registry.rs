//! The port through which the rest of Remora keeps a Consul registry true. One implementation per mode; the fake of the
//! tests passes the same conformance suite.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::error::ConsulError;
use super::model::{ActualService, Service, Snapshot, Status};

/// Bytes kept of a check's output: Consul keeps 4,096 and adds a note about what it cut off the end, but the end of a
/// probe's output is where the error is. Less than Consul's limit, because it counts differently between versions.
pub const OUTPUT_LIMIT: usize = 4_000;

/// The last [`OUTPUT_LIMIT`] bytes of an output, beginning with a whole character: what a check really ends up with.
#[must_use]
pub fn bounded_output(output: &str) -> &str {
    let mut start = output.len().saturating_sub(OUTPUT_LIMIT);
    while !output.is_char_boundary(start) {
        start += 1;
    }
    output.get(start..).unwrap_or_default()
}

/// Whether an id can be named in a path of Consul's API. Its server unescapes a path and then tidies it up, so an id whose
/// parts between slashes are empty, `.` or `..` could be registered, but never be fed or deregistered again.
#[must_use]
pub fn is_addressable(id: &str) -> bool {
    !id.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// What reconciling needs of Consul, and nothing else.
///
/// The two modes differ where Consul does: in the catalog, ids that differ only in case are one id
/// ([`ConsulError::Conflict`] for the second), and nobody probes anything, so that every check can be fed.
///
/// Rights (ACL) each call needs in agent mode: `read` needs `service:read` and `node:read` (without `node:read` a list comes
/// back empty with a 200), the writes need `service:write` of the names in question.
pub trait Registry: Send + Sync + 'static {
    /// Everything that is registered here now. An error is Unknown, never "nothing". As long as nothing changes, every
    /// call returns the same `Arc`, so that [`Arc::ptr_eq`] tells "as before" without a comparison.
    fn read(&self) -> impl Future<Output = Result<Arc<Snapshot>, ConsulError>> + Send;

    /// The same for a caller who follows up its own writes: what they have made is taken from there, where Consul shows the same, so
    /// that it is not in memory twice.
    fn read_after(
        &self,
        _written: Vec<Arc<ActualService>>,
    ) -> impl Future<Output = Result<Arc<Snapshot>, ConsulError>> + Send {
        self.read()
    }

    /// Takes this picture in the place of the one that was read last, if the two are the same: the caller's shares its memory
    /// with what else is kept, and one copy of everything that is registered is enough.
    fn keep(&self, _snapshot: &Arc<Snapshot>) {}

    /// What is registered under this id now, without its checks: for the moment before an id is taken. In the catalog, which
    /// cannot tell the two apart, be it in another case.
    fn find(&self, service_id: &str) -> impl Future<Output = Result<Option<ActualService>, ConsulError>> + Send;

    /// A number that changes when the credentials change. Consul syncs each registration with the token that it was sent
    /// with; when that one dies, the catalog stays as it was for ever, also for a deregistration. So everything has to be
    /// sent again with the new one.
    fn credentials(&self) -> u64 {
        0
    }

    /// Writes that may be under way at once. An agent takes them one after the other anyway (it persists each); eight keep it
    /// busy.
    fn writes_at_once(&self) -> usize {
        8
    }

    /// Whether registering this is refused, and not done, when somebody has taken its id a moment ago: then nobody has to look
    /// before.
    fn is_guarded(&self, _service: &Service) -> bool {
        false
    }

    /// Makes this instance exist with exactly this definition. Checks that are registered already keep their status and
    /// output; checks that are not in the definition are left alone (see [`Registry::remove_check`]): one of them may be
    /// an operator's maintenance mode. A new check begins with its [`status`](super::Check::status) and without an output:
    /// Consul takes none in a registration, and a second write only to have one is not worth its price. A definition with
    /// an id that is not [addressable](is_addressable) is [`ConsulError::Invalid`].
    fn register(&self, service: &Service) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Makes this instance not exist. An instance that does not exist is a success.
    fn deregister(&self, service_id: &str) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Sets status and output of a check that is fed by us. Of a longer output only the last [`OUTPUT_LIMIT`] bytes are
    /// kept. A check that does not exist, or that Consul probes by itself, is [`ConsulError::NotFound`].
    fn update_check(
        &self,
        check_id: &str,
        status: Status,
        output: &str,
    ) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Makes this check not exist. A check that does not exist is a success.
    fn remove_check(&self, check_id: &str) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Returns when the registration of `sentinel` is not what it was at the last call any more: changed, gone, there
    /// again, or the agent itself went away (an error). The status of its checks is not part of it. Returns `Ok(false)`
    /// when nothing happened within `wait`. The first call after a success of another sentinel, or after an error, only
    /// learns what there is and returns at once with `Ok(true)`. In the catalog, where there is no agent to lose its memory, it
    /// returns when somebody else changes any service or check of the node, and not for our own writes.
    fn changed(&self, sentinel: &str, wait: Duration) -> impl Future<Output = Result<bool, ConsulError>> + Send;

    /// What the catalog has on the agent's node and the agent has not: it was told to remove it and has not done so yet, or must not,
    /// because the token that it was registered with is none any more. Where there is no agent there is nothing of the kind.
    fn strays(&self) -> impl Future<Output = Result<Vec<ActualService>, ConsulError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Removes one of those, with the present token.
    fn bury(&self, stray: &ActualService) -> impl Future<Output = Result<(), ConsulError>> + Send {
        self.deregister(&stray.id)
    }
}
