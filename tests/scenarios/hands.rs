//! What can go wrong with a change, on the fake engine: the tools of healing's own scenarios.

use std::time::Duration;

use remora::docker::control::CHANGE_TIMEOUT;
use remora::docker::{ContainerId, Control, DockerError, Engine as _, State, Trouble, classify};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::fake_docker::{Act, Behaviour, FakeDocker, Lost, Whom, bare, web};

const GRACE: Duration = Duration::from_secs(10);

/// The trait's methods, where the fake has its own of the same name.
struct Hands<'a>(&'a FakeDocker);

impl Hands<'_> {
    async fn start(&self, id: &ContainerId) -> Result<(), DockerError> {
        Control::start(self.0, id.as_str()).await
    }

    async fn stop(&self, id: &ContainerId) -> Result<(), DockerError> {
        Control::stop(self.0, id.as_str(), GRACE).await
    }

    async fn create(&self, name: &str) -> Result<ContainerId, DockerError> {
        Control::create(self.0, name, &web("any").body(), None).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_fails_or_its_answer_is_lost() {
    let docker = FakeDocker::default();
    let hands = Hands(&docker);
    let full = DockerError::Refused { call: "x", status: 500, message: "no space left on device".to_owned() };
    docker.fail_change(1, full.clone());
    docker.lose_answer(2, Lost::Unreachable);
    docker.lose_answer(4, Lost::TimedOut);
    assert_eq!(hands.create("web").await, Err(full));
    assert!(docker.containers().is_empty());
    assert_eq!(classify(&hands.create("web").await.unwrap_err()), Trouble::Unknown);
    let id = docker.containers()[0].id.clone();
    hands.start(&id).await.unwrap();
    let begun = Instant::now();
    assert_eq!(classify(&hands.stop(&id).await.unwrap_err()), Trouble::Unknown);
    assert!(begun.elapsed() >= GRACE);
    assert_eq!(docker.facts(&id).unwrap().state, State::Exited, "it was done all the same");
    assert_eq!(docker.changes(), ["create web", "create web", "start web", "stop web"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_killed_between_two_changes_does_the_first_only() {
    let docker = FakeDocker::default();
    let id = docker.run(bare("web"));
    docker.pause_after(1);
    let agent = {
        let (docker, id) = (docker.clone(), id.clone());
        tokio::spawn(async move {
            Control::rename(&docker, id.as_str(), "web.old").await.unwrap();
            Control::stop(&docker, id.as_str(), GRACE).await.unwrap();
        })
    };
    while docker.held() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    agent.abort();
    docker.go_on();
    let facts = docker.facts(&id).unwrap();
    assert_eq!((facts.name.as_str(), &facts.state), ("web.old", &State::Running));
    Hands(&docker).stop(&id).await.unwrap();
    assert_eq!(docker.facts(&id).unwrap().state, State::Exited);
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_on_without_whoever_asked_for_it() {
    let docker = FakeDocker::default();
    docker.behave(Whom::Image("web:1".to_owned()), Behaviour::default().stops_in(Duration::from_secs(4)));
    let id = docker.run(bare("web").restart_policy("always"));
    let hands = Hands(&docker);
    timeout(Duration::from_secs(1), hands.stop(&id)).await.unwrap_err();
    assert_eq!(docker.facts(&id).unwrap().state, State::Running);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let facts = docker.facts(&id).unwrap();
    assert_eq!((facts.state, facts.exit_code), (State::Exited, 143), "and the policy does not start it again");
}

#[tokio::test(start_paused = true)]
async fn what_holds_a_name_an_address_or_a_namespace_is_in_the_way() {
    let docker = FakeDocker::default();
    let hands = Hands(&docker);
    docker.add_network("back");
    let mut body = bare("any").network("back").body();
    let fixed = json!({"IPAMConfig": {"IPv4Address": "10.1.2.3"}, "Aliases": ["db"]});
    body["NetworkingConfig"] = json!({"EndpointsConfig": {"back": fixed}});
    let first = Control::create(&docker, "db", &body, None).await.unwrap();
    let second = Control::create(&docker, "db.new", &body, None).await.unwrap();
    hands.start(&first).await.unwrap();
    assert_eq!(classify(&hands.start(&second).await.unwrap_err()), Trouble::AddressTaken);
    let endpoint = docker.raw(&first).unwrap()["NetworkSettings"]["Networks"]["back"].clone();
    assert_eq!(endpoint["IPAddress"], "10.1.2.3");
    assert_eq!(endpoint["Aliases"], json!(["db", first.short()]));
    hands.stop(&first).await.unwrap();
    let third = docker.create(bare("sidecar").sharing(&first));
    assert_eq!(classify(&hands.start(&third).await.unwrap_err()), Trouble::Busy);
    hands.start(&second).await.unwrap();
    // A network of the same name is another network: who knew the old one cannot be started.
    docker.add_network("back");
    assert_eq!(classify(&hands.start(&first).await.unwrap_err()), Trouble::NetworkMissing);
    docker.remove(&first);
    assert_eq!(classify(&hands.start(&third).await.unwrap_err()), Trouble::Gone);
}

#[tokio::test(start_paused = true)]
async fn an_image_lends_what_was_not_asked_for() {
    let docker = FakeDocker::default();
    let config = json!({"Env": ["A=1", "B=2"], "Cmd": ["/app"], "Volumes": {"/data": {}}, "Labels": {"of": "image"},
        "Healthcheck": {"Test": ["CMD", "/probe"]}});
    let image = docker.add_image("app:1", &config);
    let body = json!({"Image": "app:1", "Env": ["B=3"], "Labels": {"of": "container"},
        "HostConfig": {"Binds": ["named:/named:ro"]}});
    let id = Control::create(&docker, "app", &body, None).await.unwrap();
    let document = docker.raw(&id).unwrap();
    assert_eq!(document["Image"], image);
    assert_eq!(document["Config"]["Env"], json!(["B=3", "A=1"]));
    assert_eq!(document["Config"]["Labels"]["of"], "container");
    assert_eq!(document["Config"]["Cmd"], json!(["/app"]));
    assert_eq!((&document["Mounts"][0]["Name"], &document["Mounts"][0]["RW"]), (&json!("named"), &json!(false)));
    let anonymous = document["Mounts"][1]["Name"].as_str().unwrap();
    assert_eq!(document["Mounts"][1]["Destination"], "/data");
    assert!(docker.volume_exists(anonymous).await.unwrap());
    Control::remove(&docker, id.as_str(), true).await.unwrap();
    assert!(docker.volume_exists(anonymous).await.unwrap(), "volumes are never removed");

    docker.hide_path("/gone", true);
    let body =
        json!({"Image": "app:1", "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/gone", "Target": "/x"}]}});
    let error = Control::create(&docker, "app", &body, None).await.unwrap_err();
    assert_eq!(classify(&error), Trouble::MountMissing);
    docker.remove_image("app:1");
    let error = Control::create(&docker, "app", &json!({"Image": "app:1"}), None).await.unwrap_err();
    assert_eq!(classify(&error), Trouble::ImageMissing);
}

#[tokio::test(start_paused = true)]
async fn the_kernel_and_the_policy_do_their_part() {
    let docker = FakeDocker::default();
    let hungry = Behaviour::default().after(Duration::from_secs(1), Act::OutOfMemory);
    docker.behave(Whom::Labelled("hungry".to_owned()), hungry);
    let id = docker.run(bare("web").label("hungry", "yes").restart_policy("always"));
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let facts = docker.inspect(id.as_str()).await.unwrap();
    assert!(facts.oom_killed && facts.state == State::Restarting, "{facts:?}");
    let renamed = Control::rename(&docker, id.as_str(), "other").await;
    assert_eq!(classify(&renamed.unwrap_err()), Trouble::Busy, "it waits to be started again");
    let removed = Control::remove(&docker, id.as_str(), false).await;
    assert_eq!(classify(&removed.unwrap_err()), Trouble::Busy);
    // Without a policy the wait still ends in one more run.
    docker.set_restart_policy(id.as_str(), &json!({"Name": "no"})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(docker.facts(&id).unwrap().state, State::Running);
    tokio::time::sleep(CHANGE_TIMEOUT).await;
    assert_eq!(docker.facts(&id).unwrap().state, State::Exited);
    // What cannot be started says so, and `--rm` takes it away.
    docker.behave(Whom::Named("bad".to_owned()), Behaviour::default().start_fails("exec: \"/x\": no such file"));
    let bad = docker.create(bare("bad"));
    assert_eq!(classify(&Hands(&docker).start(&bad).await.unwrap_err()), Trouble::Invalid);
    let facts = docker.facts(&bad).unwrap();
    assert_eq!(
        (facts.state, facts.exit_code, facts.life.error.as_str()),
        (State::Created, 127, "exec: \"/x\": no such file")
    );
    docker.remove(&bad);
    let bad = docker.create(bare("bad").auto_remove());
    Hands(&docker).start(&bad).await.unwrap_err();
    assert_eq!(docker.facts(&bad), None);
}
