//! The eviction manager of each node's kubelet: it looks at memory and disk, and ends pods when there is too little left of either.
//!
//! The rules are [`crate::cluster::kubelet::pressure`]'s and [`crate::cluster::kubelet::disk`]'s. Only what runs in a [`crate::cluster::Runtime`] that tells its memory or its disk counts; a
//! node without a disk of known size, and without such a pod, is not looked at. One that evicts waits until the pod has been cleaned up, or 40 s, and looks again at once; else it looks every ten
//! seconds. Memory comes before disk.

use std::rc::Rc;
use std::time::Duration;

use super::pod::KillCause;
use super::{Cluster, Kubelets};
use crate::cluster::kubelet::disk::{self, DISK_PRESSURE, DiskUse, DiskWatch, EPHEMERAL_STORAGE, PodDisk};
use crate::cluster::kubelet::pressure::{self, CHECK_PERIOD, MEMORY_PRESSURE, PodMemory, PressureWatch};
use crate::cluster::kubelet::shutdown::CRITICAL;
use crate::cluster::notice::until;
use crate::cluster::objects::{PodTemplate, Resources};
use crate::cluster::placement::{Taint, TaintEffect};
use crate::engine::Signal;

/// How long it waits for a pod that it ends. Source: Kubernetes v1.28.7 pkg/kubelet/pod_workers.go `killPodNow`.
const END_WAIT: Duration = Duration::from_secs(10);
/// How often it asks whether a pod has been cleaned up, and how often at most. Source: eviction_manager.go `podCleanupPollFreq`, `podCleanupTimeout`.
const CLEANUP_POLL: Duration = Duration::from_secs(1);
const CLEANUP_POLLS: usize = 30;

/// Of what a node is short, as its kubelet says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Conditions {
    memory: bool,
    disk: bool,
}

/// What a look remembers for the next.
#[derive(Default)]
struct Watches {
    memory: PressureWatch,
    disk: DiskWatch,
}

/// A pod that is to be evicted.
struct Order {
    id: u64,
    reason: String,
    why: KillCause,
}

impl Cluster {
    /// Has a node's kubelet look at memory and disk from now on, for as long as there is something to see.
    pub(in crate::cluster) fn watch_pressure(&self, index: usize) {
        let is_watched = std::mem::replace(&mut self.inner.state.borrow_mut().nodes[index].is_watched, true);
        if is_watched {
            return;
        }
        let this = self.clone();
        self.inner.sim.spawn("eviction-manager", async move {
            let mut phases = this.inner.streams.stream("eviction-manager", &this.node_name(index));
            let mut wait = phases.uniform(Duration::ZERO, CHECK_PERIOD);
            let mut watches = Watches::default();
            loop {
                this.inner.sim.sleep(wait).await;
                let memory = this.memory_on(index);
                let used = this.disk_use_on(index);
                if memory.is_empty() && used.is_empty() && this.has_nothing_to_watch(index) {
                    let node = &mut this.inner.state.borrow_mut().nodes[index];
                    (node.is_watched, node.is_evicting) = (false, false);
                    return;
                }
                let orders = this.look_at(index, &mut watches, &memory, &used);
                wait = if orders.is_empty() { CHECK_PERIOD } else { Duration::ZERO };
                this.inner.state.borrow_mut().nodes[index].is_evicting = !orders.is_empty();
                this.evict_in_turn(index, orders).await;
            }
        });
    }

    /// Whether a node has neither a disk that may fill nor a condition that has to end.
    fn has_nothing_to_watch(&self, index: usize) -> bool {
        let state = self.inner.state.borrow();
        let node = &state.nodes[index];
        !node.is_there() || node.spec.disk.is_none() && node.conditions == Conditions::default()
    }

