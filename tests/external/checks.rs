//! Checks that Remora runs itself, because no agent does.

use std::time::Duration;

use crate::catalog;
use crate::support::docker::Container;
use crate::support::scene::Scene;
use crate::support::{eventually, http_client};

const SOON: Duration = Duration::from_secs(10);

async fn becomes(scene: &Scene, container: &Container, check: &str, status: &str) -> String {
    let id = scene.id(container, 80);
    let check = check.replace("<id>", &id);
    eventually(&format!("{check} {status}"), SOON, async || {
        let instance = scene.catalog.all().await?.remove(&id).ok_or("it is not registered")?;
        match instance.checks.get(&check) {
            Some(found) if found == status => Ok(()),
            found => Err(format!("it is {found:?}: {:?}", instance.outputs.get(&check))),
        }
    })
    .await;
    scene.catalog.instance(&id).await.unwrap().outputs.remove(&check).unwrap_or_default()
}

#[tokio::test]
async fn an_http_check_is_asked_at_the_instances_own_address() {
    // The usual address of the tests leads nowhere.
    let scene = catalog("http").env("REMORA_ADDRESS", "127.0.0.1").start().await;
    let script = "/bin/busybox mkdir /www; echo ok > /www/index.html; exec /bin/busybox httpd -f -p 80 -h /www";
    let spec = scene.engine.container("web").publish(80).command(&["/bin/sh", "-c", script]);
    let web = spec.label("SERVICE_CHECK_HTTP", "/").label("SERVICE_CHECK_INTERVAL", "1s").run().await;
    let output = becomes(&scene, &web, "<id>:http", "passing").await;
    assert!(output.contains("200 OK"), "{output}");
    scene.engine.exec(&web, &["/bin/busybox", "rm", "/www/index.html"]).await;
    let output = becomes(&scene, &web, "<id>:http", "critical").await;
    assert!(output.contains("404"), "{output}");
}

#[tokio::test]
async fn a_service_reports_about_itself_and_runs_out() {
    let mut scene = catalog("ttl").start().await;
    let web = scene.engine.container("web").publish(80).label("SERVICE_CHECK_TTL", "4s").run().await;
    scene.settled(SOON).await;
    let check = format!("service:{}", scene.id(&web, 80));
    let url = format!("http://127.0.0.1:{}/v1/agent/check/pass/{check}", scene.remora.http_port());
    let answer = http_client(None).put(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    becomes(&scene, &web, &check, "passing").await;
    let output = becomes(&scene, &web, &check, "critical").await;
    assert!(output.contains("TTL expired"), "{output}");
    let answer = http_client(None).put(url.replace("/service:", "/nothing:")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn a_restart_of_the_agent_does_not_make_a_check_flap() {
    let mut scene = catalog("steady").env("REMORA_ADDRESS", "127.0.0.1").start().await;
    let spec = scene.engine.container("web").publish(80).command(&["/bin/busybox", "httpd", "-f", "-p", "80"]);
    let web = spec.label("SERVICE_CHECK_TCP", "true").label("SERVICE_CHECK_INTERVAL", "1s").run().await;
    becomes(&scene, &web, "<id>:tcp", "passing").await;
    let index = |all: &serde_json::Value| -> u64 {
        let checks = all.as_array().unwrap().iter();
        checks
            .filter(|it| it["CheckID"].as_str().unwrap().ends_with(":tcp"))
            .map(|it| it["ModifyIndex"].as_u64().unwrap())
            .max()
            .unwrap()
    };
    let path = format!("/v1/health/node/{}", scene.node);
    let before = index(&scene.consul.get(&path).await);
    scene.remora.terminate().await;
    scene.remora.spawn();
    scene.remora.ready().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(index(&scene.consul.get(&path).await), before, "its row was written");
}
