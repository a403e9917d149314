//! The one task that writes to the catalog: what several callers ask for at the same time goes into few transactions.
//!
//! A transaction happens as a whole or not at all. Consul tells which of its operations it refuses; their callers hear why,
//! and the rest is sent again without them. Whoever lost a race is planned anew after a look, once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::packing::{Group, groups};
use super::plan::{Plan, Registration, Request, plan};
use super::state::{Deferred, Shared};
use super::view::key;
use crate::consul::error::ConsulError;
use crate::consul::meta::Meta;
use crate::consul::model::{ActualService, Service};
use crate::consul::txn::{Op, Refusal, TxnResult, Why, Written, too_large};

/// Requests that wait for the writer; whoever comes then waits to be let in. Room for a few full transactions.
pub(super) const QUEUE: usize = 256;

/// Registrations with tagged addresses under way at once: each is a call of its own.
const CALLS: usize = 8;

/// How often a request is planned anew after a lost race, before its caller hears of it.
const RACES: u8 = 1;

/// No deferred output: look at the clock again after so long.
const IDLE: Duration = Duration::from_secs(3_600);

type Reply = oneshot::Sender<Result<(), ConsulError>>;

/// One request on its way.
pub(super) struct Job {
    pub(super) request: Request,
    /// `None`: it comes from ourselves.
    pub(super) reply: Option<Reply>,
    looked: bool,
    races: u8,
    before: Option<Before>,
}

/// Whose a registration says it is.
type Mark = [Option<String>; 3];

/// Whose the row was when it was first planned; `None`: there was none.
#[derive(PartialEq)]
struct Before(Option<Mark>);

impl Job {
    pub(super) const fn new(request: Request, reply: Option<Reply>) -> Self {
        Self { request, reply, looked: false, races: 0, before: None }
    }

    fn answer(self, result: Result<(), ConsulError>) {
        match self.reply {
            // Whoever does not wait any more does not want to know.
            Some(reply) => drop(reply.send(result)),
            None => {
                if let Err(error) = result {
                    tracing::debug!(event = "deferred_output_failed", error = %error, "{error}");
                }
            }
        }
    }
}

/// The task that writes.
pub struct Writer {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Job>,
}

impl Writer {
    pub(super) const fn new(shared: Arc<Shared>, requests: mpsc::Receiver<Job>) -> Self {
        Self { shared, requests }
    }

