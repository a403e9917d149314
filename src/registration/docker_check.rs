//! The check that says what Docker says. Its output is the same text for as long as nothing happens: a stamp or a counter in
//! it would be a write to Consul every few seconds.

use std::sync::Arc;
use std::time::Duration;

use super::values::{head, one_line, tail, unexpiring};
use crate::consul::{Check, CheckKind, Service, Status};
use crate::docker::names::logical;
use crate::docker::{COMPOSE_PROJECT, Container, Health, HealthStatus, Sight, State};

/// Longest output and longest notes, in bytes. Consul keeps 4,096 of an output; a card in its UI reads well up to a quarter.
pub(super) const LONGEST: usize = 1024;

/// The check of one service.
pub(super) fn check(sight: &Sight, service_id: &str, initial: Option<Status>, ttl: Option<Duration>) -> Check {
    let container = &sight.container;
    let (status, output) = say(sight, initial);
    Check {
        id: Service::docker_check_id(service_id),
        name: head(&one_line(&format!("Docker health of {}", logical(&container.name).0)), 255).into(),
        notes: notes(container).into(),
        // Consul has no check that is fed from outside and never expires. A hundred years is the same, and the agent's own
        // service tells when nobody feeds it.
        kind: ttl.map_or_else(unexpiring, |ttl| Arc::new(CheckKind::Ttl { ttl })),
        status,
        output: output.into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

fn notes(container: &Container) -> String {
    let mut notes = format!("What Docker says about the container (image {}", container.image);
    if let Some(project) = container.labels.get(COMPOSE_PROJECT) {
        notes.push_str(", Compose project ");
        notes.push_str(project);
    }
    notes.push_str("): healthy, or running without a HEALTHCHECK, is passing. Reported by Remora.");
    head(&one_line(&notes), LONGEST).to_owned()
}

/// What Docker says about a container that has ports to register.
pub(super) fn say(sight: &Sight, initial: Option<Status>) -> (Status, String) {
    /// What Consul itself begins with.
    const BEFORE_THE_FIRST_VERDICT: Status = Status::Critical;
    let (status, text) = match (&sight.container.state, &sight.container.health) {
        (State::Paused, _) => (Status::Critical, "paused".to_owned()),
        (State::Unknown(word), _) => (Status::Critical, format!("Docker says '{word}'")),
        (State::Running, Some(health)) if health.status == HealthStatus::Unhealthy => {
            (Status::Critical, with_probe("unhealthy", health))
        }
        (State::Running, _) if sight.settling => (
            Status::Critical,
            "started again after a run of less than ten seconds: waiting whether it stays up".to_owned(),
        ),
        (State::Running, None) => (Status::Passing, "running, no HEALTHCHECK".to_owned()),
        (State::Running, Some(health)) => match health.status {
            // Not the probe's output: it may say something else every time, and all is well.
            HealthStatus::Healthy => (Status::Passing, "healthy".to_owned()),
            // Before the first probe there is nothing to say, and a new check begins without an output anyway: a text here
            // would be a second write for every container with a HEALTHCHECK.
            HealthStatus::Starting if health.exit_code.is_none() => {
                (initial.unwrap_or(BEFORE_THE_FIRST_VERDICT), String::new())
            }
            HealthStatus::Starting => (initial.unwrap_or(BEFORE_THE_FIRST_VERDICT), with_probe("starting", health)),
            HealthStatus::Unhealthy => (Status::Critical, with_probe("unhealthy", health)),
            HealthStatus::Unknown => {
                (Status::Critical, "unknown: Docker gives a health status that this version does not know".to_owned())
            }
        },
        (_, _) => (Status::Critical, not_running(&sight.container)),
    };
    (status, head(&one_line(&text), LONGEST).to_owned())
}

/// `unhealthy: exit 1: connection refused`: the verdict, and the end of what the last failed probe said.
fn with_probe(verdict: &str, health: &Health) -> String {
    let mut text = match health.exit_code {
        None | Some(0) => return verdict.to_owned(),
        // Docker's own mark for a probe that ran into its time-out.
        Some(-1) => format!("{verdict}: the probe did not end in time"),
        Some(code) => format!("{verdict}: exit {code}"),
    };
    let output = one_line(&health.output);
    if !output.is_empty() {
        text.push_str(": ");
        let room = LONGEST.saturating_sub(text.len());
        text.push_str(tail(&output, room));
    }
    text
}

/// What Docker says about a container without a running process: `exited 137 (out of memory)`.
pub(super) fn not_running(container: &Container) -> String {
    let ended = exit(container);
    let text = match &container.state {
        State::Created => "created, never started".to_owned(),
        State::Running | State::Paused => "running".to_owned(),
        State::Restarting => format!("restarting after it {ended}"),
        State::Removing => "being removed".to_owned(),
        State::Exited => ended,
        State::Dead => format!("dead: its removal failed half-way after it {ended}"),
        State::Unknown(word) => format!("Docker says '{word}'"),
    };
    head(&one_line(&text), LONGEST).to_owned()
}

/// `exited 137 (out of memory)`.
fn exit(container: &Container) -> String {
    /// A shell's way, and Docker's, to say "ended by signal n" is 128 + n.
    const BY_SIGNAL: i64 = 128;
    let code = container.exit_code;
    let reason = match code {
        _ if container.oom_killed => Some("out of memory"),
        125 => Some("Docker could not start it"),
        126 => Some("its command cannot be run"),
        127 => Some("its command was not found"),
        _ => match code.saturating_sub(BY_SIGNAL) {
            1 => Some("SIGHUP"),
            2 => Some("SIGINT"),
            3 => Some("SIGQUIT"),
            4 => Some("SIGILL"),
            6 => Some("SIGABRT"),
            7 => Some("SIGBUS"),
            8 => Some("SIGFPE"),
            9 => Some("SIGKILL"),
            11 => Some("SIGSEGV"),
            13 => Some("SIGPIPE"),
            14 => Some("SIGALRM"),
            15 => Some("SIGTERM"),
            _ => None,
        },
    };
    reason.map_or_else(|| format!("exited {code}"), |reason| format!("exited {code} ({reason})"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{container, sight};
    use super::*;

    fn health(status: HealthStatus, exit_code: Option<i64>, output: &str) -> Health {
        Health { status, failing_streak: 3, exit_code, output: output.into() }
    }

    #[test]
    fn every_word_of_docker_has_a_status_and_a_text() {
        use HealthStatus::{Healthy, Starting, Unhealthy, Unknown};
        let probed = |status, exit_code, output| Some(health(status, exit_code, output));
        for (state, health, settling, expected) in [
            (State::Running, None, false, (Status::Passing, "running, no HEALTHCHECK")),
            (State::Running, probed(Healthy, Some(0), "now 12:00:01"), false, (Status::Passing, "healthy")),
            (State::Running, probed(Starting, None, ""), false, (Status::Critical, "")),
            (State::Running, probed(Starting, Some(7), "no"), false, (Status::Critical, "starting: exit 7: no")),
            (State::Running, probed(Unhealthy, Some(1), "a\nb"), false, (Status::Critical, "unhealthy: exit 1: a b")),
            (State::Running, probed(Unhealthy, Some(1), "a"), true, (Status::Critical, "unhealthy: exit 1: a")),
            (State::Paused, probed(Healthy, Some(0), ""), false, (Status::Critical, "paused")),
            (State::Unknown("odd\u{7}".into()), None, false, (Status::Critical, "Docker says 'odd '")),
        ] {
            let mut sight = sight(container("web").build());
            sight.settling = settling;
            Arc::make_mut(&mut sight.container).state = state;
            Arc::make_mut(&mut sight.container).health = health.map(Box::new);
            assert_eq!(say(&sight, None), (expected.0, expected.1.to_owned()));
        }
        let mut settling = sight(container("web").build());
        settling.settling = true;
        assert_eq!(say(&settling, Some(Status::Passing)).0, Status::Critical);
        Arc::make_mut(&mut settling.container).health = Some(Box::new(health(Unknown, None, "")));
        assert_eq!(say(&settling, Some(Status::Passing)).0, Status::Critical);
    }

    #[test]
    fn the_initial_status_is_for_starting_only() {
        let mut sight = sight(container("web").build());
        Arc::make_mut(&mut sight.container).health = Some(Box::new(health(HealthStatus::Starting, None, "")));
        assert_eq!(say(&sight, Some(Status::Warning)).0, Status::Warning);
        Arc::make_mut(&mut sight.container).health = Some(Box::new(health(HealthStatus::Unhealthy, None, "")));
        assert_eq!(say(&sight, Some(Status::Passing)).0, Status::Critical);
    }

    #[test]
    fn a_long_output_keeps_its_end() {
        let mut sight = sight(container("web").build());
        Arc::make_mut(&mut sight.container).health =
            Some(Box::new(health(HealthStatus::Unhealthy, Some(1), &format!("{}the error", "é".repeat(2000)))));
        let (_, output) = say(&sight, None);
        assert!(output.len() <= LONGEST && output.ends_with("the error") && output.starts_with("unhealthy: exit 1: "));
    }

    #[test]
    fn an_end_says_how() {
        let mut container = container("web").build();
        container.state = State::Exited;
        for (code, oom, expected) in [
            (137, true, "exited 137 (out of memory)"),
            (137, false, "exited 137 (SIGKILL)"),
            (143, false, "exited 143 (SIGTERM)"),
            (127, false, "exited 127 (its command was not found)"),
            (255, false, "exited 255"),
            (1, false, "exited 1"),
        ] {
            container.exit_code = code;
            container.oom_killed = oom;
            assert_eq!(not_running(&container), expected);
        }
        container.state = State::Restarting;
        assert_eq!(not_running(&container), "restarting after it exited 1");
    }
}
