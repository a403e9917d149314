//! The edge cases of the registrator family that concern the rules, by their numbers in the list that Remora was designed
//! against: given … then ….

use std::sync::Arc;

use super::super::testing::{alone, container, peers, settings, sight, with};
use super::super::{Verdict, register};
use crate::config::{Bindings, Deregister, HostAddress, Names, NetworkChoice, PortTags};
use crate::consul::{CheckKind, Status};
use crate::docker::{HealthStatus, NetworkMode, State};

fn dual_stack() -> HostAddress {
    HostAddress { v4: Some("192.0.2.10".parse().unwrap()), v6: Some("2001:db8::10".parse().unwrap()), name: None }
}

#[test]
fn case_05_a_container_that_does_not_run_is_never_registered() {
    for (state, exit_code, expected) in [
        (State::Created, 0, "not running (created)"),
        (State::Removing, 0, "not running (being removed)"),
        (State::Exited, 0, "not running (exited, code 0)"),
        (State::Exited, 1, "not running (exited, code 1)"),
    ] {
        let stopped = container("web").publish("80", 8080).ended(state, exit_code);
        assert_eq!(alone(stopped, &settings()).nothing(), expected);
    }
}

#[test]
fn case_06_a_new_dynamic_port_keeps_the_id() {
    let before = alone(container("web").publish("80", 32768), &settings());
    let after = alone(container("web").publish("80", 32770), &settings());
    assert_eq!(before.services()[0].id, after.services()[0].id);
    assert_eq!(after.services()[0].port, 32770);
    assert_ne!(
        before.services()[0].meta.get("remora-hash").unwrap(),
        after.services()[0].meta.get("remora-hash").unwrap()
    );
}

#[test]
fn case_08_out_of_memory_is_a_failure_and_a_requested_stop_is_none() {
    let settings = with(|publish| publish.deregister = Deregister::OnSuccess);
    let mut killed = sight(container("web").ended(State::Exited, 137).build());
    Arc::make_mut(&mut killed.container).oom_killed = true;
    assert_eq!(register(&killed, &peers([]), &settings).held(), "exited 137 (out of memory)");
    killed.draining = true;
    assert_eq!(register(&killed, &peers([]), &settings).nothing(), "not running (exited, code 137)");
    assert_eq!(alone(container("web").ended(State::Exited, 255), &settings).held(), "exited 255");
    assert_eq!(alone(container("web").ended(State::Exited, 0), &settings).nothing(), "not running (exited, code 0)");
}

#[test]
fn case_10_a_container_that_is_being_stopped_is_out_at_once() {
    let mut stopping = sight(container("web").publish("80", 8080).build());
    stopping.draining = true;
    assert_eq!(register(&stopping, &peers([]), &settings()).nothing(), "draining: a stop signal was sent");
}

#[test]
fn case_11_a_paused_container_stays_and_is_critical() {
    let mut paused = sight(container("web").publish("80", 8080).build());
    Arc::make_mut(&mut paused.container).state = State::Paused;
    let registration = register(&paused, &peers([]), &settings());
    let docker = &registration.services()[0].checks[0];
    assert_eq!((docker.status, docker.output.as_str()), (Status::Critical, "paused"));
}

#[test]
fn case_12_a_rename_keeps_the_identity() {
    let mut renamed = container("web").publish("80", 8080).build();
    let before = register(&sight(renamed.clone()), &peers([]), &settings());
    renamed.name = "shop".into();
    let after = register(&sight(renamed), &peers([]), &settings());
    assert_eq!(
        before.services()[0].meta.get("container-id").unwrap(),
        after.services()[0].meta.get("container-id").unwrap()
    );
    assert_eq!(after.services()[0].id, "node-1:shop:80");
}

#[test]
fn case_13_a_network_that_comes_or_goes_changes_the_address() {
    let settings = with(|publish| publish.internal = true);
    let one = container("web").expose("80").network("b", "10.2.0.2");
    assert_eq!(alone(one.clone(), &settings).services()[0].address, "10.2.0.2");
    assert_eq!(alone(one.network("a", "10.1.0.2"), &settings).services()[0].address, "10.1.0.2");
    assert!(alone(container("web").expose("80"), &settings).nothing().contains("no address"));
}

