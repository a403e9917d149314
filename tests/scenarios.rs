//! The agent's two tasks between a fake engine and a fake Consul, on a clock that jumps: what is written, how often, and
//! what the catalog says in the end, whatever fails on the way.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

#[path = "support/fake_consul.rs"]
mod fake_consul;
#[path = "support/fake_docker.rs"]
mod fake_docker;
#[path = "scenarios/hands.rs"]
mod hands;
#[path = "scenarios/healing.rs"]
mod healing;
#[path = "scenarios/heard.rs"]
mod heard;
#[path = "support/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use fake_consul::FakeCall;
use fake_docker::{Mood, bare, web};
use remora::consul::{ConsulError, Registry as _, Status};
use remora::docker::{ContainerId, HealthStatus};
use tokio::time::{Instant, sleep};
use world::{World, foreign};

/// Time in which everything that can be known at once is known and written.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A poll of Consul, or a reconnect.
const SOON: Duration = Duration::from_secs(6);

/// A full look at Docker.
const RESYNC: Duration = Duration::from_secs(35);

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

fn register(id: &str) -> FakeCall {
    FakeCall::Register(id.to_owned())
}

fn deregister(id: &str) -> FakeCall {
    FakeCall::Deregister(id.to_owned())
}

fn update(id: &str, status: Status) -> FakeCall {
    FakeCall::UpdateCheck(format!("{id}:docker"), status)
}

/// A world with a ready agent and these running containers, that have been written about already.
async fn with(names: &[&str]) -> (World, Vec<ContainerId>) {
    let mut world = World::new();
    let ids = names.iter().map(|name| world.docker.run(web(name))).collect();
    world.start();
    world.settles(AT_ONCE).await;
    seconds(1).await;
    assert!(world.is_ready());
    world.writes();
    (world, ids)
}

async fn end(world: World) {
    world.stays_right(Duration::from_secs(120)).await;
    world.wire.assert_foreigners_untouched();
    assert_eq!(world.wire.violations(), Vec::<String>::new());
}

fn unreachable() -> ConsulError {
    ConsulError::Unreachable { address: "fake".to_owned(), reason: "connection refused".to_owned() }
}

fn unwell() -> ConsulError {
    ConsulError::Unwell { status: 500, call: "PUT", message: "No cluster leader".to_owned() }
}

fn forbidden() -> ConsulError {
    ConsulError::Forbidden { call: "PUT", message: "Permission denied".to_owned() }
}

fn invalid() -> ConsulError {
    ConsulError::Invalid { call: "PUT", message: "Invalid check".to_owned() }
}

/// Starts some, ends some, restarts one: `prefix` tells the new ones apart from those of an earlier call.
async fn churn(world: &World, ids: &[ContainerId], prefix: &str) {
    for number in 0..5 {
        world.docker.run(web(&format!("{prefix}{number}")));
    }
    world.docker.kill(&ids[0], 9);
    world.docker.remove(&ids[1]);
    world.docker.exit(&ids[2], 0);
    sleep(Duration::from_millis(10)).await;
    world.docker.start(&ids[2]);
    world.docker.rename(&ids[3], &format!("{prefix}renamed"));
}

