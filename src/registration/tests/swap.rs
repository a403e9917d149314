//! What registrator registers and a swap must not lose: networks for which the engine maps no ports, shared network stacks,
//! addresses from labels, and the id of the check under which services report their own health.

use std::sync::Arc;

use super::super::testing::{Builder, alone, container, peers, settings, sight, with};
use super::super::{Registration, register};
use crate::consul::CheckKind;
use crate::docker::{NetworkMode, State};

/// On a macvlan network, as the engine describes it: an address, and no port in its list.
fn on_macvlan(name: &str) -> Builder {
    container(name).mode(NetworkMode::Named("lan".into())).network("lan", "192.0.2.50")
}

#[test]
fn a_container_with_an_address_of_its_own_in_the_lan_is_reached_there() {
    let registration = alone(on_macvlan("web").declare("80"), &settings());
    assert_eq!(registration.lines(), ["node-1:web:80 app 192.0.2.50:80"]);
    let reasons = &registration.planned()[0].reasons;
    assert_eq!((reasons["address"].as_str(), reasons["port"].as_str()), ("network lan", "container port"));
    let two = alone(on_macvlan("web").declare("80").declare("53/udp").network("lan", "2001:db8::50"), &settings());
    assert_eq!(two.lines(), ["node-1:web:53:udp app-53 192.0.2.50:53", "node-1:web:80 app-80 192.0.2.50:80"]);
    assert_eq!(two.services()[0].tagged_addresses.get("lan_ipv6").unwrap().address, "2001:db8::50");
}

#[test]
fn in_a_network_without_mapped_ports_labels_choose_network_ports_and_check_port() {
    let web = on_macvlan("web").network("other", "198.51.100.9").declare("80");
    let chosen = alone(web.clone().label("remora.network", "other"), &settings());
    assert_eq!(chosen.services()[0].address, "198.51.100.9");
    assert!(chosen.notes_about("remora.network").is_empty(), "{:?}", chosen.notes);
    let more = alone(web.clone().label("remora.ports", "9000"), &settings());
    assert_eq!(more.services().len(), 2, "what is declared is as reachable as what is exposed");
    let checked =
        alone(web.clone().label("SERVICE_CHECK_TCP", "true").label("SERVICE_CHECK_PORT", "9100"), &settings());
    let CheckKind::Tcp { address, .. } = &*checked.services()[0].checks[1].kind else { panic!("no TCP check") };
    assert_eq!(address, "192.0.2.50:9100");
    let trusted = with(|publish| publish.use_ip_from_label = Some("ip".into()));
    assert_eq!(alone(web.label("ip", "203.0.113.7"), &trusted).services()[0].address, "203.0.113.7");
}

#[test]
fn a_port_that_the_engine_could_have_published_and_did_not_stays_unpublished() {
    let bridged =
        || container("web").mode(NetworkMode::Named("shop".into())).network("shop", "172.20.0.5").expose("80");
    assert!(alone(bridged(), &settings()).nothing().contains("not published"));
    let declared = alone(bridged().label("remora.ports", "9000"), &settings());
    assert!(declared.nothing().contains("not published"), "{}", declared.nothing());
    let nothing_exposed = container("web").mode(NetworkMode::Named("shop".into())).network("shop", "172.20.0.5");
    assert!(alone(nothing_exposed.label("remora.ports", "9000"), &settings()).nothing().contains("not published"));
    let plain = alone(container("web").network("bridge", "172.17.0.5").declare("80"), &settings());
    assert!(plain.nothing().contains("not published"));
}

#[test]
fn an_empty_list_of_ports_of_a_container_that_does_not_run_means_nothing() {
    for state in [State::Created, State::Exited, State::Removing] {
        let web = on_macvlan("web").declare("80").ended(state, 0);
        assert!(alone(web, &settings()).nothing().starts_with("not running"));
    }
    for state in [State::Restarting, State::Dead] {
        alone(on_macvlan("web").declare("80").ended(state, 1), &settings()).held();
    }
    // What the word means is not known, so neither is whether its list of ports does: everything stays as it is.
    alone(on_macvlan("web").declare("80").ended(State::Unknown("odd".into()), 0), &settings()).held();
    let disconnected = container("web").mode(NetworkMode::Named("lan".into())).declare("80");
    assert!(alone(disconnected, &settings()).nothing().contains("no address"));
    let mut paused = sight(on_macvlan("web").declare("80").build());
    Arc::make_mut(&mut paused.container).state = State::Paused;
    assert_eq!(register(&paused, &peers([]), &settings()).services().len(), 1);
}

#[test]
fn without_a_network_the_label_gives_the_address_and_expose_the_ports() {
    let trusted = with(|publish| publish.use_ip_from_label = Some("ip".into()));
    let job = || container("job").mode(NetworkMode::None).declare("80");
    assert_eq!(alone(job().label("ip", "10.7.0.2/24"), &trusted).lines(), ["node-1:job:80 app 10.7.0.2:80"]);
    assert!(alone(job(), &trusted).nothing().contains("network mode none"));
    assert!(alone(job().label("ip", "10.7.0.2/24"), &settings()).nothing().contains("network mode none"));
    let portless = container("job").mode(NetworkMode::None).label("ip", "10.7.0.2/24");
    assert!(alone(portless, &trusted).nothing().contains("EXPOSE"));
}

