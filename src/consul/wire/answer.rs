//! What Consul answers: tolerant of `null`, of unknown fields, and of entries that make no sense.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use litemap::LiteMap;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::consul::error::ConsulError;
use crate::consul::model::{ActualCheck, ActualService, Snapshot, Status};
use crate::exact::exact;

/// Reads an answer. The error tells where it stops making sense, but never shows any part of it.
pub(in crate::consul) fn decode<'body, T: Deserialize<'body>>(
    call: &'static str,
    body: &'body [u8],
) -> Result<T, ConsulError> {
    serde_json::from_slice(body).map_err(|error| {
        let reason = match error.classify() {
            serde_json::error::Category::Data => "it has another form than Consul's",
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
        };
        ConsulError::Unreadable { call, reason: format!("{reason} (line {}, column {})", error.line(), error.column()) }
    })
}

/// `null` is an empty value.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceEntry {
    #[serde(default, deserialize_with = "nullable")]
    service: ArcStr,
    #[serde(default, deserialize_with = "nullable")]
    address: ArcStr,
    #[serde(default, deserialize_with = "nullable")]
    port: i64,
    #[serde(default, deserialize_with = "nullable")]
    tags: Vec<ArcStr>,
    #[serde(default, deserialize_with = "nullable")]
    meta: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    tagged_addresses: BTreeMap<ArcStr, TaggedAddressEntry>,
    #[serde(default, deserialize_with = "nullable")]
    weights: WeightsEntry,
    #[serde(default, deserialize_with = "nullable")]
    enable_tag_override: bool,
}

impl ServiceEntry {
    /// Under its id; without its checks.
    pub(super) fn named(self, id: ArcStr) -> ActualService {
        let own = (self.address.as_str(), port(self.port));
        let tagged = self.tagged_addresses.into_iter().map(|(tag, at)| (tag, (at.address, port(at.port))));
        let tagged_addresses = exact(tagged.filter(|(_, (address, port))| (address.as_str(), *port) != own).collect());
        ActualService {
            id,
            name: self.service,
            address: self.address,
            port: port(self.port),
            tags: self.tags.into(),
            meta: self.meta.into_iter().collect(),
            tagged_addresses,
            weights: (port(self.weights.passing), port(self.weights.warning)),
            enable_tag_override: self.enable_tag_override,
            checks: LiteMap::new(),
        }
    }
}

#[derive(Default, Deserialize)]
struct TaggedAddressEntry {
    #[serde(default, alias = "Address", deserialize_with = "nullable")]
    address: ArcStr,
    #[serde(default, alias = "Port", deserialize_with = "nullable")]
    port: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WeightsEntry {
    passing: i64,
    warning: i64,
}

impl Default for WeightsEntry {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// A text that is only looked at: it stays in the answer, where it has no escapes.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Word<'body>(#[serde(borrow)] pub(super) Cow<'body, str>);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckEntry<'body> {
    #[serde(borrow, rename = "ServiceID", default, deserialize_with = "nullable")]
    service_id: Word<'body>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    status: Word<'body>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    output: Word<'body>,
}

/// Consul stores whatever port it is told (-1, 99999); such a number is nobody's port.
fn port(number: i64) -> u16 {
    u16::try_from(number).unwrap_or(0)
}

/// The answers of `GET /v1/agent/services` and `GET /v1/agent/checks` as one picture. An entry that cannot be read is told
/// and left out.
///
/// What is the same in an older picture is taken from there, entry by entry, and texts are only copied where that is not so: a
/// second copy of everything would be the largest thing in memory, and it would leave a hole that is too low in the heap to be given
/// back.
pub(in crate::consul) fn snapshot(services: &[u8], checks: &[u8], older: &Snapshot) -> Result<Snapshot, ConsulError> {
    // Checks of the node have no service; a check whose service went away between the two answers has none any more.
    let mut checks: Vec<(Word<'_>, CheckEntry<'_>)> = entries("GET /v1/agent/checks", checks)?.collect();
    checks.sort_unstable_by(|(_, one), (_, other)| one.service_id.cmp(&other.service_id));
    let services = entries::<ServiceEntry>("GET /v1/agent/services", services)?.map(|(Word(id), entry)| {
        let begin = checks.partition_point(|(_, check)| check.service_id.0 < id);
        let its = checks.iter().skip(begin).take_while(|(_, check)| check.service_id.0 == id).map(|(id, check)| {
            let status = Status::parse(&check.status.0).unwrap_or(Status::Critical);
            (ArcStr::from(&*id.0), ActualCheck { status, output: ArcStr::from(&*check.output.0) })
        });
        let mut service = entry.named(ArcStr::from(&*id));
        service.checks = exact(its.collect());
        let same = older.services.get(&*id).filter(|older| ***older == service);
        let service = same.map_or_else(|| Arc::new(service), Arc::clone);
        (service.id.clone(), service)
    });
    Ok(Snapshot { services: services.collect() })
}

/// The answer of `GET /v1/agent/service/:id`; it says nothing about checks.
pub(in crate::consul) fn service(call: &'static str, body: &[u8]) -> Result<ActualService, ConsulError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "ID", default, deserialize_with = "nullable")]
        id: ArcStr,
        #[serde(flatten)]
        entry: ServiceEntry,
    }
    let Named { id, entry } = decode(call, body)?;
    Ok(entry.named(id))
}

