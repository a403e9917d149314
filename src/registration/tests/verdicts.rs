//! What registrator's documentation promises, and what the state of a container means.

use super::super::testing::{alone, container, peers, settings, sight, with};
use super::super::{Verdict, register};
use crate::config::{Deregister, Filter};
use crate::consul::{CheckKind, Status};
use crate::docker::{NetworkMode, State};

#[test]
fn the_plainest_container_is_registered_as_registrator_would() {
    let registration = alone(container("web").publish("80", 8080), &settings());
    assert_eq!(registration.lines(), ["node-1:web:80 app 192.0.2.10:8080"]);
    let service = registration.services()[0];
    assert!(service.tags.is_empty() && service.tagged_addresses.is_empty() && service.weights.is_none());
    assert_eq!(service.meta.get("remora-hash").unwrap(), &service.definition_hash());
    assert_eq!(service.meta.get("remora-node").unwrap(), "node-1");
    assert_eq!(service.meta.get("remora-engine").unwrap(), "ENGINE:ID");
    assert_eq!(service.checks.len(), 1);
    assert_eq!(service.checks[0].name, "Docker health of web");
    let hundred_years = std::time::Duration::from_secs(876_000 * 3600);
    assert_eq!(*service.checks[0].kind, CheckKind::Ttl { ttl: hundred_years });
    assert!(registration.notes.is_empty(), "{:?}", registration.notes);
    let reasons = &registration.planned()[0].reasons;
    assert_eq!(reasons["address"], "the host's address");
    assert_eq!(reasons["port"], "host port");
    assert_eq!(reasons["name"], "image");
    assert_eq!(reasons["id"], "host:container:port");
}

#[test]
fn the_sites_ttl_is_the_docker_checks() {
    let mut settings = settings();
    settings.health_ttl = Some(std::time::Duration::from_secs(90));
    let registration = alone(container("web").publish("80", 8080), &settings);
    assert_eq!(*registration.services()[0].checks[0].kind, CheckKind::Ttl { ttl: std::time::Duration::from_secs(90) });
}

#[test]
fn internal_registers_every_exposed_and_published_port_at_the_containers_address() {
    let web = container("web").network("bridge", "172.17.0.2").expose("9000").publish("80", 8080);
    let internal = with(|publish| publish.internal = true);
    assert_eq!(
        alone(web.clone(), &internal).lines(),
        ["node-1:web:80 app-80 172.17.0.2:80", "node-1:web:9000 app-9000 172.17.0.2:9000"]
    );
    assert_eq!(alone(web, &settings()).lines(), ["node-1:web:80 app 192.0.2.10:8080"]);
}

#[test]
fn explicit_asks_for_a_name_per_port_or_for_the_container() {
    let explicit = with(|publish| publish.explicit = true);
    let web = || container("web").publish("80", 8080).publish("81", 8081);
    assert!(alone(web(), &explicit).nothing().contains("REMORA_EXPLICIT"));
    assert_eq!(alone(web().label("SERVICE_81_NAME", "x"), &explicit).lines(), ["node-1:web:81 x 192.0.2.10:8081"]);
    assert_eq!(alone(web().label("SERVICE_NAME", "x"), &explicit).services().len(), 2);
    assert_eq!(alone(web().label("remora.enable", "true"), &explicit).services().len(), 2);
}

#[test]
fn the_trusted_label_gives_the_address_and_the_mode_gives_the_port() {
    let web = container("web").publish("80", 8080).network("bridge", "172.17.0.2").label("ip", "10.42.3.4/16");
    let mut settings = with(|publish| publish.use_ip_from_label = Some("ip".into()));
    assert_eq!(alone(web.clone(), &settings).lines(), ["node-1:web:80 app 10.42.3.4:8080"]);
    settings.publish.internal = true;
    let internal = alone(web.clone(), &settings);
    assert_eq!(internal.lines(), ["node-1:web:80 app 10.42.3.4:80"]);
    assert_eq!(internal.planned()[0].reasons["address"], "label ip (REMORA_USE_IP_FROM_LABEL)");
    let bad = alone(web.label("ip", "localhost"), &settings);
    assert_eq!(bad.services()[0].address, "172.17.0.2");
    assert!(bad.notes_about("ip")[0].warning);
}

#[test]
fn one_port_of_an_ignored_container_can_be_kept() {
    let web = container("web")
        .publish("80", 8080)
        .publish("81", 8081)
        .label("SERVICE_IGNORE", "true")
        .label("SERVICE_80_IGNORE", "false");
    assert_eq!(alone(web, &settings()).lines(), ["node-1:web:80 app 192.0.2.10:8080"]);
}

#[test]
fn a_container_without_ports_is_nothing_and_says_so() {
    assert_eq!(alone(container("job"), &settings()).nothing(), "no published ports");
    let exposed = alone(container("db").expose("5432"), &settings());
    assert_eq!(exposed.nothing(), "no port to register: 5432/tcp: not published on the host");
    assert!(!exposed.notes_about("5432/tcp")[0].warning);
}

