//! `DaemonSet`s: a pod on each node, and how edits reach the nodes.

use super::*;
use crate::cluster::DaemonSet;
use crate::cluster::daemon_set::{DaemonStatus, Update};
use crate::cluster::drain::DrainSettings;
use crate::cluster::kubelet::shutdown::ShutdownGraces;
use crate::cluster::operation::{NodeChoice, NodeFailure, Operation};
use crate::cluster::placement::{HostPort, Protocol, Taint, TaintEffect};

const OWNER: &str = "ns/daemonset/log";

fn rolling(surge: i32, unavailable: i32) -> Update {
    Update::Rolling { max_surge: IntOrPercent::Int(surge), max_unavailable: IntOrPercent::Int(unavailable) }
}

/// One whose pods ask for so many thousandths of a core.
fn daemon(cpu_millicores: u64, update: Update) -> DaemonSet {
    let mut template = deployment(1, 1, 0).template;
    template.labels = BTreeMap::from([("app".to_owned(), "log".to_owned())]);
    template.requests.cpu_millicores = cpu_millicores;
    template.placement = crate::cluster::daemon_set::with_tolerations(template.placement);
    DaemonSet { key: Rc::from("ns/log"), update, min_ready_seconds: 0, template }
}

/// The same with another image.
fn newer(set: &DaemonSet) -> DaemonSet {
    let mut newer = set.clone();
    newer.template.image = "proxy:2".to_owned();
    newer
}

impl World {
    /// Of each node its pods: `o` or `n` for one of the image `proxy:1` or `proxy:2`, a capital letter if it is available, and in brackets if it is being deleted.
    fn daemons(&self) -> BTreeMap<String, String> {
        let state = self.cluster.inner.state.borrow();
        let mut nodes: BTreeMap<String, String> = BTreeMap::new();
        for pod in state.pods.values().filter(|pod| &*pod.owner == OWNER) {
            let node = &state.nodes[pod.only_on.expect("it is made for a node")].spec.name;
            let letter = if pod.template.image == "proxy:1" { "o" } else { "n" };
            let letter = if pod.is_ready { letter.to_uppercase() } else { letter.to_owned() };
            let letter = if pod.is_deleting() { format!("({letter})") } else { letter };
            nodes.entry(node.to_string()).or_default().push_str(&letter);
        }
        nodes
    }

    fn status(&self) -> DaemonStatus {
        self.cluster.daemon_set_views()[0].status
    }

    fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|known| **known == kind).count()
    }

    /// Runs on in steps of 100 ms, and looks at every one.
    fn watch(&self, seconds: u64, mut look: impl FnMut(&BTreeMap<String, String>)) {
        let from = self.sim.now();
        for step in 1..=seconds * 10 {
            self.sim.run_until(from.after(Duration::from_millis(step * 100))).expect("it goes on");
            look(&self.daemons());
        }
    }
}

/// Three nodes whose pods are there and ready.
fn three(update: Update) -> (World, DaemonSet) {
    let world = world(1, 3, Duration::ZERO, seconds(5));
    let set = daemon(500, update);
    world.cluster.apply_daemon_set(set.clone(), None);
    world.run_to(30);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["O", "O", "O"]);
    assert!(world.cluster.inner.state.borrow().daemons_are_calm());
    (world, set)
}

#[test]
fn each_node_has_a_pod_which_takes_up_what_it_asks_for_before_any_other() {
    let config = ClusterConfig { stands_at_zero: true, ..config(3) };
    let world = world_with(1, config, Duration::ZERO, seconds(5), None);
    world.cluster.apply_daemon_set(daemon(3600, Update::DEFAULT), None);
    world.cluster.apply_deployment(deployment(3, 1, 0), None);
    world.run_to(0);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["O", "O", "O"], "the world stands");
    world.run_to(60);
    assert_eq!(world.cluster.counts(EDGE).ready, 0, "400m are left of each node, and they ask for 500m");
    let views = world.cluster.daemon_set_views();
    let status = DaemonStatus { desired: 3, current: 3, ready: 3, updated: 3, available: 3, misscheduled: 0 };
    assert_eq!((views.len(), views[0].status, &*views[0].key), (1, status, "ns/log"));
    assert_eq!(world.count("rollout_started"), 0, "what the run finds is no rollout");
}

