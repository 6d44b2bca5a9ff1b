//! The basics of the cluster autoscaler: nodes for pods that find none, and the end of nodes that are hardly used.
//!
//! Every ten seconds it looks at the cluster:
//!
//! - *Up*: pods that the scheduler has marked as unschedulable and that would find no node now are packed onto empty nodes of the group, the largest first, each onto the first that
//!   has room; nodes that are on their way count as there. So many nodes are asked for, up to the group's maximum, and come after the
//!   provider's time. If all of them are younger than two seconds, more may be coming: nothing is done until the next look.
//! - *Down*, at each look that asked for no node: a node is unneeded while its pods, those of `DaemonSet`s included, ask for less than half of its processor and of its memory, and all others would
//!   fit elsewhere. One that has been unneeded for ten minutes, or for twenty if it is not ready, is removed, if no node was added for ten minutes and none failed to go for three. Empty nodes go
//!   together, up to ten; of the others one at a time: it is tainted, left alone for five seconds, and drained by evictions, which are tried again for two minutes. A pod that no node of the
//!   group could take forbids nothing; one that would find a node now, or on one that is coming, has no node go at this look, and so have pods that are all that young.
//!
//! Pods that are being deleted are waited for like those that are evicted, but for the overdue: they are passed over in all of this. A cordoned node may go.
//!
//! Pods of `DaemonSet`s do not keep a node, and end with it; those that wait for a node are not waited for. What else may keep a node: a budget, no controller, a local
//! volume, `kube-system` without a budget, or the pod's own word ([`keeps_its_node`]).
//!
//! While too many nodes are not ready, it takes the cluster for broken: it neither adds nor removes, and forgets who was unneeded.
//!
//! Approximated: one node group, so no expander; what fits onto new nodes, or elsewhere, is judged by requests, ports, node selectors and taints, not by affinity among pods. Pods with GPUs are as young as others.
//! Source: kubernetes/autoscaler cluster-autoscaler/FAQ.md, core/static_autoscaler.go (`RunOnce`, `allPodsAreNew`, `isScaleDownInCooldown`), core/podlistprocessor/filter_out_schedulable.go,
//! core/scaledown/{eligibility/eligibility,unneeded/nodes,actuation/actuator,actuation/drain}.go, as of Kubernetes 1.28.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::objects::{Node, PodTemplate, Resources};
use super::placement::{HostPort, TaintEffect};
use crate::units::SimTime;

/// The taint of a node that is about to go.
pub const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// From that taint to the first eviction. Source: FAQ, `node-delete-delay-after-taint`.
pub const TAINT_DELAY: Duration = Duration::from_secs(5);
/// How long evictions are tried again. Source: FAQ, `max-pod-eviction-time`.
pub const EVICTION_TIME_MAX: Duration = Duration::from_secs(120);
/// From a refused eviction to the next try. Source: cluster-autoscaler core/scaledown/actuation/drain.go.
pub const EVICTION_RETRY: Duration = Duration::from_secs(10);
/// The longest grace of such an eviction, in seconds. Source: FAQ, `max-graceful-termination-sec`.
pub const GRACE_MAX_SECONDS: u32 = 600;
/// The annotation with which a pod says whether it may be evicted for a node to go.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// A deleted pod that is there so long after its deadline and once more its grace is passed over. Source: cluster-autoscaler utils/drain/drain.go `IsPodLongTerminating`,
/// `PodLongTerminatingExtraThreshold`.
const LONG_TERMINATING: Duration = Duration::from_secs(30);
/// Pods that are all younger may not be the last. Source: cluster-autoscaler core/static_autoscaler.go `unschedulablePodTimeBuffer`.
const YOUNG: Duration = Duration::from_secs(2);
/// A node that is not ready so long after it came has failed; before, it starts. Source: cluster-autoscaler clusterstate/clusterstate.go
/// `MaxNodeStartupTime`.
pub const STARTUP_MAX: Duration = Duration::from_secs(15 * 60);
/// Empty nodes removed at once. Source: FAQ, `max-empty-bulk-delete`.
const EMPTY_AT_ONCE: usize = 10;

