//! The cluster test bed: three hosts with their own Docker Engine and Remora, three Consul servers, and links between them that can
//! be cut, slowed and made lossy; all of it on one machine, in network namespaces. Needs root, `dockerd`, `ip`, `tc` and `iptables`.
//!
//! ```sh
//! docker/test.sh --test cluster -- --nocapture      # most faults, both modes at once; prints the tables
//! docker/reliability.sh                             # all, one mode after the other; writes docs/reliability.md
//! ```
//!
//! * `net`: hosts and links. * `servers`: Consul. * `bed`: all of it together, and somebody who looks at the catalog all the time.
//! * `faults`: one function per row of the table. * `table`: the table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
#[path = "../support/mod.rs"]
mod support;

mod bed;
mod faults;
mod house;
mod net;
mod servers;
mod table;

use bed::{Bed, Mode};

#[tokio::test]
async fn with_an_agent_on_each_node_every_fault_ends_well() {
    all(Mode::Agent).await;
}

#[tokio::test]
async fn without_agents_every_fault_ends_well() {
    all(Mode::Catalog).await;
}

async fn all(mode: Mode) {
    let mut bed = Bed::start(mode).await;
    let mut table = table::Table::new(mode);
    faults::run(&mut bed, &mut table).await;
    table.tell(&bed).await;
    table.judge();
}
