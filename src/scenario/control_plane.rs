//! `cluster.controllerManager`: how fast the controllers may call the API server.

use super::resolved::{bare, map};
use crate::cluster::{ClientLimits, ClientRates};
use crate::manifest::{Fields, Node};

/// Reads it; the keys are the controller-manager's flags.
pub(super) fn read(cluster: Option<&Fields<'_>>) -> Option<ClientRates> {
    let usual = ClientRates::DEFAULT;
    let fields = cluster.and_then(|fields| fields.get("controllerManager")).and_then(|field| field.fields());
    let Some(fields) = fields else { return Some(usual) };
    let limit = |key: &str, usual: u32| match fields.get(key) {
        Some(field) => field.whole::<u32>(1, 100_000),
        None => Some(usual),
    };
    let per_second = limit("kubeApiQps", usual.controllers.per_second);
    let burst = limit("kubeApiBurst", usual.controllers.burst);
    fields.finish();
    Some(ClientRates { controllers: ClientLimits { per_second: per_second?, burst: burst? }, ..usual })
}

/// The same with every default.
pub(super) fn written(rates: ClientRates) -> Node {
    let ClientLimits { per_second, burst } = rates.controllers;
    map(vec![("kubeApiQps", bare(per_second)), ("kubeApiBurst", bare(burst))])
}
