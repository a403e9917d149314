//! Ports, addresses, health, and what becomes of them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::SOON;
use crate::support::docker::Container;
use crate::support::eventually;
use crate::support::scene::Scene;

/// The addresses that Consul has for a service besides its first one.
async fn tagged_addresses(scene: &Scene, id: &str) -> Value {
    scene.consul.get(&format!("/v1/agent/service/{id}")).await["TaggedAddresses"].clone()
}

#[tokio::test]
async fn ports_of_both_protocols_and_families_are_published_with_what_the_labels_say() {
    let plan = Scene::plan("ports").env("REMORA_ADDRESS", "198.51.100.7,2001:db8::7");
    let mut scene = plan.start().await;
    let spec =
        scene.engine.container("web").publish(80).publish_as("53/udp", "", 0).publish_as("443/tcp", "0.0.0.0", 0);
    let spec = spec.publish_as("9090/tcp", "127.0.0.1", 0).expose(8080);
    let spec = spec.label("SERVICE_80_NAME", "shop").env("SERVICE_80_TAGS", "http,blue");
    let web = spec
        .label("com.docker.compose.project", "store")
        .label("com.docker.compose.service", "front")
        .label("SERVICE_9090_IGNORE", "true")
        .run()
        .await;
    // What is published on the loopback alone is nobody else's: the judge knows nothing of that.
    let wanted = async || {
        let mut truth = scene.engine.truth(&scene.node).await;
        truth.remove(&scene.id(&web, 9090));
        crate::support::catalog::compare(&truth, &scene.catalog.of_node(&scene.node).await?)?;
        if truth.len() == 3 { Ok(()) } else { Err(format!("Docker has published {truth:?}")) }
    };
    eventually("the three ports that others reach", SOON, wanted).await;

    let shop = scene.catalog.instance(&scene.id(&web, 80)).await.unwrap();
    assert_eq!((shop.name.as_str(), shop.tags.as_slice()), ("shop", ["http".to_owned(), "blue".to_owned()].as_slice()));
    assert_eq!((shop.meta["project"].as_str(), shop.meta["compose-service"].as_str()), ("store", "front"));
    let name = scene.catalog.instance(&format!("{}:udp", scene.id(&web, 53))).await.unwrap();
    assert!(name.tags.contains(&"udp".to_owned()), "{:?}", name.tags);
    // Docker's word for both families, where it has bound the port in both.
    let bindings = scene.engine.inspect(&web).await["NetworkSettings"]["Ports"]["80/tcp"].clone();
    let port = |address: &str| {
        let binding = bindings.as_array().unwrap().iter().find(|it| it["HostIp"] == address);
        binding.map(|it| it["HostPort"].as_str().unwrap().parse::<u16>().unwrap())
    };
    let tagged = tagged_addresses(&scene, &shop.id).await;
    let shown = |family: &str| tagged[family]["Port"].as_u64().and_then(|port| u16::try_from(port).ok());
    assert_eq!((shown("lan_ipv4"), shown("lan_ipv6")), (port("0.0.0.0"), port("::")), "{bindings}: {tagged}");
    let only_v4 = tagged_addresses(&scene, &scene.id(&web, 443)).await;
    assert_eq!(only_v4["lan_ipv6"], Value::Null, "{only_v4}");
    scene.remora.assert_never_restarted();
}

#[tokio::test]
async fn addresses_inside_of_networks_are_published_in_both_families() {
    let mut scene = Scene::plan("inside").env("REMORA_INTERNAL", "true").start().await;
    // A range of its own for every run: two networks with the same one do not go together.
    let range = Ipv6Addr::from_bits((0xfd << 120) | ((fastrand::u128(..) >> 80) << 64));
    let settings = json!({"EnableIPv6": true, "IPAM": {"Config": [{"Subnet": format!("{range}/64")}]}});
    let both = scene.engine.network_with("both", settings).await;
    let plain = scene.engine.network("plain").await;
    let web = scene.engine.container("web").expose(80).network(&both).run().await;
    let endpoint = async |network: &str, field: &str| {
        let networks = scene.engine.inspect(&web).await["NetworkSettings"]["Networks"].clone();
        networks[network][field].as_str().unwrap_or_default().to_owned()
    };
    let id = scene.id(&web, 80);
    let shows = async |wanted: String| {
        assert!(!wanted.is_empty(), "Docker tells no address");
        eventually(&format!("registered at {wanted}"), SOON, async || {
            let shown = scene.catalog.of_node(&scene.node).await?.remove(&id).map(|it| it.address);
            if shown.as_deref() == Some(wanted.as_str()) { Ok(()) } else { Err(format!("it is {shown:?}")) }
        })
        .await;
    };
    shows(endpoint(&both, "IPAddress").await).await;
    let tagged = tagged_addresses(&scene, &id).await;
    let v6 = endpoint(&both, "GlobalIPv6Address").await;
    assert!(v6.starts_with("fd"), "Docker tells no IPv6 address: {v6:?}");
    assert_eq!(tagged["lan_ipv6"], json!({"Address": v6, "Port": 80}), "{tagged}");

    scene.engine.attach(&web, &plain, true).await;
    scene.engine.attach(&web, &both, false).await;
    shows(endpoint(&plain, "IPAddress").await).await;
    scene.remora.assert_never_restarted();
}

