//! Which node a pod gets.
//!
//! Nodes are filtered and scored. A filter excludes a node: it is cordoned, has a taint the pod does not tolerate, lacks what the pod's
//! selector or affinity asks for, has no port left that the pod takes, has too little left, or breaks a required rule about other pods. Each score gives 0 to 100 to a node;
//! multiplied with their weights they are added, and ties are drawn. Usage plays no role, nothing is moved later, and no pod makes way for
//! another.
//!
//! In a large cluster not all nodes are looked at: from where the last search ended, one zone in turn with the others, until enough are
//! possible. The order is fixed, where the real scheduler looks with 16 hands at once.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/schedule_one.go, pkg/scheduler/framework/plugins; each module names its files.

pub mod cache;
pub mod image_locality;
pub mod node_affinity;
pub mod pod_affinity;
pub mod queue;
pub mod reason;
pub mod resources;
mod row;
pub mod rules;
pub mod spread;
pub mod taints;

pub use cache::{Cache, KindId, PodKind};
pub use reason::{Change, Reason, Unschedulable, Verdict};
pub use rules::Rules;

use self::cache::NodeInfo;
use self::resources::IgnoredResources;
use self::row::{ByResources, Row};
use self::rules::FilterOrder;
use crate::cluster::placement::{Placement, Taint, TaintEffect};
use crate::engine::Stream;

/// The best score of a node by one rule.
pub const SCORE_MAX: i64 = 100;

/// Of fewer nodes all are looked at, and so many possible ones are enough at least.
const NODES_MIN: usize = 100;
/// The least share of all nodes that is enough, in percent.
const PERCENT_MIN: usize = 5;

/// The resources that are scored, with their weights.
const SCORED_RESOURCES: [(&str, i64); 2] = [("cpu", 1), ("memory", 1)];

/// The scheduler.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// What it knows.
    pub cache: Cache,
    rules: Rules,
    /// Where the next search begins, as an index into the order of nodes.
    start: usize,
    looked_at: u64,
}

/// What a rule gives the candidates.
enum Scores {
    /// The same to all.
    Same(i64),
    /// In their order.
    Each(Vec<i64>),
}

impl Scores {
    fn of(&self, place: usize) -> i64 {
        match self {
            Self::Same(score) => *score,
            Self::Each(scores) => scores[place],
        }
    }
}

/// A node's scores, each with its weight.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NodeScores {
    /// Taints that count against it.
    pub taints: i64,
    /// Affinity to nodes.
    pub node_affinity: i64,
    /// Topology spread.
    pub spread: i64,
    /// Affinity to pods.
    pub pod_affinity: i64,
    /// What is free of it.
    pub least_allocated: i64,
    /// How evenly it is used.
    pub balanced: i64,
    /// Images that it has.
    pub images: i64,
}

impl NodeScores {
    /// Their sum.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.taints
            + self.node_affinity
            + self.spread
            + self.pod_affinity
            + self.least_allocated
            + self.balanced
            + self.images
    }
}