    /// One look: the conditions are written, images removed, and pods found that have to go.
    fn look_at(
        &self,
        index: usize,
        watches: &mut Watches,
        memory: &[PodMemory],
        used: &[(u64, DiskUse)],
    ) -> Vec<Order> {
        if self.inner.state.borrow().nodes[index].is_dead() {
            return Vec::new();
        }
        let now = self.inner.sim.now();
        let usage_bytes = memory.iter().map(|pod| pod.usage_bytes).sum();
        let allocatable_bytes = self.inner.state.borrow().nodes[index].spec.allocatable.memory_bytes;
        let of_memory = watches.memory.look(now, allocatable_bytes, usage_bytes);
        let is_short = self
            .disk_taken(index)
            .is_some_and(|(capacity, taken)| watches.disk.look(now, capacity, taken.total_bytes()));
        let conditions = Conditions { memory: of_memory.is_under_pressure, disk: watches.disk.is_under_pressure(now) };
        self.write_conditions(index, conditions);
        let above = self.above_their_limits(used);
        if !above.is_empty() {
            return above;
        }
        if of_memory.evicts {
            let reason = "the node was low on resource: memory".to_owned();
            let order = |id| Order { id, reason, why: KillCause::NodePressure };
            return pressure::victim(memory).map(order).into_iter().collect();
        }
        if !is_short {
            return Vec::new();
        }
        self.remove_images(index, u64::MAX);
        self.victim_for_disk(index).into_iter().collect()
    }

    /// Pods that take more than their limits allow. Critical ones stay.
    fn above_their_limits(&self, used: &[(u64, DiskUse)]) -> Vec<Order> {
        let state = self.inner.state.borrow();
        let order = |(id, used): &(u64, DiskUse)| {
            let template = &state.pods.get(id)?.template;
            let reason = disk::exceeded(used, &template.storage, main_container(template))?;
            let is_critical = template.placement.priority >= CRITICAL;
            (!is_critical).then_some(Order { id: *id, reason, why: KillCause::StorageLimit })
        };
        used.iter().filter_map(order).collect()
    }

    /// The pod that goes when a disk is too full, if it still is.
    fn victim_for_disk(&self, index: usize) -> Option<Order> {
        let (capacity_bytes, taken) = self.disk_taken(index)?;
        let used_bytes = taken.total_bytes();
        if !disk::is_short(capacity_bytes, used_bytes) {
            return None;
        }
        let Kubelets::Agents(runtime) = &self.inner.kubelets else { return None };
        let state = self.inner.state.borrow();
        let of = |(id, pod): (&u64, &super::Pod)| PodDisk {
            id: *id,
            usage_bytes: pod.ip.and_then(|ip| runtime.disk_use(ip)).map_or(0, |used| used.total_bytes()),
            request_bytes: pod.template.placement.extended.get(EPHEMERAL_STORAGE).copied().unwrap_or(0),
            priority: pod.template.placement.priority,
        };
        let pods: Vec<PodDisk> = state.pods.on(index).map(of).collect();
        let chosen = disk::victim(&pods)?;
        let container = main_container(&state.pods[&chosen.id].template);
        let reason = disk::shortage_message(capacity_bytes, used_bytes, &chosen, container);
        Some(Order { id: chosen.id, reason, why: KillCause::DiskPressure })
    }

    /// Evicts pods one after the other, and waits until all have been cleaned up.
    async fn evict_in_turn(&self, index: usize, orders: Vec<Order>) {
        let mut ends: Vec<Signal> = Vec::new();
        for order in orders {
            let Some(end) = self.evict_by_kubelet(index, &order) else { continue };
            let _ = until(self.inner.sim.sleep(END_WAIT), end.raised()).await;
            ends.push(end);
        }
        for _ in 0..CLEANUP_POLLS {
            if ends.is_empty() {
                return;
            }
            self.inner.sim.sleep(CLEANUP_POLL).await;
            ends.retain(|end| !end.is_raised());
        }
    }

    /// Ends a pod, unless it is ending already; what is raised when it is gone.
    fn evict_by_kubelet(&self, index: usize, order: &Order) -> Option<Signal> {
        let (evicted, removed) = {
            let mut state = self.inner.state.borrow_mut();
            let pod = state.pods.get_mut(&order.id)?;
            pod.evicted_for = pod.evicted_for.or(Some(order.why));
            (pod.evicted.clone(), pod.removed.clone())
        };
        if !evicted.is_raised() {
            self.note_event(order.id, self.node_event(index));
            self.tell_of_pod(order.id, "evicted_by_kubelet", vec![("reason", order.reason.as_str().into())]);
            evicted.raise();
        }
        Some(removed)
    }