    /// Writes until `shutdown`, or until the registry is gone; then what is asked for already, and ends. Whoever asks later
    /// hears that nobody writes any more: it has to end after everybody who uses the registry.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut waiting = VecDeque::new();
        let mut arrived = Vec::new();
        loop {
            if waiting.is_empty() {
                let due = self.shared.state().deferred.values().map(|it| it.at).min();
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    count = self.requests.recv_many(&mut arrived, QUEUE) => if count == 0 { break },
                    () = sleep_until(due.unwrap_or_else(|| Instant::now() + IDLE)) => self.due(&mut waiting),
                }
                // Whoever was woken together with the first one is heard too.
                tokio::task::yield_now().await;
            }
            self.hear(&mut arrived, &mut waiting);
            self.step(&mut waiting).await;
        }
        self.requests.close();
        self.hear(&mut arrived, &mut waiting);
        while !waiting.is_empty() {
            self.step(&mut waiting).await;
            self.hear(&mut arrived, &mut waiting);
        }
    }

    fn hear(&mut self, arrived: &mut Vec<Job>, waiting: &mut VecDeque<Job>) {
        waiting.extend(arrived.drain(..));
        while waiting.len() < QUEUE
            && let Ok(job) = self.requests.try_recv()
        {
            waiting.push_back(job);
        }
    }

    /// Outputs that have waited long enough.
    fn due(&self, waiting: &mut VecDeque<Job>) {
        let now = Instant::now();
        let mut state = self.shared.state();
        let due: Vec<Deferred> = state.deferred.values().filter(|it| it.at <= now).cloned().collect();
        for Deferred { id, status, output, .. } in due {
            state.undefer(&id);
            waiting.push_back(Job::new(Request::Update { id, status, output }, None));
        }
    }

    /// Plans what waits, and writes what of it can be written now; the rest waits on.
    async fn step(&self, waiting: &mut VecDeque<Job>) {
        if !self.shared.state().known
            && let Err(error) = self.shared.refresh().await
        {
            return fail(waiting.drain(..), &error);
        }
        let mut planned = Planned::default();
        if let Err(error) = self.plan(waiting, &mut planned) {
            // That may end at any time: it is looked at again before the next one.
            self.shared.state().known = false;
            return fail(waiting.drain(..), &error);
        }
        if planned.unknown {
            self.shared.state().known = false;
        }
        if planned.ops.is_empty() && planned.calls.is_empty() {
            return;
        }
        let mut again = Vec::new();
        self.shared.write(true);
        let mut outcome = self.transactions(planned.node, planned.ops, &mut again).await;
        if outcome.is_ok() {
            outcome = self.calls(planned.calls).await;
        } else if let Err(error) = &outcome {
            fail(planned.calls.into_iter().map(|(job, _)| job), error);
        }
        self.shared.write(false);
        for job in again.into_iter().rev() {
            waiting.push_front(job);
        }
        if let Err(error) = outcome {
            // What failed for everybody would fail for those who wait too, each after another time-out.
            fail(waiting.drain(..), &error);
        }
    }

    /// # Errors
    /// The node is somebody else's: nothing at all is written.
    fn plan(&self, waiting: &mut VecDeque<Job>, planned: &mut Planned) -> Result<(), ConsulError> {
        let now = Instant::now();
        let node = &self.shared.node;
        let mut state = self.shared.state();
        node.owns(&state.view)?;
        let mut touched = HashSet::new();
        let mut later = VecDeque::new();
        let mut needs_node = false;
        for mut job in waiting.drain(..) {
            let rows = job.request.rows(&state.view);
            if rows.iter().any(|row| touched.contains(row)) {
                touched.extend(rows);
                later.push_back(job);
                continue;
            }
            if let Err(error) = job.same_owner(&state.view.services) {
                job.answer(Err(error));
                continue;
            }
            match plan(&job.request, node, &state.view, &state.outputs, job.looked, now) {
                Plan::Done => {
                    if let Request::Update { id, .. } = &job.request {
                        state.undefer(id);
                    }
                    job.answer(Ok(()));
                    continue;
                }
                Plan::Later(at) => {
                    if let Request::Update { id, status, output } = &job.request {
                        let (id, output) = (id.clone(), output.clone());
                        state.defer(Deferred { id, status: *status, output, at });
                    }
                    job.answer(Ok(()));
                    continue;
                }
                Plan::Refused(error) => {
                    job.answer(Err(error));
                    continue;
                }
                Plan::Unknown => {
                    job.looked = true;
                    planned.unknown = true;
                    later.push_back(job);
                }
                Plan::Ops(ops) => {
                    needs_node |= job.request.needs_node();
                    planned.ops.push((job, ops));
                }
                Plan::Call(call) => {
                    needs_node = true;
                    planned.calls.push((job, call));
                }
            }
            touched.extend(rows);
        }
        *waiting = later;
        if needs_node {
            planned.node = node.ensure(&state.view);
        }
        Ok(())
    }

    /// Sends operations in as few transactions as they fit into. Who is to be planned anew comes back in `again`.
    ///
    /// # Errors
    /// Consul did not decide; everybody whose operations were not done has been told.
    async fn transactions(
        &self,
        mut node: Vec<Op>,
        jobs: Vec<(Job, Vec<Op>)>,
        again: &mut Vec<Job>,
    ) -> Result<(), ConsulError> {
        let mut groups: VecDeque<Group<Job>> = groups(jobs, &node);
        if groups.is_empty() && !node.is_empty() {
            groups.push_back(Group::default());
        }
        while let Some(group) = groups.pop_front() {
            let before = node.len();
            let ops = group.ops(&node);
            match self.shared.client.transact(&ops).await {
                Ok(TxnResult::Done(written)) => {
                    node.clear();
                    self.done(group, ops, written);
                }
                Ok(TxnResult::TooLarge) => match group.halves() {
                    Ok((first, second)) => {
                        groups.push_front(second);
                        groups.push_front(first);
                    }
                    Err(jobs) => fail(jobs, &too_large()),
                },
                Ok(TxnResult::Refused(refusals)) => {
                    if let Some(refusal) = refusals.iter().find(|refusal| refusal.op < before) {
                        let error = refusal.error(ops.get(refusal.op));
                        let lost = matches!(refusal.why, Why::Conflict | Why::Missing);
                        let jobs = group.into_jobs().chain(groups.drain(..).flat_map(Group::into_jobs));
                        for job in jobs {
                            self.refused(job, lost, error.clone(), again);
                        }
                        return Ok(());
                    }
                    if let Some(rest) = self.without(group, &ops, before, &refusals, again) {
                        groups.push_front(rest);
                    }
                }
                Err(error) => {
                    // It may have happened.
                    self.shared.state().known = false;
                    fail(group.into_jobs().chain(groups.drain(..).flat_map(Group::into_jobs)), &error);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn done(&self, group: Group<Job>, ops: Vec<Op>, written: Vec<Written>) {
        let now = Instant::now();
        let mut state = self.shared.state();
        let jobs: Vec<Job> = group.into_jobs().collect();
        for job in &jobs {
            let Request::Update { id, status, .. } = &job.request else { continue };
            state.undefer(id);
            let alone = state.view.checks.get(&key(id)).is_some_and(|(before, _)| before.status == *status);
            if alone {
                state.outputs.insert(key(id), now);
            }
        }
        state.known &= state.view.apply(ops, written);
        drop(state);
        for job in jobs {
            job.answer(Ok(()));
        }
    }

    /// The group without those whose operations were refused.
    fn without(
        &self,
        group: Group<Job>,
        ops: &[Op],
        before: usize,
        refusals: &[Refusal],
        again: &mut Vec<Job>,
    ) -> Option<Group<Job>> {
        let mut rest = Group::default();
        let mut at = before;
        let mut refused = 0;
        for (job, its) in group.jobs {
            let range = at..at + its.len();
            at = range.end;
            // A reason that does not pass by itself comes first.
            let mine = || refusals.iter().filter(|refusal| range.contains(&refusal.op));
            let worst = mine().find(|it| !matches!(it.why, Why::Conflict | Why::Missing)).or_else(|| mine().next());
            match worst {
                None => rest.jobs.push((job, its)),
                Some(refusal) => {
                    refused += 1;
                    let lost = matches!(refusal.why, Why::Conflict | Why::Missing);
                    self.refused(job, lost, refusal.error(ops.get(refusal.op)), again);
                }
            }
        }
        if refused == 0 {
            // It names no operation of ours: whoever is in it cannot be told apart.
            let error = refusals.first().map_or_else(too_large, |refusal| refusal.error(None));
            fail(rest.into_jobs(), &error);
            return None;
        }
        (!rest.jobs.is_empty()).then_some(rest)
    }

    /// Tells a job why it was refused; one that lost a race is tried again first, after a look.
    fn refused(&self, mut job: Job, lost: bool, error: ConsulError, again: &mut Vec<Job>) {
        if lost {
            self.shared.state().known = false;
            if job.races < RACES {
                job.races += 1;
                job.looked = true;
                again.push(job);
                return;
            }
        }
        job.answer(Err(error));
    }

    /// Sends the registrations with tagged addresses. There is no compare-and-set for these: what changed between the last
    /// look and this moment is overwritten.
    async fn calls(&self, calls: Vec<(Job, Box<Registration>)>) -> Result<(), ConsulError> {
        let mut outcome = Ok(());
        if calls.is_empty() {
            return outcome;
        }
        let sent = calls.into_iter().map(|(job, call)| async move { (job, self.shared.register(&call).await) });
        let mut sent = futures_util::stream::iter(sent).buffer_unordered(CALLS);
        while let Some((job, result)) = sent.next().await {
            if let Err(error @ (ConsulError::Unreachable { .. } | ConsulError::TimedOut { .. })) = &result {
                outcome = Err(error.clone());
            }
            job.answer(result);
        }
        // Consul does not say which indexes they have now.
        self.shared.state().known = false;
        outcome
    }
}

#[derive(Default)]
struct Planned {
    node: Vec<Op>,
    ops: Vec<(Job, Vec<Op>)>,
    calls: Vec<(Job, Box<Registration>)>,
    unknown: bool,
}

impl Job {
    /// A race may be lost to ourselves (an answer that did not arrive), to an operator, or to somebody to whom the row
    /// belongs now. The last one is not overwritten, and not deleted.
    fn same_owner(&mut self, services: &HashMap<ArcStr, (Arc<ActualService>, u64)>) -> Result<(), ConsulError> {
        let id = match &self.request {
            Request::Register(wanted) => &wanted.id,
            Request::Deregister(id) => id,
            Request::Update { .. } | Request::Remove(_) | Request::Node { .. } => return Ok(()),
        };
        let now = Before(services.get(&key(id)).map(|(service, _)| mark(&service.meta)));
        let Some(before) = &self.before else {
            self.before = Some(now);
            return Ok(());
        };
        let wanted = match &self.request {
            Request::Register(wanted) => Some(mark(&wanted.meta)),
            _ => None,
        };
        if now.0.is_none() || now == *before || now.0 == wanted {
            return Ok(());
        }
        let message = format!("{id} belongs to somebody else now");
        Err(ConsulError::Conflict { call: self.request.call(), message })
    }
}

fn mark(meta: &Meta) -> Mark {
    [Service::META_OWNER, Service::META_ENGINE, Service::META_CONTAINER].map(|key| meta.get(key).map(str::to_owned))
}

fn fail(jobs: impl IntoIterator<Item = Job>, error: &ConsulError) {
    for job in jobs {
        job.answer(Err(error.clone()));
    }
}
