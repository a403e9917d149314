//! On the fake, with a paused clock.

use std::sync::Arc;
use std::time::Duration;

use remora::cluster::{Leave, Settings};
use remora::consul::{ConsulError, Status};
use tokio::time::{Instant, sleep};

use super::agents::{Agent, SECOND, TTL, settings, until};
use super::fake_store::FakeStore;
use super::members_conformance;

const LONG: Duration = Duration::from_secs(600);

fn outage() -> ConsulError {
    ConsulError::Unwell { status: 500, call: "any", message: "No cluster leader".to_owned() }
}

/// Agents on `n1` to `n<count>`, the first of them the leader, on a Consul of theirs.
async fn cluster(count: usize) -> (Arc<FakeStore>, Vec<Agent>) {
    let consul = Arc::new(FakeStore::new());
    let mut agents = Vec::new();
    for number in 1..=count {
        let node = format!("n{number}");
        consul.add_node(&node, true);
        agents.push(Agent::start(&consul, settings(&node), true));
        if number == 1 {
            until("elected", LONG, async || agents[0].leads()).await;
        }
    }
    until("all present", LONG, async || agents[0].nodes("present") == count && live(&consul) == count).await;
    (consul, agents)
}

/// How many keys say that somebody lives.
fn live(consul: &FakeStore) -> usize {
    consul.entries().keys().filter(|key| key.starts_with("remora/cluster/live/")).count()
}

