//! When the reconciling task does what.

use std::time::Duration;

/// A registration that somebody removed by hand is noticed after at most so long; with the time to write it again that
/// stays below the promised five seconds. Two small GETs on loopback, answered from the agent's memory; an answer that
/// is the same as before is not even parsed.
pub(super) const POLL: Duration = Duration::from_secs(3);

/// What is read takes longer the more there is: so much is added to the time between two polls for each registration over
/// [`POLLED`], so that they cost about the same. With a thousand it is four and a half seconds, with ten thousand a minute.
const POLL_OF_ONE: Duration = Duration::from_millis(6);

/// So many registrations are read every [`POLL`].
const POLLED: usize = 750;

/// The agent's own check has a TTL of [`OWN_TTL`]; it is fed three times in it.
pub(super) const OWN_BEAT: Duration = Duration::from_secs(10);

/// The TTL of the agent's own check: a dead agent is red after it.
pub const OWN_TTL: Duration = Duration::from_secs(30);

/// A picture of Consul that is older than this is not believed when it says that an id is free: somebody may have taken it
/// since. At a cold start the picture is new, and three hundred questions more would be three hundred too many.
pub(super) const STILL_FREE: Duration = Duration::from_millis(250);

/// Before it has something to say of itself the agent waits for its first synchronisation, but not longer than this: half
/// of its check's TTL, so that a restart within the TTL is not seen at all.
pub(super) const SILENT_AT_FIRST: Duration = Duration::from_secs(15);

/// A stream that is cut and opened again is nothing that anybody has to act on: Docker has to be away for so long before
/// the agent's own check says so.
pub(super) const BLIND: Duration = Duration::from_secs(10);

/// One blocking query lasts so long: below the minute after which middleboxes cut silent connections.
pub(super) const WATCH: Duration = Duration::from_secs(45);

/// While Consul refuses the token, so often is it asked again: as often as the token's file is looked at.
pub(super) const DENIED: Duration = Duration::from_secs(5);

/// The goodbye has to fit into the ten seconds that `docker stop` leaves.
pub(super) const FAREWELL: Duration = Duration::from_secs(7);

/// From one read of so many registrations to the next.
pub(super) fn poll(registrations: usize) -> Duration {
    POLL + POLL_OF_ONE * u32::try_from(registrations.saturating_sub(POLLED)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_as_often_as_what_there_is_to_read_allows() {
        for (registrations, seconds) in [(0, 3.0), (750, 3.0), (1_000, 4.5), (10_000, 58.5)] {
            assert_eq!(poll(registrations), Duration::from_secs_f64(seconds), "{registrations}");
        }
        // More than any node can have is no overflow.
        assert!(poll(usize::MAX) > poll(10_000));
    }
}
