//! Which requests share a transaction. Pure.

use std::collections::VecDeque;

use crate::consul::txn::{BYTES_LIMIT, OPS_LIMIT, Op};

/// Requests that are sent together, each with its operations. They are never torn apart: what one caller asks for happens
/// as a whole or not at all.
pub(super) struct Group<T> {
    pub(super) jobs: Vec<(T, Vec<Op>)>,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self { jobs: Vec::new() }
    }
}

impl<T> Group<T> {
    /// Everything that is sent, behind what comes first.
    pub(super) fn ops(&self, first: &[Op]) -> Vec<Op> {
        first.iter().chain(self.jobs.iter().flat_map(|(_, ops)| ops)).cloned().collect()
    }

    /// Without the operations.
    pub(super) fn into_jobs(self) -> impl Iterator<Item = T> {
        self.jobs.into_iter().map(|(job, _)| job)
    }

    /// Two halves, or, of one that cannot be halved, its requests.
    pub(super) fn halves(mut self) -> Result<(Self, Self), impl Iterator<Item = T>> {
        if self.jobs.len() < 2 {
            return Err(self.into_jobs());
        }
        let second = Self { jobs: self.jobs.split_off(self.jobs.len() / 2) };
        Ok((self, second))
    }
}

/// Packs requests, in order, into transactions of at most [`OPS_LIMIT`] operations and [`BYTES_LIMIT`] bytes. `first` goes
/// before those of the first one. A request that is larger than that by itself is alone: Consul says what it thinks of it.
pub(super) fn groups<T>(jobs: Vec<(T, Vec<Op>)>, first: &[Op]) -> VecDeque<Group<T>> {
    let size = |ops: &[Op]| ops.iter().map(|op| op.size() + 1).sum::<usize>();
    let mut groups = VecDeque::new();
    let mut group = Group::default();
    let (mut count, mut bytes) = (first.len(), size(first));
    for (job, ops) in jobs {
        let its = size(&ops);
        if !group.jobs.is_empty() && (count + ops.len() > OPS_LIMIT || bytes + its > BYTES_LIMIT) {
            groups.push_back(std::mem::take(&mut group));
            (count, bytes) = (0, 0);
        }
        count += ops.len();
        bytes += its;
        group.jobs.push((job, ops));
    }
    if !group.jobs.is_empty() {
        groups.push_back(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::txn::KvOp;

    fn job(ops: usize, bytes: usize) -> Vec<Op> {
        (0..ops).map(|_| Op::Kv("k".into(), KvOp::Set { value: vec![0; bytes] })).collect()
    }

    fn packed(jobs: Vec<Vec<Op>>, first: usize) -> Vec<Vec<usize>> {
        let groups = groups(jobs.into_iter().enumerate().collect(), &job(first, 1));
        groups.into_iter().map(|group| group.into_jobs().collect()).collect()
    }

    #[test]
    fn requests_are_packed_in_order_and_never_torn_apart() {
        assert_eq!(packed(vec![job(2, 1); 3], 0), [vec![0, 1, 2]]);
        assert_eq!(packed(vec![job(30, 1), job(30, 1), job(5, 1), job(1, 1)], 0), [vec![0, 1], vec![2, 3]]);
        assert_eq!(packed(vec![job(32, 1), job(32, 1)], 2), [vec![0], vec![1]], "the node is counted");
        assert_eq!(packed(vec![job(100, 1), job(1, 1)], 0), [vec![0], vec![1]]);
        assert_eq!(packed(vec![job(1, 200_000), job(1, 200_000)], 0), [vec![0], vec![1]]);
        assert!(packed(Vec::new(), 2).is_empty());
    }

    #[test]
    fn a_group_that_is_too_large_is_halved_until_one_is_alone() {
        let Some(group) = groups((0..3).map(|n| (n, job(1, 1))).collect(), &[]).pop_front() else { panic!("one") };
        let Ok((first, second)) = group.halves() else { panic!("three can be halved") };
        assert_eq!(second.into_jobs().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(first.halves().err().unwrap().collect::<Vec<_>>(), [0]);
    }
}
