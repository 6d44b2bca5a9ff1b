//! Affinity and anti-affinity between pods.
//!
//! Anti-affinity is symmetric: a pod that is there keeps away those it does not want, too. Pods that are being deleted count until they
//! are gone.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/interpodaffinity.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::cache::{Cache, Domains, KindInfo, PodKind};
use super::reason::{Reason, Verdict};
use super::{SCORE_MAX, whole};
use crate::cluster::placement::PodTerm;
use crate::cluster::selector::Labels;

/// Whether a term of a pod in namespace `owner` means a pod of this kind, whose namespace has these labels.
fn means(term: &PodTerm, owner: &str, pod: &PodKind, namespace: &Labels) -> bool {
    let by_selector = term.namespace_selector.as_ref().is_some_and(|selector| selector.matches(namespace));
    let by_default = term.namespaces.is_empty() && term.namespace_selector.is_none() && pod.namespace == owner;
    (by_default || by_selector || term.namespaces.contains(&pod.namespace))
        && term.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
}

/// Pods per domain of one label.
struct Tally {
    domains: Rc<Domains>,
    counts: Vec<i64>,
}

impl Tally {
    fn new(cache: &Cache, key: &str) -> Self {
        let domains = cache.domains(key);
        let counts = vec![0; domains.count];
        Self { domains, counts }
    }

    /// Adds `each` for every pod of a kind; whether any of them is in a domain.
    fn add(&mut self, info: &KindInfo, each: i64) -> bool {
        let mut has_any = false;
        for (index, presence) in &info.on {
            if let Some(domain) = self.domains.of.get(*index).copied().flatten() {
                self.counts[domain] += each * i64::from(presence.all);
                has_any = true;
            }
        }
        has_any
    }

    /// The count of a node's domain; none: it is in none.
    fn at(&self, index: usize) -> Option<i64> {
        self.domains.of.get(index).copied().flatten().map(|domain| self.counts[domain])
    }
}

/// What is required between one pod and those that are there.
pub struct Filter {
    /// One per required affinity term: the pods that match all of them.
    affinity: Vec<Tally>,
    /// No pod matches, but this one matches its own terms: it is the first of its group.
    is_first: bool,
    /// One per required anti-affinity term.
    anti_affinity: Vec<Tally>,
    /// By label: pods that do not want this one.
    unwelcome: BTreeMap<String, Tally>,
}

impl Filter {
    /// Counts what concerns a pod; none: there are no terms, and every node will do.
    #[must_use]
    pub fn new(cache: &Cache, pod: &PodKind) -> Option<Self> {
        let wanted = &pod.placement.pod_affinity.required;
        let unwanted = &pod.placement.pod_anti_affinity.required;
        let mut unwelcome = BTreeMap::new();
        let own_namespace = cache.namespace(&pod.namespace);
        for info in cache.minding().filter(|info| !info.on.is_empty()) {
            for term in &info.kind.placement.pod_anti_affinity.required {
                if means(term, &info.kind.namespace, pod, own_namespace) {
                    let key = term.topology_key.clone();
                    unwelcome.entry(key).or_insert_with(|| Tally::new(cache, &term.topology_key)).add(info, 1);
                }
            }
        }
        if wanted.is_empty() && unwanted.is_empty() && unwelcome.is_empty() {
            return None;
        }
        let mut affinity: Vec<Tally> = wanted.iter().map(|term| Tally::new(cache, &term.topology_key)).collect();
        let mut anti_affinity: Vec<Tally> = unwanted.iter().map(|term| Tally::new(cache, &term.topology_key)).collect();
        let matches_all = |other: &PodKind| {
            let namespace = cache.namespace(&other.namespace);
            wanted.iter().all(|term| means(term, &pod.namespace, other, namespace))
        };
        let mut has_match = false;
        if !wanted.is_empty() || !unwanted.is_empty() {
            for info in cache.kinds().filter(|info| !info.on.is_empty()) {
                if !wanted.is_empty() && matches_all(&info.kind) {
                    for tally in &mut affinity {
                        has_match |= tally.add(info, 1);
                    }
                }
                let namespace = cache.namespace(&info.kind.namespace);
                for (term, tally) in unwanted.iter().zip(&mut anti_affinity) {
                    if means(term, &pod.namespace, &info.kind, namespace) {
                        tally.add(info, 1);
                    }
                }
            }
        }
        let is_first = !has_match && matches_all(pod);
        Some(Self { affinity, is_first, anti_affinity, unwelcome })
    }

