//! `remora sync --once [--dry-run]`: makes Consul right once, or prints what would have to be done.
//!
//! The same book as the agent's decides; only the loop around it is another one. The agent's own service is left alone:
//! whoever runs this is not the agent, and never speaks for it ([`Book::say`]).

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::output::{add_line, complain, print};
use crate::agent::{self, Clients, external};
use crate::config::Config;
use crate::consul::{Class, Registry as _};
use crate::docker::{Change, ContainerId, DockerEngine, DockerError, Engine as _, Seen, Sight};
use crate::reconcile::Book;
use crate::reconcile::diff::Op;
use crate::reconcile::worker::write;
use crate::telemetry::logs::clean;

/// Looks at the same time.
const LOOKS: usize = 8;

/// A write that fails for a passing reason is tried again for so long.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(config: Config, clients: Clients, dry_run: bool) -> ExitCode {
    match sync(&config, clients, dry_run).await {
        Ok(outcome) => {
            let verb = if dry_run { "to do" } else { "done" };
            print(&format!("{} {verb}, {} failed\n", outcome.written, outcome.failed));
            match outcome {
                Outcome { failed: 1.., .. } => ExitCode::FAILURE,
                Outcome { written: 1.., .. } if dry_run => ExitCode::from(2),
                Outcome { .. } => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Outcome {
    written: usize,
    failed: usize,
}

async fn sync(config: &Config, clients: Clients, dry_run: bool) -> anyhow::Result<Outcome> {
    let Clients { docker: engine, consul: client } = clients;
    let info = engine.info().await?;
    let (settings, _, way) = agent::find_out(config, &engine, &client, &info).await;
    let (registry, writer) = external::registry(way.mode, &client, &external::node(&settings, &info.name));
    let (stop, mut writing) = (CancellationToken::new(), JoinSet::new());
    if let Some(writer) = writer {
        writing.spawn(writer.run(stop.clone()));
    }
    let mut config = config.clone();
    agent::healing::as_allowed(&mut config, &engine).await;
    let config = &config;
    let (own, healing) = (agent::own_service(&settings, config.http, way.mode), agent::healing_of(config, &settings));
    let mut book = Book::new(settings.clone(), healing, own);

    let listing = engine.list().await?;
    if listing.unreadable > 0 {
        complain(&format!("{} entries of Docker's list cannot be read; they are left alone", listing.unreadable));
    }
    let live = listing.containers.into_iter().filter(|line| line.live).map(|line| line.id).collect();
    let mut failed = look(&engine, &mut book, live).await;
    drop(book.reading());
    let snapshot = registry.read().await?;
    book.read(&snapshot, Instant::now(), || 0.5);
    // Whoever calls this has made up their mind.
    book.settle_in();
    let mut outcome = Outcome::default();
    let end = Instant::now() + PATIENCE;
    loop {
        while let Some((key, op)) = book.next(Instant::now()) {
            tell(&op);
            if dry_run {
                outcome.written += 1;
                book.done(&key, &op);
                continue;
            }
            match write(&registry, &op).await {
                Ok(()) => {
                    outcome.written += 1;
                    book.done(&key, &op);
                }
                Err(error) if error.class() == Class::Rejected && book.refuse(&key, &op).is_some() => {
                    complain(&clean(&format!("  refused with these checks: {error}")));
                }
                Err(error) => {
                    let now = Instant::now();
                    let last = error.class() != Class::Transient || now >= end;
                    complain(&clean(&format!("  failed: {error}")));
                    failed += usize::from(last);
                    let class = if last { Class::Rejected } else { Class::Transient };
                    book.failed(&key, class, &error.to_string(), now, fastrand::f64());
                }
            }
        }
        let asks = book.take_asks();
        match book.next_due() {
            _ if !asks.is_empty() => failed += look(&engine, &mut book, asks).await,
            Some(due) if due < end => tokio::time::sleep_until(due).await,
            _ => break,
        }
    }
    stop.cancel();
    while writing.join_next().await.is_some() {}
    outcome.failed = failed;
    Ok(outcome)
}

/// Looks at containers and tells the book. Returns how many could not be looked at.
async fn look(engine: &DockerEngine, book: &mut Book, ids: Vec<ContainerId>) -> usize {
    let mut failed = 0;
    let looks = ids.into_iter().map(|id| async move {
        let result = engine.inspect(id.as_str()).await;
        (id, result)
    });
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS);
    while let Some((id, result)) = looks.next().await {
        let seen = match result {
            Ok(container) => Seen::Here(Sight { container: container.into(), draining: false, settling: false }),
            Err(DockerError::NotFound(_)) => Seen::Gone,
            Err(error) => {
                complain(&format!("container {id}: {error}; what is registered for it is left alone"));
                failed += 1;
                continue;
            }
        };
        for told in book.change(Change { id, seen, heard: None }) {
            for note in told.notes {
                complain(&clean(&format!("{}: {}: {}", told.name, note.about, note.text)));
            }
        }
    }
    failed
}

fn tell(op: &Op) {
    let mut text = String::new();
    add_line(&mut text, &line(op));
    print(&text);
}

fn line(op: &Op) -> String {
    match op {
        Op::Register(service) => {
            format!("+ {} as {} at {}:{}", service.id, service.name, service.address, service.port)
        }
        Op::Deregister(id) => format!("- {id}"),
        Op::UpdateCheck { id, status, output } => format!("~ {id} {status}: {output}"),
        Op::RemoveCheck(id) => format!("- check {id}"),
    }
}
