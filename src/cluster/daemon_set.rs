//! The rules of the `DaemonSet` controller: which nodes have a pod, and how a new revision takes the place of an old one.
//!
//! - A node that the template admits and whose taints it bears gets a pod. One whose `NoSchedule` taints it does not bear gets none, and keeps the one it has; a
//!   `NoExecute` taint that it does not bear, or another node selector, takes the pod away. So a node that is not ready gets no new pod, unless the template bears that, too.
//! - *Rolling update without a surge*: an old pod that is not available is deleted at once and counts nowhere; of the available ones so many are deleted as the limit leaves
//!   beside the new pods that are not available yet and the nodes without a pod. The node's new pod is made when its old one has ended.
//! - *With a surge*: a node whose old pod is not available gets a new one beside it at once; of the others so many as the limit leaves beside the new pods that are not available
//!   yet. The old one is deleted when the new one is available.
//! - *`OnDelete`*: whoever deletes a pod gets one of the new revision.
//! - A step of the rollout is made only by a sync that has nothing to do about nodes.
//! - A pod that fails is deleted and made again under a back-off for each node: at once, then after 1 s, 2 s and so on to 15 minutes.
//!
//! Both limits round up, and are of the nodes that should have a pod. Before 1.25 a surge needed a feature gate that was on from 1.22.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/daemon/{daemon_controller,update}.go, pkg/controller/daemon/util/daemonset_util.go,
//! staging/src/k8s.io/client-go/util/flowcontrol/backoff.go.

use std::time::Duration;

use super::int_or_percent::{IntOrPercent, Rounding};
use super::objects::Node;
use super::placement::{Placement, TaintEffect, Toleration, TolerationValue};
use super::taint_eviction::{NOT_READY, UNREACHABLE};
use crate::units::SimTime;

/// Pods made, and pods deleted, in one sync at most. Source: daemon_controller.go `BurstReplicas`.
pub const BURST: usize = 250;

/// Taints with `NoSchedule` that every such pod bears.
const BORNE: [&str; 4] = ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"];

/// How a new revision takes the place of an old one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Whenever somebody deletes a pod.
    OnDelete,
    /// Some nodes at a time.
    Rolling {
        /// New pods beside old ones that are available.
        max_surge: IntOrPercent,
        /// Nodes without an available pod.
        max_unavailable: IntOrPercent,
    },
}

/// The limits of a rolling update, in nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// New pods beside old ones that are available.
    pub surge: usize,
    /// Nodes without an available pod.
    pub unavailable: usize,
}

impl Update {
    /// As the API server writes it where nothing is written.
    pub const DEFAULT: Self = Self::Rolling { max_surge: IntOrPercent::Int(0), max_unavailable: IntOrPercent::Int(1) };

    /// The limits where `desired` nodes should have a pod; none if nothing is rolled.
    #[must_use]
    pub fn limits(self, desired: usize) -> Option<Limits> {
        let Self::Rolling { max_surge, max_unavailable } = self else { return None };
        let scaled = |limit: IntOrPercent| {
            let count = limit.scaled(i32::try_from(desired).unwrap_or(i32::MAX), Rounding::Up);
            usize::try_from(count).unwrap_or(0)
        };
        let (surge, unavailable) = (scaled(max_surge), scaled(max_unavailable));
        // What the API server would not have let through moves all the same.
        let is_stuck = desired > 0 && surge == 0 && unavailable == 0;
        Some(Limits { surge, unavailable: if is_stuck { 1 } else { unavailable } })
    }

    /// Whether a node may have two pods.
    #[must_use]
    pub fn surges(self) -> bool {
        self.limits(1).is_some_and(|limits| limits.surge > 0)
    }
}

/// What a template says of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fit {
    /// A pod belongs there.
    pub should_run: bool,
    /// One that is there stays.
    pub may_stay: bool,
}

/// Whether a node gets a pod with this placement, and keeps it.
#[must_use]
pub fn fit(placement: &Placement, node: &Node) -> Fit {
    if !placement.admits(node) {
        return Fit { should_run: false, may_stay: false };
    }
    let bears = |effects: &[TaintEffect]| {
        node.taints.iter().all(|taint| !effects.contains(&taint.effect) || placement.tolerates(taint))
    };
    let should_run = bears(&[TaintEffect::NoSchedule, TaintEffect::NoExecute]);
    Fit { should_run, may_stay: should_run || bears(&[TaintEffect::NoExecute]) }
}

