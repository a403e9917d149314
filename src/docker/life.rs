//! Reads what of an inspect document decides how a container lives ([`super::Life`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use litemap::LiteMap;
use serde::Deserialize;

use super::container::{Binding, Port, ProbeTimes, RestartName, RestartPolicy};
use super::inspect::{printable, read_port};
use crate::exact::exact;

/// What a HEALTHCHECK has as its interval, and as its time-out, when nobody says otherwise.
const PROBE_TIME: Duration = Duration::from_secs(30);

/// And how many failures in a row it takes.
const PROBE_RETRIES: u32 = 3;

/// Times are nanoseconds; 0 is the engine's default.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HealthcheckDocument {
    test: Option<Vec<String>>,
    interval: Option<i64>,
    timeout: Option<i64>,
    start_period: Option<i64>,
    retries: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RestartDocument {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    maximum_retry_count: Option<i64>,
}

impl RestartDocument {
    pub(super) fn read(&self) -> RestartPolicy {
        let name = RestartName::read(&printable(self.name.as_deref().unwrap_or_default(), 40));
        let maximum_retries = self.maximum_retry_count.unwrap_or_default();
        RestartPolicy { name, maximum_retries: u64::try_from(maximum_retries).unwrap_or_default() }
    }
}

impl HealthcheckDocument {
    /// `NONE` switches an image's HEALTHCHECK off; without a test there is nothing to run (an image's own has been merged in).
    pub(super) fn read(&self) -> Option<ProbeTimes> {
        let kind = self.test.as_deref().unwrap_or_default().first()?;
        if kind.is_empty() || kind == "NONE" {
            return None;
        }
        let time = |nanoseconds: Option<i64>, default: Duration| {
            let set = nanoseconds.and_then(|nanoseconds| u64::try_from(nanoseconds).ok()).filter(|&set| set != 0);
            set.map_or(default, Duration::from_nanos)
        };
        let retries = self.retries.and_then(|retries| u32::try_from(retries).ok()).filter(|&retries| retries != 0);
        Some(ProbeTimes {
            interval: time(self.interval, PROBE_TIME),
            timeout: time(self.timeout, PROBE_TIME),
            start_period: time(self.start_period, Duration::ZERO),
            retries: retries.unwrap_or(PROBE_RETRIES),
        })
    }
}

/// Ports of a container (`80/tcp`) with those of the host, as both halves of the document have them.
pub(super) type PortsDocument = BTreeMap<String, Option<Vec<BindingDocument>>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BindingDocument {
    #[serde(default)]
    pub(super) host_ip: Option<String>,
    #[serde(default)]
    pub(super) host_port: Option<String>,
}

/// What `-p` and `-P` (`all`) ask for. A port that Docker chooses has number 0.
pub(super) fn published(
    named: Option<&PortsDocument>,
    exposed: &LiteMap<Port, ()>,
    all: bool,
) -> LiteMap<Port, Box<[Binding]>> {
    let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let asked = |binding: &BindingDocument| {
        let host_port = binding.host_port.as_deref().unwrap_or_default().parse().unwrap_or(0);
        let host_ip = match binding.host_ip.as_deref().unwrap_or_default() {
            "" => anywhere,
            text => text.parse().ok()?,
        };
        Some(Binding { host_ip, host_port })
    };
    let named = named.into_iter().flatten().filter_map(|(port, bindings)| {
        Some((read_port(port)?, bindings.iter().flatten().filter_map(asked).collect::<Box<[_]>>()))
    });
    let mut published: LiteMap<_, _> = named.filter(|(_, bindings)| !bindings.is_empty()).collect();
    for port in exposed.keys().filter(|_| all) {
        published.entry(*port).or_insert_with(|| [Binding { host_ip: anywhere, host_port: 0 }].into());
    }
    exact(published)
}

#[cfg(test)]
mod tests {
    use super::super::container::{Container, Lens, Life};
    use super::*;

    fn with(edit: impl FnOnce(&mut serde_json::Value)) -> Container {
        let mut document: serde_json::Value = serde_json::from_str(include_str!("testdata/inspect.json")).unwrap();
        edit(&mut document);
        super::super::inspect::read(document.to_string().as_bytes(), &Lens::default()).unwrap()
    }

    #[test]
    fn how_a_container_lives_is_read_with_the_engines_defaults() {
        let life = with(|_| {}).life;
        assert_eq!(life.restart_policy, RestartPolicy::default());
        assert!(!life.auto_remove && !life.interactive && life.error.is_empty() && life.namespaces.is_empty());
        let life = with(|document| {
            document["Config"]["Healthcheck"] =
                serde_json::json!({"Test": ["CMD", "x"], "Interval": 0, "StartPeriod": 1_500_000_000_u64});
            document["Config"]["AttachStdin"] = true.into();
            document["Config"]["StdinOnce"] = true.into();
            document["HostConfig"]["RestartPolicy"] = serde_json::json!({"Name": "on-failure", "MaximumRetryCount": 5});
            document["HostConfig"]["AutoRemove"] = true.into();
            document["HostConfig"]["PidMode"] = "container:abc".into();
            document["HostConfig"]["IpcMode"] = "container:abc".into();
            document["State"]["Error"] = format!("no\u{1b}[31m{}", "é".repeat(1000)).into();
        })
        .life;
        let start_period = Duration::from_millis(1_500);
        let probe = ProbeTimes { interval: PROBE_TIME, timeout: PROBE_TIME, start_period, retries: PROBE_RETRIES };
        assert_eq!(life.probe, Some(Box::new(probe)));
        assert!(life.interactive && life.auto_remove);
        assert_eq!(life.restart_policy, RestartPolicy { name: RestartName::OnFailure, maximum_retries: 5 });
        assert_eq!(*life.namespaces, ["abc"], "once, although two namespaces are shared");
        assert_eq!(life.error.chars().count(), Life::ERROR_LIMIT);
        assert!(life.error.starts_with("no[31mé"));
    }

    #[test]
    fn odd_policies_are_values_and_no_healthcheck_has_no_times() {
        for (policy, name) in [
            (serde_json::Value::Null, RestartName::No),
            (serde_json::json!({"Name": ""}), RestartName::No),
            (serde_json::json!({"Name": "always", "MaximumRetryCount": -1}), RestartName::Always),
            (serde_json::json!({"Name": "unless-stopped"}), RestartName::UnlessStopped),
            (serde_json::json!({"Name": "full-moon"}), RestartName::Unknown("full-moon".into())),
        ] {
            let read = with(|document| document["HostConfig"]["RestartPolicy"] = policy.clone()).life.restart_policy;
            assert_eq!(read, RestartPolicy { name, maximum_retries: 0 }, "{policy}");
        }
        for check in [serde_json::Value::Null, serde_json::json!({}), serde_json::json!({"Test": ["NONE"]})] {
            let life = with(|document| document["Config"]["Healthcheck"] = check.clone()).life;
            assert_eq!(life.probe, None, "{check}");
        }
        let bare = with(|document| {
            document["HostConfig"] = serde_json::Value::Null;
            document["Config"] = serde_json::Value::Null;
        });
        assert_eq!(bare.life, Life::default());
    }
}
