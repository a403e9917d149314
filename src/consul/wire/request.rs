//! What is sent to Consul: never a field that is not set.

use std::collections::BTreeMap;
use std::time::Duration;

use arcstr::ArcStr;
use serde::Serialize;

use crate::consul::error::ConsulError;
use crate::consul::model::{Check, CheckKind, Service};

/// A duration as Go reads it (`1m30s`, `1s500ms`), exact to the millisecond. What is left of less than one millisecond is
/// cut off, but a duration that is not zero never becomes zero, which would mean "none".
pub(in crate::consul) fn go_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    // Go's durations end at 2^63 ns: 292 years.
    let limit = u128::from(i64::MAX.unsigned_abs()) / 1_000_000;
    let all = duration.as_millis().clamp(1, limit);
    let parts = [(all / 3_600_000, "h"), (all / 60_000 % 60, "m"), (all / 1_000 % 60, "s"), (all % 1_000, "ms")];
    let mut text = String::new();
    for (number, unit) in parts.iter().filter(|(number, _)| *number > 0) {
        text.push_str(&number.to_string());
        text.push_str(unit);
    }
    text
}

/// Body of `PUT /v1/agent/service/register`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::consul) struct ServiceBody<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    address: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "<[ArcStr]>::is_empty")]
    tags: &'a [ArcStr],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tagged_addresses: BTreeMap<&'a str, TaggedAddressBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<WeightsBody>,
    #[serde(skip_serializing_if = "is_false")]
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckBody<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaggedAddressBody<'a> {
    address: &'a str,
    port: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WeightsBody {
    passing: u16,
    warning: u16,
}

/// One of `Checks`. Without an output: Consul has no field for it in a definition.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CheckBody<'a> {
    #[serde(rename = "CheckID")]
    check_id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    notes: &'a str,
    /// Always: without it a new check begins critical.
    status: &'static str,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<&'a BTreeMap<String, Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(rename = "TCP", skip_serializing_if = "Option::is_none")]
    tcp: Option<&'a str>,
    #[serde(rename = "GRPC", skip_serializing_if = "Option::is_none")]
    grpc: Option<&'a str>,
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "is_false")]
    grpc_use_tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a [String]>,
    #[serde(rename = "DockerContainerID", skip_serializing_if = "Option::is_none")]
    docker_container_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(rename = "TLSServerName", skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<&'a str>,
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "is_false")]
    tls_skip_verify: bool,
    #[serde(skip_serializing_if = "is_zero")]
    success_before_passing: u32,
    #[serde(skip_serializing_if = "is_zero")]
    failures_before_critical: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    deregister_critical_service_after: Option<String>,
}

/// Body of `PUT /v1/agent/check/update/:id`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::consul) struct UpdateBody<'a> {
    pub(in crate::consul) status: &'static str,
    pub(in crate::consul) output: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl<'a> From<&'a Service> for ServiceBody<'a> {
    fn from(service: &'a Service) -> Self {
        Self {
            id: &service.id,
            name: &service.name,
            address: &service.address,
            port: service.port,
            tags: &service.tags,
            meta: service.meta.iter().collect(),
            tagged_addresses: service
                .tagged_addresses
                .iter()
                .map(|(key, tagged)| (key.as_str(), TaggedAddressBody { address: &tagged.address, port: tagged.port }))
                .collect(),
            weights: service.weights.map(|w| WeightsBody { passing: w.passing, warning: w.warning }),
            enable_tag_override: service.enable_tag_override,
            checks: service.checks.iter().map(CheckBody::from).collect(),
        }
    }
}

impl<'a> From<&'a Check> for CheckBody<'a> {
    fn from(check: &'a Check) -> Self {
        let mut body = Self {
            check_id: &check.id,
            name: &check.name,
            notes: &check.notes,
            status: check.status.as_str(),
            success_before_passing: check.success_before_passing,
            failures_before_critical: check.failures_before_critical,
            deregister_critical_service_after: check.deregister_after.map(go_duration),
            ..Self::default()
        };
        let (probe, tls) = match &*check.kind {
            CheckKind::Ttl { ttl } => {
                body.ttl = Some(go_duration(*ttl));
                (None, None)
            }
            CheckKind::Http { url, method, headers, body: text, probe, tls } => {
                body.http = Some(url);
                body.method = method.as_deref();
                body.header = Some(headers).filter(|headers| !headers.is_empty());
                body.body = text.as_deref();
                (Some(probe), Some(tls))
            }
            CheckKind::Tcp { address, probe } => {
                body.tcp = Some(address);
                (Some(probe), None)
            }
            CheckKind::Grpc { target, use_tls, probe, tls } => {
                body.grpc = Some(target);
                body.grpc_use_tls = *use_tls;
                (Some(probe), Some(tls))
            }
            CheckKind::Script { args, container, shell, probe } => {
                body.args = Some(args);
                body.docker_container_id = container.as_deref();
                body.shell = shell.as_deref();
                (Some(probe), None)
            }
        };
        body.interval = probe.map(|probe| go_duration(probe.interval));
        body.timeout = probe.and_then(|probe| probe.timeout).map(go_duration);
        body.tls_server_name = tls.and_then(|tls| tls.server_name.as_deref());
        body.tls_skip_verify = tls.is_some_and(|tls| tls.skip_verify);
        body
    }
}

