//! Behind a proxy that lets exactly the calls of `docs/security.md` through: it all works, nothing else is even tried, and each call
//! that is missing is told.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use crate::support::docker::{Container, Engine, Spec};
use crate::support::eventually;
use crate::support::guard::{Guard, Rule, documented};
use crate::support::remora::Remora;
use crate::support::scene::Scene;

const SOON: Duration = Duration::from_secs(10);

/// The calls of both tiers.
fn all() -> Vec<Rule> {
    [documented("publish"), documented("heal")].concat()
}

/// A scene whose Remora has yet to be started, and speaks to Docker through this proxy.
async fn guarded(test: &'static str, rules: &[Rule], heal: &str) -> (Scene, Guard) {
    let plan = Scene::plan(test).env("REMORA_HEAL", heal).env("REMORA_HEAL_HOLDOFF", "1s");
    let plan = plan.env("REMORA_HEAL_SETTLE", "1s").env("REMORA_HEAL_CORRELATION", "100%/1s/50");
    let mut scene = plan.not_started().start().await;
    let guard = Guard::start(scene.engine.socket(), rules);
    scene.remora.set("DOCKER_HOST", &format!("unix://{}", guard.path().display()));
    (scene, guard)
}

/// All thresholds at nothing.
fn at_once(spec: Spec<'_>) -> Spec<'_> {
    ["grace", "unhealthy-for", "min-healthy", "drain"]
        .into_iter()
        .fold(spec, |spec, key| spec.label(&format!("remora.heal.{key}"), "0s"))
}

/// A process that ends with 1 when it is asked to by a signal that no operator sends.
const CRASHES: [&str; 3] = ["/bin/sh", "-c", "trap 'exit 1' USR1; while :; do /bin/busybox sleep 0.05; done"];

fn texts(rules: &[Rule]) -> BTreeSet<String> {
    rules.iter().map(|rule| rule.text.clone()).collect()
}

/// Remora's `doctor` behind a proxy that lacks one call, once for each: it complains about that one.
async fn each_is_missed(remora: &Remora, engine: &Engine, rules: &[Rule]) {
    let cases = rules.iter().enumerate().map(|(left_out, rule)| {
        let mut rest = rules.to_vec();
        rest.remove(left_out);
        let guard = Guard::start(engine.socket(), &rest);
        let mut remora = remora.another();
        remora.set("DOCKER_HOST", &format!("unix://{}", guard.path().display()));
        async move {
            let (code, told) = remora.command(&["doctor"]).await;
            let refused = guard.refused();
            assert!(!refused.is_empty(), "without {}: it was never asked for", rule.text);
            // `POST /networks/{name}/connect` is `POST /networks/{network}/connect` to those who ask.
            let fixed: Vec<&str> = rule.text.split(['{', '}']).step_by(2).collect();
            let named = told.lines().any(|line| {
                let mut rest = line;
                line.contains("BAD")
                    && fixed.iter().all(|part| rest.split_once(part).map(|(_, after)| rest = after).is_some())
            });
            assert!(code == Some(1) && named, "without {}: {code:?}: {told}", rule.text);
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn to_publish_the_documented_calls_are_enough_and_none_of_them_is_too_much() {
    let rules = documented("publish");
    assert!(rules.len() >= 5 && rules.iter().all(|rule| rule.text.starts_with("GET ")), "{rules:?}");
    for heal in ["off", "observe"] {
        let (mut scene, guard) = guarded("publish", &rules, heal).await;
        scene.remora.spawn();
        scene.remora.ready().await;
        let spec = scene.engine.container("web").publish(80).health_check(Duration::from_secs(1));
        let web = spec.restart_policy("unless-stopped").run().await;
        let other = at_once(scene.engine.container("other").publish(81)).command(&CRASHES).run().await;
        scene.settled(SOON).await;
        let network = scene.engine.network("net").await;
        scene.engine.attach(&web, &network, true).await;
        // One that still starts is critical, too, and its first check may be under way.
        scene.catalog.becomes(&scene.id(&web, 80), "passing", SOON).await;
        scene.engine.exec(&web, &["/bin/busybox", "touch", "/sick"]).await;
        scene.catalog.becomes(&scene.id(&web, 80), "critical", SOON).await;
        scene.engine.kill(&other, "USR1").await;
        scene.settled(SOON).await;
        for command in [&["doctor"][..], &["sync", "--once", "--dry-run"], &["explain", &web.name]] {
            let (code, told) = scene.remora.command(command).await;
            assert_eq!(code, Some(0), "REMORA_HEAL={heal}: {command:?}: {told}");
        }
        scene.remora.terminate().await;
        let (refused, passed) = (guard.refused(), guard.passed());
        // To observe, doctor says what healing would lack: it asks about a container that does not exist.
        let tried: Vec<_> = refused.iter().filter(|call| !call.contains(NOBODY)).collect();
        assert_eq!(tried, [""; 0], "REMORA_HEAL={heal}");
        assert!(heal == "observe" || refused.is_empty(), "REMORA_HEAL={heal}: {refused:?}");
        let used: BTreeSet<String> = passed.into_iter().map(|(_, rule)| rule).collect();
        assert_eq!(used, texts(&rules), "REMORA_HEAL={heal}");
        if heal == "off" {
            each_is_missed(&scene.remora, &scene.engine, &rules).await;
        }
    }
}

/// What is asked about to find out what may be asked.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn healing_without_the_right_to_is_told_once_and_publishing_goes_on() {
    let (mut scene, guard) = guarded("forbidden", &documented("publish"), "on").await;
    scene.remora.spawn();
    scene.remora.ready().await;
    let web = at_once(scene.engine.container("web").publish(80)).command(&CRASHES).run().await;
    scene.settled(SOON).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.engine.kill(&web, "USR1").await;
    eventually("what would be done is told", SOON, async || {
        let log = scene.remora.log();
        log.iter().any(|line| line.contains("would_heal")).then_some(()).ok_or(format!("{log:#?}"))
    })
    .await;
    scene.engine.container("another").publish(80).run().await;
    scene.settled(SOON).await;
    let (code, told) = scene.remora.command(&["status"]).await;
    assert!(code == Some(0) && told.contains("healing is observe"), "{code:?}: {told}");
    let (code, told) = scene.remora.command(&["sync", "--once", "--dry-run"]).await;
    assert_eq!(code, Some(0), "it wants what the agent wants: {told}");
    let (code, told) = scene.remora.command(&["doctor"]).await;
    let said = "POST /containers/create is refused: containers are only observed, none is healed";
    assert!(code == Some(1) && told.contains(said) && told.contains("docs/security.md"), "{code:?}: {told}");
    let denied: Vec<_> = scene.remora.log().into_iter().filter(|line| line.contains("heal_denied")).collect();
    assert!(denied.len() == 1 && denied[0].contains("POST /containers/create"), "{denied:#?}");
    let tried: Vec<_> = guard.refused().into_iter().filter(|call| !call.contains(NOBODY)).collect();
    assert_eq!(tried, [""; 0]);
    assert_eq!(scene.engine.inspect(&web).await["State"]["Running"], false, "and nobody has touched it");
}

/// Makes it fail by this, and waits until another one runs in its place, or (`in_place`) it runs again.
async fn healed(engine: &Engine, container: &Container, in_place: bool, failing: impl Future<Output = ()>) {
    let started = engine.inspect(container).await["State"]["StartedAt"].clone();
    failing.await;
    eventually(&format!("{} healed", container.name), Duration::from_secs(40), async || {
        let now = engine.inspect_name(&container.name).await.ok_or("nobody has its name")?;
        let (same, state) = (now["Id"] == container.id.as_str(), &now["State"]);
        if same == in_place && state["Running"] == true && state["StartedAt"] != started {
            return Ok(());
        }
        Err(format!("{}: {}", now["Id"], state["Status"]))
    })
    .await;
}

#[tokio::test]
async fn to_heal_the_documented_calls_are_enough_and_none_of_them_is_too_much() {
    let rules = all();
    let (mut scene, guard) = guarded("heal", &rules, "on").await;
    scene.remora.spawn();
    scene.remora.ready().await;
    let (network, volume) = (scene.engine.network("net").await, scene.engine.volume("data").await);
    // Everything that a replacement may need.
    let spec = at_once(scene.engine.container("web").publish(80)).health_check(Duration::from_secs(1));
    let spec = spec.restart_policy("unless-stopped").label("remora.heal.pre-stop", "/bin/busybox true");
    let spec = spec.label("remora.heal.shareable", "true").edit(|body| {
        body["HostConfig"]["Binds"] = serde_json::json!([format!("{volume}:/data")]);
    });
    let web = spec.run().await;
    scene.engine.attach(&web, &network, true).await;
    // Two that crash: one is restarted as its label wants, one because a replacement would lose what it wrote.
    let crash = |name: &str| at_once(scene.engine.container(name).publish(80)).command(&CRASHES);
    let restarted = crash("restarted").label("remora.heal.strategy", "restart").run().await;
    let refused = crash("refused").label("remora.heal.volumes", "refuse").run().await;
    scene.settled(SOON).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let engine = &scene.engine;
    engine.exec(&refused, &["/bin/busybox", "touch", "/written"]).await;
    healed(engine, &web, false, engine.exec(&web, &["/bin/busybox", "touch", "/sick"])).await;
    healed(engine, &restarted, true, engine.kill(&restarted, "USR1")).await;
    healed(engine, &refused, true, engine.kill(&refused, "USR1")).await;
    eventually("the old one is gone", SOON, async || {
        let names = scene.engine.names(true).await;
        if names.len() == 3 { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    scene.settled(SOON).await;
    // Before doctor, which asks for each of them.
    let passed = guard.passed().into_iter().filter(|(call, _)| !call.contains(NOBODY));
    let mut used: BTreeSet<String> = passed.map(|(_, rule)| rule).collect();
    let (code, told) = scene.remora.command(&["doctor"]).await;
    assert!(code == Some(0) && told.contains("containers can be replaced"), "{code:?}: {told}");
    scene.remora.terminate().await;
    assert_eq!(guard.refused(), [""; 0]);
    // Asked when Docker has been silent for ten seconds, which other tests on the same engine may prevent.
    used.insert("GET /_ping".to_owned());
    if newer_than_1_43(&scene.engine).await {
        // From API 1.44 on a create call takes all networks at once.
        used.insert("POST /networks/{name}/connect".to_owned());
    }
    assert_eq!(used, texts(&rules));
    each_is_missed(&scene.remora, &scene.engine, &rules).await;
}

async fn newer_than_1_43(engine: &Engine) -> bool {
    let version = engine.call("GET", "/version", None).await;
    let minor = version["ApiVersion"].as_str().unwrap().rsplit('.').next().unwrap();
    minor.parse::<u32>().unwrap() >= 44
}

/// What no tier allows.
const NEVER: [&str; 14] = [
    "GET /containers/x/archive",
    "GET /containers/x/export",
    "GET /containers/x/attach/ws",
    "GET /secrets",
    "POST /containers/prune",
    "POST /containers/x/kill",
    "POST /containers/x/attach",
    "POST /exec/x/resize",
    "POST /images/create",
    "POST /build",
    "POST /networks/create",
    "POST /networks/x/disconnect",
    "DELETE /images/x",
    "DELETE /volumes/x",
];

#[test]
fn the_regular_expressions_on_the_page_allow_the_same_calls() {
    let page = include_str!("../../docs/security.md");
    let blocks: Vec<&str> = page.split("```yaml").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    let sample =
        |rule: &Rule| rule.text.replace("{reference}", "shop/web:1").replace("{id}", "x").replace("{name}", "x");
    for (block, rules) in blocks.iter().zip([documented("publish"), all()]) {
        let allows = |call: &str| {
            let (method, path) = call.split_once(' ').unwrap();
            block.lines().filter_map(|line| line.split_once(&format!("'-allow{method}="))).any(|(_, rest)| {
                regex_lite::Regex::new(&format!("^(?:{})$", rest.trim_end_matches('\''))).unwrap().is_match(path)
            })
        };
        let lacks: Vec<_> = rules.iter().map(sample).filter(|call| !allows(call)).collect();
        assert_eq!(lacks, [""; 0], "{block}");
        let all = all();
        let beyond: Vec<_> = all
            .iter()
            .map(sample)
            .chain(NEVER.map(str::to_owned))
            .filter(|call| allows(call) && !rules.iter().any(|rule| sample(rule) == *call))
            .collect();
        assert_eq!(beyond, [""; 0], "{block}");
    }
}