fn status(consul: &FakeStore, node: &str) -> Status {
    consul.node_status(node).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    let consul = FakeStore::new();
    consul.add_node("m1", true);
    consul.add_node("m2", true);
    consul.add_node("other", false);
    members_conformance::conforms(&consul, &consul).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_is_marked_and_passes_again_when_it_is_back_and_right() {
    let (consul, mut agents) = cluster(3).await;
    consul.add_node("db", false);
    let died = Instant::now();
    agents.pop().unwrap().kill();
    until("marked", LONG, async || status(&consul, "n3") == Status::Critical).await;
    assert!(died.elapsed() <= 2 * TTL + 2 * SECOND, "{:?}", died.elapsed());
    let check = consul.node("n3").unwrap().check.unwrap();
    assert!(check.output.starts_with("node n3 has not been heard of since 2"), "{}", check.output);
    assert!(check.output.contains("its instances are kept until 2"), "{}", check.output);
    assert_eq!((check.notes.as_str(), check.name.as_str()), ("notes", "Remora on this node"));
    assert!(consul.text("remora/cluster/gone/n3").unwrap().ends_with('Z'));
    until("seen", LONG, async || agents[0].nodes("gone") == 1).await;

    let agent = Agent::start(&consul, settings("n3"), false);
    until("present", LONG, async || live(&consul) == 3).await;
    sleep(LONG).await;
    assert_eq!(status(&consul, "n3"), Status::Critical, "what it registers is not right yet");
    agent.right.send_replace(true);
    until("passing", SECOND, async || status(&consul, "n3") == Status::Passing).await;
    let output = consul.node("n3").unwrap().check.unwrap().output;
    assert!(output.starts_with("Remora of node n3 is present since 2"), "{output}");
    assert_eq!(consul.text("remora/cluster/gone/n3"), None);
    assert_eq!(status(&consul, "db"), Status::Passing);
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_written() {
    let (consul, _agents) = cluster(4).await;
    sleep(LONG).await;
    let before = consul.raft_index();
    consul.forget_calls();
    sleep(LONG).await;
    assert_eq!(consul.raft_index(), before);
    let calls = consul.calls();
    assert!(!calls.iter().any(|call| call == "transact" || call.starts_with("acquire")), "{calls:?}");
    // A renewal of four agents every second; their looks and those of a leader, and its renewals, every 3.3 s.
    let most = 4 * LONG.as_secs() + LONG.as_secs() * 2;
    assert!(calls.len() < usize::try_from(most).unwrap(), "{} calls", calls.len());
}

#[tokio::test(start_paused = true)]
async fn a_planned_restart_is_no_absence_and_leaves_no_session() {
    let (consul, mut agents) = cluster(3).await;
    let sessions = consul.sessions().len();
    let agent = agents.pop().unwrap();
    agent.stop().await;
    assert_eq!(live(&consul), 3, "it is only away for a moment");
    sleep(TTL).await;
    consul.forget_calls();
    let _agent = Agent::start(&consul, settings("n3"), true);
    for _ in 0..LONG.as_secs() {
        sleep(SECOND).await;
        assert_eq!((live(&consul), status(&consul, "n3")), (3, Status::Passing));
    }
    assert_eq!(consul.sessions().len(), sessions);
}

#[tokio::test(start_paused = true)]
async fn whoever_deregisters_at_the_end_ends_its_session() {
    let consul = Arc::new(FakeStore::new());
    consul.add_node("n1", true);
    let agent = Agent::start(&consul, Settings { leave: Leave::End, ..settings("n1") }, true);
    until("leading", LONG, async || agent.leads()).await;
    agent.stop().await;
    assert_eq!((live(&consul), consul.sessions().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_there_yet_is_waited_for() {
    let consul = Arc::new(FakeStore::new());
    let agent = Agent::start(&consul, settings("n1"), true);
    sleep(LONG).await;
    assert_eq!(live(&consul), 0);
    consul.add_node("n1", true);
    until("present", TTL, async || live(&consul) == 1).await;
    until("leading", TTL, async || agent.leads()).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_is_made_anew_and_shown_when_the_caller_has_looked_again() {
    let (consul, agents) = cluster(3).await;
    let key = "remora/cluster/live/n2";
    let session = consul.entries()[key].session.clone().unwrap();
    consul.kill_session(&session);
    consul.set_node_status("n2", Status::Critical);
    until("back", TTL / 2, async || {
        consul.entries().get(key).is_some_and(|entry| entry.session.as_ref() != Some(&session))
    })
    .await;
    sleep(10 * SECOND).await;
    assert_eq!(status(&consul, "n2"), Status::Critical, "what the caller said before was about another time");
    agents[1].right.send_replace(true);
    until("shown", SECOND, async || status(&consul, "n2") == Status::Passing).await;

    // A caller that tells only changes is believed after thirty seconds.
    consul.kill_session(&consul.entries()[key].session.clone().unwrap());
    consul.set_node_status("n2", Status::Critical);
    until("shown", 40 * SECOND, async || status(&consul, "n2") == Status::Passing).await;
    // So is the key alone that somebody deletes.
    consul.erase(key);
    until("back", TTL / 2, async || consul.entries().contains_key(key)).await;
}

#[tokio::test(start_paused = true)]
async fn a_namesake_takes_nothing() {
    let (consul, _agents) = cluster(2).await;
    let before = consul.entries()["remora/cluster/live/n2"].clone();
    let _other = Agent::start(&consul, Settings { engine: "another".to_owned(), ..settings("n2") }, true);
    sleep(LONG).await;
    assert_eq!(consul.entries()["remora/cluster/live/n2"], before);
}

#[tokio::test(start_paused = true)]
async fn another_one_leads_when_the_leader_dies_and_marks_it() {
    let (consul, mut agents) = cluster(3).await;
    agents.remove(0).kill();
    until("marked", 3 * TTL, async || status(&consul, "n1") == Status::Critical).await;
    assert_eq!(agents.iter().filter(|agent| agent.leads()).count(), 1);
    // A leader that is shut down gives the lock back at once.
    let leader = agents.iter().position(Agent::leads).unwrap();
    agents.remove(leader).stop().await;
    until("another", 5 * SECOND, async || agents[0].leads()).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_agents_make_few_sessions_for_one_lock() {
    let (consul, mut agents) = cluster(100).await;
    consul.forget_calls();
    agents.remove(0).stop().await;
    consul.set_latency(Duration::from_millis(5));
    until("another", 5 * SECOND, async || agents.iter().any(Agent::leads)).await;
    sleep(5 * SECOND).await;
    let sessions = consul.calls().iter().filter(|call| call.starts_with("session_on")).count();
    assert!(sessions <= 10, "{sessions} sessions");
    assert_eq!(agents.iter().filter(|agent| agent.leads()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_consul_is_unwell_nobody_is_marked() {
    let (consul, agents) = cluster(4).await;
    // Shorter than the sessions live, over and over again.
    for _ in 0..5 {
        consul.fail_all(Some(outage()));
        sleep(TTL).await;
        consul.fail_all(None);
        sleep(3 * TTL).await;
        assert!((1..=4).all(|number| status(&consul, &format!("n{number}")) == Status::Passing));
    }
    // So long that all sessions end: everybody vanishes and comes back.
    consul.fail_all(Some(outage()));
    sleep(5 * TTL).await;
    assert!(!agents.iter().any(Agent::leads), "who cannot renew leads no more");
    consul.fail_all(None);
    sleep(LONG).await;
    assert!((1..=4).all(|number| status(&consul, &format!("n{number}")) == Status::Passing));
    assert_eq!((live(&consul), agents.iter().filter(|agent| agent.leads()).count()), (4, 1));
    assert!(consul.entries().keys().all(|key| !key.contains("/gone/")));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_its_lock_is_given_away() {
    let consul = Arc::new(FakeStore::new());
    consul.add_node("n1", true);
    let agent = Agent::start(&consul, settings("n1"), true);
    until("leading", LONG, async || agent.leads()).await;
    let lock = || consul.entries()["remora/cluster/leader"].session.clone();
    let session = lock().unwrap();
    consul.fail_all(Some(outage()));
    sleep(TTL + SECOND).await;
    assert!(!agent.leads());
    assert_eq!(lock(), Some(session), "Consul gives it away much later");
}

#[tokio::test(start_paused = true)]
async fn a_majority_that_vanishes_is_not_marked_until_it_is_none_any_more() {
    let (consul, mut agents) = cluster(5).await;
    agents.drain(2..).for_each(Agent::kill);
    until("vanished", 3 * TTL, async || agents[0].nodes("vanished") == 3).await;
    sleep(LONG).await;
    assert!((1..=5).all(|number| status(&consul, &format!("n{number}")) == Status::Passing));
    // Not by another leader either.
    agents.remove(0).stop().await;
    until("another", TTL, async || agents[0].leads()).await;
    agents.push(Agent::start(&consul, settings("n1"), true));
    sleep(LONG).await;
    assert!((3..=5).all(|number| status(&consul, &format!("n{number}")) == Status::Passing));
    // One is back: the others may come in a moment, too. Then they are dead.
    agents.push(Agent::start(&consul, settings("n3"), true));
    sleep(2 * TTL).await;
    assert!((3..=5).all(|number| status(&consul, &format!("n{number}")) == Status::Passing));
    until("marked", TTL, async || ["n4", "n5"].iter().all(|node| status(&consul, node) == Status::Critical)).await;
    assert_eq!(status(&consul, "n3"), Status::Passing);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_marks_once() {
    let (consul, mut agents) = cluster(3).await;
    agents.pop().unwrap().kill();
    let before = consul.transactions();
    consul.lose_answers(1);
    until("marked", 3 * TTL, async || status(&consul, "n3") == Status::Critical).await;
    sleep(LONG).await;
    assert_eq!(consul.transactions(), before + 1);
    until("seen", LONG, async || agents[0].nodes("gone") == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_count_that_goes_backwards_and_data_that_are_lost_mark_nobody() {
    let (consul, agents) = cluster(4).await;
    consul.turn_back();
    sleep(LONG).await;
    assert_eq!((agents[0].leads(), agents[0].nodes("present")), (true, 4));
    // Everything is gone; the registries write their nodes again.
    consul.wipe();
    for number in 1..=4 {
        consul.add_node(&format!("n{number}"), true);
        sleep(SECOND).await;
    }
    sleep(LONG).await;
    assert!((1..=4).all(|number| status(&consul, &format!("n{number}")) == Status::Passing));
    assert_eq!((live(&consul), agents.iter().filter(|agent| agent.leads()).count()), (4, 1));
    assert!(consul.entries().keys().all(|key| !key.contains("/gone/")));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_loses_its_lock_in_the_middle_marks_nobody() {
    let (consul, mut agents) = cluster(4).await;
    agents.pop().unwrap().kill();
    until("vanished", 3 * TTL, async || agents[0].nodes("vanished") == 1).await;
    // It thinks again in a second, and each of its calls takes as long as this.
    consul.set_latency(SECOND / 2);
    sleep(2 * SECOND).await;
    assert_eq!(status(&consul, "n4"), Status::Passing);
    consul.erase("remora/cluster/leader");
    sleep(SECOND).await;
    assert_eq!(status(&consul, "n4"), Status::Passing, "its transaction began with a look at the lock");
    consul.set_latency(Duration::ZERO);
    until("marked by a leader", TTL, async || status(&consul, "n4") == Status::Critical).await;
    assert!(consul.entries()["remora/cluster/leader"].session.is_some());
    assert_eq!(agents.iter().filter(|agent| agent.leads()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_rights_leaves_it_to_others() {
    let (consul, mut agents) = cluster(3).await;
    agents.pop().unwrap().kill();
    consul.refuse_next(ConsulError::Forbidden { call: "transact", message: "Permission denied".to_owned() });
    until("refused", 3 * TTL, async || !consul.is_to_refuse()).await;
    until("left to the other", TTL, async || !agents[0].leads() && agents[1].leads()).await;
    until("marked", TTL, async || status(&consul, "n3") == Status::Critical).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_is_removed_after_the_reap_time_and_registers_anew() {
    let consul = Arc::new(FakeStore::new());
    let mut agents = Vec::new();
    for node in ["n1", "n2", "n3"] {
        consul.add_node(node, true);
        agents.push(Agent::start(&consul, Settings { reap: 60 * SECOND, ..settings(node) }, true));
    }
    until("led", LONG, async || agents.iter().any(Agent::leads) && live(&consul) == 3).await;
    agents.pop().unwrap().kill();
    until("marked", 3 * TTL, async || status(&consul, "n3") == Status::Critical).await;
    // The wall clock does not pause with the test's: what was written is older.
    consul.write("remora/cluster/gone/n3", "2020-01-01T00:00:00Z");
    sleep(50 * SECOND).await;
    assert!(consul.node("n3").is_some());
    until("removed", 65 * SECOND, async || consul.node("n3").is_none()).await;
    assert_eq!(consul.text("remora/cluster/gone/n3"), None);
    consul.add_node("n3", true);
    agents.push(Agent::start(&consul, settings("n3"), true));
    until("present", TTL, async || live(&consul) == 3).await;
    sleep(LONG).await;
    assert_eq!(status(&consul, "n3"), Status::Passing);
}