/// How a cluster grows and shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AutoscalerRules {
    /// Nodes of the group at least.
    pub min: usize,
    /// Nodes of the group at most.
    pub max: usize,
    /// From one look to the next.
    pub scan: Duration,
    /// A node that is used less, in percent, may be unneeded.
    pub utilization_percent: u64,
    /// How long it has to be unneeded.
    pub unneeded: Duration,
    /// How long it has to be so if it is not ready: `scale-down-unready-time`.
    pub unready: Duration,
    /// No node goes for so long after one was added.
    pub delay_after_add: Duration,
    /// No node goes for so long after one could not be drained.
    pub delay_after_failure: Duration,
    /// So many nodes may be unready whatever part of all they are: `ok-total-unready-count`.
    pub unready_ok: usize,
    /// And such a part of all, in percent, however many they are: `max-total-unready-percentage`.
    pub unready_percent_max: usize,
    /// Pods with local volumes keep their node: `skip-nodes-with-local-storage`.
    pub keeps_local_storage: bool,
    /// Pods of `kube-system` without a budget do: `skip-nodes-with-system-pods`.
    pub keeps_system: bool,
}

impl AutoscalerRules {
    /// What holds where nobody says otherwise, for a group of this size. Source: FAQ, "What are the parameters to CA?".
    #[must_use]
    pub const fn usual(min: usize, max: usize) -> Self {
        Self {
            min,
            max,
            scan: Duration::from_secs(10),
            utilization_percent: 50,
            unneeded: Duration::from_secs(600),
            unready: Duration::from_secs(1200),
            delay_after_add: Duration::from_secs(600),
            delay_after_failure: Duration::from_secs(180),
            unready_ok: 3,
            unready_percent_max: 45,
            keeps_local_storage: true,
            keeps_system: true,
        }
    }
}

/// A node of the group as a look finds it.
#[derive(Clone, Debug)]
pub struct ScanNode {
    /// Names it for good.
    pub index: usize,
    /// The node.
    pub node: Node,
    /// It belongs to the group: others only take pods in.
    pub is_in_group: bool,
    /// It takes pods: it is ready, not cordoned, and nobody is about to remove it.
    pub is_usable: bool,
    /// It is ready.
    pub is_ready: bool,
    /// It may go: it is not just starting, and nobody is about to remove it.
    pub is_candidate: bool,
    /// It is not ready, has had time enough to become so, and nobody is about to remove it.
    pub is_unready: bool,
    /// What is on it, and has to go elsewhere before it goes.
    pub pods: Vec<Rc<PodTemplate>>,
    /// Pods of `DaemonSet`s: they go with it.
    pub daemons: Vec<Rc<PodTemplate>>,
    /// One of its pods may not be evicted.
    pub is_blocked: bool,
}

/// A pod for which the scheduler has found no node.
#[derive(Clone, Debug)]
pub struct PendingPod {
    /// What it is made from.
    pub template: Rc<PodTemplate>,
    /// When it was made.
    pub created_at: SimTime,
    /// It would find a node now: the scheduler has only not tried again yet.
    pub would_fit: bool,
}

/// What a look leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// So many more nodes.
    Add(usize),
    /// This node goes.
    Remove(usize),
}

/// The autoscaler's memory.
#[derive(Debug)]
pub struct NodeAutoscaler {
    rules: AutoscalerRules,
    /// Since when each node has been unneeded.
    unneeded_since: BTreeMap<usize, SimTime>,
    added_at: Option<SimTime>,
    failed_at: Option<SimTime>,
    is_halted: bool,
}

impl NodeAutoscaler {
    /// An autoscaler that has seen nothing yet.
    #[must_use]
    pub fn new(rules: AutoscalerRules) -> Self {
        Self { rules, unneeded_since: BTreeMap::new(), added_at: None, failed_at: None, is_halted: false }
    }

    /// Its rules.
    #[must_use]
    pub fn rules(&self) -> &AutoscalerRules {
        &self.rules
    }

