//! `docker exec remora /remora doctor` runs beside the agent and means its settings. The variables of a container are there
//! for every process in it; the flags that the agent was started with are only in the agent's own command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use super::errors::{Findings, shown_address};
use super::{Command, flags};

/// Names of the small process 1 of `docker run --init`, which keeps what it starts behind `--`.
const INITS: [&str; 2] = ["docker-init", "tini"];

/// What a command takes over from process 1 (`cmdline`: its `/proc/1/cmdline`): the flags that set something and the
/// registry URI, when process 1 is an agent and the command has none of its own. Empty when there is nothing to take over.
///
/// All or nothing: with one flag of its own, a command says itself how it wants things.
#[must_use]
pub fn inherited(own: &[OsString], cmdline: &[u8]) -> Vec<OsString> {
    let own = flags::parse(own.iter().cloned(), &mut Findings::default());
    // The others either ask nothing of Docker and Consul, or are the agent themselves.
    let asks = matches!(
        own.command,
        Command::CheckConfig
            | Command::Explain { .. }
            | Command::Sync { .. }
            | Command::Doctor
            | Command::Heal { .. }
            | Command::Release { .. }
            | Command::Pause { .. }
            | Command::Resume { .. }
    );
    if !asks || !own.settings.is_empty() {
        return Vec::new();
    }
    let Some(agents) = arguments_of_agent(cmdline) else { return Vec::new() };
    let mut findings = Findings::default();
    let agents = flags::parse(agents, &mut findings);
    let runs = agents.command == Command::Run && findings.finish().is_ok();
    if runs { agents.settings.into_iter().map(OsString::from).collect() } else { Vec::new() }
}

/// Arguments as a message may show them: no credentials, no control characters.
#[must_use]
pub fn told(arguments: &[OsString]) -> String {
    let words: Vec<String> = arguments.iter().map(|argument| shown_address(&argument.to_string_lossy())).collect();
    words.join(" ")
}

/// The arguments of process 1, if that is a Remora.
fn arguments_of_agent(cmdline: &[u8]) -> Option<Vec<OsString>> {
    // Each argument ends with a zero byte, the last one too.
    let words = cmdline.strip_suffix(b"\0").unwrap_or(cmdline).split(|byte| *byte == 0);
    let mut words = words.map(|word| OsString::from_vec(word.to_vec()));
    let is = |program: &OsString, names: &[&str]| {
        Path::new(program).file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(&name))
    };
    let mut program = words.next()?;
    if is(&program, &INITS) {
        words.find(|word| word == "--")?;
        program = words.next()?;
    }
    is(&program, &["remora"]).then(|| words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    /// What `own` takes over from a process 1 with this command line.
    fn taken(own: &[&str], first: &[&str]) -> Vec<OsString> {
        let mut cmdline = first.join("\0").into_bytes();
        cmdline.push(0);
        inherited(&words(own), &cmdline)
    }

    const AGENT: [&str; 6] = ["/remora", "-internal", "-cleanup", "-resync", "30", "consul://c:8500"];

    #[test]
    fn a_command_takes_over_what_the_agent_was_started_with() {
        let expected = words(&["-internal", "-resync", "30", "consul://c:8500"]);
        for own in [
            &["sync", "--once"][..],
            &["explain", "web", "--json"],
            &["doctor"],
            &["check-config"],
            &["heal", "web"],
            &["pause"],
        ] {
            assert_eq!(taken(own, &AGENT), expected, "{own:?}");
        }
        assert_eq!(
            taken(&["doctor"], &["/usr/local/bin/remora", "run", "--", "consul://c:1"]),
            words(&["consul://c:1"])
        );
        assert_eq!(
            taken(&["doctor"], &["/remora", "-tags", "a b", "-ip=192.0.2.1"]),
            words(&["-tags", "a b", "-ip=192.0.2.1"])
        );
    }

    #[test]
    fn the_init_of_docker_may_stand_in_front() {
        for init in ["/sbin/docker-init", "/usr/bin/tini"] {
            assert_eq!(taken(&["doctor"], &[init, "--", "/remora", "-internal"]), words(&["-internal"]));
        }
        assert_eq!(taken(&["doctor"], &["/sbin/docker-init", "/remora", "-internal"]), words(&[]));
    }

    #[test]
    fn a_command_with_a_setting_of_its_own_takes_over_nothing() {
        for own in
            [&["doctor", "-internal=false"][..], &["sync", "consul://other"], &["-ip", "192.0.2.9", "explain", "web"]]
        {
            assert_eq!(taken(own, &AGENT), words(&[]), "{own:?}");
        }
        // These set nothing, and the word behind -tags is a value whatever it looks like.
        assert_eq!(taken(&["sync", "-cleanup"], &AGENT).len(), 4);
        assert_eq!(taken(&["doctor", "-ttl", "30"], &AGENT).len(), 4);
    }

    #[test]
    fn nothing_comes_from_a_process_that_is_no_agent() {
        for first in [
            &["/sbin/init", "-internal"][..],
            &["/bin/sh", "-c", "/remora -internal"],
            &["/registrator", "-internal", "consul://c:8500"],
            // This very command, started by `docker run`.
            &["/remora", "doctor", "-internal"],
            &["/remora", "-nonsense", "-internal"],
            &["/remora", "--help", "-internal"],
            &["/remora"],
            &[""],
            &[],
        ] {
            assert_eq!(taken(&["doctor"], first), words(&[]), "{first:?}");
        }
        assert_eq!(inherited(&words(&["doctor"]), b""), words(&[]));
        assert_eq!(inherited(&words(&["doctor"]), b"/remora\0-tags\0\xff\0"), words(&[]));
    }

    #[test]
    fn the_agent_and_its_health_check_take_over_nothing() {
        for own in [&[][..], &["run"], &["healthcheck"], &["help"], &["doctor", "--help"], &["nonsense"]] {
            assert_eq!(taken(own, &AGENT), words(&[]), "{own:?}");
        }
    }

    #[test]
    fn what_is_told_shows_no_secret_and_no_control_characters() {
        let told = told(&words(&["-tags", "a\u{1b}[31m", "consul://user:hunter2@c:8500"]));
        assert_eq!(told, "-tags a\\u{1b}[31m consul://(secret)@c:8500");
    }
}