#[test]
fn case_16_a_container_that_just_came_back_from_a_crash_is_not_trusted_yet() {
    let mut settling = sight(container("web").publish("80", 8080).build());
    settling.settling = true;
    let registration = register(&settling, &peers([]), &settings());
    assert_eq!(registration.services()[0].checks[0].status, Status::Critical);
}

#[test]
fn case_17_several_bindings_are_one_instance_per_distinct_address() {
    let bound = container("web")
        .bind("80", "0.0.0.0", 8080)
        .bind("80", "::", 8080)
        .bind("80", "0.0.0.0", 8081)
        .bind("80", "198.51.100.7", 9000)
        .bind("80", "2001:db8::7", 9000)
        .bind("80", "192.0.2.10", 8080);
    let mut settings = with(|publish| publish.address = dual_stack());
    assert_eq!(
        alone(bound.clone(), &settings).lines(),
        [
            "node-1:web:80 app 192.0.2.10:8080",
            "node-1:web:80:0.0.0.0:8081 app 192.0.2.10:8081",
            "node-1:web:80:198.51.100.7:9000 app 198.51.100.7:9000",
            "node-1:web:80:2001-db8--7:9000 app [2001:db8::7]:9000",
        ]
    );
    settings.publish.bindings = Bindings::First;
    assert_eq!(alone(bound, &settings).lines(), ["node-1:web:80 app 192.0.2.10:8080"]);
}

#[test]
fn case_18_a_port_published_on_loopback_only_is_skipped_with_the_reason() {
    let registration = alone(container("web").bind("80", "127.0.0.1", 8080), &settings());
    assert!(registration.nothing().contains("127.0.0.1"), "{}", registration.nothing());
    assert_eq!(registration.notes_about("80/tcp").len(), 1);
    let both = container("web").bind("80", "127.0.0.1", 8080).bind("80", "0.0.0.0", 8081);
    assert_eq!(alone(both, &settings()).lines(), ["node-1:web:80 app 192.0.2.10:8081"]);
}

#[test]
fn case_19_host_address_with_host_port_or_container_address_with_container_port() {
    let web =
        container("web").mode(NetworkMode::Named("shop".into())).network("shop", "172.20.0.5").publish("80", 8080);
    assert_eq!(alone(web.clone(), &settings()).lines(), ["node-1:web:80 app 192.0.2.10:8080"]);
    let internal = with(|publish| publish.internal = true);
    assert_eq!(alone(web, &internal).lines(), ["node-1:web:80 app 172.20.0.5:80"]);
}

#[test]
fn case_20_of_several_networks_one_is_chosen_by_label_then_setting_then_rule() {
    let web = || container("web").expose("80").network("zeta", "10.1.0.2").network("alpha", "10.2.0.2");
    let mut settings = with(|publish| publish.internal = true);
    assert_eq!(alone(web(), &settings).services()[0].address, "10.2.0.2");
    settings.publish.networks = vec![NetworkChoice::Name("z*".into())];
    assert_eq!(alone(web(), &settings).services()[0].address, "10.1.0.2");
    let chosen = alone(web().label("remora.network", "alpha"), &settings);
    assert_eq!(chosen.services()[0].address, "10.2.0.2");
    assert_eq!(chosen.planned()[0].reasons["address"], "network alpha (remora.network)");
    let nowhere = alone(web().label("remora.network", "beta"), &settings);
    assert!(nowhere.nothing().contains("remora.network"));
    assert!(nowhere.notes.iter().any(|note| note.warning && note.text.contains("alpha, zeta")));
    settings.publish.networks = vec![NetworkChoice::Name("beta".into())];
    assert!(alone(web(), &settings).nothing().contains("REMORA_NETWORKS"));
}

