//! What healing needs besides: of Docker the calls that change something; of Consul keys to agree with operators and other agents,
//! and sessions.

use super::{Report, advice};
use crate::config::{Config, HealMode, WithoutConsul};
use crate::consul::{Client, ConsulError, Right};
use crate::docker::{Denied, DockerEngine};
use crate::heal::cluster::Keys;

/// Asks whether Docker may be asked for all that healing does. Nothing is changed by that.
pub(super) async fn hands(config: &Config, engine: &DockerEngine, report: &mut Report) {
    if config.heal.mode == HealMode::Off {
        return;
    }
    match engine.denied().await {
        Ok(denied) => judge_hands(config, &denied, report),
        Err(error) => report.bad(&error.to_string(), advice::docker(&error)),
    }
}

fn judge_hands(config: &Config, denied: &[Denied], report: &mut Report) {
    if denied.is_empty() {
        return report.good("containers can be replaced (healing)");
    }
    // Who only looks needs none of it.
    let observes = config.heal.mode == HealMode::Observe;
    for Denied { call, only_for } in denied {
        let what = match (only_for, observes) {
            (_, true) => {
                report.info(&format!("{call} is refused: with REMORA_HEAL=observe it is not needed"));
                continue;
            }
            (Some(what), false) => format!("{call} is refused: needed for {what}"),
            (None, false) => format!("{call} is refused: containers are only observed, none is healed"),
        };
        report.bad(
            &what,
            "the proxy in front of the socket must allow it (docs/security.md has the list), or set REMORA_HEAL=off or observe",
        );
    }
}

/// Asks for the rights; `node`: this node's name in the registrations, `consul_node`: that of Consul's agent.
pub(super) async fn rights(config: &Config, client: &Client, node: &str, consul_node: &str, report: &mut Report) {
    if config.heal.mode == HealMode::Off {
        return;
    }
    let keys = Keys::new(&config.heal.prefix, node);
    let asked = [
        Right::new("key", &keys.pauses(), "write"),
        Right::new("key", &keys.asks(), "write"),
        Right::new("key", &keys.slots(), "write"),
        Right::new("key", &keys.states(), "write"),
        Right::new("key", &keys.events(), "write"),
        Right::new("session", consul_node, "write"),
    ];
    let answer = client.rights(&asked).await;
    judge(config, &answer, report);
}

fn judge(config: &Config, answer: &Result<Option<Vec<Right>>, ConsulError>, report: &mut Report) {
    let rights = match answer {
        // Without ACLs everything is allowed, which was told already.
        Ok(None) => return,
        Ok(Some(rights)) => rights,
        Err(error @ ConsulError::Forbidden { .. }) => return report.bad(&error.to_string(), advice::consul(error)),
        Err(error) => return report.info(&format!("the rights that healing needs cannot be asked for: {error}")),
    };
    report.title("healing");
    let local = config.heal.without_consul == WithoutConsul::Local;
    let (keys, sessions): (Vec<&Right>, Vec<&Right>) = rights.iter().partition(|right| right.resource == "key");
    let lacks = |rights: &[&Right]| rights.iter().any(|right| !right.allowed);
    let prefix = &config.heal.prefix;
    if lacks(&keys) {
        report.bad(
            &format!(
                "the token may not write keys under {prefix}/: pauses and requests of operators are not seen, failed attempts are \
                 forgotten at a restart, and events are only in the log"
            ),
            &format!("add to its policy: key_prefix \"{prefix}/\" {{ policy = \"write\" }} (or set REMORA_HEAL=off)"),
        );
    } else {
        report.good(&format!("the token may write keys under {prefix}/ (healing)"));
    }
    // Slots of the semaphore are keys that a session holds.
    if lacks(&sessions) {
        let what = if local {
            "this node heals without asking the others whether they do at the same time"
        } else {
            "nothing is healed, because REMORA_HEAL_WITHOUT_CONSUL=none"
        };
        for right in sessions {
            report.bad(
                &format!("the token has not {right}: {what}"),
                &format!("add to its policy: session {:?} {{ policy = \"write\" }}", right.segment),
            );
        }
    } else {
        report.good("the token may hold sessions (healing)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config() -> Config {
        config::load(std::iter::empty(), std::iter::empty()).unwrap().config
    }

    fn told(config: &Config, key: bool, session: bool) -> (usize, String) {
        let right =
            |resource: &str, segment: &str, allowed| Right { allowed, ..Right::new(resource, segment, "write") };
        let rights = vec![
            right("key", "remora/heal/pause", true),
            right("key", "remora/events/n1/", key),
            right("session", "c1", session),
        ];
        let mut report = Report::default();
        judge(config, &Ok(Some(rights)), &mut report);
        (report.problems, report.text)
    }

    #[test]
    fn what_healing_lacks_is_told_with_what_does_not_work_without() {
        let mut config = config();
        assert_eq!(told(&config, true, true).0, 0);
        let (problems, text) = told(&config, false, true);
        assert!(problems == 1 && text.contains("key_prefix \"remora/\" { policy = \"write\" }"), "{text}");
        assert!(text.contains("pauses and requests"), "{text}");
        let (problems, text) = told(&config, true, false);
        assert!(problems == 1 && text.contains("session \"c1\" { policy = \"write\" }"), "{text}");
        assert!(text.contains("this node heals without asking the others"), "{text}");
        config.heal.without_consul = WithoutConsul::None;
        assert!(told(&config, true, false).1.contains("nothing is healed"));
    }

    #[test]
    fn a_call_to_docker_that_is_refused_is_told_with_what_it_is_for() {
        let mut config = config();
        let denied = [
            Denied { call: "POST /containers/create", only_for: None },
            Denied { call: "GET /containers/{id}/changes", only_for: Some("remora.heal.volumes=refuse") },
        ];
        let told = |config: &Config, denied: &[Denied]| {
            let mut report = Report::default();
            judge_hands(config, denied, &mut report);
            (report.problems, report.text)
        };
        let (problems, text) = told(&config, &denied);
        assert!(problems == 2 && text.contains("POST /containers/create is refused: containers are only"), "{text}");
        assert!(text.contains("needed for remora.heal.volumes=refuse"), "{text}");
        assert_eq!(told(&config, &[]).0, 0);
        config.heal.mode = HealMode::Observe;
        assert_eq!(told(&config, &denied).0, 0);
    }

    #[test]
    fn what_cannot_be_asked_is_no_problem() {
        let config = config();
        let unknown = ConsulError::NotFound { call: "POST /v1/internal/acl/authorize", message: "x".to_owned() };
        for answer in [Ok(None), Err(unknown)] {
            let mut report = Report::default();
            judge(&config, &answer, &mut report);
            assert_eq!(report.problems, 0);
        }
    }
}
