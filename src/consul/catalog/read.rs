//! Reading our node: what is on it, and that something on it changed.

use std::future::Future;
use std::hash::BuildHasher as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::node::NodeIdentity;
use super::state::{Seen, Shared};
use super::view::{Kind, View};
use crate::consul::client::{Answer, Call, Client};
use crate::consul::error::ConsulError;
use crate::consul::model::{ActualService, Snapshot};
use crate::consul::txn::{NodeLook, rule};
use crate::consul::wire::{self, go_duration};
use crate::text::Texts;

const SERVICES: &str = "GET /v1/catalog/node-services/:node";
const CHECKS: &str = "GET /v1/health/node/:node";

/// Consul holds a query back so long at most: below the minute after which middleboxes cut silent connections, and the
/// longest time that a query with an index from before a restore of Consul's data stays blind.
const HELD: Duration = Duration::from_secs(45);

/// The shortest time between two queries of one kind. Our own writes end a query too: this is what they cost at most, five
/// answers in a second.
const SHORTEST: Duration = Duration::from_millis(200);

/// So many rows are in an answer for each [`SHORTEST`] that has to pass before the next one: each is the whole list, and with ten
/// thousand containers a hundred changes in a second would have it read all the time. What nobody changes is told at once all the same.
const ROWS: usize = 100;

/// An answer may be quicker than the one to the write that it shows. So long is waited for that before somebody else is
/// thought to have written.
const WRITING: Duration = Duration::from_secs(2);

/// The two answers about a node, and what they mean together.
struct Answers {
    services: Vec<u8>,
    checks: Vec<u8>,
}

/// One after the other, in this order: a service is written together with its checks, so whoever is in the first answer has
/// its checks in the second.
async fn ask(client: &Client, node: &NodeIdentity) -> Result<Answers, ConsulError> {
    let services = list(client, SERVICES, &["v1", "catalog", "node-services", node.name()], &[], None).await?.body;
    let checks = list(client, CHECKS, &["v1", "health", "node", node.name()], &[], None).await?.body;
    Ok(Answers { services, checks })
}

/// A list of the catalog; with an index it is held back until there is a younger one.
async fn list(
    client: &Client,
    name: &'static str,
    path: &[&str],
    query: &[(&str, &str)],
    index: Option<u64>,
) -> Result<Answer, ConsulError> {
    let (index, wait) = (index.map(|index| index.to_string()), go_duration(HELD));
    let mut query = query.to_vec();
    let mut held = Duration::ZERO;
    if let Some(index) = &index {
        query.extend([("index", index.as_str()), ("wait", wait.as_str())]);
        held = HELD;
    }
    match client.call(Call { query: &query, held, ..Call::get(name, path) }).await {
        Err(ConsulError::NotFound { call, .. }) => Err(ConsulError::Unreadable {
            call,
            reason: "404: there is no Consul at this address, or its path is another one".to_owned(),
        }),
        other => other,
    }
}

/// What is on the node now, and the hash of what was answered; [`NodeIdentity::owns`] is for the caller to ask.
///
/// A missing node is either missing, or hidden from our token: a list is shortened without a word. So it is asked for by
/// name, and only a clear no is believed.
async fn believed(client: &Client, node: &NodeIdentity) -> Result<Answers, ConsulError> {
    for _ in 0..2 {
        let answers = ask(client, node).await?;
        if wire::node_services(SERVICES, &answers.services)?.node.is_some() {
            return Ok(answers);
        }
        match client.look_at_node(node.name()).await? {
            NodeLook::Missing => return Ok(answers),
            NodeLook::Hidden => {
                let message = format!("it does not show the node: it needs {}", rule("node", node.name(), "read"));
                return Err(ConsulError::Forbidden { call: SERVICES, message });
            }
            // Made in the moment between the two.
            NodeLook::Visible => {}
        }
    }
    let reason = "it does not show the node, although that exists".to_owned();
    Err(ConsulError::Unreadable { call: SERVICES, reason })
}

/// What is on the node now, for whoever holds no picture of before.
pub(super) async fn look(client: &Client, node: &NodeIdentity) -> Result<View, ConsulError> {
    Ok(understood(&believed(client, node).await?, &Snapshot::default(), Texts::default())?.0)
}

fn understood(answers: &Answers, older: &Snapshot, mut texts: Texts) -> Result<(View, Snapshot), ConsulError> {
    let services = wire::node_services(SERVICES, &answers.services)?;
    let checks = wire::node_checks(CHECKS, &answers.checks, &mut texts)?;
    View::new(&services, checks, older)
}

impl Shared {
    /// What is registered on our node.
    pub(super) async fn read(&self, written: Vec<Arc<ActualService>>) -> Result<Arc<Snapshot>, ConsulError> {
        let (writes, credentials) = (self.state().writes(), self.client.credentials());
        let answers = believed(&self.client, &self.node).await?;
        let hash = self.hasher.hash_one((&answers.services, &answers.checks, credentials));
        let (older, texts) = {
            let state = self.state();
            match &state.seen {
                Some(seen) if seen.hash == hash && seen.deferred == state.deferrals && state.known => {
                    return Ok(Arc::clone(&seen.snapshot));
                }
                _ => state.before(),
            }
        };
        let (view, mut fresh) = understood(&answers, &older.with(written), texts)?;
        let owned = self.node.owns(&view);
        let mut state = self.state();
        state.show_deferred(&mut fresh);
        // What was written meanwhile may or may not be in the answers; our own writes are followed up elsewhere.
        if state.writes() == writes && !state.is_writing() {
            state.look_ended(view);
        }
        state.known &= owned.is_ok();
        owned?;
        // Something changed that nobody reads: still the same picture.
        let snapshot = if *older == fresh { older } else { Arc::new(fresh) };
        state.seen = Some(Seen { hash, deferred: state.deferrals, snapshot: Arc::clone(&snapshot) });
        Ok(snapshot)
    }

