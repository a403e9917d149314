//! What a token needs: in either mode it all works with exactly the policy that the documentation names, and each rule that is missing is
//! told with what it is for. The policies are read from the pages.

use std::time::Duration;

use crate::support::acl::{Acl, documented};
use crate::support::consul::{Consul, Options};
use crate::support::eventually;
use crate::support::scene::Scene;

const SOON: Duration = Duration::from_secs(5);

/// A token with these rules.
async fn token(consul: &Consul, name: &str, rules: &[String]) -> String {
    let acl = Acl::of(&consul.url());
    acl.policy(name, &rules.join("\n")).await;
    acl.token(name).await.1
}

/// Default deny, and a Remora that has not been started yet.
async fn scene(test: &'static str, mode: &str) -> Scene {
    let plan = Scene::plan(test).consul(Options { acl: true, ..Options::default() }).not_started();
    let plan = plan.env("REMORA_CONSUL_MODE", mode).env("REMORA_NODE_TTL", "10s");
    let plan = plan.env("REMORA_HEAL", "on").env("REMORA_HEAL_HOLDOFF", "1s");
    let scene = plan.start().await;
    Acl::of(&scene.consul.url()).let_everybody_look().await;
    scene
}

/// It publishes, heals, and has nothing to complain about.
async fn works(scene: &mut Scene) {
    scene.remora.spawn();
    scene.remora.ready().await;
    let web = scene.engine.container("web").publish(80).label("remora.heal.grace", "0s").run().await;
    scene.settled(SOON).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.engine.kill(&web, "KILL").await;
    eventually("replaced", Duration::from_secs(60), async || {
        let now = scene.engine.inspect_name(&web.name).await.ok_or("nobody has its name")?;
        if now["Id"] == web.id.as_str() || now["State"]["Running"] != true {
            return Err("not yet".to_owned());
        }
        scene.difference().await
    })
    .await;
    eventually("told", Duration::from_secs(60), async || {
        match scene.consul.raw("GET", "/v1/kv/remora/?keys", "").await.1 {
            keys if keys.contains("/events/") => Ok(()),
            keys => Err(keys),
        }
    })
    .await;
    let (code, told) = scene.remora.command(&["doctor"]).await;
    assert!(code == Some(0) && !told.contains("BAD"), "{told}");
    let denied: Vec<String> = scene.remora.log().into_iter().filter(|line| line.contains("policy =")).collect();
    assert_eq!(denied, [""; 0]);
}

/// Each rule is left out once: `remora doctor` asks for it.
async fn each_is_missed(scene: &mut Scene, rules: &[String]) {
    for (left_out, rule) in rules.iter().enumerate() {
        let rest: Vec<String> =
            rules.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, it)| it.clone()).collect();
        let secret = token(&scene.consul, &format!("without-{left_out}"), &rest).await;
        scene.remora.set("CONSUL_HTTP_TOKEN", &secret);
        let (code, told) = scene.remora.command(&["doctor"]).await;
        if rule.starts_with("agent") {
            // With an address that is set it is all the same.
            assert!(code == Some(0) && told.contains("agent:read is missing"), "without {rule}: {told}");
            continue;
        }
        // `node_prefix "" { policy = "read" }`: which right to what, for some name or for all.
        let resource = rule.split(['_', ' ']).next().unwrap();
        let right = if rule.contains("\"read\"") { "read" } else { "write" };
        let named = told.lines().any(|line| {
            let words = line
                .split_once(&format!("{resource}_prefix \""))
                .or_else(|| line.split_once(&format!("{resource} \"")));
            words.is_some_and(|(_, rest)| rest.contains(&format!("\" {{ policy = \"{right}\" }}")))
        });
        assert!(code == Some(1) && named, "without {rule}: {told}");
    }
}

#[tokio::test]
async fn without_an_agent_the_documented_policy_is_enough_and_none_of_it_is_too_much() {
    let mut scene = scene("rightscat", "catalog").await;
    let rules = documented("external.md", &scene.node);
    assert!(rules.len() >= 5, "{rules:?}");
    let secret = token(&scene.consul, "documented", &rules).await;
    scene.remora.set("CONSUL_HTTP_TOKEN", &secret);
    works(&mut scene).await;
    each_is_missed(&mut scene, &rules).await;
}

#[tokio::test]
async fn with_an_agent_the_documented_policy_is_enough_and_none_of_it_is_too_much() {
    let mut scene = scene("rightsagent", "agent").await;
    let rules = documented("install.md", Consul::NODE);
    assert!(rules.len() >= 5, "{rules:?}");
    let secret = token(&scene.consul, "documented", &rules).await;
    scene.remora.set("CONSUL_HTTP_TOKEN", &secret);
    works(&mut scene).await;
    each_is_missed(&mut scene, &rules).await;
}
