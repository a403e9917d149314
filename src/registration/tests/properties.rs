//! Hostile and broken keys, thousands of them, generated: the rules never panic, and whatever they yield Consul accepts.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::testing::{container, peers, settings};
use super::super::{Registration, Settings, Verdict, docker_check, keys, meta, names, register, tags};
use crate::config::{Bindings, HostAddress, Names, PortTags};
use crate::consul::CheckKind;
use crate::docker::{Container, Health, HealthStatus, NetworkMode, Sight, State};

fn key() -> impl Strategy<Value = String> {
    let ports = prop_oneof![
        4 => Just(String::new()),
        3 => prop::sample::select(vec!["80_", "443_", "53_UDP_", "53_", "1-65535_", "80-90_TCP_", "0_", "99999_", "90-80_"])
            .prop_map(str::to_owned),
        1 => "[0-9]{1,6}(-[0-9]{1,6})?_((TCP|UDP|SCTP|ICMP)_)?",
    ];
    let known = prop::sample::select(
        keys::CONTROL
            .iter()
            .map(|&option| option.to_owned())
            .chain(keys::METHODS.iter().chain(&keys::SETTINGS).map(|option| format!("check_{option}")))
            .chain(keys::METHODS.iter().chain(&keys::SETTINGS).map(|option| format!("check_ready_{option}")))
            .chain(["docker", "exec", "ttl", "service"].map(|name| format!("check_{name}_http")))
            .collect::<Vec<_>>(),
    );
    let option = prop_oneof![
        6 => known,
        1 => "[a-zA-Z0-9_.-]{0,20}",
        1 => "(managed-by|remora-hash|consul-x|container-id|heal-x|check_[a-z_]{1,12})",
        1 => ".{0,8}",
    ];
    let ours = prop::sample::select(vec![
        "remora.enable",
        "remora.network",
        "remora.ports",
        "remora.portless",
        "remora.address",
    ]);
    prop_oneof![
        9 => (ports, option, any::<bool>()).prop_map(|(ports, option, upper)| {
            format!("SERVICE_{ports}{}", if upper { option.to_uppercase() } else { option })
        }),
        1 => ours.prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            "true", "false", "", "web", "/health", "http://169.254.169.254/", "@evil/", "10s", "0s", "-1s", "99999999h", "65536",
            "8080", "a,b\\,c,,a", "passing", "$SERVICE_IP 'x", "{\"A\": \"b\"}", "{\"A\": 1, \"B\\r\\n\": \"x\"}", "10.0.0.1/8",
            "1-65535, 1-65535/udp", "web,WEB,Web", "\u{202e}\u{0}\r\n", "80-90/udp",
            "service", "service:web", "web:docker", "x | y", "a\nb",
        ])
        .prop_map(str::to_owned),
        1 => ".{0,40}",
        1 => "[ -~]{0,700}",
        1 => (1_usize..3000).prop_map(|length| "é,".repeat(length)),
    ]
}

fn a_container() -> impl Strategy<Value = Sight> {
    let pairs = || prop::collection::btree_map(key(), value(), 0..14);
    let ports = prop::collection::vec(
        (
            prop::sample::select(vec!["80", "443", "53", "53/udp", "53/sctp", "8125/udp", "65535"]),
            prop::sample::select(vec![
                "0.0.0.0",
                "::",
                "127.0.0.1",
                "192.0.2.10",
                "198.51.100.7",
                "2001:db8::7",
                "fe80::1",
            ]),
            1_u16..,
        ),
        0..8,
    );
    let mode = prop::sample::select(vec![
        NetworkMode::Bridge,
        NetworkMode::Bridge,
        NetworkMode::Host,
        NetworkMode::None,
        NetworkMode::Named("n".into()),
        NetworkMode::Container("owner".into()),
        NetworkMode::Container("gone".into()),
    ]);
    let state = prop_oneof![
        6 => Just(State::Running),
        1 => Just(State::Paused),
        1 => ".{0,60}".prop_map(|word| State::Unknown(word.into())),
        1 => prop::sample::select(vec![
            State::Created, State::Restarting, State::Removing, State::Exited, State::Dead,
        ]),
    ];
    let health = prop::option::of((
        prop::sample::select(vec![
            HealthStatus::Starting,
            HealthStatus::Healthy,
            HealthStatus::Unhealthy,
            HealthStatus::Unknown,
        ]),
        any::<Option<i64>>(),
        prop_oneof![".{0,40}", (0_usize..3000).prop_map(|length| "é\n".repeat(length))],
    ));
    let image = prop_oneof![
        "[a-z]{1,5}(/[a-z_.]{1,8})?(:[0-9.]{1,4})?(@sha256:[0-9a-f]{4})?",
        ".{0,30}",
        Just("/:@".to_owned())
    ];
    (pairs(), pairs(), ports, mode, state, health, image, any::<(bool, bool, i64)>()).prop_map(
        |(labels, env, ports, mode, state, health, image, (draining, settling, exit_code))| {
            let mut builder =
                container("web").mode(mode).image(&image).network("n", "10.1.0.2").network("n", "fd00::2");
            for (port, address, host_port) in ports {
                builder = builder.bind(port, address, host_port);
            }
            let mut built = builder.expose("9000").build();
            built.labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            built.service_env = env.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            built.state = state;
            built.exit_code = exit_code;
            built.health = health.map(|(status, exit_code, output)| {
                Box::new(Health { status, failing_streak: 1, exit_code, output: output.into() })
            });
            Sight { container: built.into(), draining: draining && settling, settling }
        },
    )
}