// --- what is written -------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_container_is_one_write_when_it_starts_and_one_when_it_ends() {
    let (world, _) = with(&[]).await;
    let id = world.docker.run(web("web"));
    world.settles(AT_ONCE).await;
    seconds(60).await;
    assert_eq!(world.writes(), [register("n1:web:80")]);
    world.docker.kill(&id, 9);
    world.settles(AT_ONCE).await;
    world.docker.remove(&id);
    seconds(60).await;
    assert_eq!(world.writes(), [deregister("n1:web:80")]);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_health_is_one_write() {
    let (world, _) = with(&[]).await;
    let id = world.docker.run(web("web").health_check());
    sleep(AT_ONCE).await;
    assert_eq!(world.writes(), [register("n1:web:80")]);
    assert_eq!(world.status("n1:web:80").unwrap().0, Status::Critical);
    for (found, status) in [
        (HealthStatus::Healthy, Status::Passing),
        (HealthStatus::Unhealthy, Status::Critical),
        (HealthStatus::Healthy, Status::Passing),
    ] {
        world.docker.health(&id, found, "output");
        world.settles(AT_ONCE).await;
        seconds(60).await;
        assert_eq!(world.writes(), [update("n1:web:80", status)]);
    }
    world.docker.pause(&id, true);
    world.settles(AT_ONCE).await;
    world.docker.pause(&id, false);
    world.settles(AT_ONCE).await;
    assert_eq!(world.writes(), [update("n1:web:80", Status::Critical), update("n1:web:80", Status::Passing)]);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn ten_idle_minutes_with_a_hundred_containers_are_sixty_beats_of_the_agents_own_check() {
    let mut world = World::new();
    for number in 0..100 {
        let id = world.docker.run(web(&format!("web{number}")).health_check());
        world.docker.health(&id, HealthStatus::Healthy, "ok");
    }
    world.start();
    world.settles(AT_ONCE).await;
    // Until the next full look: what an event told before the first one is looked at once more then.
    seconds(35).await;
    let (asked, tried) = (world.docker.calls(), world.wire.count());
    world.writes();
    seconds(600).await;
    assert_eq!(world.writes(), []);
    assert_eq!(world.wire.count() - tried, 60);
    let now = world.docker.calls();
    assert_eq!(
        (now.inspect, now.streams, now.info),
        (asked.inspect, asked.streams, asked.info),
        "nothing is looked at"
    );
    assert_eq!(now.list - asked.list, 20, "a full look every thirty seconds");
    assert!(now.ping - asked.ping <= 60);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_is_one_write_per_service_and_a_restart_with_nothing_changed_is_none() {
    let mut world = World::new();
    for number in 0..100 {
        world.docker.run(web(&format!("web{number}")).publish(443, 0));
    }
    for name in ["a", "b", "c"] {
        world.docker.run(web(name).label("SERVICE_ID", "shared"));
    }
    world.start();
    world.settles(AT_ONCE).await;
    seconds(10).await;
    let writes = world.writes();
    assert_eq!(writes.len(), 203);
    assert!(writes.iter().all(|call| matches!(call, FakeCall::Register(_))));
    let before = world.ids();
    for latency in [0, 5, 50] {
        world.kill().await;
        seconds(5).await;
        world.docker.set_latency(Duration::from_millis(latency));
        world.start();
        seconds(20).await;
        assert_eq!(world.writes(), [], "inspects take {latency} ms");
        assert!(world.is_ready());
        assert_eq!(world.ids(), before);
    }
    world.docker.set_latency(Duration::ZERO);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_it_out_at_the_signal_and_a_hangup_does_not() {
    let (world, ids) = with(&["web"]).await;
    world.docker.kill(&ids[0], 1);
    seconds(5).await;
    assert_eq!(world.writes(), []);
    let begun = Instant::now();
    let stopping = world.docker.stop(&ids[0], Duration::from_secs(8));
    let watching = async {
        sleep(AT_ONCE).await;
        assert_eq!(world.ids(), Vec::<String>::new(), "before its process is gone");
    };
    tokio::join!(stopping, watching);
    assert_eq!(begun.elapsed(), Duration::from_secs(8));
    seconds(60).await;
    assert_eq!(world.writes(), [deregister("n1:web:80")]);
    world.docker.start(&ids[0]);
    world.settles(AT_ONCE).await;
    assert_eq!(world.writes(), [register("n1:web:80")]);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn who_survives_the_stop_signal_is_back_after_the_stop_timeout() {
    let (world, ids) = with(&["web"]).await;
    world.docker.kill(&ids[0], 15);
    seconds(9).await;
    assert_eq!(world.ids(), Vec::<String>::new());
    seconds(3).await;
    assert_eq!(world.writes(), [deregister("n1:web:80"), register("n1:web:80")]);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_critical_all_the_way_and_stays_registered() {
    let (world, ids) = with(&["web"]).await;
    seconds(60).await;
    world.docker.crash(&ids[0], 1);
    sleep(AT_ONCE).await;
    world.docker.start(&ids[0]);
    sleep(AT_ONCE).await;
    assert_eq!(world.status("n1:web:80").unwrap().0, Status::Passing, "a crash after a long run is a restart");
    world.writes();
    for _ in 0..5 {
        seconds(2).await;
        world.docker.crash(&ids[0], 1);
        seconds(1).await;
        world.docker.start(&ids[0]);
    }
    sleep(AT_ONCE).await;
    let writes = world.writes();
    let never_passing = !writes.contains(&update("n1:web:80", Status::Passing));
    // Each time: critical, with another port, and with another reason.
    assert!(never_passing && writes.len() <= 15, "{writes:?}");
    seconds(11).await;
    assert_eq!(world.writes(), [update("n1:web:80", Status::Passing)]);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_rename_and_a_replacement_leave_no_gap() {
    let (world, ids) = with(&["web"]).await;
    world.docker.rename(&ids[0], "shop");
    world.settles(AT_ONCE).await;
    assert_eq!(world.writes(), [register("n1:shop:80"), deregister("n1:web:80")]);
    // As `docker compose up` and the healer do it.
    let new = world.docker.run(web("shop.new-0123abcd"));
    sleep(AT_ONCE).await;
    assert_eq!(world.writes(), []);
    world.docker.rename(&ids[0], "shop.old-0123abcd");
    world.docker.rename(&new, "shop");
    world.settles(AT_ONCE).await;
    world.docker.kill(&ids[0], 15);
    world.docker.remove(&ids[0]);
    seconds(5).await;
    assert_eq!(world.writes(), [register("n1:shop:80")], "it changes hands in one write");
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_network_follows_its_owner() {
    let (world, ids) = with(&["web"]).await;
    let side = world.docker.run(bare("side").sharing(&ids[0]));
    world.docker.run(bare("far").sharing(&side));
    world.settles(AT_ONCE).await;
    assert_eq!(world.ids(), ["n1:far:80", "n1:side:80", "n1:web:80"]);
    world.docker.exit(&ids[0], 1);
    world.settles(AT_ONCE).await;
    assert_eq!(world.ids(), Vec::<String>::new());
    world.docker.start(&ids[0]);
    world.settles(AT_ONCE).await;
    world.docker.remove(&ids[0]);
    world.settles(AT_ONCE).await;
    end(world).await;
}

// --- Docker fails ----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_event_stream_is_cut_again_and_again() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    for round in 0..5 {
        world.docker.cut();
        world.docker.run(web(&format!("new{round}")));
        sleep(Duration::from_millis(300)).await;
    }
    world.docker.cut();
    churn(&world, &ids, "x").await;
    world.settles(SOON).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn docker_is_away_for_ten_seconds_while_containers_die_and_start() {
    for mood in [Mood::Refusing, Mood::Unwell, Mood::Frozen] {
        let (world, ids) = with(&["a", "b", "c", "d"]).await;
        world.docker.mood(mood);
        if mood == Mood::Unwell {
            world.docker.cut();
        }
        churn(&world, &ids, "x").await;
        seconds(10).await;
        assert_eq!(world.writes(), [], "{mood:?}: unknown is not gone");
        world.docker.mood(Mood::Up);
        // Half-open: the silence is noticed after ten seconds, the missing answer after five more, and a call that was
        // under way ends after ten.
        world.settles(if mood == Mood::Frozen { Duration::from_secs(16) } else { SOON }).await;
        end(world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn docker_is_away_for_an_hour_and_nothing_is_taken_away() {
    for mood in [Mood::Refusing, Mood::Unwell, Mood::Frozen] {
        let (world, _) = with(&["a", "b", "c"]).await;
        world.docker.mood(mood);
        seconds(3600).await;
        assert_eq!(world.writes(), [], "{mood:?}");
        assert_eq!(world.ids().len(), 3);
        let calls = world.docker.calls();
        assert!(calls.info < 3600 && calls.inspect < 20 && calls.list < 30, "{mood:?}: not hot: {calls:?}");
        world.docker.mood(Mood::Up);
        world.settles(Duration::from_secs(20)).await;
        end(world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goes_silent_while_calls_are_answered_is_noticed_at_the_next_full_look() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.docker.strand();
    churn(&world, &ids, "x").await;
    world.settles(RESYNC).await;
    seconds(5).await;
    assert!(world.metric("remora_docker_event_stream_restarts_total") >= 1.0, "it was opened anew");
    // And from then on everything is heard at once again.
    world.docker.run(web("late"));
    world.settles(AT_ONCE).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_works_is_not_opened_anew() {
    let (world, ids) = with(&["a", "b"]).await;
    for round in 0..200 {
        seconds(7).await;
        if round % 2 == 0 { world.docker.exit(&ids[0], 1) } else { world.docker.start(&ids[0]) }
    }
    assert!(world.metric("remora_docker_event_stream_restarts_total") < 1.0);
    assert_eq!(world.docker.calls().streams, 1);
    world.settles(AT_ONCE).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn docker_lost_right_after_a_surprising_list_is_waited_for_and_not_spun_for() {
    let (world, ids) = with(&["a", "b"]).await;
    // The list shows what no event told, and within the three seconds in which one may still come, Docker is gone. A loop
    // that runs hot would keep this clock from ever moving on.
    world.docker.lose_events(true);
    world.docker.exit(&ids[0], 1);
    world.settles(RESYNC).await;
    world.docker.mood(Mood::Refusing);
    seconds(60).await;
    world.docker.lose_events(false);
    world.docker.mood(Mood::Up);
    world.settles(SOON).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_of_before_a_reconnect_does_not_stand_for_the_one_that_it_owes() {
    let (world, ids) = with(&["a", "b"]).await;
    world.docker.set_list_latency(Duration::from_secs(8));
    // The list is asked for; then the stream is cut, and nobody tells what happens in the gap.
    seconds(30).await;
    world.docker.cut();
    world.docker.lose_events(true);
    world.docker.exit(&ids[0], 1);
    world.docker.lose_events(false);
    world.docker.set_list_latency(Duration::ZERO);
    world.settles(Duration::from_secs(2)).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn the_daemon_is_restarted() {
    for live_restore in [true, false] {
        let (world, ids) = with(&["a", "b", "c", "d"]).await;
        world.docker.mood(Mood::Refusing);
        world.docker.restart(live_restore);
        seconds(3).await;
        world.docker.mood(Mood::Up);
        if live_restore {
            seconds(10).await;
            assert_eq!(world.writes(), []);
            churn(&world, &ids, "x").await;
        }
        world.settles(SOON).await;
        end(world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn more_happens_in_a_gap_than_the_engine_remembers() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.docker.cut();
    churn(&world, &ids, "x").await;
    let busy = world.docker.run(web("busy"));
    for _ in 0..200 {
        world.docker.pause(&busy, true);
        world.docker.pause(&busy, false);
    }
    world.settles(SOON).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn lost_events_cost_at_most_one_full_look() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.docker.lose_events(true);
    churn(&world, &ids, "x").await;
    world.docker.lose_events(false);
    world.settles(RESYNC).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_slow_or_old_take_nothing_away() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.docker.set_list_latency(Duration::from_secs(6));
    seconds(31).await;
    churn(&world, &ids, "x").await;
    world.settles(AT_ONCE).await;
    world.stays_right(Duration::from_secs(120)).await;
    world.docker.set_list_latency(Duration::from_secs(60));
    world.stays_right(Duration::from_secs(300)).await;
    world.docker.set_list_latency(Duration::ZERO);
    // A list that takes a minute has timed out and cost the connection: the way back may take its longest pause.
    seconds(15).await;
    world.docker.freeze_list(true);
    world.docker.run(web("unlisted"));
    world.settles(AT_ONCE).await;
    world.stays_right(Duration::from_secs(300)).await;
    world.docker.freeze_list(false);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_stays_as_it_was_and_harms_nobody_else() {
    let (world, ids) = with(&["a", "b", "c"]).await;
    world.docker.garble(&ids[0], true);
    world.docker.jam(&ids[1], true);
    world.docker.exit(&ids[2], 1);
    world.docker.run(web("d"));
    world.docker.attach(&ids[0], "n", true);
    world.docker.attach(&ids[1], "n", true);
    world.settles(AT_ONCE).await;
    world.stays_right(Duration::from_secs(300)).await;
    assert_eq!(world.writes(), [deregister("n1:c:80"), register("n1:d:80")]);
    let looks = world.docker.calls().inspect;
    world.stays_right(Duration::from_secs(60)).await;
    assert!(world.docker.calls().inspect - looks < 40, "looked at again, but not all the time");
    world.docker.exit(&ids[0], 1);
    world.docker.exit(&ids[1], 1);
    seconds(60).await;
    assert_eq!(world.ids().len(), 3, "nobody has said that they ended");
    world.docker.garble(&ids[0], false);
    world.docker.jam(&ids[1], false);
    world.settles(Duration::from_secs(20)).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_word_that_nobody_knows_is_critical_and_takes_nothing_away() {
    let (world, ids) = with(&["a", "b"]).await;
    world.docker.speak_oddly(&ids[0], Some("levitating"));
    seconds(40).await;
    assert_eq!(world.writes(), [update("n1:a:80", Status::Critical)]);
    assert_eq!(world.status("n1:a:80").unwrap().1, "Docker says 'levitating'");
    world.docker.speak_oddly(&ids[0], None);
    world.settles(RESYNC).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn short_lives_leave_nothing_behind() {
    let (world, _) = with(&[]).await;
    for number in 0..50 {
        let id = world.docker.run(web(&format!("short{number}")).auto_remove());
        sleep(Duration::from_millis(number % 4)).await;
        world.docker.exit(&id, 0);
        let kept = world.docker.run(web(&format!("brief{number}")));
        world.docker.exit(&kept, 0);
        if number % 2 == 0 {
            world.docker.start(&kept);
        }
    }
    world.settles(AT_ONCE).await;
    world.docker.set_latency(Duration::from_millis(20));
    for number in 50..100 {
        let id = world.docker.run(web(&format!("short{number}")).auto_remove());
        sleep(Duration::from_millis(number)).await;
        world.docker.exit(&id, 0);
    }
    world.settles(Duration::from_secs(1)).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn three_hundred_at_once_come_and_go() {
    let (world, _) = with(&[]).await;
    world.docker.set_latency(Duration::from_millis(2));
    let ids: Vec<ContainerId> = (0..300).map(|number| world.docker.run(web(&format!("web{number}")))).collect();
    world.settles(Duration::from_secs(2)).await;
    assert_eq!(world.writes().len(), 300);
    for id in &ids {
        world.docker.kill(id, 9);
    }
    world.settles(Duration::from_secs(2)).await;
    assert_eq!(world.writes().len(), 300);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn another_engine_at_the_same_address_ends_the_observation() {
    let (mut world, _) = with(&["a"]).await;
    world.docker.replaced_by("ENGINE000009");
    world.docker.cut();
    seconds(5).await;
    assert!(!world.is_running(), "it begins anew, with the other one");
    assert_eq!(world.writes(), []);
    world.kill().await;
}

// --- Consul fails ----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn consul_forgets_everything() {
    let (world, _) = with(&["a", "b", "c"]).await;
    seconds(1).await;
    world.writes();
    world.wire.wipe();
    world.settles(AT_ONCE).await;
    assert_eq!(world.writes().len(), 3);
    // The same with a Consul that is away for a moment.
    world.consul.fail_all(Some(unreachable()));
    world.wire.wipe();
    seconds(2).await;
    world.consul.fail_all(None);
    world.settles(SOON).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn consul_is_down_while_twenty_containers_start_and_ten_die() {
    for down in [unreachable(), unwell()] {
        let names: Vec<String> = (0..10).map(|number| format!("old{number}")).collect();
        let (world, ids) = with(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.consul.fail_all(Some(down));
        for number in 0..20 {
            world.docker.run(web(&format!("new{number}")));
        }
        for id in &ids {
            world.docker.kill(id, 9);
        }
        seconds(60).await;
        let tried = world.writes().len();
        assert!(tried < 40, "{tried} writes into the void");
        world.consul.fail_all(None);
        world.settles(SOON).await;
        assert_eq!(world.writes().iter().filter(|call| call.is_write()).count(), 30, "one write each");
        end(world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn consul_hangs_and_then_answers() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.wire.hang(true);
    churn(&world, &ids, "x").await;
    seconds(40).await;
    world.wire.hang(false);
    world.settles(Duration::from_secs(16)).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_consul_that_does_not_answer_is_waited_for_asleep() {
    // Before the first read ever, and after everything was well.
    for well_before in [false, true] {
        let (mut world, _) = with(&["a"]).await;
        if !well_before {
            world.kill().await;
        }
        world.wire.hang(true);
        world.start();
        seconds(30).await;
        let (mut turns, mut last) = (0, world.view().last_tick);
        for _ in 0..10_000 {
            sleep(Duration::from_millis(1)).await;
            let tick = world.view().last_tick;
            turns += u32::from(tick != last);
            last = tick;
        }
        assert!(turns < 30, "{turns} turns of the loop in ten seconds");
        world.wire.hang(false);
        world.settles(Duration::from_secs(16)).await;
        end(world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_get_lost_are_neither_lost_nor_doubled_writes() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.wire.lose_answers(70);
    churn(&world, &ids, "x").await;
    seconds(120).await;
    world.wire.lose_answers(0);
    world.settles(Duration::from_secs(20)).await;
    let writes = world.writes();
    assert!(writes.len() < 40, "{writes:?}");
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn old_answers_undo_nothing() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.wire.set_answer_latency(Duration::from_millis(1_700));
    churn(&world, &ids, "x").await;
    world.settles(Duration::from_secs(15)).await;
    seconds(30).await;
    // Three ended, five came, one was started again and one has another name.
    let writes = world.writes();
    assert!(writes.len() <= 12, "{writes:?}");
    world.stays_right(Duration::from_secs(60)).await;
    assert_eq!(world.writes(), []);
    world.wire.set_answer_latency(Duration::ZERO);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_deregister_or_edit_is_back_within_five_seconds() {
    let (world, _) = with(&["a", "b", "c"]).await;
    for _ in 0..3 {
        world.consul.edit(|snapshot| {
            snapshot.services.remove("n1:a:80");
            Arc::make_mut(snapshot.services.get_mut("n1:b:80").unwrap()).port = 1;
            Arc::make_mut(snapshot.services.get_mut("n1:c:80").unwrap()).checks.clear();
        });
        world.settles(Duration::from_secs(5)).await;
        let mut writes = world.writes();
        writes.sort_by_key(|call| format!("{call:?}"));
        assert_eq!(writes, [register("n1:a:80"), register("n1:b:80"), register("n1:c:80")]);
        seconds(10).await;
        assert_eq!(world.writes(), []);
    }
    assert!((world.metric("remora_drift_repaired_total") - 9.0).abs() < 0.5, "each is counted once");
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn what_consul_refuses_is_told_and_holds_up_nobody() {
    for (error, again) in [(invalid(), 340), (forbidden(), 70)] {
        let (world, _) = with(&["a"]).await;
        world.wire.refuse(Some((":bad:", error)));
        world.docker.run(web("bad"));
        world.docker.run(web("good"));
        seconds(2).await;
        assert_eq!(world.ids(), ["n1:a:80", "n1:good:80"]);
        let view = world.view();
        assert_eq!((view.failing_count, view.failing[0].id.as_str()), (1, "n1:bad:80"));
        let tried = world.wire.count();
        seconds(60).await;
        assert!(world.wire.count() - tried <= 9, "not hot");
        world.wire.refuse(None);
        world.settles(Duration::from_secs(again)).await;
        seconds(11).await;
        assert_eq!(world.view().failing_count, 0);
        end(world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_without_rights_is_waited_for() {
    let (world, ids) = with(&["a", "b", "c", "d"]).await;
    world.consul.fail_all(Some(forbidden()));
    churn(&world, &ids, "x").await;
    seconds(600).await;
    assert!(world.consul.calls().len() < 200, "{} calls in ten minutes", world.consul.calls().len());
    world.consul.fail_all(None);
    world.settles(Duration::from_secs(65)).await;
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_registered_is_never_touched() {
    let mut world = World::new();
    let there = "d".repeat(64);
    let marked = |node, engine| {
        vec![
            ("managed-by", "remora"),
            ("remora-node", node),
            ("remora-engine", engine),
            ("container-id", there.as_str()),
        ]
    };
    for service in [
        foreign("n1:mail:25", "mail", &[]),
        foreign("n1:a:80", "not-web", &[]),
        foreign("N1:B:80", "not-web", &[]),
        foreign("n2:c:80", "web", &marked("n2", "ENGINE000001X")),
        foreign("n1:c:81", "web", &[("container-id", &there)]),
        foreign("n1:c:82", "web", &[("managed-by", "nomad"), ("container-id", &there)]),
    ] {
        world.wire.foreigner(&service);
    }
    let ids: Vec<ContainerId> = ["a", "b", "c"].iter().map(|name| world.docker.run(web(name))).collect();
    world.start();
    world.settles(AT_ONCE).await;
    world.kill().await;
    world.start();
    seconds(60).await;
    for id in &ids {
        world.docker.remove(id);
    }
    world.settles(AT_ONCE).await;
    assert_eq!(world.ids().len(), 6);
    end(world).await;
}

// --- the agent fails -------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_agent_is_killed_while_containers_come_and_go() {
    let (mut world, ids) = with(&["a", "b", "c", "d", "e", "f"]).await;
    world.consul.set_latency(Duration::from_millis(5));
    for round in 0..10 {
        world.docker.run(web(&format!("new{round}")));
        sleep(Duration::from_millis(round * 2)).await;
        world.kill().await;
        seconds(1).await;
        world.start();
    }
    world.kill().await;
    churn(&world, &ids, "x").await;
    seconds(30).await;
    world.start();
    world.settles(SOON).await;
    world.consul.set_latency(Duration::ZERO);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_nothing_goes_before_docker_has_said_so() {
    let (mut world, ids) = with(&["a", "b"]).await;
    world.kill().await;
    world.docker.remove(&ids[0]);
    world.docker.mood(Mood::Frozen);
    world.start();
    seconds(300).await;
    assert_eq!(world.writes(), []);
    world.docker.mood(Mood::Up);
    world.settles(Duration::from_secs(16)).await;
    assert_eq!(world.writes(), [deregister("n1:a:80")]);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_look_that_never_ends_does_not_keep_what_was_destroyed() {
    let (mut world, ids) = with(&["a", "b"]).await;
    world.kill().await;
    // The new agent looks at it when it is destroyed, and before it has read Consul for the first time.
    world.docker.jam(&ids[0], true);
    world.consul.set_latency(Duration::from_secs(2));
    world.start();
    seconds(1).await;
    world.docker.remove(&ids[0]);
    world.settles(Duration::from_secs(8)).await;
    world.consul.set_latency(Duration::ZERO);
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_took_anothers_place_while_nobody_looked_gets_its_id() {
    let (mut world, ids) = with(&["a"]).await;
    world.kill().await;
    world.docker.remove(&ids[0]);
    world.docker.run(web("a"));
    world.start();
    world.settles(AT_ONCE).await;
    // Two if the end of the one is told before the other one has been looked at.
    let writes = world.writes();
    assert!(matches!(&writes[..], [.., last] if *last == register("n1:a:80")) && writes.len() <= 2, "{writes:?}");
    end(world).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_keeps_what_runs_and_says_so() {
    let (mut world, _) = with(&["a"]).await;
    seconds(1).await;
    world.stop().await;
    assert_eq!(world.ids(), ["n1:a:80"]);
    let (status, output) = world.own_check();
    assert_eq!(status, Status::Critical);
    assert!(output.contains("stopped on request"), "{output}");
}

#[tokio::test(start_paused = true)]
async fn two_agents_of_one_name_keep_their_own() {
    let (mut one, _) = with(&["web"]).await;
    let mut other = one.namesake();
    other.docker.run(web("web"));
    other.docker.run(web("db"));
    other.start();
    other.settles(AT_ONCE).await;
    seconds(120).await;
    one.stays_right(Duration::from_secs(10)).await;
    other.stays_right(Duration::from_secs(10)).await;
    assert_eq!(one.ids().len(), 3);
    // One is gone for good, and so is its own entry: after a minute the other one cleans up.
    other.kill().await;
    let own = other.own_id();
    one.consul.deregister(&own).await.unwrap();
    seconds(55).await;
    assert_eq!(one.ids().len(), 3, "it may be back");
    seconds(15).await;
    assert_eq!(one.ids(), ["n1:web:80"]);
    // And if it does come back, it has its own again.
    other.start();
    other.settles(AT_ONCE).await;
    one.kill().await;
    one.start();
    seconds(10).await;
    one.stays_right(Duration::from_secs(60)).await;
    other.stays_right(Duration::from_secs(60)).await;
    assert_eq!(other.wire.violations(), Vec::<String>::new());
    end(one).await;
}

#[tokio::test(start_paused = true)]
async fn hostile_labels_hurt_nobody_else() {
    let (world, _) = with(&["good"]).await;
    fastrand::seed(7);
    let keys =
        ["SERVICE_ID", "SERVICE_NAME", "SERVICE_TAGS", "SERVICE_80_NAME", "SERVICE_CHECK_HTTP", "SERVICE_CHECK_TTL"];
    let pieces =
        ["n1:good:80", "remora", "..", "/", "a//b", "\u{0}", "%2e", "ü", " ", ",", "x", ":docker", "service:", "{{"];
    let own = world.own_id();
    for number in 0..500 {
        let mut spec = web(&format!("bad{number}"));
        for _ in 0..fastrand::usize(1..4) {
            let mut value = String::new();
            for _ in 0..fastrand::usize(0..4) {
                value.push_str(pieces[fastrand::usize(0..pieces.len())]);
            }
            if fastrand::u8(0..20) == 0 {
                value.clone_from(&own);
            }
            if fastrand::u8(0..20) == 0 {
                value = "long".repeat(500);
            }
            spec = spec.label(keys[fastrand::usize(0..keys.len())], &value);
        }
        world.docker.run(spec);
    }
    seconds(20).await;
    assert_eq!(world.status("n1:good:80").unwrap().0, Status::Passing);
    assert_eq!(world.consul.snapshot().services[own.as_str()].name, "remora");
    let tried = world.wire.count();
    seconds(60).await;
    assert!(world.wire.count() - tried < 600, "{} writes in a minute", world.wire.count() - tried);
    let good = world.docker.run(web("late"));
    seconds(1).await;
    assert!(world.status("n1:late:80").is_some());
    world.docker.remove(&good);
    seconds(1).await;
    assert!(world.status("n1:late:80").is_none());
    // They go as they came.
    for container in world.docker.containers() {
        if container.name != "good" {
            world.docker.remove(&container.id);
        }
    }
    world.settles(SOON).await;
    end(world).await;
}
