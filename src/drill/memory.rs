//! What a process holds of memory, a gateway's or a backend's, and the limit above which the kernel ends it.
//!
//! Memory is a sum over what the process holds: itself, its clusters, its downstream connections, its requests under way. It is looked at where
//! it grows: at each new connection, each new request and each new cluster. A memory cgroup lets its processes have exactly its limit; the one page more that it
//! cannot find ends the process with SIGKILL.
//!
//! Approximated: what a connection or request held is free again at its end, while an allocator keeps some of it; Envoy's overload manager
//! (which Istio does not configure) is not modelled.
//! Source: Linux Documentation/admin-guide/cgroup-v2.rst (`memory.max`); Kubernetes pkg/kubelet/cm/helpers_linux.go (the limit becomes the
//! cgroup's).

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use super::config::MemoryCosts;
use super::node_memory::NodeMemory;
use crate::backend::Ledger;
use crate::engine::Signal;

/// The memory of one process.
#[derive(Default)]
pub struct Memory {
    costs: MemoryCosts,
    cluster_count: Cell<u64>,
    /// None: no limit.
    limit_bytes: Option<u64>,
    /// The process's own count of its downstream connections, once it has one.
    connections: OnceCell<Rc<Cell<usize>>>,
    requests_begun: Cell<u64>,
    requests_done: Cell<u64>,
    exceeded: Signal,
    /// What it shares its node's memory with, if that is known.
    node: OnceCell<Rc<NodeMemory>>,
    is_nodes_victim: Cell<bool>,
}

impl Memory {
    /// A process that holds nothing yet but itself and its clusters.
    #[must_use]
    pub fn new(costs: MemoryCosts, cluster_count: usize, limit_bytes: Option<u64>) -> Self {
        Self {
            costs,
            cluster_count: Cell::new(u64::try_from(cluster_count).unwrap_or(u64::MAX)),
            limit_bytes,
            connections: OnceCell::new(),
            requests_begun: Cell::new(0),
            requests_done: Cell::new(0),
            exceeded: Signal::default(),
            node: OnceCell::new(),
            is_nodes_victim: Cell::new(false),
        }
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let connections = self.connections.get().map_or(0, |count| u64::try_from(count.get()).unwrap_or(u64::MAX));
        let active = self.requests_begun.get().saturating_sub(self.requests_done.get());
        let parts = [
            (self.costs.cluster_bytes, self.cluster_count.get()),
            (self.costs.connection_bytes, connections),
            (self.costs.request_bytes, active),
        ];
        parts.iter().fold(self.costs.base_bytes, |sum, (bytes, count)| sum.saturating_add(bytes.saturating_mul(*count)))
    }

    /// Requests begun so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests_begun.get()
    }

    /// Raised when the process has to end: it holds more than its limit, or its node has no more.
    #[must_use]
    pub fn exceeded(&self) -> Signal {
        self.exceeded.clone()
    }

    /// It shares the memory of this node from now on.
    ///
    /// # Panics
    ///
    /// If it shares another's already.
    pub(super) fn share(&self, node: Rc<NodeMemory>) {
        assert!(self.node.set(node).is_ok(), "a process is on one node");
        self.look();
    }

    /// Its node has no memory left, and it has to go.
    pub(super) fn end_for_node(&self) {
        self.is_nodes_victim.set(true);
        self.exceeded.raise();
    }

    /// Whether it had to go for its node's sake.
    #[must_use]
    pub fn ended_for_node(&self) -> bool {
        self.is_nodes_victim.get()
    }

    /// Its connections are counted there.
    ///
    /// # Panics
    ///
    /// If they are counted elsewhere already.
    pub fn count_connections(&self, count: Rc<Cell<usize>>) {
        assert!(self.connections.set(count).is_ok(), "a process has one count of its connections");
        self.look();
    }

    /// It has so many clusters now.
    pub fn set_cluster_count(&self, count: usize) {
        self.cluster_count.set(u64::try_from(count).unwrap_or(u64::MAX));
        self.look();
    }

    /// A connection has been counted.
    pub fn connection_opened(&self) {
        self.look();
    }

    /// A request has begun.
    pub fn request_begun(&self) {
        self.requests_begun.set(self.requests_begun.get() + 1);
        self.look();
    }

    /// A request has ended.
    pub fn request_done(&self) {
        self.requests_done.set(self.requests_done.get() + 1);
    }

    fn look(&self) {
        if self.limit_bytes.is_some_and(|limit| self.bytes() > limit) {
            self.exceeded.raise();
        } else if let Some(node) = self.node.get() {
            node.look();
        }
    }
}

/// A backend's process is looked at as a gateway's is.
impl Ledger for Memory {
    fn connection_opened(&self) {
        Self::connection_opened(self);
    }

    fn request_begun(&self) {
        Self::request_begun(self);
    }

    fn request_done(&self) {
        Self::request_done(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: MemoryCosts =
        MemoryCosts { base_bytes: 1000, cluster_bytes: 100, connection_bytes: 10, request_bytes: 1 };

    fn process(limit_bytes: Option<u64>) -> (Memory, Rc<Cell<usize>>) {
        let (memory, count) = (Memory::new(COSTS, 2, limit_bytes), Rc::<Cell<usize>>::default());
        memory.count_connections(Rc::clone(&count));
        (memory, count)
    }

    #[test]
    fn memory_is_a_sum_over_what_is_held_now() {
        let (memory, count) = process(None);
        assert_eq!(memory.bytes(), 1200);
        count.set(3);
        for _ in 0..4 {
            memory.request_begun();
        }
        memory.request_done();
        assert_eq!((memory.bytes(), memory.requests()), (1233, 4));
        count.set(0);
        assert_eq!(memory.bytes(), 1203);
    }

    #[test]
    fn the_limit_itself_may_be_held_and_no_byte_more() {
        let (memory, count) = process(Some(1231));
        count.set(3);
        memory.connection_opened();
        memory.request_begun();
        assert_eq!((memory.bytes(), memory.exceeded().is_raised()), (1231, false));
        memory.request_done();
        memory.request_begun();
        assert!(!memory.exceeded().is_raised(), "what has ended is free again");
        memory.request_begun();
        assert!(memory.exceeded().is_raised());
    }

    #[test]
    fn clusters_that_come_later_count_too() {
        let (memory, _) = process(Some(1350));
        memory.set_cluster_count(3);
        assert_eq!((memory.bytes(), memory.exceeded().is_raised()), (1300, false));
        memory.set_cluster_count(4);
        assert_eq!((memory.bytes(), memory.exceeded().is_raised()), (1400, true));
    }

    #[test]
    fn a_limit_below_the_process_itself_ends_it_at_its_start() {
        assert!(!process(Some(1200)).0.exceeded().is_raised());
        assert!(process(Some(1199)).0.exceeded().is_raised());
        let (unlimited, count) = process(None);
        count.set(1 << 40);
        unlimited.connection_opened();
        assert!(!unlimited.exceeded().is_raised());
    }
}