impl Scheduler {
    /// A scheduler that knows no node.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { cache: Cache::default(), rules, start: 0, looked_at: 0 }
    }

    /// How many nodes all searches so far have looked at.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// The index of the node for a pod; ties are drawn from `ties`.
    ///
    /// # Errors
    ///
    /// If no node is possible: the reasons.
    ///
    /// # Panics
    ///
    /// Never: of possible nodes one is the best.
    pub fn choose(&mut self, pod: &PodKind, ties: &mut Stream) -> Result<usize, Unschedulable> {
        let mut possible = self.possible(pod)?;
        if let [only] = possible[..] {
            return Ok(only);
        }
        // In the order of the nodes, not of the search, so that a draw means the same node wherever the search began.
        possible.sort_unstable();
        let totals: Vec<i64> = self.scores(pod, &possible).iter().map(NodeScores::total).collect();
        let best = totals.iter().max().copied().expect("a node is possible");
        let tied: Vec<usize> =
            possible.into_iter().zip(totals).filter(|(_, total)| *total == best).map(|(index, _)| index).collect();
        let drawn = if tied.len() == 1 { 0 } else { ties.below(tied.len() as u64) };
        Ok(tied[usize::try_from(drawn).expect("an index")])
    }

    /// Whether a pod with an affinity to the name of one node may come to that: its index, if so. No other node is looked at.
    ///
    /// # Errors
    ///
    /// If the node is not possible, or gone: the reason.
    pub fn only(&mut self, pod: &PodKind, index: usize) -> Result<usize, Unschedulable> {
        let search = Search::new(&self.cache, pod, self.rules);
        self.looked_at += 1;
        let Some(info) = self.cache.node(index) else { return Err(Unschedulable::new(&[], self.rules.wording)) };
        match search.fault(index, info) {
            None => Ok(index),
            Some(reason) => Err(Unschedulable::of_one(reason, self.cache.order().len(), self.rules.wording)),
        }
    }

    /// Some node that is possible for a pod, whatever its scores: the first in the order of nodes. No search begins elsewhere for it.
    #[must_use]
    pub fn first_possible(&self, pod: &PodKind) -> Option<usize> {
        let search = Search::new(&self.cache, pod, self.rules);
        let fits = |index: &usize| self.cache.node(*index).is_some_and(|info| search.fault(*index, info).is_none());
        self.cache.order().iter().copied().find(fits)
    }

    /// Why a node's kubelet would turn a pod away that comes past the scheduler: it asks for resources, node affinity, ports and taints with `NoExecute`, and for nothing else.
    ///
    /// # Panics
    ///
    /// If the node is gone.
    #[must_use]
    pub fn refusal(&self, pod: &PodKind, index: usize) -> Option<String> {
        let info = self.cache.node(index).expect("a node that takes a pod is there");
        if let Some(missing) = resources::insufficient(info, pod, &IgnoredResources::default()).first() {
            return Some(format!("OutOf{}", missing.resource));
        }
        if !node_affinity::admits(&info.node, &pod.placement, None) {
            return Some("NodeAffinity".to_owned());
        }
        if !info.has_free_ports(pod) {
            return Some("NodePorts".to_owned());
        }
        let bears = |taint: &&Taint| taint.effect != TaintEffect::NoExecute || pod.placement.tolerates(taint);
        (!info.node.taints.iter().all(|taint| bears(&taint))).then(|| "TaintToleration".to_owned())
    }

    /// Enough nodes that are possible for a pod, in the order of the search.
    ///
    /// # Errors
    ///
    /// If there are none: the reasons.
    ///
    /// # Panics
    ///
    /// Never: the order holds nodes that are there.
    pub fn possible(&mut self, pod: &PodKind) -> Result<Vec<usize>, Unschedulable> {
        let search = Search::new(&self.cache, pod, self.rules);
        let order = self.cache.order();
        let enough = enough_of(order.len());
        let mut found = Vec::with_capacity(enough.min(order.len()));
        let mut seen = 0;
        let (before, from_start) = order.split_at(self.start.checked_rem(order.len()).unwrap_or(0));
        for index in from_start.iter().chain(before) {
            if found.len() == enough {
                break;
            }
            let info = || self.cache.node(*index).expect("an ordered node is there");
            if search.is_possible(*index, self.cache.row(*index), info) {
                found.push(*index);
            }
            seen += 1;
        }
        self.looked_at += seen as u64;
        if found.is_empty() {
            let why = |index: &usize| search.fault(*index, self.cache.node(*index)?);
            let reasons: Vec<Reason> = order.iter().filter_map(why).collect();
            return Err(Unschedulable::new(&reasons, self.rules.wording));
        }
        self.start = (self.start + seen) % order.len();
        Ok(found)
    }

    /// The scores of possible nodes, in the order of `candidates`.
    ///
    /// # Panics
    ///
    /// If one of them is not there.
    #[must_use]
    pub fn scores(&self, pod: &PodKind, candidates: &[usize]) -> Vec<NodeScores> {
        let cache = &self.cache;
        let info = |index: usize| cache.node(index).expect("a candidate is a node that is there");
        let nodes = || candidates.iter().map(|index| &info(*index).node);
        let weights = self.rules.weights;
        // What makes no difference to a pod is not asked of every node.
        let taints = if candidates.iter().all(|index| cache.row(*index).is_open) {
            Scores::Same(SCORE_MAX)
        } else {
            Scores::Each(taints::scores(nodes(), &pod.placement))
        };
        let node_affinity = if pod.placement.node_affinity.preferred.is_empty() {
            Scores::Same(0)
        } else {
            Scores::Each(node_affinity::scores(nodes(), &pod.placement, None))
        };
        let images = if image_locality::counts_nowhere(cache, pod) {
            Scores::Same(0)
        } else {
            let score = |index: &usize| image_locality::score(cache, info(*index), pod);
            Scores::Each(candidates.iter().map(score).collect())
        };
        let or_none = |scores: Option<Vec<i64>>| scores.map_or(Scores::Same(0), Scores::Each);
        let pod_affinity = or_none(pod_affinity::scores(cache, pod, candidates, self.rules.pod_affinity));
        let spread = or_none(spread::scores(cache, pod, candidates, self.rules.spread));
        let balanced_by = SCORED_RESOURCES.map(|(name, _)| name);
        let mut by_resources = ByResources::default();
        let score = |(place, index): (usize, &usize)| {
            let row = cache.row(*index);
            assert!(row.is_there, "a candidate is a node that is there");
            let (least_allocated, balanced) = by_resources.of(row, || {
                let info = info(*index);
                let least_allocated = resources::least_allocated(info, pod, &SCORED_RESOURCES);
                (least_allocated, resources::balanced(info, pod, &balanced_by, self.rules.balance))
            });
            NodeScores {
                taints: weights.taints * taints.of(place),
                node_affinity: weights.node_affinity * node_affinity.of(place),
                spread: weights.spread * spread.of(place),
                pod_affinity: weights.pod_affinity * pod_affinity.of(place),
                least_allocated,
                balanced,
                images: images.of(place),
            }
        };
        candidates.iter().enumerate().map(score).collect()
    }
}

