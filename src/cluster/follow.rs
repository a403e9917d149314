//! What the leader does: it follows the live keys, asks the [judge](super::judge), and writes what that says, one transaction per
//! node. Each begins with *I am still the leader* and *the key is still gone*: what is not so any more writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, sleep_until};

use super::judge::{self, Brake, Judge, Now, Picture, Verdict};
use super::keys::{spelled, stamp};
use super::leader::{Lease, Lost, WAIT};
use super::{Room, Settings};
use crate::backoff::Backoff;
use crate::consul::members::Member;
use crate::consul::txn::{KvOp, NodeRow, Op, TxnResult, Why, Write};
use crate::consul::{ConsulError, Members, Status, Store};
use crate::telemetry::Metrics;

/// What one write came to.
enum Wrote {
    Done,
    /// Something has changed since it was looked at.
    Stale,
    /// Nobody knows.
    Failed,
    /// No leader writes any more.
    Over(Lost),
}

/// Everything that was read for one look.
struct Look {
    members: Vec<Member>,
    present: BTreeSet<String>,
    gone: BTreeMap<String, Option<SystemTime>>,
}

struct Follower<'a, M, S> {
    room: &'a Room<M, S>,
    lease: &'a Lease,
    metrics: &'a Metrics,
    judge: Judge,
    /// The nodes that were marked at the look before, for telling who is back.
    marked: BTreeSet<String>,
    braking: bool,
    backoff: Backoff,
}

/// Until this agent leads no more.
pub(super) async fn run<M: Members, S: Store>(room: &Room<M, S>, lease: &Lease, metrics: &Metrics) -> Lost {
    let settings = judge::Settings { ttl: room.settings.ttl, reap: room.settings.reap };
    let mut follower = Follower {
        room,
        lease,
        metrics,
        judge: Judge::new(&room.settings.node, settings),
        marked: BTreeSet::new(),
        braking: false,
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)),
    };
    follower.follow().await
}