#[test]
fn a_new_revision_comes_node_after_node() {
    for (unavailable, expected_max) in [(1, 1), (2, 2), (3, 3)] {
        let (world, set) = three(rolling(0, unavailable));
        world.cluster.apply_daemon_set(newer(&set), None);
        let mut without_max = 0;
        world.watch(90, |nodes| {
            without_max = without_max.max(nodes.values().filter(|pods| !["O", "N"].contains(&pods.as_str())).count());
            // The old one has ended before the new one is made.
            assert!(nodes.values().all(|pods| pods.len() <= 3), "{nodes:?}");
        });
        assert_eq!(without_max, expected_max, "{unavailable}");
        assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["N", "N", "N"]);
        assert_eq!((world.count("rollout_started"), world.count("rollout_completed")), (2, 2));
        assert!(world.cluster.inner.state.borrow().daemons_are_calm());
        // What was there before is the same revision again.
        world.cluster.apply_daemon_set(newer(&set), None);
        world.run_to(200);
        assert_eq!(world.count("pod_created"), 6);
    }
}

#[test]
fn with_a_surge_no_node_is_without_an_available_pod() {
    for surge in [1, 2] {
        let (world, set) = three(rolling(surge, 0));
        world.cluster.apply_daemon_set(newer(&set), None);
        let mut surging_max = 0;
        world.watch(90, |nodes| {
            let is_served = |pods: &String| pods.replace("(O)", "").contains(['O', 'N']);
            assert!(nodes.values().all(is_served), "{nodes:?}");
            surging_max = surging_max.max(nodes.values().filter(|pods| *pods == "On").count());
        });
        assert_eq!(surging_max, usize::try_from(surge).expect("small"));
        assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["N", "N", "N"]);
    }
}

#[test]
fn a_surge_that_does_not_fit_waits_and_stops_the_rollout() {
    let world = world(1, 3, Duration::ZERO, seconds(5));
    let set = daemon(2100, rolling(1, 0));
    world.cluster.apply_daemon_set(set.clone(), None);
    world.run_to(30);
    world.cluster.apply_daemon_set(newer(&set), None);
    world.run_to(120);
    let pods: Vec<String> = world.daemons().into_values().collect();
    assert_eq!(pods.iter().filter(|pods| *pods == "On").count(), 1, "{pods:?}");
    assert!(!world.cluster.inner.state.borrow().daemons_are_calm());
    let log = world.log.borrow();
    let told = log.events().iter().find(|event| event.kind == "pod_unschedulable").expect("it is told");
    assert!(format!("{:?}", told.data).contains("0/3 nodes are available: 1 Insufficient cpu."), "{:?}", told.data);
    drop(log);
    // Without the surge the same goes through.
    world.cluster.apply_daemon_set(DaemonSet { update: Update::DEFAULT, ..newer(&set) }, None);
    world.run_to(300);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["N", "N", "N"]);
}

#[test]
fn a_surge_waits_for_the_port_of_its_node() {
    let world = world(1, 3, Duration::ZERO, seconds(5));
    let mut set = daemon(100, rolling(1, 0));
    set.template.placement.host_ports.insert(HostPort { number: 80, protocol: Protocol::Tcp, ip: None });
    world.cluster.apply_daemon_set(set.clone(), None);
    world.run_to(30);
    world.cluster.apply_daemon_set(newer(&set), None);
    world.run_to(120);
    let pods: Vec<String> = world.daemons().into_values().collect();
    assert_eq!(pods.iter().filter(|pods| *pods == "On").count(), 1, "{pods:?}");
    let log = world.log.borrow();
    let told = log.events().iter().find(|event| event.kind == "pod_unschedulable").expect("it is told");
    assert!(format!("{:?}", told.data).contains("1 node(s) didn't have free ports"), "{:?}", told.data);
    drop(log);
    world.cluster.apply_daemon_set(DaemonSet { update: Update::DEFAULT, ..newer(&set) }, None);
    world.run_to(300);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["N", "N", "N"], "each when the port is free");
}

