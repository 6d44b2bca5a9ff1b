//! Machines that shut down: who ends when, what the API knows meanwhile, and what there is no time for.

use super::*;
use crate::cluster::kubelet::shutdown::{GroupGrace, ShutdownGraces};
use crate::cluster::operation::{NodeChoice, Operation};

fn spans(all: u64, critical: u64) -> ShutdownGraces {
    ShutdownGraces::of_periods(seconds(all), seconds(critical))
}

/// One pod of a priority.
fn of_priority(name: &str, priority: i32, grace_seconds: u32) -> Deployment {
    let mut spec = deployment(1, 1, 0);
    spec.key = Rc::from(format!("ns/{name}"));
    spec.template.placement.priority = priority;
    spec.template.grace_seconds = grace_seconds;
    spec
}

impl World {
    fn shut_down(&self, node: &str, graces: ShutdownGraces, back_after: Option<Duration>) {
        let because = self.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
        let node = NodeChoice::Named(Rc::from(node));
        self.cluster.operate(&Operation::ShutDownNode { node, graces, back_after }, because);
    }

    /// Milliseconds after a second of every event of a kind since then.
    fn after(&self, second: u64, kind: &str) -> Vec<u64> {
        let log = self.log.borrow();
        let of_kind = log.events().iter().filter(|event| event.kind == kind);
        let at = of_kind.map(|event| event.at.as_nanos() / 1_000_000).filter(|at| *at >= second * 1000);
        at.map(|at| at - second * 1000).collect()
    }
}

#[test]
fn pods_end_from_the_lowest_priority_on_and_the_machine_last() {
    // A process needs five seconds from its SIGTERM on.
    let world = world(1, 1, Duration::ZERO, seconds(5));
    for (name, priority) in [("critical", 2_000_000_000), ("low", -1), ("usual", 0)] {
        world.cluster.apply_deployment(of_priority(name, priority, 30), None);
    }
    world.run_to(60);
    world.shut_down("node-0", spans(60, 20), None);
    world.run_to(61);
    // Both below critical at once; the node takes no more pods.
    assert_eq!((world.after(60, "sigterm"), world.after(60, "node_not_ready")), (vec![0, 0], vec![0]));
    assert_eq!(world.cluster.node_views()[0].status, "NotReady");
    world.run_to(200);
    assert_eq!(world.after(60, "sigterm"), [0, 0, 5000], "the next group does not wait for the time to be over");
    assert_eq!(world.after(60, "pod_gone"), [5000, 5000, 10_000]);
    assert_eq!(world.after(60, "node_died"), [10_000], "nobody is waited for");
    assert_eq!(world.after(60, "pod_terminating"), [] as [u64; 0], "they are not deleted");
    assert_eq!(world.after(60, "pod_unready"), [] as [u64; 0]);
    // Their sets have made others, which find no node.
    assert_eq!(world.after(60, "pod_created").len(), 3);
    assert!(world.cluster.pod_views("ns/usual").iter().all(|view| view.node.is_none()));
    // The objects of those that have failed stay, and count nowhere.
    let failed = || {
        let views = world.cluster.all_pod_views().into_iter().filter(|view| view.node.is_some());
        views.map(|view| (view.status == "Completed", view.is_ready, view.ip)).collect::<Vec<_>>()
    };
    assert_eq!(failed(), [(true, false, None); 3]);
    assert_eq!(world.cluster.counts("ns/usual"), PodCounts { active: 1, ..PodCounts::default() });
    world.cluster.delete_deployment("ns/usual", None);
    assert_eq!(failed().len(), 2, "they go with their owner");
}

#[test]
fn a_pod_gets_the_shorter_of_its_own_grace_and_its_groups() {
    for (own, group, ends_ms, machine_ms) in [
        // It ends by itself before either.
        (30, 20, 15_000, 15_000),
        // Its own grace cuts it off.
        (10, 20, 10_000, 10_000),
        // The group's does, and the machine goes in that moment: nobody hears of the pod's end.
        (30, 14, 14_000, 14_000),
    ] {
        let world = world(1, 2, Duration::ZERO, seconds(15));
        world.cluster.cordon("node-1", true);
        world.cluster.apply_deployment(of_priority("app", 0, own), None);
        world.run_to(60);
        let graces = ShutdownGraces::by_priority(vec![GroupGrace { priority: 0, seconds: group }]);
        world.cluster.cordon("node-1", false);
        world.shut_down("node-0", graces, None);
        world.run_to(120);
        assert_eq!(world.after(60, "node_died"), [machine_ms], "{own} s, {group} s");
        let record = world.cluster.pod_records().remove(0);
        let exited = record.exited_at.unwrap().as_nanos() / 1_000_000 - 60_000;
        assert_eq!(exited, ends_ms, "{own} s, {group} s: {:?}", record.exit_reason);
        let is_told = !world.after(60, "pod_gone").is_empty();
        assert_eq!(is_told, ends_ms < u64::from(group) * 1000, "{own} s, {group} s");
        // Its set makes another when it hears of the end. One that nobody told of counts as ready, though its node is silent by then: a node that had said that
        // it is not ready has its pods written off by nobody, until they no longer bear its taint.
        let made = |second: u64| {
            world.run_to(second);
            world.cluster.pod_records().len()
        };
        assert_eq!((made(120), world.cluster.counts("ns/app").ready), (1 + usize::from(is_told), 1));
        assert_eq!((made(350), made(400), world.cluster.counts("ns/app").ready), (1 + usize::from(is_told), 2, 1));
    }
}