/// `member`, which shares the network of `owner`.
fn beside(member: Builder, owner: Builder, internal: bool) -> Registration {
    let known = peers([sight(owner.build())]);
    let settings = with(|publish| publish.internal = internal);
    register(&sight(member.mode(NetworkMode::Container("pod".into())).build()), &known, &settings)
}

#[test]
fn a_member_is_reached_at_its_owners_address_by_ports_that_the_owner_does_not_publish() {
    let pod = || container("pod").network("bridge", "172.17.0.9").publish("80", 18080);
    let member = || container("member").image("exporter").declare("8080");
    assert_eq!(beside(member(), pod(), false).lines(), ["node-1:member:8080 exporter 172.17.0.9:8080"]);
    assert_eq!(beside(member(), pod().expose("8080"), false).lines(), ["node-1:member:8080 exporter 172.17.0.9:8080"]);
    let published = beside(member().declare("80"), pod(), false);
    assert_eq!(
        published.lines(),
        ["node-1:member:80 exporter-80 192.0.2.10:18080", "node-1:member:8080 exporter-8080 172.17.0.9:8080"]
    );
    let on_loopback = beside(member(), pod().bind("8080", "127.0.0.1", 8080), false);
    assert!(on_loopback.nothing().contains("127.0.0.1"), "{}", on_loopback.nothing());
    // A port of the owner's that the member only inherits is the owner's to publish.
    let inherits = beside(container("member"), pod().expose("9000"), false);
    assert_eq!(inherits.lines(), ["node-1:member:80 app 192.0.2.10:18080"]);
    assert_eq!(beside(member(), pod(), true).lines(), ["node-1:member:8080 exporter 172.17.0.9:8080"]);
    let lan = beside(container("member"), on_macvlan("pod").declare("80"), false);
    assert_eq!(lan.lines(), ["node-1:member:80 app 192.0.2.50:80"]);
}

#[test]
fn a_service_reports_to_its_ttl_check_under_consuls_own_id() {
    let web =
        container("web").publish("80", 8080).label("SERVICE_CHECK_TTL", "30s").label("SERVICE_CHECK_READY_TTL", "60s");
    let registration = alone(web, &settings());
    let ids: Vec<_> = registration.services()[0].checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["node-1:web:80:docker", "node-1:web:80:ready", "service:node-1:web:80"]);
}

#[test]
fn no_two_checks_of_a_container_have_the_same_id() {
    let scripts = with(|publish| publish.allow_script_checks = true);
    let web = container("web")
        .publish("80", 8080)
        .label("SERVICE_CHECK_DOCKER", "true x")
        .label("SERVICE_CHECK_EXEC_HTTP", "/x");
    let registration = alone(web, &scripts);
    let ids: Vec<_> = registration.services()[0].checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["node-1:web:80:docker", "node-1:web:80:exec"]);
    assert_eq!(registration.notes_about("SERVICE_CHECK_EXEC_HTTP").len(), 1);
    // Ids of services that are made so that the id of one's check is that of another's.
    let web = container("web")
        .publish("80", 8080)
        .publish("81", 8081)
        .label("SERVICE_80_ID", "x:docker")
        .label("SERVICE_80_CHECK_TTL", "30s")
        .label("SERVICE_81_ID", "service:X");
    let registration = alone(web, &settings());
    let mut ids: Vec<_> = registration
        .services()
        .iter()
        .flat_map(|service| &service.checks)
        .map(|check| check.id.to_lowercase())
        .collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "{ids:?}");
    assert!(registration.services().iter().all(|service| service.checks[0].id == format!("{}:docker", service.id)));
    assert_eq!(registration.notes_about("checks").len(), 1, "{:?}", registration.notes);
    let sealed =
        |service: &&crate::consul::Service| service.meta.get("remora-hash").unwrap() == service.definition_hash();
    assert!(registration.services().iter().all(sealed));
}

#[test]
fn a_host_name_stands_where_the_hosts_address_would() {
    let named = with(|publish| {
        publish.address = crate::config::HostAddress { name: Some("host.example.com".to_owned()), v4: None, v6: None };
    });
    let web = container("web")
        .bind("80", "0.0.0.0", 8080)
        .bind("80", "::", 8080)
        .bind("80", "198.51.100.7", 9000)
        .label("SERVICE_CHECK_HTTP", "/health")
        .label("SERVICE_CHECK_TCP", "true")
        .label("SERVICE_CHECK_GRPC", "svc");
    let registration = alone(web, &named);
    let services = registration.services();
    assert_eq!(services.len(), 2, "both families of the wildcard are one");
    assert_eq!((services[0].address.as_str(), services[0].port), ("host.example.com", 8080));
    assert!(services[0].tagged_addresses.is_empty(), "which address the name has is not known");
    let text = format!("{:?}", services[0].checks);
    for part in
        ["\"http://host.example.com:8080/health\"", "\"host.example.com:8080\"", "\"host.example.com:8080/svc\""]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!((services[1].address.as_str(), services[1].port), ("198.51.100.7", 9000));
    let on_the_host = alone(container("web").mode(NetworkMode::Host).declare("80"), &named);
    assert_eq!(on_the_host.services()[0].address, "host.example.com");
    let v6_only = alone(container("web").bind("80", "::", 8080), &named);
    assert_eq!(v6_only.services()[0].address, "host.example.com");
    assert_eq!(alone(on_macvlan("web").declare("80"), &named).services()[0].address, "192.0.2.50");
}
