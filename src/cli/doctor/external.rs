//! Which way to Consul was chosen, and what catalog mode needs besides.

use super::{Report, advice};
use crate::agent::external;
use crate::agent::way::{Mode, Way};
use crate::config::Config;
use crate::consul::{Client, ClusterClient, Members as _, Right};
use crate::docker::EngineInfo;
use crate::registration::Settings;

/// Tells the mode; in catalog mode looks at the node, asks for the rights to it, and returns its name.
pub(super) async fn look(
    config: &Config,
    client: &Client,
    info: &EngineInfo,
    settings: &Settings,
    way: &Way,
    access_control: bool,
    report: &mut Report,
) -> Option<String> {
    report.title("mode");
    report.good(&format!("{}: {}", way.mode.as_str(), way.why));
    if way.mode == Mode::Agent {
        return None;
    }
    let node = external::node(settings, &info.name);
    match ClusterClient::new(client.clone()).member(node.name()).await {
        Ok(None) => report.info(&format!("the catalog has no node {} yet, or the token may not see it", node.name())),
        Ok(Some(member)) if member.ours => report.good(&format!("the node {} in the catalog is Remora's", node.name())),
        Ok(Some(_)) => report.bad(
            &format!("the node {} in the catalog is somebody else's: nothing is written there", node.name()),
            "set REMORA_NODE to a name of its own, or REMORA_CONSUL_MODE=agent if that is this host's Consul agent",
        ),
        Err(error) => report.bad(&error.to_string(), advice::consul(&error)),
    }
    if access_control {
        rights(config, client, node.name(), report).await;
    }
    Some(node.name().to_owned())
}

async fn rights(config: &Config, client: &Client, node: &str, report: &mut Report) {
    let key = format!("{}/cluster/live/{}", config.heal.prefix, node);
    let asked =
        [Right::new("node", node, "write"), Right::new("session", node, "write"), Right::new("key", &key, "write")];
    let Ok(Some(rights)) = client.rights(&asked).await else { return };
    for right in rights {
        if right.allowed {
            report.good(&format!("the token has {right}"));
        } else {
            let rule = match right.resource.as_str() {
                "key" => format!("key_prefix \"{}/\"", config.heal.prefix),
                resource => format!("{resource} \"{node}\""),
            };
            let advice = format!("add to its policy: {rule} {{ policy = \"write\" }}");
            report.bad(&format!("the token has not {right}"), &advice);
        }
    }
}
