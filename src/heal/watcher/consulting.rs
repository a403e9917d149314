//! What Consul says to the watcher, and what is kept there: pauses, requests, the records of an earlier run, critical checks. While
//! Consul is away what was last known counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Watcher;
use super::treating::Job;
use crate::consul::{ActualService, ConsulError, Entry, Listing, Service, Store};
use crate::docker::names;
use crate::docker::{Control, Engine};
use crate::heal::cause::{Cause, CriticalCheck};
use crate::heal::cluster::asks::Asked;
use crate::heal::cluster::{Ask, Pauses, State, Wish};
use crate::heal::record::Record;
use crate::heal::service::failed;
use crate::heal::tell::{Kind, News};

/// One blocking query lasts so long: below the minute after which middleboxes cut silent connections.
const WATCH: Duration = Duration::from_secs(45);

/// After a query that failed the next one waits so long.
const AGAIN: Duration = Duration::from_secs(5);

/// Two queries never follow each other faster: somebody who writes in a loop must not turn this into one.
const PAUSE: Duration = Duration::from_millis(200);

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    /// When Consul is asked next.
    pub(super) fn next_list(&self) -> Option<Instant> {
        (!self.listing && self.seen.borrow().reachable).then_some(self.list_at)
    }

    pub(super) fn start_jobs(&mut self) {
        let now = Instant::now();
        self.start_unfinished(now);
        self.act_on_asks(now);
        let reachable = self.seen.borrow().reachable;
        if reachable && !self.listing && self.list_at <= now {
            self.listing = true;
            let (store, prefix, index) =
                (Arc::clone(&self.store), format!("{}/heal/", self.place.heal.prefix), self.list_index);
            self.jobs.spawn(async move { Job::Listed(store.list(&prefix, Some((index, WATCH))).await) });
        }
        if reachable
            && self.restored
            && !self.saving
            && let Some(place) = self.unsaved.pop_first()
        {
            self.save(place, now);
        }
    }

    /// Writes the record of a place, or removes it when there is nothing to remember.
    fn save(&mut self, place: String, now: Instant) {
        let record = self.records.get(&place);
        let state = record.map(|record| record.state(now, SystemTime::now())).unwrap_or_default();
        let (store, key) = (Arc::clone(&self.store), self.keys.state(&place));
        self.saving = true;
        self.jobs.spawn(async move {
            let result =
                if state.is_empty() { store.delete(&key).await } else { store.put(&key, &state.encode()).await };
            Job::Saved(place, result)
        });
    }

    pub(super) fn saved(&mut self, place: &str, result: Result<(), ConsulError>) {
        self.saving = false;
        if let Err(error) = result {
            // It stays in memory; the next change of the same place writes it again.
            tracing::debug!(event = "heal_state_unsaved", name = place, error = %error, "what is remembered of {place} could not be written to Consul: {error}");
        }
    }

    pub(super) fn listed(&mut self, listed: Result<Listing, ConsulError>, now: Instant) {
        self.listing = false;
        match listed {
            Ok(listing) => {
                self.list_at = now + PAUSE;
                self.list_index = listing.index;
                self.read_keys(&listing.entries, now);
            }
            Err(error) => {
                self.list_at = now + AGAIN;
                // What is paused stays paused: a failed look is no permission.
                tracing::debug!(event = "heal_keys_unknown", error = %error, "Consul's keys about healing cannot be read: {error}");
            }
        }
    }

    fn read_keys(&mut self, entries: &BTreeMap<String, Entry>, now: Instant) {
        if !std::mem::replace(&mut self.restored, true) {
            self.restore(entries, now);
        }
        let (pauses, mut notes) = Pauses::read(&self.keys, entries);
        if pauses != self.pauses {
            let wall = SystemTime::now();
            let of_node = |pauses: &Pauses| pauses.paused(&self.place.node, "", wall).map(|reason| reason.text.clone());
            let (before, after) = (of_node(&self.pauses), of_node(&pauses));
            self.pauses = pauses;
            let text = match after {
                after if after == before => "which containers are paused has changed".to_owned(),
                Some(reason) => format!("healing is paused on this node: {reason}"),
                None => "healing is not paused on this node any more".to_owned(),
            };
            tracing::info!(event = "heal_pauses", "{text}");
            self.consider_all(now);
        }
        let Asked { asks, notes: more, bad } = self.asks.read(&self.keys, entries);
        notes.extend(more);
        for note in notes {
            tracing::warn!(event = "heal_key", key = %note.about, "{}: {}", note.about, note.text);
        }
        for ask in asks {
            let store = Arc::clone(&self.store);
            self.jobs.spawn(async move {
                let taken = ask.take(&*store).await;
                Job::Taken(ask, taken)
            });
        }
        for (key, index) in bad {
            let store = Arc::clone(&self.store);
            self.jobs.spawn(async move { Job::Saved(key.clone(), store.delete_if(&key, index).await.map(drop)) });
            self.saving = true;
        }
    }

    pub(super) fn ask_taken(&mut self, ask: &Ask, taken: &Result<bool, ConsulError>, now: Instant) {
        if !matches!(taken, Ok(true)) {
            return;
        }
        match ask.wish {
            Wish::Release => self.release(&ask.name, &ask.by, now),
            Wish::Heal => {
                let found =
                    self.watched.iter().find(|(_, it)| it.sight.container.name == ask.name).map(|(id, _)| id.clone());
                if let Some(id) = found {
                    tracing::info!(event = "heal_asked", name = %ask.name, by = %ask.by, "{}: a replacement was asked for by {}", ask.name, ask.by);
                    self.record(&ask.name).forget();
                    self.asked.push_back(id);
                    self.act_on_asks(now);
                } else {
                    let text =
                        format!("{} is not on this node, although {} asked for its replacement", ask.name, ask.by);
                    self.tell(News::decision(Kind::NotHealed, &ask.name, "", Cause::Asked.as_str(), text));
                }
            }
        }
    }

    /// What an earlier run remembered.
    fn restore(&mut self, entries: &BTreeMap<String, Entry>, now: Instant) {
        let prefix = self.keys.states();
        for (key, entry) in entries {
            let Some(place) = key.strip_prefix(&prefix).filter(|place| !place.is_empty()) else { continue };
            // What this run has learned is younger.
            if self.records.get(place).is_some_and(|record| record.forgiven_at().is_some()) {
                continue;
            }
            match State::decode(&entry.value) {
                Ok(state) => {
                    self.records.insert(place.to_owned(), Record::from_state(&state, now, SystemTime::now()));
                }
                Err(error) => {
                    tracing::warn!(event = "heal_state_unreadable", key = %key, "{key} is not what an agent wrote ({error}): it is ignored");
                }
            }
        }
        self.show_first();
        self.consider_all(now);
    }

    /// A new picture of what is registered: which containers have checks there that are critical?
    pub(super) fn consul_was_read(&mut self) {
        let now = Instant::now();
        let snapshot = self.seen.borrow_and_update().snapshot.clone();
        let Some(snapshot) = snapshot else { return };
        let mut critical: BTreeMap<&str, String> = BTreeMap::new();
        for service in snapshot.services.values() {
            if let Some(container) = service.meta.get(Service::META_CONTAINER)
                && let Some(words) = failing(service)
            {
                critical.entry(container).or_insert(words);
            }
        }
        let mut changed = Vec::new();
        for (id, watched) in &mut self.watched {
            let words = critical.get(id.as_str()).filter(|_| watched.policy.acts_on(&Cause::Critical));
            let before = watched.critical.take();
            let since = before.as_ref().map_or(now, |before| before.since);
            watched.critical = words.map(|words| Box::new(CriticalCheck { since, words: words.clone() }));
            if before.is_some() != watched.critical.is_some() {
                changed.push(id.clone());
            }
        }
        for id in changed {
            self.consider(&id, now);
        }
    }

    /// The name that a container's place has.
    pub(super) fn place_of(name: &str) -> &str {
        names::logical(name).0
    }
}

/// The first check of a service that says that it has failed, in words.
fn failing(service: &ActualService) -> Option<String> {
    service.checks.iter().find_map(|(id, check)| {
        failed(&service.id, id, check.status, &check.output).then(|| {
            let output: String = check.output.chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{id}: {output}")
        })
    })
}
