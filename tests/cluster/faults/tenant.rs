//! Containers that mean harm to the others on their node.

use std::time::Instant;

use serde_json::json;
use tokio::time::sleep;

use super::{Churn, NEVER, SECOND, row};
use crate::bed::{Bed, Node, UNJUDGED};
use crate::support::docker::Spec;
use crate::table::Row;

pub async fn hostile_tenant(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let log = bed.nodes[0].remora.log().len();
    come(&bed.nodes[0], &bed.nodes[1]).await;
    churn.happens(bed, "tenant").await;
    // A look of the judge's takes seconds itself, with hundreds of ports to be listed and inspected.
    let row = row(bed, "a hostile tenant on a node", Instant::now(), SECOND * 15).await;
    // They go on with it, and so does everybody else.
    for round in 0..3 {
        sleep(SECOND * 5).await;
        let neighbour = bed.nodes[0].engine.container(&format!("neighbour{round}")).publish(80).run().await;
        let begun = Instant::now();
        bed.right_since(begun, SECOND * 5).await;
        bed.nodes[0].engine.remove(&neighbour).await;
    }
    bed.right_since(Instant::now(), SECOND * 5).await;
    let longest = bed.nodes[0].remora.log()[log..].iter().map(String::len).max().unwrap_or_default();
    let control = |line: &String| line.contains(['\u{7}', '\u{202e}']) || line.contains("\u{1b}[31m");
    assert!(!bed.nodes[0].remora.log()[log..].iter().any(control), "a tenant writes to the operator's terminal");
    assert!(longest < 8192, "a tenant fills the log: a line of {longest} bytes");
    bed.nodes[0].remora.assert_never_restarted();
    for id in bed.nodes[0].engine.ids_with(UNJUDGED).await {
        bed.nodes[0].engine.call("DELETE", &format!("/containers/{id}?force=true&v=true"), None).await;
    }
    bed.right_since(Instant::now(), NEVER).await;
    let remark = "what others' containers on the node show while it is at it: hostile labels and names, 3,000 exposed ports and 200 \
                  published ones, one that ends all the time, one whose health changes every second";
    Row { healed: bed.healed().await, remark: remark.to_owned(), ..row }
}

async fn come(node: &Node, other: &Node) {
    let spec = |name: &str| node.engine.container(name).label(UNJUDGED, "1").publish(80);
    // Who pretends to be somebody else: on this node, on another one, or Consul or Remora itself.
    let neighbours = (node.engine.names(false).await, other.engine.names(false).await);
    for (number, id) in [
        format!("{}:{}:80", node.name, neighbours.0[0]),
        format!("{}:{}:80", other.name, neighbours.1[0]),
        format!("{}:{}:80", node.name.to_uppercase(), neighbours.0[1]),
        "remora".to_owned(),
        "consul".to_owned(),
        "../../agent/leave".to_owned(),
        "a?b#c/%2e%2e/\u{7}".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        spec(&format!("thief{number}")).label("SERVICE_ID", id).label("SERVICE_NAME", "consul").run().await;
    }
    // It has the name of a container on another node.
    spec("x").named(&neighbours.1[1]).run().await;
    huge(spec("huge")).run().await;
    wide(spec("wide")).run().await;
    let exposed: serde_json::Map<_, _> = (1..=3000).map(|port| (format!("{port}/tcp"), json!({}))).collect();
    let many = |body: &mut serde_json::Value| body["ExposedPorts"] = exposed.into();
    spec("exposes").edit(many).label("SERVICE_NAME", "../..").run().await;
    spec("ends").command(&["/bin/busybox", "true"]).restart_policy("always").run().await;
    let flaps = "if /bin/busybox test -e /f; then /bin/busybox rm /f; exit 1; else /bin/busybox touch /f; fi";
    let flapping = |body: &mut serde_json::Value| body["Healthcheck"]["Test"] = json!(["CMD-SHELL", flaps]);
    spec("flaps").health_check(SECOND).edit(flapping).run().await;
}

/// Labels of 64 KB, and such as would be words to a terminal, a path, a template or a line of a log.
fn huge(mut spec: Spec<'_>) -> Spec<'_> {
    let long = "x".repeat(64 << 10);
    for key in ["SERVICE_NAME", "SERVICE_TAGS", "SERVICE_META_A", "SERVICE_80_CHECK_HTTP", "SERVICE_REGION"] {
        spec = spec.label(key, &long);
    }
    for (number, value) in
        ["\u{1b}[31m\u{7}", "a\r\nX-Consul-Token: b", "{{range .}}", "../../../etc/passwd", "\u{202e}gnirts"]
            .iter()
            .enumerate()
    {
        spec = spec.label(&format!("SERVICE_{number}\u{1b}[31m"), value).env(&format!("SERVICE_META_{number}"), value);
    }
    spec.label("remora.heal.pre-stop", &long).label("remora.heal.window", "\u{7}").label(&long, "1")
}

/// Two hundred ports that the engine publishes, and a check for each.
fn wide(mut spec: Spec<'_>) -> Spec<'_> {
    for port in 1000..1200 {
        spec = spec.publish(port).label(&format!("SERVICE_{port}_NAME"), "wide");
    }
    spec
}
