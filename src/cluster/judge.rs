//! Who is dead. Pure: the time is an argument, and what has to be remembered between two looks is a value.
//!
//! # The rules
//!
//! *Known* are the nodes of the catalog with our mark. *Absent* is a known node without a live key; never this leader's own.
//!
//! 1. An absent node whose check is not critical is marked [`SPREAD`] after it, and whoever followed it, was first missed: when the
//!    network breaks, sessions end one after the other as their last renewals were, [`RENEW_EVERY`], and the first of them must
//!    not be marked before it is known how many there are.
//!    A node that was not in the catalog at the look before has not vanished: it is being registered, and gets its session
//!    in a moment. It counts as absent only after twice the TTL.
//! 2. An absent node that is critical without anybody having written since when gets that time after twice the TTL.
//! 3. **Brake.** When more than half of the nodes have vanished within a minute, it is more likely that something between them
//!    and Consul broke: nothing is marked and nothing removed, as long as more than half are absent, and for twice the TTL
//!    afterwards: what was cut off together does not come back at the same moment. *The nodes* are those that were there when
//!    that minute began: whoever was marked before counts neither as vanished nor as one of the nodes.
//! 4. An absent node that was marked for longer than the reap time is removed. This leader itself must have missed it for ten
//!    minutes (or the reap time, if that is shorter): a clock that is wrong by days removes nothing at once.
//!
//! # Small clusters
//!
//! More than half is meant literally, and the leader's own node is always one of those that are there:
//!
//! | Nodes | Vanished | |
//! |---|---|---|
//! | 1 | – | there is nobody but the leader: nothing to judge |
//! | 2 | 1 | half is not more than half: marked. The leader cannot know whether it is the one that is cut off from its like, but it can write to Consul, which the other one cannot |
//! | 3 | 1 | marked |
//! | 3 | 2 | brake |
//! | 4 | 2 | marked |
//!
//! Two of three nodes that really die in the same minute stay as they are until one of them is back, or an operator has removed
//! one from the catalog. That is the price; it is told in the log and by `remora_cluster_nodes{state="vanished"}`.
//!
//! # A new leader
//!
//! It does not know when the nodes vanished that are absent at its first look. Those with a gone key were marked by another
//! leader: their time is there. All others count as vanished at that look: if they are more than half the brake applies, as it
//! did, or would have done, for the leader before. A brake thus survives a change of leaders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::keys::spelled;
use crate::consul::Status;
use crate::consul::members::Member;

/// Vanished together: within so long.
pub const WINDOW: Duration = Duration::from_secs(60);

/// How often a session is renewed. That costs Consul a message to its leader and no write. A third of the TTL would keep it alive as
/// well, but then the sessions of nodes that are cut off together would end within five seconds of each other instead of one.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Within so long sessions end, and are seen to, whose owners were cut off at the same moment. With twice the TTL before, and what
/// it takes to write the mark, it has to be less than the two seconds that are promised.
pub const SPREAD: Duration = Duration::from_millis(1_500);

/// How long a leader itself misses a node before it removes it, whatever the clock says.
const REAP_SEEN: Duration = Duration::from_secs(600);

/// How to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Time to live of the sessions.
    pub ttl: Duration,
    /// How long after it was marked a node is removed; zero: never.
    pub reap: Duration,
}

/// What was read of Consul, after each other and without an error.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// The nodes of the catalog with our mark.
    pub members: &'a [Member],
    /// Whose live key exists, as [`spelled`].
    pub present: &'a BTreeSet<String>,
    /// Since when which nodes are gone, by their gone keys.
    pub gone: &'a BTreeMap<String, Option<SystemTime>>,
}

/// A moment on both clocks: the one that never jumps for spans, the other one for what another leader wrote.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Of this process.
    pub at: Instant,
    /// Of the wall.
    pub wall: SystemTime,
}

/// More than half have vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// Absent nodes.
    pub absent: usize,
    /// Of so many.
    pub of: usize,
}

