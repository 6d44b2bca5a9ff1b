//! The node lifecycle controller at work: it looks for silent nodes, taints them, and has their pods leave.
//!
//! Passes of the controller that would find nothing are left out; the first one that may find something is preceded by those before it, so that it knows what they would have seen.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/nodelifecycle, staging/src/k8s.io/cloud-provider/controllers/nodelifecycle/node_lifecycle_controller.go.

use std::rc::Rc;
use std::time::Duration;

use super::NodeState;
use crate::cluster::control::{Caller, Cluster};
use crate::cluster::node_lifecycle::{MONITOR_PERIOD, NodeView, Order, Readiness, TAINT_POLL};
use crate::cluster::notice::until;
use crate::cluster::scheduler::Change;
use crate::cluster::taint_eviction::{Stay, stay, with_defaults};
use crate::engine::EventId;
use crate::units::SimTime;

/// What one pass takes: the next comes a period after its end. An assumption; it puts a pass that is due exactly at the end of a grace behind it.
const PASS: Duration = Duration::from_millis(10);
/// Passes that are made up for before the first that matters: a renewal is seen within them.
const PASSES_BEFORE: u32 = 3;
/// How often the cloud is asked whether a silent node still exists. Source: cloud-provider node_lifecycle_controller.go.
const CLOUD_PERIOD: Duration = Duration::from_secs(5);
/// What the node controller calls to taint a node: it reads it, and patches it. Source: pkg/controller/util/node/controller_utils.go.
const TAINT_CALLS: u32 = 2;

impl Cluster {
    /// Makes the node lifecycle controller look, until there is nothing more to see.
    pub(in crate::cluster::control) fn watch_nodes(&self) {
        if std::mem::replace(&mut self.inner.state.borrow_mut().is_watching_nodes, true) {
            return;
        }
        let this = self.clone();
        self.inner.sim.spawn("node-lifecycle", async move {
            let every = MONITOR_PERIOD + PASS;
            let phase = this.inner.streams.stream("node-monitor", "").uniform(Duration::ZERO, every);
            let now = this.inner.sim.now();
            let since = now.since(SimTime::ZERO).saturating_sub(phase);
            let passed = u32::try_from(since.as_nanos() / every.as_nanos()).unwrap_or(u32::MAX);
            let pass_at = |number: u32| SimTime::ZERO.after(phase + every * number);
            for number in passed.saturating_sub(PASSES_BEFORE)..=passed {
                let at = pass_at(number);
                if at < now {
                    let views = this.lifecycle_views(at);
                    this.inner.state.borrow_mut().lifecycle.handle_pass(at, &views);
                }
            }
            let mut number = if pass_at(passed) < now { passed + 1 } else { passed };
            loop {
                this.inner.sim.sleep_until(pass_at(number)).await;
                this.pass_over_nodes();
                number += 1;
                this.taint_until(pass_at(number)).await;
                let mut state = this.inner.state.borrow_mut();
                if state.nodes.iter().all(NodeState::is_quiet) {
                    state.is_watching_nodes = false;
                    return;
                }
            }
        });
    }

    /// The nodes as a pass at `now` sees them.
    fn lifecycle_views(&self, now: SimTime) -> Vec<NodeView> {
        let state = self.inner.state.borrow();
        let there = state.nodes.iter().enumerate().filter(|(_, node)| node.is_there && node.created_at <= now);
        let view = |(index, node): (usize, &NodeState)| NodeView {
            index,
            zone: Rc::clone(&node.spec.zone),
            created_at: node.created_at,
            readiness: Some(node.readiness),
            renewed_at: Some(node.renewed_at(now)),
            is_tainted: node.is_tainted,
        };
        there.map(view).collect()
    }

