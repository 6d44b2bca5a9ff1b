//! What a scenario says of its clusters.

use std::rc::Rc;

use super::{delay, name, span};
use crate::cluster::{CLUSTERS_MAX, ClientRates, Identity, Version};
use crate::edge::ProxyMode;
use crate::edge::conntrack::TableSize;
use crate::edge::kube_proxy::health::SYNC_PERIOD;
use crate::manifest::{Field, Fields, Place};
use crate::scenario::settings::{ClusterSettings, ProxySettings, defaults};
use crate::scenario::{autoscaling, control_plane, images, kubelet, node_scaling, nodes};

/// The clusters: `cluster` for one, which needs no name, or `clusters` for several.
pub(super) fn clusters(spec: &Fields<'_>) -> Option<Vec<ClusterSettings>> {
    let (one, several) = (spec.get("cluster"), spec.get("clusters"));
    let Some(several) = several else {
        let fields = one.and_then(|field| field.fields());
        let found = cluster(fields.as_ref());
        if let Some(fields) = fields {
            fields.finish();
        }
        return Some(vec![found?]);
    };
    if let Some(one) = one {
        one.refuse("`clusters` says which clusters there are", "write this one under clusters, too");
    }
    let items = several.items();
    if items.is_empty() || items.len() > CLUSTERS_MAX {
        let text = format!("{} clusters are described", items.len());
        several.refuse(text, format!("describe 1 to {CLUSTERS_MAX}"));
        return None;
    }
    let found: Vec<Option<ClusterSettings>> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let fields = item.fields()?;
            let id_field = fields.require("id", "name the cluster, as clusterIds of the gateway does: id: c-1");
            let id = id_field.as_ref().and_then(|field| name(field));
            let weight = fields.get("weight").map_or(Some(1), |field| field.whole::<u32>(0, 1_000_000));
            let settings = cluster(Some(&fields));
            fields.finish();
            let (id, at): (Rc<str>, Place) = (Rc::from(id?), id_field?.place());
            let is_alone = items.len() == 1;
            let identity = if is_alone { Identity::ALONE } else { Identity::of_several(index, Rc::clone(&id)) };
            Some(ClusterSettings { id: Some(id), at, identity, weight: weight?, ..settings? })
        })
        .collect();
    let found: Vec<ClusterSettings> = found.into_iter().collect::<Option<_>>()?;
    for (index, cluster) in found.iter().enumerate() {
        if found[..index].iter().any(|earlier| earlier.id == cluster.id) {
            let id = cluster.id.as_deref().unwrap_or_default();
            items[index].refuse(format!("two clusters are called `{id}`"), "give each a name of its own");
        }
    }
    if found.iter().all(|cluster| cluster.weight == 0) {
        several.refuse("no client comes to any cluster", "give at least one a weight above 0");
    }
    Some(found)
}

/// Reads what is said of a cluster; the caller closes the map.
fn cluster(fields: Option<&Fields<'_>>) -> Option<ClusterSettings> {
    let profile = match fields.and_then(|fields| fields.get("profile")) {
        Some(field) => field.choice(&[(defaults::PROFILE, defaults::PROFILE)]),
        None => Some(defaults::PROFILE),
    };
    let version = match fields.and_then(|fields| fields.get("version")) {
        Some(field) => field.text().and_then(|text| kubernetes(&field, text)),
        None => Some(defaults::KUBERNETES),
    };
    let region = fields.and_then(|fields| fields.get("region")).map(|field| name(&field));
    let load_balancers =
        fields.and_then(|fields| fields.get("loadBalancers")).map_or(Some(true), |field| field.boolean());
    let nodes_field = fields.and_then(|fields| fields.get("nodes"));
    let nodes: Vec<_> =
        nodes_field.as_ref().map(|field| field.items()).unwrap_or_default().iter().map(nodes::group).collect();
    let kube_proxy = match fields.and_then(|fields| fields.get("kubeProxy")).and_then(|field| field.fields()) {
        Some(fields) => kube_proxy(&fields),
        None => Some(ProxySettings::usual(ProxyMode::Iptables)),
    };
    let autoscaler_field = fields.and_then(|fields| fields.get("autoscaler"));
    let described = images::read(fields);
    let timings = fields.and_then(|fields| fields.get("timings")).and_then(|field| field.fields());
    let timings = timings.as_ref();
    let schedule = delay(timings, "schedule", defaults::SCHEDULE);
    let pod_start = delay(timings, "podStart", defaults::POD_START);
    let init_container = delay(timings, "initContainer", defaults::INIT_CONTAINER);
    let image_pull = delay(timings, "imagePull", defaults::IMAGE_PULL);
    let endpoint_propagation = delay(timings, "endpointPropagation", defaults::ENDPOINT_PROPAGATION);
    let config_propagation = delay(timings, "configPropagation", defaults::CONFIG_PROPAGATION);
    let sandbox_removal = delay(timings, "sandboxRemoval", defaults::SANDBOX_REMOVAL);
    let network_latency = span(timings, "networkLatency", defaults::NETWORK_LATENCY);
    let autoscaling = autoscaling::read(fields, version);
    let controllers = control_plane::read(fields);
    let kubelet = kubelet::read(fields, version);
    if let Some(timings) = timings {
        timings.finish();
    }
    let nodes = nodes::checked(nodes.into_iter().collect::<Option<_>>()?, nodes_field.as_ref());
    let autoscaler = match &autoscaler_field {
        Some(field) => Some(node_scaling::read(field, &nodes)?),
        None => None,
    };
    let (images, bad_images) = described?;
    let kubelet = kubelet?;
    let (client_rates, terminated_pods_max) = controllers?;
    Some(ClusterSettings {
        id: None,
        at: Place::NOWHERE,
        identity: Identity::ALONE,
        weight: 1,
        region: region.flatten(),
        load_balancers: load_balancers?,
        profile: profile?,
        autoscaler,
        version: version?,
        nodes,
        schedule: schedule?,
        pod_start: pod_start?,
        init_container: init_container?,
        image_pull: image_pull?,
        images,
        bad_images,
        endpoint_propagation: endpoint_propagation?,
        config_propagation: config_propagation?,
        sandbox_removal: sandbox_removal?,
        network_latency: network_latency?,
        autoscaling: autoscaling?,
        kube_proxy: kube_proxy?,
        client_rates: ClientRates { kubelets: Some(kubelet.limits), ..client_rates },
        terminated_pods_max,
        kubelet,
    })
}

