//! Secrets in containers and in settings, and a search for them in everything that Remora writes: while it publishes, heals, fails, and is
//! told nonsense.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::outputs::{Canary, Output, of_command, of_consul, of_process, search};
use crate::support::acl::{Acl, documented as rules};
use crate::support::consul::Options;
use crate::support::docker::{Container, Engine, Spec};
use crate::support::guard::{Guard, documented};
use crate::support::remora::Remora;
use crate::support::scene::Scene;
use crate::support::{eventually, free_port};

const SOON: Duration = Duration::from_secs(15);
const LATER: Duration = Duration::from_secs(40);

/// What the containers of a test carry.
struct Secrets(Vec<Canary>);

impl Secrets {
    fn new() -> Self {
        const NEVER: &[&str] = &[];
        let hidden = [
            "a variable",
            "a variable whose name holds SERVICE_",
            "a variable of the image",
            "a label",
            "a label's key",
            "a label of the image",
            "an argument",
            "the HEALTHCHECK's command",
            "the pre-stop command",
            "an option of the log driver",
            "a label of a volume",
        ];
        let shown: [(&'static str, &'static [&'static str]); 6] = [
            // Documented: what is for Consul is in Consul.
            ("an attribute", &["consul", "command explain", "?command sync"]),
            (
                "the output of the HEALTHCHECK",
                &[
                    "consul",
                    "kv",
                    "log",
                    "page /status",
                    "webhook",
                    "command status",
                    "?command sync",
                    "?command explain",
                ],
            ),
            ("the container's own log", &["kv"]),
            ("the path of a check", &["consul", "?command explain", "?command sync"]),
            ("the header of a check", &["?consul", "?command explain", "?command sync"]),
            ("a key that is not understood", &["log", "command explain", "command sync"]),
        ];
        let hidden = hidden.map(|what| Canary::new(what, NEVER)).into_iter();
        Self(hidden.chain(shown.map(|(what, shown)| Canary::new(what, shown))).collect())
    }

    fn of(&self, what: &str) -> &str {
        &self.0.iter().find(|canary| canary.what == what).unwrap_or_else(|| panic!("no secret is {what}")).secret
    }

    /// An image with secrets of its own.
    async fn image(&self, engine: &Engine) -> String {
        let settings = json!({
            "Env": [format!("IMAGE_PASSWORD={}", self.of("a variable of the image"))],
            "Labels": {"com.example.build": self.of("a label of the image")},
        });
        engine.image("secret", settings).await
    }

    /// A container with all of them, that is ill while `sick` exists and crashes by SIGUSR1.
    fn carried_by<'e>(&self, spec: Spec<'e>, image: &str, sick: &str) -> Spec<'e> {
        let output = self.of("the output of the HEALTHCHECK");
        let test = format!(
            "PASSWORD={}; if /bin/busybox test -e {sick}; then echo sick {output}; exit 1; else echo well; fi",
            self.of("the HEALTHCHECK's command")
        );
        let script = format!(
            "echo {}; trap 'exit 1' USR1; while :; do /bin/busybox sleep 0.05; done",
            self.of("the container's own log")
        );
        let spec = spec
            .env("PASSWORD", self.of("a variable"))
            .env("MY_SERVICE_TOKEN", self.of("a variable whose name holds SERVICE_"))
            .label("com.example.token", self.of("a label"))
            .label(&format!("com.example.{}", self.of("a label's key")), "x")
            .label("SERVICE_REGION", self.of("an attribute"))
            .label("SERVICE_CHECK_INITIAL_STATUS", self.of("a key that is not understood"))
            .label("remora.heal.pre-stop", &format!("/bin/busybox true {}", self.of("the pre-stop command")))
            .command(&["/bin/sh", "-c", &script, self.of("an argument")])
            .health_check(Duration::from_secs(1));
        let spec = spec.edit(|body| {
            body["Image"] = image.into();
            body["Healthcheck"]["Test"][1] = test.into();
            body["HostConfig"]["LogConfig"] =
                json!({"Type": "json-file", "Config": {"tag": self.of("an option of the log driver")}});
            body["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Target": "/more",
                "VolumeOptions": {"Labels": {"secret": self.of("a label of a volume")}}}]);
        });
        ["grace", "unhealthy-for", "min-healthy", "drain"]
            .into_iter()
            .fold(spec, |spec, key| spec.label(&format!("remora.heal.{key}"), "0s"))
    }
}

