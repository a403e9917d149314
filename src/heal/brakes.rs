//! The brakes of the node: one operation at a time, so many in a while, and none when many containers fail at once: then it is
//! the node, or something that all of them need, and replacing them makes it worse. Pure.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use crate::config::{Budget, Correlation};

/// Why nothing is done now, in words that logs, metrics and `remora status` share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brake {
    /// The agent has not been up, or connected, for long enough.
    Holdoff(Instant),
    /// An operator paused healing.
    Paused(String),
    /// Another operation is under way on this node.
    Busy,
    /// The node's budget is used up until then.
    NodeBudget(Instant),
    /// Too many failed at once.
    Correlated {
        /// How many.
        sick: usize,
        /// Of how many.
        of: usize,
    },
    /// Too early after the last attempt.
    Backoff(Instant),
    /// In quarantine until then.
    Quarantine(Instant),
    /// It would be the last healthy instance of its service, or too many of it at once.
    Service(String),
    /// Other nodes have all slots of the cluster.
    Cluster(String),
    /// Consul is away, and the setting says that nothing is done without it.
    WithoutConsul,
}

impl Brake {
    /// The word of metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Holdoff(_) => "holdoff",
            Self::Paused(_) => "paused",
            Self::Busy => "busy",
            Self::NodeBudget(_) => "node-budget",
            Self::Correlated { .. } => "correlated",
            Self::Backoff(_) => "backoff",
            Self::Quarantine(_) => "quarantine",
            Self::Service(_) => "service",
            Self::Cluster(_) => "cluster",
            Self::WithoutConsul => "without-consul",
        }
    }

    /// When it may be worth asking again, if it says so itself.
    #[must_use]
    pub const fn until(&self) -> Option<Instant> {
        match self {
            Self::Holdoff(at) | Self::NodeBudget(at) | Self::Backoff(at) | Self::Quarantine(at) => Some(*at),
            _ => None,
        }
    }
}

/// See the module's header.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// When operations began.
    operations: VecDeque<Instant>,
    /// Since when each sick place has been sick, by logical name.
    sick: BTreeMap<String, Instant>,
}

impl Node {
    /// A place is sick since then, or is not.
    pub fn mark(&mut self, name: &str, sick: Option<Instant>) {
        match sick {
            Some(since) => {
                let at = self.sick.entry(name.to_owned()).or_insert(since);
                *at = since.min(*at);
            }
            None => {
                self.sick.remove(name);
            }
        }
    }

    /// How many places are sick.
    #[must_use]
    pub fn sick(&self) -> usize {
        self.sick.len()
    }

    /// An operation began.
    pub fn began(&mut self, now: Instant) {
        self.operations.push_back(now);
        if self.operations.len() > 1000 {
            self.operations.pop_front();
        }
    }

    /// The last one that began did nothing.
    pub fn undo(&mut self) {
        self.operations.pop_back();
    }

    /// How many operations the budget still allows now.
    #[must_use]
    pub fn left(&self, budget: &Budget, local: bool, now: Instant) -> usize {
        let used = self.operations.iter().filter(|at| **at + budget.window > now).count();
        allowed(budget, local).saturating_sub(used)
    }

    /// Whether the budget stands against one more; `local`: without Consul only a third of it counts.
    #[must_use]
    pub fn exhausted(&self, budget: &Budget, local: bool, now: Instant) -> Option<Brake> {
        let within: Vec<_> = self.operations.iter().filter(|at| **at + budget.window > now).collect();
        let allowed = allowed(budget, local);
        let over = within.len().checked_sub(allowed)?;
        within.get(over).map(|at| Brake::NodeBudget(**at + budget.window))
    }

    /// Whether `name` turned sick together with so many of the `watched` places that it is not their own fault. Holds for as
    /// long as they are sick; whoever fails alone, before or after, is not concerned.
    #[must_use]
    pub fn correlated(&self, name: &str, limits: &Correlation, watched: usize) -> Option<Brake> {
        let own = *self.sick.get(name)?;
        let near = |at: Instant| at <= own + limits.window && own <= at + limits.window;
        let mut onsets: Vec<Instant> = self.sick.values().copied().filter(|at| near(*at)).collect();
        onsets.sort_unstable();
        // The most of them within one window that this one is in.
        let sick = (0..onsets.len())
            .filter_map(|first| {
                let rest = onsets.get(first..)?;
                let begin = *rest.first()?;
                let inside = begin <= own && own <= begin + limits.window;
                inside.then(|| rest.iter().take_while(|at| **at <= begin + limits.window).count())
            })
            .max()?;
        let many = sick >= limits.minimum && sick * 100 >= watched * usize::from(limits.percent);
        many.then_some(Brake::Correlated { sick, of: watched })
    }
}

/// How many operations a budget allows. Without Consul nobody knows what the other nodes do: a third, but at least one.
#[must_use]
pub fn allowed(budget: &Budget, local: bool) -> usize {
    if local { (budget.operations / 3).max(1) } else { budget.operations }
}
