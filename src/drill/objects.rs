//! The cluster's objects as `kubectl get -o wide` shows them, at chosen moments of a run.
//!
//! Columns and words are kubectl's; columns that would say nothing here (nominated nodes, selectors, containers) are left out. Ages count from the
//! start of the run at most, since the world stands then. A Service of type `LoadBalancer` shows the balancer's address.
//!
//! Source: Kubernetes v1.28.7 pkg/printers/internalversion/printers.go, staging/src/k8s.io/apimachinery/pkg/util/duration/duration.go.

mod autoscalers;
mod pods;
mod service_ips;
mod services;

use std::rc::Rc;
use std::time::Duration;

pub(super) use self::services::{Front, Further};
use crate::cluster::selector::Labels;
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

/// All tables, in the order of `kubectl get deploy,rs,ds,pods,svc,hpa,nodes`. Objects of other namespaces than `target`'s are left out.
pub(super) fn tables(cluster: &Cluster, target: &str, front: &Front<'_>, now: SimTime) -> Vec<ObjectTable> {
    let namespace = target.split('/').next().unwrap_or_default();
    let is_here = |key: &str| key.split('/').next() == Some(namespace);
    let keys: Vec<Rc<str>> = cluster.deployment_keys().into_iter().filter(|key| is_here(key)).collect();
    let deployments: Vec<DeploymentView> = keys.iter().filter_map(|key| cluster.deployment_view(key)).collect();
    let sets = keys.iter().flat_map(|key| cluster.set_views(key));
    let daemons = cluster.daemon_set_views();
    let daemons = daemons.iter().filter(|view| is_here(&view.key));
    let pods: Vec<PodView> = cluster.all_pod_views().into_iter().filter(|pod| is_here(&pod.owner)).collect();
    let services = services::Rows::new(cluster.services(), front);
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
        ObjectTable { kind: "pods", head: pods::head(&pods), rows: pods::rows(&pods, now) },
        ObjectTable {
            kind: "svc",
            head: vec!["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
            rows: services.of(namespace, now),
        },
        ObjectTable {
            kind: "hpa",
            head: autoscalers::HEAD.to_vec(),
            rows: autoscalers.map(|(it, created_at)| autoscalers::row(it, *created_at, version, now)).collect(),
        },
        ObjectTable {
            kind: "nodes",
            head: vec!["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP"],
            rows: cluster.node_views().iter().map(|view| node(view, now)).collect(),
        },
    ];
    // An API server lists by name.
    let sorted = all.into_iter().map(|mut table| {
        table.rows.sort_unstable();
        table
    });
    sorted.filter(|table| !table.rows.is_empty()).collect()
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

fn node(view: &NodeView, now: SimTime) -> Vec<String> {
    vec![
        view.name.to_string(),
        view.status.clone(),
        roles(&view.labels),
        age(view.created_at, now),
        format!("v{}.0", view.version),
        view.ip.to_string(),
    ]
}

/// What its labels say that it is for.
fn roles(labels: &Labels) -> String {
    let role = |(key, value): (&String, &String)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None => (key == "kubernetes.io/role").then(|| value.clone()),
    };
    let mut roles: Vec<String> = labels.iter().filter_map(role).filter(|role| !role.is_empty()).collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
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
    fn roles_are_what_labels_say() {
        let labels = |all: &[(&str, &str)]| {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Labels>()
        };
        let role = "node-role.kubernetes.io/";
        assert_eq!(roles(&labels(&[("zone", "a")])), "<none>");
        let both = [(&*format!("{role}edge"), ""), (&*format!("{role}worker"), "true"), ("kubernetes.io/role", "edge")];
        assert_eq!(roles(&labels(&both)), "edge,worker");
        assert_eq!(roles(&labels(&[(role, "")])), "<none>");
    }

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
