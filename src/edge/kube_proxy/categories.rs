//! Which endpoints a node may use, for each of the two policies of a Service.
//!
//! - The *cluster* set: all that are ready, on whichever node; narrowed to the node's zone where zone hints count.
//! - The *local* set: all on this node that are ready. Hints do not matter.
//! - In either set, for itself: if none is ready, those that terminate and still serve.
//!
//! Zone hints count if every ready endpoint has one and one of them names the node's zone. Up to 1.32 the Service must also
//! ask for it by its annotation.
//!
//! Source: Kubernetes v1.28.7 pkg/proxy/topology.go `CategorizeEndpoints`, pkg/proxy/serviceport.go; the same file of 1.33.

use crate::cluster::endpoints::EndpointConditions;

/// Which endpoints traffic may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficPolicy {
    /// Those of all nodes.
    Cluster,
    /// Those of the node that the traffic comes to first.
    Local,
}

/// Where the clients of a Service can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Within the cluster only: type `ClusterIP`.
    Internal,
    /// Outside too, over a node port or a balancer's address.
    External,
}

/// The policies of a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policies {
    /// For clients within the cluster.
    pub internal: TrafficPolicy,
    /// For clients outside of it.
    pub external: TrafficPolicy,
    /// Where clients can be: without any outside, `external` says nothing.
    pub reach: Reach,
}

/// An endpoint as a node sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What its slice says of it.
    pub conditions: EndpointConditions,
    /// It runs on this node.
    pub is_local: bool,
    /// The zones whose clients should use it; empty: nobody said.
    pub zone_hints: &'a [&'a str],
}

/// What may be used. All lists hold indexes of the candidates, in their order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Categories {
    /// By policy `Cluster`; none if the Service never uses it.
    pub cluster: Option<Vec<usize>>,
    /// By policy `Local`; none if the Service never uses it.
    pub local: Option<Vec<usize>>,
    /// There is an endpoint somewhere, though perhaps not one that this node may use.
    pub has_any: bool,
}

impl Policies {
    /// Whether any traffic follows policy `Cluster`.
    #[must_use]
    pub fn uses_cluster(&self) -> bool {
        self.internal == TrafficPolicy::Cluster || self.reach == Reach::External
    }

    /// Whether any traffic follows policy `Local`.
    #[must_use]
    pub fn uses_local(&self) -> bool {
        let is_external = self.reach == Reach::External && self.external == TrafficPolicy::Local;
        self.internal == TrafficPolicy::Local || is_external
    }
}

impl Categories {
    /// All that need rules on this node: both sets together.
    #[must_use]
    pub fn reachable(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.cluster.iter().chain(&self.local).flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Whether a Service's annotation `service.kubernetes.io/topology-mode` (formerly `topology-aware-hints`) asks for zone hints.
#[must_use]
pub fn asks_for_hints(annotation: &str) -> bool {
    !matches!(annotation, "" | "disabled" | "Disabled")
}

/// What a node may use. `zone` is the node's, if hints count for this Service at all.
#[must_use]
pub fn categorize(candidates: &[Candidate<'_>], policies: Policies, zone: Option<&str>) -> Categories {
    let zone = zone.filter(|zone| hints_hold(candidates, zone));
    let is_ready = |candidate: &Candidate<'_>| candidate.conditions.ready;
    let still_serves = |candidate: &Candidate<'_>| candidate.conditions.serving && candidate.conditions.terminating;
    let indexes = |holds: &dyn Fn(&Candidate<'_>) -> bool| -> Vec<usize> {
        (0..candidates.len()).filter(|index| holds(&candidates[*index])).collect()
    };
    let or_terminating = |ready: Vec<usize>, here: &dyn Fn(&Candidate<'_>) -> bool| {
        if ready.is_empty() { indexes(&|candidate| here(candidate) && still_serves(candidate)) } else { ready }
    };
    let cluster = policies.uses_cluster().then(|| {
        let in_zone = |candidate: &Candidate<'_>| zone.is_none_or(|zone| candidate.zone_hints.contains(&zone));
        or_terminating(indexes(&|candidate| is_ready(candidate) && in_zone(candidate)), &|_| true)
    });
    let local = policies.uses_local().then(|| {
        let here = |candidate: &Candidate<'_>| candidate.is_local;
        or_terminating(indexes(&|candidate| is_ready(candidate) && here(candidate)), &here)
    });
    let has_any = candidates.iter().any(|candidate| is_ready(candidate) || still_serves(candidate));
    Categories { cluster, local, has_any }
}

/// Whether every ready endpoint has a hint, and one names the zone.
fn hints_hold(candidates: &[Candidate<'_>], zone: &str) -> bool {
    let ready = || candidates.iter().filter(|candidate| candidate.conditions.ready);
    !zone.is_empty()
        && ready().all(|candidate| !candidate.zone_hints.is_empty())
        && ready().any(|candidate| candidate.zone_hints.contains(&zone))
}
