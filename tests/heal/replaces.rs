//! What fails is replaced, in both orders, and taken back if the new one is no better.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::docker::{Container, Engine};
use crate::support::eventually;
use crate::support::scene::{Plan, Scene};

/// Everything as fast as it goes.
fn quick(test: &'static str) -> Plan {
    Scene::plan(test).env("REMORA_HEAL", "on").env("REMORA_HEAL_HOLDOFF", "1s").env("REMORA_HEAL_SETTLE", "1s")
}

/// Labels that set all thresholds to nothing.
const AT_ONCE: [(&str, &str); 4] = [
    ("remora.heal.grace", "0s"),
    ("remora.heal.unhealthy-for", "0s"),
    ("remora.heal.min-healthy", "0s"),
    ("remora.heal.drain", "0s"),
];

/// The container that has this name now, once it is another one than `before`.
async fn replaced(engine: &Engine, before: &Container, within: Duration) -> Value {
    eventually(&format!("{} replaced", before.name), within, async || {
        let now = engine.inspect_name(&before.name).await.ok_or("nobody has its name")?;
        if now["Id"] == before.id.as_str() {
            return Err(format!("it is still the same: {}", now["State"]["Status"]));
        }
        match now["State"]["Running"].as_bool() {
            Some(true) => Ok(now),
            _ => Err("the new one does not run".to_owned()),
        }
    })
    .await
}

/// Only one container with this name or one made of it is left.
async fn alone(engine: &Engine, name: &str) {
    eventually("nothing left over", Duration::from_secs(15), async || {
        let names: Vec<String> = engine.names(true).await.into_iter().filter(|it| it.starts_with(name)).collect();
        if names == [name] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_unhealthy_container_is_replaced_and_keeps_name_policy_and_labels() {
    let mut scene = quick("unhealthy").start().await;
    let mut spec = scene.engine.container("web").publish(80).health_check(Duration::from_secs(1));
    for (key, value) in AT_ONCE {
        spec = spec.label(key, value);
    }
    let web = spec.restart_policy("unless-stopped").label("team", "shop").run().await;
    scene.catalog.becomes(&scene.id(&web, 80), "passing", Duration::from_secs(10)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.engine.exec(&web, &["/bin/busybox", "touch", "/sick"]).await;
    let begun = Instant::now();
    let new = replaced(&scene.engine, &web, Duration::from_secs(20)).await;
    println!("replaced {:?} after it was made ill", begun.elapsed());
    alone(&scene.engine, &web.name).await;
    let new = scene.engine.inspect_name(new["Name"].as_str().unwrap().trim_start_matches('/')).await.unwrap();
    assert_eq!(new["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(new["Config"]["Labels"]["team"], "shop");
    assert_eq!(new["Config"]["Labels"]["remora.heal.generation"], "1");
    scene.settled(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_crash_without_restart_policy_is_replaced_with_the_same_fixed_port() {
    let mut scene = quick("crash").start().await;
    let port = crate::support::free_port();
    let mut spec = scene.engine.container("web").publish_as("80/tcp", "0.0.0.0", port);
    for (key, value) in AT_ONCE {
        spec = spec.label(key, value);
    }
    let web = spec
        .command(&["/bin/busybox", "sh", "-c", "trap 'exit 1' USR1; while :; do /bin/busybox sleep 0.05; done"])
        .run()
        .await;
    scene.catalog.becomes(&scene.id(&web, 80), "passing", Duration::from_secs(10)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.engine.kill(&web, "USR1").await;
    let begun = Instant::now();
    let new = replaced(&scene.engine, &web, Duration::from_secs(20)).await;
    println!("replaced {:?} after the crash", begun.elapsed());
    assert_eq!(new["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], port.to_string());
    alone(&scene.engine, &web.name).await;
    scene.settled(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_another_agent_on_this_engine_is_for_is_left_to_it_even_half_way_through_a_replacement() {
    let mut scene = quick("others").not_started().start().await;
    // Not included by the agent's REMORA_INCLUDE.
    let others = Engine::connect(&crate::support::run_id("theirs")).await;
    let ill = |name: &str| {
        let mut spec = others.container(name).publish(80).health_check(Duration::from_secs(1));
        for (key, value) in AT_ONCE {
            spec = spec.label(key, value);
        }
        spec
    };
    // One that has been replaced before, and one that is being replaced right now.
    let replaced = ill("replaced").label("remora.heal.op", "0a1b2c3d").label("remora.heal.generation", "1").run().await;
    let old = ill("old").run().await;
    let new = ill("old.new-0a1b2c3e")
        .label("remora.heal.op", "0a1b2c3e")
        .label("remora.heal.name", &old.name)
        .label("remora.heal.replaces", &old.id)
        .label("remora.heal.op-order", "start-first")
        .label("remora.heal.cause", "unhealthy")
        .label("remora.heal.by", "another-agent")
        .create()
        .await;
    for container in [&replaced, &old] {
        others.exec(container, &["/bin/busybox", "touch", "/sick"]).await;
    }
    let before = others.names(true).await;
    let own = scene.engine.container("own").publish(80).run().await;
    scene.remora.spawn();
    scene.remora.ready().await;
    scene.catalog.becomes(&scene.id(&own, 80), "passing", Duration::from_secs(10)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(others.names(true).await, before);
    for container in [&replaced, &old, &new] {
        let now = others.inspect_name(&container.name).await.unwrap();
        assert_eq!(now["Id"], container.id.as_str(), "{}", container.name);
    }
}

#[tokio::test]
async fn a_crash_is_healed_although_the_agent_dies_before_it_comes_to_it() {
    let mut scene = quick("deaths").env("REMORA_HEAL_SETTLE", "3s").start().await;
    let mut spec = scene.engine.container("web").publish(80);
    for (key, value) in AT_ONCE {
        spec = spec.label(key, value);
    }
    let web = spec.command(&["/bin/sh", "-c", "trap 'exit 1' USR1; /bin/busybox sleep 100000 & wait"]).run().await;
    scene.catalog.becomes(&scene.id(&web, 80), "passing", Duration::from_secs(10)).await;
    // Its shell has to come to the trap.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.engine.kill(&web, "USR1").await;
    scene.catalog.loses(&scene.id(&web, 80), Duration::from_secs(5)).await;
    scene.remora.kill().await;
    scene.remora.spawn();
    replaced(&scene.engine, &web, Duration::from_secs(20)).await;
    alone(&scene.engine, &web.name).await;
    scene.right(Duration::from_secs(10)).await;
}
