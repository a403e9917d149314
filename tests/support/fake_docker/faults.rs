//! What goes wrong with the engine; with changes it is in `control.rs`.

use std::time::Duration;

use remora::docker::ContainerId;
use tokio::time::Instant;

use super::{FakeDocker, Mood, has_process, set};

/// What goes wrong.
impl FakeDocker {
    /// From now on the engine is like this. A connection that froze stays frozen.
    pub fn mood(&self, mood: Mood) {
        let mut shared = self.lock();
        shared.mood = mood;
        match mood {
            Mood::Refusing => {
                shared.listeners.clear();
                shared.stranded.clear();
            }
            Mood::Frozen => {
                let listeners = std::mem::take(&mut shared.listeners);
                shared.stranded.extend(listeners);
            }
            Mood::Up | Mood::Unwell => {}
        }
        shared.note();
    }

    /// Every event stream ends.
    pub fn cut(&self) {
        self.lock().listeners.clear();
    }

    /// Every event stream goes silent without an end, while calls are answered.
    pub fn strand(&self) {
        let mut shared = self.lock();
        let listeners = std::mem::take(&mut shared.listeners);
        shared.stranded.extend(listeners);
        // Only the next full look shows it.
        shared.note();
        let now = Instant::now();
        if let Some((from, None)) = shared.clear.last_mut() {
            *from = now;
        }
    }

    /// The daemon is restarted: every stream ends and no event of before is remembered. With live-restore containers run
    /// on, else they end (and are not started again).
    pub fn restart(&self, live_restore: bool) {
        let mut shared = self.lock();
        shared.listeners.clear();
        shared.stranded.clear();
        let alive = shared.containers.iter().filter(|(_, inside)| has_process(&inside.facts.state));
        let ids: Vec<ContainerId> = alive.map(|(id, _)| id.clone()).collect();
        if !live_restore {
            for id in ids {
                shared.die(&id, 255, false);
            }
        }
        shared.ring.clear();
    }

    /// The daemon (or the whole host) is started anew, and does what the restart policies say. No event tells the end of the
    /// containers.
    pub fn reboot(&self) {
        let mut shared = self.lock();
        shared.listeners.clear();
        shared.stranded.clear();
        let forgetful = std::mem::replace(&mut shared.forgetful, true);
        let alive = shared.containers.iter().filter(|(_, inside)| has_process(&inside.facts.state));
        let ids: Vec<ContainerId> = alive.map(|(id, _)| id.clone()).collect();
        for id in ids {
            shared.die(&id, 255, false);
        }
        shared.forgetful = forgetful;
        shared.ring.clear();
        shared.revive();
    }

    /// Another engine answers from now on.
    pub fn replaced_by(&self, engine_id: &str) {
        engine_id.clone_into(&mut self.lock().engine_id);
    }

    /// Every call takes so long; its answer says what was true when it was asked.
    pub fn set_latency(&self, latency: Duration) {
        let mut shared = self.lock();
        shared.latency = latency;
        shared.note();
    }

    /// Every list takes so much longer.
    pub fn set_list_latency(&self, latency: Duration) {
        let mut shared = self.lock();
        shared.list_latency = latency;
        shared.note();
    }

    /// Every list says what is true now, until `false`.
    pub fn freeze_list(&self, frozen: bool) {
        let mut shared = self.lock();
        shared.old_list = frozen.then(|| shared.listing());
        shared.note();
    }

    /// What the engine says about this container cannot be read.
    pub fn garble(&self, id: &ContainerId, garbled: bool) {
        let mut shared = self.lock();
        set(&mut shared.unreadable, id, garbled);
        shared.note();
    }

    /// Looking at this container never ends: something holds its lock.
    pub fn jam(&self, id: &ContainerId, stuck: bool) {
        let mut shared = self.lock();
        set(&mut shared.stuck, id, stuck);
        shared.note();
    }

    /// The engine has a word for its state that nobody knows.
    pub fn speak_oddly(&self, id: &ContainerId, word: Option<&str>) {
        let mut shared = self.lock();
        match word {
            Some(word) => drop(shared.odd_states.insert(id.clone(), word.to_owned())),
            None => drop(shared.odd_states.remove(id)),
        }
        shared.note();
    }

    /// Events are neither told nor remembered, until `false`.
    pub fn lose_events(&self, lost: bool) {
        let mut shared = self.lock();
        shared.forgetful = lost;
        shared.note();
    }

    /// What a new stream replays comes so long after the headers of its answer: a list that is asked for meanwhile is answered before.
    pub fn remember_late(&self, late: Duration) {
        self.lock().late_memory = late;
    }
}