/// What the controller has every such pod bear, besides what its template says.
#[must_use]
pub fn with_tolerations(mut placement: Placement) -> Placement {
    let bears = |key: String, effect: TaintEffect| Toleration {
        key,
        value: TolerationValue::Exists,
        effect: Some(effect),
        seconds: None,
    };
    let lost = [NOT_READY, UNREACHABLE].map(|key| bears(key.to_owned(), TaintEffect::NoExecute));
    let borne = BORNE.map(|name| bears(format!("node.kubernetes.io/{name}"), TaintEffect::NoSchedule));
    // Of several that bear a taint the first counts, and the controller's take the place of the template's own.
    let added = || lost.iter().chain(&borne);
    placement
        .tolerations
        .retain(|own| !added().any(|toleration| own.key == toleration.key && own.effect == toleration.effect));
    placement.tolerations.extend(added().cloned());
    placement
}

/// A pod as the controller sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DaemonPod {
    /// Its number.
    pub id: u64,
    /// It is of the newest revision.
    pub is_current: bool,
    /// It is being deleted.
    pub is_deleting: bool,
    /// It is ready.
    pub is_ready: bool,
    /// It has been ready for long enough.
    pub is_available: bool,
}

/// A node as the controller sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonNode {
    /// Names it for good.
    pub index: usize,
    /// What the template says of it.
    pub fit: Fit,
    /// The set's pods for it that have not both been deleted and ended: those with a node first, the oldest first.
    pub pods: Vec<DaemonPod>,
    /// A pod of it has failed, and is not deleted yet.
    pub has_failed: bool,
}

impl DaemonNode {
    fn staying(&self) -> impl Iterator<Item = &DaemonPod> {
        self.pods.iter().filter(|pod| !pod.is_deleting)
    }
}

/// Pods to be made, by node, and to be deleted.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Steps {
    /// Nodes that get a pod.
    pub creates: Vec<usize>,
    /// Pods that go.
    pub deletes: Vec<u64>,
}

impl Steps {
    /// Nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.creates.is_empty() && self.deletes.is_empty()
    }
}

/// What nodes lack, and what they have too much of.
#[must_use]
pub fn manage(update: Update, nodes: &[DaemonNode]) -> Steps {
    let mut steps = Steps::default();
    for node in nodes {
        let Fit { should_run, may_stay } = node.fit;
        if should_run && node.pods.is_empty() {
            steps.creates.extend((!node.has_failed).then_some(node.index));
        } else if !may_stay {
            steps.deletes.extend(node.staying().map(|pod| pod.id));
        } else if !update.surges() {
            steps.deletes.extend(node.staying().skip(1).map(|pod| pod.id));
        } else if node.staying().next().is_none() {
            // The one that is being deleted is not waited for.
            steps.creates.extend((should_run && !node.has_failed).then_some(node.index));
        } else {
            steps.deletes.extend(excess(node));
        }
    }
    steps
}

/// The pods of a node with a surge that are too many: one of either revision may be there, and the old one while it is ready and the new one not available.
fn excess(node: &DaemonNode) -> Vec<u64> {
    let of = |is_current: bool| node.staying().filter(move |pod| pod.is_current == is_current);
    let mut deletes: Vec<u64> =
        node.staying().filter(|pod| of(pod.is_current).next() != Some(pod)).map(|pod| pod.id).collect();
    if let (Some(new), Some(old)) = (of(true).next(), of(false).next())
        && (!old.is_ready || new.is_available)
    {
        deletes.push(old.id);
    }
    deletes
}

/// The old pod and the new one of a node; none if there are several of either.
fn pair(node: &DaemonNode) -> Option<(Option<&DaemonPod>, Option<&DaemonPod>)> {
    let only = |is_current: bool| {
        let mut of = node.staying().filter(|pod| pod.is_current == is_current);
        let first = of.next();
        of.next().is_none().then_some(first)
    };
    Some((only(false)?, only(true)?))
}

