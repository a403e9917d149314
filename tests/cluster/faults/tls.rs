//! Consul's certificates: the one that it shows, the one that a client shows, and whom both of them trust.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Churn, SECOND, row};
use crate::bed::{Bed, Mode};
use crate::house::{self, House};
use crate::support::eventually;
use crate::table::Row;

/// The first node's Remora speaks TLS to Consul, and shows a certificate.
struct Encrypted {
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
        let urls: Vec<String> = match bed.mode {
            Mode::Agent => vec!["https://127.0.0.1:8501".to_owned()],
            Mode::Catalog => bed.servers.agents.iter().map(|it| format!("https://{}:8501", it.address)).collect(),
        };
        let settings = [
            ("CONSUL_HTTP_ADDR", urls.join(",")),
            ("CONSUL_TLS_SERVER_NAME", house::SERVER.to_owned()),
            ("CONSUL_CACERT", file("ca.pem")),
            ("CONSUL_CLIENT_CERT", file("client.pem")),
            ("CONSUL_CLIENT_KEY", file("client.key")),
        ];
        let before = bed.nodes[0].restart_with(&settings).await;
        Self { before, files }
    }

    /// Those that hold for Consul now.
    fn renew(&self, house: &House) {
        for name in FILES {
            house::replace(&house.file(name), &self.files.path().join(name));
        }
    }

    async fn end(self, bed: &mut Bed) {
        bed.nodes[0].remora.assert_never_restarted();
        bed.nodes[0].restart_as(self.before).await;
    }
}

/// All of Consul reads its certificates again, and no connection lives on with the ones before.
async fn reload(bed: &Bed) {
    for agent in bed.servers.agents.iter().chain(&bed.nodes[0].agent) {
        agent.reload();
    }
    sleep(SECOND / 2).await;
    bed.nodes[0].host.reset(8501);
}

/// Whoever runs it is told why nothing goes on: in the log, and by `/readyz`.
async fn says(bed: &Bed, words: &str, since: usize) {
    let remora = &bed.nodes[0].remora;
    eventually(&format!("told of {words:?}"), SECOND * 15, async || {
        let (status, ready) = remora.get("/readyz").await;
        let told = |line: &str| line.to_lowercase().contains(words);
        match (remora.log()[since..].iter().any(|line| told(line)), told(&ready)) {
            (true, true) => Ok(()),
            (log, _) => Err(format!("the log does: {log}; /readyz says {status} {ready}")),
        }
    })
    .await;
}

pub async fn certificate_expired(bed: &mut Bed) -> Row {
    let encrypted = Encrypted::begin(bed).await;
    let churn = Churn::announce(bed).await;
    let since = bed.nodes[0].remora.log().len();
    let begun = Instant::now();
    bed.servers.house.issue_expired("server");
    reload(bed).await;
    churn.happens(bed, "expired").await;
    says(bed, "expired", since).await;
    sleep((SECOND * 10).saturating_sub(begun.elapsed())).await;
    bed.servers.house.issue("server");
    reload(bed).await;
    let row = row(bed, "Consul's certificate expires, and is replaced", Instant::now(), back()).await;
    encrypted.end(bed).await;
    Row { remark: "the log and `/readyz` say so meanwhile; no restart".to_owned(), ..row }
}

/// Consul has another authority before the node has: it trusts nobody there, and nobody there trusts it.
pub async fn authority_replaced(bed: &mut Bed) -> Row {
    let encrypted = Encrypted::begin(bed).await;
    let churn = Churn::announce(bed).await;
    let since = bed.nodes[0].remora.log().len();
    let begun = Instant::now();
    bed.servers.house.found();
    reload(bed).await;
    churn.happens(bed, "authority").await;
    says(bed, "certificate", since).await;
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
