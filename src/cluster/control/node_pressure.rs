//! Memory of nodes: each kubelet looks at what its pods hold, and evicts when there is too little left.
//!
//! The rules are [`crate::cluster::kubelet::pressure`]'s. Only what runs in a [`crate::cluster::Runtime`] that tells its memory counts; a node without such a
//! pod is not looked at.

use std::time::Duration;

use super::{Cluster, Kubelets};
use crate::cluster::kubelet::pressure::{CHECK_PERIOD, MEMORY_PRESSURE, PodMemory, PressureWatch, victim};
use crate::cluster::placement::{Taint, TaintEffect};

impl Cluster {
    /// Has a node's kubelet look at its memory from now on, for as long as there is a pod whose memory is known.
    pub(in crate::cluster) fn watch_memory(&self, index: usize) {
        let is_watched = std::mem::replace(&mut self.inner.state.borrow_mut().nodes[index].is_memory_watched, true);
        if is_watched {
            return;
        }
        let this = self.clone();
        self.inner.sim.spawn("eviction-manager", async move {
            let mut phases = this.inner.streams.stream("eviction-manager", &this.node_name(index));
            let mut wait = phases.uniform(Duration::ZERO, CHECK_PERIOD);
            let mut watch = PressureWatch::default();
            let mut was_under_pressure = false;
            loop {
                this.inner.sim.sleep(wait).await;
                wait = CHECK_PERIOD;
                let pods = this.memory_on(index);
                if pods.is_empty() && !was_under_pressure {
                    this.inner.state.borrow_mut().nodes[index].is_memory_watched = false;
                    return;
                }
                let usage_bytes = pods.iter().map(|pod| pod.usage_bytes).sum();
                let allocatable_bytes = this.inner.state.borrow().nodes[index].spec.allocatable.memory_bytes;
                let look = watch.look(this.inner.sim.now(), allocatable_bytes, usage_bytes);
                if look.is_under_pressure != std::mem::replace(&mut was_under_pressure, look.is_under_pressure) {
                    this.write_pressure(index, look.is_under_pressure);
                }
                if let Some(id) = victim(&pods).filter(|_| look.evicts) {
                    this.evict_for_memory(id, index);
                }
            }
        });
    }

    /// What the pods on a node hold, of those that tell.
    fn memory_on(&self, index: usize) -> Vec<PodMemory> {
        let Kubelets::Agents(runtime) = &self.inner.kubelets else { return Vec::new() };
        let state = self.inner.state.borrow();
        if state.nodes[index].is_dead() {
            return Vec::new();
        }
        let on_it = state.pods.on(index).filter(|(_, pod)| !pod.evicted.is_raised());
        on_it
            .filter_map(|(id, pod)| {
                let usage_bytes = runtime.usage(pod.ip?)?.memory_bytes?;
                let request_bytes = pod.template.requests.memory_bytes;
                Some(PodMemory { id: *id, usage_bytes, request_bytes, priority: pod.template.placement.priority })
            })
            .collect()
    }

    fn write_pressure(&self, index: usize, is_under_pressure: bool) {
        let kind = if is_under_pressure { "node_memory_pressure" } else { "node_memory_pressure_over" };
        self.tell_of_node(index, self.node_event(index), kind, Vec::new());
        if is_under_pressure {
            let (key, value) = (MEMORY_PRESSURE.to_owned(), String::new());
            self.add_taint(index, Taint { key, value, effect: TaintEffect::NoSchedule });
        } else {
            self.remove_taint(index, MEMORY_PRESSURE);
        }
    }

    fn evict_for_memory(&self, id: u64, index: usize) {
        self.note_event(id, self.node_event(index));
        self.tell_of_pod(id, "evicted_by_kubelet", vec![("reason", "the node was low on resource: memory".into())]);
        let evicted = self.inner.state.borrow().pods.get(&id).map(|pod| pod.evicted.clone());
        if let Some(evicted) = evicted {
            evicted.raise();
        }
    }
}
