//! Consul is there, but answers late, or that it cannot.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{Churn, SECOND, row};
use crate::bed::{Bed, Mode};
use crate::support::gate::{Act, Gate};
use crate::table::Row;

/// Gates on all ways from the first node's Remora to Consul, and how to take them away again.
struct Gates {
    gates: Vec<Gate>,
    before: std::collections::BTreeMap<String, String>,
}

impl Gates {
    async fn put(bed: &mut Bed) -> Self {
        let gates = join_all(bed.consul().into_iter().map(|consul| Gate::tcp(bed.net.own().into(), consul))).await;
        let urls: Vec<String> = gates.iter().map(Gate::url).collect();
        let before = bed.nodes[0].restart_with(&[("CONSUL_HTTP_ADDR", urls.join(","))]).await;
        Self { gates, before }
    }

    fn requests(&self) -> usize {
        self.gates.iter().map(Gate::requests).sum()
    }

    /// Requests of each second since.
    fn rate(&self, before: usize, since: Instant) -> f64 {
        f64::from(u32::try_from(self.requests() - before).unwrap()) / since.elapsed().as_secs_f64()
    }

    async fn remove(self, bed: &mut Bed) {
        bed.nodes[0].remora.assert_never_restarted();
        bed.nodes[0].restart_as(self.before).await;
    }
}

/// A registration takes a look, a write and a status, one after the other, and begins when what is under way has ended.
pub async fn slow_consul(bed: &mut Bed) -> Row {
    let gates = Gates::put(bed).await;
    let churn = Churn::announce(bed).await;
    for gate in &gates.gates {
        gate.rule(|_| Act::After(SECOND * 2));
    }
    let slow = Instant::now();
    churn.happens(bed, "late").await;
    let row = row(bed, "each of Consul's answers to a node takes 2 s", Instant::now(), SECOND * 20).await;
    // Longer than a session lives that nobody renews, and than a TTL check that nobody feeds.
    while slow.elapsed() < SECOND * 35 {
        bed.difference().await.unwrap();
        sleep(SECOND).await;
    }
    gates.remove(bed).await;
    Row { remark: "while they do; and all stays right for as long as they do (35 s)".to_owned(), ..row }
}

/// Too much to do, no leader, or nobody behind a balancer: each in its turn.
const REFUSALS: [u16; 3] = [429, 500, 503];

pub async fn consul_refuses_all(bed: &mut Bed) -> Row {
    let gates = Gates::put(bed).await;
    let churn = Churn::announce(bed).await;
    for gate in &gates.gates {
        let turn = AtomicUsize::new(0);
        gate.rule(move |_| Act::Answer(REFUSALS[turn.fetch_add(1, Ordering::Relaxed) % 3]));
    }
    let (begun, before) = (Instant::now(), gates.requests());
    churn.happens(bed, "refused").await;
    sleep((SECOND * 30).saturating_sub(begun.elapsed())).await;
    let rate = gates.rate(before, begun);
    // At each address: a Consul that is unwell has no use for more.
    let bound = 3.0 * f64::from(u32::try_from(gates.gates.len()).unwrap());
    assert!(
        rate <= bound,
        "{rate:.1} requests each second to a Consul that refuses all, at most {bound:.1} are decent"
    );
    for gate in &gates.gates {
        gate.rule(|_| Act::Pass);
    }
    let fault = "Consul answers 429, 500 or 503 to all that a node asks, for 30 s";
    let row = row(bed, fault, Instant::now(), SECOND * 15).await;
    gates.remove(bed).await;
    let where_to = if bed.mode == Mode::Agent { "" } else { ", at three addresses" };
    Row { remark: format!("{rate:.1} requests each second meanwhile{where_to}"), ..row }
}

/// By chance, as a balancer does with one of two servers that is ill. A look at Consul takes two questions: asked once each, three of
/// four looks would fail.
pub async fn consul_refuses_half(bed: &mut Bed) -> Row {
    let gates = Gates::put(bed).await;
    let churn = Churn::announce(bed).await;
    for gate in &gates.gates {
        gate.rule(|_| match fastrand::usize(0..6) {
            refused @ 0..3 => Act::Answer(REFUSALS[refused]),
            _ => Act::Pass,
        });
    }
    let (begun, before) = (Instant::now(), gates.requests());
    churn.happens(bed, "half").await;
    let row = row(bed, "Consul answers so to half of what a node asks", Instant::now(), SECOND * 60).await;
    let rate = gates.rate(before, begun);
    gates.remove(bed).await;
    Row { remark: format!("while it does; {rate:.1} requests each second"), ..row }
}
