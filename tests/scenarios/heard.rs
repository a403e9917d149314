//! What the observer's second listener hears.

use std::sync::Arc;
use std::time::Duration;

use remora::docker::observe::{Observed, Observer};
use remora::docker::{ContainerId, EventKind, HealthStatus, Heard, Seen, State};
use remora::telemetry::{DockerView, Metrics};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::fake_docker::{Behaviour, FakeDocker, Mood, Whom, bare};

struct Ears {
    heard: mpsc::Receiver<Heard>,
    observed: mpsc::Receiver<Observed>,
    asks: mpsc::Sender<ContainerId>,
    _view: watch::Receiver<DockerView>,
    _stops: tokio_util::sync::DropGuard,
}

/// An observer whose listener has a queue of this size.
fn listen(docker: &FakeDocker, size: usize) -> Ears {
    let (tell, observed) = mpsc::channel(256);
    let (asks, asked) = mpsc::channel(16);
    let (view, seen) = watch::channel(DockerView::starting(Instant::now()));
    let (told, heard) = mpsc::channel(size);
    let (engine, resync) = (Arc::new(docker.clone()), Duration::from_secs(30));
    let metrics = Arc::new(Metrics::new());
    let follower = Observer::new(engine, "ENGINE000001".to_owned(), resync, tell, asked, view, metrics);
    let shutdown = CancellationToken::new();
    tokio::spawn(follower.with_listener(told).run(shutdown.clone()));
    Ears { heard, observed, asks, _view: seen, _stops: shutdown.drop_guard() }
}

impl Ears {
    /// What is heard until it is this, and that.
    async fn until(&mut self, is_it: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut all = Vec::new();
        while !all.last().is_some_and(&is_it) {
            let next = timeout(Duration::from_secs(60), self.heard.recv()).await;
            all.push(next.unwrap_or_else(|_| panic!("never heard, after {all:?}")).unwrap());
        }
        all
    }