#[test]
fn min_ready_seconds_hold_up_the_next_node() {
    for (min_ready_seconds, at_least, at_most) in [(0, 18, 32), (20, 78, 96)] {
        let (world, set) = three(Update::DEFAULT);
        world.cluster.apply_daemon_set(DaemonSet { min_ready_seconds, ..newer(&set) }, None);
        world.run_to(200);
        let log = world.log.borrow();
        let last = log.events().iter().rfind(|event| event.kind == "rollout_completed").expect("it ends");
        let seconds = last.at.as_nanos() / 1_000_000_000 - 30;
        assert!((at_least..=at_most).contains(&seconds), "{min_ready_seconds}: {seconds}");
    }
}

#[test]
fn on_delete_waits_for_somebody_to_delete() {
    let (world, set) = three(Update::OnDelete);
    world.cluster.apply_daemon_set(newer(&set), None);
    world.run_to(100);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["O", "O", "O"]);
    assert_eq!(world.status().updated, 0);
    assert!(world.cluster.inner.state.borrow().daemons_are_calm(), "nothing is on its way");
    let first = world.cluster.inner.state.borrow().pods.keys().next().copied().expect("there is one");
    world.cluster.delete_pod(first, None, None);
    world.run_to(160);
    let mut pods: Vec<String> = world.daemons().into_values().collect();
    pods.sort();
    assert_eq!((pods, world.status().updated), (vec!["N".to_owned(), "O".to_owned(), "O".to_owned()], 1));
}

#[test]
fn nodes_come_and_go_with_their_pods() {
    let (world, set) = three(Update::DEFAULT);
    let node = |name: &str, taint: Option<&str>| {
        let mut node = config(4).nodes[3].clone();
        node.name = Rc::from(name);
        node.taints.extend(taint.map(|key| Taint {
            key: key.to_owned(),
            value: String::new(),
            effect: TaintEffect::NoSchedule,
        }));
        node
    };
    world.operate(&Operation::AddNodes(vec![node("late", None), node("kept", Some("own"))]));
    world.run_to(60);
    assert_eq!(world.daemons().keys().map(String::as_str).collect::<Vec<_>>(), ["late", "node-0", "node-1", "node-2"]);
    // A cordoned node keeps its pod, and gets another.
    world.cluster.cordon("late", true);
    let on_late = |world: &World| {
        let state = world.cluster.inner.state.borrow();
        let found = state.pods.values().find(|pod| pod.record.node.as_deref() == Some("late"));
        found.map(|pod| pod.record.id)
    };
    let first = on_late(&world).expect("it has one");
    world.cluster.delete_pod(first, None, None);
    world.run_to(100);
    assert!(on_late(&world).is_some_and(|id| id != first));
    // Only labels that a node has.
    let mut choosy = set.clone();
    choosy.template.placement.node_selector =
        BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), "b".to_owned())]);
    world.cluster.apply_daemon_set(choosy, None);
    world.run_to(160);
    assert_eq!(world.daemons(), BTreeMap::from([("node-1".to_owned(), "O".to_owned())]));
    assert_eq!((world.status().desired, world.status().misscheduled), (1, 0));
    world.operate(&Operation::RemoveNode { node: NodeChoice::Named(Rc::from("node-1")) });
    world.run_to(300);
    assert_eq!((world.daemons(), world.status().desired), (BTreeMap::new(), 0));
}

#[test]
fn a_set_that_is_deleted_takes_its_pods_with_it_and_may_come_again() {
    let (world, set) = three(Update::DEFAULT);
    assert!(!world.cluster.delete_daemon_set("ns/other", None));
    assert!(world.cluster.delete_daemon_set("ns/log", None));
    assert!(!world.cluster.delete_daemon_set("ns/log", None), "it is deleted already");
    world.run_to(31);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["(O)", "(O)", "(O)"]);
    assert!(!world.cluster.inner.state.borrow().daemons_are_calm());
    // Another one of the name does not wait for them.
    world.cluster.apply_daemon_set(set, None);
    world.run_to(34);
    let pods: Vec<String> = world.daemons().into_values().collect();
    assert!(pods.iter().all(|pods| pods.to_lowercase().starts_with("(o)o")), "{pods:?}");
    world.run_to(60);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["O", "O", "O"]);
    assert!(world.cluster.delete_daemon_set("ns/log", None));
    world.run_to(100);
    assert!(world.daemons().is_empty() && world.cluster.daemon_set_views().is_empty());
    let state = world.cluster.inner.state.borrow();
    assert!(state.daemons_are_calm() && state.sets.is_empty(), "nothing is left of it");
}

