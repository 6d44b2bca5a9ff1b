//! Lives of pods and targets, read off the event log.

use std::collections::BTreeMap;

use super::recorder::millis;
use super::results::{Pod, ReadinessChange, Target, TargetState};
use crate::engine::{Datum, Event};

/// The lives of the pods whose `namespace/name` is `wanted`, by time of creation.
#[must_use]
pub fn pods(events: &[Event], wanted: impl Fn(&str) -> bool) -> Vec<Pod> {
    let mut pods: Vec<Pod> = Vec::new();
    let mut index_of: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        let Some(name) = event.object.strip_prefix("Pod/").filter(|name| wanted(name)) else { continue };
        let t_ms = millis(event.at);
        if event.kind == "pod_created" {
            let revision = number(event, "revision").and_then(|revision| u64::try_from(revision).ok()).unwrap_or(0);
            index_of.insert(name, pods.len());
            pods.push(Pod { name: name.to_owned(), revision, created_ms: t_ms, ..Pod::default() });
        } else if let Some(&index) = index_of.get(name) {
            live(&mut pods[index], event, t_ms);
        }
    }
    pods
}

fn live(pod: &mut Pod, event: &Event, t_ms: u64) {
    match event.kind {
        "pod_scheduled" => {
            pod.scheduled_ms.get_or_insert(t_ms);
            pod.node = text(event, "node").map(str::to_owned);
        }
        "container_started" => {
            if pod.started_ms.is_some() {
                pod.restarts += 1;
                pod.restart_reason = pod.exit_reason.take();
                pod.exited_ms = None;
            }
            pod.started_ms.get_or_insert(t_ms);
        }
        "pod_ready" if pod.ready_ms.is_none() => pod.ready_ms = Some(t_ms),
        // A pod that is being deleted is shown as draining, ready or not.
        "pod_ready" | "pod_unready" if pod.terminating_ms.is_none() && pod.ready_ms.is_some() => {
            pod.readiness.push(ReadinessChange { t_ms, ready: event.kind == "pod_ready" });
        }
        "pod_terminating" | "terminated_by_kubelet" => {
            pod.terminating_ms.get_or_insert(t_ms);
        }
        "sigterm" => {
            pod.sigterm_ms.get_or_insert(t_ms);
        }
        "sigkill" => pod.exit_reason = Some(text(event, "reason").unwrap_or("SIGKILL").to_owned()),
        "container_exited" => {
            // The last exit counts: a container that crashed before was started again.
            pod.exited_ms = Some(t_ms);
            let code = number(event, "code").map(|code| format!("exit {code}"));
            let told = text(event, "reason").map(str::to_owned);
            pod.exit_reason = told.or(pod.exit_reason.take().filter(|_| pod.terminating_ms.is_some())).or(code);
        }
        "pod_gone" => {
            pod.gone_ms.get_or_insert(t_ms);
        }
        _ => {}
    }
}

/// The load balancer's targets and their states, by time of registration.
///
/// A target is an object with `target_registered` and later `target_*` events; its pod is in that event's `pod`, or the
/// object is the pod itself.
#[must_use]
pub fn targets(events: &[Event]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let mut index_of: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        // One that is deregistering is sent to as before.
        let state = event.kind.strip_prefix("target_").filter(|state| *state != "deregistering");
        let Some(state) = state else { continue };
        let object = event.object.as_str();
        let is_back = state == "registered" && index_of.get(object).is_some_and(|&index| is_over(&targets[index]));
        if is_back || !index_of.contains_key(object) {
            index_of.insert(object, targets.len());
            let own = object.strip_prefix("Pod/");
            let pod = text(event, "pod").or(own).map(str::to_owned);
            let name = text(event, "address").unwrap_or(own.unwrap_or(object)).to_owned();
            targets.push(Target { name, pod, states: Vec::new() });
        }
        targets[index_of[object]].states.push(TargetState { t_ms: millis(event.at), state: state.to_owned() });
    }
    targets
}

/// Whether the target was removed: the same address registered again is a new target.
fn is_over(target: &Target) -> bool {
    target.states.last().is_some_and(|last| last.state == "drained" || last.state == "deregistered")
}

fn number(event: &Event, key: &str) -> Option<i64> {
    event.data.iter().find(|(name, _)| *name == key).and_then(|(_, datum)| match datum {
        Datum::Number(number) => Some(*number),
        Datum::Text(_) | Datum::Flag(_) => None,
    })
}

