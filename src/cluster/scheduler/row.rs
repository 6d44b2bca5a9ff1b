//! What a search asks of every node, in as few bytes as can be.
//!
//! In a large cluster a pod's search looks at hundreds of nodes, most of which say nothing but whether they have room. All of that stands side by side here,
//! 64 bytes a node; labels, taints and images are asked for only where the pod or the node has some that matter.

use super::cache::NodeInfo;
use crate::cluster::objects::Resources;

/// A node as a search sees it first. None of it is there if the node is gone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Row {
    /// What its pods ask for.
    pub(super) asked: Resources,
    /// The same, with a stand-in for containers that ask for nothing.
    pub(super) counted: Resources,
    /// What it has.
    pub(super) allocatable: Resources,
    pods: u32,
    pods_max: u32,
    /// It is not gone.
    pub(super) is_there: bool,
    /// It has no taint and is not cordoned.
    pub(super) is_open: bool,
}

impl Row {
    pub(super) fn of(info: Option<&NodeInfo>) -> Self {
        let Some(info) = info else { return Self::default() };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            asked: info.asked,
            counted: info.counted,
            allocatable: info.node.allocatable,
            pods: small(info.pods),
            pods_max: small(info.node.pods_max),
            is_there: true,
            is_open: info.node.taints.is_empty() && !info.node.unschedulable,
        }
    }

    /// Whether one more pod that asks for this would have room. Resources besides processor and memory are not looked at.
    pub(super) fn has_room_for(&self, requests: Resources) -> bool {
        let fits = |requested: u64, used: u64, capacity: u64| requested == 0 || used + requested <= capacity;
        self.pods < self.pods_max
            && fits(requests.cpu_millicores, self.asked.cpu_millicores, self.allocatable.cpu_millicores)
            && fits(requests.memory_bytes, self.asked.memory_bytes, self.allocatable.memory_bytes)
    }
}

/// As many sets of nodes that are alike as are remembered at a time.
const ALIKE_MAX: usize = 16;

/// Scores that follow from a node's resources alone: nodes that are alike get the same, which is worked out once.
#[derive(Default)]
pub(super) struct ByResources<T> {
    known: Vec<(Row, T)>,
    /// Where the last one was found.
    last: usize,
}

impl<T: Copy> ByResources<T> {
    /// What `work_out` gives for a node like this.
    pub(super) fn of(&mut self, row: &Row, work_out: impl FnOnce() -> T) -> T {
        let is_alike = |(known, _): &&(Row, T)| {
            known.asked == row.asked && known.counted == row.counted && known.allocatable == row.allocatable
        };
        if let Some((_, scores)) = self.known.get(self.last).filter(is_alike) {
            return *scores;
        }
        if let Some(place) = self.known.iter().position(|known| is_alike(&known)) {
            self.last = place;
            return self.known[place].1;
        }
        let new = (*row, work_out());
        if self.known.len() < ALIKE_MAX {
            self.last = self.known.len();
            self.known.push(new);
        } else {
            self.last = (self.last + 1) % ALIKE_MAX;
            self.known[self.last] = new;
        }
        new.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_cache_line() {
        assert_eq!(size_of::<Row>(), 64);
    }

    #[test]
    fn what_is_remembered_is_what_would_be_worked_out() {
        let mut scores = ByResources::default();
        let row = |cpu_millicores: u64| Row { asked: Resources { cpu_millicores, memory_bytes: 1 }, ..Row::default() };
        let mut worked_out = 0;
        // Twenty kinds of nodes, more than are remembered: in blocks first, then in turn.
        let blocks = (0..20).flat_map(|kind| [kind; 5]);
        for kind in blocks.chain((0..60).map(|number| number % 20)) {
            let found = scores.of(&row(kind), || {
                worked_out += 1;
                3 * kind
            });
            assert_eq!(found, 3 * kind);
        }
        assert!((20..=80).contains(&worked_out), "worked out {worked_out} times");
    }
}