#[test]
fn a_drain_passes_them_over_and_a_failed_node_keeps_its_own() {
    let (world, _) = three(Update::DEFAULT);
    let node = || NodeChoice::Named(Rc::from("node-0"));
    world.operate(&Operation::Drain { node: node(), settings: DrainSettings::default() });
    world.run_to(35);
    assert_eq!((world.count("node_drain_refused"), world.count("node_drained")), (1, 0));
    let settings = DrainSettings { ignores_daemon_sets: true, ..DrainSettings::default() };
    world.operate(&Operation::Drain { node: node(), settings });
    world.run_to(40);
    assert_eq!((world.count("node_drained"), world.count("evicted")), (1, 0));
    world.operate(&Operation::FailNode { node: node(), failure: NodeFailure::Machine, back_after: Some(seconds(800)) });
    world.run_to(700);
    assert_eq!(world.count("pod_terminating"), 0, "it bears the taints of its node");
    assert_eq!((world.status().desired, world.status().misscheduled), (2, 1));
    world.run_to(900);
    assert_eq!(world.daemons().into_values().collect::<Vec<_>>(), ["O", "O", "O"]);
    assert_eq!(world.count("pod_created"), 3);
}

#[test]
fn the_controller_has_a_client_of_its_own() {
    // 40 nodes: 80 calls for pods and their events, of which 25 events are recorded at once: 30 go out at once, and the others 50 ms apart.
    let world = world(1, 40, Duration::ZERO, seconds(5));
    world.cluster.apply_daemon_set(daemon(100, Update::DEFAULT), None);
    world.run_to(60);
    let log = world.log.borrow();
    let made: Vec<u64> =
        log.events().iter().filter(|it| it.kind == "pod_created").map(|it| it.at.as_nanos() / 1_000_000).collect();
    assert_eq!(made.len(), 40);
    let within = |ms: u64| made.iter().filter(|at| **at <= ms).count();
    assert_eq!(within(50), 15, "with an event each");
    assert!((1500..2200).contains(made.last().expect("there are some")), "{made:?}");
}

#[test]
fn a_shutdown_ends_its_pods_in_the_order_of_priorities_and_none_comes_before_the_boot() {
    for (priority, after_ms) in [(0, 0), (2_000_001_000, 5000)] {
        let world = world(1, 1, Duration::ZERO, seconds(5));
        let mut set = daemon(500, Update::DEFAULT);
        set.template.placement.priority = priority;
        world.cluster.apply_daemon_set(set, None);
        world.cluster.apply_deployment(deployment(1, 1, 0), None);
        world.run_to(60);
        world.operate(&Operation::ShutDownNode {
            node: NodeChoice::Named(Rc::from("node-0")),
            graces: ShutdownGraces::of_periods(seconds(60), seconds(20)),
            back_after: Some(seconds(100)),
        });
        world.run_to(150);
        let log = world.log.borrow();
        let of_log = |kind: &str| {
            let all = log.events().iter().filter(|event| event.kind == kind && event.object.starts_with("Pod/ns/log-"));
            all.map(|event| event.at.as_nanos() / 1_000_000).collect::<Vec<u64>>()
        };
        assert_eq!(of_log("sigterm"), [60_000 + after_ms], "{priority}: after the Deployment's, if it is critical");
        assert_eq!((of_log("pod_created").len(), of_log("pod_gone").len()), (1, 1), "its node is not ready");
        let machine_ends = log.events().iter().find(|event| event.kind == "node_died").expect("it goes");
        let booted_at = machine_ends.at.as_nanos() / 1_000_000 + 100_000;
        drop(log);
        world.run_to(200);
        let log = world.log.borrow();
        let all =
            log.events().iter().filter(|event| event.kind == "pod_created" && event.object.starts_with("Pod/ns/log-"));
        let made: Vec<u64> = all.map(|event| event.at.as_nanos() / 1_000_000).collect();
        assert_eq!(made.len(), 2);
        assert!((booted_at..booted_at + 100).contains(&made[1]), "{made:?} {booted_at}");
    }
}