impl<M: Members, S: Store> Follower<'_, M, S> {
    async fn follow(&mut self) -> Lost {
        let mut index = 0;
        let mut again: Option<Instant> = None;
        loop {
            let prefix = self.room.keys.lives();
            // A year is never, and no sum that overflows.
            let time = again.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
            let listing = tokio::select! {
                listing = self.room.store.list(&prefix, Some((index, WAIT))) => listing,
                () = sleep_until(time) => {
                    // It is time to think: with a list of now.
                    (index, again) = (0, None);
                    continue;
                }
            };
            let looked = match listing {
                Ok(listing) => {
                    let present = self.room.keys.present(&listing.entries);
                    self.look(present).await.map(|look| (look, listing.index))
                }
                Err(error) => Err(error),
            };
            let (look, at) = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    let wait =
                        self.failed(&error, "leader_blind", "the nodes could not be looked at: nothing is marked");
                    sleep(wait).await;
                    (index, again) = (0, None);
                    continue;
                }
            };
            let now = Now { at: Instant::now(), wall: SystemTime::now() };
            let verdict =
                self.judge.judge(&Picture { members: &look.members, present: &look.present, gone: &look.gone }, now);
            self.news(&look, &verdict);
            match self.act(&look, &verdict).await {
                Wrote::Over(lost) => return lost,
                Wrote::Failed | Wrote::Stale => {
                    sleep(self.backoff.next(fastrand::f64())).await;
                    (index, again) = (0, None);
                }
                Wrote::Done => {
                    self.backoff.reset();
                    let wrote = !(verdict.mark.is_empty() && verdict.date.is_empty() && verdict.remove.is_empty());
                    // What was written belongs into the next look, which is due at once.
                    (index, again) = if wrote { (0, None) } else { (at, verdict.again) };
                }
            }
        }
    }

    /// The rest of a look. One in which this leader itself is missing is none: Consul shortens lists to what a token may see
    /// without a word, and after its data were restored they are those of another day.
    async fn look(&self, present: BTreeSet<String>) -> Result<Look, ConsulError> {
        let room = self.room;
        let own = spelled(&room.settings.node);
        let unseen = |what: &str| ConsulError::Unreadable {
            call: "the look at all nodes",
            reason: format!("{what} of this leader's own node {own} is not in it"),
        };
        if !present.contains(&own) {
            return Err(unseen("the key"));
        }
        let members = room.members.members().await?;
        if !members.iter().any(|member| member.ours && spelled(&member.name) == own) {
            return Err(unseen("the row"));
        }
        let gone = room.keys.since(&room.store.list(&room.keys.gones(), None).await?.entries);
        Ok(Look { members, present, gone })
    }

    /// Tells a failure, the first and every tenth, and how long to wait.
    fn failed(&mut self, error: &ConsulError, event: &'static str, what: &'static str) -> Duration {
        let wait = self.backoff.next(fastrand::f64());
        if self.backoff.worth_telling() {
            let error = self.room.explained(error);
            tracing::warn!(event, %error, "{what}");
        }
        wait
    }

    fn news(&mut self, look: &Look, verdict: &Verdict) {
        self.metrics.cluster_nodes(verdict.present, verdict.vanished, verdict.marked.len());
        for node in self.marked.difference(&verdict.marked).filter(|node| look.present.contains(*node)) {
            tracing::info!(event = "node_back", node, "node {node} is back");
        }
        self.marked.clone_from(&verdict.marked);
        match (verdict.brake, self.braking) {
            (Some(Brake { absent, of }), false) => tracing::error!(
                event = "nodes_vanished",
                absent,
                of,
                "{absent} of {of} nodes have vanished within a minute: nothing is marked as long as more than half are away"
            ),
            (None, true) => {
                tracing::info!(event = "nodes_vanished_over", "more than half of the nodes are not away any more");
            }
            _ => {}
        }
        self.braking = verdict.brake.is_some();
    }

    /// Writes what the verdict says, until something goes wrong.
    async fn act(&mut self, look: &Look, verdict: &Verdict) -> Wrote {
        let member = |node: &str| look.members.iter().find(|member| member.name == node && member.ours);
        let room = self.room;
        for (node, since) in &verdict.mark {
            let Some(member) = member(node) else { continue };
            let output = gone_output(&room.settings, node, *since);
            let row = member.check(Status::Critical, &output);
            let ops = [
                Op::Check(Write::Cas(member.check_index()), row),
                Op::Kv(room.keys.gone(node), KvOp::Set { value: stamp(*since).into_bytes() }),
            ];
            match self.write(node, &ops).await {
                Wrote::Done => tracing::warn!(event = "node_gone", node, since = stamp(*since), "{output}"),
                other => return other,
            }
        }
        for (node, since) in &verdict.date {
            let ops = [Op::Kv(room.keys.gone(node), KvOp::Set { value: stamp(*since).into_bytes() })];
            match self.write(node, &ops).await {
                Wrote::Done => {}
                other => return other,
            }
        }
        for node in &verdict.remove {
            let Some(member) = member(node) else { continue };
            let row = NodeRow { name: member.name.clone(), ..NodeRow::default() };
            let ops = [Op::Node(Write::DeleteCas(member.index), row), Op::Kv(room.keys.gone(node), KvOp::Delete)];
            match self.write(node, &ops).await {
                Wrote::Done => tracing::warn!(
                    event = "node_removed",
                    node,
                    "node {node} was gone for longer than the reap time: it is removed from the catalog"
                ),
                other => return other,
            }
        }
        for node in &verdict.forget {
            let ops = [self.fence(), Op::Kv(room.keys.gone(node), KvOp::Delete)];
            match self.transact(&ops).await {
                Wrote::Done => {}
                other => return other,
            }
        }
        Wrote::Done
    }

    fn fence(&self) -> Op {
        Op::Kv(self.room.keys.leader(), KvOp::CheckSession { session: self.lease.session.clone() })
    }

    /// One transaction about a node that is gone.
    async fn write(&mut self, node: &str, ops: &[Op]) -> Wrote {
        let live = Op::Kv(self.room.keys.live(node), KvOp::CheckNotExists);
        let ops: Vec<Op> = [self.fence(), live].into_iter().chain(ops.iter().cloned()).collect();
        self.transact(&ops).await
    }

    async fn transact(&mut self, ops: &[Op]) -> Wrote {
        if !self.lease.holds() {
            return Wrote::Over(Lost::Unsure);
        }
        let refusal = match self.room.members.transact(ops).await {
            Ok(TxnResult::Done(_)) => return Wrote::Done,
            Ok(TxnResult::Refused(refusals)) => {
                // The first operation asks whether this agent still leads.
                if refusals.iter().any(|refusal| refusal.op == 0 && refusal.why == Why::Conflict) {
                    return Wrote::Over(Lost::Taken);
                }
                if refusals.iter().all(|refusal| refusal.why == Why::Conflict) {
                    return Wrote::Stale;
                }
                TxnResult::Refused(refusals).written(ops).err()
            }
            Ok(other) => other.written(ops).err(),
            Err(error) => Some(error),
        };
        let Some(error) = refusal else { return Wrote::Done };
        self.failed(&error, "leader_refused", "a node that is gone could not be marked or removed");
        if matches!(error, ConsulError::Forbidden { .. }) { Wrote::Over(Lost::Denied) } else { Wrote::Failed }
    }
}

/// What stands in the check of a node that is gone.
fn gone_output(settings: &Settings, node: &str, since: SystemTime) -> String {
    let until = if settings.reap.is_zero() { None } else { since.checked_add(settings.reap) };
    let kept = until.map_or_else(String::new, |until| format!(" until {}", stamp(until)));
    format!(
        "node {node} has not been heard of since {}: its Remora, its Docker host or its network is down; its instances are \
         kept{kept}",
        stamp(since)
    )
}
