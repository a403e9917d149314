//! The health-watcher's place on this node, and its two halves: the watcher itself, and the teller of its news.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::config::{Config, Consul, HealMode};
use crate::consul::{ConsulSeen, KvStore};
use crate::docker::spec::ApiVersion;
use crate::docker::{ContainerId, Denied, DockerEngine, EngineInfo, Heard};
use crate::heal::cluster::Keys;
use crate::heal::hands_off::Never;
use crate::heal::status::Asked;
use crate::heal::tell::Telling;
use crate::heal::teller::{Hook, Teller};
use crate::heal::watcher::{Ends, Place, Watcher};
use crate::reconcile::{GivenUp, Healing};
use crate::registration::Settings;
use crate::telemetry::Metrics;

/// The watcher, the teller of its news, and what the worker hears of it.
pub(super) fn healer(
    config: &Config,
    place: Place,
    docker: Arc<DockerEngine>,
    store: KvStore,
    (heard, asked): (mpsc::Receiver<Heard>, Asked),
    seen: watch::Receiver<ConsulSeen>,
    metrics: &Arc<Metrics>,
) -> (Watcher<DockerEngine, KvStore>, Teller<KvStore>, watch::Receiver<GivenUp>) {
    let store = Arc::new(store);
    let keys = Keys::new(&place.heal.prefix, &place.node);
    let (telling, news) = Telling::new(place.node.clone(), Arc::clone(metrics));
    let hook = config.heal.webhook.as_ref().and_then(|webhook| match Hook::new(webhook, &config.consul.tls) {
        Ok(hook) => Some(hook),
        Err(error) => {
            tracing::warn!(event = "webhook_unusable", "{error}");
            None
        }
    });
    let teller = Teller::new(Arc::clone(&store), keys, news, hook, Arc::clone(metrics));
    let (given_up, heard_of) = watch::channel(GivenUp::default());
    (Watcher::new(place, Ends { docker, store, heard, seen, given_up, telling, asked }), teller, heard_of)
}

/// The watcher's place on this node.
pub(super) fn place(healing: &Healing, info: &EngineInfo, rules: &Settings) -> Place {
    let never = healing.never.clone();
    Place {
        node: rules.node.clone(),
        host: info.name.clone(),
        // An engine that does not say is older than any that is supported; then everything is done as the oldest one wants it.
        api: info.api_version.parse().unwrap_or(ApiVersion { major: 1, minor: 41 }),
        by: never.own.as_ref().map_or_else(|| rules.node.clone(), |id| id.as_str().to_owned()),
        never,
        heal: healing.settings.clone(),
        rules: rules.clone(),
    }
}

/// Makes healing what the way to Docker lets it be: where one of the calls is refused that every replacement needs, containers are
/// only observed. One that began would get stuck half-way. Returns those calls.
pub async fn as_allowed(config: &mut Config, docker: &DockerEngine) -> Vec<&'static str> {
    if config.heal.mode != HealMode::On {
        return Vec::new();
    }
    // Without an answer nothing is known: Docker has just gone away, and what is refused later is told then.
    let denied = docker.denied().await.unwrap_or_default();
    let denied: Vec<_> =
        denied.iter().filter(|denied| denied.only_for.is_none()).map(|Denied { call, .. }| *call).collect();
    if !denied.is_empty() {
        config.heal.mode = HealMode::Observe;
    }
    denied
}

/// Whom nobody touches on this node.
pub fn never(consul: &Consul, rules: &Settings) -> Never {
    // Not there, or not readable: then this is no container that Docker has made.
    let own = std::fs::read_to_string("/proc/self/mountinfo").ok().and_then(|mounts| own_container(&mounts));
    let address = &rules.publish.address;
    let host: BTreeSet<IpAddr> = address.v4.map(IpAddr::V4).into_iter().chain(address.v6.map(IpAddr::V6)).collect();
    Never { own, consul: consul.addresses().filter_map(Never::consul_at).collect(), host: host.into_iter().collect() }
}

/// The id of the container that this process runs in. Docker mounts three files of its own folder for the container into it; on the
/// host itself nothing is mounted there.
fn own_container(mountinfo: &str) -> Option<ContainerId> {
    const FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let folder = root.strip_suffix(at.strip_prefix("/etc")?)?;
        let (rest, id) = folder.rsplit_once('/')?;
        let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (FILES.contains(&at) && rest.ends_with("/containers") && is_id).then(|| ContainerId::new(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_the_files_that_docker_mounts_into_it() {
        let id = "0123456789abcdef".repeat(4);
        let inside = format!(
            "1 2 0:1 / / rw - overlay overlay rw\n3 1 8:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(own_container(&inside), Some(ContainerId::new(id.clone())));
        let host = format!("9 1 0:5 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw\n");
        assert_eq!(own_container(&host), None);
        assert_eq!(own_container("7 1 8:1 /etc/hostname /etc/hostname rw - ext4 x rw\n\nodd\n"), None);
    }
}