#[test]
fn what_is_expected_back_is_held_critical() {
    let restarting = alone(container("web").ended(State::Restarting, 1), &settings());
    assert_eq!(restarting.held(), "restarting after it exited 1");
    assert!(alone(container("web").ended(State::Dead, 0), &settings()).held().starts_with("dead"));
    let always = alone(container("web").ended(State::Exited, 1), &settings());
    assert_eq!(always.nothing(), "not running (exited, code 1)");
}

#[test]
fn what_the_operator_excludes_is_not_even_held() {
    let settings = with(|publish| {
        publish.exclude = vec![Filter::Name("web".into())];
        publish.deregister = Deregister::OnSuccess;
    });
    for state in [State::Restarting, State::Dead, State::Exited] {
        assert!(alone(container("web").ended(state, 1), &settings).nothing().contains("REMORA_EXCLUDE"));
    }
}

#[test]
fn a_replacement_under_way_never_shows() {
    let named = |name: &str| container(name).publish("80", 8080);
    for name in ["web.old-1a2b3c4d", "web.undo-1a2b3c4d", "web.bad-1a2b3c4d"] {
        assert!(alone(named(name), &settings()).nothing().contains("web"), "{name}");
    }
    let staged = sight(named("web.new-1a2b3c4d").build());
    let taken_over = register(&staged, &peers([]), &settings());
    assert_eq!(taken_over.lines(), ["node-1:web:80 app 192.0.2.10:8080"]);
    let service = taken_over.services()[0];
    assert!(!format!("{service:?}").contains("new-"), "{service:?}");
    // While the old one serves, two must not claim the same id.
    let mut old = sight(named("web").build());
    assert!(register(&staged, &peers([old.clone()]), &settings()).nothing().contains("web"));
    old.draining = true;
    assert_eq!(register(&staged, &peers([old]), &settings()).services().len(), 1);
}

#[test]
fn a_note_about_the_network_label_where_it_does_nothing() {
    let web = alone(container("web").publish("80", 8080).label("remora.network", "x"), &settings());
    assert_eq!(web.services().len(), 1);
    assert_eq!(web.notes_about("remora.network").len(), 1);
}

#[test]
fn checks_on_an_unreachable_port_are_left_out() {
    let web = || container("web").publish("80", 8080).expose("9000").label("SERVICE_CHECK_HTTP", "/");
    let unpublished = alone(web().label("SERVICE_CHECK_PORT", "9000"), &settings());
    assert_eq!(unpublished.services()[0].checks.len(), 1);
    let internal = with(|publish| publish.internal = true);
    let inside = alone(web().network("bridge", "172.17.0.2").label("SERVICE_CHECK_PORT", "9000"), &internal);
    assert!(inside.services().iter().all(|service| service.checks.len() == 2));
    let elsewhere = web().bind("9001", "198.51.100.7", 9001).label("SERVICE_80_CHECK_PORT", "9001");
    let elsewhere = alone(elsewhere, &settings());
    assert_eq!(elsewhere.services()[0].checks.len(), 1);
}

#[test]
fn the_same_check_name_twice_and_bad_settings_cost_little() {
    let web = container("web")
        .publish("80", 8080)
        .label("SERVICE_CHECK_READY_HTTP", "/")
        .label("SERVICE_CHECK_READY_TCP", "true")
        .label("SERVICE_CHECK_READY_INTERVAL", "often")
        .label("SERVICE_CHECK_READY_METHOD", "GET /\r\n")
        .label("SERVICE_CHECK_TTL", "never")
        .label("SERVICE_CHECK_SUCCESS_BEFORE_PASSING", "many")
        .label("SERVICE_CHECK_INITIAL_STATUS", "green")
        .label("SERVICE_WEIGHT", "0");
    let registration = alone(web, &settings());
    let checks = &registration.services()[0].checks;
    assert_eq!(checks.len(), 2);
    assert_eq!(checks[1].id, "node-1:web:80:ready");
    assert_eq!(checks[1].status, Status::Critical);
    assert_eq!(registration.services()[0].weights, None);
    for key in [
        "SERVICE_CHECK_READY_TCP",
        "SERVICE_CHECK_READY_INTERVAL",
        "SERVICE_CHECK_READY_METHOD",
        "SERVICE_CHECK_TTL",
        "SERVICE_CHECK_SUCCESS_BEFORE_PASSING",
        "SERVICE_CHECK_INITIAL_STATUS",
        "SERVICE_WEIGHT",
    ] {
        assert_eq!(registration.notes_about(key).len(), 1, "{key}: {:?}", registration.notes);
    }
}

