//! Who may use which service id. Pure.
//!
//! Two containers may ask for the same id: by a `SERVICE_ID` label, by names that differ only in case (Consul's catalog is
//! case-insensitive), or because somebody else's service has it already. One of them gets it; the others get it with
//! their container's short id behind it. Nobody overwrites anybody; but an id that is made of a container's own name is that
//! container's: no label of another one takes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arcstr::ArcStr;

use crate::consul::Service;
use crate::docker::{ContainerId, EventTime};

/// A container's wish for an id.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whether the id is made of that container's own name, and not of a label's wish.
    pub natural: bool,
    /// The definition under the id it wishes for.
    pub service: Arc<Service>,
}

/// Every claim, by the lower-case id that it is for, and by whose wish it is.
#[derive(Debug, Default)]
pub struct Claims {
    claims: BTreeMap<(ArcStr, ContainerId), Claim>,
}

/// Who has the id in Consul now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// Nobody, or an entry that every claimant may take over.
    Free,
    /// One of our containers.
    Container(ContainerId),
    /// Somebody else: nobody of us gets it.
    Stranger,
}

impl Claims {
    /// Adds or replaces a container's claim.
    pub fn insert(&mut self, key: &ArcStr, container: &ContainerId, claim: Claim) {
        self.claims.insert((key.clone(), container.clone()), claim);
    }

    /// Removes a container's claim.
    pub fn remove(&mut self, key: &ArcStr, container: &ContainerId) {
        self.claims.remove(&(key.clone(), container.clone()));
    }

    /// The claim of this container for this id.
    #[must_use]
    pub fn get(&self, key: &ArcStr, container: &ContainerId) -> Option<&Claim> {
        self.claims.get(&(key.clone(), container.clone()))
    }

    /// The claims for this id.
    pub fn of(&self, key: &ArcStr) -> impl Iterator<Item = (&ContainerId, &Claim)> {
        let all = self.claims.range((key.clone(), ContainerId::default())..);
        all.take_while(move |((at, _), _)| at == key).map(|((_, container), claim)| (container, claim))
    }

    /// What each claimant registers: its definition, under the id or under one of its own. `created`: when a container was.
    #[must_use]
    pub fn settle(
        &self,
        key: &ArcStr,
        occupant: &Occupant,
        created: impl Fn(&ContainerId) -> Option<EventTime>,
    ) -> Vec<(ContainerId, Arc<Service>)> {
        let claims = || self.of(key);
        // A label may wish for any id; the one that is made of a container's own name is that container's.
        let natural = claims().any(|(_, claim)| claim.natural);
        let eligible = || claims().filter(move |(_, claim)| claim.natural == natural);
        let oldest =
            || eligible().map(|(container, _)| container).min_by_key(|container| (created(container), *container));
        let winner = match occupant {
            Occupant::Stranger => None,
            // Whoever has it keeps it: ids must not change hands because an older container was started again.
            Occupant::Container(holder) if eligible().any(|(container, _)| container == holder) => Some(holder),
            Occupant::Container(_) | Occupant::Free => oldest(),
        };
        claims()
            .map(|(container, claim)| {
                let service = if winner == Some(container) {
                    Arc::clone(&claim.service)
                } else {
                    Arc::new(with_id_of_its_own(&claim.service, container))
                };
                (container.clone(), service)
            })
            .collect()
    }
}

