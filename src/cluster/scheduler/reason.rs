//! Why no node is possible, in the scheduler's own words.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/types.go `FitError.Error`, and the plugins' `ErrReason` constants; v1.20.2 for what
//! was worded otherwise. What preemption adds to the sentence is left out: no pod has a higher priority than another.

use std::collections::{BTreeMap, BTreeSet};

use super::resources::Insufficient;
use super::rules::Wording;
use crate::cluster::placement::Taint;

/// Why a node is not possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is cordoned.
    Cordoned,
    /// A taint.
    Taint(Taint),
    /// The pod's node selector or node affinity.
    NodeAffinity,
    /// It has not all of the ports left that the pod takes.
    Ports,
    /// It has too little.
    Resources(Vec<Insufficient>),
    /// It lacks the label of a spread constraint.
    SpreadLabel,
    /// A spread constraint.
    Spread,
    /// The pod's affinity to pods.
    PodAffinity,
    /// The pod's anti-affinity to pods.
    PodAntiAffinity,
    /// A pod that is there does not want it.
    Unwelcome,
}

/// What a rule says of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is possible.
    Fits,
    /// It is not, as things are.
    Unschedulable(Reason),
    /// It is not, and would not be without the pods that are on it.
    Unresolvable(Reason),
}

/// Something that has changed, for which a pod without a node may be tried again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Change {
    /// A pod has been bound to a node.
    PodPlaced,
    /// A pod has left its node.
    PodGone,
    /// A node has come.
    NodeAdded,
    /// A node is no longer there.
    NodeGone,
    /// A node has other labels.
    NodeLabels,
    /// A node has other taints, or is cordoned or not.
    NodeTaints,
    /// A node has other resources.
    NodeResources,
}

impl Reason {
    /// The words, for each of which nodes are counted.
    fn words(&self, wording: Wording) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match (self, wording) {
            (Self::Cordoned, _) => one("node(s) were unschedulable"),
            (Self::Taint(taint), Wording::Present) => {
                vec![format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value)]
            }
            (Self::Taint(taint), Wording::Former) => {
                vec![format!("node(s) had taint {{{}: {}}}, that the pod didn't tolerate", taint.key, taint.value)]
            }
            (Self::NodeAffinity, Wording::Present) => one("node(s) didn't match Pod's node affinity/selector"),
            (Self::NodeAffinity, Wording::Former) => one("node(s) didn't match Pod's node affinity"),
            (Self::Ports, _) => one("node(s) didn't have free ports for the requested pod ports"),
            (Self::Resources(missing), _) => missing.iter().map(Insufficient::reason).collect(),
            (Self::SpreadLabel, _) => {
                one("node(s) didn't match pod topology spread constraints (missing required label)")
            }
            (Self::Spread, _) => one("node(s) didn't match pod topology spread constraints"),
            (Self::PodAffinity, Wording::Present) => one("node(s) didn't match pod affinity rules"),
            (Self::PodAntiAffinity, Wording::Present) => one("node(s) didn't match pod anti-affinity rules"),
            (Self::Unwelcome, Wording::Present) => one("node(s) didn't satisfy existing pods anti-affinity rules"),
            (of_pods, Wording::Former) => {
                let second = match of_pods {
                    Self::PodAffinity => "node(s) didn't match pod affinity rules",
                    Self::PodAntiAffinity => "node(s) didn't match pod anti-affinity rules",
                    _ => "node(s) didn't satisfy existing pods anti-affinity rules",
                };
                vec!["node(s) didn't match pod affinity/anti-affinity".to_owned(), second.to_owned()]
            }
        }
    }

    /// The changes for which the rule wants the pod to be tried again.
    fn changes(&self) -> &'static [Change] {
        use Change::{NodeAdded, NodeGone, NodeLabels, NodeResources, NodeTaints, PodGone, PodPlaced};
        match self {
            Self::Cordoned | Self::Taint(_) => &[NodeAdded, NodeTaints],
            Self::NodeAffinity => &[NodeAdded, NodeLabels],
            Self::Ports => &[PodGone, NodeAdded, NodeLabels, NodeTaints, NodeResources],
            Self::Resources(_) => &[PodGone, NodeAdded, NodeResources],
            Self::SpreadLabel | Self::Spread => &[PodPlaced, PodGone, NodeAdded, NodeGone, NodeLabels],
            Self::PodAffinity | Self::PodAntiAffinity | Self::Unwelcome => &[PodPlaced, PodGone, NodeAdded, NodeLabels],
        }
    }
}

