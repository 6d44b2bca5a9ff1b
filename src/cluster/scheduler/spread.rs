//! Topology spread: pods of one kind evenly over the values of a node label.
//!
//! Counted are the pods of the same namespace that the constraint's selector means, without those that are being deleted. A constraint
//! with an empty selector counts none. A pod without constraints of its own gets the default ones, which only score: nodes with a skew of
//! 3 and zones with a skew of 5, over the pods of its Services and its set; a set's selector holds the hash of its template, so pods of
//! another revision do not count.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/podtopologyspread/{common,filtering,scoring,plugin}.go.

use std::rc::Rc;

use super::cache::{Cache, Domains, KindInfo, PodKind};
use super::reason::{Reason, Verdict};
use super::{SCORE_MAX, taints};
use crate::cluster::objects::Node;
use crate::cluster::placement::{HOSTNAME, InclusionPolicy, TopologySpread, WhenUnsatisfiable, ZONE};
use crate::cluster::selector::{LabelOperator, LabelRequirement, LabelSelector};

/// The default constraints: label and skew.
const DEFAULTS: [(&str, i32); 2] = [(HOSTNAME, 3), (ZONE, 5)];

/// What the scheduler's version and settings make of constraints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpreadRules {
    /// Each constraint says whether nodes that the pod cannot use take part; without it those do not that its affinity excludes.
    pub has_inclusion_policies: bool,
    /// `minDomains` counts.
    pub has_min_domains: bool,
    /// `matchLabelKeys` counts.
    pub has_match_label_keys: bool,
    /// The default constraints leave out nodes that lack one of the labels.
    pub default_needs_all_labels: bool,
    /// Without a constraint that scores all nodes get the full score; it decides nothing.
    pub is_full_without: bool,
    /// Costs are rounded, not cut off.
    pub rounds: bool,
}

/// A constraint, ready to be counted.
struct Constraint {
    max_skew: i64,
    is_hostname: bool,
    domains: Rc<Domains>,
    selector: Option<LabelSelector>,
    min_domains: i32,
    affinity_policy: InclusionPolicy,
    taints_policy: InclusionPolicy,
}

impl Constraint {
    fn new(cache: &Cache, pod: &PodKind, spread: &TopologySpread, rules: SpreadRules) -> Self {
        let mut selector = spread.selector.clone();
        if rules.has_match_label_keys
            && let Some(selector) = &mut selector
        {
            let own = spread.match_label_keys.iter().filter_map(|key| pod.labels.get_key_value(key));
            selector.match_expressions.extend(own.map(|(key, value)| LabelRequirement {
                key: key.clone(),
                operator: LabelOperator::In,
                values: vec![value.clone()],
            }));
        }
        let by_policy = |policy, usual| if rules.has_inclusion_policies { policy } else { usual };
        Self {
            max_skew: i64::from(spread.max_skew),
            is_hostname: spread.topology_key == HOSTNAME,
            domains: cache.domains(&spread.topology_key),
            selector,
            min_domains: if rules.has_min_domains { spread.min_domains.unwrap_or(1) } else { 1 },
            affinity_policy: by_policy(spread.node_affinity_policy, InclusionPolicy::Honor),
            taints_policy: by_policy(spread.node_taints_policy, InclusionPolicy::Ignore),
        }
    }

    fn domain(&self, index: usize) -> Option<usize> {
        self.domains.of.get(index).copied().flatten()
    }

    /// Whether a node takes part.
    fn includes(&self, node: &Node, pod: &PodKind) -> bool {
        let honors = |policy| policy == InclusionPolicy::Honor;
        (!honors(self.affinity_policy) || pod.placement.admits(node))
            && (!honors(self.taints_policy) || taints::untolerated(node, &pod.placement).is_none())
    }

    /// The kinds whose pods are counted.
    fn counted<'a>(&'a self, cache: &'a Cache, pod: &'a PodKind) -> impl Iterator<Item = &'a KindInfo> {
        let selector = self.selector.as_ref().filter(|selector| !selector.is_empty());
        selector
            .into_iter()
            .flat_map(|selector| cache.kinds_meant(&pod.namespace, selector).filter(|info| !info.on.is_empty()))
    }

    fn means(&self, pod: &PodKind) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    }
}

fn own_constraints(cache: &Cache, pod: &PodKind, rules: SpreadRules, when: WhenUnsatisfiable) -> Vec<Constraint> {
    let of_kind = pod.placement.topology_spread.iter().filter(|spread| spread.when_unsatisfiable == when);
    of_kind.map(|spread| Constraint::new(cache, pod, spread, rules)).collect()
}

