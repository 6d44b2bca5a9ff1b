//! The lines behind losses that an edit of routes, or of what they lead to, brings about.
//!
//! Nobody checks what is applied to a cluster that runs: a route may lead to a Service, a port or a subset that is not there. Istio then makes no cluster for
//! it, and the gateway answers 503 (`GD4206`), one of the Gateway API 500 (`GD4208`).

use super::front_changes::{Moments, edited_at, source};
use super::settings::{TimelineEntry, TimelineVerb};
use crate::drill::Sources;
use crate::manifest::routes::Upstream;
use crate::manifest::{Files, Place};
use crate::record::CauseCode;

/// What an edit writes that decides about routes: the kind, its keys, the path that is told.
const ROUTING: [(&str, &[&str], &str); 5] = [
    ("VirtualService", &["http", "hosts", "gateways"], "spec.http"),
    ("HTTPRoute", &["rules", "hostnames", "parentRefs"], "spec.rules"),
    ("Gateway", &["servers", "listeners"], "spec.servers"),
    ("ListenerSet", &["listeners"], "spec.listeners"),
    ("ReferenceGrant", &["to", "from"], "spec.to"),
];

/// Of other routes.
pub(super) fn of_routes(moments: &Moments<'_>, files: &Files) -> Sources {
    let mut sources = unknown(moments, files);
    let written = ROUTING.iter().find(|(kind, ..)| touches(moments.entry, kind));
    let (place, path) = match (&moments.entry.verb, written) {
        (_, Some((kind, keys, path))) => (edited_at(moments, &[kind], keys), (*path).to_owned()),
        (TimelineVerb::DeleteService(_, place), _) => (*place, "spec.timeline.delete.service".to_owned()),
        (TimelineVerb::DeleteObject((field, _), _, place), _) => (*place, format!("spec.timeline.delete.{field}")),
        _ => (moments.entry.place, "spec.timeline".to_owned()),
    };
    let all = [CauseCode::NoRoute, CauseCode::DirectResponse, CauseCode::FaultInjected, CauseCode::UpstreamTimeout];
    for code in all {
        // Its rules are there, and too many words for a line.
        sources.insert(code, source(files, place, &path, "…"));
    }
    sources
}

/// Of clusters that are others, or gone.
pub(super) fn of_clusters(moments: &Moments<'_>, files: &Files) -> Sources {
    let mut sources = unknown(moments, files);
    if !touches(moments.entry, "DestinationRule") {
        return sources;
    }
    let (current, next) = (&moments.current.routing.upstreams, &moments.next.routing.upstreams);
    let differs = |what: fn(&Upstream, &Upstream) -> bool| {
        let known = |upstream: &Upstream| current.iter().find(|known| known.cluster == upstream.cluster).cloned();
        next.iter().any(|upstream| known(upstream).is_some_and(|known| what(&known, upstream)))
    };
    if differs(|a, b| a.config != b.config) {
        let place = edited_at(moments, &["DestinationRule"], &["trafficPolicy", "subsets"]);
        sources.insert(CauseCode::UpstreamOverflow, source(files, place, "spec.trafficPolicy.connectionPool", "…"));
    }
    if differs(|a, b| a.subset != b.subset) {
        let place = edited_at(moments, &["DestinationRule"], &["subsets"]);
        sources.insert(CauseCode::NoHealthyUpstream, source(files, place, "spec.subsets", "…"));
    }
    sources
}

/// Of routes to clusters that are not there since this edit.
fn unknown(moments: &Moments<'_>, files: &Files) -> Sources {
    let (current, next) = (&moments.current.routing.nowhere, &moments.next.routing.nowhere);
    let Some((cluster, named_at)) = next.iter().find(|(cluster, _)| !current.contains_key(*cluster)) else {
        return Sources::new();
    };
    let entry = moments.entry;
    let (place, path): (Place, &str) = match () {
        () if touches(entry, "VirtualService") => (*named_at, "spec.http.route.destination"),
        () if touches(entry, "DestinationRule") => {
            (edited_at(moments, &["DestinationRule"], &["subsets", "host"]), "spec.subsets")
        }
        () if touches(entry, "Service") => (edited_at(moments, &["Service"], &["ports"]), "spec.ports"),
        () => (entry.place, "spec.timeline"),
    };
    Sources::from([(CauseCode::ClusterNotFound, source(files, place, path, cluster))])
}

/// Whether an entry of the timeline writes an object of this kind.
fn touches(entry: &TimelineEntry, kind: &str) -> bool {
    match &entry.verb {
        TimelineVerb::Apply(objects) => objects.iter().any(|object| object.id.kind == kind),
        TimelineVerb::Set(patches) => patches.iter().any(|patch| patch.subject.kind() == Some(kind)),
        _ => false,
    }
}
