//! Something is wrong with a Remora, or with what it may do.

use std::time::Instant;

use tokio::time::sleep;

use super::{Churn, NEVER, SECOND, row};
use crate::bed::{Bed, Mode};
use crate::table::Row;

pub async fn all_remoras_killed(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    for node in &mut bed.nodes {
        node.remora.kill().await;
    }
    churn.happens(bed, "blind").await;
    let begun = Instant::now();
    for node in &mut bed.nodes {
        node.remora.spawn();
    }
    for node in &mut bed.nodes {
        node.remora.ready_within(NEVER).await;
    }
    row(bed, "all Remoras are killed and started again at once", begun, SECOND * 10).await
}

/// By mistake: the same name, the same engine.
pub async fn started_twice(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let mut second = bed.nodes[0].remora.another();
    second.spawn();
    second.ready_within(NEVER).await;
    churn.happens(bed, "twice").await;
    let row = row(bed, "a node's Remora is started twice", Instant::now(), SECOND * 10).await;
    sleep(20 * SECOND).await;
    bed.right_since(Instant::now(), SECOND * 3).await;
    second.terminate().await;
    bed.right_since(Instant::now(), SECOND * 3).await;
    Row { remark: "while both run; so it stays for 20 s, and when one of them is stopped".to_owned(), ..row }
}

pub async fn token_revoked(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    bed.servers.acl().revoke(&bed.nodes[0].token.accessor).await;
    churn.happens(bed, "revoked").await;
    sleep(10 * SECOND).await;
    let node = &mut bed.nodes[0];
    node.token.renew(&bed.servers, &node.name).await;
    let fault = "a node's token is revoked, and there is another one after 10 s";
    let row = row(bed, fault, Instant::now(), SECOND * 40).await;
    // An agent removes a service with the token that it was registered with; what it could not remove is found 10 s after the new token
    // is there, and removed when it is still there another 10 s later.
    let remark = if bed.mode == Mode::Agent {
        "what Consul's agent cannot remove any more is removed with the new one"
    } else {
        ""
    };
    Row { remark: remark.to_owned(), ..row }
}

pub async fn token_rotated(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let node = &mut bed.nodes[0];
    let before = node.token.renew(&bed.servers, &node.name).await;
    // As documented: the one before lives for half a minute.
    sleep(30 * SECOND).await;
    bed.servers.acl().revoke(&before).await;
    churn.happens(bed, "rotated").await;
    let row =
        row(bed, "a node's token is replaced, and the one before revoked 30 s later", Instant::now(), SECOND * 5).await;
    Row { remark: "from the end of the one before".to_owned(), ..row }
}

pub async fn token_too_narrow(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let node = &bed.nodes[0];
    let narrow: Vec<String> = node.token.rules.iter().filter(|rule| !rule.starts_with("service")).cloned().collect();
    node.token.limit(&bed.servers, &node.name, &narrow).await;
    churn.happens(bed, "narrow").await;
    sleep(10 * SECOND).await;
    node.token.limit(&bed.servers, &node.name, &node.token.rules).await;
    // Consul's agent remembers a policy for 30 s; what it refuses is tried again after 30 s, then after 60 s, a quarter more or less.
    let row = row(bed, "a node's token lacks the rule for services for 10 s", Instant::now(), SECOND * 110).await;
    Row { remark: "what is refused is tried again after 30 s, and then more rarely".to_owned(), ..row }
}
