//! What holds for the whole of [`super::load`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::table::{Group, SETTINGS};
use super::*;

fn load_from(line: &[&str], env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load_with(line.iter().map(OsString::from), env, &|_: &Path| false)
}

fn config(line: &[&str], env: &[(&str, &str)]) -> Config {
    load_from(line, env).unwrap().config
}

#[test]
fn nothing_set_means_the_defaults() {
    let loaded = load_from(&[], &[]).unwrap();
    assert_eq!(loaded.command, Command::Run);
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(
        loaded.config,
        Config {
            node: None,
            publish: Publish::default(),
            resync: Duration::from_secs(30),
            docker: Docker::Unix("/var/run/docker.sock".into()),
            consul: Consul {
                address: ConsulAddress::Url { tls: false, host: "127.0.0.1".into(), port: 8500, prefix: String::new() },
                others: Vec::new(),
                token: Token::None,
                auth: None,
                tls: ConsulTls::default(),
                namespace: None,
                partition: None,
            },
            on_exit: OnExit::Keep,
            health_ttl: None,
            http: Some("127.0.0.1:7979".parse().unwrap()),
            log: Log { filter: "info".into(), format: LogFormat::Text },
            heal: Heal::default(),
            external: External::default(),
        }
    );
}

/// One value for every variable, none of them its default, and what [`Config::describe`] then says.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("REMORA_NODE", "node-1", "node-1"),
    ("REMORA_ADDRESS", "2001:db8::1,192.0.2.1", "192.0.2.1, 2001:db8::1"),
    ("REMORA_INTERNAL", "yes", "true"),
    ("REMORA_EXPLICIT", "1", "true"),
    ("REMORA_USE_IP_FROM_LABEL", "a.b", "a.b"),
    ("REMORA_TAGS", "a,b", "a,b"),
    ("REMORA_PORT_TAGS", "replace", "replace"),
    ("REMORA_NETWORKS", "a,10.0.0.0/8", "a, 10.0.0.0/8"),
    ("REMORA_BINDINGS", "FIRST", "first"),
    ("REMORA_INCLUDE", "label:a=b", "label:a=b"),
    ("REMORA_EXCLUDE", "name:x*,project:p", "name:x*, project:p"),
    ("REMORA_LOOSE_BOOLEANS", "on", "true"),
    ("REMORA_NAMES", "dns", "dns"),
    ("REMORA_MAX_PORTS", "7", "7"),
    ("REMORA_ALLOW_SCRIPT_CHECKS", "true", "true"),
    ("REMORA_DEREGISTER", "on-success", "on-success"),
    ("REMORA_RESYNC", "90s", "1m 30s"),
    ("REMORA_HEALTH_TTL", "1m", "1m"),
    ("REMORA_ON_EXIT", "deregister", "deregister"),
    ("REMORA_HTTP_ADDR", "off", "off"),
    ("REMORA_HEAL", "observe", "observe"),
    ("REMORA_HEAL_DEFAULT", "opt-in", "opt-in"),
    ("REMORA_HEAL_HOLDOFF", "90s", "1m 30s"),
    ("REMORA_HEAL_SETTLE", "7s", "7s"),
    ("REMORA_HEAL_ON_KILL", "respect", "respect"),
    ("REMORA_HEAL_BUDGET", "3/5m", "3/5m"),
    ("REMORA_HEAL_CORRELATION", "30%/2m/4", "30%/2m/4"),
    ("REMORA_HEAL_CLUSTER_MAX", "2", "2"),
    ("REMORA_HEAL_WITHOUT_CONSUL", "none", "none"),
    ("REMORA_HEAL_WEBHOOK", "https://hooks.example.com/hunter2", "https://hooks.example.com/(secret)"),
    ("REMORA_KV_PREFIX", "/teams/a/", "teams/a"),
    ("REMORA_CONSUL_MODE", "catalog", "catalog"),
    ("REMORA_NODE_TTL", "20s", "20s"),
    ("REMORA_NODE_REAP", "0", "0s"),
    ("REMORA_LOG", "debug", "debug"),
    ("REMORA_LOG_FORMAT", "json", "json"),
    ("CONSUL_HTTP_ADDR", "c:1", "http://c:1"),
    ("CONSUL_HTTP_TOKEN", "hunter2", "(secret, 7 characters)"),
    ("CONSUL_HTTP_TOKEN_FILE", "/token", "/token"),
    ("CONSUL_HTTP_AUTH", "me:hunter2", "me:(secret, 7 characters)"),
    ("CONSUL_HTTP_SSL_VERIFY", "f", "false"),
    ("CONSUL_CACERT", "/ca", "/ca"),
    ("CONSUL_CAPATH", "/cas", "/cas"),
    ("CONSUL_TLS_SERVER_NAME", "s", "s"),
    ("CONSUL_NAMESPACE", "n", "n"),
    ("CONSUL_PARTITION", "p", "p"),
    ("DOCKER_HOST", "tcp://localhost:1", "tcp://localhost:1"),
];