#[test]
fn an_empty_setting_of_one_check_takes_the_setting_of_all_checks_away() {
    let web = container("web")
        .publish("80", 8080)
        .label("SERVICE_CHECK_HTTP", "/")
        .label("SERVICE_CHECK_READY_HTTP", "/")
        .label("SERVICE_CHECK_METHOD", "HEAD")
        .label("SERVICE_CHECK_READY_METHOD", "")
        .label("SERVICE_WEIGHT", "7")
        .label("SERVICE_80_WEIGHTS_PASSING", "");
    let registration = alone(web, &settings());
    let methods = registration.services()[0].checks.iter().filter_map(|check| match &*check.kind {
        CheckKind::Http { method, .. } => Some(method.as_deref()),
        _ => None,
    });
    assert_eq!(methods.collect::<Vec<_>>(), [Some("HEAD"), None]);
    assert_eq!(registration.services()[0].weights, None);
}

#[test]
fn a_script_that_needs_a_shell_is_told() {
    let web = |script: &str| container("web").publish("80", 8080).label("SERVICE_CHECK_SCRIPT", script);
    let allowed = with(|publish| publish.allow_script_checks = true);
    let told = alone(web("nc $SERVICE_IP $SERVICE_PORT | grep OK"), &allowed);
    assert_eq!(told.services()[0].checks.len(), 2);
    assert!(told.notes_about("SERVICE_CHECK_SCRIPT")[0].text.contains("sh -c"));
    assert!(!format!("{:?}", told.notes).contains("grep"), "a script may hold a secret");
    assert!(alone(web("sh -c 'a | b'"), &allowed).notes.is_empty());
}

#[test]
fn the_hash_follows_the_definition_and_not_the_health() {
    let web = || container("web").publish("80", 8080);
    let hash = |registration: super::super::Registration| {
        registration.services()[0].meta.get("remora-hash").unwrap().to_owned()
    };
    let healthy = hash(alone(web().health(crate::docker::HealthStatus::Healthy, 0, ""), &settings()));
    let unhealthy = hash(alone(web().health(crate::docker::HealthStatus::Unhealthy, 1, "no"), &settings()));
    assert_eq!(healthy, unhealthy);
    let slower = web().label("SERVICE_CHECK_TCP", "true").label("SERVICE_CHECK_INTERVAL", "20s");
    let faster = web().label("SERVICE_CHECK_TCP", "true");
    assert_ne!(hash(alone(slower, &settings())), hash(alone(faster, &settings())));
}

#[test]
fn a_filter_by_network_looks_at_the_network_that_a_container_shares() {
    let member = || {
        let shares = |name: &str, with: &str| container(name).mode(NetworkMode::Container(with.into())).declare("80");
        (sight(shares("member", "middle").build()), sight(shares("middle", "pod").build()))
    };
    let (member, middle) = member();
    let known = peers([middle, sight(container("pod").network("shop_back", "172.20.0.5").publish("80", 8080).build())]);
    let filter = |pattern: &str| vec![Filter::Network(pattern.into())];
    let include = |pattern: &str| with(|publish| publish.include = filter(pattern));
    let exclude = |pattern: &str| with(|publish| publish.exclude = filter(pattern));
    assert_eq!(register(&member, &known, &include("shop_*")).services().len(), 1);
    assert!(register(&member, &known, &include("other")).nothing().contains("REMORA_INCLUDE"));
    assert!(register(&member, &known, &exclude("shop_*")).nothing().contains("REMORA_EXCLUDE"));
    assert_eq!(register(&member, &known, &exclude("other")).services().len(), 1);
    // Whose network it is has not been seen yet: everything stays as it is.
    for settings in [include("other"), exclude("shop_*")] {
        assert!(matches!(register(&member, &peers([]), &settings).verdict, Verdict::Wait { .. }));
        let mut draining = member.clone();
        draining.draining = true;
        assert!(register(&draining, &peers([]), &settings).nothing().contains("draining"));
    }
}

#[test]
fn a_missing_owner_of_the_network_is_waited_for_whatever_the_mode() {
    let member = container("web").mode(NetworkMode::Container("gone".into())).label("remora.portless", "true");
    assert!(matches!(alone(member, &settings()).verdict, Verdict::Wait { peer, .. } if peer == "gone"));
}

#[test]
fn the_example_of_the_page_gives_what_the_page_says() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/labels.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page.split("```").nth(1).unwrap();
    let mut web = container("web").publish("80", 8080).publish("9100", 9100).label("SERVICE_9100_IGNORE", "true");
    for line in example.trim().lines() {
        let (key, value) = line.split_once('=').unwrap();
        web = web.label(key, value);
    }
    let registration = alone(web, &settings());
    let checks = registration.services()[0].checks.iter().map(|check| {
        let name = check.id.rsplit(':').next().unwrap().to_owned();
        match &*check.kind {
            CheckKind::Http { probe, .. } | CheckKind::Tcp { probe, .. } => (name, probe.interval.as_secs()),
            _ => (name, 0),
        }
    });
    let expected = [("docker", 0), ("http", 15), ("metrics", 15), ("ready", 5)];
    assert_eq!(checks.collect::<Vec<_>>(), expected.map(|(name, seconds)| (name.to_owned(), seconds)));
    assert!(registration.notes.iter().all(|note| !note.warning), "{:?}", registration.notes);
}
