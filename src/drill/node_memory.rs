//! The memory of a node, which its pods share: when it is used up, the kernel ends one of them.
//!
//! It is looked at whenever one of them grows, as [`Memory`] is; who goes is [`crate::cluster::kubelet::oom`]'s to say. Only gateways hold memory in a drill, and
//! backends whose memory is described, so they alone can use it up.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::memory::Memory;
use crate::cluster::kubelet::oom::{Holder, victim};
use crate::engine::Signal;

/// What is called with the object of a victim.
type Tell = Box<dyn Fn(&str)>;

/// One node's memory.
pub struct NodeMemory {
    capacity_bytes: u64,
    tenants: RefCell<Vec<Tenant>>,
    tell: Tell,
}

struct Tenant {
    object: Rc<str>,
    memory: Weak<Memory>,
    /// Raised when its process has ended.
    ended: Signal,
    score_adj: i64,
}

impl NodeMemory {
    /// A node with so much for its pods; `tell` hears of each victim.
    #[must_use]
    pub fn new(capacity_bytes: u64, tell: Tell) -> Rc<Self> {
        Rc::new(Self { capacity_bytes, tenants: RefCell::default(), tell })
    }

    /// What there is for pods, in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// A process comes to the node, until its end.
    pub fn join(self: &Rc<Self>, object: &str, memory: &Rc<Memory>, ended: Signal, score_adj: i64) {
        let tenant = Tenant { object: Rc::from(object), memory: Rc::downgrade(memory), ended, score_adj };
        let mut tenants = self.tenants.borrow_mut();
        tenants.retain(|tenant| !tenant.ended.is_raised());
        tenants.push(tenant);
        drop(tenants);
        memory.share(Rc::clone(self));
    }

    /// One of them has grown.
    pub(super) fn look(&self) {
        let chosen = {
            let tenants = self.tenants.borrow();
            let living: Vec<(&Tenant, Rc<Memory>)> = tenants
                .iter()
                .filter(|tenant| !tenant.ended.is_raised())
                .filter_map(|tenant| Some((tenant, tenant.memory.upgrade()?)))
                .collect();
            // A victim that has not ended yet frees what is missing.
            if living.iter().any(|(_, memory)| memory.exceeded().is_raised()) {
                return;
            }
            let holder = |(tenant, memory): &(&Tenant, Rc<Memory>)| Holder {
                bytes: memory.bytes(),
                score_adj: tenant.score_adj,
            };
            let holders: Vec<Holder> = living.iter().map(holder).collect();
            victim(&holders, self.capacity_bytes)
                .map(|index| (Rc::clone(&living[index].0.object), Rc::clone(&living[index].1)))
        };
        if let Some((object, memory)) = chosen {
            (self.tell)(&object);
            memory.end_for_node();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::MemoryCosts;

    const COSTS: MemoryCosts =
        MemoryCosts { base_bytes: 100_000, cluster_bytes: 0, connection_bytes: 0, request_bytes: 10_000 };

    #[test]
    fn the_first_request_too_many_ends_the_one_that_counts_most_and_no_other() {
        let told = Rc::<RefCell<Vec<String>>>::default();
        let heard = Rc::clone(&told);
        let node = NodeMemory::new(250_000, Box::new(move |object| heard.borrow_mut().push(object.to_owned())));
        let processes: Vec<(Rc<Memory>, Signal)> = [("a", 900), ("b", 500)]
            .into_iter()
            .map(|(object, score_adj)| {
                let (memory, ended) = (Rc::new(Memory::new(COSTS, 0, None)), Signal::default());
                node.join(object, &memory, ended.clone(), score_adj);
                (memory, ended)
            })
            .collect();
        let ended = || processes.iter().map(|(memory, _)| memory.exceeded().is_raised()).collect::<Vec<_>>();
        for _ in 0..5 {
            processes[1].0.request_begun();
        }
        assert_eq!((ended(), node.capacity_bytes()), (vec![false, false], 250_000));
        processes[1].0.request_begun();
        assert_eq!(ended(), [true, false], "the other had asked for less");
        processes[1].0.request_begun();
        assert_eq!((ended(), told.borrow().clone()), (vec![true, false], vec!["a".to_owned()]), "one at a time");
        assert!(processes[0].0.ended_for_node());
        // Once it has ended, its memory is free.
        processes[0].1.raise();
        for _ in 0..8 {
            processes[1].0.request_begun();
        }
        assert_eq!(ended(), [true, false]);
        processes[1].0.request_begun();
        assert_eq!((ended(), told.borrow().len()), (vec![true, true], 2));
    }
}
