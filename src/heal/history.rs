//! What happened to one container, and what that says about its end: did it fail, or did somebody want it so? Pure.
//!
//! Docker does not show afterwards whether a container was stopped by hand: inspect says the same of a crash with code 143 as
//! of a `docker stop`. Only the events tell, so they are kept, the last [`KEPT`] of each container. After a start of the agent
//! the engine's ring is replayed; what it does not hold any more is [`End::Unknown`], and nobody acts on that unasked.

use std::time::Duration;

use tokio::time::Instant;

use crate::docker::{Container, Event, EventKind, EventTime, HealthStatus, Signal, State};

/// Lifecycle events kept per container: a restart is five of them.
const KEPT: usize = 20;

/// A container that is sent a signal and dies so shortly before the event stream ends died with the daemon.
const DAEMON: Duration = Duration::from_secs(10);

/// Docker sends KILL after the stop timeout, and its `stop` event follows a moment later.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// What an event means to the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Start,
    Die,
    /// A signal; `None` if the engine does not say which.
    Kill(Option<u8>),
    Stop,
    Pause,
    Unpause,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    what: What,
    at: EventTime,
    heard: Instant,
}

/// How a container that does not run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `docker stop`, or a restart that has not come to its start yet: somebody wanted it.
    Stopped,
    /// A signal that ends it was sent through Docker, and no `stop` followed: `docker kill`.
    Killed,
    /// By itself: it exited, crashed, or was killed from outside Docker.
    Itself,
    /// It went down with the Docker daemon.
    WithDaemon,
    /// What happened was not heard.
    Unknown,
}

/// See the module's header.
#[derive(Debug, Clone, Default)]
pub struct History {
    marks: Vec<Mark>,
    /// Something may have happened that was not heard, since the last start that was.
    gap: bool,
    /// When the present state was first seen, and which it is.
    standing: Option<(Standing, Instant)>,
    /// When it was last heard or seen to start, or to be unpaused.
    started: Option<Instant>,
    /// `StartedAt` of the last look; its zero time is `Some(None)`.
    #[expect(clippy::option_option, reason = "not looked at yet; never started; started")]
    started_at: Option<Option<EventTime>>,
    /// Its restart count at the first look, and each other one since, for crash loops.
    first_count: u64,
    restarts: Vec<(Instant, u64)>,
    /// Out-of-memory events.
    ooms: Box<[Instant]>,
}

/// What a look at a container comes to, for the question how long it has been so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It runs, and nothing speaks against it.
    Well,
    /// It runs and its HEALTHCHECK has no verdict yet.
    Starting,
    /// It runs and its HEALTHCHECK fails.
    Unhealthy,
    /// Docker is going to start it again.
    Restarting,
    /// It does not run.
    Down,
    /// Paused, being removed, or in a state that this version does not know.
    Aside,
}

impl Standing {
    /// What this look shows. Docker says `unhealthy` of stopped and paused containers too: health counts only while it runs.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        match (&container.state, &container.health) {
            (State::Running, Some(health)) => match health.status {
                HealthStatus::Starting => Self::Starting,
                HealthStatus::Unhealthy => Self::Unhealthy,
                HealthStatus::Healthy | HealthStatus::Unknown => Self::Well,
            },
            (State::Running, None) => Self::Well,
            (State::Restarting, _) => Self::Restarting,
            (State::Created | State::Exited | State::Dead, _) => Self::Down,
            (State::Paused | State::Removing | State::Unknown(_), _) => Self::Aside,
        }
    }
}

impl History {
    /// An event of this container was heard. Doubles (a replay after a reconnect) change nothing.
    pub fn event(&mut self, event: &Event, now: Instant) {
        let what = match &event.kind {
            EventKind::Start => What::Start,
            EventKind::Die => What::Die,
            EventKind::Kill(signal) => What::Kill(*signal),
            EventKind::Other(word) => match word.as_str() {
                "stop" => What::Stop,
                "pause" => What::Pause,
                "unpause" => What::Unpause,
                "oom" => {
                    let mut ooms = std::mem::take(&mut self.ooms).into_vec();
                    let place = ooms.len();
                    keep(&mut ooms, place, now);
                    self.ooms = ooms.into();
                    return;
                }
                _ => return,
            },
            EventKind::Destroy => return,
        };
        if self.marks.iter().any(|mark| mark.what == what && mark.at == event.time) {
            return;
        }
        match what {
            What::Start => {
                self.started = Some(now);
                self.gap = false;
            }
            What::Unpause => self.started = Some(now),
            _ => {}
        }
        // Almost always the last one; a replay may come later than the live event.
        let place = self.marks.partition_point(|mark| mark.at <= event.time);
        keep(&mut self.marks, place, Mark { what, at: event.time, heard: now });
    }

