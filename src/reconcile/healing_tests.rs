use std::time::Duration;

use super::*;
use crate::docker::{Lens, ProbeTimes, inspect};

/// A container with these labels, and with a HEALTHCHECK.
fn container(labels: &[(&str, &str)]) -> Container {
    let labels: HashMap<&str, &str> = labels.iter().copied().collect();
    let document = serde_json::json!({
        "Id": "ab".repeat(32), "Name": "/web.new-0123abcd", "Image": "sha256:1",
        "State": { "Status": "running", "Running": true, "StartedAt": "2026-01-01T00:00:00Z" },
        "Config": { "Image": "web:1", "Labels": labels },
        "HostConfig": { "NetworkMode": "bridge" },
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }] }, "Networks": {} }
    });
    let mut container = inspect::read(document.to_string().as_bytes(), &Lens::default()).unwrap();
    let second = Duration::from_secs(1);
    container.life.probe =
        Some(Box::new(ProbeTimes { interval: second, timeout: second, start_period: Duration::ZERO, retries: 3 }));
    container
}

struct Nobody;

impl Peers for Nobody {
    fn find(&self, _: &str) -> Option<Sight> {
        None
    }

    fn is_gone(&self, _: &str) -> bool {
        false
    }
}

fn service(container: Container, heal: &Heal, given_up: Option<&str>) -> Service {
    let mut settings = crate::reconcile::own::tests::settings();
    settings.publish.address.v4 = Some([192, 0, 2, 1].into());
    let healing = Healing { settings: heal.clone(), never: Never::default() };
    let sight = Sight { container: container.into(), draining: false, settling: false };
    match register(&sight, &Nobody, &settings, &healing, given_up).verdict {
        Verdict::Services(mut planned) => planned.remove(0).service,
        other => panic!("{other:?}"),
    }
}

fn check(labels: &[(&str, &str)]) -> Option<Check> {
    let service = service(container(labels), &Heal::default(), None);
    assert_eq!(service.meta.get(Service::META_HASH).unwrap(), &service.definition_hash(), "sealed");
    service.checks.into_iter().find(|check| check.id == "n1:web:80:healing")
}

fn notes_of(labels: &[(&str, &str)]) -> String {
    let notes = check(labels).unwrap().notes;
    assert!(notes.len() < LONGEST && !notes.chars().any(char::is_control), "{notes}");
    notes.to_string()
}

#[test]
fn the_check_is_ours_alone_to_feed_and_never_expires() {
    let check = check(&[]).unwrap();
    assert_eq!(check.name, "Healing of web");
    assert_eq!(check.kind, unexpiring());
    assert_eq!((check.status, check.output.as_str()), (Status::Passing, ""));
    assert_eq!(check.deregister_after, None);
}

#[test]
fn the_notes_say_what_will_happen() {
    assert_eq!(
        notes_of(&[]),
        "When it is unhealthy for 15s, its HEALTHCHECK has no verdict after 5m, it ends and stays down for 5s, it ends again \
         and again or Docker cannot start it, it is replaced by a new container of the same image, started first where the \
         two can run side by side. This check turns critical when Remora gives up: after 5 attempts within 30m at the latest."
    );
    assert_eq!(
        notes_of(&[
            ("remora.heal.triggers", "unhealthy,critical"),
            ("remora.heal.unhealthy-for", "0s"),
            ("remora.heal.critical-for", "90s"),
            ("remora.heal.strategy", "escalate"),
            ("remora.heal.order", "stop-first"),
            ("remora.heal.max-attempts", "2"),
            ("remora.heal.window", "1h"),
        ]),
        "When it is unhealthy or a check of its own in Consul is critical for 1m 30s, it is restarted once, and then replaced \
         by a new container of the same image, started after the old one was stopped. This check turns critical when Remora \
         gives up: after 2 attempts within 1h at the latest."
    );
    assert!(notes_of(&[("remora.heal.strategy", "restart")]).contains(", it is restarted. "));
    assert!(notes_of(&[("remora.heal.strategy", "stop")]).contains(", it is stopped, and left so. "));
    assert!(notes_of(&[("remora.heal.order", "start-first")]).contains("started before the old one is stopped"));
}

#[test]
fn where_nothing_is_done_the_notes_say_so() {
    let only = ("remora.heal.triggers", "died");
    let when = "When it ends and stays down for 5s, ";
    assert_eq!(
        notes_of(&[only, ("remora.heal", "observe")]),
        "Only observed. When it ends and stays down for 5s, Remora tells that it would be replaced by a new container of the \
         same image, started first where the two can run side by side, and does nothing."
    );
    assert_eq!(
        notes_of(&[only, ("remora.heal.strategy", " Notify ")]),
        format!("{when}that is told, and nothing is done (remora.heal.strategy=notify).")
    );
    for bad in ["remora.heal.grace", "remora.heal.strategy"] {
        assert_eq!(
            notes_of(&[only, (bad, "canary\n"), ("remora.heal.nonsense", "x")]),
            format!("{when}that is told, and nothing is done (its label {bad} is not understood).")
        );
    }
    let mut unprobed = container(&[("remora.heal.triggers", "unhealthy,stuck-starting")]);
    unprobed.life.probe = None;
    let service = service(unprobed, &Heal::default(), None);
    assert!(service.checks[1].notes.ends_with("asks for a HEALTHCHECK, and it has none."), "{:?}", service.checks);
}

#[test]
fn what_is_not_healed_has_no_check() {
    for labels in [("remora.heal", "off"), ("autoheal", "false"), ("com.docker.swarm.task.id", "x")] {
        assert_eq!(check(&[labels]), None, "{labels:?}");
    }
    let mut attended = container(&[]);
    attended.life.interactive = true;
    assert_eq!(service(attended, &Heal::default(), None).checks.len(), 1, "somebody sits in front of it");
    let off = Heal { mode: HealMode::Off, ..Heal::default() };
    assert_eq!(service(container(&[("remora.heal", "on")]), &off, None).checks.len(), 1);
    let observed = Heal { mode: HealMode::Observe, ..Heal::default() };
    assert!(service(container(&[]), &observed, None).checks[1].notes.starts_with("Only observed. "));
}

#[test]
fn the_policy_is_part_of_the_definition_and_who_is_given_up_is_not() {
    let heal = Heal::default();
    let hash = |labels: &[(&str, &str)], given_up| {
        service(container(labels), &heal, given_up).meta.get(Service::META_HASH).unwrap().to_owned()
    };
    assert_ne!(hash(&[], None), hash(&[("remora.heal.max-attempts", "3")], None));
    assert_eq!(hash(&[], None), hash(&[], Some("why")));
    let given_up = service(container(&[]), &heal, Some(&format!("a\n\u{1b}[2J{}", "é".repeat(2000))));
    let check = &given_up.checks[1];
    assert_eq!(check.status, Status::Critical);
    assert!(check.output.starts_with('a') && check.output.len() <= LONGEST);
    assert!(!check.output.chars().any(char::is_control), "{}", check.output);
}