/// A version whose behaviour is known: 1.20 is the oldest that was compared with a real control plane.
fn kubernetes(field: &Field<'_>, text: &str) -> Option<Version> {
    let known = Version::parse(text).filter(|version| (Version::new(1, 20)..Version::new(2, 0)).contains(version));
    if known.is_none() {
        field.refuse(
            format!("`{text}` is not a version whose behaviour is known"),
            "write \"1.20\" or newer, in quotes",
        );
    }
    known
}

/// kube-proxy's own settings, as its configuration has them.
///
/// Source: Kubernetes pkg/proxy/apis/config/validation/validation.go (`minSyncPeriod` is at most `syncPeriod`, which is 30 s).
fn kube_proxy(fields: &Fields<'_>) -> Option<ProxySettings> {
    let mode = fields.get("mode").map_or(Some(ProxyMode::Iptables), |field| field.choice(&PROXY_MODES));
    let mut settings = ProxySettings::usual(mode.unwrap_or(ProxyMode::Iptables));
    let mut is_whole = mode.is_some();
    if let Some(field) = fields.get("minSyncPeriod") {
        match field.duration() {
            Some(span) => settings.min_sync_period = span,
            None => is_whole = false,
        }
        if settings.min_sync_period > SYNC_PERIOD {
            field.refuse("this is longer than kube-proxy's syncPeriod of 30 s", "write 0s to 30s");
        }
    }
    if let Some(field) = fields.get("detectLocalMode") {
        match field.choice(&DETECT_LOCAL) {
            Some(detects) => settings.detects_pods = detects,
            None => is_whole = false,
        }
    }
    if let Some(conntrack) = fields.get("conntrack").and_then(|field| field.fields()) {
        let count = |key: &str, usual: u64| match conntrack.get(key) {
            Some(field) => field.whole::<u64>(0, i64::from(i32::MAX)),
            None => Some(usual),
        };
        let (per_core, least) = (count("maxPerCore", settings.table.per_core), count("min", settings.table.least));
        conntrack.finish();
        match (per_core, least) {
            (Some(per_core), Some(least)) => settings.table = TableSize { per_core, least },
            _ => is_whole = false,
        }
    }
    fields.finish();
    is_whole.then_some(settings)
}

/// How kube-proxy tells the pods of its node, or that it cannot. Source: Kubernetes pkg/proxy/apis/config/types.go `LocalMode`.
pub(in crate::scenario) const DETECT_LOCAL: [(&str, bool); 5] = [
    ("None", false),
    ("ClusterCIDR", true),
    ("NodeCIDR", true),
    ("BridgeInterface", true),
    ("InterfaceNamePrefix", true),
];

/// The names of kube-proxy's modes.
pub(in crate::scenario) const PROXY_MODES: [(&str, ProxyMode); 3] =
    [("iptables", ProxyMode::Iptables), ("ipvs", ProxyMode::Ipvs), ("nftables", ProxyMode::Nftables)];