/// Repeats each request in its answer, with this status.
async fn echo(status: u16) -> MockServer {
    let server = MockServer::start().await;
    let repeat = move |request: &Request| {
        let text = format!("{} {:?} {}", request.url, request.headers, String::from_utf8_lossy(&request.body));
        ResponseTemplate::new(status).set_body_string(text)
    };
    Mock::given(any()).respond_with(repeat).mount(&server).await;
    server
}

/// What all commands say about this container.
async fn commands(remora: &Remora, container: &str) -> Vec<Output> {
    let explained = ["explain", container];
    let all: [&[&str]; 16] = [
        &["check-config"],
        &["doctor"],
        &["explain", container, "--json"],
        &explained,
        &["explain", "nobody"],
        &["sync", "--once", "--dry-run"],
        &["sync", "--once"],
        &["status"],
        &["status", "--json"],
        &["healthcheck"],
        &["pause", container, "because", "--for=1m"],
        &["resume", container],
        &["release", "nobody"],
        &["heal", "nobody"],
        &["version"],
        &["help"],
    ];
    // Side by side: most of their time is waiting.
    join_all(all.iter().map(|arguments| of_command(remora, arguments))).await
}

async fn news(scene: &Scene, kind: &str, name: &str) {
    eventually(&format!("{kind} of {name}"), LATER, async || {
        let log = scene.remora.log();
        let told = log.iter().any(|line| line.contains(&format!("{kind}\"")) && line.contains(name));
        told.then_some(()).ok_or_else(|| log.iter().rev().take(20).rev().cloned().collect::<Vec<_>>().join("\n"))
    })
    .await;
}

/// What is said when somebody who repeats each request stands in for Consul.
async fn with_echoes(remora: &Remora, container: &str) -> Vec<Output> {
    let repeating = [500, 403, 400].map(async |status| {
        let mut another = remora.another();
        let server = echo(status).await;
        another.set("CONSUL_HTTP_ADDR", &server.uri());
        another.spawn();
        let mut outputs = commands(&another, container).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        outputs.extend(of_process(&another).await);
        another.terminate().await;
        let asked = server.received_requests().await.unwrap();
        let sent = asked.iter().any(|request| format!("{:?}", request.headers).contains("authorization"));
        assert!(sent, "{status}: nothing to repeat");
        outputs
    });
    join_all(repeating).await.into_iter().flatten().collect()
}