/// The next step of a rolling update. Nodes that have no pod and should have none are left out; of equal candidates those that come first go first.
#[must_use]
pub fn roll(limits: Limits, nodes: &[DaemonNode]) -> Steps {
    let meant = nodes.iter().filter(|node| node.fit.should_run || !node.pods.is_empty());
    if limits.surge == 0 { replace(limits.unavailable, meant) } else { surge(limits.surge, meant) }
}

fn replace<'a>(max_unavailable: usize, nodes: impl Iterator<Item = &'a DaemonNode>) -> Steps {
    let (mut unavailable, mut deletes, mut candidates) = (0, Vec::new(), Vec::new());
    for node in nodes {
        match pair(node) {
            Some((None, Some(new))) => unavailable += usize::from(!new.is_available),
            Some((Some(old), None)) if !old.is_available => deletes.push(old.id),
            Some((Some(old), None)) => candidates.push(old.id),
            // Too many, or none: it is for another sync to see to that.
            Some((None, None) | (Some(_), Some(_))) | None => unavailable += 1,
        }
    }
    deletes.extend(candidates.into_iter().take(max_unavailable.saturating_sub(unavailable)));
    Steps { creates: Vec::new(), deletes }
}

fn surge<'a>(max_surge: usize, nodes: impl Iterator<Item = &'a DaemonNode>) -> Steps {
    let (mut surging, mut steps, mut candidates) = (0, Steps::default(), Vec::new());
    for node in nodes {
        match pair(node) {
            None => surging += 1,
            Some((None, _)) => {}
            Some((Some(old), None)) if !old.is_available => steps.creates.push(node.index),
            Some((Some(_), None)) => candidates.push(node.index),
            Some((Some(old), Some(new))) if new.is_available => steps.deletes.push(old.id),
            Some((Some(_), Some(_))) => surging += 1,
        }
    }
    steps.creates.extend(candidates.into_iter().take(max_surge.saturating_sub(surging)));
    steps
}

/// What a `DaemonSet` reports.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DaemonStatus {
    /// Nodes that should have a pod.
    pub desired: usize,
    /// Those of them that have one.
    pub current: usize,
    /// Those whose oldest pod is ready.
    pub ready: usize,
    /// Those whose oldest pod is of the newest revision.
    pub updated: usize,
    /// Those whose oldest pod has been ready for long enough.
    pub available: usize,
    /// Nodes that have a pod and should have none.
    pub misscheduled: usize,
}

impl DaemonStatus {
    /// The status that these nodes come to.
    #[must_use]
    pub fn of(nodes: &[DaemonNode]) -> Self {
        let mut status = Self::default();
        for node in nodes {
            let oldest = node.pods.first();
            if !node.fit.should_run {
                status.misscheduled += usize::from(oldest.is_some());
                continue;
            }
            let has = |what: fn(&DaemonPod) -> bool| usize::from(oldest.is_some_and(what));
            status.desired += 1;
            status.current += has(|_| true);
            status.ready += has(|pod| pod.is_ready);
            status.updated += has(|pod| pod.is_current);
            status.available += has(|pod| pod.is_ready && pod.is_available);
        }
        status
    }

    /// Whether every node that should have a pod has an available one, of the newest revision unless nothing is rolled.
    #[must_use]
    pub fn is_complete(&self, update: Update) -> bool {
        (update == Update::OnDelete || self.updated == self.desired) && self.available == self.desired
    }
}

/// The first wait of a node whose pods fail one after the other, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

/// When the pods of a node that fail are deleted, so that others can be made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FailureBackoff {
    /// The wait, and when it was last begun.
    last: Option<(Duration, SimTime)>,
}

impl FailureBackoff {
    /// A pod has failed: when it is deleted.
    pub fn handle_failure(&mut self, now: SimTime) -> SimTime {
        let (first, longest) = BACKOFF;
        let known = self.last.filter(|(_, since)| since.after(longest * 2) >= now);
        let deleted_at = known.map_or(now, |(wait, since)| since.after(wait).max(now));
        let wait = known.map_or(first, |(wait, _)| (wait * 2).min(longest));
        self.last = Some((wait, deleted_at));
        deleted_at
    }
}

#[cfg(test)]
mod tests;