    /// It was looked at.
    pub fn seen(&mut self, container: &Container, now: Instant) {
        if self.started_at.is_none() {
            self.first_count = container.restart_count;
        }
        let started_at = Some(container.started_at);
        if started_at != self.started_at {
            if self.started_at.is_some() && container.state == State::Running {
                self.started = self.started.filter(|_| self.last(What::Start).is_some()).or(Some(now));
            }
            self.started_at = started_at;
        }
        let standing = Standing::of(container);
        if self.standing.is_none_or(|(before, _)| before != standing) {
            self.standing = Some((standing, now));
        }
        if self.restarts.last().map_or(self.first_count, |(_, count)| *count) != container.restart_count {
            let place = self.restarts.len();
            keep(&mut self.restarts, place, (now, container.restart_count));
        }
    }

    /// Events may have been lost from now on: until its next start nothing is known about its end.
    pub fn missed(&mut self) {
        self.gap = true;
    }

    /// The stream of events ended. What died just before did so with the daemon; time begins anew for the rest.
    pub fn lost(&mut self, now: Instant) {
        self.gap = true;
        if let Some((_, since)) = &mut self.standing {
            *since = now;
        }
    }

    /// Since when it stands as it does.
    #[must_use]
    pub fn since(&self, standing: Standing) -> Option<Instant> {
        self.standing.filter(|(present, _)| *present == standing).map(|(_, since)| since)
    }

    /// When it was last started or unpaused, as far as that was heard.
    #[must_use]
    pub const fn started(&self) -> Option<Instant> {
        self.started
    }

    /// How often its restart policy started it again within `window`.
    #[must_use]
    pub fn restarts_within(&self, window: Duration, now: Instant) -> u64 {
        let Some((_, latest)) = self.restarts.last() else { return 0 };
        let before = self.restarts.iter().rev().find(|(at, _)| *at + window < now);
        latest.saturating_sub(before.map_or(self.first_count, |(_, count)| *count))
    }

    /// Out-of-memory events within `window`.
    #[must_use]
    pub fn ooms_within(&self, window: Duration, now: Instant) -> usize {
        self.ooms.iter().filter(|at| **at + window >= now).count()
    }

    /// A signal that ends it was sent and it has not ended yet, and when that will be over at the latest: a container that is
    /// being stopped may turn unhealthy, and is nobody's case.
    #[must_use]
    pub fn stopping_until(&self, container: &Container) -> Option<Instant> {
        let kill = self.run().rev().find_map(|mark| match mark.what {
            What::Die => Some(None),
            What::Kill(signal) if ends(signal, container.stop_signal) => Some(Some(mark.heard)),
            _ => None,
        })??;
        Some(kill + container.stop_timeout + STOP_SLACK)
    }

    /// How it came to its end. Only asked of a container that does not run.
    #[must_use]
    pub fn end(&self, container: &Container) -> End {
        let marks = || self.run();
        if marks().any(|mark| mark.what == What::Stop) {
            return End::Stopped;
        }
        let Some(died) = marks().rev().find(|mark| mark.what == What::Die) else { return End::Unknown };
        if self.gap && !Self::heard_of_this_end(died, container) {
            return End::Unknown;
        }
        let killed = marks()
            .take_while(|mark| mark.at <= died.at)
            .any(|mark| matches!(mark.what, What::Kill(signal) if ends(signal, container.stop_signal)));
        if killed { End::Killed } else { End::Itself }
    }

    /// [`History::end`], when the stream of events was lost at `lost`: what had just died may have died with the daemon. A daemon
    /// that goes down sends each of its containers a signal, and the event of that comes before the end (measured on 20.10; in moby's
    /// source up to 28): without one it was the container itself, whatever became of the stream afterwards.
    #[must_use]
    pub fn end_before(&self, container: &Container, lost: Option<Instant>) -> End {
        let end = self.end(container);
        // Engines tell `die` before `stop` (20.10) or after it (28.5): the stream may have ended between the two.
        let ended = self.run().rev().find(|mark| matches!(mark.what, What::Die | What::Stop)).map(|mark| mark.heard);
        match (ended, lost) {
            (Some(ended), Some(lost)) if end != End::Itself && ended <= lost && lost < ended + DAEMON => {
                End::WithDaemon
            }
            _ => end,
        }
    }

