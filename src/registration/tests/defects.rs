//! The defects of registrator that concern the rules, by their numbers in the list that Remora was designed against, each
//! with what is right instead.

use super::super::register;
use super::super::testing::{alone, container, peers, settings, sight, with};
use crate::config::{Bindings, Deregister};
use crate::consul::{CheckKind, Status};
use crate::docker::{NetworkMode, State};

#[test]
fn defect_05_an_exited_container_with_exposed_ports_invents_no_services() {
    let mut host = container("web").mode(NetworkMode::Host).ended(State::Exited, 0).build();
    host.exposed.insert(super::super::testing::port("80"), ());
    assert_eq!(register(&sight(host), &peers([]), &settings()).nothing(), "not running (exited, code 0)");
}

#[test]
fn defect_15_codes_from_128_on_are_failures() {
    let settings = with(|publish| publish.deregister = Deregister::OnSuccess);
    for code in [1, 128, 137, 139, 143, 255] {
        let text = alone(container("web").ended(State::Exited, code), &settings).held().to_owned();
        assert!(text.starts_with(&format!("exited {code}")), "{text}");
    }
}

#[test]
fn defect_16_container_address_and_host_port_are_never_mixed() {
    let web = container("web")
        .mode(NetworkMode::Named("shop_default".into()))
        .network("shop_default", "172.20.0.5")
        .publish("80", 8080);
    let (host, internal) = (settings(), with(|publish| publish.internal = true));
    for (settings, expected) in [(&host, ("192.0.2.10", 8080)), (&internal, ("172.20.0.5", 80))] {
        let registration = alone(web.clone(), settings);
        assert_eq!((registration.services()[0].address.as_str(), registration.services()[0].port), expected);
    }
}

#[test]
fn defect_17_a_port_on_one_interface_is_not_advertised_on_another() {
    let web = container("web").bind("80", "198.51.100.7", 8080).bind("81", "127.0.0.1", 8081);
    assert_eq!(alone(web, &settings()).lines(), ["node-1:web:80 app 198.51.100.7:8080"]);
}

#[test]
fn defect_18_no_binding_is_lost_and_no_wildcard_is_registered() {
    let web = container("web").bind("80", "::", 8080).bind("80", "0.0.0.0", 8080).bind("80", "0.0.0.0", 9090);
    let registration = alone(web, &settings());
    assert_eq!(
        registration.lines(),
        ["node-1:web:80 app 192.0.2.10:8080", "node-1:web:80:0.0.0.0:9090 app 192.0.2.10:9090"]
    );
}

#[test]
fn defect_20_ipv6_in_check_targets_has_brackets() {
    let web = container("web").bind("80", "2001:db8::5", 8080).label("SERVICE_CHECK_TCP", "true");
    let registration = alone(web, &settings());
    assert_eq!(registration.services()[0].address, "2001:db8::5");
    let CheckKind::Tcp { address, .. } = &*registration.services()[0].checks[1].kind else { panic!("no TCP check") };
    assert_eq!(address, "[2001:db8::5]:8080");
}

#[test]
fn defect_21_of_several_networks_always_the_same_one() {
    let internal = with(|publish| publish.internal = true);
    let web = || {
        container("web")
            .mode(NetworkMode::Named("m".into()))
            .expose("80")
            .network("z", "10.3.0.2")
            .network("m", "10.2.0.2")
            .network("a", "10.1.0.2")
    };
    for _ in 0..20 {
        assert_eq!(alone(web(), &internal).services()[0].address, "10.2.0.2");
    }
}

#[test]
fn defect_22_the_owner_of_a_shared_network_may_be_on_a_user_defined_network_and_have_a_short_name() {
    let owner = container("x").mode(NetworkMode::Named("n".into())).network("n", "10.4.0.2").expose("80").build();
    let member = container("web").mode(NetworkMode::Container("x".into())).build();
    let internal = with(|publish| publish.internal = true);
    let registration = register(&sight(member), &peers([sight(owner)]), &internal);
    assert_eq!(registration.lines(), ["node-1:web:80 app 10.4.0.2:80"]);
}

