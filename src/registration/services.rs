//! Puts one container's services together.

use std::collections::{BTreeMap, BTreeSet};

use arcstr::ArcStr;
use litemap::LiteMap;

use super::address::{Address, Place, Unreachable};
use super::checks::{self, Subject};
use super::filters::ENABLE;
use super::metadata::Metadata;
use super::names::{self, Named};
use super::network::Owner;
use super::notes::Notes;
use super::ports::{PORTLESS, Skipped, Ways};
use super::values::{boolean, quoted};
use super::{Planned, Settings, docker_check, meta, tags};
use crate::consul::{Service, TaggedAddress, Weights};
use crate::docker::names::logical;
use crate::docker::{Port, Sight};
use crate::exact::exact;

/// A port that is registered, with the places where it is reached. `None`: a service without a port.
struct Offer {
    port: Option<Port>,
    places: Vec<Place>,
}

/// The services of a container that runs, or why there are none.
pub(super) fn services(
    sight: &Sight,
    owner: Owner<'_>,
    enabled: Option<bool>,
    settings: &Settings,
    notes: &mut Notes,
) -> Result<Vec<Planned>, String> {
    let container = &sight.container;
    let metadata = Metadata::read(container, notes);
    let ways = Ways::new(container, owner, &settings.publish, notes);
    if container.labels.contains_key("remora.address") {
        let text =
            "does nothing: a label gives an address only where the operator allows it, with REMORA_USE_IP_FROM_LABEL";
        notes.warn("remora.address", text);
    }
    let one = Rules { sight, settings, metadata: &metadata, ways: &ways, enabled };
    let offers = if one.is_portless(notes) { one.portless(notes)? } else { one.offers(notes)? };
    Ok(one.plan(&offers, notes))
}

struct Rules<'a> {
    sight: &'a Sight,
    settings: &'a Settings,
    metadata: &'a Metadata<'a>,
    ways: &'a Ways<'a>,
    enabled: Option<bool>,
}

