//! First stage: the variables as strings, nothing judged yet.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde::Deserialize;

use super::errors::Findings;
use super::nearest::nearest;
use super::table::SETTINGS;

/// Every variable that Remora reads. All fields are optional strings, so that filling them in cannot fail: envy would stop
/// at the first bad value and not name the variable. It has no `Debug`, because secrets are in it.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default)]
pub(super) struct Raw {
    pub remora_node: Option<String>,
    pub remora_address: Option<String>,
    pub remora_internal: Option<String>,
    pub remora_explicit: Option<String>,
    pub remora_use_ip_from_label: Option<String>,
    pub remora_tags: Option<String>,
    pub remora_port_tags: Option<String>,
    pub remora_networks: Option<String>,
    pub remora_bindings: Option<String>,
    pub remora_include: Option<String>,
    pub remora_exclude: Option<String>,
    pub remora_loose_booleans: Option<String>,
    pub remora_names: Option<String>,
    pub remora_max_ports: Option<String>,
    pub remora_allow_script_checks: Option<String>,
    pub remora_deregister: Option<String>,
    pub remora_resync: Option<String>,
    pub remora_health_ttl: Option<String>,
    pub remora_on_exit: Option<String>,
    pub remora_http_addr: Option<String>,
    pub remora_log: Option<String>,
    pub remora_log_format: Option<String>,
    pub remora_consul_mode: Option<String>,
    pub remora_node_ttl: Option<String>,
    pub remora_node_reap: Option<String>,
    pub remora_heal: Option<String>,
    pub remora_heal_default: Option<String>,
    pub remora_heal_holdoff: Option<String>,
    pub remora_heal_settle: Option<String>,
    pub remora_heal_on_kill: Option<String>,
    pub remora_heal_budget: Option<String>,
    pub remora_heal_correlation: Option<String>,
    pub remora_heal_cluster_max: Option<String>,
    pub remora_heal_without_consul: Option<String>,
    pub remora_heal_webhook: Option<String>,
    pub remora_kv_prefix: Option<String>,
    pub rust_log: Option<String>,
    pub consul_http_addr: Option<String>,
    pub consul_http_token: Option<String>,
    pub consul_http_token_file: Option<String>,
    pub consul_http_auth: Option<String>,
    pub consul_http_ssl: Option<String>,
    pub consul_http_ssl_verify: Option<String>,
    pub consul_cacert: Option<String>,
    pub consul_capath: Option<String>,
    pub consul_client_cert: Option<String>,
    pub consul_client_key: Option<String>,
    pub consul_tlscert: Option<String>,
    pub consul_tlskey: Option<String>,
    pub consul_tls_server_name: Option<String>,
    pub consul_namespace: Option<String>,
    pub consul_partition: Option<String>,
    pub docker_host: Option<String>,
    pub docker_tls_verify: Option<String>,
    pub docker_cert_path: Option<String>,
    pub home: Option<String>,
}