#[test]
fn defect_23_what_swarm_publishes_through_its_ingress_is_explained() {
    let registration = alone(container("web.1.x").expose("80").network("ingress", "10.0.0.3"), &settings());
    assert!(registration.nothing().contains("ingress"));
}

#[test]
fn defect_24_false_is_false() {
    let web = container("web")
        .publish("80", 8080)
        .label("SERVICE_IGNORE", "false")
        .label("SERVICE_CHECK_TCP", "false")
        .label("SERVICE_CHECK_HTTPS", "/")
        .label("SERVICE_CHECK_TLS_SKIP_VERIFY", "false");
    let registration = alone(web.clone(), &settings());
    let checks = &registration.services()[0].checks;
    assert_eq!(checks.len(), 2);
    let CheckKind::Http { tls, .. } = &*checks[1].kind else { panic!("no HTTPS check") };
    assert!(!tls.skip_verify);
    let loose = with(|publish| publish.loose_booleans = true);
    let old = alone(web.label("SERVICE_IGNORE", ""), &loose);
    assert_eq!(old.services()[0].checks.len(), 3);
}

#[test]
fn defect_25_digests_and_ids_are_no_names() {
    for image in ["app@sha256:00ff", "repo/app:1@sha256:00ff"] {
        assert_eq!(alone(container("web").publish("80", 1).image(image), &settings()).services()[0].name, "app");
    }
    let by_id = container("web").publish("80", 1).image(&format!("sha256:{}", "cd".repeat(32)));
    assert_eq!(alone(by_id, &settings()).services()[0].name, "web");
}

#[test]
fn defect_26_ignored_ports_do_not_count_for_the_suffix() {
    let web = container("web").publish("80", 8080).publish("81", 8081).label("SERVICE_81_IGNORE", "1");
    assert_eq!(alone(web, &settings()).services()[0].name, "app");
}

#[test]
fn defect_27_ids_are_unique_and_keep_their_protocol() {
    let dns = container("dns")
        .publish("53/tcp", 53)
        .publish("53/udp", 53)
        .publish("53/sctp", 53)
        .label("SERVICE_53_ID", "Dns")
        .publish("54/tcp", 54)
        .label("SERVICE_54_ID", "dns");
    let registration = alone(dns, &settings());
    let ids: Vec<_> = registration.services().iter().map(|service| service.id.as_str()).collect();
    assert_eq!(ids, ["Dns", "Dns:udp", "Dns:sctp", "dns:2"]);
    assert!(registration.notes_about("id")[0].warning);
    let one = alone(container("dns").publish("53/udp", 53).label("SERVICE_ID", "dns"), &settings());
    assert_eq!(one.services()[0].id, "dns:udp");
}

#[test]
fn defect_28_a_bad_pair_of_meta_does_not_cost_the_registration() {
    let mut web = container("web").publish("80", 8080).label("SERVICE_a.b", "x").label("SERVICE_consul-x", "x");
    for number in 0..100 {
        web = web.label(&format!("SERVICE_K{number}"), "v");
    }
    let registration = alone(web, &settings());
    assert_eq!(registration.services()[0].meta.len(), 64);
    assert!(registration.notes.iter().filter(|note| note.warning).count() >= 3);
}

#[test]
fn defect_29_a_script_is_split_into_arguments() {
    let allowed = with(|publish| publish.allow_script_checks = true);
    let web =
        container("web").publish("80", 8080).label("SERVICE_CHECK_SCRIPT", "curl --silent $SERVICE_IP:$SERVICE_PORT");
    let registration = alone(web, &allowed);
    let CheckKind::Script { args, .. } = &*registration.services()[0].checks[1].kind else { panic!("no script") };
    assert_eq!(args, &["curl", "--silent", "192.0.2.10:8080"]);
}

