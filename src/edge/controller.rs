//! What the cloud's controller wants of a balancer, and in which calls it asks for it.
//!
//! - Nodes: those that are ready, but for those it is told to leave out: labels and taints that exclude them, cordoned ones on request, those without the labels
//!   that are asked for. Under policy `Local` a node is a target while it has a pod, and weighs as much as it has.
//! - Virtual nodes (ECI) are no targets, whatever policy there is: their pods are, beside the nodes, each by its own address and port. They weigh 1 under
//!   `Local`, else as much as a node. Whether such a node is ready, and whether its labels exclude it, does not matter.
//! - Pods: those that are ready. One that terminates goes at once, even if it still serves; with `graceful-shutdown` it stays with weight 0 until it serves no
//!   more.
//! - One reconcile of a Service at a time. It adds, then removes, then changes weights, 40 targets in a call; changes that come meanwhile wait for the next. An
//!   addition over the quota is tried again at the end, and what is left then is an error, tried again after 5 s, 10 s and so on to 300 s.
//! - A CLB's call ends with its change. An NLB's makes a job, at which the controller looks every 1.2 s, and gives up after 30 s: an error too, though the job
//!   goes on.
//! - What users measure, from an endpoint's change to the change at the balancer, is a whole reconcile: it asks for the balancer, its tags and its server
//!   groups before it changes anything. So that time is the first call's, and those after it in the same reconcile are mere calls.
//!
//! - A call that the cloud's API throttles is made again ten times, a second apart, before it is an error; of an NLB at once. What a reconcile has to do besides
//!   is done all the same.
//!
//! Not modelled: the ten reconciles a second and three at a time of all Services together, one Service being what a drill is about.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud eeb0ddc68 pkg/controller/service/reconcile/backend, pkg/controller/service/{clbv1,nlbv2}/vgroups and
//! server_group_manager, pkg/provider/alibaba/nlb (waiting for jobs), pkg/controller/helper/node (excluded nodes); its pull request 486 (graceful shutdown).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::kube_proxy::categories::TrafficPolicy;
use super::kube_proxy::health::TO_BE_DELETED;
use super::load_balancer::{BackendMode, NodeTarget};
use crate::cluster::{EndpointView, Node};
use crate::engine::EventId;

/// Targets of one call.
pub const BATCH: usize = 40;
/// From one look at a job of an NLB to the next.
pub const JOB_POLL: Duration = Duration::from_millis(1200);
/// After so long the controller looks no more.
pub const JOB_PATIENCE: Duration = Duration::from_secs(30);
/// A call that the cloud's API throttles is made again after so long where it is synchronous.
pub const THROTTLED_WAIT: Duration = Duration::from_secs(1);
/// And so often; then it has failed.
pub const THROTTLED_RETRIES: u32 = 10;
/// The label of virtual nodes, whose pods are container instances of their own (ECI), with its value.
const VIRTUAL: (&str, &str) = ("type", "virtual-kubelet");
/// Before the first further try after an error; doubled for each that follows.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// At most so long.
const RETRY_LAST: Duration = Duration::from_secs(300);
/// Nodes with this label are none of its, and neither are their pods.
const MASTER: &str = "node-role.kubernetes.io/master";
/// Nodes with one of these labels are no targets.
const EXCLUDING: [&str; 4] = [
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "alpha.service-controller.kubernetes.io/exclude-balancer",
    "service.beta.kubernetes.io/exclude-node",
    "service.alibabacloud.com/exclude-node",
];

/// How changes of endpoints become changes of the balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Each endpoint by itself, each change after its own latency.
    Each,
    /// One reconcile of the Service after the other, in calls of many targets.
    Batches {
        /// When a call ends.
        calls: Calls,
        /// What a call takes that is not its reconcile's first.
        further: Duration,
        /// Of a million calls so many are throttled by the cloud's API.
        throttled_ppm: u32,
    },
}

/// When a call of the controller ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calls {
    /// With its change: CLB.
    Synchronous,
    /// When the controller next looks at the job it made: NLB.
    Jobs,
}

impl Calls {
    /// From a call to its end as the controller knows it, when its change takes this long; and whether it was given up.
    #[must_use]
    pub fn end(self, latency: Duration) -> (Duration, bool) {
        match self {
            Self::Synchronous => (latency, false),
            Self::Jobs => {
                let looks = u32::try_from(latency.as_nanos().div_ceil(JOB_POLL.as_nanos())).unwrap_or(u32::MAX);
                let ends_at = JOB_POLL.saturating_mul(looks);
                if ends_at > JOB_PATIENCE { (JOB_PATIENCE, true) } else { (ends_at, false) }
            }
        }
    }
}