    /// What it says of a node.
    #[must_use]
    pub fn check(&self, index: usize) -> Verdict {
        if self.affinity.iter().any(|tally| tally.at(index).is_none()) {
            return Verdict::Unresolvable(Reason::PodAffinity);
        }
        if !self.is_first && self.affinity.iter().any(|tally| tally.at(index).is_some_and(|count| count <= 0)) {
            return Verdict::Unresolvable(Reason::PodAffinity);
        }
        let is_hit = |tally: &Tally| tally.at(index).is_some_and(|count| count > 0);
        if self.anti_affinity.iter().any(is_hit) {
            return Verdict::Unschedulable(Reason::PodAntiAffinity);
        }
        if self.unwelcome.values().any(is_hit) {
            return Verdict::Unschedulable(Reason::Unwelcome);
        }
        Verdict::Fits
    }
}

/// The plugin's arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScoreArguments {
    /// What a required affinity term of a pod that is there counts as, seen from the pod that comes; 1 unless configured.
    pub hard_weight: i64,
    /// Preferred terms of pods that are there count for pods with no terms of their own.
    pub heeds_others: bool,
    /// 0 counts as a sum that some node has.
    pub counts_zero: bool,
}

/// The scores of the candidates, or none if no term concerns them.
#[must_use]
pub fn scores(cache: &Cache, pod: &PodKind, candidates: &[usize], arguments: ScoreArguments) -> Option<Vec<i64>> {
    let wanted = &pod.placement.pod_affinity.preferred;
    let unwanted = &pod.placement.pod_anti_affinity.preferred;
    let has_own = !wanted.is_empty() || !unwanted.is_empty();
    if !has_own && !arguments.heeds_others {
        return None;
    }
    let own_namespace = cache.namespace(&pod.namespace);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut has_any = false;
    let mut add = |term: &PodTerm, info: &KindInfo, weight: i64| {
        let key = term.topology_key.clone();
        let tally = tallies.entry(key).or_insert_with(|| Tally::new(cache, &term.topology_key));
        has_any |= tally.add(info, weight);
    };
    if has_own {
        for info in cache.kinds().filter(|info| !info.on.is_empty()) {
            let namespace = cache.namespace(&info.kind.namespace);
            for (terms, sign) in [(wanted, 1), (unwanted, -1)] {
                for (weight, term) in terms {
                    if means(term, &pod.namespace, &info.kind, namespace) {
                        add(term, info, sign * weight);
                    }
                }
            }
        }
    }
    for info in cache.minding().filter(|info| !info.on.is_empty()) {
        let theirs = &info.kind.placement;
        let hard = theirs.pod_affinity.required.iter().map(|term| (arguments.hard_weight, term));
        let soft = theirs.pod_affinity.preferred.iter().map(|(weight, term)| (*weight, term));
        let against = theirs.pod_anti_affinity.preferred.iter().map(|(weight, term)| (-weight, term));
        for (weight, term) in hard.filter(|(weight, _)| *weight > 0).chain(soft).chain(against) {
            if means(term, &info.kind.namespace, pod, own_namespace) {
                add(term, info, weight);
            }
        }
    }
    if !has_any {
        return None;
    }
    let sum = |index: &usize| tallies.values().filter_map(|tally| tally.at(*index)).sum();
    let sums: Vec<i64> = candidates.iter().map(sum).collect();
    let zero = arguments.counts_zero.then_some(&0);
    let (least, most) = (*sums.iter().chain(zero).min()?, *sums.iter().chain(zero).max()?);
    Some(sums.into_iter().map(|sum| if most == least { 0 } else { share(sum - least, most - least) }).collect())
}

/// 100 times a fraction, cut off; in doubles, as upstream.
#[expect(clippy::cast_precision_loss, reason = "upstream divides doubles, too")]
fn share(part: i64, total: i64) -> i64 {
    whole(SCORE_MAX as f64 * (part as f64 / total as f64))
}