    fn so_far(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

/// The words of the events, and names for the rest.
fn words(heard: &[Heard]) -> Vec<&str> {
    fn word(heard: &Heard) -> &str {
        match heard {
            Heard::Event(event) | Heard::Remembered(event) => event.kind.as_str(),
            Heard::Seen(_) => "(seen)",
            Heard::Gone(_) => "(gone)",
            Heard::Lost => "(lost)",
            Heard::Connected => "(connected)",
            Heard::Complete => "(complete)",
            Heard::Missed => "(missed)",
        }
    }
    heard.iter().map(word).collect()
}

#[tokio::test(start_paused = true)]
async fn history_reaches_the_listener_and_nobody_else() {
    let docker = FakeDocker::default();
    let ancient = docker.run(bare("ancient"));
    docker.remove(&ancient);
    sleep(Duration::from_secs(700)).await;
    let web = docker.run(bare("web"));
    sleep(Duration::from_secs(300)).await;
    docker.kill(&web, 15);
    sleep(Duration::from_secs(3)).await;

    let mut ears = listen(&docker, 64);
    let heard = ears.until(|heard| *heard == Heard::Complete).await;
    assert_eq!(words(&heard), ["(connected)", "connect", "start", "kill", "(seen)", "(complete)"]);
    assert!(heard.iter().all(|heard| !matches!(heard, Heard::Remembered(event) if event.container == ancient)));
    assert!(!heard.iter().any(|heard| matches!(heard, Heard::Event(_))), "all of it was before: {heard:?}");
    let first = ears.observed.recv().await.unwrap();
    let Observed::Change(change) = first else { panic!("{first:?}") };
    let Seen::Here(sight) = change.seen else { panic!("{change:?}") };
    assert!(!sight.draining, "it was asked to end before anybody looked");
    assert_eq!(change.heard, None, "no event led to it");

    // What happens now is for both.
    docker.kill(&web, 15);
    ears.until(|heard| matches!(heard, Heard::Event(event) if event.kind == EventKind::Kill(Some(15)))).await;
    loop {
        if let Observed::Change(change) = ears.observed.recv().await.unwrap()
            && let Seen::Here(sight) = change.seen
            && sight.draining
        {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_run_is_seen_too_and_concerns_nobody_else() {
    let docker = FakeDocker::default();
    let dead = docker.run(bare("dead"));
    docker.exit(&dead, 3);
    sleep(Duration::from_secs(60)).await;
    let mut ears = listen(&docker, 64);
    let heard = ears.until(|heard| *heard == Heard::Complete).await;
    assert!(heard.iter().any(|heard| matches!(heard, Heard::Seen(container) if container.exit_code == 3)));
    assert_eq!(ears.observed.recv().await, Some(Observed::Complete));
    // No event tells that one is made.
    let made = docker.create(bare("made"));
    sleep(Duration::from_secs(40)).await;
    let heard = ears.so_far();
    assert_eq!(words(&heard), ["(seen)"], "the next list shows it, and that does not look like a deaf stream");
    assert!(matches!(&heard[0], Heard::Seen(container) if container.id == made));
    assert!(ears.observed.try_recv().is_err());
    // Whoever asks is told.
    ears.asks.send(dead.clone()).await.unwrap();
    let told = ears.observed.recv().await.unwrap();
    assert!(matches!(told, Observed::Change(change) if change.id == dead));
    docker.start(&made);
    let told = ears.observed.recv().await.unwrap();
    assert!(matches!(told, Observed::Change(change) if change.id == made && change.heard.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_goes_on_where_it_was() {
    let docker = FakeDocker::default();
    let web = docker.run(bare("web"));
    let mut ears = listen(&docker, 64);
    ears.until(|heard| *heard == Heard::Complete).await;
    sleep(Duration::from_secs(5)).await;
    ears.so_far();
    docker.mood(Mood::Refusing);
    assert_eq!(words(&ears.until(|heard| *heard == Heard::Lost).await), ["(lost)"]);
    docker.exit(&web, 3);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(ears.so_far(), [], "lost is told once, however often it is tried");
    docker.mood(Mood::Up);
    let heard = ears.until(|heard| matches!(heard, Heard::Seen(_))).await;
    assert_eq!(words(&heard), ["(connected)", "die", "disconnect", "(seen)"], "nothing twice, nothing of before");
    let codes: Vec<_> = heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Event(event) => Some(event.exit_code),
            _ => None,
        })
        .collect();
    assert_eq!(codes, [Some(3), None]);
    let Some(Heard::Seen(container)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!((&container.state, container.exit_code), (&State::Exited, 3));
    docker.remove(&web);
    let heard = ears.until(|heard| matches!(heard, Heard::Gone(_))).await;
    assert!(words(&heard).ends_with(&["destroy", "(gone)"]), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn history_is_asked_for_again_until_it_was_heard() {
    let docker = FakeDocker::default();
    docker.run(bare("web"));
    sleep(Duration::from_secs(60)).await;
    docker.mood(Mood::Frozen);
    let mut ears = listen(&docker, 64);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ears.so_far(), []);
    docker.mood(Mood::Up);
    let heard = ears.until(|heard| *heard == Heard::Complete).await;
    assert_eq!(words(&heard), ["(connected)", "connect", "start", "(seen)", "(complete)"]);
    docker.cut();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(words(&ears.so_far()), ["(lost)", "(connected)"], "no history twice, nothing looks different");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_listen_is_told_that_and_stops_nobody() {
    let docker = FakeDocker::default();
    let web = docker.run(bare("web"));
    let mut ears = listen(&docker, 2);
    for _ in 0..10 {
        docker.pause(&web, true);
        docker.pause(&web, false);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(ears.so_far().len(), 2);
    docker.pause(&web, true);
    sleep(Duration::from_secs(1)).await;
    let heard = ears.so_far();
    assert_eq!(words(&heard)[0], "(missed)");
    // The worker was told all along.
    let mut last = None;
    while let Ok(observed) = ears.observed.try_recv() {
        if let Observed::Change(change) = observed
            && let Seen::Here(sight) = change.seen
        {
            last = Some(sight);
        }
    }
    assert_eq!(last.unwrap().container.state, State::Paused);
    // What has to be told is told when there is room.
    let mut all = heard;
    while !all.contains(&Heard::Complete) {
        sleep(Duration::from_secs(11)).await;
        let more = ears.so_far();
        assert!(!more.is_empty(), "{all:?}");
        all.extend(more);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_does_by_itself_is_heard() {
    let docker = FakeDocker::default();
    let crash = Behaviour::default().healthy_after(Duration::from_secs(2)).exits_after(Duration::from_secs(5), 3);
    docker.behave(Whom::Named("web".to_owned()), crash);
    let mut ears = listen(&docker, 256);
    let web = docker.run(bare("web").health_check().restart_policy("on-failure"));
    let second = |heard: &Heard| matches!(heard, Heard::Seen(container) if container.restart_count == 2);
    let heard = ears.until(second).await;
    let mut events = words(&heard);
    events.retain(|word| !word.starts_with('(') && !word.ends_with("connect"));
    assert_eq!(events, ["start", "health_status", "die", "start", "health_status", "die"]);
    let healthy = |heard: &Heard| {
        let Heard::Seen(container) = heard else { return false };
        container.health.as_ref().is_some_and(|health| health.status == HealthStatus::Healthy)
    };
    assert!(heard.iter().any(healthy));
    // Stopped, it stays so.
    docker.stop(&web, Duration::from_millis(100)).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(docker.facts(&web).unwrap().state, State::Exited);
    // At the daemon's next start only those come back that nobody has stopped.
    let always = docker.run(bare("always").restart_policy("always"));
    let unless = docker.run(bare("unless").restart_policy("unless-stopped"));
    for id in [&always, &unless] {
        docker.stop(id, Duration::from_millis(100)).await;
    }
    docker.reboot();
    assert_eq!(docker.facts(&always).unwrap().state, State::Running);
    assert_eq!(docker.facts(&unless).unwrap().state, State::Exited);
}