impl Rules<'_> {
    fn is_portless(&self, notes: &mut Notes) -> bool {
        let Some(value) = self.sight.container.labels.get(PORTLESS) else { return false };
        boolean(value, false).unwrap_or_else(|| {
            notes.warn(
                PORTLESS,
                format!("{} is not understood and does nothing: expected true or false", quoted(value)),
            );
            false
        })
    }

    fn portless(&self, notes: &mut Notes) -> Result<Vec<Offer>, String> {
        if let Some(why) = self.ignored(None, notes) {
            return Err(why);
        }
        let place = self.ways.portless().map_err(|unreachable| {
            notes.warn(PORTLESS, format!("not registered: {}", unreachable.why));
            unreachable.why
        })?;
        Ok(vec![Offer { port: None, places: vec![place] }])
    }

    fn offers(&self, notes: &mut Notes) -> Result<Vec<Offer>, String> {
        let mut skipped = Skipped::default();
        let mut offers = Vec::new();
        for port in self.ways.candidates(self.metadata) {
            match self.ignored(Some(port), notes) {
                Some(why) => skipped.add(port, Unreachable::by_choice(why)),
                None => match self.ways.places(port, notes) {
                    Ok(places) => offers.push(Offer { port: Some(port), places }),
                    Err(unreachable) => skipped.add(port, unreachable),
                },
            }
        }
        skipped.note(notes);
        if offers.is_empty() {
            return Err(match skipped.summary() {
                None => self.ways.no_ports(),
                Some(summary) => format!("no port to register: {summary}"),
            });
        }
        Ok(offers)
    }

    /// The key or setting that takes a port (`None`: a service without a port) off, if one does.
    fn ignored(&self, port: Option<Port>, notes: &mut Notes) -> Option<String> {
        if let Some(entry) = self.metadata.get("ignore", port)
            && self.yes(entry.key, entry.value, notes)
        {
            return Some(format!("ignored by {entry}"));
        }
        let publish = &self.settings.publish;
        if publish.explicit && self.enabled != Some(true) && self.metadata.get("name", port).is_none() {
            return Some(format!("REMORA_EXPLICIT asks for a SERVICE_NAME (or {ENABLE}=true)"));
        }
        None
    }

    fn yes(&self, key: &str, value: &str, notes: &mut Notes) -> bool {
        boolean(value, self.settings.publish.loose_booleans).unwrap_or_else(|| {
            notes.warn(key, format!("{} is not understood and does nothing: expected true or false", quoted(value)));
            false
        })
    }

    fn plan(&self, offers: &[Offer], notes: &mut Notes) -> Vec<Planned> {
        let container = &self.sight.container;
        let most = self.settings.publish.max_ports;
        let several = offers.len() > 1;
        let mut planned: Vec<Planned> = Vec::new();
        let mut ids = BTreeSet::new();
        let mut left_out = 0_usize;
        for offer in offers {
            if planned.len() >= most {
                left_out += 1;
                continue;
            }
            let named = names::names(container, self.metadata, offer.port, several, self.settings.publish.names, notes);
            let name = logical(&container.name).0;
            let (id, id_from) = names::base_id(&self.settings.node, name, self.metadata, offer.port, several, notes);
            for (place, named) in offer.places.iter().flat_map(|place| named.iter().map(move |named| (place, named))) {
                if planned.len() >= most {
                    left_out += 1;
                    continue;
                }
                let id = unique(full_id(&id, place, named), &mut ids, notes);
                planned.push(self.service(id, &id_from, offer.port, place, named, notes));
            }
        }
        without_doubles(&mut planned, notes);
        for planned in &mut planned {
            planned.service.seal();
        }
        if left_out > 0 {
            let text = format!(
                "{left_out} or more services are left out: at most REMORA_MAX_PORTS={most} per container are registered"
            );
            notes.warn("ports", text);
        }
        planned
    }

    fn service(
        &self,
        id: String,
        id_from: &str,
        port: Option<Port>,
        place: &Place,
        named: &Named,
        notes: &mut Notes,
    ) -> Planned {
        let container = &self.sight.container;
        let (metadata, publish) = (self.metadata, &self.settings.publish);
        let mut reasons = BTreeMap::from([
            ("id", id_from.to_owned()),
            ("name", named.from.clone()),
            ("address", place.spot.from.clone()),
            ("port", place.port_from.clone()),
        ]);
        let (tags, tags_from) = tags::tags(container, metadata, port, publish, notes);
        if !tags.is_empty() {
            reasons.insert("tags", tags_from);
        }
        let attributes: Vec<String> = metadata.attributes(port).take(20).map(|(_, entry)| entry.to_string()).collect();
        if !attributes.is_empty() {
            reasons.insert("meta", attributes.join(", "));
        }
        let initial = checks::initial_status(metadata, port, notes);
        let mut all_checks = vec![docker_check::check(self.sight, &id, initial, self.settings.health_ttl)];
        let subject =
            Subject { service_id: &id, port, place, container: &container.id, metadata, ways: self.ways, publish };
        let (asked_for, checks_from) = checks::checks(&subject, notes);
        all_checks.extend(asked_for);
        if !checks_from.is_empty() {
            reasons.insert("checks", checks_from.join(", "));
        }
        let weights = self.weights(port, notes).map(|(weights, from)| {
            reasons.insert("weights", from);
            weights
        });
        let enable_tag_override = metadata.get("enable_tag_override", port).is_some_and(|entry| {
            reasons.insert("enable-tag-override", entry.to_string());
            self.yes(entry.key, entry.value, notes)
        });
        let service = Service {
            id: id.into(),
            name: named.name.as_str().into(),
            address: place.spot.address.to_string().into(),
            port: place.port,
            tags: tags.into_iter().map(ArcStr::from).collect(),
            meta: meta::meta(container, metadata, port, self.settings, notes).into_iter().collect(),
            tagged_addresses: tagged_addresses(place),
            weights,
            enable_tag_override,
            checks: all_checks,
        };
        Planned { service, reasons }
    }

    fn weights(&self, port: Option<Port>, notes: &mut Notes) -> Option<(Weights, String)> {
        let mut weights = Weights::default();
        let mut from = Vec::new();
        let mut read = |options: &[&str], weight: &mut u16| {
            // Two spellings of one option: the more specific key wins, whichever way it is spelled.
            let found = options.iter().filter_map(|option| self.metadata.most_specific(option, port));
            let Some(entry) = found.min_by_key(|entry| entry.scope.rank()).filter(|entry| !entry.is_empty()) else {
                return;
            };
            if let Some(number) = entry.value.trim().parse::<u16>().ok().filter(|&number| number != 0) {
                *weight = number;
                from.push(entry.to_string());
            } else {
                let text = format!("{} is not understood and left out: expected 1 to 65535", quoted(entry.value));
                notes.warn(entry.key, text);
            }
        };
        read(&["weights_passing", "weight"], &mut weights.passing);
        read(&["weights_warning"], &mut weights.warning);
        (!from.is_empty()).then(|| (weights, from.join(", ")))
    }
}

