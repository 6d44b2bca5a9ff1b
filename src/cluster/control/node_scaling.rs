//! The cluster autoscaler at work: it looks at the nodes now and then, has some made and takes some away.
//!
//! The rules are [`crate::cluster::node_autoscaler`]'s.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::disruption_sync::{has_budget, is_protected};
use super::operations::DrainEnd;
use super::{Caller, Cluster, Keeper, Pod, State};
use crate::cluster::drain::DrainSettings;
use crate::cluster::node_autoscaler::{
    AutoscalerRules, EVICTION_RETRY, EVICTION_TIME_MAX, GRACE_MAX_SECONDS, KeptPod, NodeAutoscaler, PendingPod,
    STARTUP_MAX, ScanNode, TAINT_DELAY, TO_BE_DELETED, Wish, is_overdue, keeps_its_node,
};
use crate::cluster::objects::Node;
use crate::cluster::placement::{HOSTNAME, Taint, TaintEffect, ZONE};
use crate::engine::{Delay, EventId};
use crate::units::SimTime;

/// A node group that grows and shrinks.
#[derive(Clone, Debug)]
pub struct AutoscalerConfig {
    /// Its name: its nodes are called so, with a number.
    pub group: Rc<str>,
    /// The number of the first node to be made.
    pub number_next: usize,
    /// Zones of new nodes, used in turn.
    pub zones: Vec<Rc<str>>,
    /// A node of the group; each new one has its own name, address and zone.
    pub pattern: Node,
    /// From the wish for a node to the node that takes pods.
    pub node_start: Delay,
    /// When it grows and shrinks.
    pub rules: AutoscalerRules,
}

/// What the autoscaler is at.
pub(super) struct ScalingState {
    pub(super) autoscaler: NodeAutoscaler,
    coming: usize,
    leaving: usize,
    number_next: usize,
}

impl ScalingState {
    pub(super) fn new(config: &AutoscalerConfig) -> Self {
        let autoscaler = NodeAutoscaler::new(config.rules);
        Self { autoscaler, coming: 0, leaving: 0, number_next: config.number_next }
    }
}

impl Cluster {
    /// Starts the autoscaler, if there is one.
    pub(super) fn start_autoscaler(&self) {
        let Some(config) = self.inner.config.autoscaler.clone() else { return };
        let this = self.clone();
        self.inner.sim.spawn("cluster-autoscaler", async move {
            let scan = config.rules.scan;
            let phase = this.inner.streams.stream("cluster-autoscaler", "").uniform(Duration::ZERO, scan);
            this.inner.sim.sleep(phase).await;
            loop {
                this.scan_nodes(&config);
                this.inner.sim.sleep(scan).await;
            }
        });
    }

