//! Pods as `kubectl get pods -o wide` shows them.
//!
//! READY counts containers, sidecars among them; a readiness gate that is closed leaves them all ready, and has a column of its own where a pod has one. RESTARTS
//! tells when the run before ended.
//!
//! Source: Kubernetes v1.28.7 pkg/printers/internalversion/printers.go `printPod`.

use super::age;
use crate::cluster::PodView;
use crate::units::SimTime;

/// The columns for these pods.
pub(super) fn head(pods: &[PodView]) -> Vec<&'static str> {
    let mut head = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"];
    head.extend(have_gates(pods).then_some("READINESS GATES"));
    head
}

/// A row for each.
pub(super) fn rows(pods: &[PodView], now: SimTime) -> Vec<Vec<String>> {
    let has_gates = have_gates(pods);
    let row = |pod: &PodView| {
        let mut row = row(pod, now);
        row.extend(has_gates.then(|| gates(pod)));
        row
    };
    pods.iter().map(row).collect()
}

fn have_gates(pods: &[PodView]) -> bool {
    pods.iter().any(|pod| pod.gates.1 > 0)
}

fn row(pod: &PodView, now: SimTime) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
    let (ready, all) = pod.containers;
    let restarts = match pod.last_exit.filter(|_| pod.restarts > 0) {
        Some(at) => format!("{} ({} ago)", pod.restarts, age(at, now)),
        None => pod.restarts.to_string(),
    };
    vec![
        pod.name.to_string(),
        format!("{ready}/{all}"),
        pod.status.to_string(),
        restarts,
        age(pod.created_at, now),
        or_none(pod.ip.map(|ip| ip.to_string())),
        or_none(pod.node.as_ref().map(ToString::to_string)),
    ]
}

fn gates(pod: &PodView) -> String {
    match pod.gates {
        (_, 0) => "<none>".to_owned(),
        (open, all) => format!("{open}/{all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_restart_tells_how_long_ago_the_run_before_ended() {
        let at = |second: u64| SimTime::from_nanos(second * 1_000_000_000);
        let pod = PodView {
            id: 1,
            name: Rc::from("edge-1"),
            owner: Rc::from("a/edge"),
            set: 1,
            status: "CrashLoopBackOff".into(),
            is_ready: false,
            containers: (1, 2),
            gates: (0, 0),
            is_deleting: false,
            restarts: 3,
            last_exit: Some(at(95)),
            ip: None,
            node: None,
            created_at: at(0),
        };
        let fresh = PodView { restarts: 0, last_exit: None, gates: (1, 2), ..pod.clone() };
        assert_eq!(
            rows(std::slice::from_ref(&pod), at(100)),
            [["edge-1", "1/2", "CrashLoopBackOff", "3 (5s ago)", "100s", "<none>", "<none>"]]
        );
        assert_eq!(head(std::slice::from_ref(&pod)).len(), 7);
        let both = rows(&[pod, fresh], at(100));
        assert_eq!((both[0][7].as_str(), both[1][3].as_str(), both[1][7].as_str()), ("<none>", "0", "1/2"));
    }
}