/// The entries of a map as a list, in one piece of memory that is given back as a whole.
#[derive(Default)]
struct Entries<'body>(Vec<(Word<'body>, &'body RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Entries(all))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// A map (or `null`) by id, without the entries that cannot be read. The map's key is the id: the agent's own spelling.
fn entries<'body, T: Deserialize<'body> + 'body>(
    call: &'static str,
    body: &'body [u8],
) -> Result<impl Iterator<Item = (Word<'body>, T)> + 'body, ConsulError> {
    // Raw first: each entry is read, or cannot be read, for itself, and nothing is held twice meanwhile.
    let map: Option<Entries<'body>> = decode(call, body)?;
    Ok(map.unwrap_or_default().0.into_iter().filter_map(move |(id, entry)| {
        let entry = serde_json::from_str(entry.get()).ok();
        if entry.is_none() {
            let id = &*id.0;
            tracing::warn!(event = "consul_entry_unreadable", call, id, "an entry of Consul's answer is passed over");
        }
        Some((id, entry?))
    }))
}

/// What is read of `GET /v1/agent/self`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::consul) struct SelfAnswer {
    #[serde(deserialize_with = "nullable")]
    pub(in crate::consul) config: SelfConfig,
    #[serde(deserialize_with = "nullable")]
    pub(in crate::consul) member: SelfMember,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::consul) struct SelfConfig {
    pub(in crate::consul) node_name: String,
    pub(in crate::consul) version: String,
    pub(in crate::consul) datacenter: String,
    pub(in crate::consul) server: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::consul) struct SelfMember {
    addr: String,
}

impl SelfMember {
    pub(in crate::consul) fn address(&self) -> Option<IpAddr> {
        self.addr.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(services: &Value, checks: &Value) -> Snapshot {
        snapshot(services.to_string().as_bytes(), checks.to_string().as_bytes(), &Snapshot::default()).unwrap()
    }

    #[test]
    fn null_is_empty_everywhere() {
        assert_eq!(read(&Value::Null, &Value::Null), Snapshot::default());
        let nulls = json!({"a": {
            "ID": "a", "Service": "web", "Tags": null, "Meta": null, "Port": null, "Address": null,
            "TaggedAddresses": null, "Weights": null, "EnableTagOverride": null,
        }});
        let expected =
            ActualService { id: "a".into(), name: "web".into(), weights: (1, 1), ..ActualService::default() };
        assert_eq!(*read(&nulls, &Value::Null).services["a"], expected);
        let check = json!({"c": {"ServiceID": "a", "Status": null, "Output": null}, "n": {"ServiceID": null}});
        let critical = ActualCheck { status: Status::Critical, output: ArcStr::new() };
        assert_eq!(read(&nulls, &check).services["a"].checks, LiteMap::from_iter([("c".into(), critical)]));
    }

    #[test]
    fn what_has_not_changed_is_not_held_twice() {
        let services = json!({"a": {"Service": "web", "Port": 1}, "b": {"Service": "web", "Port": 2}});
        let checks =
            json!({"c": {"ServiceID": "a", "Status": "passing"}, "d": {"ServiceID": "b", "Status": "passing"}});
        let older = read(&services, &checks);
        let checks =
            json!({"c": {"ServiceID": "a", "Status": "passing"}, "d": {"ServiceID": "b", "Status": "critical"}});
        let (services, checks) = (services.to_string(), checks.to_string());
        let newer = snapshot(services.as_bytes(), checks.as_bytes(), &older).unwrap();
        assert!(Arc::ptr_eq(&older.services["a"], &newer.services["a"]));
        assert_eq!(older.services["b"].checks.get("d").unwrap().status, Status::Passing);
        assert_eq!(newer.services["b"].checks.get("d").unwrap().status, Status::Critical);
    }

    #[test]
    fn fields_that_nobody_knows_are_ignored() {
        let services =
            json!({"a": {"Service": "web", "Port": 80, "Ports": [{"Port": 1}], "Locality": {"Region": "x"}}});
        let checks =
            json!({"c": {"ServiceID": "a", "Status": "passing", "Output": "ok", "PeerName": "", "Interval": ""}});
        let service = read(&services, &checks).services.remove("a").unwrap();
        assert_eq!((service.name.as_str(), service.port), ("web", 80));
        assert_eq!(*service.checks.get("c").unwrap(), ActualCheck { status: Status::Passing, output: "ok".into() });
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_left_out_alone() {
        let services = json!({"a": {"Service": "web"}, "b": {"Service": ["web"]}, "c": 7, "d": {"Tags": "x"}});
        let checks = json!({"x": [], "y": {"ServiceID": "a", "Status": "passing"}});
        let snapshot = read(&services, &checks);
        assert_eq!(snapshot.services.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(snapshot.services["a"].checks.keys().collect::<Vec<_>>(), ["y"]);
    }

    #[test]
    fn impossible_ports_and_statuses_are_read_as_what_they_amount_to() {
        let services = json!({"a": {"Port": 99_999, "TaggedAddresses": {"lan": {"Address": "1.2.3.4", "Port": -1}}}});
        let checks = json!({"c": {"ServiceID": "a", "Status": "starting"}});
        let service = read(&services, &checks).services.remove("a").unwrap();
        assert_eq!(service.port, 0);
        assert_eq!(*service.tagged_addresses.get("lan").unwrap(), ("1.2.3.4".into(), 0));
        assert_eq!(service.checks.get("c").unwrap().status, Status::Critical);
    }

    #[test]
    fn an_answer_that_is_not_consuls_is_an_error_and_is_not_shown() {
        for body in ["<html>s3cr3t</html>", "{\"a\": {\"Service\": \"s3cr3t\"", "[\"s3cr3t\"]", "\"s3cr3t\"", ""] {
            let error = snapshot(body.as_bytes(), b"{}", &Snapshot::default()).unwrap_err();
            assert!(matches!(error, ConsulError::Unreadable { .. }), "{error:?}");
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
            assert!(snapshot(b"{}", body.as_bytes(), &Snapshot::default()).is_err());
        }
    }
}