    fn scan_nodes(&self, config: &AutoscalerConfig) {
        let now = self.inner.sim.now();
        let (wishes, because) = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            // Pods of `DaemonSet`s fit on no other node, and are left out.
            let waiting = state.pods.values().filter(|pod| pod.is_unschedulable && !pod.is_deleting());
            let waiting: Vec<&Pod> = waiting.filter(|pod| pod.keeper != Keeper::DaemonSet).collect();
            let because = waiting.first().map(|pod| pod.last_event);
            let fitting = state.placing.would_fit(&waiting);
            let pending = waiting.iter().map(|pod| PendingPod {
                template: Rc::clone(&pod.template),
                created_at: pod.record.created_at,
                would_fit: fitting.contains(&pod.record.id),
            });
            let pending: Vec<PendingPod> = pending.collect();
            let nodes = scan_list(state, config, now);
            let daemons = state.daemons_on(&config.pattern);
            let Some(scaling) = &mut state.scaling else { return };
            let (coming, leaving) = (scaling.coming, scaling.leaving);
            let was_halted = scaling.autoscaler.is_halted();
            let wishes =
                scaling.autoscaler.handle_scan(now, &pending, &nodes, (&config.pattern, &daemons), coming, leaving);
            let is_halted = scaling.autoscaler.is_halted();
            if is_halted != was_halted {
                let unready: Vec<&ScanNode> = nodes.iter().filter(|node| node.is_unready).collect();
                let because = unready.iter().filter_map(|node| state.nodes[node.index].last_event()).max();
                let kind = if is_halted { "autoscaler_halted" } else { "autoscaler_resumed" };
                let reason = format!("{} of {} nodes are not ready", unready.len(), nodes.len());
                let object = format!("NodeGroup/{}", config.group);
                self.tell(because, kind, object, vec![("reason", reason.into())]);
            }
            (wishes, because)
        };
        for wish in wishes {
            match wish {
                Wish::Add(count) => self.order_nodes(config, count, because),
                Wish::Remove(index) => self.retire(index),
            }
        }
    }

    /// Has nodes made; they come when the provider has started them.
    fn order_nodes(&self, config: &AutoscalerConfig, count: usize, because: Option<EventId>) {
        let object = format!("NodeGroup/{}", config.group);
        let data = vec![("nodes", i64::try_from(count).unwrap_or(i64::MAX).into())];
        let event = self.tell(because, "nodegroup_scaled_up", object, data);
        for _ in 0..count {
            let (number, index) = {
                let mut state = self.inner.state.borrow_mut();
                let index = state.nodes.len() + state.scaling.as_ref().map_or(0, |scaling| scaling.coming);
                let Some(scaling) = &mut state.scaling else { return };
                scaling.coming += 1;
                scaling.number_next += 1;
                (scaling.number_next - 1, index)
            };
            let name: Rc<str> = Rc::from(format!("{}-{number}", config.group));
            let delay = config.node_start.draw(&mut self.inner.streams.stream("node-start", &name));
            let zone = Rc::clone(&config.zones[index % config.zones.len()]);
            let node = like(&config.pattern, name, self.inner.config.identity.scaled_node_ip(number), zone);
            let this = self.clone();
            self.inner.sim.spawn("node-start", async move {
                this.inner.sim.sleep(delay).await;
                if let Some(scaling) = &mut this.inner.state.borrow_mut().scaling {
                    scaling.coming -= 1;
                }
                this.add_node(node, Some(event));
            });
        }
    }

    /// Empties a node that is not needed any more, and gives its machine back.
    fn retire(&self, index: usize) {
        let event = self.tell_of_node(index, None, "node_unneeded", Vec::new());
        let key = TO_BE_DELETED.to_owned();
        self.add_taint(index, Taint { key, value: String::new(), effect: TaintEffect::NoSchedule });
        self.count_leaving(1);
        let this = self.clone();
        self.inner.sim.spawn("node-retire", async move {
            this.inner.sim.sleep(TAINT_DELAY).await;
            let settings = DrainSettings {
                grace_seconds_max: Some(GRACE_MAX_SECONDS),
                retry: EVICTION_RETRY,
                retry_for: Some(EVICTION_TIME_MAX),
                timeout: Some(EVICTION_TIME_MAX + Duration::from_secs(GRACE_MAX_SECONDS.into())),
                ..DrainSettings::of_controllers()
            };
            let end = if this.has_pods_to_move(index) {
                this.evict_all(index, settings, Caller::NodeAutoscaler, event).await
            } else {
                DrainEnd::Empty
            };
            this.count_leaving(-1);
            if end == DrainEnd::Empty {
                this.kill_machine(index, true, Some(event));
                this.delete_node(index, Some(event));
            } else {
                this.remove_taint(index, TO_BE_DELETED);
                let now = this.inner.sim.now();
                if let Some(scaling) = &mut this.inner.state.borrow_mut().scaling {
                    scaling.autoscaler.handle_failure(index, now);
                }
            }
        });
    }

    /// Whether there is a pod on a node that would have to go elsewhere. If so, those that are overdue are waited for, too.
    fn has_pods_to_move(&self, index: usize) -> bool {
        let (state, now) = (self.inner.state.borrow(), self.inner.sim.now());
        let mut pods = state.pods.on(index).filter(|(_, pod)| pod.keeper != Keeper::DaemonSet);
        pods.any(|(_, pod)| !is_long_gone(pod, now))
    }

    fn count_leaving(&self, change: isize) {
        if let Some(scaling) = &mut self.inner.state.borrow_mut().scaling {
            scaling.leaving = scaling.leaving.saturating_add_signed(change);
        }
    }
}

