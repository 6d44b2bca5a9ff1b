//! The cluster's objects as `kubectl get -o wide` shows them, at chosen moments of a run.
//!
//! Columns and words are kubectl's; columns that would say nothing here (nominated nodes, selectors, containers) are left out. Ages count from the
//! start of the run at most, since the world stands then. A Service of type `LoadBalancer` shows the balancer's address.
//!
//! Source: Kubernetes v1.28.7 pkg/printers/internalversion/printers.go, staging/src/k8s.io/apimachinery/pkg/util/duration/duration.go.

mod autoscalers;
mod service_ips;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use crate::cluster::{Cluster, DaemonSetView, DeploymentView, NodeView, PodView, SetView};
use crate::record::ObjectTable;
use crate::units::SimTime;

/// When objects are looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Watch {
    /// Just before each entry of the timeline, at each end of a phase, and at the end.
    Changes,
    /// At these times from the start of the measured time.
    At(Vec<Duration>),
}

/// The Service in front, and its address.
pub(super) struct Front<'a> {
    pub(super) service: &'a str,
    /// The balancer's name or address, if there is one.
    pub(super) address: Option<String>,
    /// Each with its node port, if nodes have one.
    pub(super) ports: Vec<(u16, Option<u16>)>,
    /// The balancer is wanted, and not there.
    pub(super) is_pending: bool,
    /// Further Services of type `LoadBalancer`.
    pub(super) further: BTreeMap<Rc<str>, Further>,
}

/// A further Service of type `LoadBalancer`.
#[derive(Clone)]
pub(super) struct Further {
    /// Its address; none: it is pending.
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) ports: Vec<u16>,
}