/// Settings that are not shown as they were given; their tests are below, in `consul.rs` and in `docker.rs`.
const ELSEWHERE: &[&str] = &[
    "RUST_LOG",
    "CONSUL_HTTP_SSL",
    "CONSUL_CLIENT_CERT",
    "CONSUL_CLIENT_KEY",
    "CONSUL_TLSCERT",
    "CONSUL_TLSKEY",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "HOME",
];

#[test]
fn every_variable_changes_its_own_setting_and_no_other() {
    let defaults: BTreeMap<_, _> = config(&[], &[]).describe().into_iter().collect();
    for (variable, value, shown) in EXAMPLES {
        let described: BTreeMap<_, _> = config(&[], &[(variable, value)]).describe().into_iter().collect();
        assert_eq!(described.get(*variable).map(String::as_str), Some(*shown), "{variable}");
        for (other, value) in &described {
            if other != variable {
                assert_eq!(Some(value), defaults.get(other), "{variable} changed {other}");
            }
        }
    }
    let covered: Vec<&str> = EXAMPLES.iter().map(|(variable, ..)| *variable).chain(ELSEWHERE.iter().copied()).collect();
    for setting in SETTINGS {
        assert!(covered.contains(&setting.variable), "{} is tested nowhere", setting.variable);
    }
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_code() {
    let unset = config(&[], &[]);
    for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
        // Phrases, and the one that needs HOME (docker.rs).
        if setting.default.contains(' ') || setting.default.starts_with('~') {
            continue;
        }
        assert_eq!(config(&[], &[(setting.variable, setting.default)]), unset, "{}", setting.variable);
    }
}

