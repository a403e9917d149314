//! The check that says whether a container is healed, through the worker.

use std::time::Duration;

use remora::consul::Status;
use tokio::time::sleep;

use crate::fake_consul::FakeCall;
use crate::world::World;
use crate::{AT_ONCE, end, with};

const WEB: &str = "n1:web:80";

fn turned(world: &World) -> Vec<(String, Status)> {
    let update = |call| match call {
        FakeCall::UpdateCheck(check, status) => (check, status),
        other => panic!("{other:?}"),
    };
    world.writes().into_iter().map(update).collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_given_up_is_one_write_and_who_is_released_another() {
    let (world, ids) = with(&["web", "db"]).await;
    world.gives_up(&[]);
    sleep(Duration::from_secs(60)).await;
    assert!(world.writes().is_empty(), "that nobody was given up is no news");
    for (given_up, status, output) in
        [(&[(&ids[0], "5 attempts")][..], Status::Critical, "5 attempts"), (&[][..], Status::Passing, "")]
    {
        world.gives_up(given_up);
        sleep(AT_ONCE).await;
        assert_eq!(world.healing(WEB), Some((status, output.to_owned())));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(turned(&world), [(format!("{WEB}:healing"), status)]);
    }
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_agent_turns_no_such_check() {
    let (mut world, ids) = with(&["web", "db"]).await;
    world.gives_up(&[(&ids[0], "5 attempts")]);
    sleep(AT_ONCE).await;
    world.kill().await;
    world.writes();
    world.start();
    world.settles(AT_ONCE).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.healing(WEB), Some((Status::Critical, "5 attempts".to_owned())));
    world.gives_up(&[(&ids[0], "5 attempts")]);
    sleep(Duration::from_secs(60)).await;
    assert!(world.writes().is_empty());
    world.gives_up(&[]);
    sleep(AT_ONCE).await;
    assert_eq!(turned(&world), [(format!("{WEB}:healing"), Status::Passing)], "released");
    end(world).await;
}