impl Calls {
    /// How long a call waits because it is throttled, and whether it is given up for that. `throttled` tells it of each try.
    ///
    /// A synchronous call is made again within itself; who waits for jobs gives up at once.
    pub fn throttle(self, mut throttled: impl FnMut() -> bool) -> (Duration, bool) {
        let retries = match self {
            Self::Synchronous => THROTTLED_RETRIES,
            Self::Jobs => 0,
        };
        for made in 0..=retries {
            if !throttled() {
                return (THROTTLED_WAIT * made, false);
            }
        }
        (THROTTLED_WAIT * retries, true)
    }
}

/// How long the controller waits after errors.
#[derive(Clone, Copy, Default, Debug)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Another error: how long until the next try.
    pub fn fail(&mut self) -> Duration {
        let wait = RETRY_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        wait.min(RETRY_LAST)
    }

    /// It went well.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

/// Which of the nodes that may be targets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeReach {
    /// Under policy `Local` those with a pod, under `Cluster` all.
    WithPods,
    /// All: their health checks tell which have a pod.
    All,
    /// One, which answers for the address: [`super::announcer`].
    Leader,
}

/// What the controller is told of its targets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetRules {
    /// What targets are.
    pub mode: BackendMode,
    /// The weight of a target, unless policy `Local` gives nodes others.
    pub weight: u32,
    /// A pod that terminates stays with weight 0 while it serves.
    pub is_gentle: bool,
    /// Weights are written with the registration and never changed.
    pub keeps_weights: bool,
    /// Most targets at once.
    pub quota: Option<usize>,
    /// Which nodes may be targets.
    pub nodes: Eligibility,
    /// Which of those are.
    pub reach: NodeReach,
}

impl TargetRules {
    /// All that is ready, with this weight.
    #[must_use]
    pub fn of(mode: BackendMode, weight: u32) -> Self {
        let nodes = Eligibility::default();
        let reach = NodeReach::WithPods;
        Self { mode, weight, is_gentle: false, keeps_weights: false, quota: None, nodes, reach }
    }
}

/// Which nodes may be targets.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Eligibility {
    /// Only those with these labels.
    pub labels: BTreeMap<String, String>,
    /// Not those that are cordoned.
    pub leaves_out_cordoned: bool,
}

impl Eligibility {
    /// Whether a node that is ready may be a target, or the pods of a virtual one may be, ready or not.
    #[must_use]
    pub fn accepts(&self, node: &Node) -> bool {
        let has = |label: &&str| node.labels.contains_key(*label);
        let is_excluded = has(&MASTER) || (!is_virtual(node) && EXCLUDING.iter().any(has));
        let is_leaving = node.taints.iter().any(|taint| taint.key == TO_BE_DELETED);
        let has_labels = self.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let is_cordoned = node.unschedulable && self.leaves_out_cordoned;
        has_labels && !is_excluded && !is_leaving && !is_cordoned
    }
}

/// Whether a node is none: its pods are container instances that a virtual kubelet tells of.
#[must_use]
pub fn is_virtual(node: &Node) -> bool {
    node.labels.get(VIRTUAL.0).is_some_and(|value| value == VIRTUAL.1)
}

/// A target as the controller wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// As events tell it.
    pub name: Rc<str>,
    /// The node it is, or is on.
    pub node: Rc<str>,
    /// Why.
    pub because: Option<EventId>,
    /// How much it gets.
    pub weight: u32,
}