/// What to do. Nodes are named as the catalog spells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Mark them critical now, and write down since when they are gone.
    pub mark: BTreeMap<String, SystemTime>,
    /// Critical already: only write down since when.
    pub date: BTreeMap<String, SystemTime>,
    /// Remove them from the catalog.
    pub remove: Vec<String>,
    /// Gone keys of nodes that are back, or exist no more, as [`spelled`].
    pub forget: Vec<String>,
    /// Nothing is marked or removed.
    pub brake: Option<Brake>,
    /// When to think again, should nothing happen before.
    pub again: Option<Instant>,
    /// Nodes that are present or about to be, the leader's own among them.
    pub present: usize,
    /// Absent nodes that are not marked yet.
    pub vanished: usize,
    /// Absent nodes that are marked, as [`spelled`].
    pub marked: BTreeSet<String>,
}

/// What a leader remembers from one look to the next.
#[derive(Debug, Clone)]
pub struct Judge {
    own: String,
    settings: Settings,
    /// When each absent node was first missed, as [`spelled`].
    missed: BTreeMap<String, Instant>,
    /// The nodes of the look before; `None`: there was none.
    known: Option<BTreeSet<String>>,
    /// The brake holds. Whoever was marked before the minute in which it began counts neither way.
    held: Option<BTreeSet<String>>,
    /// When a brake ended last.
    released: Option<Instant>,
}

/// An absent node.
struct Absent<'a> {
    member: &'a Member,
    name: String,
    /// First missed by this leader.
    missed: Instant,
    /// Marked, with a time.
    since: Option<SystemTime>,
    /// How long it has been away.
    age: Duration,
}

impl Absent<'_> {
    fn critical(&self) -> bool {
        self.member.check.as_ref().is_some_and(|check| check.status == Status::Critical)
    }

    fn marked(&self) -> bool {
        self.critical() && self.since.is_some()
    }

    /// It was marked, and longer ago than what vanished together with others.
    fn settled(&self) -> bool {
        self.marked() && self.age > WINDOW
    }
}

impl Judge {
    /// Of the leader on this node, who has just been elected.
    #[must_use]
    pub fn new(own: &str, settings: Settings) -> Self {
        Self { own: spelled(own), settings, missed: BTreeMap::new(), known: None, held: None, released: None }
    }

    /// What to do now.
    #[must_use]
    pub fn judge(&mut self, picture: &Picture<'_>, now: Now) -> Verdict {
        let mut verdict = Verdict::default();
        let absent = self.absent(picture, now, &mut verdict);
        let known = picture.members.iter().filter(|member| member.ours).count();
        verdict.marked = absent.iter().filter(|node| node.marked()).map(|node| node.name.clone()).collect();
        verdict.vanished = absent.len().saturating_sub(verdict.marked.len());
        verdict.present = known.saturating_sub(absent.len());
        verdict.forget = self.forget(picture);
        verdict.brake = self.brake(picture, &absent, known, now.at);
        if verdict.brake.is_none() {
            self.act(&absent, now, &mut verdict);
        }
        verdict
    }

