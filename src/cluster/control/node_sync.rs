//! Nodes as the control plane has them, and what follows when one of them falls silent or speaks again.
//!
//! The rules are [`crate::cluster::node_lifecycle`]'s and [`crate::cluster::taint_eviction`]'s. Kubelets do not renew their leases one by one: when a
//! lease was last renewed follows from its phase and from the death of its machine. Who looks for silent nodes is [`monitor`].
//!
//! A node that the cloud has taken away is deleted when its silence is noticed, and the pods of a node that is no more are deleted a while later:
//! they do not wait for the five minutes of a taint.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/nodelifecycle, pkg/controller/podgc/gc_controller.go,
//! staging/src/k8s.io/cloud-provider/controllers/nodelifecycle/node_lifecycle_controller.go.

mod monitor;

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::node_disk::DiskState;
use super::node_pressure::Conditions;
use super::{Caller, Cluster, Kubelets};
use crate::cluster::node_lifecycle::{LEASE_RENEWAL, Readiness};
use crate::cluster::notice::Notice;
use crate::cluster::objects::Node;
use crate::cluster::placement::{Taint, TaintEffect};
use crate::cluster::scheduler::Change;
use crate::cluster::taint_eviction::{NOT_READY, UNREACHABLE};
use crate::engine::{EventId, Signal, Streams};
use crate::units::SimTime;

/// How often pods of deleted nodes are looked for, and how long a node must have been gone. Source: gc_controller.go.
pub(super) const GC_PERIOD: Duration = Duration::from_secs(20);
pub(super) const GC_QUARANTINE: Duration = Duration::from_secs(40);

/// A node as the control plane has it.
pub(in crate::cluster) struct NodeState {
    /// As the scheduler sees it.
    pub(in crate::cluster) spec: Node,
    /// Its taints without those of its condition.
    own_taints: Vec<Taint>,
    created_at: SimTime,
    readiness: Readiness,
    /// It has the `NoExecute` taint of its condition.
    is_tainted: bool,
    /// Raised when that taint leaves: what was planned for its pods is off.
    relief: Signal,
    /// The object is there.
    is_there: bool,
    /// Raised when its machine dies; each boot has a new one.
    lost: Signal,
    died_at: Option<SimTime>,
    /// When it was cut off from the control plane, if it is.
    cut_at: Option<SimTime>,
    /// Raised when it is heard again.
    links: Rc<Notice>,
    /// The machine is gone for good.
    is_machine_gone: bool,
    /// Its boots after the first.
    boots: Rc<Notice>,
    /// When its lease is renewed: at this time, and each period later.
    lease_from: SimTime,
    /// Its kubelet looks at memory and disk.
    pub(super) is_watched: bool,
    /// Its kubelet evicts pods, one after the other.
    pub(super) is_evicting: bool,
    /// Of what it is short.
    pub(super) conditions: Conditions,
    /// What is known of its disk.
    pub(super) disk: DiskState,
    /// Its machine has been told to shut down.
    pub(super) is_shutting_down: bool,
    /// The last event of its condition or its machine.
    last_event: Option<EventId>,
}

/// An address that nobody answers for any more, because its machine has died.
pub(super) struct Loss {
    ip: Ipv4Addr,
    at: SimTime,
    /// When the address was there again, if it was.
    until: Option<SimTime>,
    event: EventId,
}

impl NodeState {
    pub(super) fn new(spec: Node, created_at: SimTime, lease_from: SimTime, last_event: Option<EventId>) -> Self {
        Self {
            own_taints: spec.taints.clone(),
            spec,
            created_at,
            readiness: Readiness::Ready,
            is_tainted: false,
            relief: Signal::default(),
            is_there: true,
            lost: Signal::default(),
            died_at: None,
            cut_at: None,
            links: Rc::default(),
            is_machine_gone: false,
            boots: Rc::default(),
            lease_from,
            is_watched: false,
            is_evicting: false,
            conditions: Conditions::default(),
            disk: DiskState::default(),
            is_shutting_down: false,
            last_event,
        }
    }