#[tokio::test]
async fn every_state_of_a_container_is_told_and_what_ends_is_gone() {
    let mut scene = Scene::start("states").await;
    let spec = |name: &str| scene.engine.container(name).publish(80);
    let (killed, stopped, crashed) = (spec("killed").run().await, spec("stopped").run().await, spec("crashed"));
    let crashed = crashed.command(&["/bin/sh", "-c", "/bin/busybox sleep 2; exit 3"]).run().await;
    let (removed, passing) = (spec("removed").run().await, spec("passing").auto_remove().run().await);
    let (paused, renamed) = (spec("paused").run().await, spec("renamed").run().await);
    scene.settled(SOON).await;

    scene.engine.kill(&killed, "KILL").await;
    scene.engine.stop(&stopped, 0).await;
    scene.engine.remove(&removed).await;
    scene.engine.kill(&passing, "KILL").await;
    scene.engine.pause(&paused, true).await;
    let renamed = scene.engine.rename(&renamed, "other").await;
    for gone in [&killed, &stopped, &removed, &passing, &crashed] {
        scene.catalog.loses(&scene.id(gone, 80), SOON).await;
    }
    scene.catalog.becomes(&scene.id(&paused, 80), "critical", SOON).await;
    scene.catalog.becomes(&scene.id(&renamed, 80), "passing", SOON).await;
    scene.settled(SOON).await;

    scene.engine.pause(&paused, false).await;
    scene.engine.start(&stopped).await;
    scene.engine.restart(&renamed).await;
    scene.settled(SOON).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap().len(), 3);
}

#[tokio::test]
async fn dockers_word_about_health_is_told_with_its_reason() {
    let mut scene = Scene::start("health").await;
    // A first look that takes a second: until then Docker says `starting`.
    let spec = scene.engine.container("web").publish(80).health_check(Duration::from_secs(1));
    let web = spec.run().await;
    let id = scene.id(&web, 80);
    scene.catalog.becomes(&id, "critical", SOON).await;
    let check = format!("{id}:docker");
    let starting = scene.catalog.instance(&id).await.unwrap();
    assert!(starting.notes[&check].contains("healthy"), "{:?}", starting.notes);
    scene.catalog.becomes(&id, "passing", SOON).await;
    scene.engine.exec(&web, &["/bin/busybox", "touch", "/sick"]).await;
    scene.catalog.becomes(&id, "critical", SOON).await;
    eventually("the probe's own words", SOON, async || {
        let output = scene.catalog.instance(&id).await.ok_or("gone")?.outputs[&check].clone();
        if output.contains("sick") { Ok(()) } else { Err(output) }
    })
    .await;
    scene.engine.exec(&web, &["/bin/busybox", "rm", "/sick"]).await;
    scene.catalog.becomes(&id, "passing", SOON).await;
    scene.settled(SOON).await;
}

#[tokio::test]
async fn thirty_at_once_come_change_and_go_with_nothing_lost_and_nothing_stale_and_a_restart_writes_nothing() {
    let mut scene = Scene::start("churn").await;
    let all = scene.engine.many("web", 30, 8).await;
    scene.settled(SOON * 2).await;
    // A third is killed, a third is restarted with other ports, a third is removed while new ones come.
    let (third, rest) = all.split_at(10);
    let (second, last) = rest.split_at(10);
    let restarted = stream::iter(second).for_each_concurrent(4, |it| scene.engine.restart(it));
    let removed = stream::iter(last).for_each_concurrent(4, |it| scene.engine.remove(it));
    let ((), (), (), new) =
        tokio::join!(scene.engine.kill_all(third, 4), restarted, removed, scene.engine.many("new", 10, 4));
    scene.settled(SOON * 2).await;
    let before = scene.catalog.of_node(&scene.node).await.unwrap();
    assert_eq!(before.len(), second.len() + new.len());

    scene.a_restart_writes_no_service(SOON).await;
}

#[tokio::test]
async fn without_a_consul_agent_the_catalog_says_the_same() {
    let mut scene = Scene::plan("catalog").env("REMORA_CONSUL_MODE", "catalog").start().await;
    let mut running: Vec<Container> = scene.engine.many("web", 4, 4).await;
    let ill = scene.engine.container("ill").publish(80).health_check(Duration::from_secs(1)).run().await;
    scene.settled(SOON).await;
    let node = scene.consul.get(&format!("/v1/catalog/node/{}", scene.node)).await;
    assert_eq!(node["Node"]["Meta"]["managed-by"], "remora");
    // One that still starts is critical, too.
    scene.catalog.becomes(&scene.id(&ill, 80), "passing", SOON).await;
    scene.engine.exec(&ill, &["/bin/busybox", "touch", "/sick"]).await;
    scene.engine.kill(&running.remove(0), "KILL").await;
    scene.catalog.becomes(&scene.id(&ill, 80), "critical", SOON).await;
    scene.settled(SOON).await;
    let left: BTreeMap<_, _> = scene.catalog.of_node(&scene.node).await.unwrap();
    assert_eq!(left.len(), 4);
}
