//! The part of the fake that knows nodes: rows with the check about the node, sessions on them, transactions. Of the
//! transactions' operations it has those that looking after nodes needs.

use std::time::Duration;

use remora::consul::members::{Behavior, Member, MemberCheck, Members, NODE_CHECK, NewSession};
use remora::consul::txn::{KvOp, Op, Refusal, TxnResult, Why, Write, Written};
use remora::consul::{ConsulError, Entry, Status};
use tokio::time::{Instant, sleep};

use super::{FakeStore, Session, State};

impl FakeStore {
    /// Registers a node with its check passing, as the registry of its agent does; one that is there stays.
    pub fn add_node(&self, name: &str, ours: bool) {
        let mut state = self.state();
        state.index += 1;
        let index = state.index;
        let check = MemberCheck {
            status: Status::Passing,
            name: "Remora on this node".to_owned(),
            notes: "notes".to_owned(),
            output: "registered".to_owned(),
            index,
        };
        let member = Member { name: name.to_owned(), index, ours, check: Some(check) };
        state.rows.entry(name.to_lowercase()).or_insert(member);
    }

    /// Removes a node with its sessions, as an operator would, without a call.
    pub fn remove_node(&self, name: &str) {
        self.state().remove(name);
        self.moved();
    }

    /// A node with its check, without a call.
    pub fn node(&self, name: &str) -> Option<Member> {
        self.state().rows.get(&name.to_lowercase()).cloned()
    }

    /// The status of a node's check, without a call.
    pub fn node_status(&self, name: &str) -> Option<Status> {
        Some(self.node(name)?.check?.status)
    }

    /// Sets the check of a node, as an operator would, without a call.
    pub fn set_node_status(&self, name: &str, status: Status) {
        let mut state = self.state();
        state.index += 1;
        let index = state.index;
        if let Some(check) = state.rows.get_mut(&name.to_lowercase()).and_then(|row| row.check.as_mut()) {
            (check.status, check.index) = (status, index);
        }
    }

    /// The next transactions happen, but nobody hears so.
    pub fn lose_answers(&self, count: usize) {
        self.state().lost_answers = count;
    }

    /// The next transaction fails with this error.
    pub fn refuse_next(&self, error: ConsulError) {
        self.state().refused.push_back(error);
    }

    /// Whether a transaction still is to fail.
    pub fn is_to_refuse(&self) -> bool {
        !self.state().refused.is_empty()
    }

    /// How many transactions have changed something.
    pub fn transactions(&self) -> u64 {
        self.state().transactions
    }

    /// How often anything was written, as Raft counts.
    pub fn raft_index(&self) -> u64 {
        self.state().index
    }

    /// Ends every session; Consul's own data stay.
    pub fn kill_all_sessions(&self) {
        for id in self.sessions() {
            self.kill_session(&id);
        }
    }

    /// Consul counts from somewhere lower, as after a restore of an older snapshot with the same content.
    pub fn turn_back(&self) {
        self.state().index = 2;
        self.moved();
    }
}