    /// What the pods on a node hold of memory, of those that tell.
    fn memory_on(&self, index: usize) -> Vec<PodMemory> {
        let Kubelets::Agents(runtime) = &self.inner.kubelets else { return Vec::new() };
        let state = self.inner.state.borrow();
        if state.nodes[index].is_dead() {
            return Vec::new();
        }
        let of = |(id, pod): (&u64, &super::Pod)| {
            let usage_bytes = runtime.usage(pod.ip?)?.memory_bytes?;
            let request_bytes = pod.template.requests.memory_bytes;
            Some(PodMemory { id: *id, usage_bytes, request_bytes, priority: pod.template.placement.priority })
        };
        state.pods.on(index).filter_map(of).collect()
    }

    /// What they take of its disk, of those that tell.
    pub(super) fn disk_use_on(&self, index: usize) -> Vec<(u64, DiskUse)> {
        let Kubelets::Agents(runtime) = &self.inner.kubelets else { return Vec::new() };
        let state = self.inner.state.borrow();
        let on_it = state.pods.on(index);
        on_it.filter_map(|(id, pod)| Some((*id, runtime.disk_use(pod.ip?)?))).collect()
    }

    fn write_conditions(&self, index: usize, conditions: Conditions) {
        let before = std::mem::replace(&mut self.inner.state.borrow_mut().nodes[index].conditions, conditions);
        if before.memory != conditions.memory {
            let kind = if conditions.memory { "node_memory_pressure" } else { "node_memory_pressure_over" };
            self.tell_of_node(index, self.node_event(index), kind, Vec::new());
            self.write_pressure_taint(index, MEMORY_PRESSURE, conditions.memory);
        }
        if before.disk != conditions.disk {
            let kind = if conditions.disk { "node_disk_pressure" } else { "node_disk_pressure_over" };
            let filler = self.filler_of(index).filter(|_| conditions.disk);
            let mut data = self.disk_taken(index).map(|(capacity, taken)| taken.told(capacity)).unwrap_or_default();
            let because = filler.map(|(object, event)| {
                data.push(("most_by", object.into()));
                event
            });
            self.tell_of_node(index, because.or(self.node_event(index)), kind, data);
            self.write_pressure_taint(index, DISK_PRESSURE, conditions.disk);
        }
    }

    fn write_pressure_taint(&self, index: usize, key: &str, is_on: bool) {
        if is_on {
            let (key, value) = (key.to_owned(), String::new());
            self.add_taint(index, Taint { key, value, effect: TaintEffect::NoSchedule });
        } else {
            self.remove_taint(index, key);
        }
    }

    /// Why a node's kubelet takes no further pod like this one, if it does not. One that has processor or memory to itself is taken by a node that is short of memory alone.
    /// Source: eviction_manager.go `Admit`.
    pub(in crate::cluster) fn pressure_refusal(&self, index: usize, id: u64) -> Option<String> {
        let state = self.inner.state.borrow();
        let Conditions { memory, disk } = state.nodes[index].conditions;
        let template = &state.pods.get(&id)?.template;
        let is_best_effort = template.requests == Resources::default();
        let taint = Taint { key: MEMORY_PRESSURE.to_owned(), value: String::new(), effect: TaintEffect::NoSchedule };
        let bears_memory = !is_best_effort || template.placement.tolerates(&taint);
        if template.placement.priority >= CRITICAL || !disk && (!memory || bears_memory) {
            return None;
        }
        let names = [(memory, "MemoryPressure"), (disk, "DiskPressure")];
        let names: Vec<&str> = names.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| *name).collect();
        Some(format!("The node had condition: [{}].", names.join(" ")))
    }

    /// Why a pod's kubelet has evicted it, if it has.
    pub(in crate::cluster) fn evicted_for(&self, id: u64) -> Option<KillCause> {
        self.inner.state.borrow().pods.get(&id).and_then(|pod| pod.evicted_for)
    }
}

/// The container whose process is simulated.
fn main_container(template: &Rc<PodTemplate>) -> &str {
    template.containers.first().map_or("", |container| &container.name)
}
