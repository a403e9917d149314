//! Every label with which a container says how it is to be healed, with its default, its values and its meaning: the reading,
//! its messages and the documentation are all made from it.

/// What every label of healing but the first begins with.
pub const PREFIX: &str = "remora.heal.";

/// A label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// In full.
    pub name: &'static str,
    /// What counts when it is not set.
    pub default: &'static str,
    /// What may stand there; messages say `expected …`.
    pub values: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn label(name: &'static str, default: &'static str, values: &'static str, meaning: &'static str) -> Label {
    Label { name, default, values, meaning }
}

/// Whether it is healed.
pub const HEAL: &str = "remora.heal";
/// What is a reason.
pub const TRIGGERS: &str = "remora.heal.triggers";
/// What is done.
pub const STRATEGY: &str = "remora.heal.strategy";
/// In which order.
pub const ORDER: &str = "remora.heal.order";
/// After each start.
pub const GRACE: &str = "remora.heal.grace";
/// How long unhealthy.
pub const UNHEALTHY_FOR: &str = "remora.heal.unhealthy-for";
/// How long critical.
pub const CRITICAL_FOR: &str = "remora.heal.critical-for";
/// Before SIGKILL.
pub const STOP_TIMEOUT: &str = "remora.heal.stop-timeout";
/// Between deregistration and stop.
pub const DRAIN: &str = "remora.heal.drain";
/// How long the new one may take.
pub const VERIFY_TIMEOUT: &str = "remora.heal.verify-timeout";
/// How long the new one must be healthy.
pub const MIN_HEALTHY: &str = "remora.heal.min-healthy";
/// How long `starting` may last.
pub const START_DEADLINE: &str = "remora.heal.start-deadline";
/// Before quarantine.
pub const MAX_ATTEMPTS: &str = "remora.heal.max-attempts";
/// In which attempts are counted.
pub const WINDOW: &str = "remora.heal.window";
/// Between attempts.
pub const BACKOFF: &str = "remora.heal.backoff";
/// When the new one is no better.
pub const ON_FAILURE: &str = "remora.heal.on-failure";
/// How many failed ones stay.
pub const KEEP_FAILED: &str = "remora.heal.keep-failed";
/// What `docker kill` means.
pub const ON_KILL: &str = "remora.heal.on-kill";
/// What exit code 0 means.
pub const ON_EXIT_ZERO: &str = "remora.heal.on-exit-zero";
/// What an end that nobody heard means.
pub const ON_UNKNOWN: &str = "remora.heal.on-unknown";
/// What becomes of anonymous volumes.
pub const VOLUMES: &str = "remora.heal.volumes";
/// Whether random host ports stay.
pub const PIN_PORTS: &str = "remora.heal.pin-ports";
/// Whether two may run side by side on the same volumes.
pub const SHAREABLE: &str = "remora.heal.shareable";
/// How many instances must stay.
pub const MIN_AVAILABLE: &str = "remora.heal.min-available";
/// The address of the hardware that was asked for.
pub const MAC: &str = "remora.heal.mac";
/// Run inside before the stop.
pub const PRE_STOP: &str = "remora.heal.pre-stop";

/// The label of docker-autoheal that means [`HEAL`].
pub const AUTOHEAL: &str = "autoheal";
/// The label of docker-autoheal that means [`STOP_TIMEOUT`], in seconds.
pub const AUTOHEAL_STOP_TIMEOUT: &str = "autoheal.stop.timeout";