/// Everything that can happen, in one mode.
async fn nothing_leaks(test: &'static str, mode: &'static str, format: &str, by_file: bool) {
    let page = if mode == "agent" { "install.md" } else { "external.md" };
    let plan = Scene::plan(test).consul(Options { acl: true, ..Options::default() }).not_started();
    let plan = plan.env("REMORA_CONSUL_MODE", mode).env("REMORA_NODE_TTL", "10s");
    let plan = plan.env("REMORA_HEAL", "on").env("REMORA_HEAL_HOLDOFF", "1s").env("REMORA_HEAL_SETTLE", "1s");
    let plan = plan.env("REMORA_HEAL_CORRELATION", "100%/1s/50").env("REMORA_HEAL_BUDGET", "50/10m");
    let plan = plan.env("REMORA_LOG", "trace").env("REMORA_LOG_FORMAT", format);
    let mut scene = plan.start().await;
    let acl = Acl::of(&scene.consul.url());
    acl.let_everybody_look().await;
    let node = if mode == "agent" { scene.consul.node().to_owned() } else { scene.node.clone() };
    acl.policy("documented", &rules(page, &node).join("\n")).await;
    let (accessor, token) = acl.token("documented").await;

    let mut secrets = Secrets::new();
    let (auth, hook) = (Canary::new("the password", &[]), Canary::new("the webhook's URL", &[]));
    scene.remora.set("CONSUL_HTTP_AUTH", &format!("user:{}", auth.secret));
    let listener = echo(200).await;
    scene.remora.set("REMORA_HEAL_WEBHOOK", &format!("{}/{1}?key={1}", listener.uri(), hook.secret));
    let file = tempfile::NamedTempFile::new().unwrap();
    if by_file {
        std::fs::write(&file, &token).unwrap();
        scene.remora.set("CONSUL_HTTP_TOKEN_FILE", &file.path().display().to_string());
    } else {
        scene.remora.set("CONSUL_HTTP_TOKEN", &token);
    }
    secrets.0.extend([auth, hook, Canary { what: "the token", secret: token, shown: &[] }]);

    let guard = Guard::start(scene.engine.socket(), &[documented("publish"), documented("heal")].concat());
    scene.remora.set("DOCKER_HOST", &format!("unix://{}", guard.path().display()));
    let image = secrets.image(&scene.engine).await;
    let container = |name: &str, sick: &str| secrets.carried_by(scene.engine.container(name).publish(80), &image, sick);
    // One that is replaced while it runs, one that crashes and has its port for itself, one that no replacement helps, and one
    // whose replacement is refused.
    let shared = container("web", "/sick").label("remora.heal.shareable", "true").run().await;
    let fixed = container("fixed", "/sick").publish_as("80/tcp", "0.0.0.0", free_port());
    let fixed = fixed.label("remora.heal.pin-ports", "true").run().await;
    let repeated = container("repeated", "/sick").run().await;
    let volume = scene.engine.volume("data").await;
    let lost = container("lost", "/data/sick").label("remora.heal.max-attempts", "1").edit(|body| {
        body["HostConfig"]["Binds"] = json!([format!("{volume}:/data")]);
    });
    let lost = lost.run().await;
    // And one with a check that nobody answers, which is told, too.
    let header = json!({"Authorization": format!("Bearer {}", secrets.of("the header of a check"))}).to_string();
    let checked = container("checked", "/sick").label("SERVICE_CHECK_HEADER", &header);
    let checked = checked.label("SERVICE_CHECK_INTERVAL", "1s").label("SERVICE_CHECK_TIMEOUT", "1s");
    let checked =
        checked.label("SERVICE_CHECK_HTTP", &format!("/?token={}", secrets.of("the path of a check"))).create().await;
    scene.remora.spawn();
    scene.remora.ready().await;
    scene.settled(SOON).await;
    scene.engine.start(&checked).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let touch = async |container: &Container, file: &str| {
        scene.engine.exec(container, &["/bin/busybox", "touch", file]).await;
    };
    touch(&shared, "/sick").await;
    news(&scene, "healed", &shared.name).await;
    scene.engine.kill(&fixed, "USR1").await;
    news(&scene, "healed", &fixed.name).await;
    touch(&lost, "/data/sick").await;
    news(&scene, "heal_gave_up", &lost.name).await;
    let mut outputs = of_consul(&scene.consul).await;
    outputs.extend(commands(&scene.remora, &lost.name).await);

    // Docker fails, and whoever answers instead repeats what it was asked.
    guard.echo("POST /containers/create");
    scene.engine.kill(&repeated, "USR1").await;
    eventually("the repeated request is told", LATER, async || {
        let log = scene.remora.log();
        let told = log.iter().any(|line| line.contains("cannot serve POST /containers/create"));
        told.then_some(()).ok_or_else(|| log.last().cloned().unwrap_or_default())
    })
    .await;
    // Consul goes away, comes back, and does not know the token any more.
    scene.consul_proxy.refuse(true).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.consul_proxy.refuse(false).await;
    acl.revoke(&accessor).await;
    eventually("a refusal", LATER, async || {
        let metrics = scene.remora.get("/metrics").await.1;
        let mut refused = metrics.lines().filter(|line| line.contains("consul") && line.contains("outcome=\"denied\""));
        refused.any(|line| !line.ends_with(" 0")).then_some(()).ok_or(metrics)
    })
    .await;
    outputs.extend(of_process(&scene.remora).await);
    outputs.extend(of_consul(&scene.consul).await);
    outputs.extend(commands(&scene.remora, &lost.name).await);
    outputs.push(of_command(&scene.remora, &["explain", &scene.engine.names(false).await[0]]).await);
    for request in listener.received_requests().await.unwrap() {
        outputs.push(Output::new("webhook", String::from_utf8_lossy(&request.body)));
    }
    outputs.extend(with_echoes(&scene.remora, &lost.name).await);
    assert_eq!(guard.refused(), [""; 0]);
    let wrong = search(&outputs, &secrets.0);
    assert!(wrong.is_empty(), "{} outputs: {wrong:#?}", outputs.len());
    println!("{mode}: {} outputs, {} secrets", outputs.len(), secrets.0.len());
}

#[tokio::test]
async fn with_an_agent_no_output_holds_a_secret() {
    nothing_leaks("canaryagent", "agent", "text", false).await;
}

#[tokio::test]
async fn without_an_agent_no_output_holds_a_secret() {
    nothing_leaks("canarycat", "catalog", "json", true).await;
}

