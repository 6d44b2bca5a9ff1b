//! All endpoints of a Service at one time.
//!
//! A list never changes, and the next one shares with it all but the parts in which something is different: of a Service with thousands of endpoints there may be
//! as many lists on their way to its consumers. Endpoints are in the order of their pods' numbers. How they are cut into parts says nothing of
//! `EndpointSlices`.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::feed::EndpointView;
use crate::engine::EventId;

/// The most endpoints of a part.
const PART_MAX: usize = 128;

/// The endpoints of a Service. Clones share them.
#[derive(Clone, Default, Debug)]
pub struct EndpointList {
    parts: Rc<Vec<Rc<Part>>>,
}

/// Some endpoints in a row; at least one.
#[derive(Default, Debug)]
struct Part {
    pods: Vec<u64>,
    endpoints: Vec<EndpointView>,
    last_changes: OnceCell<LastChanges>,
}

/// The last change of any endpoint, and of those on a node.
#[derive(Debug)]
struct LastChanges {
    anywhere: Option<EventId>,
    by_node: BTreeMap<Rc<str>, Option<EventId>>,
}

impl EndpointList {
    /// The endpoints one by one.
    pub fn iter(&self) -> impl Iterator<Item = &EndpointView> {
        self.parts.iter().flat_map(|part| &part.endpoints)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.endpoints.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Copies of them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<EndpointView> {
        self.iter().cloned().collect()
    }

    /// Whether these are one and the same list; two that are not may say the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.parts, &other.parts)
    }

    /// The numbers of the pods behind them, one by one.
    pub(super) fn pods(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().flat_map(|part| part.pods.iter().copied())
    }

    /// The endpoint of a pod.
    pub(super) fn of_pod(&self, id: u64) -> Option<&EndpointView> {
        let part = &self.parts[self.parts.partition_point(|part| part.first() <= id).checked_sub(1)?];
        part.pods.binary_search(&id).ok().map(|index| &part.endpoints[index])
    }

    /// The list in which these endpoints are new or others than here, by their pods, and those of the pods that have left are not.
    pub(super) fn with(&self, mut changed: BTreeMap<u64, EndpointView>, left: &[u64]) -> Self {
        let mut parts = Vec::with_capacity(self.parts.len() + 1);
        let mut next = self.parts.iter().peekable();
        while let Some(part) = next.next() {
            let later = next.peek().map(|later| changed.split_off(&later.first())).unwrap_or_default();
            let here = std::mem::replace(&mut changed, later);
            if here.is_empty() && !left.iter().any(|id| part.pods.binary_search(id).is_ok()) {
                parts.push(Rc::clone(part));
            } else {
                part.with(here, left).cut(&mut parts);
            }
        }
        // There was no endpoint at all.
        Part::default().with(changed, left).cut(&mut parts);
        Self { parts: Rc::new(parts) }
    }

    /// The last event that changed one of the endpoints that are here, and one of those on a node; what is shared with `former` is left out.
    #[must_use]
    pub fn last_changes_since(&self, former: &Self, node: &str) -> [Option<EventId>; 2] {
        let is_new = |part: &&Rc<Part>| !former.parts.iter().any(|known| Rc::ptr_eq(known, part));
        self.parts.iter().filter(is_new).fold([None; 2], |[anywhere, here], part| {
            let of_part = part.last_changes();
            [anywhere.max(of_part.anywhere), here.max(of_part.by_node.get(node).copied().flatten())]
        })
    }
}

impl From<Vec<EndpointView>> for EndpointList {
    /// These endpoints, of pods that are numbered in their order.
    fn from(endpoints: Vec<EndpointView>) -> Self {
        Self::default().with((0..).zip(endpoints).collect(), &[])
    }
}

impl Part {
    fn first(&self) -> u64 {
        *self.pods.first().expect("a part has an endpoint")
    }

