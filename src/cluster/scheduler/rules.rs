//! What changed from one version of the scheduler to the next.
//!
//! What differs in the records of v1.20.2 from v1.28.7, and whose change is not known to a version, is taken to have changed in 1.22.
//!
//! Source: v1.20.2 as recorded from a real control plane (pkg/scheduler/algorithmprovider/registry.go); v1.28.7
//! pkg/scheduler/apis/config/v1/default_plugins.go; kubernetes/kubernetes pull requests 98096 (affinity between pods),
//! 105046 (default spreading), 107384 (rounding).

use super::pod_affinity::ScoreArguments;
use super::spread::SpreadRules;

/// How the balance of a node's resources is scored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balance {
    /// 1 less the difference of the two shares; nothing once one of them is used up. Before 1.22.
    Difference,
    /// 1 less their standard deviation, containers without requests counted with a stand-in. 1.22.
    CountedDeviation,
    /// 1 less their standard deviation. From 1.23 on.
    Deviation,
}

/// How reasons are worded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wording {
    /// As in 1.20 and 1.21.
    Former,
    /// As from 1.22 on.
    Present,
}

/// The order in which a node's faults are looked for: the first one is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterOrder {
    /// Resources before ports, node affinity and taints. Before 1.22.
    ResourcesFirst,
    /// Taints, node affinity, ports, resources.
    ResourcesLast,
}

/// What the scores are multiplied with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights {
    /// Taints that count against a node.
    pub taints: i64,
    /// Affinity to nodes.
    pub node_affinity: i64,
    /// Topology spread.
    pub spread: i64,
    /// Affinity to pods.
    pub pod_affinity: i64,
}

/// The rules of a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The weights of the scores; those of resources and images are 1.
    pub weights: Weights,
    /// The balance.
    pub balance: Balance,
    /// Topology spread.
    pub spread: SpreadRules,
    /// Affinity to pods.
    pub pod_affinity: ScoreArguments,
    /// The words.
    pub wording: Wording,
    /// The order of the filters.
    pub order: FilterOrder,
}

impl Rules {
    /// The rules of version 1.`minor`.
    #[must_use]
    pub fn of_version(minor: u32) -> Self {
        let weights = if minor < 23 {
            Weights { taints: 1, node_affinity: 1, spread: 2, pod_affinity: 1 }
        } else {
            Weights { taints: 3, node_affinity: 2, spread: 2, pod_affinity: 2 }
        };
        let balance = match minor {
            ..22 => Balance::Difference,
            22 => Balance::CountedDeviation,
            _ => Balance::Deviation,
        };
        let spread = SpreadRules {
            has_inclusion_policies: minor >= 26,
            has_min_domains: minor >= 25,
            has_match_label_keys: minor >= 27,
            default_needs_all_labels: minor <= 20,
            is_full_without: minor < 27,
            rounds: minor >= 24,
        };
        let wording = if minor < 22 { Wording::Former } else { Wording::Present };
        let order = if minor < 22 { FilterOrder::ResourcesFirst } else { FilterOrder::ResourcesLast };
        let pod_affinity = ScoreArguments { hard_weight: 1, heeds_others: true, counts_zero: minor < 21 };
        Self { weights, balance, spread, pod_affinity, wording, order }
    }
}
