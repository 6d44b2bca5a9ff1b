//! Taints that keep pods away, and taints that only count against a node.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/tainttoleration.

use super::SCORE_MAX;
use crate::cluster::objects::Node;
use crate::cluster::placement::{Placement, Taint, TaintEffect};

/// The first taint that keeps a pod away.
#[must_use]
pub fn untolerated<'a>(node: &'a Node, placement: &Placement) -> Option<&'a Taint> {
    let keeps_away = |taint: &&Taint| taint.effect != TaintEffect::PreferNoSchedule;
    node.taints.iter().filter(keeps_away).find(|taint| !placement.tolerates(taint))
}

/// The fewer taints of a node the pod would rather not bear, the better. One score per node.
#[must_use]
pub fn scores<'a>(nodes: impl Iterator<Item = &'a Node>, placement: &Placement) -> Vec<i64> {
    let disliked = |node: &Node| {
        let soft = node.taints.iter().filter(|taint| taint.effect == TaintEffect::PreferNoSchedule);
        i64::try_from(soft.filter(|taint| !placement.tolerates(taint)).count()).unwrap_or(i64::MAX >> 32)
    };
    let counts: Vec<i64> = nodes.map(disliked).collect();
    let most = counts.iter().max().copied().unwrap_or(0);
    let score = |count: i64| if most == 0 { SCORE_MAX } else { SCORE_MAX - SCORE_MAX * count / most };
    counts.into_iter().map(score).collect()
}