    /// It is there and takes pods, as far as its condition goes.
    pub(super) fn is_usable(&self) -> bool {
        self.is_there && self.readiness == Readiness::Ready
    }

    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// What `kubectl get nodes` shows under STATUS. Source: Kubernetes v1.28.7 pkg/printers/internalversion/printers.go `printNode`.
    pub(super) fn status_text(&self) -> String {
        let ready = if self.readiness == Readiness::Ready { "Ready" } else { "NotReady" };
        format!("{ready}{}", if self.spec.unschedulable { ",SchedulingDisabled" } else { "" })
    }

    /// The last event of its condition or its machine.
    pub(super) fn last_event(&self) -> Option<EventId> {
        self.last_event
    }

    pub(super) fn created_at(&self) -> SimTime {
        self.created_at
    }

    fn is_quiet(&self) -> bool {
        !self.is_there || self.is_usable() && !self.is_silent() && !self.is_tainted
    }

    /// Its machine is dead.
    pub(super) fn is_dead(&self) -> bool {
        self.died_at.is_some()
    }

    /// The control plane hears nothing of it: its machine is dead, or it is cut off.
    pub(super) fn is_silent(&self) -> bool {
        self.died_at.is_some() || self.cut_at.is_some()
    }

    /// The control plane and its kubelet hear nothing of each other from now on; whether that is new.
    pub(super) fn cut_off(&mut self, now: SimTime) -> bool {
        let is_new = self.cut_at.is_none();
        self.cut_at = self.cut_at.or(Some(now));
        is_new
    }

    /// They do again; who waits for that, if they did not.
    pub(super) fn reconnect(&mut self, now: SimTime) -> Option<Rc<Notice>> {
        self.cut_at.take()?;
        if self.died_at.is_none() {
            self.lease_from = now;
        }
        Some(Rc::clone(&self.links))
    }

    /// What tells when it is heard again, if it is cut off.
    pub(super) fn missing_link(&self) -> Option<Rc<Notice>> {
        self.cut_at.map(|_| Rc::clone(&self.links))
    }

    /// The last renewal of its lease up to a time.
    fn renewed_at(&self, now: SimTime) -> SimTime {
        let until = [self.died_at, self.cut_at].into_iter().flatten().fold(now, SimTime::min);
        if until <= self.lease_from {
            return until.min(self.created_at);
        }
        let period_ns = u64::try_from(LEASE_RENEWAL.as_nanos()).expect("ten seconds in 64 bits");
        let since_ns = until.as_nanos() - self.lease_from.as_nanos();
        SimTime::from_nanos(until.as_nanos() - since_ns % period_ns)
    }

    /// Its own taints and those of its condition.
    fn write_taints(&mut self) {
        let key = match self.readiness {
            Readiness::NotReady => NOT_READY,
            Readiness::Ready | Readiness::Unknown => UNREACHABLE,
        };
        let taint = |effect| Taint { key: key.to_owned(), value: String::new(), effect };
        self.spec.taints.clone_from(&self.own_taints);
        self.spec.taints.extend((self.readiness != Readiness::Ready).then(|| taint(TaintEffect::NoSchedule)));
        self.spec.taints.extend(self.is_tainted.then(|| taint(TaintEffect::NoExecute)));
    }
}

impl Cluster {
    pub(super) fn nodes_at_start(nodes: &[Node], streams: Streams) -> Vec<NodeState> {
        let lease_from = |name: &str| {
            // Its lease was renewed at some time before.
            SimTime::ZERO.after(streams.stream("node-lease", name).uniform(Duration::ZERO, LEASE_RENEWAL))
        };
        let node = |spec: &Node| NodeState::new(spec.clone(), SimTime::ZERO, lease_from(&spec.name), None);
        nodes.iter().map(node).collect()
    }

    /// The nodes whose objects are there: their names and addresses.
    #[must_use]
    pub fn nodes(&self) -> Vec<(Rc<str>, Ipv4Addr)> {
        let state = self.inner.state.borrow();
        let there = state.nodes.iter().filter(|node| node.is_there);
        there.map(|node| (Rc::clone(&node.spec.name), node.spec.ip)).collect()
    }