/// The targets that the controller wants.
#[must_use]
pub fn wanted(rules: &TargetRules, endpoints: &[EndpointView], eligible: &[NodeTarget]) -> BTreeMap<Ipv4Addr, Wanted> {
    let is_ready = |endpoint: &&EndpointView| endpoint.ready && !endpoint.terminating;
    let BackendMode::Nodes(policy) = rules.mode else {
        let is_fading = |endpoint: &&EndpointView| rules.is_gentle && endpoint.terminating && endpoint.serving;
        let pods = endpoints.iter().filter(|endpoint| is_ready(endpoint) || is_fading(endpoint));
        let told = |pod: &EndpointView| Wanted {
            name: Rc::clone(&pod.pod),
            node: Rc::clone(&pod.node),
            because: pod.because,
            weight: if pod.terminating { 0 } else { rules.weight },
        };
        return pods.map(|pod| (pod.ip, told(pod))).collect();
    };
    let because = endpoints.iter().filter_map(|endpoint| endpoint.because).max();
    let counts_pods = policy == TrafficPolicy::Local && rules.reach == NodeReach::WithPods;
    // Nodes by the thousand ask for their pods.
    let mut pods_on: BTreeMap<&str, u32> = BTreeMap::new();
    for pod in endpoints.iter().filter(is_ready).filter(|_| counts_pods) {
        *pods_on.entry(&pod.node).or_default() += 1;
    }
    let weight = |node: &NodeTarget| match counts_pods {
        true => pods_on.get(&*node.name).copied(),
        false => Some(rules.weight),
    };
    let machines = eligible.iter().filter(|node| !node.is_virtual);
    let nodes = machines.filter_map(|node| Some((weight(node)?, node)));
    let told = |(weight, node): (u32, &NodeTarget)| {
        let (name, node_name) = (Rc::clone(&node.name), Rc::clone(&node.name));
        (node.ip, Wanted { name, node: node_name, because, weight })
    };
    // Pods of virtual nodes are targets themselves: there is no port of a node that leads to them.
    let virtual_nodes: BTreeSet<&str> = eligible.iter().filter(|it| it.is_virtual).map(|node| &*node.name).collect();
    let on_virtual = |pod: &&EndpointView| virtual_nodes.contains(&*pod.node);
    let instances = endpoints.iter().filter(is_ready).filter(on_virtual);
    let instance = |pod: &EndpointView| {
        let weight = if policy == TrafficPolicy::Local { 1 } else { rules.weight };
        let (name, node) = (Rc::clone(&pod.pod), Rc::clone(&pod.node));
        (pod.ip, Wanted { name, node, because: pod.because, weight })
    };
    nodes.map(told).chain(instances.map(instance)).collect()
}

/// One call of the controller to the cloud.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// These become targets.
    Add(Vec<Ipv4Addr>),
    /// These are targets no more.
    Remove(Vec<Ipv4Addr>),
    /// These get other weights.
    Weigh(Vec<Ipv4Addr>),
}

/// A reconcile: its calls in order, and whether targets are left over that the quota has no room for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Plan {
    /// The calls.
    pub calls: Vec<Call>,
    /// What is left to add when all are done.
    pub is_over_quota: bool,
}

