//! What fails is replaced by its like, and `remora doctor` says what there is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::SOON;
use crate::support::eventually;
use crate::support::scene::{Plan, Scene};

/// Everything as fast as it goes.
fn quick(test: &'static str) -> Plan {
    Scene::plan(test).env("REMORA_HEAL", "on").env("REMORA_HEAL_HOLDOFF", "1s").env("REMORA_HEAL_SETTLE", "1s")
}

/// What must be the same in the old container and in the new one, by its place in an inspect document. `tests/clone.rs` compares
/// everything; this is what a user would miss first. What is mounted is compared apart: an anonymous volume is asked for by name then.
const KEPT: [&str; 15] = [
    "/Name",
    "/Image",
    "/Config/Cmd",
    "/Config/Env",
    "/Config/Healthcheck",
    "/Config/User",
    "/HostConfig/Binds",
    "/HostConfig/PortBindings",
    "/HostConfig/RestartPolicy",
    "/HostConfig/Memory",
    "/HostConfig/NanoCpus",
    "/HostConfig/PidsLimit",
    "/HostConfig/CapDrop",
    "/HostConfig/NetworkMode",
    "/HostConfig/LogConfig",
];

fn kept(document: &Value) -> Vec<(&'static str, Value)> {
    KEPT.iter().map(|place| (*place, document.pointer(place).cloned().unwrap_or_default())).collect()
}