    /// The absent nodes; remembers when each was first missed.
    fn absent<'a>(&mut self, picture: &Picture<'a>, now: Now, verdict: &mut Verdict) -> Vec<Absent<'a>> {
        let mut missed = BTreeMap::new();
        let mut absent = Vec::new();
        let before = self.known.take();
        let is_new = |name: &str| before.as_ref().is_some_and(|before| !before.contains(name));
        for member in picture.members.iter().filter(|member| member.ours) {
            let name = spelled(&member.name);
            if name == self.own || picture.present.contains(&name) {
                continue;
            }
            let grace = if is_new(&name) { 2 * self.settings.ttl } else { Duration::ZERO };
            let first = self.missed.get(&name).copied().unwrap_or(now.at + grace);
            missed.insert(name.clone(), first);
            if first > now.at {
                verdict.again = Some(verdict.again.map_or(first, |again| again.min(first)));
                continue;
            }
            let since = picture.gone.get(&name).copied().flatten();
            let own = now.at.saturating_duration_since(first);
            // What another leader wrote down may be longer ago than what this one has seen. Of a node that passes it is left
            // over from another absence.
            let critical = member.check.as_ref().is_some_and(|check| check.status == Status::Critical);
            let told = since.filter(|_| critical).and_then(|since| now.wall.duration_since(since).ok());
            let age = own.max(told.unwrap_or_default());
            absent.push(Absent { member, name, missed: first, since, age });
        }
        self.missed = missed;
        self.known = Some(picture.members.iter().filter(|member| member.ours).map(|it| spelled(&it.name)).collect());
        absent
    }

    fn brake(&mut self, picture: &Picture<'_>, absent: &[Absent<'_>], known: usize, now: Instant) -> Option<Brake> {
        let more_than_half = |part: usize, of: usize| 2 * part > of;
        if let Some(before) = &self.held {
            let counts = |name: &str| !before.contains(name) || picture.present.contains(name);
            let of = picture.members.iter().filter(|member| member.ours && counts(&spelled(&member.name))).count();
            let absent = absent.iter().filter(|node| counts(&node.name)).count();
            if more_than_half(absent, of) {
                return Some(Brake { absent, of });
            }
            self.held = None;
            self.released = Some(now);
        }
        let settled: BTreeSet<String> =
            absent.iter().filter(|node| node.settled()).map(|node| node.name.clone()).collect();
        let vanished = absent.iter().filter(|node| node.age <= WINDOW).count();
        let of = known.saturating_sub(settled.len());
        if !more_than_half(vanished, of) {
            return None;
        }
        let absent = absent.len().saturating_sub(settled.len());
        self.held = Some(settled);
        Some(Brake { absent, of })
    }

    /// Gone keys that mean nothing any more. One of a node that is present goes only when its check is not critical: until
    /// then it is not back.
    fn forget(&self, picture: &Picture<'_>) -> Vec<String> {
        let stays = |name: &str| {
            picture.members.iter().filter(|member| spelled(&member.name) == name).any(|member| {
                let critical = member.check.as_ref().is_none_or(|check| check.status == Status::Critical);
                let here = name == self.own || picture.present.contains(name);
                !here || critical
            })
        };
        picture.gone.keys().filter(|name| !stays(name)).cloned().collect()
    }

    fn act(&self, absent: &[Absent<'_>], now: Now, verdict: &mut Verdict) {
        let mut think = |at: Instant, due: &mut bool| {
            *due = at <= now.at;
            if !*due {
                verdict.again = Some(verdict.again.map_or(at, |again| again.min(at)));
            }
        };
        // Several may be the beginning of many; but who follows all the time does not keep the first one for ever.
        let last = absent.iter().filter(|node| !node.critical()).map(|node| node.missed).max().unwrap_or(now.at);
        for node in absent {
            let name = &node.member.name;
            let missed_at = now.wall.checked_sub(now.at.saturating_duration_since(node.missed)).unwrap_or(now.wall);
            let mut due = false;
            if node.marked() {
                let (Some(since), false) = (node.since, self.settings.reap.is_zero()) else { continue };
                let told = now.wall.duration_since(since).unwrap_or_default();
                let seen = node.missed + self.settings.reap.min(REAP_SEEN);
                let Some(end) = now.at.checked_add(self.settings.reap.saturating_sub(told)) else { continue };
                think(end.max(seen), &mut due);
                if due {
                    verdict.remove.push(name.clone());
                }
            } else if node.critical() {
                think(node.missed + 2 * self.settings.ttl, &mut due);
                if due {
                    verdict.date.insert(name.clone(), missed_at);
                }
            } else {
                let seen = (last + SPREAD).min(node.missed + SPREAD + self.settings.ttl / 3);
                think(self.released.map_or(seen, |released| seen.max(released + 2 * self.settings.ttl)), &mut due);
                if due {
                    verdict.mark.insert(name.clone(), missed_at);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
