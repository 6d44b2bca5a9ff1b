//! `clusterIds` that change in mid-run: a gateway that is no longer deployed to a cluster goes there as if it were deleted, and stays where it is still named.
//!
//! - Its Deployment, its Service and with that the balancer go, in that cluster alone; its share of the clients goes on dialling what it found at the start.
//! - What is written of it from then on is for the clusters that are left. The backends of that cluster run on.
//! - One that is named again would be made anew, at another address: like everything that is deleted it cannot be restored in the run. A cluster that the scenario does not have is an error.
//!
//! That ASM takes away what it made in such a cluster is an assumption: its documents say what `clusterIds` deploys, and nothing of what leaves the list.
//! Source: ASM documents "Configure a unified ingress gateway for multiple clusters".

use super::settings::{Settings, TimelineEntry};
use super::state::{Resolved, State};
use crate::manifest::istio_gateway::clusters::{check_names, in_cluster};
use crate::manifest::{Node, Object, Place, Problem, Sink};
use crate::record::results::FidelityStatus;

/// A gateway that leaves this cluster.
pub(super) struct Departure {
    /// Where its clusters are written by now.
    pub(super) place: Place,
    /// What is written there.
    pub(super) written: String,
    /// It is deployed to no other cluster of the scenario.
    pub(super) is_last: bool,
}

/// The object that the target is made from, as it is written for all clusters.
pub(super) fn written(state: &State, current: &Resolved) -> Option<Object> {
    let is_it = |object: &&Object| object.id == current.origin.id && object.id.kind == "IstioGateway";
    state.objects.iter().find(is_it).cloned()
}

/// Whether the target leaves this cluster by what an entry has made of the object that it was `before`. Clusters that nobody knows are reported.
pub(super) fn of_entry(
    entry: &TimelineEntry,
    before: &Object,
    state: &mut State,
    settings: &Settings,
    sink: &Sink,
) -> Option<Departure> {
    let after = state.objects.iter().find(|object| object.id == before.id)?.clone();
    let ids = |object: &Object| -> Vec<String> {
        let named = object.node.find(&["spec", "clusterIds"]).map(Node::items).unwrap_or_default();
        named.iter().filter_map(|id| id.text().map(str::to_owned)).collect()
    };
    let (known, cluster) = (settings.cluster_ids(), state.cluster.clone()?);
    if ids(before) == ids(&after) {
        return None;
    }
    check_names(&after, &known, sink);
    let place = after.node.find(&["spec", "clusterIds"]).map_or(entry.place, |node| node.at);
    let is_here = in_cluster(&after, Some(&cluster)).is_some();
    if is_here && state.departed.is_some() {
        let text = format!("the gateway is gone from `{cluster}` by then");
        let problem = Problem::at(place, "spec.clusterIds", text);
        sink.report(problem.help("what is deleted cannot be restored in the run: compare two scenarios instead"));
    }
    if is_here || state.departed.is_some() {
        return None;
    }
    let text = format!(
        "it names `{cluster}` no longer: there the gateway goes with its Service and its balancer, and clients go on dialling what they found at the start"
    );
    sink.note(place, format!("{}spec.clusterIds", after.prefix()), FidelityStatus::Warning, Some(&text));
    let is_last = !known.iter().any(|(id, _)| **id != *cluster && ids(&after).iter().any(|named| named == id));
    state.departed = Some(before.clone());
    Some(Departure { place, written: ids(&after).join(", "), is_last })
}