    /// A look for whoever is about to write.
    pub(super) async fn refresh(&self) -> Result<(), ConsulError> {
        let answers = believed(&self.client, &self.node).await?;
        let (older, texts) = self.state().before();
        let (view, _) = understood(&answers, &older, texts)?;
        self.state().look_ended(view);
        Ok(())
    }

    /// What is registered under this id in any case, the exact one first.
    pub(super) async fn find(&self, id: &str) -> Result<Option<ActualService>, ConsulError> {
        // It is never closed.
        let _permit = self.looks.acquire().await;
        // The filter is a Go string with a Go regular expression in it; Consul's grammar does not know `\"`.
        let pattern = regex_lite::escape(id).replace('\\', r"\\").replace('"', r"\x22");
        let filter = format!("ID matches \"(?i)^{pattern}$\"");
        let path = ["v1", "catalog", "node-services", self.node.name()];
        let answer = list(&self.client, SERVICES, &path, &[("filter", &filter)], None).await?;
        let found = wire::node_services(SERVICES, &answer.body)?.services().collect::<Result<Vec<_>, _>>()?;
        // Whoever does not know the filter answers with all of them.
        let any = |(service, _): &(ActualService, _)| service.id.to_lowercase() == id.to_lowercase();
        let at = found.iter().position(|(service, _)| service.id == id).or_else(|| found.iter().position(any));
        Ok(at.and_then(|at| found.into_iter().nth(at)).map(|(service, _)| service))
    }

    /// Whether somebody else than us changed something on the node, at once; `false` after `wait`.
    pub(super) async fn changed(&self, wait: Duration) -> Result<bool, ConsulError> {
        let end = Instant::now() + wait;
        let mut watch = self.watch.lock().await;
        let Some(queries) = watch.as_mut() else {
            *watch = Some(Queries {
                services: self.query(Kind::Services, None, Instant::now()),
                checks: self.query(Kind::Checks, None, Instant::now()),
            });
            return Ok(true);
        };
        loop {
            // The one that is not finished goes on: a query that is dropped stays a connection of Consul's until it ends,
            // and of these there are 200.
            let (kind, outcome) = tokio::select! {
                outcome = &mut queries.services => (Kind::Services, outcome),
                outcome = &mut queries.checks => (Kind::Checks, outcome),
                () = sleep_until(end) => return Ok(false),
            };
            let news = match outcome {
                Ok(found) => {
                    let next = self.query(kind, found.next, found.began + pause(found.rows.len()));
                    match kind {
                        Kind::Services => queries.services = next,
                        Kind::Checks => queries.checks = next,
                    }
                    self.is_news(kind, &found).await
                }
                Err(error) => {
                    *watch = None;
                    return Err(error);
                }
            };
            if news {
                return Ok(true);
            }
        }
    }

    async fn is_news(&self, kind: Kind, found: &Found) -> bool {
        let mut writing = self.writing.subscribe();
        // Whatever it is by then.
        let _late = timeout(WRITING, writing.wait_for(|writing| !writing)).await;
        let state = self.state();
        // Consul's count went backwards: its data was restored, and nothing can be compared.
        found.backwards || !state.known || state.view.is_news(kind, found.node, &found.rows, found.index)
    }

    fn query(&self, kind: Kind, index: Option<u64>, not_before: Instant) -> Query {
        let (client, node) = (self.client.clone(), self.node.clone());
        Box::pin(async move {
            sleep_until(not_before).await;
            let began = Instant::now();
            let (name, path) = match kind {
                Kind::Services => (SERVICES, ["v1", "catalog", "node-services", node.name()]),
                Kind::Checks => (CHECKS, ["v1", "health", "node", node.name()]),
            };
            let answer = list(&client, name, &path, &[], index).await?;
            let (of_node, rows) = match kind {
                Kind::Services => wire::service_indexes(name, &answer.body)?,
                Kind::Checks => (None, wire::check_indexes(name, &answer.body)?),
            };
            let said = answer.headers.get("x-consul-index").and_then(|index| index.to_str().ok()?.parse::<u64>().ok());
            // Below 1 it would not block.
            let said = said.unwrap_or(0).max(1);
            let backwards = index.is_some_and(|before| said < before);
            Ok(Found { node: of_node, rows, index: said, next: (!backwards).then_some(said), backwards, began })
        })
    }
}

/// From the beginning of a query to that of the next one.
fn pause(rows: usize) -> Duration {
    SHORTEST.saturating_mul(u32::try_from(rows.div_ceil(ROWS).max(1)).unwrap_or(u32::MAX)).min(HELD)
}

type Query = Pin<Box<dyn Future<Output = Result<Found, ConsulError>> + Send>>;

/// The two blocking queries.
pub(super) struct Queries {
    services: Query,
    checks: Query,
}

/// What a blocking query brought.
struct Found {
    node: Option<u64>,
    rows: wire::Rows,
    index: u64,
    /// For the next one.
    next: Option<u64>,
    backwards: bool,
    began: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_read_less_often() {
        assert_eq!([0, 1, 100].map(pause), [SHORTEST; 3]);
        assert_eq!(pause(1_000), SHORTEST * 10);
        assert_eq!(pause(usize::MAX), HELD);
    }
}
