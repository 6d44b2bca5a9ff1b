//! Requests against what nodes have: whether a pod fits, and how well.
//!
//! Only requests count, never usage or limits. Pods that are being deleted hold theirs to the end.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/noderesources/{fit,least_allocated,balanced_allocation,resource_allocation}.go,
//! pkg/api/v1/resource/helpers.go, pkg/scheduler/util/pod_resources.go; before 1.22 the balance is that of v1.20.2.

use std::collections::BTreeMap;

use super::cache::{NodeInfo, PodKind};
use super::rules::Balance;
use super::{SCORE_MAX, whole};
use crate::cluster::objects::Resources;

/// What a container that asks for nothing counts as in the least-allocated score.
const UNASKED: Resources = Resources { cpu_millicores: 100, memory_bytes: 200 * 1024 * 1024 };

/// A resource of which a node has too little.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Insufficient {
    /// `cpu`, `memory`, `pods` or another.
    pub resource: String,
    /// What the pod asks for.
    pub requested: u64,
    /// What others have taken.
    pub used: u64,
    /// What the node has.
    pub capacity: u64,
}

impl Insufficient {
    /// The reason as the scheduler words it.
    #[must_use]
    pub fn reason(&self) -> String {
        if self.resource == "pods" { "Too many pods".to_owned() } else { format!("Insufficient {}", self.resource) }
    }
}

/// Resources that are not looked at: the plugin's arguments.
#[derive(Clone, Default, Debug)]
pub struct IgnoredResources {
    /// By name.
    pub names: Vec<String>,
    /// By what stands before the slash.
    pub groups: Vec<String>,
}

impl IgnoredResources {
    /// Only extended resources can be left out: a domain that is not Kubernetes' own.
    fn has(&self, name: &str) -> bool {
        let Some((group, _)) = name.split_once('/').filter(|(group, _)| !group.ends_with("kubernetes.io")) else {
            return false;
        };
        self.names.iter().any(|ignored| ignored == name) || self.groups.iter().any(|ignored| ignored == group)
    }
}

/// The resources of which a node has too little for a pod.
#[must_use]
pub fn insufficient(info: &NodeInfo, pod: &PodKind, ignored: &IgnoredResources) -> Vec<Insufficient> {
    let mut missing = Vec::new();
    let mut check = |resource: &str, requested: u64, used: u64, capacity: u64| {
        if requested > 0 && used + requested > capacity {
            missing.push(Insufficient { resource: resource.to_owned(), requested, used, capacity });
        }
    };
    check("pods", 1, info.pods as u64, info.node.pods_max as u64);
    let (asked, has) = (info.asked, info.node.allocatable);
    check("cpu", pod.requests.cpu_millicores, asked.cpu_millicores, has.cpu_millicores);
    check("memory", pod.requests.memory_bytes, asked.memory_bytes, has.memory_bytes);
    for (name, requested) in pod.placement.extended.iter().filter(|(name, _)| !ignored.has(name)) {
        let of = |amounts: &BTreeMap<String, u64>| amounts.get(name).copied().unwrap_or(0);
        check(name, *requested, of(&info.extended), of(&info.node.extended));
    }
    missing
}

/// What a pod counts as in the least-allocated score.
pub(super) fn counted(pod: &PodKind) -> Resources {
    let unasked = pod.placement.unasked;
    Resources {
        cpu_millicores: pod.requests.cpu_millicores + u64::from(unasked.cpu_containers) * UNASKED.cpu_millicores,
        memory_bytes: pod.requests.memory_bytes + u64::from(unasked.memory_containers) * UNASKED.memory_bytes,
    }
}

/// What the pods of a node would have taken with this one, and what the node has; none if the pod does not ask for it.
fn taken(info: &NodeInfo, pod: &PodKind, resource: &str, counts: Counts) -> Option<(u64, u64)> {
    let (used, own) = match counts {
        Counts::Asked => (info.asked, pod.requests),
        Counts::Counted => (info.counted, counted(pod)),
    };
    match resource {
        "cpu" => Some((used.cpu_millicores + own.cpu_millicores, info.node.allocatable.cpu_millicores)),
        "memory" => Some((used.memory_bytes + own.memory_bytes, info.node.allocatable.memory_bytes)),
        name => {
            let own = *pod.placement.extended.get(name)?;
            let of = |amounts: &BTreeMap<String, u64>| amounts.get(name).copied().unwrap_or(0);
            Some((of(&info.extended) + own, of(&info.node.extended)))
        }
    }
}