/// No node is possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unschedulable {
    /// What the scheduler says.
    pub message: String,
    /// What may help.
    pub changes: BTreeSet<Change>,
}

impl Unschedulable {
    /// The reason against the only node, of `nodes`, that a pod names. Former versions look at the others all the same.
    #[must_use]
    pub fn of_one(reason: Reason, nodes: usize, wording: Wording) -> Self {
        let others = if wording == Wording::Former { nodes.saturating_sub(1) } else { 0 };
        let reasons: Vec<Reason> = std::iter::once(reason).chain((0..others).map(|_| Reason::NodeAffinity)).collect();
        let all = Self::new(&reasons, wording);
        let first = format!("0/{} nodes", reasons.len());
        Self { message: all.message.replacen(&first, &format!("0/{nodes} nodes"), 1), ..all }
    }

    /// The sum of the reasons, one for each node.
    #[must_use]
    pub fn new(reasons: &[Reason], wording: Wording) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for words in reasons.iter().flat_map(|reason| reason.words(wording)) {
            *counts.entry(words).or_default() += 1;
        }
        // Sorted as text, number first.
        let parts: BTreeSet<String> = counts.iter().map(|(words, count)| format!("{count} {words}")).collect();
        let parts: Vec<String> = parts.into_iter().collect();
        let message = if reasons.is_empty() {
            "no nodes available to schedule pods".to_owned()
        } else {
            format!("0/{} nodes are available: {}.", reasons.len(), parts.join(", "))
        };
        let mut changes: BTreeSet<Change> = reasons.iter().flat_map(Reason::changes).copied().collect();
        // A cluster without nodes waits for one.
        changes.insert(Change::NodeAdded);
        Self { message, changes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::placement::TaintEffect;

    #[test]
    fn nodes_are_counted_by_reason_in_the_order_of_the_text() {
        let missing =
            |resource: &str| Insufficient { resource: resource.to_owned(), requested: 2, used: 9, capacity: 10 };
        let taint = Taint { key: "disk".to_owned(), value: "bad".to_owned(), effect: TaintEffect::NoSchedule };
        let reasons = [
            Reason::Resources(vec![missing("cpu"), missing("memory")]),
            Reason::Resources(vec![missing("cpu")]),
            Reason::Taint(taint),
            Reason::PodAntiAffinity,
            Reason::Resources(vec![missing("pods")]),
        ];
        let present = Unschedulable::new(&reasons, Wording::Present);
        assert_eq!(
            present.message,
            "0/5 nodes are available: 1 Insufficient memory, 1 Too many pods, 1 node(s) didn't match pod anti-affinity rules, \
             1 node(s) had untolerated taint {disk: bad}, 2 Insufficient cpu."
        );
        assert!(present.changes.contains(&Change::PodGone) && present.changes.contains(&Change::NodeTaints));
        assert!(!present.changes.contains(&Change::NodeGone));
        let former = Unschedulable::new(&reasons[2..4], Wording::Former);
        assert_eq!(
            former.message,
            "0/2 nodes are available: 1 node(s) didn't match pod affinity/anti-affinity, 1 node(s) didn't match pod \
             anti-affinity rules, 1 node(s) had taint {disk: bad}, that the pod didn't tolerate."
        );
        assert_eq!(Unschedulable::new(&[], Wording::Present).message, "no nodes available to schedule pods");
    }
}
