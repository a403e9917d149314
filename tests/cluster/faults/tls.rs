//! Consul's certificates: the one that it shows, the one that a client shows, and whom both of them trust.
//!
//! A certificate is looked at when a connection is made that does not resume an earlier one: so Consul is started again with it, since a
//! process that starts knows of no earlier one.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Churn, NEVER, SECOND, row};
use crate::bed::{Bed, Mode};
use crate::house::{self, House};
use crate::support::eventually;
use crate::table::Row;

/// The first node's Remora speaks TLS to Consul, and shows a certificate.
struct Encrypted {
    /// Which of the servers it speaks to; without agents it would go to another one if it could.
    server: usize,
    before: std::collections::BTreeMap<String, String>,
    /// Its own copies, which are replaced when somebody does it.
    files: tempfile::TempDir,
}

const FILES: [&str; 3] = ["ca.pem", "client.pem", "client.key"];

impl Encrypted {
    async fn begin(bed: &mut Bed) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str| files.path().join(name).display().to_string();
        for name in FILES {
            std::fs::copy(bed.servers.house.file(name), file(name)).unwrap();
        }
        // Not the leader: an election is another fault.
        let server = (bed.servers.elected(NEVER).await + 1) % 3;
        let url = match bed.mode {
            Mode::Agent => "https://127.0.0.1:8501".to_owned(),
            Mode::Catalog => format!("https://{}:8501", bed.servers.agents[server].address),
        };
        let settings = [
            ("CONSUL_HTTP_ADDR", url),
            ("CONSUL_TLS_SERVER_NAME", house::SERVER.to_owned()),
            ("CONSUL_CACERT", file("ca.pem")),
            ("CONSUL_CLIENT_CERT", file("client.pem")),
            ("CONSUL_CLIENT_KEY", file("client.key")),
        ];
        let before = bed.nodes[0].restart_with(&settings).await;
        Self { server, before, files }
    }

    /// Those that hold for Consul now.
    fn renew(&self, house: &House) {
        for name in FILES {
            house::replace(&house.file(name), &self.files.path().join(name));
        }
    }

    /// Consul ends, and starts with the certificates of now.
    async fn restart(&self, bed: &mut Bed) {
        let agent = bed.nodes[0].agent.as_mut().unwrap_or(&mut bed.servers.agents[self.server]);
        agent.kill();
        agent.start();
        let address = (agent.address, 8501).into();
        eventually("in use", NEVER, async || bed.servers.house.is_shown_at(address)).await;
    }

    async fn end(self, bed: &mut Bed) {
        bed.nodes[0].remora.assert_never_restarted();
        bed.nodes[0].restart_as(self.before).await;
    }
}

/// Whoever runs it is told why nothing goes on. (The log may tell it later: of one outage it tells the first reason, and then every
/// tenth.)
async fn says(bed: &Bed, words: &str) {
    eventually(&format!("told of {words:?}"), SECOND * 15, async || {
        let (status, ready) = bed.nodes[0].remora.get("/readyz").await;
        if ready.contains(words) { Ok(()) } else { Err(format!("/readyz says {status} {ready}")) }
    })
    .await;
}

pub async fn certificate_expired(bed: &mut Bed) -> Row {
    let encrypted = Encrypted::begin(bed).await;
    let churn = Churn::announce(bed).await;
    let begun = Instant::now();
    bed.servers.house.issue_expired("server");
    encrypted.restart(bed).await;
    churn.happens(bed, "expired").await;
    says(bed, "certificate expired").await;
    sleep((SECOND * 10).saturating_sub(begun.elapsed())).await;
    bed.servers.house.issue("server");
    // It reads the new one while it runs.
    bed.nodes[0].agent.as_ref().unwrap_or(&bed.servers.agents[encrypted.server]).reload();
    let row = row(bed, "Consul's certificate expires, and is replaced", Instant::now(), back()).await;
    encrypted.end(bed).await;
    Row { remark: "`/readyz` says so meanwhile; no restart".to_owned(), ..row }
}

/// Consul has another authority before the node has: it trusts nobody there, and nobody there trusts it.
pub async fn authority_replaced(bed: &mut Bed) -> Row {
    let encrypted = Encrypted::begin(bed).await;
    let churn = Churn::announce(bed).await;
    let begun = Instant::now();
    bed.servers.house.found();
    encrypted.restart(bed).await;
    churn.happens(bed, "authority").await;
    says(bed, "invalid peer certificate").await;
    sleep((SECOND * 10).saturating_sub(begun.elapsed())).await;
    encrypted.renew(&bed.servers.house);
    let fault = "Consul's authority is another one, and the node's files are replaced later";
    let row = row(bed, fault, Instant::now(), back()).await;
    encrypted.end(bed).await;
    Row { remark: "authority, certificate and key of the node; no restart".to_owned(), ..row }
}

/// What waits before the next attempt is five seconds at the most; without an agent the node has to be found alive again, too.
const fn back() -> Duration {
    Duration::from_secs(15)
}