#[tokio::test]
async fn no_complaint_about_a_setting_holds_a_secret() {
    let scene = Scene::plan("complaints").not_started().start().await;
    let canary = Canary::new("the secret", &[]);
    let secret = canary.secret.as_str();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\n{secret}\n{secret}\n-----END {kind}-----\n");
    let (cert, key) = (file("cert.pem", pem("CERTIFICATE")), file("key.pem", pem("PRIVATE KEY")));
    let ca = file("ca.pem", pem("CERTIFICATE"));
    let lines = file("token", format!("{secret}\n{secret}\n"));
    let control = file("control", format!("{secret}\u{7}x"));
    let at = folder.path().display().to_string();
    let https = ("CONSUL_HTTP_ADDR", "https://127.0.0.1:1".to_owned());
    // Each of them is wrong, or at least useless.
    let settings: Vec<Vec<(&str, String)>> = vec![
        vec![("CONSUL_HTTP_ADDR", format!("http://user:{secret}@127.0.0.1:1"))],
        vec![("CONSUL_HTTP_ADDR", format!("http://127.0.0.1:1/?token={secret}"))],
        vec![("CONSUL_HTTP_ADDR", format!("http://a:1,http://user:{secret}@b:1"))],
        vec![("CONSUL_HTTP_ADDR", format!("x://user:{secret}@://{secret}@host"))],
        vec![("CONSUL_HTTP_AUTH", secret.to_owned())],
        vec![("CONSUL_HTTP_AUTH", format!("user:{secret}\u{7}"))],
        vec![("CONSUL_HTTP_TOKEN", format!("{secret}\u{7}"))],
        vec![("CONSUL_HTTP_TOKEN", format!("{secret} {secret}"))],
        vec![("CONSUL_HTTP_TOKEN_FILE", lines)],
        vec![("CONSUL_HTTP_TOKEN_FILE", control)],
        vec![https.clone(), ("CONSUL_CLIENT_CERT", cert.clone()), ("CONSUL_CLIENT_KEY", key.clone())],
        vec![https.clone(), ("CONSUL_CLIENT_KEY", key)],
        vec![https.clone(), ("CONSUL_CACERT", ca)],
        vec![https, ("CONSUL_CAPATH", at.clone())],
        vec![
            ("DOCKER_HOST", "tcp://127.0.0.1:1".to_owned()),
            ("DOCKER_TLS_VERIFY", "1".to_owned()),
            ("DOCKER_CERT_PATH", at),
        ],
        vec![("DOCKER_HOST", format!("tcp://user:{secret}@127.0.0.1:1"))],
        vec![("DOCKER_HOST", format!("tcp://127.0.0.1:1?token={secret}"))],
        vec![("REMORA_HEAL_WEBHOOK", secret.to_owned())],
        vec![("REMORA_HEAL_WEBHOOK", format!("ftp://127.0.0.1/{secret}"))],
        vec![("REMORA_HEAL_WEBHOOK", format!("http://user:{secret}@127.0.0.1:1/{secret}"))],
        vec![("REMORA_HEAL_WEBHOOK", format!("https://127.0.0.1:1/a b/{secret}"))],
        vec![("REMORA_HEAL_WEBHOK", format!("http://127.0.0.1:1/{secret}"))],
        vec![("REMORA_CONSUL_TOKEN", secret.to_owned())],
        vec![("PASSWORD", secret.to_owned()), ("CONSUL_TOKEN", secret.to_owned())],
    ];
    let mut outputs = Vec::new();
    let mut unusable = 0;
    for wrong in &settings {
        let mut remora = scene.remora.another();
        for (name, value) in wrong {
            remora.set(name, value);
        }
        let commands =
            [&["check-config"][..], &["doctor"], &["sync", "--once", "--dry-run"], &["pause", "--node", "x"]];
        for mut said in join_all(commands.map(|command| of_command(&remora, command))).await {
            unusable += usize::from(said.text.starts_with("Some(64)"));
            said.place = format!("{} with {wrong:?}", said.place);
            outputs.push(said);
        }
    }
    let uris = [format!("consul://user:{secret}@127.0.0.1:1"), format!("consul://127.0.0.1:1?token={secret}")];
    for uri in uris.iter().map(String::as_str) {
        outputs.push(of_command(&scene.remora, &["check-config", uri]).await);
    }
    assert!(unusable >= 40, "only {unusable} complaints");
    let wrong = search(&outputs, &[canary]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