fn text<'a>(event: &'a Event, key: &str) -> Option<&'a str> {
    event.data.iter().find(|(name, _)| *name == key).and_then(|(_, datum)| match datum {
        Datum::Text(text) => Some(text.as_str()),
        Datum::Number(_) | Datum::Flag(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EventLog;
    use crate::units::SimTime;

    type Data = Vec<(&'static str, Datum)>;

    fn log<const N: usize>(rows: [(u64, &'static str, &str, Data); N]) -> EventLog {
        let mut log = EventLog::default();
        for (t_ms, kind, object, data) in rows {
            log.record(SimTime::from_nanos(t_ms * 1_000_000), None, kind, object, data);
        }
        log
    }

    #[test]
    fn a_pods_life_is_read_from_its_events() {
        let log = log([
            (1, "pod_created", "Pod/a/p", vec![("revision", 2.into())]),
            (2, "pod_scheduled", "Pod/a/p", vec![("node", "n1".into())]),
            (3, "container_started", "Pod/a/p", vec![]),
            (4, "pod_ready", "Pod/a/p", vec![]),
            (5, "pod_unready", "Pod/a/p", vec![]),
            (6, "pod_ready", "Pod/a/p", vec![]),
            (6, "pod_created", "Pod/b/other", vec![("revision", 1.into())]),
            (7, "pod_terminating", "Pod/a/p", vec![("grace_s", 30.into())]),
            (7, "pod_unready", "Pod/a/p", vec![]),
            (8, "sigterm", "Pod/a/p", vec![]),
            (9, "container_exited", "Pod/a/p", vec![("code", 0.into())]),
            (10, "pod_gone", "Pod/a/p", vec![]),
        ]);
        let pods = pods(log.events(), |name| name.starts_with("a/"));
        let [pod] = pods.as_slice() else { panic!("one pod is wanted: {pods:?}") };
        let times = [pod.scheduled_ms, pod.started_ms, pod.ready_ms, pod.terminating_ms, pod.sigterm_ms, pod.exited_ms];
        assert_eq!(times, [Some(2), Some(3), Some(4), Some(7), Some(8), Some(9)]);
        assert_eq!(pod.readiness.iter().map(|change| change.t_ms).collect::<Vec<_>>(), [5, 6]);
        assert_eq!((pod.revision, pod.node.as_deref(), pod.gone_ms), (2, Some("n1"), Some(10)));
        assert_eq!(pod.exit_reason.as_deref(), Some("exit 0"));
    }

    #[test]
    fn a_restarted_pod_tells_how_often_and_why() {
        let log = log([
            (1, "pod_created", "Pod/a/p", vec![("revision", 1.into())]),
            (2, "container_started", "Pod/a/p", vec![]),
            (3, "container_exited", "Pod/a/p", vec![("code", 3.into())]),
            (4, "container_started", "Pod/a/p", vec![]),
            (5, "sigkill", "Pod/a/p", vec![("reason", "OOMKilled".into())]),
            (5, "container_exited", "Pod/a/p", vec![("code", 137.into()), ("reason", "OOMKilled".into())]),
        ]);
        let read = |count: usize| pods(&log.events()[..count], |_| true).remove(0);
        let pod = read(6);
        assert_eq!((pod.restarts, pod.restart_reason.as_deref(), pod.started_ms), (1, Some("exit 3"), Some(2)));
        assert_eq!((pod.exit_reason.as_deref(), pod.exited_ms), (Some("OOMKilled"), Some(5)));
        let running = read(4);
        assert_eq!((running.restarts, running.exit_reason, running.exited_ms), (1, None, None));
    }

    #[test]
    fn a_killed_pod_tells_why() {
        let log = log([
            (1, "pod_created", "Pod/a/p", vec![("revision", 1.into())]),
            (2, "pod_terminating", "Pod/a/p", vec![]),
            (3, "sigkill", "Pod/a/p", vec![("reason", "grace period over".into())]),
            (3, "container_exited", "Pod/a/p", vec![("code", 137.into())]),
        ]);
        assert_eq!(pods(log.events(), |_| true)[0].exit_reason.as_deref(), Some("grace period over"));
    }

    #[test]
    fn an_address_registered_again_is_another_target() {
        let target = || vec![("pod", Datum::from("a/p")), ("address", "10.0.0.1:80".into())];
        let log = log([
            (1, "target_registered", "Target/lb/10.0.0.1:80", target()),
            (2, "target_healthy", "Target/lb/10.0.0.1:80", target()),
            (2, "target_deregistering", "Target/lb/10.0.0.1:80", target()),
            (3, "target_deregistered", "Target/lb/10.0.0.1:80", target()),
            (4, "target_drained", "Target/lb/10.0.0.1:80", target()),
            (5, "target_registered", "Target/lb/10.0.0.1:80", target()),
        ]);
        let targets = targets(log.events());
        assert_eq!(targets.len(), 2);
        assert_eq!((targets[0].name.as_str(), targets[0].pod.as_deref()), ("10.0.0.1:80", Some("a/p")));
        let states: Vec<_> = targets[0].states.iter().map(|state| (state.t_ms, state.state.as_str())).collect();
        assert_eq!(states, [(1, "registered"), (2, "healthy"), (3, "deregistered"), (4, "drained")]);
    }
}
