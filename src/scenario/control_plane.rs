//! `cluster.controllerManager`: how fast the controllers may call the API server, and how many ended pods they leave.

use super::resolved::{bare, map};
use crate::cluster::pod_collection::THRESHOLD;
use crate::cluster::{ClientLimits, ClientRates};
use crate::manifest::{Fields, Node};

/// Reads it; the keys are the controller-manager's flags.
pub(super) fn read(cluster: Option<&Fields<'_>>) -> Option<(ClientRates, usize)> {
    let usual = ClientRates::DEFAULT;
    let fields = cluster.and_then(|fields| fields.get("controllerManager")).and_then(|field| field.fields());
    let Some(fields) = fields else { return Some((usual, THRESHOLD)) };
    let limit = |key: &str, usual: u32| match fields.get(key) {
        Some(field) => field.whole::<u32>(1, 100_000),
        None => Some(usual),
    };
    let per_second = limit("kubeApiQps", usual.controllers.per_second);
    let burst = limit("kubeApiBurst", usual.controllers.burst);
    let most = match fields.get("terminatedPodGcThreshold") {
        Some(field) => field.whole::<usize>(0, i64::from(i32::MAX)),
        None => Some(THRESHOLD),
    };
    fields.finish();
    Some((ClientRates { controllers: ClientLimits { per_second: per_second?, burst: burst? }, ..usual }, most?))
}

/// The same with every default.
pub(super) fn written(rates: ClientRates, terminated_pods_max: usize) -> Node {
    let ClientLimits { per_second, burst } = rates.controllers;
    map(vec![
        ("kubeApiQps", bare(per_second)),
        ("kubeApiBurst", bare(burst)),
        ("terminatedPodGcThreshold", bare(terminated_pods_max)),
    ])
}