fn with_id_of_its_own(service: &Service, container: &ContainerId) -> Service {
    let id = format!("{}:{}", service.id, container.short());
    let mut own = service.clone();
    for check in &mut own.checks {
        // The two forms of ids that a definition gives its checks.
        if let Some(rest) = check.id.strip_prefix(&*service.id) {
            check.id = format!("{id}{rest}").into();
        } else if check.id.strip_prefix("service:") == Some(service.id.as_str()) {
            check.id = format!("service:{id}").into();
        }
    }
    own.id = id.into();
    own.seal();
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::Check;
    use crate::reconcile::diff::tests::service;

    const WEB: ArcStr = arcstr::literal!("n1:web:80");

    fn claim(container: &str) -> Claim {
        Claim { natural: false, service: Arc::new(service("n1:web:80", container)) }
    }

    /// The later in the alphabet the older.
    fn created(container: &ContainerId) -> Option<EventTime> {
        container.as_str().bytes().next().map(|first| EventTime(-i64::from(first)))
    }

    fn ids(claims: &Claims, occupant: &Occupant) -> Vec<ArcStr> {
        let mut ids: Vec<_> =
            claims.settle(&WEB, occupant, created).into_iter().map(|(_, service)| service.id.clone()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn one_claimant_gets_its_id_unless_a_stranger_has_it() {
        let mut claims = Claims::default();
        claims.insert(&WEB, &ContainerId::new("aaaaaaaaaaaaaaaa"), claim("aaaaaaaaaaaaaaaa"));
        assert_eq!(ids(&claims, &Occupant::Free), ["n1:web:80"]);
        assert_eq!(ids(&claims, &Occupant::Container(ContainerId::new("gone"))), ["n1:web:80"]);
        assert_eq!(ids(&claims, &Occupant::Stranger), ["n1:web:80:aaaaaaaaaaaa"]);
        claims.remove(&WEB, &ContainerId::new("aaaaaaaaaaaaaaaa"));
        assert!(claims.of(&WEB).next().is_none());
    }

    #[test]
    fn of_two_the_older_gets_it_and_whoever_has_it_keeps_it() {
        let mut claims = Claims::default();
        claims.insert(&WEB, &ContainerId::new("aaaaaaaaaaaaaaaa"), claim("aaaaaaaaaaaaaaaa"));
        claims.insert(&WEB, &ContainerId::new("bbbbbbbbbbbbbbbb"), claim("bbbbbbbbbbbbbbbb"));
        assert_eq!(ids(&claims, &Occupant::Free), ["n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
        let holder = Occupant::Container(ContainerId::new("aaaaaaaaaaaaaaaa"));
        assert_eq!(ids(&claims, &holder), ["n1:web:80", "n1:web:80:bbbbbbbbbbbb"]);
    }

    #[test]
    fn no_label_takes_the_id_that_is_made_of_anothers_name() {
        let mut claims = Claims::default();
        claims.insert(&WEB, &ContainerId::new("bbbbbbbbbbbbbbbb"), claim("bbbbbbbbbbbbbbbb"));
        claims.insert(
            &WEB,
            &ContainerId::new("aaaaaaaaaaaaaaaa"),
            Claim { natural: true, ..claim("aaaaaaaaaaaaaaaa") },
        );
        let expected = ["n1:web:80", "n1:web:80:bbbbbbbbbbbb"];
        for occupant in [Occupant::Free, Occupant::Container(ContainerId::new("bbbbbbbbbbbbbbbb"))] {
            assert_eq!(ids(&claims, &occupant), expected);
        }
    }

    #[test]
    fn the_checks_move_with_the_id_and_the_seal_is_right() {
        let mut claims = Claims::default();
        let mut wish = claim("aaaaaaaaaaaaaaaa");
        let definition = Arc::make_mut(&mut wish.service);
        definition.checks.push(Check { id: "service:n1:web:80".into(), ..definition.checks[0].clone() });
        claims.insert(&WEB, &ContainerId::new("aaaaaaaaaaaaaaaa"), wish);
        let settled = claims.settle(&WEB, &Occupant::Stranger, created);
        let service = &settled[0].1;
        assert_eq!(service.checks[1].id, "service:n1:web:80:aaaaaaaaaaaa");
        assert_eq!(service.checks[0].id, "n1:web:80:aaaaaaaaaaaa:docker");
        assert_eq!(service.meta.get(Service::META_HASH).unwrap(), &service.definition_hash());
    }
}