    /// The same nodes whole, as the scheduler sees them.
    #[must_use]
    pub fn node_specs(&self) -> Vec<Node> {
        let state = self.inner.state.borrow();
        state.nodes.iter().filter(|node| node.is_there).map(|node| node.spec.clone()).collect()
    }

    /// Those of them that are ready.
    #[must_use]
    pub fn ready_nodes(&self) -> Vec<(Rc<str>, Ipv4Addr)> {
        let state = self.inner.state.borrow();
        let usable = state.nodes.iter().filter(|node| node.is_usable());
        usable.map(|node| (Rc::clone(&node.spec.name), node.spec.ip)).collect()
    }

    /// How often a node has come, changed or gone.
    #[must_use]
    pub fn node_changes(&self) -> u64 {
        self.inner.node_changes.version()
    }

    /// Ends at the next such change after the one numbered `seen`; its number.
    pub async fn nodes_changed_since(&self, seen: u64) -> u64 {
        self.inner.node_changes.changed_since(seen).await;
        self.inner.node_changes.version()
    }

    /// The death of the machine with this address, or of the one that a pod with this address ran on, if it left something unanswered that was sent after
    /// `tried_at` and given up at `ended_at`.
    #[must_use]
    pub fn death_at(&self, ip: Ipv4Addr, tried_at: SimTime, ended_at: SimTime) -> Option<EventId> {
        let state = self.inner.state.borrow();
        let hit =
            |loss: &&Loss| loss.ip == ip && loss.at <= ended_at && loss.until.is_none_or(|until| tried_at < until);
        state.losses.iter().find(hit).map(|loss| loss.event)
    }

    /// An address for a pod that starts anew after its node's machine has booted.
    pub(in crate::cluster) fn spare_ip(&self) -> Ipv4Addr {
        let mut state = self.inner.state.borrow_mut();
        state.spare_ips += 1;
        self.inner.config.identity.spare_pod_ip(state.spare_ips)
    }

    /// Nobody answers at a pod's address any more.
    pub(in crate::cluster) fn note_loss(&self, ip: Ipv4Addr, event: EventId) {
        let at = self.inner.sim.now();
        self.inner.state.borrow_mut().losses.push(Loss { ip, at, until: None, event });
    }

    /// Whether nothing of a Deployment is on its way: settled, no pod on a failed node that waits for its deletion, and no drain. Pods that were
    /// deleted on a silent node are not waited for: nobody can end them.
    #[must_use]
    pub fn is_calm(&self, owner: &str) -> bool {
        let state = self.inner.state.borrow();
        let mut pods = state.pods_of(owner);
        let is_moving = |pod: &super::Pod| {
            let node = pod.node_index.map(|index| &state.nodes[index]);
            let is_driven_away = node.is_some_and(|node| node.readiness == Readiness::NotReady);
            is_driven_away || node.is_some_and(NodeState::is_silent) != pod.is_deleting()
        };
        let is_unnoticed = |node: &NodeState| node.is_silent() && node.is_usable();
        state.operations_count == 0
            && state.daemons_are_calm()
            && !state.nodes.iter().any(|node| is_unnoticed(node) || node.is_evicting)
            && !pods.any(is_moving)
            && Self::is_complete(&state, owner)
    }

    /// The index of the node with this name, if its object is there.
    pub(super) fn node_named(&self, name: &str) -> Option<usize> {
        let state = self.inner.state.borrow();
        let index = *state.nodes_by_name.get(name)?;
        state.nodes[index].is_there.then_some(index)
    }

    /// The name of a node, which may be gone.
    #[must_use]
    pub(in crate::cluster) fn node_name(&self, index: usize) -> Rc<str> {
        Rc::clone(&self.inner.state.borrow().nodes[index].spec.name)
    }

    /// Raised when the machine of a node dies; it may be up already.
    pub(in crate::cluster) fn node_lost(&self, index: usize) -> Signal {
        self.inner.state.borrow().nodes[index].lost.clone()
    }

    /// The boots of a node's machine.
    pub(in crate::cluster) fn node_boots(&self, index: usize) -> Rc<Notice> {
        Rc::clone(&self.inner.state.borrow().nodes[index].boots)
    }