impl State {
    fn remove(&mut self, name: &str) {
        let name = name.to_lowercase();
        self.index += 1;
        self.rows.remove(&name);
        let of = |session: &Session| session.node.as_ref().is_some_and(|node| node.to_lowercase() == name);
        let ids: Vec<String> = self.sessions.iter().filter(|(_, it)| of(it)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id, Instant::now());
        }
    }

    fn refused(&self, op: &Op) -> Option<(Why, &'static str)> {
        let conflict = |wrong: bool| wrong.then_some((Why::Conflict, "index is stale"));
        match op {
            Op::Kv(key, kv) => {
                let entry = self.entries.get(key);
                let index = entry.map_or(0, |entry| entry.index);
                let holder = entry.and_then(|entry| entry.session.as_ref());
                match kv {
                    KvOp::CheckSession { session } => conflict(holder != Some(session)),
                    KvOp::CheckNotExists => conflict(entry.is_some()),
                    KvOp::Lock { session, .. } => conflict(
                        !self.sessions.contains_key(session)
                            || holder.is_some_and(|holder| holder != session)
                            || self.delayed.get(key).is_some_and(|until| *until > Instant::now()),
                    ),
                    KvOp::Cas { index: wanted, .. } => conflict(*wanted != index),
                    KvOp::DeleteCas { index: wanted } => conflict(entry.is_some() && *wanted != index),
                    KvOp::Set { .. } | KvOp::Delete => None,
                }
            }
            Op::Check(Write::Cas(wanted), row) => match self.rows.get(&row.node.to_lowercase()) {
                None => Some((Why::Missing, "Missing node registration")),
                Some(member) => conflict(member.check_index() != *wanted),
            },
            Op::Node(Write::DeleteCas(wanted), row) => {
                conflict(self.rows.get(&row.name.to_lowercase()).is_none_or(|member| member.index != *wanted))
            }
            other => panic!("the fake does not know {other:?}"),
        }
    }

    fn apply(&mut self, op: &Op) -> Option<Written> {
        match op {
            Op::Service(..) | Op::Kv(_, KvOp::CheckSession { .. } | KvOp::CheckNotExists) => return None,
            Op::Kv(key, KvOp::Set { value } | KvOp::Cas { value, .. }) => self.set(key, value.clone(), |_| {}),
            Op::Kv(key, KvOp::Lock { value, session }) => {
                self.set(key, value.clone(), |entry: &mut Entry| entry.session = Some(session.clone()));
            }
            Op::Kv(key, KvOp::Delete | KvOp::DeleteCas { .. }) => {
                if self.entries.remove(key).is_some() {
                    self.index += 1;
                }
                return None;
            }
            Op::Check(_, row) => {
                assert_eq!(row.id, NODE_CHECK, "the fake knows no other check");
                self.index += 1;
                let index = self.index;
                let check = MemberCheck {
                    status: row.status,
                    name: row.name.to_string(),
                    notes: row.notes.to_string(),
                    output: row.output.to_string(),
                    index,
                };
                self.rows.get_mut(&row.node.to_lowercase())?.check = Some(check);
                return Some(Written::Check { id: row.id.to_string(), index });
            }
            Op::Node(_, row) => {
                self.remove(&row.name);
                return None;
            }
        }
        let Op::Kv(key, _) = op else { return None };
        Some(Written::Kv { key: key.clone(), index: self.entries.get(key)?.index })
    }
}

impl Members for FakeStore {
    async fn members(&self) -> Result<Vec<Member>, ConsulError> {
        self.begin("members".to_owned()).await?;
        Ok(self.state().rows.values().filter(|member| member.ours).cloned().collect())
    }

    async fn member(&self, node: &str) -> Result<Option<Member>, ConsulError> {
        self.begin(format!("member {node}")).await?;
        Ok(self.node(node))
    }

    async fn session_on(&self, session: &NewSession<'_>) -> Result<String, ConsulError> {
        self.begin(format!("session_on {}", session.node)).await?;
        let mut state = self.state();
        if !state.rows.contains_key(&session.node.to_lowercase()) {
            let message = "Missing node registration".to_owned();
            return Err(ConsulError::NotFound { call: "session_on", message });
        }
        state.open(Session {
            node: Some(session.node.to_owned()),
            delete: session.behavior == Behavior::Delete,
            ttl: session.ttl,
            lock_delay: session.lock_delay,
            ends: Instant::now() + 2 * session.ttl,
        })
    }

    async fn transact(&self, ops: &[Op]) -> Result<TxnResult, ConsulError> {
        self.begin("transact".to_owned()).await?;
        if let Some(error) = self.state().refused.pop_front() {
            return Err(error);
        }
        {
            let mut state = self.state();
            // In order: what an earlier operation did counts for the later ones. Nothing else runs meanwhile, so that what has
            // to be taken back is simply put back.
            let (entries, rows, index) = (state.entries.clone(), state.rows.clone(), state.index);
            let (mut written, mut refusals) = (Vec::new(), Vec::new());
            for (place, op) in ops.iter().enumerate() {
                match state.refused(op) {
                    Some((why, what)) => refusals.push(Refusal { op: place, why, what: what.to_owned() }),
                    None if refusals.is_empty() => written.extend(state.apply(op)),
                    None => {}
                }
            }
            if !refusals.is_empty() {
                (state.entries, state.rows, state.index) = (entries, rows, index);
                return Ok(TxnResult::Refused(refusals));
            }
            state.transactions += u64::from(state.index != index);
            let lost = state.lost_answers > 0;
            state.lost_answers = state.lost_answers.saturating_sub(1);
            if !lost {
                drop(state);
                self.moved();
                return Ok(TxnResult::Done(written));
            }
        }
        self.moved();
        sleep(Duration::from_secs(10)).await;
        Err(ConsulError::TimedOut { call: "transact", after: Duration::from_secs(10) })
    }
}