/// All of them, in the order of the documentation.
pub const LABELS: &[Label] = &[
    label(
        HEAL,
        "`REMORA_HEAL_DEFAULT`",
        "on, observe or off (also true, false, yes, no)",
        "Whether the container is healed. `observe`: what would be done is told, and not done.",
    ),
    label(
        TRIGGERS,
        "unhealthy,stuck-starting,died,crash-loop,start-failed",
        "a list of unhealthy, stuck-starting, died, crash-loop, start-failed and critical",
        "What is a reason to act. `critical`: a check of its own in Consul is critical.",
    ),
    label(
        STRATEGY,
        "replace",
        "replace, restart, escalate, notify or stop",
        "What is done. `escalate`: restarted once, then replaced. `notify`: only told. `stop`: stopped, and left so.",
    ),
    label(
        ORDER,
        "auto",
        "auto, start-first or stop-first",
        "Whether the replacement starts before the old one is stopped. `auto`: where the two can run side by side.",
    ),
    label(
        GRACE,
        "30s, or start period + retries × interval of its HEALTHCHECK, if that is longer",
        "a duration up to 24h, such as 30s",
        "After each start, nothing but its end is a reason to act for so long.",
    ),
    label(
        UNHEALTHY_FOR,
        "15s",
        "a duration up to 24h, such as 15s",
        "It must have been unhealthy for so long, on top of Docker's own retries.",
    ),
    label(
        CRITICAL_FOR,
        "60s",
        "a duration up to 24h, such as 60s",
        "A check in Consul must have been critical for so long (trigger `critical`).",
    ),
    label(
        START_DEADLINE,
        "5m, or start period + retries × (interval + timeout) × 2, if that is longer",
        "a duration from 1s to 24h, such as 5m",
        "Its HEALTHCHECK must have come to a verdict within so long (trigger `stuck-starting`).",
    ),
    label(
        STOP_TIMEOUT,
        "the container's own",
        "a duration up to 24h, such as 10s",
        "Between its stop signal and SIGKILL. `autoheal.stop.timeout` (in seconds) counts, too.",
    ),
    label(
        DRAIN,
        "5s where the replacement starts first, else 0",
        "a duration up to 1h, such as 5s",
        "Between its deregistration and its stop, where the replacement starts first.",
    ),
    label(
        PRE_STOP,
        "",
        "a command of at most 4096 bytes",
        "Run inside the container before it is stopped; without a shell, blanks separate the words.",
    ),
    label(
        VERIFY_TIMEOUT,
        "60s, or start period + 2 × retries × interval, if that is longer, at most 10m",
        "a duration from 1s to 24h, such as 60s",
        "The replacement must be healthy within so long.",
    ),
    label(
        MIN_HEALTHY,
        "10s",
        "a duration up to 24h, such as 10s",
        "And stay so for so long, or run for so long if it has no HEALTHCHECK.",
    ),
    label(
        ON_FAILURE,
        "rollback",
        "rollback, keep-new or stop",
        "When the replacement is no better: the old one comes back; the new one stays, once it has the place; or the new one is stopped, \
         and the old one stays as it is.",
    ),
    label(
        KEEP_FAILED,
        "1",
        "0 or 1",
        "Whether the last replacement that failed is kept, stopped, to be looked at. Never one of Compose, which would count it.",
    ),
    label(
        MAX_ATTEMPTS,
        "5",
        "a whole number from 1 to 50",
        "After so many attempts within the window the container is left alone for an hour, then for longer.",
    ),
    label(WINDOW, "30m", "a duration from 1m to 24h, such as 30m", "In which attempts are counted."),
    label(
        BACKOFF,
        "10s..5m",
        "two durations from 1s to 24h, the shorter one first, such as 10s..5m",
        "Between two attempts; doubled each time, up to the second duration.",
    ),
    label(
        ON_KILL,
        "`REMORA_HEAL_ON_KILL`",
        "heal or respect",
        "Whether a container that ended by `docker kill` has failed, or was meant to end.",
    ),
    label(
        ON_EXIT_ZERO,
        "false",
        "true or false",
        "Whether a container that ended by itself with exit code 0 has failed.",
    ),
    label(
        ON_UNKNOWN,
        "notify",
        "notify or heal",
        "What is done about a container that ended while nobody listened, so that it may have been stopped on purpose.",
    ),
    label(
        VOLUMES,
        "adopt",
        "adopt, refuse or fresh",
        "What becomes of its anonymous volumes: the replacement gets them, there is no replacement, or it gets new ones.",
    ),
    label(
        PIN_PORTS,
        "false",
        "true or false",
        "`true`: host ports that Docker has chosen stay the same, where the old one stops first.",
    ),
    label(
        SHAREABLE,
        "false",
        "true or false",
        "`true`: two of it may use the same volumes at the same time, so that the replacement may start first.",
    ),
    label(
        MAC,
        "",
        "an address such as 02:42:ac:11:00:02",
        "The hardware address (`--mac-address`) that the container was created with, if it was: engines from API 1.52 on do not \
         tell it, so that a replacement would get another one.",
    ),
    label(
        MIN_AVAILABLE,
        "1",
        "a whole number from 0 to 1000",
        "So many passing instances of its service must be left without it, before it is taken out while it still serves.",
    ),
];

/// The label of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Label> {
    LABELS.iter().find(|label| label.name == name)
}

/// The table of `docs/healing.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| Label | Default | Values | Meaning |\n|---|---|---|---|\n".to_owned();
    for Label { name, default, values, meaning } in LABELS {
        let word = !default.is_empty() && !default.contains([' ', '`']);
        let default = if word { format!("`{default}`") } else { (*default).to_owned() };
        text = format!("{text}| `{name}` | {default} | {values} | {meaning} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::docker::spec::OPERATION_LABELS;

    #[test]
    fn every_label_is_there_once_and_is_none_of_an_operation() {
        let names: BTreeSet<_> = LABELS.iter().map(|label| label.name).collect();
        assert_eq!(names.len(), LABELS.len());
        for name in names {
            assert!(name == HEAL || name.starts_with(PREFIX), "{name}");
            assert!(!OPERATION_LABELS.contains(&name), "{name}");
        }
    }

    #[test]
    fn no_cell_breaks_the_table() {
        for Label { name, default, values, meaning } in LABELS {
            for cell in [name, default, values, meaning] {
                assert!(!cell.contains(['|', '\n']), "{name}");
            }
        }
        assert_eq!(markdown().lines().count(), LABELS.len() + 2);
    }

    /// `UPDATE_DOCS=1 cargo test --lib docs_healing_md` writes the table into the page.
    #[test]
    fn docs_healing_md_says_what_the_table_says() {
        const BEGIN: &str = "<!-- table: labels -->\n";
        const END: &str = "<!-- end: labels -->";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/healing.md");
        let written = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = written.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let expected = format!("{before}{BEGIN}{}{END}{after}", markdown());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written == expected,
            "docs/healing.md is behind the table; UPDATE_DOCS=1 cargo test --lib docs_healing_md mends it"
        );
    }
}