    /// The event with which the machine of a node died.
    pub(in crate::cluster) fn node_event(&self, index: usize) -> Option<EventId> {
        self.inner.state.borrow().nodes[index].last_event
    }

    /// A node joins.
    pub(super) fn add_node(&self, spec: Node, because: Option<EventId>) -> usize {
        let now = self.inner.sim.now();
        let (index, name) = {
            let mut state = self.inner.state.borrow_mut();
            let (name, index) = (Rc::clone(&spec.name), state.nodes.len());
            state.nodes_by_name.insert(Rc::clone(&name), index);
            state.nodes.push(NodeState::new(spec, now, now, None));
            (index, name)
        };
        self.tell_of_node(index, because, "node_ready", Vec::new());
        self.tell_runtime(&name, true, self.node_event(index));
        self.node_has_changed(index, Change::NodeAdded);
        self.watch_disk(index);
        index
    }

    /// Keeps new pods off a node, or lets them come again.
    pub(super) fn set_cordon(&self, index: usize, is_cordoned: bool, because: Option<EventId>) {
        let has_changed = {
            let mut state = self.inner.state.borrow_mut();
            let spec = &mut state.nodes[index].spec;
            std::mem::replace(&mut spec.unschedulable, is_cordoned) != is_cordoned
        };
        if has_changed {
            let kind = if is_cordoned { "node_cordoned" } else { "node_uncordoned" };
            self.tell_of_node(index, because, kind, Vec::new());
            self.node_has_changed(index, Change::NodeTaints);
        }
    }

    /// A taint of somebody's own.
    pub(super) fn add_taint(&self, index: usize, taint: Taint) {
        {
            let mut state = self.inner.state.borrow_mut();
            let node = &mut state.nodes[index];
            node.own_taints.push(taint);
            node.write_taints();
        }
        self.node_has_changed(index, Change::NodeTaints);
    }

    /// Takes it away again.
    pub(super) fn remove_taint(&self, index: usize, key: &str) {
        {
            let mut state = self.inner.state.borrow_mut();
            let node = &mut state.nodes[index];
            node.own_taints.retain(|taint| taint.key != key);
            node.write_taints();
        }
        self.node_has_changed(index, Change::NodeTaints);
    }

    /// The machine of a node dies: nothing that ran on it says anything any more.
    pub(super) fn kill_machine(&self, index: usize, is_for_good: bool, because: Option<EventId>) {
        let now = self.inner.sim.now();
        let (lost, name, ip) = {
            let mut state = self.inner.state.borrow_mut();
            let node = &mut state.nodes[index];
            node.is_machine_gone |= is_for_good;
            if node.died_at.is_some() {
                return;
            }
            node.died_at = Some(now);
            (node.lost.clone(), Rc::clone(&node.spec.name), node.spec.ip)
        };
        let event = self.tell_of_node(index, because, "node_died", Vec::new());
        self.inner.state.borrow_mut().losses.push(Loss { ip, at: now, until: None, event });
        lost.raise();
        self.tell_runtime(&name, false, Some(event));
        self.watch_nodes();
    }