#[test]
fn endpoints_stay_as_they_are_until_the_process_has_ended() {
    let world = world(1, 2, Duration::ZERO, seconds(8));
    world.cluster.cordon("node-1", true);
    world.cluster.apply_service(Service {
        key: Rc::from("ns/svc"),
        selector: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
        publish_not_ready: false,
        face: ServiceFace::default(),
    });
    let mut spec = deployment(1, 1, 0);
    spec.template.pre_stop = Some(seconds(4));
    world.settled(spec);
    world.shut_down("node-0", spans(30, 0), None);
    world.run_to(61);
    assert_eq!(world.after(60, "prestop_started"), [0]);
    world.run_to(71);
    assert_eq!(world.cluster.ready_endpoints("ns/svc").len(), 1, "it has been told to end eleven seconds ago");
    world.run_to(73);
    assert_eq!((world.after(60, "sigterm"), world.after(60, "container_exited")), (vec![4000], vec![12_000]));
    assert_eq!(world.cluster.ready_endpoints("ns/svc"), [] as [Ipv4Addr; 0]);
}

#[test]
fn without_time_for_pods_the_machine_goes_at_once() {
    let world = world(1, 2, Duration::ZERO, seconds(1));
    world.settled(deployment(2, 1, 0));
    let node = world.cluster.pod_records()[0].node.clone().unwrap();
    world.shut_down(&node, ShutdownGraces::default(), Some(seconds(30)));
    world.run_to(62);
    assert_eq!((world.after(60, "node_died"), world.after(60, "sigterm")), (vec![0], Vec::new()));
    assert_eq!(world.after(60, "node_not_ready"), [] as [u64; 0], "nobody says so");
    world.run_to(200);
    assert_eq!(world.after(60, "node_booted"), [30_000]);
    assert_eq!(world.cluster.counts(EDGE).ready, 2);
    assert_eq!(world.cluster.pod_records().len(), 2, "its pods start anew");
}

#[test]
fn a_machine_that_boots_again_takes_pods_again() {
    let world = world(1, 1, Duration::ZERO, seconds(5));
    world.settled(deployment(2, 1, 0));
    world.shut_down("node-0", spans(30, 0), Some(seconds(60)));
    // Told twice, it shuts down once.
    world.shut_down("node-0", spans(30, 0), None);
    world.run_to(100);
    assert_eq!(world.cluster.counts(EDGE).ready, 0);
    world.run_to(200);
    assert_eq!((world.after(60, "node_died"), world.after(60, "node_booted")), (vec![5000], vec![65_000]));
    assert_eq!((world.after(60, "node_ready"), world.cluster.counts(EDGE).ready), (vec![65_000], 2));
    assert!(world.cluster.is_calm(EDGE));
}

#[test]
fn a_pod_that_tolerates_the_node_is_turned_away() {
    use crate::cluster::placement::{Toleration, TolerationValue};
    let world = world(1, 1, Duration::ZERO, seconds(10));
    world.settled(deployment(1, 1, 0));
    world.shut_down("node-0", spans(30, 0), None);
    world.run_to(62);
    let mut pod =
        crate::cluster::BarePod { key: Rc::from("ns/late"), template: deployment(1, 1, 0).template, node_name: None };
    let everything = Toleration { key: String::new(), value: TolerationValue::Exists, effect: None, seconds: None };
    pod.template.placement.tolerations.push(everything);
    world.cluster.apply_pod(pod, None);
    world.run_to(64);
    assert_eq!(world.after(60, "pod_rejected").len(), 1);
    assert_eq!(world.after(60, "pod_gone").len(), 1);
}