/// What has to be done to get from the registered weights to those that are wanted.
#[must_use]
pub fn plan(rules: &TargetRules, registered: &BTreeMap<Ipv4Addr, u32>, wanted: &BTreeMap<Ipv4Addr, Wanted>) -> Plan {
    let mut new: Vec<Ipv4Addr> = wanted.keys().filter(|ip| !registered.contains_key(ip)).copied().collect();
    let gone: Vec<Ipv4Addr> = registered.keys().filter(|ip| !wanted.contains_key(ip)).copied().collect();
    let has_changed = |ip: &&Ipv4Addr| wanted.get(ip).is_some_and(|it| it.weight != registered[*ip]);
    let changed: Vec<Ipv4Addr> =
        registered.keys().filter(|_| !rules.keeps_weights).filter(has_changed).copied().collect();
    let room = |count: usize| rules.quota.map_or(usize::MAX, |quota| quota.saturating_sub(count));
    // What has room now, and what has once the others are gone.
    let mut later = new.split_off(new.len().min(room(registered.len())));
    let after = registered.len() + new.len() - gone.len();
    let left = later.split_off(later.len().min(room(after)));
    let mut calls = Vec::new();
    let mut add = |ips: &[Ipv4Addr], call: fn(Vec<Ipv4Addr>) -> Call| {
        calls.extend(ips.chunks(BATCH).map(|batch| call(batch.to_vec())));
    };
    add(&new, Call::Add);
    add(&gone, Call::Remove);
    add(&changed, Call::Weigh);
    add(&later, Call::Add);
    Plan { calls, is_over_quota: !left.is_empty() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Resources;
    use crate::cluster::placement::{Taint, TaintEffect};

    fn ip(number: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0A00_0000 + u32::try_from(number).expect("small"))
    }

    fn weights(numbers: std::ops::Range<usize>, weight: u32) -> BTreeMap<Ipv4Addr, u32> {
        numbers.map(|number| (ip(number), weight)).collect()
    }

    fn wants(numbers: std::ops::Range<usize>, weight: u32) -> BTreeMap<Ipv4Addr, Wanted> {
        numbers
            .map(|number| (ip(number), Wanted { name: Rc::from("x"), node: Rc::from("n"), because: None, weight }))
            .collect()
    }

    /// The calls in short: `+3`, `-2`, `=1`.
    fn calls(plan: &Plan) -> String {
        let short = |call: &Call| match call {
            Call::Add(ips) => format!("+{}", ips.len()),
            Call::Remove(ips) => format!("-{}", ips.len()),
            Call::Weigh(ips) => format!("={}", ips.len()),
        };
        plan.calls.iter().map(short).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_reconcile_adds_then_removes_then_weighs() {
        let rules = TargetRules::of(BackendMode::Pods, 100);
        let table = [
            (0..0, 100, 0..0, ""),
            (0..3, 100, 0..3, ""),
            (0..0, 100, 0..40, "+40"),
            (0..0, 100, 0..41, "+40 +1"),
            (0..100, 100, 90..230, "+40 +40 +40 +10 -40 -40 -10"),
            (0..3, 50, 1..4, "+1 -1 =2"),
        ];
        for (registered, weight, wanted, expected) in table {
            let plan = plan(&rules, &weights(registered.clone(), weight), &wants(wanted.clone(), 100));
            assert_eq!((calls(&plan).as_str(), plan.is_over_quota), (expected, false), "{registered:?} {wanted:?}");
        }
        let keeps = TargetRules { keeps_weights: true, ..rules };
        assert_eq!(calls(&plan(&keeps, &weights(0..3, 50), &wants(1..4, 100))), "+1 -1");
    }

    #[test]
    fn what_is_over_the_quota_waits_for_the_removals() {
        let rules = TargetRules { quota: Some(200), ..TargetRules::of(BackendMode::Pods, 100) };
        let table = [
            (0..190, 0..200, "+10", false),
            (0..190, 0..201, "+10", true),
            (0..195, 10..210, "+5 -10 +10", false),
            (0..195, 10..211, "+5 -10 +10", true),
        ];
        for (registered, wanted, expected, is_over) in table {
            let plan = plan(&rules, &weights(registered.clone(), 100), &wants(wanted.clone(), 100));
            assert_eq!((calls(&plan).as_str(), plan.is_over_quota), (expected, is_over), "{registered:?} {wanted:?}");
        }
    }

    #[test]
    fn a_job_ends_when_it_is_looked_at() {
        let table = [
            (0, 0, false),
            (1, 1200, false),
            (1200, 1200, false),
            (1201, 2400, false),
            (30_000, 30_000, false),
            (30_001, 30_000, true),
        ];
        for (latency, ends_at, is_given_up) in table {
            let end = Calls::Jobs.end(Duration::from_millis(latency));
            assert_eq!(end, (Duration::from_millis(ends_at), is_given_up), "{latency} ms");
        }
        assert_eq!(Calls::Synchronous.end(Duration::from_secs(60)), (Duration::from_secs(60), false));
    }

    #[test]
    fn errors_are_tried_again_ever_later() {
        let mut backoff = Backoff::default();
        assert_eq!([(); 8].map(|()| backoff.fail().as_secs()), [5, 10, 20, 40, 80, 160, 300, 300]);
        backoff.succeed();
        assert_eq!(backoff.fail().as_secs(), 5);
    }

    #[test]
    fn nodes_are_left_out_for_their_labels_and_taints() {
        let node = |labels: &[(&str, &str)], taint: Option<&str>, unschedulable: bool| {
            let resources = Resources { cpu_millicores: 1000, memory_bytes: 1 << 30 };
            let mut node = Node::new(Rc::from("n"), ip(1), Rc::from("a"), resources);
            node.labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
            node.taints.extend(taint.map(|key| Taint {
                key: key.into(),
                value: "".into(),
                effect: TaintEffect::NoSchedule,
            }));
            node.unschedulable = unschedulable;
            node
        };
        let of_label =
            Eligibility { labels: BTreeMap::from([("pool".to_owned(), "edge".to_owned())]), ..Eligibility::default() };
        let no_cordoned = Eligibility { leaves_out_cordoned: true, ..Eligibility::default() };
        let all = Eligibility::default();
        let table = [
            (&all, node(&[], None, false), true),
            (&all, node(&[("node-role.kubernetes.io/master", "")], None, false), false),
            (&all, node(&[("node.kubernetes.io/exclude-from-external-load-balancers", "true")], None, false), false),
            (&all, node(&[("service.alibabacloud.com/exclude-node", "")], None, false), false),
            (&all, node(&[("service.alibabacloud.com/exclude-node", ""), VIRTUAL], None, false), true),
            (&all, node(&[("node-role.kubernetes.io/master", ""), VIRTUAL], None, false), false),
            (&of_label, node(&[VIRTUAL], None, false), false),
            (&all, node(&[], Some("ToBeDeletedByClusterAutoscaler"), false), false),
            (&all, node(&[], Some("other"), false), true),
            (&all, node(&[], None, true), true),
            (&no_cordoned, node(&[], None, true), false),
            (&of_label, node(&[], None, false), false),
            (&of_label, node(&[("pool", "edge")], None, false), true),
            (&of_label, node(&[("pool", "web")], None, false), false),
        ];
        for (index, (rules, node, expected)) in table.iter().enumerate() {
            assert_eq!(rules.accepts(node), *expected, "case {index}");
        }
    }

    #[test]
    fn a_pod_that_terminates_stays_only_where_it_is_asked_to() {
        let view = |number: usize, ready: bool, serving: bool, terminating: bool| EndpointView {
            ip: ip(number),
            pod: Rc::from("p"),
            node: Rc::from("n1"),
            ready,
            serving,
            terminating,
            because: None,
        };
        let endpoints = [
            view(1, true, true, false),
            view(2, false, true, true),
            view(3, false, false, true),
            view(4, false, false, false),
        ];
        let found = |rules: &TargetRules, nodes: &[NodeTarget]| -> Vec<(Ipv4Addr, u32)> {
            wanted(rules, &endpoints, nodes).into_iter().map(|(ip, wanted)| (ip, wanted.weight)).collect()
        };
        let pods = TargetRules::of(BackendMode::Pods, 100);
        assert_eq!(found(&pods, &[]), [(ip(1), 100)]);
        assert_eq!(found(&TargetRules { is_gentle: true, ..pods }, &[]), [(ip(1), 100), (ip(2), 0)]);
        let nodes = [("n1", 91), ("n2", 92)];
        let nodes = nodes.map(|(name, number)| NodeTarget { name: Rc::from(name), ip: ip(number), is_virtual: false });
        let cluster = TargetRules::of(BackendMode::Nodes(TrafficPolicy::Cluster), 100);
        assert_eq!(found(&cluster, &nodes), [(ip(91), 100), (ip(92), 100)]);
        let local = TargetRules::of(BackendMode::Nodes(TrafficPolicy::Local), 100);
        assert_eq!(found(&local, &nodes), [(ip(91), 1)]);
    }

    #[test]
    fn pods_of_virtual_nodes_are_targets_beside_the_nodes() {
        let view = |number: usize, node: &str, ready: bool, terminating: bool| EndpointView {
            ip: ip(number),
            pod: Rc::from("p"),
            node: Rc::from(node),
            ready,
            serving: true,
            terminating,
            because: None,
        };
        let endpoints = [
            view(1, "n1", true, false),
            view(2, "n1", true, false),
            view(3, "v1", true, false),
            view(4, "v1", false, false),
            view(5, "v1", false, true),
            view(6, "v2", true, false),
        ];
        // The node v2 is not eligible.
        let nodes = [("n1", 91, false), ("n2", 92, false), ("v1", 93, true)];
        let nodes =
            nodes.map(|(name, number, is_virtual)| NodeTarget { name: Rc::from(name), ip: ip(number), is_virtual });
        let found = |mode: BackendMode| -> Vec<(Ipv4Addr, u32)> {
            let rules = TargetRules::of(mode, 100);
            wanted(&rules, &endpoints, &nodes).into_iter().map(|(ip, wanted)| (ip, wanted.weight)).collect()
        };
        let of = |weights: &[(usize, u32)]| -> Vec<(Ipv4Addr, u32)> {
            weights.iter().map(|(number, weight)| (ip(*number), *weight)).collect()
        };
        assert_eq!(found(BackendMode::Nodes(TrafficPolicy::Local)), of(&[(3, 1), (91, 2)]));
        assert_eq!(found(BackendMode::Nodes(TrafficPolicy::Cluster)), of(&[(3, 100), (91, 100), (92, 100)]));
        assert_eq!(found(BackendMode::Pods), of(&[(1, 100), (2, 100), (3, 100), (6, 100)]));
    }

    #[test]
    fn throttled_calls_are_made_again() {
        // Tries that are throttled before one is not, the wait in seconds, whether it has failed.
        let table = [
            (Calls::Synchronous, 0, 0, false),
            (Calls::Synchronous, 1, 1, false),
            (Calls::Synchronous, 10, 10, false),
            (Calls::Synchronous, 11, 10, true),
            (Calls::Jobs, 0, 0, false),
            (Calls::Jobs, 1, 0, true),
        ];
        for (calls, throttled, wait, has_failed) in table {
            let mut left = throttled;
            let told = calls.throttle(|| {
                let is_throttled = left > 0;
                left -= i32::from(is_throttled);
                is_throttled
            });
            assert_eq!(told, (Duration::from_secs(wait), has_failed), "{calls:?} {throttled}");
        }
    }
}