/// The nodes as a look finds them.
fn scan_list(state: &State, config: &AutoscalerConfig, now: SimTime) -> Vec<ScanNode> {
    let mut pods: BTreeMap<usize, Vec<&Pod>> = BTreeMap::new();
    for pod in state.pods.values() {
        if let Some(index) = pod.node_index {
            pods.entry(index).or_default().push(pod);
        }
    }
    let there = state.nodes.iter().enumerate().filter(|(_, node)| node.is_there());
    let list = there.map(|(index, node)| {
        let on_it = pods.remove(&index).unwrap_or_default();
        let (daemons, pods): (Vec<&Pod>, Vec<&Pod>) =
            on_it.into_iter().filter(|pod| !is_long_gone(pod, now)).partition(|pod| pod.keeper == Keeper::DaemonSet);
        let is_starting = !node.is_usable() && is_starting(node.created_at(), now);
        ScanNode {
            index,
            node: node.spec.clone(),
            is_in_group: is_of_group(&node.spec.name, &config.group),
            is_usable: node.is_usable() && !node.spec.unschedulable && !is_leaving(&node.spec),
            is_ready: node.is_usable(),
            is_candidate: !is_leaving(&node.spec) && !is_starting,
            is_unready: !node.is_usable() && !is_leaving(&node.spec) && !is_starting,
            is_blocked: pods.iter().any(|pod| is_protected(state, pod) || keeps(state, &config.rules, pod, now)),
            pods: pods.into_iter().map(|pod| Rc::clone(&pod.template)).collect(),
            daemons: daemons.into_iter().map(|pod| Rc::clone(&pod.template)).collect(),
        }
    });
    list.collect()
}

/// When a pod's deletion was asked for, if it was, and with how many seconds of grace.
fn deleted(pod: &Pod) -> Option<(SimTime, u32)> {
    pod.record.terminating_at.zip(pod.demands.deletion_seconds())
}

/// A pod that should have ended long ago.
fn is_long_gone(pod: &Pod, now: SimTime) -> bool {
    is_overdue(deleted(pod), pod.template.grace_seconds, now)
}

fn keeps(state: &State, rules: &AutoscalerRules, pod: &Pod, now: SimTime) -> bool {
    let kept = KeptPod {
        template: &pod.template,
        namespace: &pod.record.namespace,
        is_bare: pod.keeper == Keeper::Nobody,
        has_budget: has_budget(state, pod),
        deleted: deleted(pod),
    };
    keeps_its_node(rules, &kept, now)
}

/// A node that came in the run may still be on its way to being ready; those that the run found are not.
fn is_starting(created_at: SimTime, now: SimTime) -> bool {
    created_at > SimTime::ZERO && created_at.after(STARTUP_MAX) > now
}

/// Nodes of a group are called by its name and a number.
fn is_of_group(node: &str, group: &str) -> bool {
    let number = node.strip_prefix(group).and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

fn is_leaving(node: &Node) -> bool {
    node.taints.iter().any(|taint| taint.key == TO_BE_DELETED)
}

/// A node like another one, with a name, an address and a zone of its own.
fn like(pattern: &Node, name: Rc<str>, ip: Ipv4Addr, zone: Rc<str>) -> Node {
    let mut labels = pattern.labels.clone();
    labels.extend([(HOSTNAME, &name), (ZONE, &zone)].map(|(key, value)| (key.to_owned(), value.as_ref().to_owned())));
    // The zone's former label, where nodes have it.
    if let Some(former) = labels.get_mut("failure-domain.beta.kubernetes.io/zone") {
        zone.as_ref().clone_into(former);
    }
    Node { name, ip, zone, labels, ..pattern.clone() }
}