/// All tables, in the order of `kubectl get deploy,rs,ds,pods,svc,hpa,nodes`. Objects of other namespaces than `target`'s are left out.
pub(super) fn tables(cluster: &Cluster, target: &str, front: &Front<'_>, now: SimTime) -> Vec<ObjectTable> {
    let namespace = target.split('/').next().unwrap_or_default();
    let is_here = |key: &str| key.split('/').next() == Some(namespace);
    let keys: Vec<Rc<str>> = cluster.deployment_keys().into_iter().filter(|key| is_here(key)).collect();
    let deployments: Vec<DeploymentView> = keys.iter().filter_map(|key| cluster.deployment_view(key)).collect();
    let sets = keys.iter().flat_map(|key| cluster.set_views(key));
    let daemons = cluster.daemon_set_views();
    let daemons = daemons.iter().filter(|view| is_here(&view.key));
    let pods = cluster.all_pod_views().into_iter().filter(|pod| is_here(&pod.owner));
    let services = cluster.service_keys();
    let ips = service_ips::service_ips(services.iter().map(|(key, _)| key));
    let services = services.iter().filter(|(key, _)| is_here(key));
    let autoscalers = cluster.autoscalers();
    let autoscalers = autoscalers.iter().filter(|(autoscaler, _)| is_here(&autoscaler.spec.key));
    let version = cluster.version();
    let all = [
        ObjectTable {
            kind: "deploy",
            head: vec!["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "IMAGES"],
            rows: deployments.iter().map(|view| deployment(view, now)).collect(),
        },
        ObjectTable {
            kind: "rs",
            head: vec!["NAME", "DESIRED", "CURRENT", "READY", "AGE", "IMAGES"],
            rows: sets.map(|view| set(&view, now)).collect(),
        },
        ObjectTable {
            kind: "ds",
            head: vec![
                "NAME",
                "DESIRED",
                "CURRENT",
                "READY",
                "UP-TO-DATE",
                "AVAILABLE",
                "NODE SELECTOR",
                "AGE",
                "IMAGES",
            ],
            rows: daemons.map(|view| daemon_set(view, now)).collect(),
        },
        ObjectTable {
            kind: "pods",
            head: vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"],
            rows: pods.map(|view| pod(&view, now)).collect(),
        },
        ObjectTable {
            kind: "svc",
            head: vec!["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
            rows: services.map(|(key, created_at)| service(key, *created_at, ips[key], front, now)).collect(),
        },
        ObjectTable {
            kind: "hpa",
            head: autoscalers::HEAD.to_vec(),
            rows: autoscalers.map(|(it, created_at)| autoscalers::row(it, *created_at, version, now)).collect(),
        },
        ObjectTable {
            kind: "nodes",
            head: vec!["NAME", "STATUS", "AGE", "VERSION", "INTERNAL-IP"],
            rows: cluster.node_views().iter().map(|view| node(view, now)).collect(),
        },
    ];
    all.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

fn plain(key: &str) -> String {
    key.rsplit('/').next().unwrap_or_default().to_owned()
}

fn deployment(view: &DeploymentView, now: SimTime) -> Vec<String> {
    vec![
        plain(&view.key),
        format!("{}/{}", view.status.ready, view.replicas),
        view.status.updated.to_string(),
        view.status.available.to_string(),
        age(view.created_at, now),
        view.image.clone(),
    ]
}

fn set(view: &SetView, now: SimTime) -> Vec<String> {
    vec![
        plain(&view.name),
        view.replicas.to_string(),
        view.status.replicas.to_string(),
        view.status.ready.to_string(),
        age(view.created_at, now),
        view.image.clone(),
    ]
}

fn daemon_set(view: &DaemonSetView, now: SimTime) -> Vec<String> {
    let status = view.status;
    let counts = [status.desired, status.current, status.ready, status.updated, status.available];
    let selector: Vec<String> = view.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let selector = if selector.is_empty() { "<none>".to_owned() } else { selector.join(",") };
    let mut row = vec![plain(&view.key)];
    row.extend(counts.iter().map(ToString::to_string));
    row.extend([selector, age(view.created_at, now), view.image.clone()]);
    row
}

fn pod(view: &PodView, now: SimTime) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
    vec![
        view.name.to_string(),
        format!("{}/1", u8::from(view.is_ready)),
        view.status.to_owned(),
        view.restarts.to_string(),
        age(view.created_at, now),
        or_none(view.ip.map(|ip| ip.to_string())),
        or_none(view.node.as_ref().map(ToString::to_string)),
    ]
}

fn service(key: &str, created_at: SimTime, ip: Ipv4Addr, front: &Front<'_>, now: SimTime) -> Vec<String> {
    let (kind, address, ports) = if key == front.service {
        let port = |(port, node_port): &(u16, Option<u16>)| match node_port {
            Some(node_port) => format!("{port}:{node_port}/TCP"),
            None => format!("{port}/TCP"),
        };
        let ports: Vec<String> = front.ports.iter().map(port).collect();
        let has_node_ports = front.ports.iter().any(|(_, node_port)| node_port.is_some());
        let kind = match &front.address {
            Some(_) => "LoadBalancer",
            None if front.is_pending => "LoadBalancer",
            None if has_node_ports => "NodePort",
            None => "ClusterIP",
        };
        let without = if front.is_pending { "<pending>" } else { "<none>" };
        (kind, front.address.clone().unwrap_or_else(|| without.to_owned()), ports.join(","))
    } else if let Some(further) = front.further.get(key) {
        let ports: Vec<String> = further.ports.iter().map(|port| format!("{port}/TCP")).collect();
        let ip = further.ip.map_or("<pending>".to_owned(), |ip| ip.to_string());
        ("LoadBalancer", ip, ports.join(","))
    } else {
        ("ClusterIP", "<none>".to_owned(), "<unknown>".to_owned())
    };
    vec![plain(key), kind.to_owned(), ip.to_string(), address, ports, age(created_at, now)]
}

fn node(view: &NodeView, now: SimTime) -> Vec<String> {
    vec![
        view.name.to_string(),
        view.status.clone(),
        age(view.created_at, now),
        format!("v{}.0", view.version),
        view.ip.to_string(),
    ]
}

/// An age as kubectl writes it: exact while it is young.
fn age(since: SimTime, now: SimTime) -> String {
    let seconds = now.since(since).as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let and = |big: u64, unit: char, small: u64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => and(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => and(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => and(hours / 24, 'd', hours % 24, 'h'),
        _ => format!("{}d", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_does() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (180_000, "2d2h"),
            (691_200, "8d"),
        ] {
            let now = SimTime::from_nanos(seconds * 1_000_000_000);
            assert_eq!(age(SimTime::ZERO, now), text);
        }
    }
}