    fn with(&self, mut changed: BTreeMap<u64, EndpointView>, left: &[u64]) -> Self {
        let mut next = Self::default();
        let mut push = |(id, endpoint)| {
            next.pods.push(id);
            next.endpoints.push(endpoint);
        };
        for (id, known) in self.pods.iter().zip(&self.endpoints) {
            while let Some(entry) = changed.first_entry().filter(|entry| entry.key() < id) {
                push(entry.remove_entry());
            }
            match changed.remove(id) {
                Some(other) => push((*id, other)),
                None if left.binary_search(id).is_ok() => {}
                None => push((*id, known.clone())),
            }
        }
        changed.into_iter().for_each(push);
        next
    }

    /// Adds it to `parts`, in pieces that are not too long; one without endpoints is none.
    fn cut(self, parts: &mut Vec<Rc<Self>>) {
        if self.pods.len() <= PART_MAX {
            if !self.pods.is_empty() {
                parts.push(Rc::new(self));
            }
            return;
        }
        let size = self.pods.len().div_ceil(self.pods.len().div_ceil(PART_MAX));
        for (pods, endpoints) in self.pods.chunks(size).zip(self.endpoints.chunks(size)) {
            let (pods, endpoints) = (pods.to_vec(), endpoints.to_vec());
            parts.push(Rc::new(Self { pods, endpoints, last_changes: OnceCell::new() }));
        }
    }

    fn last_changes(&self) -> &LastChanges {
        self.last_changes.get_or_init(|| {
            let mut by_node: BTreeMap<Rc<str>, Option<EventId>> = BTreeMap::new();
            for endpoint in &self.endpoints {
                let last = by_node.entry(Rc::clone(&endpoint.node)).or_default();
                *last = (*last).max(endpoint.because);
            }
            LastChanges { anywhere: by_node.values().copied().max().flatten(), by_node }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn endpoint(id: u64, ready: bool) -> EndpointView {
        let ip = Ipv4Addr::from_bits(u32::try_from(id).unwrap());
        let (pod, node) = (Rc::from(format!("p{id}")), Rc::from(format!("n{}", id % 3)));
        EndpointView { ip, pod, node, ready, serving: ready, terminating: false, because: None }
    }

    fn changes(ids: impl IntoIterator<Item = u64>, ready: bool) -> BTreeMap<u64, EndpointView> {
        ids.into_iter().map(|id| (id, endpoint(id, ready))).collect()
    }

    /// A list is what a map is that the same is done to; and shares with the one before what lies apart from the change.
    #[test]
    fn a_list_follows_its_changes() {
        let (mut list, mut naive) = (EndpointList::default(), BTreeMap::new());
        let mut step = |changed: BTreeMap<u64, EndpointView>, left: &[u64]| {
            let next = list.with(changed.clone(), left);
            left.iter().for_each(|id| drop(naive.remove(id)));
            naive.extend(changed);
            assert!(next.pods().eq(naive.keys().copied()) && next.iter().eq(naive.values()));
            assert_eq!((next.len(), next.is_empty()), (naive.len(), naive.is_empty()));
            assert!((0..1500).all(|id| next.of_pod(id) == naive.get(&id)));
            assert!(next.parts.iter().all(|part| (1..=PART_MAX).contains(&part.pods.len())));
            let shared =
                next.parts.iter().filter(|part| list.parts.iter().any(|known| Rc::ptr_eq(part, known))).count();
            list = next;
            (list.parts.len(), shared)
        };
        assert_eq!(step(BTreeMap::new(), &[]), (0, 0));
        assert_eq!(step(changes((100..1100).step_by(2), false), &[]), (4, 0));
        assert_eq!(step(changes([500], true), &[]), (4, 3));
        assert_eq!(step(changes([1200], false), &[]), (4, 3));
        assert_eq!(step(changes([3], false), &[]), (4, 3));
        assert_eq!(step(changes([1300, 1301], true), &[100, 101, 1200]), (4, 2));
        assert_eq!(step(changes((100..350).map(|id| id * 2 + 1), true), &[]), (7, 1));
        let all: Vec<u64> = (0..1000).collect();
        assert_eq!(step(BTreeMap::new(), &all).0, 1);
        assert_eq!(step(BTreeMap::new(), &(1000..1400).collect::<Vec<_>>()), (0, 0));
    }
}