#[test]
fn every_setting_in_force_is_described_under_its_variable() {
    let described = config(&[], &[("DOCKER_HOST", "https://e"), ("DOCKER_CERT_PATH", "/c")]).describe();
    let names: Vec<&str> = described.iter().map(|(name, _)| name.as_str()).collect();
    for setting in SETTINGS.iter().filter(|setting| setting.group != Group::Docker) {
        let folded = ["RUST_LOG", "CONSUL_HTTP_SSL", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_TLSCERT", "CONSUL_TLSKEY"];
        assert!(names.contains(&setting.variable) != folded.contains(&setting.variable), "{}", setting.variable);
    }
    assert!(names.contains(&"DOCKER_HOST") && names.contains(&"DOCKER_CERT_PATH"));
}

#[test]
fn all_errors_are_told_at_once() {
    let errors = load_from(
        &["-ip", "192.0.2.300", "-nonsense", "etcd://h"],
        &[
            ("REMORA_RESYNC", "30"),
            ("REMORA_INTERNAL", "maybe"),
            ("CONSUL_HTTP_SSL", "x"),
            ("DOCKER_HOST", "ssh://h"),
            ("REMORA_HEAL", "maybe"),
            ("REMORA_HEAL_CLUSTER_MAX", "0%"),
        ],
    )
    .unwrap_err();
    let names: Vec<&str> = errors.0.iter().map(|error| error.name.as_str()).collect();
    assert_eq!(names.len(), 9, "{errors}");
    for name in [
        "-ip",
        "-nonsense",
        "registry",
        "REMORA_RESYNC",
        "REMORA_INTERNAL",
        "CONSUL_HTTP_SSL",
        "DOCKER_HOST",
        "REMORA_HEAL",
        "REMORA_HEAL_CLUSTER_MAX",
    ] {
        assert!(names.contains(&name), "{name} is missing in {errors}");
    }
}

#[test]
fn flags_win_over_variables_and_an_empty_flag_does_not() {
    let env = [("REMORA_ADDRESS", "192.0.2.1"), ("REMORA_INTERNAL", "true"), ("REMORA_RESYNC", "5s")];
    let flags = config(&["-ip", "192.0.2.2", "-internal=false", "-resync", "7"], &env);
    assert_eq!(flags.publish.address.v4, "192.0.2.2".parse().ok());
    assert!(!flags.publish.internal);
    assert_eq!(flags.resync, Duration::from_secs(7));
    let variables = config(&["-ip", "", "-resync", "0"], &env);
    assert_eq!(variables.publish.address.v4, "192.0.2.1".parse().ok());
    assert_eq!(variables.resync, Duration::from_secs(5));
}

#[test]
fn command_lines_that_registrator_takes_are_taken() {
    let weekly = config(&["-resync", "604800", "-ip", "host.example.com"], &[]);
    assert_eq!(weekly.resync, Duration::from_secs(24 * 60 * 60));
    assert_eq!(weekly.publish.address.name.as_deref(), Some("host.example.com"));
    let shown = weekly.describe().into_iter().find(|(name, _)| name == "REMORA_ADDRESS");
    assert_eq!(shown.map(|(_, value)| value).as_deref(), Some("host.example.com"));
    assert_eq!(config(&[], &[("REMORA_ADDRESS", "host.example.com")]).publish.address, weekly.publish.address);
}

#[test]
fn a_wrong_variable_in_the_shadow_of_a_flag_does_not_matter() {
    assert!(config(&["-internal"], &[("REMORA_INTERNAL", "maybe")]).publish.internal);
}

#[test]
fn registrators_command_line_does_what_it_did() {
    let line = ["-internal", "-cleanup", "-resync", "30", "consul-tls://host:8501"];
    let Loaded { command, config, warnings } = load_from(&line, &[("CONSUL_HTTP_ADDR", "other:8500")]).unwrap();
    assert_eq!(command, Command::Run);
    assert!(config.publish.internal);
    assert_eq!(config.resync, Duration::from_secs(30));
    assert_eq!(config.consul.address.to_string(), "https://host:8501");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn bounds_are_kept_and_say_why() {
    for (variable, value) in [
        ("REMORA_RESYNC", "0"),
        ("REMORA_RESYNC", "999ms"),
        ("REMORA_RESYNC", "2days"),
        ("REMORA_HEALTH_TTL", "9s"),
        ("REMORA_MAX_PORTS", "0"),
        ("REMORA_MAX_PORTS", "65536"),
        ("REMORA_HEAL_HOLDOFF", "25h"),
        ("REMORA_HEAL_SETTLE", "0"),
        ("REMORA_HEAL_BUDGET", "0/1m"),
    ] {
        let errors = load_from(&[], &[(variable, value)]).unwrap_err();
        assert_eq!(errors.0.len(), 1);
        assert!(errors.to_string().contains(&format!("\n  {variable}={value}: expected ")), "{errors}");
    }
    assert_eq!(config(&[], &[("REMORA_HEALTH_TTL", "0s")]).health_ttl, None);
    assert_eq!(config(&[], &[("REMORA_HEALTH_TTL", "10s")]).health_ttl, Some(Duration::from_secs(10)));
}

#[test]
fn help_and_version_never_fail() {
    let env = [("REMORA_RESYNC", "nonsense"), ("REMORA_NONSENSE", "1")];
    for (line, command) in [(["--help", "-nonsense"], Command::Help), (["-nonsense=1", "--version"], Command::Version)]
    {
        let loaded = load_from(&line, &env).unwrap();
        assert_eq!((loaded.command, loaded.warnings), (command, Vec::new()));
    }
}

#[test]
fn the_way_to_consul_has_a_default_and_its_times_have_bounds() {
    assert_eq!(config(&[], &[]), config(&[], &[("REMORA_CONSUL_MODE", "auto")]));
    assert_eq!(config(&[], &[("REMORA_CONSUL_MODE", "catalog")]).external.mode, ConsulMode::Catalog);
    let wrong = [("REMORA_CONSUL_MODE", "server"), ("REMORA_NODE_TTL", "9s"), ("REMORA_NODE_REAP", "59s")];
    let errors = load_from(&[], &wrong).unwrap_err();
    assert_eq!(errors.0.len(), 3, "{errors}");
    assert_eq!(errors.0[0].to_string(), "REMORA_CONSUL_MODE=server: expected auto or agent or catalog");
}

#[test]
fn rust_log_counts_when_our_own_is_not_set() {
    assert_eq!(config(&[], &[("RUST_LOG", "warn")]).log.filter, "warn");
    assert_eq!(config(&[], &[("RUST_LOG", "inof"), ("REMORA_LOG", "debug")]).log.filter, "debug");
    assert_eq!(load_from(&[], &[("RUST_LOG", "inof")]).unwrap_err().0[0].name, "RUST_LOG");
}

#[test]
fn several_agents_are_told() {
    let several = ("CONSUL_HTTP_ADDR", "https://c1:8501,https://c2:8501");
    assert_eq!(load_from(&[], &[several]).unwrap().warnings, [""; 0]);
    let warnings = load_from(&[], &[several, ("REMORA_CONSUL_MODE", "agent")]).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("several"), "{warnings:?}");
    assert!(config(&[], &[several]).describe().iter().any(|(_, value)| value == several.1));
}

#[test]
fn a_loopback_address_to_advertise_is_told() {
    assert!(load_from(&["-ip", "127.0.0.1"], &[]).unwrap().warnings[0].contains("loopback"));
}

#[test]
fn the_file_system_is_asked_about_the_two_sockets_only() {
    let asked = RefCell::new(Vec::new());
    let exists = |path: &Path| {
        asked.borrow_mut().push(path.to_owned());
        false
    };
    let env =
        [("CONSUL_HTTP_TOKEN_FILE", "/t"), ("CONSUL_CACERT", "/c")].map(|(name, value)| (name.into(), value.into()));
    load_with([], env, &exists).unwrap();
    assert_eq!(asked.into_inner(), [Path::new("/var/run/docker.sock"), Path::new("/tmp/docker.sock")]);
}

/// Text that looks more or less like a value somebody could write, and text that does not.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        "[a-z0-9:/.,@\\[\\]{}=*?#%-]{0,30}",
        "(http|https|unix|tcp|consul|ssh)://[a-z0-9:/.@\\[\\]?#-]{0,30}",
        "-{0,2}[a-zA-Z-]{0,12}(=[ -~]{0,10})?",
        "[0-9]{1,25}(ms|s|m|h|d|y)?",
    ]
}

