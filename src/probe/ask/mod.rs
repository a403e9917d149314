//! The edge: one probe of one check over the network. Each makes a connection of its own, as Consul's agent does: a kept one would
//! prove that an old connection works, not that a new client is served.

pub mod grpc;
pub mod http;
pub mod tls;

use std::future::Future;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use self::tls::Trust;
use super::output::{NO_SCRIPTS, dial_failure, late, system, tcp_success};
use super::schedule::timeout;
use crate::config::ConsulTls;
use crate::consul::model::{Check, CheckKind, Status};

/// What probes call themselves. Services let this name through to their health page, or leave it out of their logs; whoever moves
/// from a Consul agent to catalog mode should not have to look for it.
pub const USER_AGENT: &str = "Consul Health Check";

/// After an answer, the farewell (a TLS `close_notify`, an HTTP/2 `GOAWAY`) may take so long: without it, servers log an error for
/// each probe.
const FAREWELL: Duration = Duration::from_millis(250);

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The result; not yet the check's status ([`super::verdict`]).
    pub status: Status,
    /// What is said about it, at most [`OUTPUT_LIMIT`](crate::consul::registry::OUTPUT_LIMIT) bytes.
    pub output: String,
    /// The time-out passed without an answer.
    pub timed_out: bool,
}

impl Answer {
    pub(super) const fn new(status: Status, output: String) -> Self {
        Self { status, output, timed_out: false }
    }

    pub(super) const fn late(output: String) -> Self {
        Self { status: Status::Critical, output, timed_out: true }
    }
}

/// Whoever can probe. The real one is [`Asker`].
pub trait Ask: Send + Sync + 'static {
    /// Probes once; ends within the check's time-out, or a moment later. Dropping the future ends the probe.
    fn ask(&self, check: &Check) -> impl Future<Output = Answer> + Send;
}

/// Probes over the network.
#[derive(Debug)]
pub struct Asker {
    trust: Trust,
}

impl Asker {
    /// Connects to nobody and reads nothing yet. Certificates are verified with the system's authorities and those that are named
    /// for Consul; they are read at the first check that needs them.
    #[must_use]
    pub const fn new(authorities: ConsulTls) -> Self {
        Self { trust: Trust::new(authorities) }
    }
}

impl Ask for Asker {
    async fn ask(&self, check: &Check) -> Answer {
        match &*check.kind {
            CheckKind::Http { url, method, headers, body, probe, tls } => {
                let request = http::Request { url, method: method.as_deref(), headers, body: body.as_deref(), tls };
                http::ask(request, &self.trust, timeout(probe)).await
            }
            CheckKind::Tcp { address, probe } => tcp(address, timeout(probe)).await,
            CheckKind::Grpc { target, use_tls, probe, tls } => {
                let tls = use_tls.then_some(tls);
                grpc::ask(target, tls, &self.trust, timeout(probe)).await
            }
            CheckKind::Script { .. } => Answer::new(Status::Critical, NO_SCRIPTS.to_owned()),
            // Nobody asks for these: the service speaks by itself.
            CheckKind::Ttl { .. } => Answer::new(Status::Critical, "a TTL check is not probed".to_owned()),
        }
    }
}

async fn tcp(address: &str, limit: Duration) -> Answer {
    match timeout_at(Instant::now() + limit, dial(address)).await {
        Ok(Ok(_connection)) => Answer::new(Status::Passing, tcp_success(address)),
        Ok(Err(why)) => Answer::new(Status::Critical, why),
        Err(_late) => Answer::late(dial_failure(address, &format!("i/o timeout ({})", late(limit)))),
    }
}

/// A connection to `host:port`; of a name's addresses the first one that takes it. An error is a whole sentence.
async fn dial(address: &str) -> Result<TcpStream, String> {
    let found =
        lookup_host(address).await.map_err(|error| dial_failure(address, &format!("lookup: {}", system(&error))))?;
    let mut why = "lookup: no address".to_owned();
    for one in found {
        match TcpStream::connect(one).await {
            Ok(stream) => {
                // Small requests that nothing follows: waiting for more to send would only be late. Without it, it works all the same.
                let _slower = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => why = format!("connect: {}", system(&error)),
        }
    }
    Err(dial_failure(address, &why))
}