    /// Whether it found too many nodes unready at its last look, and so does nothing.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.is_halted
    }

    /// One look at the cluster. `pattern` is an empty node of the group, with the pods of `DaemonSet`s that such a node gets, `coming` the number of nodes on their way, `leaving` of those that are being
    /// removed with pods still on them.
    pub fn handle_scan(
        &mut self,
        now: SimTime,
        pending: &[PendingPod],
        nodes: &[ScanNode],
        pattern: (&Node, &[Rc<PodTemplate>]),
        coming: usize,
        leaving: usize,
    ) -> Vec<Wish> {
        let unready = nodes.iter().filter(|node| node.is_unready).count();
        self.is_halted =
            unready > self.rules.unready_ok && unready * 100 > self.rules.unready_percent_max * nodes.len();
        if self.is_halted {
            self.unneeded_since.clear();
            return Vec::new();
        }
        let size = nodes.iter().filter(|node| node.is_in_group).count() + coming;
        let helpless: Vec<&PendingPod> = pending.iter().filter(|pod| !pod.would_fit).collect();
        let places = packed(&helpless, pattern);
        // Who has a place on a node that is on its way needs no further one.
        let to_help: Vec<&PendingPod> = helpless
            .iter()
            .zip(&places)
            .filter(|(_, place)| place.is_none_or(|at| at >= coming))
            .map(|(pod, _)| *pod)
            .collect();
        let are_young = !to_help.is_empty() && to_help.iter().all(|pod| pod.created_at.after(YOUNG) > now);
        let needed = places.iter().flatten().max().map_or(0, |last| last + 1);
        let wanted = needed.saturating_sub(coming).min(self.rules.max.saturating_sub(size));
        if wanted > 0 && !are_young {
            self.added_at = Some(now);
            return vec![Wish::Add(wanted)];
        }
        self.note_unneeded(now, nodes);
        let is_within = |since: Option<SimTime>, delay: Duration| since.is_some_and(|since| since.after(delay) > now);
        if is_within(self.added_at, self.rules.delay_after_add)
            || is_within(self.failed_at, self.rules.delay_after_failure)
            || are_young
            || to_help.len() < pending.len()
            || leaving > 0
        {
            return Vec::new();
        }
        self.removals(now, nodes, size)
    }

    /// A node could not be drained.
    pub fn handle_failure(&mut self, index: usize, now: SimTime) {
        self.failed_at = Some(now);
        self.unneeded_since.remove(&index);
    }

    fn note_unneeded(&mut self, now: SimTime, nodes: &[ScanNode]) {
        let is_unneeded = |node: &ScanNode| {
            node.is_in_group
                && node.is_candidate
                && !node.is_blocked
                && is_little_used(node, self.rules.utilization_percent)
                && fit_elsewhere(node, nodes)
        };
        let unneeded: Vec<usize> = nodes.iter().filter(|node| is_unneeded(node)).map(|node| node.index).collect();
        self.unneeded_since.retain(|index, _| unneeded.contains(index));
        for index in unneeded {
            self.unneeded_since.entry(index).or_insert(now);
        }
    }

    fn removals(&self, now: SimTime, nodes: &[ScanNode], size: usize) -> Vec<Wish> {
        let spare = size.saturating_sub(self.rules.min);
        let is_due = |node: &&ScanNode| {
            let span = if node.is_ready { self.rules.unneeded } else { self.rules.unready };
            self.unneeded_since.get(&node.index).is_some_and(|since| since.after(span) <= now)
        };
        let due: Vec<&ScanNode> = nodes.iter().filter(is_due).collect();
        let empty = due.iter().filter(|node| node.pods.is_empty()).take(EMPTY_AT_ONCE.min(spare));
        let empty: Vec<Wish> = empty.map(|node| Wish::Remove(node.index)).collect();
        if !empty.is_empty() {
            return empty;
        }
        due.first().filter(|_| spare > 0).map(|node| Wish::Remove(node.index)).into_iter().collect()
    }
}

/// A pod, as far as it may keep its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptPod<'a> {
    /// What it is made from.
    pub template: &'a PodTemplate,
    /// Its namespace.
    pub namespace: &'a str,
    /// Nobody would make it anew.
    pub is_bare: bool,
    /// A budget protects it.
    pub has_budget: bool,
    /// When its deletion was asked for, and its grace in seconds.
    pub deleted: Option<(SimTime, u32)>,
}

/// Whether a pod that was deleted with a grace in seconds should have ended long ago, with another grace of its own and half a minute on top.
#[must_use]
pub fn is_overdue(deleted: Option<(SimTime, u32)>, own_grace_seconds: u32, now: SimTime) -> bool {
    let graces = |seconds: u32| Duration::from_secs(u64::from(seconds) + u64::from(own_grace_seconds));
    deleted.is_some_and(|(at, seconds)| at.after(graces(seconds) + LONG_TERMINATING) < now)
}

/// Whether a pod that is not a `DaemonSet`'s keeps its node, whatever its budget allows. One that is overdue keeps nothing.
///
/// Source: FAQ, "What types of pods can prevent CA from removing a node?"; cluster-autoscaler simulator/drainability/rules, utils/drain/drain.go.
#[must_use]
pub fn keeps_its_node(rules: &AutoscalerRules, pod: &KeptPod<'_>, now: SimTime) -> bool {
    let is_overdue = is_overdue(pod.deleted, pod.template.grace_seconds, now);
    let says = |word: &str| pod.template.annotations.get(SAFE_TO_EVICT).is_some_and(|written| written == word);
    if is_overdue || says("true") {
        return false;
    }
    says("false")
        || pod.is_bare
        || (rules.keeps_local_storage && pod.template.has_local_storage)
        || (rules.keeps_system && pod.namespace == "kube-system" && !pod.has_budget)
}