fn some_settings() -> impl Strategy<Value = Settings> {
    any::<[bool; 9]>().prop_map(|[internal, explicit, loose, dns, scripts, first, replace, v6, few]| {
        let mut settings = settings();
        let publish = &mut settings.publish;
        (publish.internal, publish.explicit) = (internal, explicit && few);
        (publish.loose_booleans, publish.allow_script_checks) = (loose, scripts);
        publish.names = if dns { Names::Dns } else { Names::Keep };
        publish.bindings = if first { Bindings::First } else { Bindings::All };
        publish.port_tags = if replace { PortTags::Replace } else { PortTags::Merge };
        publish.max_ports = if few { 2 } else { 20 };
        publish.use_ip_from_label = replace.then(|| "SERVICE_NAME".to_owned());
        publish.tags = loose.then(|| "ops,{{x}}".to_owned());
        if v6 {
            publish.address.v6 = Some("2001:db8::10".parse().unwrap());
        }
        if v6 && few {
            publish.address = HostAddress { name: Some("host.example.com".to_owned()), ..HostAddress::default() };
        }
        settings
    })
}

fn owner() -> Container {
    container("owner").publish("80", 8080).publish("53/udp", 53).network("n", "10.1.0.9").build()
}

fn run(sight: &Sight, settings: &Settings) -> Registration {
    register(sight, &peers([super::super::testing::sight(owner())]), settings)
}