/// How many possible nodes are enough.
fn enough_of(nodes: usize) -> usize {
    if nodes < NODES_MIN {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(PERCENT_MIN);
    (nodes * percent / 100).max(NODES_MIN)
}

/// The filters of one pod, ready for any node.
struct Search<'a> {
    pod: &'a PodKind,
    order: FilterOrder,
    ignored: IgnoredResources,
    spread: Option<spread::Filter>,
    pod_affinity: Option<pod_affinity::Filter>,
    /// The pod asks for nothing but processor and memory.
    is_plain: bool,
}

impl<'a> Search<'a> {
    fn new(cache: &Cache, pod: &'a PodKind, rules: Rules) -> Self {
        let spread = spread::Filter::new(cache, pod, rules.spread);
        let pod_affinity = pod_affinity::Filter::new(cache, pod);
        let Placement { node_selector, node_affinity, extended, host_ports, .. } = &pod.placement;
        let is_of_any_node = node_selector.is_empty() && node_affinity.required.is_none();
        let is_of_any_node = is_of_any_node && extended.is_empty() && host_ports.is_empty();
        let is_plain = is_of_any_node && spread.is_none() && pod_affinity.is_none();
        Self { pod, order: rules.order, ignored: IgnoredResources::default(), spread, pod_affinity, is_plain }
    }

    /// The same as no [`Self::fault`]. Most nodes need no look at more than their row.
    fn is_possible<'n>(&self, index: usize, row: &Row, info: impl FnOnce() -> &'n NodeInfo) -> bool {
        if !row.has_room_for(self.pod.requests) {
            return false;
        }
        (self.is_plain && row.is_open) || {
            let info = info();
            resources::extended_fit(info, self.pod) && self.fault_besides(index, info, || None).is_none()
        }
    }

    /// The first fault of a node.
    fn fault(&self, index: usize, info: &NodeInfo) -> Option<Reason> {
        self.fault_besides(index, info, || {
            let missing = resources::insufficient(info, self.pod, &self.ignored);
            (!missing.is_empty()).then_some(Reason::Resources(missing))
        })
    }

    /// The first fault of a node whose `resources` are at fault or are not.
    fn fault_besides(
        &self,
        index: usize,
        info: &NodeInfo,
        resources: impl FnOnce() -> Option<Reason>,
    ) -> Option<Reason> {
        let node = &info.node;
        if node.unschedulable && !tolerates_cordon(self.pod) {
            return Some(Reason::Cordoned);
        }
        let taint = || taints::untolerated(node, &self.pod.placement).cloned().map(Reason::Taint);
        let affinity = || (!node_affinity::admits(node, &self.pod.placement, None)).then_some(Reason::NodeAffinity);
        let ports = || (!info.has_free_ports(self.pod)).then_some(Reason::Ports);
        let of_node = match self.order {
            FilterOrder::ResourcesFirst => resources().or_else(ports).or_else(affinity).or_else(taint),
            FilterOrder::ResourcesLast => taint().or_else(affinity).or_else(ports).or_else(resources),
        };
        let of_verdict = |verdict: Verdict| match verdict {
            Verdict::Fits => None,
            Verdict::Unschedulable(reason) | Verdict::Unresolvable(reason) => Some(reason),
        };
        of_node
            .or_else(|| self.spread.as_ref().and_then(|filter| of_verdict(filter.check(index))))
            .or_else(|| self.pod_affinity.as_ref().and_then(|filter| of_verdict(filter.check(index))))
    }
}

/// Who bears the taint of cordoned nodes may come to them, too.
fn tolerates_cordon(pod: &PodKind) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    };
    pod.placement.tolerates(&taint)
}

/// A double cut off to a whole number.
#[expect(clippy::cast_possible_truncation, reason = "scores are between 0 and 100")]
fn whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests;