    fn pass_over_nodes(&self) {
        let now = self.inner.sim.now();
        let views = self.lifecycle_views(now);
        let orders = self.inner.state.borrow_mut().lifecycle.handle_pass(now, &views);
        for order in orders {
            match order {
                // The node's status and an event of it, and then its taint.
                Order::MarkUnknown(index) => self.when_called(Caller::Nodes, 2, move |this| {
                    let died = this.node_event(index);
                    this.set_node_readiness(index, Readiness::Unknown, died);
                    this.ask_the_cloud(index);
                    this.calls(Caller::Nodes, TAINT_CALLS);
                }),
                Order::MarkPodsNotReady(index) => {
                    self.inner.foreign_readiness.set(self.inner.foreign_readiness.get() + 1);
                    for id in self.pods_on(index) {
                        self.when_called(Caller::Nodes, 1, move |this| this.mark_not_ready(id, index));
                        // An event of each pod.
                        self.calls(Caller::Nodes, 1);
                    }
                }
                Order::RemoveTaints(index) => {
                    let relief = {
                        let mut state = self.inner.state.borrow_mut();
                        let node = &mut state.nodes[index];
                        node.is_tainted = false;
                        node.write_taints();
                        std::mem::take(&mut node.relief)
                    };
                    relief.raise();
                    self.node_has_changed(index, Change::NodeTaints);
                }
            }
        }
    }

    /// The node controller writes a pod of a silent node as not ready, unless the node has been heard while it waited for its client.
    fn mark_not_ready(&self, id: u64, index: usize) {
        if self.inner.state.borrow().nodes[index].readiness != Readiness::Ready {
            self.note_event(id, self.node_event(index));
            self.write_ready_condition(id, false);
        }
    }

    /// Taints as many nodes as their zones allow until the next pass.
    async fn taint_until(&self, next_pass: SimTime) {
        loop {
            let now = self.inner.sim.now();
            let Some(at) = self.inner.state.borrow().lifecycle.next_taint_at(now) else { return };
            // The queues are looked at now and then.
            let poll_ns = u64::try_from(TAINT_POLL.as_nanos()).expect("a tenth of a second in 64 bits");
            let at = SimTime::from_nanos(at.as_nanos().div_ceil(poll_ns) * poll_ns);
            if at >= next_pass {
                return;
            }
            self.inner.sim.sleep_until(at).await;
            let tainted = self.inner.state.borrow_mut().lifecycle.handle_taint_poll(at);
            for index in tainted {
                self.when_called(Caller::Nodes, TAINT_CALLS, move |this| this.taint(index));
            }
        }
    }

    /// A failed node drives its pods away, as long as they bear it.
    fn taint(&self, index: usize) {
        {
            let mut state = self.inner.state.borrow_mut();
            let node = &mut state.nodes[index];
            node.is_tainted = true;
            node.write_taints();
        }
        self.node_has_changed(index, Change::NodeTaints);
        let because = self.node_event(index);
        let event = self.tell_of_node(index, because, "node_tainted", vec![("effect", "NoExecute".into())]);
        for id in self.pods_on(index) {
            self.plan_departure(id, index, Some(event));
        }
    }

    /// Has a pod leave when it no longer bears the taints of its node.
    pub(in crate::cluster) fn plan_departure(&self, id: u64, index: usize, because: Option<EventId>) {
        let (stays, relief) = {
            let state = self.inner.state.borrow();
            let (Some(pod), node) = (state.pods.get(&id), &state.nodes[index]) else { return };
            let tolerations = with_defaults(pod.template.placement.tolerations.clone());
            (stay(&node.spec.taints, &tolerations), node.relief.clone())
        };
        match stays {
            Stay::Forever => {}
            Stay::Leaves => self.delete_for_taint(id, because),
            Stay::For(span) => {
                let this = self.clone();
                self.inner.sim.spawn("taint-eviction", async move {
                    if until(relief.raised(), this.inner.sim.sleep(span)).await.is_some() {
                        this.delete_for_taint(id, because);
                    }
                });
            }
        }
    }

    /// Deletes a pod that no longer bears its node's taints. An event of that comes before.
    fn delete_for_taint(&self, id: u64, because: Option<EventId>) {
        let (caller, calls) = {
            let state = self.inner.state.borrow();
            (state.clients.of_taints(), 1 + state.clients.calls_to_delete())
        };
        self.when_called(caller, calls, move |this| {
            this.delete_pod(id, None, because);
        });
    }

    /// Deletes a silent node whose machine the cloud no longer has.
    fn ask_the_cloud(&self, index: usize) {
        if !self.inner.state.borrow().nodes[index].is_machine_gone {
            return;
        }
        let this = self.clone();
        self.inner.sim.spawn("cloud-node-lifecycle", async move {
            let mut looks = this.inner.streams.stream("cloud-node-lifecycle", &this.node_name(index));
            this.inner.sim.sleep(looks.uniform(Duration::ZERO, CLOUD_PERIOD)).await;
            let because = this.node_event(index);
            this.delete_node(index, because);
        });
    }
}