/// Onto which of as many empty nodes as they need each of these pods comes: largest first, each onto the first that has room. None: it fits on none.
fn packed(pods: &[&PendingPod], (pattern, daemons): (&Node, &[Rc<PodTemplate>])) -> Vec<Option<usize>> {
    let size = |pod: &PodTemplate| {
        let share = |asked: u64, whole: u64| u128::from(asked) * 1_000_000 / u128::from(whole.max(1));
        share(pod.requests.cpu_millicores, pattern.allocatable.cpu_millicores)
            .max(share(pod.requests.memory_bytes, pattern.allocatable.memory_bytes))
    };
    let all = pods.iter().map(|pod| &*pod.template).enumerate();
    let mut sorted: Vec<(usize, &PodTemplate)> = all.filter(|(_, pod)| may_use(pod, pattern)).collect();
    sorted.sort_by_key(|(_, pod)| std::cmp::Reverse(size(pod)));
    let mut bins: Vec<Room> = Vec::new();
    let mut places = vec![None; pods.len()];
    for (number, pod) in sorted {
        places[number] = bins.iter_mut().position(|bin| bin.take(pod));
        let mut bin = Room::of(pattern, daemons);
        if places[number].is_none() && bin.take(pod) {
            places[number] = Some(bins.len());
            bins.push(bin);
        }
    }
    places
}

/// What is free on a node.
struct Room {
    free: Resources,
    extended: BTreeMap<String, u64>,
    ports: BTreeSet<HostPort>,
    pods: usize,
}

impl Room {
    /// Beside these pods.
    fn of(node: &Node, daemons: &[Rc<PodTemplate>]) -> Self {
        let (extended, ports) = (node.extended.clone(), BTreeSet::new());
        let mut room = Self { free: node.allocatable, extended, ports, pods: node.pods_max };
        for daemon in daemons {
            room.take(daemon);
        }
        room
    }

    /// Takes a pod's requests off, if there is room.
    fn take(&mut self, pod: &PodTemplate) -> bool {
        let asked = pod.requests;
        let free = |name: &str| self.extended.get(name).copied().unwrap_or(0);
        let fits = self.pods > 0
            && asked.cpu_millicores <= self.free.cpu_millicores
            && asked.memory_bytes <= self.free.memory_bytes
            && pod.placement.extended.iter().all(|(name, amount)| *amount <= free(name))
            && !pod.placement.host_ports.iter().any(|port| self.ports.iter().any(|taken| taken.conflicts_with(port)));
        if fits {
            self.ports.extend(pod.placement.host_ports.iter().cloned());
            for (name, amount) in &pod.placement.extended {
                if let Some(free) = self.extended.get_mut(name) {
                    *free -= amount;
                }
            }
            self.free.cpu_millicores -= asked.cpu_millicores;
            self.free.memory_bytes -= asked.memory_bytes;
            self.pods -= 1;
        }
        fits
    }
}

/// Whether a pod may run on a node at all.
fn may_use(pod: &PodTemplate, node: &Node) -> bool {
    let bears =
        node.taints.iter().all(|taint| taint.effect == TaintEffect::PreferNoSchedule || pod.placement.tolerates(taint));
    !node.unschedulable && bears && pod.placement.admits(node)
}

fn is_little_used(node: &ScanNode, percent: u64) -> bool {
    let sum = |part: fn(&Resources) -> u64| {
        let all = node.pods.iter().chain(&node.daemons);
        all.map(|pod| part(&pod.requests)).sum::<u64>()
    };
    let is_below = |asked: u64, whole: u64| u128::from(asked) * 100 < u128::from(whole) * u128::from(percent);
    is_below(sum(|requests| requests.cpu_millicores), node.node.allocatable.cpu_millicores)
        && is_below(sum(|requests| requests.memory_bytes), node.node.allocatable.memory_bytes)
}

/// Whether all pods of a node fit on the other ones.
fn fit_elsewhere(node: &ScanNode, nodes: &[ScanNode]) -> bool {
    let others: Vec<&ScanNode> = nodes.iter().filter(|other| other.index != node.index && other.is_usable).collect();
    let mut rooms: Vec<Room> = others
        .iter()
        .map(|other| {
            let mut room = Room::of(&other.node, &other.daemons);
            for pod in &other.pods {
                room.take(pod);
            }
            room
        })
        .collect();
    let find = |pod: &Rc<PodTemplate>| {
        let mut places = others.iter().zip(&mut rooms);
        places.any(|(other, room)| may_use(pod, &other.node) && room.take(pod))
    };
    node.pods.iter().all(find)
}

#[cfg(test)]
mod tests;