    /// When its end was heard.
    #[must_use]
    pub fn ended(&self) -> Option<Instant> {
        self.last(What::Die).or_else(|| self.last(What::Stop)).map(|mark| mark.heard)
    }

    /// The marks of its last run: from its last start that was heard.
    fn run(&self) -> impl DoubleEndedIterator<Item = &Mark> {
        let start = self.marks.iter().rposition(|mark| mark.what == What::Start).unwrap_or(0);
        self.marks.iter().skip(start)
    }

    fn last(&self, what: What) -> Option<&Mark> {
        self.marks.iter().rev().find(|mark| mark.what == what)
    }

    /// Whether the `die` that was heard is the end that a look shows, to the second: engines round one of the two.
    fn heard_of_this_end(died: &Mark, container: &Container) -> bool {
        const ROUNDING: i64 = 1_500_000_000;
        container.finished_at.is_some_and(|finished| (finished.0 - died.at.0).abs() < ROUNDING)
    }
}

/// Puts one more in its place, and drops the first of too many. Most containers never have more than one: no room is made for
/// more.
fn keep<T>(all: &mut Vec<T>, place: usize, one: T) {
    if all.is_empty() {
        all.reserve_exact(1);
    }
    all.insert(place, one);
    if all.len() > KEPT {
        all.remove(0);
    }
}

/// As Docker itself judges: KILL and the container's own stop signal end it by somebody's will. HUP and the like do not,
/// although the engine then forgets its restart policy (moby #11065): that is why such a container needs us.
fn ends(signal: Option<u8>, stop_signal: Signal) -> bool {
    signal.is_none_or(|signal| Signal(signal).ends(stop_signal))
}

#[cfg(test)]
mod tests {
    use super::super::policy::testing::container;
    use super::*;
    use crate::docker::ContainerId;

    /// A container that was told these things, a second apart, long ago.
    fn told(words: &[&str], now: Instant) -> History {
        let mut history = History::default();
        for (second, word) in (1..).zip(words) {
            let kind = match *word {
                "start" => EventKind::Start,
                "die" => EventKind::Die,
                "kill" => EventKind::Kill(Some(15)),
                other => EventKind::Other(other.to_owned()),
            };
            let time = EventTime(second * 1_000_000_000);
            history.event(&Event { container: ContainerId::new("ab"), kind, time, exit_code: None }, now);
        }
        history
    }

    #[test]
    fn restarts_are_counted_from_the_first_look_on() {
        let (mut history, begun) = (History::default(), Instant::now());
        let minute = Duration::from_secs(60);
        for (number, count) in (0..).zip([5, 5, 7, 8]) {
            let look = Container { restart_count: count, ..container("web", &[]) };
            history.seen(&look, begun + number * minute);
        }
        let now = begun + 3 * minute;
        let within = |window| history.restarts_within(window, now);
        assert_eq!([10 * minute, 2 * minute, minute / 2].map(within), [3, 3, 1], "what was before nobody has seen");
        assert_eq!(History::default().restarts_within(minute, now), 0);
    }

    #[test]
    fn in_either_order_of_stop_and_die_an_operator_and_a_daemon_that_ends_are_told_apart() {
        let (down, now) = (container("web", &[]), Instant::now());
        for words in [["start", "kill", "die", "stop"], ["start", "kill", "stop", "die"]] {
            let history = told(&words, now);
            assert_eq!(history.end(&down), End::Stopped, "{words:?}");
            assert_eq!(history.end_before(&down, None), End::Stopped, "{words:?}");
            for heard in [3, 4] {
                let history = told(&words[..heard], now);
                let lost = Some(now + Duration::from_secs(1));
                assert_eq!(
                    history.end_before(&down, lost),
                    End::WithDaemon,
                    "the stream ended after {:?}",
                    &words[..heard]
                );
                assert_ne!(history.end_before(&down, Some(now + DAEMON)), End::WithDaemon, "much later");
            }
        }
        // The end of an earlier run says nothing about this one.
        let again = told(&["start", "die", "start"], now);
        assert_eq!(again.end_before(&down, Some(now)), End::Unknown);
    }
}