#[test]
fn case_21_a_shared_network_gives_its_owners_address_to_this_containers_keys() {
    let owner = container("pod").image("pause").publish("80", 8080).publish("9100", 9100).build();
    let member =
        |name: &str| container(name).mode(NetworkMode::Container("pod".into())).label("SERVICE_NAME", name).build();
    let known = peers([sight(owner.clone())]);
    let all = register(&sight(member("all")), &known, &settings());
    assert_eq!(all.lines(), ["node-1:all:80 all-80 192.0.2.10:8080", "node-1:all:9100 all-9100 192.0.2.10:9100"]);
    let mut exporter = member("exporter");
    exporter.exposed.insert(super::super::testing::port("9100"), ());
    let one = register(&sight(exporter.clone()), &known, &settings());
    assert_eq!(one.lines(), ["node-1:exporter:9100 exporter 192.0.2.10:9100"]);
    let waiting = register(&sight(exporter.clone()), &peers([]), &settings());
    assert!(matches!(waiting.verdict, Verdict::Wait { peer, .. } if peer == "pod"), "unknown is not gone");
    let mut stopped = sight(owner.clone());
    Arc::make_mut(&mut stopped.container).state = State::Exited;
    assert!(register(&sight(exporter.clone()), &peers([stopped]), &settings()).nothing().starts_with("waits for"));
    let mut restarting = sight(owner);
    Arc::make_mut(&mut restarting.container).state = State::Restarting;
    assert!(register(&sight(exporter), &peers([restarting]), &settings()).held().contains("restarting"));
}

#[test]
fn case_21_a_chain_and_a_circle_of_shared_networks() {
    let shares = |name: &str, with: &str| container(name).mode(NetworkMode::Container(with.into())).build();
    let known = peers([
        sight(shares("b", "c")),
        sight(container("c").network("n", "10.9.0.2").expose("80").build()),
        sight(shares("x", "y")),
        sight(shares("y", "x")),
    ]);
    let internal = with(|publish| publish.internal = true);
    assert_eq!(register(&sight(shares("a", "b")), &known, &internal).lines(), ["node-1:a:80 app 10.9.0.2:80"]);
    assert!(register(&sight(shares("x", "y")), &known, &internal).nothing().contains("circle"));
}

#[test]
fn case_22_on_the_hosts_network_declared_ports_are_published_as_themselves() {
    let mut host = container("web").mode(NetworkMode::Host).build();
    host.exposed.insert(super::super::testing::port("80"), ());
    let registration = register(&sight(host.clone()), &peers([]), &settings());
    assert_eq!(registration.lines(), ["node-1:web:80 app 192.0.2.10:80"]);
    host.labels.insert("remora.ports".into(), "9000-9001, 53/udp".into());
    assert_eq!(register(&sight(host.clone()), &peers([]), &settings()).services().len(), 4);
    host.exposed.clear();
    host.labels.clear();
    assert!(register(&sight(host.clone()), &peers([]), &settings()).nothing().contains("EXPOSE"));
    host.exposed.insert(super::super::testing::port("80"), ());
    host.state = State::Exited;
    assert_eq!(register(&sight(host), &peers([]), &settings()).nothing(), "not running (exited, code 0)");
}

#[test]
fn case_23_no_network_and_no_declared_port_is_skipped_with_the_reason() {
    let mut alone_inside = container("job").mode(NetworkMode::None).label("ip", "10.7.0.2/24").build();
    alone_inside.exposed.insert(super::super::testing::port("80"), ());
    let reason = register(&sight(alone_inside.clone()), &peers([]), &settings());
    assert!(reason.nothing().contains("network mode none"), "{}", reason.nothing());
    // What an outside tool gave it, somebody has to say.
    alone_inside.labels.insert("remora.ports".into(), "80".into());
    assert!(register(&sight(alone_inside.clone()), &peers([]), &settings()).nothing().contains("none"));
    let trusted = with(|publish| publish.use_ip_from_label = Some("ip".into()));
    assert_eq!(register(&sight(alone_inside), &peers([]), &trusted).lines(), ["node-1:job:80 app 10.7.0.2:80"]);
}

