//! Affinity of pods to nodes.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/nodeaffinity.

use super::SCORE_MAX;
use crate::cluster::objects::Node;
use crate::cluster::placement::{NodeAffinity, Placement};

/// Whether a node has what the pod asks for, and what the scheduler's own arguments add to that.
#[must_use]
pub fn admits(node: &Node, placement: &Placement, added: Option<&NodeAffinity>) -> bool {
    added.is_none_or(|added| added.admits(node)) && placement.admits(node)
}

/// The more the preferred terms that hold weigh, the better. One score per node.
#[must_use]
pub fn scores<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    placement: &Placement,
    added: Option<&NodeAffinity>,
) -> Vec<i64> {
    let terms = || added.iter().flat_map(|added| &added.preferred).chain(&placement.node_affinity.preferred);
    let weigh = |node: &Node| terms().filter(|(_, term)| term.matches(node)).map(|(weight, _)| weight).sum();
    let sums: Vec<i64> = nodes.map(weigh).collect();
    let most = sums.iter().max().copied().unwrap_or(0);
    sums.into_iter().map(|sum| if most == 0 { 0 } else { SCORE_MAX * sum / most }).collect()
}
