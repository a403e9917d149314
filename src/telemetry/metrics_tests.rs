//! What the metrics look like to whoever collects them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;
use crate::telemetry::{
    HealAction, HealBrake, HealCause, HealOperation, HealOutcome, ProbeKind, ProbeOutcome, WebhookOutcome,
};

#[track_caller]
fn has(metrics: &Metrics, line: &str) {
    let text = metrics.encode();
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

#[test]
fn counters_end_in_total_once_and_units_are_in_the_names() {
    let text = Metrics::new().encode();
    assert!(!text.contains("_total_total"), "{text}");
    assert!(!text.contains("_seconds_seconds"), "{text}");
    assert!(text.contains("\n# UNIT remora_event_to_catalog_seconds seconds\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn every_method_moves_its_series() {
    let metrics = Metrics::new();
    metrics.docker_connected(true);
    metrics.event("start");
    metrics.event("exec_start: secret");
    metrics.event_stream_restarted();
    metrics.docker_request(DockerCall::Inspect, Outcome::NotFound);
    metrics.containers(7);
    metrics.label_notes(4);
    metrics.consul_reachable(true);
    metrics.consul_request(ConsulCall::Register, Outcome::Ok, Duration::from_millis(2));
    metrics.services_registered(5);
    metrics.pending(2);
    metrics.failing(1);
    metrics.write(WriteOp::Check, Outcome::Denied);
    metrics.lag(Duration::from_millis(3));
    metrics.drift_repaired(Drift::ForeignCheck);
    metrics.reconciled(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    metrics.resync(ResyncOutcome::Failed);
    metrics.queue_depth(3);
    let operation = HealOperation {
        action: HealAction::Replace,
        outcome: HealOutcome::Healed,
        cause: HealCause::CrashLoop,
        took: Duration::from_secs(12),
        outage: Some(Duration::from_millis(300)),
    };
    metrics.heal_operation(&operation);
    metrics.heal_operation(&HealOperation { outcome: HealOutcome::Cancelled, ..operation });
    metrics.heal_refused(HealBrake::NodeBudget);
    metrics.heal_incidents(2);
    metrics.heal_quarantined(1);
    metrics.heal_paused(true);
    metrics.heal_news_dropped();
    metrics.heal_webhook(WebhookOutcome::Limited);
    metrics.cluster_leader(true);
    metrics.cluster_nodes(5, 2, 1);
    metrics.probe(ProbeKind::Grpc, ProbeOutcome::TimedOut);
    metrics.probes_scheduled(6);
    for line in [
        "remora_docker_connected 1",
        "remora_docker_events_total{action=\"start\"} 1",
        "remora_docker_events_total{action=\"other\"} 1",
        "remora_docker_events_total{action=\"die\"} 0",
        "remora_docker_event_stream_restarts_total 1",
        "remora_docker_requests_total{call=\"inspect\",outcome=\"not_found\"} 1",
        "remora_containers 7",
        "remora_label_notes 4",
        "remora_consul_reachable 1",
        "remora_consul_requests_total{call=\"register\",outcome=\"ok\"} 1",
        "remora_consul_request_duration_seconds_bucket{le=\"0.001\",call=\"register\"} 0",
        "remora_consul_request_duration_seconds_bucket{le=\"0.0025\",call=\"register\"} 1",
        "remora_services_registered 5",
        "remora_pending 2",
        "remora_failing 1",
        "remora_writes_total{op=\"check\",outcome=\"denied\"} 1",
        "remora_event_to_catalog_seconds_bucket{le=\"0.0025\"} 0",
        "remora_event_to_catalog_seconds_bucket{le=\"0.005\"} 1",
        "remora_drift_repaired_total{kind=\"foreign_check\"} 1",
        "remora_reconcile_last_success_timestamp_seconds 1700000000.0",
        "remora_resync_total{outcome=\"failed\"} 1",
        "remora_queue_depth 3",
        "remora_heal_operations_total{action=\"replace\",outcome=\"healed\",cause=\"crash-loop\"} 1",
        "remora_heal_operation_seconds_count 1",
        "remora_heal_outage_seconds_bucket{le=\"0.25\"} 0",
        "remora_heal_outage_seconds_bucket{le=\"0.5\"} 1",
        "remora_heal_refused_total{brake=\"node-budget\"} 1",
        "remora_heal_incidents 2",
        "remora_heal_quarantined 1",
        "remora_heal_paused 1",
        "remora_heal_news_dropped_total 1",
        "remora_heal_webhook_total{outcome=\"limited\"} 1",
        "remora_cluster_leader 1",
        "remora_cluster_nodes{state=\"present\"} 5",
        "remora_cluster_nodes{state=\"vanished\"} 2",
        "remora_cluster_nodes{state=\"gone\"} 1",
        "remora_probes_total{kind=\"grpc\",outcome=\"timed_out\"} 1",
        "remora_probes_scheduled 6",
    ] {
        has(&metrics, line);
    }
}

#[test]
fn waiting_for_a_change_is_counted_but_not_timed() {
    let metrics = Metrics::new();
    metrics.consul_request(ConsulCall::Changed, Outcome::Ok, Duration::from_secs(300));
    has(&metrics, "remora_consul_requests_total{call=\"changed\",outcome=\"ok\"} 1");
    assert!(!metrics.encode().contains("seconds_count{call=\"changed\"}"));
}

#[test]
fn healing_costs_no_series_before_something_is_healed() {
    let text = Metrics::new().encode();
    assert!(!text.contains("remora_heal_operations_total") && !text.contains("remora_heal_refused_total"), "{text}");
    assert!(text.len() < 24 * 1024, "{} bytes are more than `encode` reserves", text.len());
}

#[test]
fn nothing_that_happens_adds_a_series() {
    let metrics = Metrics::new();
    let series = |metrics: &Metrics| metrics.encode().lines().count();
    let before = series(&metrics);
    for word in ["start", "exec_create: a", "b", "c", "health_status: x"] {
        metrics.event(word);
    }
    for (op, outcome) in pairs(WriteOp::ALL, Outcome::ALL) {
        metrics.write(op, outcome);
    }
    for (call, outcome) in pairs(ConsulCall::ALL, Outcome::ALL) {
        metrics.consul_request(call, outcome, Duration::ZERO);
    }
    assert_eq!(series(&metrics), before);
}

/// The table of `docs/metrics.md`, read off the exported text.
fn table() -> String {
    #[derive(Default)]
    struct Series {
        kind: String,
        meaning: String,
        labels: BTreeMap<String, BTreeSet<String>>,
    }
    let metrics = Metrics::new();
    metrics.all_of_healing();
    metrics.all_of_probes();
    let text = metrics.encode();
    let mut order = Vec::new();
    let mut all: BTreeMap<String, Series> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(meaning)) => {
                order.push(name.to_owned());
                all.entry(name.to_owned()).or_default().meaning = meaning.to_owned();
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                all.entry(name.to_owned()).or_default().kind = kind.to_owned();
            }
            _ => {}
        }
        let Some((sample, labels)) = line.split_once('{').filter(|(sample, _)| !sample.starts_with('#')) else {
            continue;
        };
        let family = order.iter().rev().find(|family| sample.starts_with(family.as_str())).unwrap();
        let series = all.get_mut(family).unwrap();
        for pair in labels.split_once('}').unwrap().0.split(',') {
            let (label, value) = pair.split_once('=').unwrap();
            if label != "le" {
                series.labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
            }
        }
    }
    let mut out = String::from("| Series | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for name in order {
        let Series { kind, meaning, labels } = &all[&name];
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, values)| match kind.as_str() {
                "info" => format!("`{label}`"),
                _ => format!("`{label}`: {}", values.iter().cloned().collect::<Vec<_>>().join(", ")),
            })
            .collect();
        writeln!(out, "| `{name}{suffix}` | {kind} | {} | {meaning} |", labels.join("; ")).unwrap();
    }
    out
}

#[test]
fn the_documentation_lists_every_series() {
    const BEGIN: &str = "<!-- begin of the generated table -->\n";
    const END: &str = "<!-- end of the generated table -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    let (before, rest) = documentation.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert_eq!(documentation, expected, "run `UPDATE_DOCS=1 cargo test --lib telemetry::metrics`");
    }
}