/// Name, type, place and way of what is mounted.
fn mounts(document: &Value) -> Vec<String> {
    let mut mounts: Vec<_> = document["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| format!("{} {} {} {} {}", it["Type"], it["Name"], it["Source"], it["Destination"], it["RW"]))
        .collect();
    mounts.sort();
    mounts
}

/// The networks with the names by which its neighbours know it, without the short id that Docker itself adds.
fn networks(document: &Value) -> Vec<(String, Vec<String>)> {
    let id = document["Id"].as_str().unwrap();
    let networks = document["NetworkSettings"]["Networks"].as_object().unwrap();
    let aliases = |network: &Value| {
        let all = network["Aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut all: Vec<_> = all.filter(|alias| !id.starts_with(alias)).map(ToOwned::to_owned).collect();
        all.sort();
        all
    };
    networks.iter().map(|(name, network)| (name.clone(), aliases(network))).collect()
}

#[tokio::test]
async fn an_unhealthy_container_is_replaced_by_its_like() {
    let mut scene = quick("heals").start().await;
    let (first, second) = (scene.engine.network("first").await, scene.engine.network("second").await);
    let volume = scene.engine.volume("data").await;
    let folder = tempfile::tempdir().unwrap();
    let spec = scene.engine.container("web").publish(80).health_check(Duration::from_millis(500));
    let mut spec = spec.network(&first).restart_policy("unless-stopped").env("COLOUR", "blue").label("team", "shop");
    for key in ["grace", "unhealthy-for", "min-healthy", "drain"] {
        spec = spec.label(&format!("remora.heal.{key}"), "0s");
    }
    let spec = spec.edit(|body| {
        body["Volumes"] = json!({"/anonymous": {}});
        let host = &mut body["HostConfig"];
        host["Binds"] = json!([format!("{}:/bound:ro", folder.path().display()), format!("{volume}:/data")]);
        host["Mounts"] = json!([{"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1_048_576}}]);
        host["Memory"] = (64 << 20).into();
        host["NanoCpus"] = 500_000_000.into();
        host["PidsLimit"] = 50.into();
        host["CapDrop"] = json!(["NET_RAW"]);
        body["NetworkingConfig"] = json!({"EndpointsConfig": {first.as_str(): {"Aliases": ["shop"]}}});
    });
    let web = spec.create().await;
    scene.engine.attach(&web, &second, true).await;
    scene.engine.start(&web).await;
    let id = scene.id(&web, 80);
    scene.catalog.becomes(&id, "passing", SOON).await;
    scene
        .engine
        .exec(&web, &["/bin/sh", "-c", "/bin/busybox echo kept > /data/x; /bin/busybox echo kept > /anonymous/x"])
        .await;
    let before = scene.engine.inspect(&web).await;
    scene.engine.clean_volumes_of(&before);

    scene.engine.exec(&web, &["/bin/busybox", "touch", "/sick"]).await;
    eventually("another container with its name, alone", SOON * 3, async || {
        let now = scene.engine.inspect_name(&web.name).await.ok_or("nobody has its name")?;
        let names = scene.engine.names(true).await;
        if now["Id"] != web.id.as_str() && now["State"]["Running"] == true && names == [web.name.clone()] {
            Ok(())
        } else {
            Err(format!("{} {names:?}", now["State"]["Status"]))
        }
    })
    .await;
    let after = scene.engine.inspect_name(&web.name).await.unwrap();
    assert_eq!(kept(&after), kept(&before));
    assert_eq!(mounts(&after), mounts(&before));
    assert_eq!(networks(&after), networks(&before));
    for (label, value) in before["Config"]["Labels"].as_object().unwrap() {
        assert_eq!(&after["Config"]["Labels"][label], value, "{label}");
    }
    assert_eq!(after["Config"]["Labels"]["remora.heal.generation"], "1");
    let new =
        crate::support::docker::Container { id: after["Id"].as_str().unwrap().to_owned(), name: web.name.clone() };
    let data =
        "[ $(/bin/busybox cat /data/x /anonymous/x | /bin/busybox grep -c kept) = 2 ] || /bin/busybox touch /sick";
    scene.engine.exec(&new, &["/bin/sh", "-c", data]).await;
    scene.catalog.becomes(&id, "passing", SOON).await;
    scene.settled(SOON).await;
    let instance = scene.catalog.instance(&id).await.unwrap();
    assert_eq!(instance.checks[&format!("{id}:healing")], "passing");
    let written = scene.engine.call("GET", &format!("/containers/{}/changes", new.id), None).await;
    assert!(!written.to_string().contains("/sick"), "its data is not there: {written}");
}

#[tokio::test]
async fn what_ends_by_itself_is_replaced_in_its_own_place() {
    let mut scene = quick("ends").start().await;
    let port = crate::support::free_port();
    let mut spec = scene.engine.container("web").publish_as("80/tcp", "0.0.0.0", port);
    for key in ["grace", "unhealthy-for", "min-healthy", "drain"] {
        spec = spec.label(&format!("remora.heal.{key}"), "0s");
    }
    let ends = "trap 'exit 1' USR1; while :; do /bin/busybox sleep 0.05; done";
    let web = spec.command(&["/bin/sh", "-c", ends]).run().await;
    let id = scene.id(&web, 80);
    scene.catalog.becomes(&id, "passing", SOON).await;
    // Its shell has to come to the trap.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.engine.kill(&web, "USR1").await;
    eventually("another container with its name", SOON * 3, async || {
        let now = scene.engine.inspect_name(&web.name).await.ok_or("nobody has its name")?;
        let new = now["Id"] != web.id.as_str() && now["State"]["Running"] == true;
        if new && scene.engine.names(true).await.len() == 1 { Ok(()) } else { Err(now["State"].to_string()) }
    })
    .await;
    scene.settled(SOON).await;
    assert_eq!(scene.catalog.instance(&id).await.unwrap().port, port);
}

#[tokio::test]
async fn the_doctor_finds_nothing_missing() {
    let scene = Scene::start("doctor").await;
    scene.engine.container("web").publish(80).run().await;
    let (code, told) = scene.remora.command(&["doctor"]).await;
    assert_eq!(code, Some(0), "{told}");
    let version = scene.engine.call("GET", "/version", None).await;
    for wanted in ["Version", "ApiVersion"] {
        let wanted = version[wanted].as_str().unwrap();
        assert!(told.contains(wanted), "{wanted} is not told: {told}");
    }
    let about = scene.consul.get("/v1/agent/self").await;
    let consul = about["Config"]["Version"].as_str().unwrap();
    assert!(told.contains(consul), "Consul {consul} is not told: {told}");
    assert!(told.contains("containers can be inspected") && told.contains("events can be followed"), "{told}");
    let (code, told) = scene.remora.command(&["healthcheck"]).await;
    assert_eq!(code, Some(0), "{told}");
}