/// Leaves out each check whose id is that of another one of this container: Consul's agent keeps one of the two. Checks of one
/// service meet only where one is named like a check of Remora's own; those of two can, by ids that are chosen for it
/// (`x:docker` and `service:x`).
fn without_doubles(planned: &mut [Planned], notes: &mut Notes) {
    // Docker's checks come first of all: they are always registered.
    let docker = planned.iter().filter_map(|planned| planned.service.checks.first());
    let docker = docker.map(|check| check.id.to_lowercase());
    // These are added by whoever knows what is healed; their ids are kept free, healed or not.
    let healing = planned.iter().map(|planned| Service::healing_check_id(&planned.service.id).to_lowercase());
    let mut ids: BTreeSet<String> = docker.chain(healing).collect();
    for Planned { service, .. } in planned {
        let mut at = 0_usize;
        service.checks.retain(|check| {
            at += 1;
            let is_free = at == 1 || ids.insert(check.id.to_lowercase());
            if !is_free {
                let text = format!("a check is left out: its id {} is that of another check", quoted(&check.id));
                notes.warn("checks", text);
            }
            is_free
        });
    }
}

/// Both families, where both are known. Consul's DNS answers A and AAAA from these.
fn tagged_addresses(place: &Place) -> LiteMap<ArcStr, TaggedAddress> {
    let (Address::Ip(address), Some((other, other_port))) = (&place.spot.address, place.spot.other) else {
        return LiteMap::new();
    };
    let both =
        [(*address, place.port), (other, other_port.unwrap_or(place.port))].into_iter().map(|(address, port)| {
            let tag = if address.is_ipv4() { "lan_ipv4" } else { "lan_ipv6" };
            (tag.into(), TaggedAddress { address: address.to_string().into(), port })
        });
    exact(both.collect())
}

/// `<id>[:<host ip>:<host port>][:<alias>]`. The binding as the container asked for it, not the address that is advertised:
/// the id must not change when the node's address does.
fn full_id(base: &str, place: &Place, named: &Named) -> String {
    let mut id = base.to_owned();
    if let Some((host_ip, host_port)) = place.binding {
        // An IPv6 address brings colons of its own, which would read as further parts.
        let host_ip = host_ip.to_string().replace(':', "-");
        id = format!("{id}:{host_ip}:{host_port}");
    }
    if let Some(suffix) = &named.id_suffix {
        id.push(':');
        id.push_str(suffix);
    }
    id
}

/// Consul's catalog does not tell upper from lower case in ids: two services whose ids differ in nothing else would be one.
fn unique(id: String, ids: &mut BTreeSet<String>, notes: &mut Notes) -> String {
    if ids.insert(id.to_lowercase()) {
        return id;
    }
    notes.warn("id", format!("{} is the id of two services: a number is added to the second", quoted(&id)));
    // One more candidate than there are ids: one of them is free.
    let mut candidates = (2..=ids.len() + 2).map(|number| format!("{id}:{number}"));
    candidates.find(|id| ids.insert(id.to_lowercase())).unwrap_or(id)
}