/// Whether containers that ask for nothing are counted with a stand-in.
#[derive(Clone, Copy)]
enum Counts {
    Asked,
    Counted,
}

/// The more is free, the better: the mean over the resources, each with a weight.
#[must_use]
pub fn least_allocated(info: &NodeInfo, pod: &PodKind, resources: &[(&str, i64)]) -> i64 {
    let (mut score, mut weights) = (0, 0);
    for (resource, weight) in resources {
        let Some((taken, capacity)) = taken(info, pod, resource, Counts::Counted) else { continue };
        if capacity == 0 {
            continue;
        }
        let free = if taken > capacity {
            0
        } else {
            u128::from(capacity - taken) * SCORE_MAX.unsigned_abs() as u128 / u128::from(capacity)
        };
        score += i64::try_from(free).unwrap_or(SCORE_MAX) * weight;
        weights += weight;
    }
    if weights == 0 { 0 } else { score / weights }
}

/// The more alike the shares of the resources, the better.
#[must_use]
pub fn balanced(info: &NodeInfo, pod: &PodKind, resources: &[&str], balance: Balance) -> i64 {
    let counts = match balance {
        Balance::Difference | Balance::CountedDeviation => Counts::Counted,
        Balance::Deviation => Counts::Asked,
    };
    let shares = resources.iter().filter_map(|resource| taken(info, pod, resource, counts));
    let shares: Vec<f64> = shares
        .filter(|(_, capacity)| *capacity > 0 || balance == Balance::Difference)
        .map(|(taken, capacity)| if capacity == 0 { 1.0 } else { double(taken) / double(capacity) })
        .map(|share: f64| if balance == Balance::Difference { share } else { share.min(1.0) })
        .collect();
    if balance == Balance::Difference {
        return match shares[..] {
            [cpu, memory] if cpu < 1.0 && memory < 1.0 => whole((1.0 - (cpu - memory).abs()) * double_max()),
            _ => 0,
        };
    }
    whole((1.0 - deviation(&shares)) * double_max())
}

/// The standard deviation; of two values half their distance.
fn deviation(shares: &[f64]) -> f64 {
    match shares {
        [] | [_] => 0.0,
        [one, two] => ((one - two) / 2.0).abs(),
        more => {
            let count = double(more.len() as u64);
            let mean = more.iter().sum::<f64>() / count;
            let squares: f64 = more.iter().map(|share| (share - mean) * (share - mean)).sum();
            libm::sqrt(squares / count)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "upstream divides doubles, too")]
fn double(amount: u64) -> f64 {
    amount as f64
}

fn double_max() -> f64 {
    double(SCORE_MAX.unsigned_abs())
}

/// What one container asks for, by resource; processor in thousandths as `cpu`.
pub type Amounts = BTreeMap<String, u64>;

/// What a pod asks for: the sum over its containers, or the largest of its init containers, and the overhead of its sandbox.
#[must_use]
pub fn pod_requests(containers: &[Amounts], init_containers: &[Amounts], overhead: &Amounts) -> Amounts {
    let mut total = Amounts::new();
    for (name, amount) in containers.iter().flatten() {
        *total.entry(name.clone()).or_default() += amount;
    }
    for (name, amount) in init_containers.iter().flatten() {
        let known = total.entry(name.clone()).or_default();
        *known = (*known).max(*amount);
    }
    for (name, amount) in overhead {
        *total.entry(name.clone()).or_default() += amount;
    }
    total
}

/// Whether a node has enough for a pod of what there is besides processor and memory.
pub(super) fn extended_fit(info: &NodeInfo, pod: &PodKind) -> bool {
    let of = |amounts: &BTreeMap<String, u64>, name: &String| amounts.get(name).copied().unwrap_or(0);
    pod.placement.extended.iter().all(|(name, requested)| {
        *requested == 0 || of(&info.extended, name) + requested <= of(&info.node.extended, name)
    })
}