fn default_constraints(cache: &Cache, pod: &PodKind, rules: SpreadRules) -> Vec<Constraint> {
    let Some(peers) = &pod.peers else { return Vec::new() };
    let spread = |(key, max_skew): (&str, i32)| TopologySpread {
        max_skew,
        topology_key: key.to_owned(),
        when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
        selector: Some(peers.clone()),
        min_domains: None,
        node_affinity_policy: InclusionPolicy::Honor,
        node_taints_policy: InclusionPolicy::Ignore,
        match_label_keys: Vec::new(),
    };
    DEFAULTS.map(|default| Constraint::new(cache, pod, &spread(default), rules)).into_iter().collect()
}

/// The constraints of a pod that keep it from nodes, with their counts.
pub struct Filter {
    constraints: Vec<Counted>,
}

struct Counted {
    constraint: Constraint,
    /// Pods per domain; none: no node that takes part is in it.
    counts: Vec<Option<i64>>,
    /// The fewest in a domain; none: there is no domain.
    least: Option<i64>,
    own: i64,
}

impl Filter {
    /// Counts what concerns a pod; none: it has no such constraint.
    #[must_use]
    pub fn new(cache: &Cache, pod: &PodKind, rules: SpreadRules) -> Option<Self> {
        let constraints = own_constraints(cache, pod, rules, WhenUnsatisfiable::DoNotSchedule);
        if constraints.is_empty() {
            return None;
        }
        // Only nodes with all of the labels take part.
        let is_labelled = |index: usize| constraints.iter().all(|constraint| constraint.domain(index).is_some());
        let mut all_counts: Vec<Vec<Option<i64>>> = Vec::new();
        for constraint in &constraints {
            let mut counts = vec![None; constraint.domains.count];
            for index in cache.order() {
                let (Some(info), Some(domain)) = (cache.node(*index), constraint.domain(*index)) else { continue };
                if is_labelled(*index) && constraint.includes(&info.node, pod) {
                    counts[domain].get_or_insert(0);
                }
            }
            for info in constraint.counted(cache, pod) {
                for (index, presence) in &info.on {
                    let (Some(node), Some(domain)) = (cache.node(*index), constraint.domain(*index)) else { continue };
                    if is_labelled(*index) && constraint.includes(&node.node, pod) {
                        *counts[domain].get_or_insert(0) += presence.staying();
                    }
                }
            }
            all_counts.push(counts);
        }
        let counted = constraints.into_iter().zip(all_counts).map(|(constraint, counts)| {
            let present = counts.iter().flatten();
            let domains = i32::try_from(present.clone().count()).unwrap_or(i32::MAX);
            let least = if domains < constraint.min_domains { Some(0) } else { present.min().copied() };
            let own = i64::from(constraint.means(pod));
            Counted { constraint, counts, least, own }
        });
        Some(Self { constraints: counted.collect() })
    }

    /// What it says of a node.
    #[must_use]
    pub fn check(&self, index: usize) -> Verdict {
        for counted in &self.constraints {
            let Some(domain) = counted.constraint.domain(index) else {
                return Verdict::Unresolvable(Reason::SpreadLabel);
            };
            let count = counted.counts[domain].unwrap_or(0);
            if counted.least.is_some_and(|least| count + counted.own - least > counted.constraint.max_skew) {
                return Verdict::Unschedulable(Reason::Spread);
            }
        }
        Verdict::Fits
    }
}