/// Every word that the outcome could show to anyone.
fn everything_shown(outcome: &Result<Loaded, ConfigErrors>) -> String {
    match outcome {
        Ok(loaded) => format!("{loaded:?} {:?} {}", loaded.config.describe(), loaded.warnings.join(" ")),
        Err(errors) => format!("{errors} {errors:?}"),
    }
}

proptest! {
    #[test]
    fn any_text_in_any_variable_is_taken_or_refused_by_the_name_of_the_variable(
        index in 0..SETTINGS.len(), text in hostile(),
    ) {
        let variable = SETTINGS[index].variable;
        if let Err(errors) = load_from(&[], &[(variable, &text)]) {
            prop_assert!(!errors.0.is_empty());
            for error in errors.0 {
                prop_assert!(error.to_string().contains(variable), "{error}");
                prop_assert!(!error.expected.is_empty());
                prop_assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn any_texts_in_all_variables_and_on_the_command_line_are_taken_or_refused(
        texts in prop::collection::vec(hostile(), SETTINGS.len()),
        line in prop::collection::vec(hostile(), 0..6),
    ) {
        let env: Vec<(&str, &str)> =
            SETTINGS.iter().map(|setting| setting.variable).zip(texts.iter().map(String::as_str)).collect();
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let shown = everything_shown(&load_from(&line, &env));
        prop_assert!(!shown.is_empty());
    }

    #[test]
    fn secrets_are_never_shown(
        secret in "hunter2[A-Za-z0-9]{0,8}[ -~]{0,4}hunter2", other in 0..SETTINGS.len(), text in hostile(),
        uri in prop::bool::ANY,
    ) {
        let auth = format!("user:{secret}");
        let url = format!("http://user:{secret}@consul:8500");
        let registry = format!("consul://user:{secret}@consul:8500");
        let hook = format!("https://user:{secret}@hooks.example.com/{secret}?token={secret}");
        let mut env = vec![
            ("CONSUL_HTTP_TOKEN", secret.as_str()), ("CONSUL_HTTP_AUTH", auth.as_str()), ("REMORA_HEAL_WEBHOOK", hook.as_str()),
        ];
        let line = if uri { vec![registry.as_str()] } else { env.push(("CONSUL_HTTP_ADDR", url.as_str())); vec![] };
        let variable = SETTINGS[other].variable;
        if !env.iter().any(|(name, _)| *name == variable) {
            env.push((variable, &text));
        }
        // Without the wrong address everything else may be right, and then it is the configuration that must not show it.
        for env in [&env[..], &env[..3]] {
            let shown = everything_shown(&load_from(if env.len() == 3 { &[] } else { &line }, env));
            prop_assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
