//! `cluster.kubelet`: settings of the nodes' kubelets, by the names that their configuration has.

use super::resolved::{bare, map};
use crate::cluster::{ClientLimits, Version};
use crate::manifest::{Fields, Node};

/// Reads how fast kubelets may call the API server: as their version does, unless it is written.
///
/// Source: Kubernetes staging/src/k8s.io/kubelet/config/v1beta1/types.go (`kubeAPIQPS`, `kubeAPIBurst`).
pub(super) fn read(cluster: Option<&Fields<'_>>, version: Option<Version>) -> Option<ClientLimits> {
    let usual = ClientLimits::of_kubelet(version?);
    let fields = cluster.and_then(|fields| fields.get("kubelet")).and_then(|field| field.fields());
    let Some(fields) = fields else { return Some(usual) };
    let limit = |key: &str, usual: u32| match fields.get(key) {
        Some(field) => field.whole::<u32>(1, 100_000),
        None => Some(usual),
    };
    let (per_second, burst) = (limit("kubeAPIQPS", usual.per_second), limit("kubeAPIBurst", usual.burst));
    fields.finish();
    Some(ClientLimits { per_second: per_second?, burst: burst? })
}

/// The same with every default.
pub(super) fn written(limits: Option<ClientLimits>, version: Version) -> Node {
    let ClientLimits { per_second, burst } = limits.unwrap_or_else(|| ClientLimits::of_kubelet(version));
    map(vec![("kubeAPIQPS", bare(per_second)), ("kubeAPIBurst", bare(burst))])
}