#[test]
fn case_24_the_ingress_network_is_never_advertised() {
    let task = container("web.1.abc").expose("80").network("ingress", "10.0.0.8");
    assert!(alone(task.clone(), &settings()).nothing().contains("mode=host"));
    let internal = with(|publish| publish.internal = true);
    assert!(alone(task.clone(), &internal).nothing().contains("no address"));
    assert_eq!(alone(task.network("backend", "10.0.5.8"), &internal).services()[0].address, "10.0.5.8");
    let host_mode = container("web.1.abc").publish("80", 8080).network("ingress", "10.0.0.8");
    assert_eq!(alone(host_mode, &settings()).services()[0].address, "192.0.2.10");
}

#[test]
fn case_25_ipv6_has_brackets_in_checks_and_both_families_are_tagged() {
    let web = || {
        container("web")
            .bind("80", "::", 8080)
            .label("SERVICE_CHECK_HTTP", "/")
            .label("SERVICE_CHECK_TCP", "true")
            .label("SERVICE_CHECK_GRPC", "svc")
    };
    let settings = with(|publish| publish.address = dual_stack());
    let registration = alone(web(), &settings);
    let service = registration.services()[0];
    assert_eq!(service.address, "2001:db8::10");
    let text = format!("{:?}", service.checks);
    for part in ["http://[2001:db8::10]:8080/", "\"[2001:db8::10]:8080\"", "[2001:db8::10]:8080/svc"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(service.tagged_addresses.is_empty());
    let both = alone(web().bind("80", "0.0.0.0", 8080), &settings);
    assert_eq!(both.services().len(), 1);
    let tagged = &both.services()[0].tagged_addresses;
    assert_eq!(
        (tagged.get("lan_ipv4").unwrap().address.as_str(), tagged.get("lan_ipv4").unwrap().port),
        ("192.0.2.10", 8080)
    );
    assert_eq!(
        (tagged.get("lan_ipv6").unwrap().address.as_str(), tagged.get("lan_ipv6").unwrap().port),
        ("2001:db8::10", 8080)
    );
}

#[test]
fn case_25_dual_stack_inside_a_network() {
    let web = container("web").expose("80").network("n", "10.1.0.2").network("n", "fd00::2");
    let mut settings = with(|publish| publish.internal = true);
    let registration = alone(web.clone(), &settings);
    assert_eq!(registration.services()[0].address, "10.1.0.2");
    assert_eq!(registration.services()[0].tagged_addresses.get("lan_ipv6").unwrap().address, "fd00::2");
    settings.publish.networks = vec![NetworkChoice::Cidr { address: "fd00::".parse().unwrap(), prefix: 8 }];
    assert_eq!(alone(web, &settings).services()[0].address, "fd00::2");
}

#[test]
fn case_26_without_a_host_address_the_reason_names_the_setting() {
    let nowhere = with(|publish| publish.address = HostAddress::default());
    let registration = alone(container("web").publish("80", 8080), &nowhere);
    assert!(registration.nothing().contains("REMORA_ADDRESS"));
    assert!(registration.notes.iter().any(|note| note.warning && note.text.contains("REMORA_ADDRESS")));
    let specific = container("web").bind("80", "198.51.100.7", 8080);
    assert_eq!(alone(specific, &nowhere).services()[0].address, "198.51.100.7");
}

#[test]
fn case_27_ten_thousand_ports_are_bounded_work_and_one_line() {
    let mut rtp = container("rtp");
    for number in 10_000..20_000_u16 {
        rtp = rtp.publish(&format!("{number}/udp"), number);
    }
    let registration = alone(rtp.clone(), &settings());
    assert_eq!(registration.services().len(), 1000);
    let about_ports: Vec<_> = registration.notes.iter().filter(|note| note.text.contains("REMORA_MAX_PORTS")).collect();
    assert_eq!(about_ports.len(), 1);
    assert!(about_ports[0].text.starts_with("9000 "), "{}", about_ports[0].text);
    let ignored = alone(rtp.clone().label("SERVICE_10000-19999_UDP_IGNORE", "true").publish("80", 8080), &settings());
    assert_eq!(ignored.lines(), ["node-1:rtp:80 app 192.0.2.10:8080"]);
    assert_eq!(ignored.notes_about("10000-19999/udp").len(), 1);
    let named = alone(rtp.label("SERVICE_10000-20000_NAME", "media"), &settings());
    assert!(named.services().iter().all(|service| service.name == "media"));
}

#[test]
fn case_28_tcp_udp_and_sctp_on_one_number_are_three_services() {
    let dns = container("dns")
        .publish("53/tcp", 53)
        .publish("53/udp", 53)
        .publish("53/sctp", 53)
        .label("SERVICE_53_UDP_NAME", "dns-udp")
        .label("SERVICE_53_NAME", "dns");
    let registration = alone(dns, &settings());
    assert_eq!(
        registration.lines(),
        [
            "node-1:dns:53 dns 192.0.2.10:53",
            "node-1:dns:53:udp dns-udp 192.0.2.10:53",
            "node-1:dns:53:sctp dns 192.0.2.10:53",
        ]
    );
    assert_eq!(*registration.services()[1].tags, ["udp"]);
    assert_eq!(*registration.services()[2].tags, ["sctp"]);
}

#[test]
fn case_29_ignore_false_is_not_ignored_unless_the_operator_wants_the_old_reading() {
    let web = |value: &str| container("web").publish("80", 8080).label("SERVICE_IGNORE", value);
    assert_eq!(alone(web("false"), &settings()).services().len(), 1);
    assert!(alone(web("true"), &settings()).nothing().contains("SERVICE_IGNORE (label)"));
    let unclear = alone(web("perhaps"), &settings());
    assert_eq!(unclear.services().len(), 1);
    assert_eq!(unclear.notes_about("SERVICE_IGNORE").len(), 1);
    let loose = with(|publish| publish.loose_booleans = true);
    assert!(alone(web("false"), &loose).nothing().contains("SERVICE_IGNORE"));
}

#[test]
fn case_30_a_label_wins_over_the_environment_and_a_difference_is_told() {
    let web = container("web").publish("80", 8080).label("SERVICE_NAME", "label").env("SERVICE_NAME", "env");
    let registration = alone(web, &settings());
    assert_eq!(registration.services()[0].name, "label");
    assert_eq!(registration.planned()[0].reasons["name"], "SERVICE_NAME (label)");
    assert!(registration.notes_about("SERVICE_NAME")[0].warning);
    let same = container("web").publish("80", 8080).label("SERVICE_NAME", "same").env("SERVICE_NAME", "same");
    assert!(alone(same, &settings()).notes.is_empty());
}

#[test]
fn case_31_a_port_that_is_not_registered_does_not_count_for_the_suffix() {
    let web = || container("web").publish("80", 8080).publish("443", 8443).expose("9000");
    assert_eq!(alone(web().label("SERVICE_443_IGNORE", "true"), &settings()).services()[0].name, "app");
    let loopback = container("web").publish("80", 8080).bind("443", "127.0.0.1", 8443);
    assert_eq!(alone(loopback, &settings()).services()[0].name, "app");
    let both = alone(web(), &settings());
    assert_eq!(both.lines(), ["node-1:web:80 app-80 192.0.2.10:8080", "node-1:web:443 app-443 192.0.2.10:8443"]);
    let named = alone(web().label("SERVICE_80_NAME", "http"), &settings());
    assert_eq!(named.lines(), ["node-1:web:80 http 192.0.2.10:8080", "node-1:web:443 app-443 192.0.2.10:8443"]);
}

#[test]
fn case_32_one_id_for_several_ports_gets_a_suffix_and_a_warning() {
    let web = || container("web").publish("80", 8080).label("SERVICE_ID", "mine");
    assert_eq!(alone(web(), &settings()).services()[0].id, "mine");
    let several = alone(web().publish("443", 8443).publish("53/udp", 53).label("SERVICE_443_ID", "tls"), &settings());
    let ids: Vec<_> = several.services().iter().map(|service| service.id.as_str()).collect();
    assert_eq!(ids, ["mine-53:udp", "mine-80", "tls"]);
    assert!(several.notes_about("SERVICE_ID")[0].warning);
}

#[test]
fn case_33_images_by_digest_registry_and_id_give_clean_names() {
    let name = |image: &str| {
        let web = container("shop-api-1").publish("80", 8080).image(image).label("com.docker.compose.service", "api");
        alone(web, &settings()).services()[0].name.clone()
    };
    assert_eq!(name("repo/app@sha256:00ff"), "app");
    assert_eq!(name("registry.example:5000/team/app:1.2"), "app");
    assert_eq!(name(&format!("sha256:{}", "cd".repeat(32))), "api");
    assert_eq!(name(&"cd".repeat(6)), "api");
    let plain = container("web").publish("80", 8080).image(&format!("sha256:{}", "cd".repeat(32)));
    assert_eq!(alone(plain, &settings()).services()[0].name, "web");
}

#[test]
fn case_34_names_and_tags_that_dns_cannot_carry_are_told_or_normalised() {
    let web = || {
        container("web")
            .publish("80", 8080)
            .label("SERVICE_NAME", "My_Shop.API")
            .label("SERVICE_TAGS", "v1.2,traefik.http.routers.web.rule=Host(`a.example`)")
    };
    let kept = alone(web(), &settings());
    assert_eq!(kept.services()[0].name, "My_Shop.API");
    assert_eq!(*kept.services()[0].tags, ["v1.2", "traefik.http.routers.web.rule=Host(`a.example`)"]);
    assert_eq!(kept.notes_about("SERVICE_NAME").len(), 1);
    assert_eq!(kept.notes_about("SERVICE_TAGS").len(), 1);
    let normalised = alone(web(), &with(|publish| publish.names = Names::Dns));
    assert_eq!(normalised.services()[0].name, "my-shop-api");
    assert!(normalised.notes_about("SERVICE_NAME").is_empty());
}

#[test]
fn case_35_bad_meta_costs_its_pair_and_checks_never_enter_it() {
    let web = container("web")
        .publish("80", 8080)
        .label("SERVICE_OK", "yes")
        .label("SERVICE_bad.key", "x")
        .label("SERVICE_LONG", &"x".repeat(600))
        .label("SERVICE_CHECK_SCRIPT", &"x".repeat(600))
        .label("SERVICE_CHECK_TCP", "true");
    let registration = alone(web, &settings());
    let meta = &registration.services()[0].meta;
    assert_eq!(meta.get("ok").unwrap(), "yes");
    assert!(!meta.contains_key("long") && !meta.iter().any(|(key, _)| key.contains("check") || key.contains('.')));
    assert_eq!(registration.notes_about("SERVICE_LONG").len(), 1);
    assert_eq!(registration.notes_about("SERVICE_bad.key").len(), 1);
}

#[test]
fn case_36_tags_are_merged_in_order_without_blanks_and_doubles() {
    let web = container("web")
        .publish("80", 8080)
        .label("SERVICE_TAGS", " b , a,, b")
        .label("SERVICE_80_TAGS", r"c, a, x\,y");
    assert_eq!(*alone(web.clone(), &settings()).services()[0].tags, ["b", "a", "c", "x,y"]);
    let replaced = alone(web, &with(|publish| publish.port_tags = PortTags::Replace));
    assert_eq!(*replaced.services()[0].tags, ["c", "a", "x,y"]);
}

#[test]
fn case_37_a_template_error_touches_this_container_and_only_its_tags() {
    let settings = with(|publish| publish.tags = Some("{{.Config.Nope}}".into()));
    let mut web = container("web").publish("80", 8080).label("SERVICE_TAGS", "own").build();
    web.rendered_tags = Some(Box::new(Err("no field Nope".into())));
    let registration = register(&sight(web), &peers([]), &settings);
    assert_eq!(*registration.services()[0].tags, ["own"]);
    assert!(registration.notes_about("REMORA_TAGS")[0].text.contains("no field Nope"));
}

#[test]
fn case_48_dockers_health_is_the_status_of_the_docker_check() {
    let say = |status, exit_code, output: &str, initial: Option<&str>| {
        let mut web = container("web").publish("80", 8080).health(status, exit_code, output);
        if let Some(initial) = initial {
            web = web.label("SERVICE_CHECK_INITIAL_STATUS", initial);
        }
        let registration = alone(web, &settings());
        let check = registration.services()[0].checks[0].clone();
        assert_eq!(check.id, "node-1:web:80:docker");
        (check.status, check.output)
    };
    assert_eq!(say(HealthStatus::Starting, 0, "", None), (Status::Critical, "starting".into()));
    assert_eq!(say(HealthStatus::Starting, 0, "", Some("warning")), (Status::Warning, "starting".into()));
    assert_eq!(say(HealthStatus::Starting, 0, "", Some("odd")).0, Status::Critical);
    assert_eq!(say(HealthStatus::Healthy, 0, "12:00:01 fine", None), (Status::Passing, "healthy".into()));
    assert_eq!(
        say(HealthStatus::Unhealthy, 7, "refused\n", Some("passing")),
        (Status::Critical, "unhealthy: exit 7: refused".into())
    );
    assert_eq!(say(HealthStatus::Unknown, 0, "", Some("passing")).0, Status::Critical);
    let none = alone(container("web").publish("80", 8080), &settings());
    assert_eq!(none.services()[0].checks[0].output, "running, no HEALTHCHECK");
}

#[test]
fn case_49_script_checks_are_refused_unless_allowed_and_then_have_no_shell() {
    let web = || {
        container("web")
            .publish("80", 8080)
            .label("SERVICE_CHECK_SCRIPT", r#"nc -z "$SERVICE_IP" $SERVICE_PORT; 'rm -rf' $(x)"#)
            .label("SERVICE_CHECK_DOCKER", "true")
            .label("SERVICE_CHECK_DOCKER_SHELL", "/bin/ash")
            .label("SERVICE_CHECK_CMD", "probe")
    };
    let refused = alone(web(), &settings());
    assert_eq!(refused.services()[0].checks.len(), 1);
    for key in ["SERVICE_CHECK_SCRIPT", "SERVICE_CHECK_DOCKER", "SERVICE_CHECK_CMD"] {
        let notes = refused.notes_about(key);
        assert!(notes[0].warning && notes[0].text.contains("REMORA_ALLOW_SCRIPT_CHECKS"), "{notes:?}");
        assert!(!notes[0].text.contains("rm"), "a script may hold a secret");
    }
    let allowed = alone(web(), &with(|publish| publish.allow_script_checks = true));
    let checks = &allowed.services()[0].checks;
    let ids: Vec<_> = checks.iter().map(|check| check.id.rsplit(':').next().unwrap()).collect();
    assert_eq!(ids, ["docker", "cmd", "exec", "script"]);
    let args = |id: &str| match &*checks.iter().find(|check| check.id.ends_with(id)).unwrap().kind {
        CheckKind::Script { args, container, shell, .. } => (args.clone(), container.clone(), shell.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(args(":script").0, ["nc", "-z", "192.0.2.10", "8080;", "rm -rf", "$(x)"]);
    assert_eq!(args(":script").1, None);
    let id = allowed.services()[0].meta.get("container-id").unwrap();
    assert_eq!(args(":exec"), (vec!["true".into()], Some(id.to_owned()), Some("/bin/ash".into())));
    assert_eq!(args(":cmd").0[0], "check-cmd");
}

#[test]
fn case_05_an_unknown_state_takes_nothing_away() {
    let mut odd = sight(container("web").publish("80", 8080).build());
    Arc::make_mut(&mut odd.container).state = State::Unknown("levitating".into());
    let registration = register(&odd, &peers([]), &settings());
    let docker = &registration.services()[0].checks[0];
    assert_eq!((docker.status, docker.output.as_str()), (Status::Critical, "Docker says 'levitating'"));
    Arc::make_mut(&mut odd.container).bindings.clear();
    assert!(matches!(register(&odd, &peers([]), &settings()).verdict, Verdict::Hold { .. }));
}