fn has_control_characters(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// What Consul would refuse, take in a wrong way, or show in a way that harms.
fn check(registration: &Registration, settings: &Settings) {
    assert!(registration.notes.len() <= 60);
    for note in &registration.notes {
        assert!(note.about.len() <= 200 && note.text.len() <= 700, "{note:?}");
        assert!(!has_control_characters(&note.about) && !has_control_characters(&note.text), "{note:?}");
    }
    let planned = match &registration.verdict {
        Verdict::Services(planned) => planned,
        Verdict::Nothing(why) | Verdict::Wait { reason: why, .. } => {
            return assert!(!why.is_empty() && !has_control_characters(why), "{why:?}");
        }
        Verdict::Hold { output, .. } => {
            return assert!(
                !output.is_empty() && output.len() <= docker_check::LONGEST && !has_control_characters(output)
            );
        }
    };
    assert!(!planned.is_empty() && planned.len() <= settings.publish.max_ports);
    let mut ids = BTreeSet::new();
    let mut check_ids = BTreeSet::new();
    for planned in planned {
        let service = &planned.service;
        assert!(ids.insert(service.id.to_lowercase()), "id {} twice", service.id);
        assert!(
            !service.id.is_empty() && service.id.len() <= 1024 && !has_control_characters(&service.id),
            "{:?}",
            service.id
        );
        assert!(!service.name.is_empty() && service.name.len() <= 300 && !has_control_characters(&service.name));
        assert!(settings.publish.names == Names::Keep || names::is_dns_label(&service.name), "{}", service.name);
        match service.address.parse() {
            Ok(address) => assert!(super::super::address::unfit(address).is_none(), "{address}"),
            Err(_) => assert!(service.tagged_addresses.is_empty() && service.address == "host.example.com"),
        }
        assert!(service.tags.len() <= tags::MOST);
        assert!(
            service
                .tags
                .iter()
                .all(|tag| !tag.is_empty() && tag.len() <= tags::LONGEST && !has_control_characters(tag))
        );
        assert_eq!(service.tags.iter().collect::<BTreeSet<_>>().len(), service.tags.len());
        check_meta(&service.meta);
        assert_eq!(service.meta.get("remora-hash").unwrap(), service.definition_hash());
        assert!(service.weights.is_none_or(|weights| weights.passing > 0 && weights.warning > 0));
        assert_eq!(service.checks[0].id, format!("{}:docker", service.id));
        for check in &service.checks {
            // Consul's catalog does not tell upper from lower case in these either.
            assert!(check_ids.insert(check.id.to_lowercase()), "check {} twice", check.id);
            let end = check.id.strip_prefix(&*service.id).is_some_and(|end| end.starts_with(':'));
            assert!(end || check.id == format!("service:{}", service.id), "{}", check.id);
            assert!(!has_control_characters(&check.id));
            for text in [&*check.name, &*check.notes, &*check.output] {
                assert!(text.len() <= docker_check::LONGEST && !has_control_characters(text), "{text:?}");
            }
            check_kind(&check.kind, &service.address, settings);
        }
        assert!(["id", "name", "address", "port"].iter().all(|field| planned.reasons.contains_key(field)));
    }
}

fn check_meta(meta: &crate::consul::Meta) {
    assert!(meta.len() <= meta::MOST);
    for (key, value) in meta.iter() {
        assert!(!key.is_empty() && key.len() <= meta::LONGEST_KEY && value.len() <= meta::LONGEST_VALUE);
        assert!(!has_control_characters(value), "{value:?}");
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{key}");
        assert!(!key.starts_with("consul-") && !keys::is_control(key), "{key}");
    }
    assert_eq!(meta.get("managed-by").unwrap(), "remora");
    assert_eq!(meta.get("remora-node").unwrap(), "node-1");
}

/// Host and port of every probe are the instance's own: a label can choose neither the host nor a second request.
fn check_kind(kind: &CheckKind, address: &str, settings: &Settings) {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    match kind {
        CheckKind::Ttl { ttl } => assert!(!ttl.is_zero()),
        CheckKind::Http { url, method, headers, probe, .. } => {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap();
            let (authority, _) = rest.split_once('/').unwrap();
            let (actual, port) = authority.rsplit_once(':').unwrap();
            assert_eq!(actual, host);
            assert_ne!(port.parse::<u16>().unwrap(), 0);
            assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(method.iter().all(|method| method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')));
            assert!(headers.iter().all(|(name, values)| {
                !has_control_characters(name) && values.iter().all(|value| !has_control_characters(value))
            }));
            assert!(probe.interval.as_secs() >= 1 && probe.timeout.is_none_or(|timeout| !timeout.is_zero()));
        }
        CheckKind::Tcp { address, probe } => {
            assert!(address.starts_with(&format!("{host}:")) && probe.interval.as_secs() >= 1);
        }
        CheckKind::Grpc { target, .. } => assert!(target.starts_with(&format!("{host}:"))),
        CheckKind::Script { args, .. } => {
            assert!(settings.publish.allow_script_checks && !args.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_keys_say_consul_takes_what_comes_out(sight in a_container(), settings in some_settings()) {
        let first = run(&sight, &settings);
        check(&first, &settings);
        prop_assert_eq!(first, run(&sight, &settings), "the same input gives the same output");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_docker_says_about_health_changes_no_definition(sight in a_container(), settings in some_settings()) {
        let mut other = sight.clone();
        Arc::make_mut(&mut other.container).state = State::Running;
        let mut calm = other.clone();
        Arc::make_mut(&mut calm.container).health = None;
        other.settling = true;
        let hashes = |registration: &Registration| match &registration.verdict {
            Verdict::Services(planned) => planned.iter().map(|planned| planned.service.definition_hash()).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        prop_assert_eq!(hashes(&run(&other, &settings)), hashes(&run(&calm, &settings)));
    }
}

#[test]
fn the_generator_reaches_what_it_is_meant_to_reach() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (sights, all_settings) = (a_container(), some_settings());
    let (mut registered, mut with_checks) = (0, 0);
    for _ in 0..300 {
        let sight = sights.new_tree(&mut runner).unwrap().current();
        let settings = all_settings.new_tree(&mut runner).unwrap().current();
        if let Verdict::Services(planned) = run(&sight, &settings).verdict {
            registered += 1;
            with_checks += usize::from(planned.iter().any(|planned| planned.service.checks.len() > 1));
        }
    }
    assert!(registered > 60 && with_checks > 20, "{registered} registered, {with_checks} with checks");
}
