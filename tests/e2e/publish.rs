//! What appears in the catalog, changes and goes when containers do.

use std::time::Duration;

use crate::support::scene::Scene;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_runs_before_and_after_the_start_of_remora_is_registered_and_what_ends_is_not() {
    let mut scene = Scene::plan("publish").not_started().start().await;
    let before = scene.engine.many("before", 3, 3).await;
    scene.remora.spawn();
    scene.remora.ready().await;
    scene.settled(Duration::ZERO).await; // ready means: the first look is in Consul

    let after = scene.engine.many("after", 3, 3).await;
    scene.settled(SOON).await;

    scene.engine.kill(&before[0], "KILL").await;
    scene.engine.stop(&after[0], 1).await;
    scene.engine.remove(&after[1]).await;
    scene.settled(SOON).await;

    scene.engine.start(&before[0]).await;
    scene.settled(SOON).await;
    assert!(scene.catalog.instance(&scene.id(&before[0], 80)).await.is_some());
}

#[tokio::test]
async fn an_instance_has_registrators_id_name_and_tags_and_remoras_mark() {
    let mut scene = Scene::start("instance").await;
    let spec = scene.engine.container("web").publish(80).publish_as("53/udp", "", 0);
    let spec = spec.label("SERVICE_NAME", "shop").label("SERVICE_TAGS", "a,b").label("SERVICE_80_COLOUR", "blue");
    let web = spec.env("SERVICE_53_NAME", "names").run().await;
    scene.settled(SOON).await;

    let http = scene.catalog.instance(&scene.id(&web, 80)).await.unwrap();
    assert_eq!(http.name, "shop-80");
    assert_eq!(http.tags, ["a", "b"]);
    assert_eq!(http.meta["colour"], "blue");
    assert_eq!(http.meta["managed-by"], "remora");
    assert_eq!(http.meta["remora-node"], scene.node);

    let dns = scene.catalog.instance(&format!("{}:udp", scene.id(&web, 53))).await.unwrap();
    assert_eq!(dns.name, "names");
    assert!(!dns.meta.contains_key("colour"), "an attribute of one port shows on another: {:?}", dns.meta);
}

#[tokio::test]
async fn a_container_without_published_ports_or_with_service_ignore_is_not_registered() {
    let mut scene = Scene::start("ignored").await;
    scene.engine.container("exposed").expose(80).run().await;
    scene.engine.container("plain").run().await;
    let ignored = scene.engine.container("ignored").publish(80).label("SERVICE_IGNORE", "true").run().await;
    let seen = scene.engine.container("seen").publish(80).run().await;
    scene.catalog.becomes(&scene.id(&seen, 80), "passing", SOON).await;
    let instances = scene.catalog.of_node(&scene.node).await.unwrap();
    assert_eq!(instances.keys().cloned().collect::<Vec<_>>(), [scene.id(&seen, 80)], "and not {}", ignored.name);
    scene.remora.assert_never_restarted();
}

#[tokio::test]
async fn a_restart_with_a_new_dynamic_port_shows_the_new_port() {
    let mut scene = Scene::start("restart").await;
    let web = scene.engine.container("web").publish(80).run().await;
    scene.settled(SOON).await;
    for _ in 0..3 {
        scene.engine.restart(&web).await;
        scene.settled(SOON).await;
    }
}

#[tokio::test]
async fn a_rename_moves_the_registration_to_the_new_name() {
    let mut scene = Scene::start("rename").await;
    let web = scene.engine.container("web").publish(80).run().await;
    scene.settled(SOON).await;
    let renamed = scene.engine.rename(&web, "shop").await;
    scene.settled(SOON).await;
    assert!(scene.catalog.instance(&scene.id(&renamed, 80)).await.is_some());
    assert!(scene.catalog.instance(&scene.id(&web, 80)).await.is_none());
}

#[tokio::test]
async fn two_containers_that_swap_names_swap_registrations() {
    let mut scene = Scene::start("swap").await;
    let blue = scene.engine.container("blue").publish(80).run().await;
    let green = scene.engine.container("green").publish(80).run().await;
    scene.settled(SOON).await;
    scene.engine.rename(&blue, "aside").await;
    scene.engine.rename(&green, "blue").await;
    scene.engine.rename(&blue, "green").await;
    scene.settled(SOON).await;
}

#[tokio::test]
async fn with_internal_addresses_a_network_that_comes_or_goes_changes_the_registration() {
    let mut scene = Scene::plan("internal").env("REMORA_INTERNAL", "true").start().await;
    let (first, second) = (scene.engine.network("first").await, scene.engine.network("second").await);
    let web = scene.engine.container("web").expose(80).network(&first).run().await;
    let id = scene.id(&web, 80);
    let address = async |network: &str| {
        let document = scene.engine.inspect(&web).await;
        document["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap_or_default().to_owned()
    };
    let shows = async |wanted: String| {
        assert!(!wanted.is_empty());
        crate::support::eventually(&format!("registered at {wanted}:80"), SOON, async || {
            let instance = scene.catalog.of_node(&scene.node).await?.remove(&id).ok_or("not registered")?;
            let shown = (instance.address, instance.port);
            if shown == (wanted.clone(), 80) { Ok(()) } else { Err(format!("it is {shown:?}")) }
        })
        .await;
    };
    shows(address(&first).await).await;
    scene.engine.attach(&web, &second, true).await;
    scene.engine.attach(&web, &first, false).await;
    shows(address(&second).await).await;
    scene.engine.attach(&web, &first, true).await;
    scene.engine.attach(&web, &second, false).await;
    shows(address(&first).await).await;
    scene.remora.assert_never_restarted();
}

#[tokio::test]
async fn a_container_in_the_hosts_network_is_registered_with_its_exposed_ports() {
    let mut scene = Scene::start("host").await;
    let web = scene.engine.container("web").expose(18_080).network("host").run().await;
    scene.settled(SOON).await;
    assert_eq!(scene.catalog.instance(&scene.id(&web, 18_080)).await.unwrap().port, 18_080);
}