#[test]
fn defect_30_a_ttl_check_is_the_services_own_and_starts_as_asked() {
    let web = container("web").publish("80", 8080).label("SERVICE_CHECK_TTL", "30s");
    let registration = alone(web.label("SERVICE_CHECK_INITIAL_STATUS", "passing"), &settings());
    let check = &registration.services()[0].checks[1];
    assert_eq!(*check.kind, CheckKind::Ttl { ttl: std::time::Duration::from_secs(30) });
    assert_eq!((check.id.as_str(), check.status), ("service:node-1:web:80", Status::Passing));
}

#[test]
fn defect_31_a_template_error_ends_nothing() {
    let settings = with(|publish| publish.tags = Some("{{index .Config.Labels \"x\"}}".into()));
    let mut web = container("web").publish("80", 8080).build();
    web.rendered_tags = Some(Box::new(Err("no such key".into())));
    assert_eq!(register(&sight(web), &peers([]), &settings).services().len(), 1);
}

#[test]
fn defect_32_a_label_runs_nothing_and_reaches_nobody_else() {
    let web = container("web")
        .publish("80", 8080)
        .label("SERVICE_CHECK_SCRIPT", "reboot")
        .label("SERVICE_CHECK_HTTP", "http://169.254.169.254/latest/meta-data")
        .label("SERVICE_CHECK_A_HTTP", "@169.254.169.254/")
        .label("SERVICE_CHECK_B_HTTPS", "/x HTTP/1.1\r\nHost: other")
        .label("SERVICE_CHECK_C_GRPC", "other.host:1/x")
        .label("remora.address", "203.0.113.1");
    let registration = alone(web, &settings());
    let service = registration.services()[0];
    assert_eq!(service.checks.len(), 1, "{:?}", service.checks);
    assert_eq!(service.address, "192.0.2.10");
    assert_eq!(registration.notes.iter().filter(|note| note.warning).count(), 6);
}

