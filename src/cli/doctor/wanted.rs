//! The services that this node's containers want, and whether the token may register each of them: a policy may have one
//! rule per service, and Consul's agent accepts what its server then refuses.

use std::collections::{BTreeSet, HashMap};

use futures_util::StreamExt as _;

use super::Report;
use crate::consul::{Client, ConsulError, Right};
use crate::docker::{ContainerId, DockerEngine, Engine as _, Sight};
use crate::registration::{self, Peers, Settings, Verdict};

/// At most so many containers are looked at: beyond that a node has the same few services many times over.
const CONTAINERS: usize = 500;

/// At most so many names are asked for.
const NAMES: usize = 512;

/// Looks at the same time.
const LOOKS: usize = 8;

/// So many names are told; who lacks more of them lacks a rule for all.
const TOLD: usize = 10;

/// The names under which the live containers would be registered.
pub(super) async fn look(
    engine: &DockerEngine,
    settings: &Settings,
    live: &[ContainerId],
    report: &mut Report,
) -> BTreeSet<String> {
    report.title("services");
    let looks = live.iter().take(CONTAINERS).map(|id| engine.inspect(id.as_str()));
    let found: Vec<_> = futures_util::stream::iter(looks).buffer_unordered(LOOKS).collect().await;
    // Who is gone meanwhile is no news.
    let sights = found.into_iter().filter_map(Result::ok);
    let sights: Vec<_> =
        sights.map(|container| Sight { container: container.into(), draining: false, settling: false }).collect();
    let (names, services) = names(&sights, settings);
    report.good(&format!(
        "live containers: {}; services that they want: {services}; names of these: {}",
        sights.len(),
        names.len()
    ));
    if live.len() > CONTAINERS {
        report.info(&format!("only the first {CONTAINERS} of {} live containers were looked at", live.len()));
    }
    names
}

/// The names, and how many services have them.
fn names(sights: &[Sight], settings: &Settings) -> (BTreeSet<String>, usize) {
    let peers = Neighbours::new(sights);
    let mut services = 0;
    let mut names = BTreeSet::new();
    for sight in sights {
        if let Verdict::Services(planned) = registration::register(sight, &peers, settings).verdict {
            services += planned.len();
            names.extend(planned.into_iter().map(|planned| planned.service.name.to_string()));
        }
    }
    (names, services)
}

/// Asks for the right to each name.
pub(super) async fn rights(client: &Client, names: &BTreeSet<String>, report: &mut Report) {
    let asked: Vec<Right> = names.iter().take(NAMES).map(|name| Right::new("service", name, "write")).collect();
    let answer = client.rights(&asked).await;
    if names.len() > NAMES {
        report.info(&format!("only the rights for the first {NAMES} of these names were asked for"));
    }
    let all = judge(&answer, report);
    if let Ok(Some(true)) = client.services_filtered().await {
        if all {
            report.info("Consul leaves services out of its answers that the token may not read, but none of these");
        } else {
            report.bad(
                "Consul leaves services out of its answers that the token may not read",
                "add service_prefix \"\" { policy = \"read\" } to its policy",
            );
        }
    }
}

/// Tells which names the token may not register. Returns whether it is known that there are none.
fn judge(answer: &Result<Option<Vec<Right>>, ConsulError>, report: &mut Report) -> bool {
    let rights = match answer {
        Ok(Some(rights)) => rights,
        // Without access control all is allowed.
        Ok(None) => return true,
        // Not a documented API: its failure says nothing about the rights.
        Err(error) => {
            report.info(&format!("the rights of the token to these names cannot be asked for: {error}"));
            return false;
        }
    };
    let missing: Vec<&str> = rights.iter().filter(|right| !right.allowed).map(|right| right.segment.as_str()).collect();
    let Some(first) = missing.first() else {
        report.good("the token may register all of them");
        return true;
    };
    let more = match missing.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let told: Vec<&str> = missing.iter().take(TOLD).copied().collect();
    report.bad(
        &format!("the token may not register {} of them: {}{more}", missing.len(), told.join(", ")),
        &format!("add to its policy: service {first:?} {{ policy = \"write\" }}, for each of them"),
    );
    false
}

/// The containers that were looked at, by id and by name.
struct Neighbours(HashMap<String, Sight>);

impl Neighbours {
    fn new(sights: &[Sight]) -> Self {
        let keys = |sight: &Sight| [sight.container.id.as_str().to_owned(), sight.container.name.to_string()];
        Self(sights.iter().flat_map(|sight| keys(sight).map(|key| (key, sight.clone()))).collect())
    }
}

impl Peers for Neighbours {
    fn find(&self, id_or_name: &str) -> Option<Sight> {
        self.0.get(id_or_name).cloned()
    }

    /// Only the live ones were looked at, and not all of them: nothing is known of the others.
    fn is_gone(&self, _id_or_name: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostAddress, Publish};
    use crate::docker::{Lens, inspect};

    fn right(name: &str, allowed: bool) -> Right {
        Right { allowed, ..Right::new("service", name, "write") }
    }

    #[test]
    fn a_name_that_the_token_may_not_register_is_a_problem() {
        let mut report = Report::default();
        let answer = Ok(Some(vec![right("db", false), right("remora", true), right("we\nb", false)]));
        assert!(!judge(&answer, &mut report));
        assert_eq!(report.problems, 1);
        assert_eq!(
            report.text,
            "  BAD   the token may not register 2 of them: db, we b\n        -> add to its policy: service \"db\" { policy \
             = \"write\" }, for each of them\n"
        );
    }

    #[test]
    fn many_names_are_not_all_told() {
        let mut report = Report::default();
        assert!(!judge(&Ok(Some((0..300).map(|n| right(&format!("s{n:03}"), false)).collect())), &mut report));
        assert!(report.text.contains("300 of them: s000, s001") && report.text.contains("s009, and 290 more\n"));
    }

    #[test]
    fn what_is_allowed_or_cannot_be_known_is_no_problem() {
        let unknown = ConsulError::NotFound { call: "POST /v1/internal/acl/authorize", message: "x".to_owned() };
        for (answer, all) in [(Ok(None), true), (Ok(Some(vec![right("web", true)])), true), (Err(unknown), false)] {
            let mut report = Report::default();
            assert_eq!((judge(&answer, &mut report), report.problems), (all, 0), "{answer:?}");
        }
    }

    #[test]
    fn the_names_are_those_that_the_rules_give() {
        let document = serde_json::json!({
            "Id": "ab".repeat(32), "Name": "/web-1", "Image": "sha256:1",
            "State": { "Status": "running", "Running": true, "StartedAt": "2026-01-01T00:00:00Z" },
            "Config": { "Image": "repo/app:1", "Labels": { "SERVICE_80_NAME": "shop" } },
            "HostConfig": { "NetworkMode": "bridge" },
            "NetworkSettings": {
                "Ports": {
                    "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }],
                    "81/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8081" }]
                },
                "Networks": {}
            }
        });
        let container = inspect::read(document.to_string().as_bytes(), &Lens::default()).unwrap();
        let address = HostAddress { v4: Some([192, 0, 2, 1].into()), v6: None, name: None };
        let settings = Settings {
            node: "n".to_owned(),
            engine: "E".to_owned(),
            publish: Publish { address, ..Publish::default() },
            health_ttl: None,
        };
        let sights = [Sight { container: container.into(), draining: false, settling: false }];
        let (found, services) = names(&sights, &settings);
        assert_eq!(
            (found.into_iter().collect::<Vec<_>>(), services),
            (vec!["app-81".to_owned(), "shop".to_owned()], 2)
        );
    }
}