/// The scores of the candidates, or none if the pod has no constraint that scores.
#[must_use]
pub fn scores(cache: &Cache, pod: &PodKind, candidates: &[usize], rules: SpreadRules) -> Option<Vec<i64>> {
    let has_own = !pod.placement.topology_spread.is_empty();
    let constraints = if has_own {
        own_constraints(cache, pod, rules, WhenUnsatisfiable::ScheduleAnyway)
    } else {
        default_constraints(cache, pod, rules)
    };
    if constraints.is_empty() {
        return rules.is_full_without.then(|| vec![SCORE_MAX; candidates.len()]);
    }
    let needs_all_labels = has_own || rules.default_needs_all_labels;
    let is_labelled =
        |index: usize| !needs_all_labels || constraints.iter().all(|constraint| constraint.domain(index).is_some());
    let scored_count = candidates.iter().filter(|index| is_labelled(**index)).count();
    let weighed: Vec<Weighed> = constraints
        .iter()
        .map(|constraint| {
            if constraint.is_hostname {
                return Weighed::by_node(cache, pod, constraint, candidates, scored_count);
            }
            Weighed::by_domain(cache, pod, constraint, candidates, &is_labelled)
        })
        .collect();
    let cost = |place: usize, index: usize| {
        let by_constraint = constraints.iter().zip(&weighed);
        let sum: f64 = by_constraint.filter_map(|(by, weighed)| Some(weighed.cost(by, place, by.domain(index)?))).sum();
        whole_cost(if rules.rounds { libm::round(sum) } else { sum })
    };
    let costs = candidates.iter().enumerate().map(|(place, index)| is_labelled(*index).then(|| cost(place, *index)));
    let costs: Vec<Option<i64>> = costs.collect();
    let known = costs.iter().flatten();
    let (least, most) = (known.clone().min().copied().unwrap_or(0), known.max().copied().unwrap_or(0));
    let score = |cost: Option<i64>| match cost {
        None => 0,
        Some(_) if most == 0 => SCORE_MAX,
        Some(cost) => SCORE_MAX * (most + least - cost) / most,
    };
    Some(costs.into_iter().map(score).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "a sum of counts times small logarithms")]
fn whole_cost(sum: f64) -> i64 {
    sum as i64
}

/// A constraint's counts and the weight of one pod.
struct Weighed {
    counts: Counts,
    weight: f64,
}

enum Counts {
    /// In the order of the candidates.
    ByCandidate(Vec<i64>),
    ByDomain(Vec<i64>),
}

impl Weighed {
    /// Each node for itself: whatever is on a candidate counts.
    fn by_node(
        cache: &Cache,
        pod: &PodKind,
        constraint: &Constraint,
        candidates: &[usize],
        scored_count: usize,
    ) -> Self {
        let mut counts = vec![0; candidates.len()];
        for info in constraint.counted(cache, pod) {
            if candidates.is_sorted() {
                // Both in the same order, side by side: one walk along each instead of a search for every candidate.
                let mut places = candidates.iter().zip(&mut counts).peekable();
                for (index, presence) in &info.on {
                    while places.next_if(|(candidate, _)| *candidate < index).is_some() {}
                    if let Some((_, count)) = places.next_if(|(candidate, _)| *candidate == index) {
                        *count += presence.staying();
                    }
                }
            } else {
                for (index, count) in candidates.iter().zip(&mut counts) {
                    *count += info.on.get(index).map_or(0, |presence| presence.staying());
                }
            }
        }
        Self { counts: Counts::ByCandidate(counts), weight: weight_of(scored_count) }
    }

    fn by_domain(
        cache: &Cache,
        pod: &PodKind,
        constraint: &Constraint,
        candidates: &[usize],
        is_labelled: &impl Fn(usize) -> bool,
    ) -> Self {
        // Nodes without the label are one domain of their own, which counts as one but holds no pods that matter.
        let mut is_candidate = vec![false; constraint.domains.count];
        let mut has_unlabelled = false;
        for index in candidates.iter().filter(|index| is_labelled(**index)) {
            match constraint.domain(*index) {
                Some(domain) => is_candidate[domain] = true,
                None => has_unlabelled = true,
            }
        }
        let size = is_candidate.iter().filter(|is| **is).count() + usize::from(has_unlabelled);
        let mut counts = vec![0; constraint.domains.count];
        for info in constraint.counted(cache, pod) {
            for (index, presence) in &info.on {
                let domain = constraint.domain(*index).filter(|domain| is_candidate[*domain]);
                let (Some(domain), Some(node)) = (domain, cache.node(*index)) else { continue };
                if is_labelled(*index) && constraint.includes(&node.node, pod) {
                    counts[domain] += presence.staying();
                }
            }
        }
        Self { counts: Counts::ByDomain(counts), weight: weight_of(size) }
    }

    /// What the constraint says against a candidate, which is in a domain.
    #[expect(clippy::cast_precision_loss, reason = "upstream works in doubles, too")]
    fn cost(&self, constraint: &Constraint, place: usize, domain: usize) -> f64 {
        let count = match &self.counts {
            Counts::ByCandidate(counts) => counts[place],
            Counts::ByDomain(counts) => counts[domain],
        };
        count as f64 * self.weight + (constraint.max_skew - 1) as f64
    }
}

/// What one pod weighs among so many domains.
#[expect(clippy::cast_precision_loss, reason = "a count of domains is small")]
fn weight_of(domains: usize) -> f64 {
    libm::log((domains + 2) as f64)
}