#[test]
fn defect_33_what_its_users_have_been_asking_for() {
    let web = container("web")
        .publish("80", 8080)
        .publish("9100", 19100)
        .label("SERVICE_9100_IGNORE", "true")
        .label("SERVICE_NAME", "web")
        .label("SERVICE_ALIAS", "www, web, shop")
        .label("SERVICE_ENABLE_TAG_OVERRIDE", "true")
        .label("SERVICE_WEIGHTS_PASSING", "10")
        .label("SERVICE_WEIGHTS_WARNING", "2")
        .label("SERVICE_CHECK_HTTP", "/health?deep=1")
        .label("SERVICE_CHECK_HTTP_METHOD", "post")
        .label("SERVICE_CHECK_HEADER", r#"{"X-A": "1", "X-B": ["2", "3"], "bad name": "x", "X-C": "a\r\nb"}"#)
        .label("SERVICE_CHECK_BODY", "{}")
        .label("SERVICE_CHECK_INTERVAL", "15s")
        .label("SERVICE_CHECK_TIMEOUT", "2s")
        .label("SERVICE_CHECK_DEREGISTER_AFTER", "30s")
        .label("SERVICE_CHECK_SUCCESS_BEFORE_PASSING", "2")
        .label("SERVICE_CHECK_FAILURES_BEFORE_CRITICAL", "3")
        .label("SERVICE_CHECK_HTTPS", "/tls")
        .label("SERVICE_CHECK_TLS_SERVER_NAME", "web.example")
        .label("SERVICE_CHECK_TLS_SKIP_VERIFY", "true")
        .label("SERVICE_CHECK_GRPC", "true")
        .label("SERVICE_CHECK_GRPC_USE_TLS", "true")
        .label("SERVICE_CHECK_METRICS_TCP", "true")
        .label("SERVICE_CHECK_METRICS_PORT", "9100")
        .label("SERVICE_CHECK_METRICS_NOTES", "the exporter")
        .label("SERVICE_CHECK_METRICS_INTERVAL", "1m");
    let registration = alone(web, &settings());
    let services = registration.services();
    assert_eq!(
        registration.lines(),
        [
            "node-1:web:80 web 192.0.2.10:8080",
            "node-1:web:80:www www 192.0.2.10:8080",
            "node-1:web:80:shop shop 192.0.2.10:8080",
        ]
    );
    let service = services[0];
    assert!(service.enable_tag_override);
    assert_eq!(service.weights.map(|weights| (weights.passing, weights.warning)), Some((10, 2)));
    let check = |name: &str| service.checks.iter().find(|check| check.id == format!("node-1:web:80:{name}")).unwrap();
    assert_eq!(service.checks.len(), 5);
    let http = check("http");
    assert_eq!((http.success_before_passing, http.failures_before_critical), (2, 3));
    assert_eq!(http.deregister_after, Some(std::time::Duration::from_secs(60)));
    assert_eq!(http.status, Status::Critical);
    let CheckKind::Http { url, method, headers, body, probe, .. } = &*http.kind else { panic!("{http:?}") };
    assert_eq!(url, "http://192.0.2.10:8080/health?deep=1");
    assert_eq!(method.as_deref(), Some("POST"));
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["X-A", "X-B"]);
    assert_eq!(body.as_deref(), Some("{}"));
    assert_eq!((probe.interval.as_secs(), probe.timeout.map(|timeout| timeout.as_secs())), (15, Some(2)));
    let CheckKind::Http { url, method, tls, .. } = &*check("https").kind else { panic!("no https") };
    assert_eq!((url.as_str(), method), ("https://192.0.2.10:8080/tls", &None));
    assert_eq!((tls.server_name.as_deref(), tls.skip_verify), (Some("web.example"), true));
    let CheckKind::Grpc { target, use_tls, .. } = &*check("grpc").kind else { panic!("no grpc") };
    assert_eq!((target.as_str(), *use_tls), ("192.0.2.10:8080", true));
    let CheckKind::Tcp { address, probe } = &*check("metrics").kind else { panic!("no metrics") };
    assert_eq!((address.as_str(), probe.interval.as_secs()), ("192.0.2.10:19100", 60));
    assert_eq!(&*check("metrics").notes, "the exporter");
    assert_eq!(registration.notes_about("SERVICE_CHECK_HEADER").len(), 2);
}

#[test]
fn defect_33_a_service_without_a_port() {
    let worker = container("worker").expose("80").label("remora.portless", "true").label("SERVICE_CHECK_TCP", "true");
    let registration = alone(worker, &settings());
    assert_eq!(registration.lines(), ["node-1:worker:0 app 192.0.2.10:0"]);
    assert_eq!(registration.services()[0].checks.len(), 1);
    assert!(registration.notes_about("SERVICE_CHECK_TCP")[0].text.contains("SERVICE_CHECK_PORT"));
    let internal = with(|publish| publish.internal = true);
    let inside = container("worker").network("n", "10.1.0.2").label("remora.portless", "true");
    let inside = inside.label("SERVICE_CHECK_TCP", "true").label("SERVICE_CHECK_PORT", "9000");
    let registration = alone(inside, &internal);
    assert_eq!(registration.lines(), ["node-1:worker:0 app 10.1.0.2:0"]);
    let CheckKind::Tcp { address, .. } = &*registration.services()[0].checks[1].kind else { panic!("no TCP check") };
    assert_eq!(address, "10.1.0.2:9000");
}

#[test]
fn defect_18_registrators_reading_is_a_setting() {
    let web = container("web").bind("80", "0.0.0.0", 8080).bind("80", "0.0.0.0", 9090);
    let first = with(|publish| publish.bindings = Bindings::First);
    assert_eq!(alone(web, &first).lines(), ["node-1:web:80 app 192.0.2.10:8080"]);
}
