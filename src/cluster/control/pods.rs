//! All pods, by their number.
//!
//! Numbers are given in order and never again, so a pod stands at the place of its number: every probe of every pod looks it up, and in a
//! cluster of ten thousand a search among them costs more than the probe. Places before the oldest living pod are given back.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Index;

use super::pod::Pod;

/// The pods that are there, in the order of their creation.
#[derive(Default)]
pub(in crate::cluster) struct Pods {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Option<Box<Pod>>>,
    /// The numbers of those on each node, by its index.
    by_node: Vec<BTreeSet<u64>>,
}

impl Pods {
    fn place_of(&self, id: u64) -> Option<usize> {
        usize::try_from(id.checked_sub(self.first)?).ok()
    }

    /// A pod, unless it is gone.
    pub(in crate::cluster) fn get(&self, id: &u64) -> Option<&Pod> {
        self.places.get(self.place_of(*id)?)?.as_deref()
    }

    /// A pod, unless it is gone.
    pub(in crate::cluster) fn get_mut(&mut self, id: &u64) -> Option<&mut Pod> {
        let place = self.place_of(*id)?;
        self.places.get_mut(place)?.as_deref_mut()
    }

    /// Whether a pod is there.
    pub(in crate::cluster) fn contains_key(&self, id: &u64) -> bool {
        self.get(id).is_some()
    }

    /// The number of the next pod.
    pub(super) fn next_id(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Adds a pod with the next number.
    pub(super) fn push(&mut self, pod: Pod) {
        assert_eq!(pod.record.id, self.next_id(), "pods are numbered in the order of their creation");
        self.places.push_back(Some(Box::new(pod)));
    }

    /// A pod comes to a node, and stays there to its end.
    ///
    /// # Panics
    ///
    /// If the pod is gone, or on a node already.
    pub(super) fn bind(&mut self, id: u64, node_index: usize) {
        let pod = self.get_mut(&id).expect("a pod that is bound is there");
        assert_eq!(pod.node_index.replace(node_index), None, "a pod is bound once");
        if self.by_node.len() <= node_index {
            self.by_node.resize_with(node_index + 1, BTreeSet::new);
        }
        self.by_node[node_index].insert(id);
    }

    /// Those on a node, with their numbers.
    pub(super) fn on(&self, node_index: usize) -> impl Iterator<Item = (&u64, &Pod)> + Clone {
        let ids = self.by_node.get(node_index).into_iter().flatten();
        ids.map(|id| (id, &self[id]))
    }

    /// Takes a pod out.
    pub(super) fn remove(&mut self, id: &u64) -> Option<Pod> {
        let place = self.place_of(*id)?;
        let gone = self.places.get_mut(place)?.take()?;
        if let Some(index) = gone.node_index {
            self.by_node[index].remove(id);
        }
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        Some(*gone)
    }

    /// All of them.
    pub(in crate::cluster) fn values(&self) -> impl DoubleEndedIterator<Item = &Pod> + Clone {
        self.places.iter().filter_map(|place| place.as_deref())
    }

    /// All of them with their numbers.
    pub(in crate::cluster) fn iter(&self) -> impl DoubleEndedIterator<Item = (&u64, &Pod)> + Clone {
        self.values().map(|pod| (&pod.record.id, pod))
    }

    /// Their numbers.
    pub(super) fn keys(&self) -> impl Iterator<Item = &u64> {
        self.values().map(|pod| &pod.record.id)
    }
}

impl Index<&u64> for Pods {
    type Output = Pod;

    /// # Panics
    ///
    /// If the pod is gone.
    fn index(&self, id: &u64) -> &Pod {
        self.get(id).expect("the pod is there")
    }
}