    /// The machine of a node boots again. Its kubelet reports at once.
    pub(super) fn boot_machine(&self, index: usize) {
        let now = self.inner.sim.now();
        let name = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let node = &mut state.nodes[index];
            let Some(died_at) = node.died_at.filter(|_| !node.is_machine_gone) else { return };
            node.died_at = None;
            state.images.interrupt(&node.spec.name, died_at);
            node.lost = Signal::default();
            node.is_shutting_down = false;
            node.lease_from = now;
            for loss in state.losses.iter_mut().filter(|loss| loss.ip == node.spec.ip) {
                loss.until = loss.until.or(Some(now));
            }
            Rc::clone(&node.spec.name)
        };
        let died = self.node_event(index);
        let event = self.tell_of_node(index, died, "node_booted", Vec::new());
        self.tell_runtime(&name, true, Some(event));
        // A node that is cut off boots unheard.
        if !self.is_cut_off(index) {
            self.set_node_readiness(index, Readiness::Ready, Some(event));
        }
        self.node_boots(index).raise();
    }

    /// The node's object goes, and its pods with it a while later.
    pub(super) fn delete_node(&self, index: usize, because: Option<EventId>) {
        {
            let mut state = self.inner.state.borrow_mut();
            let node = &mut state.nodes[index];
            if !std::mem::replace(&mut node.is_there, false) {
                return;
            }
            node.relief.raise();
        }
        let event = self.tell_of_node(index, because, "node_removed", Vec::new());
        self.node_has_changed(index, Change::NodeGone);
        self.lose_endpoints_on(index, event);
        let this = self.clone();
        self.inner.sim.spawn("pod-gc", async move {
            let mut passes = this.inner.streams.stream("pod-gc", &this.node_name(index));
            let found = passes.uniform(Duration::ZERO, GC_PERIOD);
            this.inner.sim.sleep(found + GC_QUARANTINE).await;
            let orphans: Vec<u64> = {
                let state = this.inner.state.borrow();
                let on_it = state.pods.on(index);
                on_it.map(|(id, _)| *id).collect()
            };
            let calls = this.inner.state.borrow().clients.calls_to_delete();
            for id in orphans {
                this.called(Caller::PodCollector, calls).await;
                this.note_event(id, Some(event));
                this.pod_gone(id);
            }
            let name = this.node_name(index);
            this.inner.state.borrow_mut().forget_remains(|pod| pod.node.as_ref() == Some(&name));
        });
    }

    /// Tells what runs the containers that a machine has died, or that there is a new one.
    fn tell_runtime(&self, node: &Rc<str>, is_alive: bool, because: Option<EventId>) {
        if let Kubelets::Agents(runtime) = &self.inner.kubelets {
            runtime.node_changed(node, is_alive, because);
        }
    }

    /// Keeps new pods off a node, or lets them come again; whether there is such a node.
    pub fn cordon(&self, node: &str, is_cordoned: bool) -> bool {
        let found = self.node_named(node);
        if let Some(index) = found {
            self.set_cordon(index, is_cordoned, None);
        }
        found.is_some()
    }

    /// Tells an event of a node, and remembers it.
    pub(super) fn tell_of_node(
        &self,
        index: usize,
        because: Option<EventId>,
        kind: &'static str,
        data: Vec<(&'static str, crate::engine::Datum)>,
    ) -> EventId {
        let event = self.tell(because, kind, format!("Node/{}", self.node_name(index)), data);
        self.inner.state.borrow_mut().nodes[index].last_event = Some(event);
        event
    }

    /// The scheduler and the balancer's controller look at a node anew.
    fn node_has_changed(&self, index: usize, change: Change) {
        {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let node = &state.nodes[index];
            if node.is_there {
                state.placing.put_node(index, node.spec.clone());
            } else {
                state.placing.remove_node(index);
            }
        }
        self.inner.changes.raise(change);
        self.inner.node_changes.raise();
        self.enqueue_daemon_sets();
    }

    pub(super) fn set_node_readiness(&self, index: usize, readiness: Readiness, because: Option<EventId>) {
        {
            let mut state = self.inner.state.borrow_mut();
            let node = &mut state.nodes[index];
            if !node.is_there || node.readiness == readiness {
                return;
            }
            node.readiness = readiness;
            node.write_taints();
        }
        let kind = if readiness == Readiness::Ready { "node_ready" } else { "node_not_ready" };
        self.tell_of_node(index, because, kind, Vec::new());
        self.node_has_changed(index, Change::NodeTaints);
    }

    /// The pods on a node that are not being deleted, oldest first.
    pub(super) fn pods_on(&self, index: usize) -> Vec<u64> {
        let state = self.inner.state.borrow();
        let on_it = state.pods.on(index).filter(|(_, pod)| !pod.is_deleting());
        on_it.map(|(id, _)| *id).collect()
    }

    /// What happens to a pod next is because of this.
    pub(super) fn note_event(&self, id: u64, event: Option<EventId>) {
        if let (Some(event), Some(pod)) = (event, self.inner.state.borrow_mut().pods.get_mut(&id)) {
            pod.last_event = event;
        }
    }
}