/// The JSON text of a request.
pub(in crate::consul) fn encode(call: &'static str, body: &impl Serialize) -> Result<Vec<u8>, ConsulError> {
    // Cannot happen with the types above: they hold no map with keys that are not strings.
    serde_json::to_vec(body).map_err(|error| ConsulError::Invalid { call, message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use litemap::LiteMap;
    use serde_json::{Value, json};

    use super::*;
    use crate::consul::model::{CheckTls, Probe, Status, TaggedAddress, Weights};

    #[test]
    fn durations_are_written_as_go_reads_them() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ms"),
            (Duration::from_micros(1_999), "1ms"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_millis(1_500), "1s500ms"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(60), "1m"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_secs(3_601), "1h1s"),
            (Duration::from_secs(876_000 * 3_600), "876000h"),
            (Duration::MAX, "2562047h47m16s854ms"),
        ];
        for (duration, text) in cases {
            assert_eq!(go_duration(duration), text, "{duration:?}");
        }
    }

    fn check(kind: CheckKind) -> Check {
        Check {
            id: "n:web:80:1".into(),
            name: "web".into(),
            notes: "".into(),
            kind: Arc::new(kind),
            status: Status::Warning,
            output: "never sent".into(),
            deregister_after: None,
            success_before_passing: 0,
            failures_before_critical: 0,
        }
    }

    fn probe() -> Probe {
        Probe { interval: Duration::from_secs(10), timeout: None }
    }

    fn service(checks: Vec<Check>) -> Service {
        Service {
            id: "n:web:80".into(),
            name: "web".into(),
            address: ArcStr::new(),
            port: 0,
            tags: Vec::new().into(),
            meta: crate::consul::Meta::default(),
            tagged_addresses: LiteMap::new(),
            weights: None,
            enable_tag_override: false,
            checks,
        }
    }

    fn json_of(service: &Service) -> Value {
        serde_json::to_value(ServiceBody::from(service)).unwrap()
    }

    #[test]
    fn a_bare_service_sends_only_what_is_set() {
        assert_eq!(json_of(&service(Vec::new())), json!({"ID": "n:web:80", "Name": "web", "Port": 0}));
    }

    #[test]
    fn a_full_service_sends_every_field_in_consuls_spelling() {
        let mut full = service(vec![check(CheckKind::Ttl { ttl: Duration::from_secs(30) })]);
        full.address = "10.0.0.1".into();
        full.port = 8080;
        full.tags = vec!["b".into(), "a".into()].into();
        full.meta = full.meta.with("managed-by", "remora");
        full.tagged_addresses.insert("lan_ipv6".into(), TaggedAddress { address: "fd00::1".into(), port: 81 });
        full.weights = Some(Weights { passing: 7, warning: 2 });
        full.enable_tag_override = true;
        assert_eq!(
            json_of(&full),
            json!({
                "ID": "n:web:80", "Name": "web", "Address": "10.0.0.1", "Port": 8080, "Tags": ["b", "a"],
                "Meta": {"managed-by": "remora"},
                "TaggedAddresses": {"lan_ipv6": {"Address": "fd00::1", "Port": 81}},
                "Weights": {"Passing": 7, "Warning": 2}, "EnableTagOverride": true,
                "Checks": [{"CheckID": "n:web:80:1", "Name": "web", "Status": "warning", "TTL": "30s"}],
            })
        );
    }

    #[test]
    fn every_kind_of_check_sends_its_own_fields() {
        let base = json!({"CheckID": "n:web:80:1", "Name": "web", "Status": "warning", "Interval": "10s"});
        let tls = CheckTls { server_name: Some("web.test".into()), skip_verify: true };
        let cases = [
            (
                CheckKind::Http {
                    url: "https://h/".into(),
                    method: Some("POST".into()),
                    headers: BTreeMap::from([("X-A".into(), vec!["1".into(), "2".into()])]),
                    body: Some("text".into()),
                    probe: Probe { timeout: Some(Duration::from_millis(1_500)), ..probe() },
                    tls: tls.clone(),
                },
                json!({
                    "HTTP": "https://h/", "Method": "POST", "Header": {"X-A": ["1", "2"]}, "Body": "text",
                    "Timeout": "1s500ms", "TLSServerName": "web.test", "TLSSkipVerify": true,
                }),
            ),
            (
                CheckKind::Http {
                    url: "http://h/".into(),
                    method: None,
                    headers: BTreeMap::new(),
                    body: None,
                    probe: probe(),
                    tls: CheckTls::default(),
                },
                json!({"HTTP": "http://h/"}),
            ),
            (CheckKind::Tcp { address: "h:1".into(), probe: probe() }, json!({"TCP": "h:1"})),
            (
                CheckKind::Grpc { target: "h:1/s".into(), use_tls: true, probe: probe(), tls },
                json!({"GRPC": "h:1/s", "GRPCUseTLS": true, "TLSServerName": "web.test", "TLSSkipVerify": true}),
            ),
            (
                CheckKind::Script {
                    args: vec!["true".into()],
                    container: Some("abc".into()),
                    shell: Some("/bin/sh".into()),
                    probe: probe(),
                },
                json!({"Args": ["true"], "DockerContainerID": "abc", "Shell": "/bin/sh"}),
            ),
        ];
        for (kind, own) in cases {
            let mut expected = base.clone();
            expected.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            assert_eq!(json_of(&service(vec![check(kind)]))["Checks"][0], expected);
        }
    }

    #[test]
    fn thresholds_notes_and_deregistration_are_sent_when_set() {
        let mut check = check(CheckKind::Tcp { address: "h:1".into(), probe: probe() });
        check.notes = "SERVICE_CHECK_TCP".into();
        check.success_before_passing = 2;
        check.failures_before_critical = 3;
        check.deregister_after = Some(Duration::from_secs(90));
        let sent = &json_of(&service(vec![check]))["Checks"][0];
        assert_eq!(sent["Notes"], "SERVICE_CHECK_TCP");
        assert_eq!(sent["SuccessBeforePassing"], 2);
        assert_eq!(sent["FailuresBeforeCritical"], 3);
        assert_eq!(sent["DeregisterCriticalServiceAfter"], "1m30s");
    }
}