/// Picks our variables out of the environment. Empty ones count as not set: that is what compose files make of
/// `${NAME:-}`.
///
/// Only exact names get as far as envy: it reads names in any case, trims a prefix as often as it finds it, and calls a
/// name that comes twice an error. Values that are not UTF-8 are only looked at when they are ours; the environment is
/// full of other programs' matters.
pub(super) fn collect(env: impl IntoIterator<Item = (OsString, OsString)>, findings: &mut Findings) -> Raw {
    let mut ours: BTreeMap<String, String> = BTreeMap::new();
    let mut unknown: Vec<String> = Vec::new();
    for (name, value) in env {
        let Ok(name) = name.into_string() else { continue };
        if !SETTINGS.iter().any(|setting| setting.variable == name) {
            // In any case: `remora_node` is a typing error, too.
            if name.to_ascii_uppercase().starts_with("REMORA_") {
                unknown.push(name);
            }
            continue;
        }
        match value.into_string() {
            Ok(text) if text.trim().is_empty() => {}
            // The first of several, as `getenv` does.
            Ok(text) => {
                ours.entry(name).or_insert(text);
            }
            Err(bytes) => {
                findings.error(&name, format!("({} bytes that are not UTF-8)", bytes.len()), "text in UTF-8");
            }
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    for name in unknown {
        let known = SETTINGS.iter().map(|setting| setting.variable).filter(|known| known.starts_with("REMORA_"));
        let hint = nearest(&name, known).map_or(String::new(), |known| format!("; did you mean {known}?"));
        findings.warn(format!("{} is set, but Remora knows no such variable{hint}", super::errors::shown(&name)));
    }
    envy::from_iter(ours).unwrap_or_else(|error| {
        // A field that is no optional string could bring us here; a test keeps them so.
        findings.error("environment", "", format!("variables that can be read ({error})"));
        Raw::default()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn collected(env: &[(&str, &str)]) -> (Raw, Findings) {
        let mut findings = Findings::default();
        let raw = collect(env.iter().map(|(name, value)| (name.into(), value.into())), &mut findings);
        (raw, findings)
    }

    #[test]
    fn every_field_is_a_setting_of_the_table_and_every_setting_has_a_field() {
        let fields = serde_json::to_value(Raw::default()).unwrap();
        let mut fields: Vec<String> = fields.as_object().unwrap().keys().map(|key| key.to_uppercase()).collect();
        let mut settings: Vec<String> = SETTINGS.iter().map(|setting| setting.variable.to_owned()).collect();
        fields.sort();
        settings.sort();
        assert_eq!(fields, settings);
    }

    #[test]
    fn every_variable_arrives_in_its_own_field() {
        for setting in SETTINGS {
            let (raw, findings) = collected(&[(setting.variable, "some text")]);
            let fields = serde_json::to_value(raw).unwrap();
            let set: Vec<_> = fields.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()).collect();
            assert_eq!(set.len(), 1, "{}", setting.variable);
            assert_eq!(set[0].0.to_uppercase(), setting.variable);
            assert_eq!(findings.finish(), Ok(Vec::new()));
        }
    }

    #[test]
    fn empty_and_blank_values_count_as_not_set() {
        let (raw, _) = collected(&[("REMORA_NODE", ""), ("REMORA_TAGS", " \n")]);
        assert_eq!((raw.remora_node, raw.remora_tags), (None, None));
    }

    #[test]
    fn a_name_that_comes_twice_or_in_two_spellings_or_with_a_double_prefix_is_no_error() {
        let (raw, findings) = collected(&[
            ("REMORA_NODE", "a"),
            ("REMORA_NODE", "b"),
            ("remora_node", "c"),
            ("REMORA_REMORA_NODE", "d"),
            ("docker_host", "e"),
        ]);
        assert_eq!(raw.remora_node.as_deref(), Some("a"));
        assert_eq!(raw.docker_host, None);
        assert_eq!(findings.finish().unwrap().len(), 2);
    }

    #[test]
    fn an_unknown_variable_is_told_with_the_nearest_known_name_and_without_its_value() {
        let (_, findings) = collected(&[("REMORA_INTRENAL", "hunter2"), ("REMORA_SOMETHING_ELSE", "hunter2")]);
        assert_eq!(
            findings.finish().unwrap(),
            [
                "REMORA_INTRENAL is set, but Remora knows no such variable; did you mean REMORA_INTERNAL?",
                "REMORA_SOMETHING_ELSE is set, but Remora knows no such variable",
            ]
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_matter_only_in_our_own_variables() {
        let bad = || OsString::from_vec(vec![b'a', 0xff]);
        let mut findings = Findings::default();
        collect([("LS_COLORS".into(), bad()), (bad(), "x".into())], &mut findings);
        assert_eq!(findings.finish(), Ok(Vec::new()));

        let mut findings = Findings::default();
        collect([("CONSUL_HTTP_TOKEN".into(), bad())], &mut findings);
        let errors = findings.finish().unwrap_err();
        assert_eq!(errors.0[0].to_string(), "CONSUL_HTTP_TOKEN=(2 bytes that are not UTF-8): expected text in UTF-8");
    }
}
