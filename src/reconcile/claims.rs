//! Who may use which service id. Pure.
//!
//! Two containers may ask for the same id: by a `SERVICE_ID` label, by names that differ only in case (Consul's catalog is
//! case-insensitive), or because somebody else's service has it already. One of them gets it; the others get it with
//! their container's short id behind it. Nobody overwrites anybody; but an id that is made of a container's own name is that
//! container's: no label of another one takes it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::consul::Service;
use crate::docker::ContainerId;

/// A container's wish for an id.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whose wish it is.
    pub container: ContainerId,
    /// When that container was created, RFC 3339. Compared as text, which is right but for the last digits of a second:
    /// what counts is that every look comes to the same answer.
    pub created: String,
    /// Whether the id is made of that container's own name, and not of a label's wish.
    pub natural: bool,
    /// The definition under the id it wishes for.
    pub service: Arc<Service>,
}

/// Every claim, by the lower-case id that it is for.
#[derive(Debug, Default)]
pub struct Claims {
    claims: HashMap<String, Vec<Claim>>,
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
    pub fn insert(&mut self, key: &str, claim: Claim) {
        let claims = self.claims.entry(key.to_owned()).or_default();
        claims.retain(|old| old.container != claim.container);
        // By itself a list of one makes room for four.
        claims.reserve_exact(1);
        claims.push(claim);
    }

    /// Removes a container's claim.
    pub fn remove(&mut self, key: &str, container: &ContainerId) {
        if let Some(claims) = self.claims.get_mut(key) {
            claims.retain(|claim| claim.container != *container);
            if claims.is_empty() {
                self.claims.remove(key);
            }
        }
    }

    /// The claims for this id.
    #[must_use]
    pub fn of(&self, key: &str) -> &[Claim] {
        self.claims.get(key).map_or(&[], Vec::as_slice)
    }

    /// What each claimant registers: its definition, under the id or under one of its own.
    #[must_use]
    pub fn settle(&self, key: &str, occupant: &Occupant) -> Vec<(ContainerId, Arc<Service>)> {
        let claims = self.of(key);
        // A label may wish for any id; the one that is made of a container's own name is that container's.
        let natural = claims.iter().any(|claim| claim.natural);
        let eligible = || claims.iter().filter(move |claim| claim.natural == natural);
        let oldest = || eligible().min_by_key(|claim| (&claim.created, &claim.container)).map(|claim| &claim.container);
        let winner = match occupant {
            Occupant::Stranger => None,
            // Whoever has it keeps it: ids must not change hands because an older container was started again.
            Occupant::Container(holder) if eligible().any(|claim| claim.container == *holder) => Some(holder),
            Occupant::Container(_) | Occupant::Free => oldest(),
        };
        claims
            .iter()
            .map(|claim| {
                let service = if winner == Some(&claim.container) {
                    Arc::clone(&claim.service)
                } else {
                    Arc::new(with_id_of_its_own(&claim.service, &claim.container))
                };
                (claim.container.clone(), service)
            })
            .collect()
    }
}

fn with_id_of_its_own(service: &Service, container: &ContainerId) -> Service {
    let id = format!("{}:{}", service.id, container.short());
    let mut own = service.clone();
    for check in &mut own.checks {
        // The two forms of ids that a definition gives its checks.
        if let Some(rest) = check.id.strip_prefix(&service.id) {
            check.id = format!("{id}{rest}");
        } else if check.id.strip_prefix("service:") == Some(service.id.as_str()) {
            check.id = format!("service:{id}");
        }
    }
    own.id = id;
    own.seal();
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::Check;
    use crate::reconcile::diff::tests::service;

    fn claim(container: &str, created: &str) -> Claim {
        Claim {
            container: ContainerId::new(container),
            created: created.to_owned(),
            natural: false,
            service: Arc::new(service("n1:web:80", container)),
        }
    }

    fn ids(claims: &Claims, occupant: &Occupant) -> Vec<String> {
        let mut ids: Vec<_> =
            claims.settle("n1:web:80", occupant).into_iter().map(|(_, service)| service.id.clone()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn one_claimant_gets_its_id_unless_a_stranger_has_it() {
        let mut claims = Claims::default();
        claims.insert("n1:web:80", claim("aaaaaaaaaaaaaaaa", "1"));
        assert_eq!(ids(&claims, &Occupant::Free), ["n1:web:80"]);
        assert_eq!(ids(&claims, &Occupant::Container(ContainerId::new("gone"))), ["n1:web:80"]);
        assert_eq!(ids(&claims, &Occupant::Stranger), ["n1:web:80:aaaaaaaaaaaa"]);
        claims.remove("n1:web:80", &ContainerId::new("aaaaaaaaaaaaaaaa"));
        assert!(claims.of("n1:web:80").is_empty());
    }

    #[test]
    fn of_two_the_older_gets_it_and_whoever_has_it_keeps_it() {
        let mut claims = Claims::default();
        claims.insert("n1:web:80", claim("bbbbbbbbbbbbbbbb", "2"));
        claims.insert("n1:web:80", claim("aaaaaaaaaaaaaaaa", "1"));
        assert_eq!(ids(&claims, &Occupant::Free), ["n1:web:80", "n1:web:80:bbbbbbbbbbbb"]);
        let holder = Occupant::Container(ContainerId::new("bbbbbbbbbbbbbbbb"));
        assert_eq!(ids(&claims, &holder), ["n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    }

    #[test]
    fn no_label_takes_the_id_that_is_made_of_anothers_name() {
        let mut claims = Claims::default();
        claims.insert("n1:web:80", claim("aaaaaaaaaaaaaaaa", "1"));
        claims.insert("n1:web:80", Claim { natural: true, ..claim("bbbbbbbbbbbbbbbb", "2") });
        let expected = ["n1:web:80", "n1:web:80:aaaaaaaaaaaa"];
        for occupant in [Occupant::Free, Occupant::Container(ContainerId::new("aaaaaaaaaaaaaaaa"))] {
            assert_eq!(ids(&claims, &occupant), expected);
        }
    }

    #[test]
    fn the_checks_move_with_the_id_and_the_seal_is_right() {
        let mut claims = Claims::default();
        let mut wish = claim("aaaaaaaaaaaaaaaa", "1");
        let definition = Arc::make_mut(&mut wish.service);
        definition.checks.push(Check { id: "service:n1:web:80".to_owned(), ..definition.checks[0].clone() });
        claims.insert("n1:web:80", wish);
        let settled = claims.settle("n1:web:80", &Occupant::Stranger);
        let service = &settled[0].1;
        assert_eq!(service.checks[1].id, "service:n1:web:80:aaaaaaaaaaaa");
        assert_eq!(service.checks[0].id, "n1:web:80:aaaaaaaaaaaa:docker");
        assert_eq!(service.meta.get(Service::META_HASH).unwrap(), &service.definition_hash());
    }
}
