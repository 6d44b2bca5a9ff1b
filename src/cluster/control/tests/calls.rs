//! Limits of clients: what comes at once below them, and late above.

use super::*;
use crate::cluster::autoscaler::{AutoscalerSpec, Metric, ResourceName, ResourceTarget};
use crate::cluster::drain::DrainSettings;
use crate::cluster::operation::{NodeChoice, NodeFailure, Operation};

/// Pods that take next to nothing, on one node.
fn crowd(count: i32) -> Deployment {
    let mut spec = deployment(count, 1, 0);
    spec.template.requests = Resources { cpu_millicores: 1, memory_bytes: 1 };
    spec
}

fn nodes(count: usize, minor: u32) -> ClusterConfig {
    ClusterConfig { version: Version::new(1, minor), pod_start: Delay::Constant(seconds(1)), ..config(count) }
}

impl World {
    /// Milliseconds of every event of a kind, from a second on.
    fn millis_since(&self, second: u64, kind: &str) -> Vec<u64> {
        let log = self.log.borrow();
        let of_kind = log.events().iter().filter(|event| event.kind == kind);
        of_kind.map(|event| event.at.as_nanos() / 1_000_000).filter(|at| *at >= second * 1000).collect()
    }

    fn choose(&self, what: impl FnOnce(NodeChoice) -> Operation) {
        let because = self.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
        self.cluster.operate(&what(NodeChoice::Named(Rc::from("node-0"))), because);
    }
}

/// From the first to the last of some instants, in milliseconds.
fn spread(at: &[u64]) -> u64 {
    at.last().expect("something has happened") - at[0]
}

#[test]
fn an_old_kubelet_tells_late_that_many_pods_are_ready() {
    // Each pod costs five calls when it comes and two when it is ready.
    for (minor, count, late) in [(26, 1, false), (26, 8, true), (27, 8, false), (27, 14, false), (27, 40, true)] {
        let world = world_with(1, nodes(1, minor), Duration::ZERO, seconds(1), None);
        world.cluster.apply_deployment(crowd(count), None);
        world.run_to(60);
        let ready = world.millis_since(0, "pod_ready");
        assert_eq!(ready.len(), usize::try_from(count).unwrap());
        let waits: Vec<u64> = world
            .cluster
            .pod_records()
            .iter()
            .map(|record| (record.ready_at.unwrap().as_nanos() - record.started_at.unwrap().as_nanos()) / 1_000_000)
            .collect();
        assert_eq!(waits.iter().any(|wait| *wait > 0), late, "1.{minor}, {count} pods: {waits:?}");
        if (minor, count) == (26, 8) {
            // 40 calls before, of which ten at once, and then two for each: 5 a second, counted from the last pod's binding.
            let last = (56 - 10) * 200 - 1000;
            assert!((last - 30..=last).contains(waits.iter().max().unwrap()), "{waits:?}");
            assert!(ready.windows(2).all(|pair| pair[1] - pair[0] == 400), "{ready:?}");
        }
    }
}

#[test]
fn a_silent_node_with_many_pods_loses_its_endpoints_one_by_one() {
    // Four calls for the node, and two for each pod: a status and an event.
    for (count, expected_ms) in [(13, 0), (14, 50), (100, 8650)] {
        let world = world_with(1, nodes(1, 33), Duration::ZERO, seconds(1), None);
        world.settled(crowd(count));
        world.run_to(100);
        world.choose(|node| Operation::FailNode { node, failure: NodeFailure::Machine, back_after: None });
        world.run_to(200);
        let unready = world.millis_since(100, "pod_unready");
        assert_eq!((unready.len(), spread(&unready)), (usize::try_from(count).unwrap(), expected_ms), "{count} pods");
    }
}

#[test]
fn pods_whose_toleration_ends_together_are_deleted_at_the_controllers_pace() {
    // An event, the reason and the deletion for each: ten pods in a burst of 30. The reason came with 1.26, and a client of its own with 1.29.
    for (minor, count, expected_ms) in [(33, 10, 0), (33, 11, 150), (25, 15, 0), (25, 16, 100)] {
        let world = world_with(1, nodes(2, minor), Duration::ZERO, seconds(1), None);
        world.cluster.cordon("node-1", true);
        world.settled(crowd(count));
        world.run_to(100);
        world.choose(|node| Operation::FailNode { node, failure: NodeFailure::Machine, back_after: None });
        world.run_to(600);
        let deleted = world.millis_since(100, "pod_terminating");
        assert_eq!((deleted.len(), spread(&deleted)), (usize::try_from(count).unwrap(), expected_ms), "1.{minor}");
    }
}

#[test]
fn a_drain_evicts_as_fast_as_its_client_may_call() {
    // Two calls before, so that eight pods are evicted at once, and five more in a second.
    for (count, expected_ms) in [(8, 0), (9, 200), (18, 2000)] {
        let world = world_with(1, config(2), Duration::ZERO, seconds(1), None);
        world.cluster.cordon("node-1", true);
        world.settled(crowd(count));
        world.cluster.cordon("node-1", false);
        world.choose(|node| Operation::Drain { node, settings: DrainSettings::default() });
        world.run_to(300);
        let evicted = world.millis_since(60, "evicted");
        assert_eq!((evicted.len(), spread(&evicted)), (usize::try_from(count).unwrap(), expected_ms));
        assert_eq!(world.millis_since(60, "node_drained").len(), 1);
        assert!(world.cluster.is_calm(EDGE));
    }
}

#[test]
fn a_pod_of_many_services_changes_them_at_the_controllers_pace() {
    for (count, expected_ms) in [(30, 0), (31, 50), (45, 750)] {
        let world = world_with(1, config(1), Duration::ZERO, seconds(1), None);
        world.settled(deployment(1, 1, 0));
        for number in 0..count {
            world.cluster.apply_service(Service {
                key: Rc::from(format!("ns/svc-{number:02}")),
                selector: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
                publish_not_ready: false,
                face: ServiceFace::default(),
            });
            // So slowly that its client has rested each time.
            world.run_to(61 + number);
        }
        world.run_to(300);
        world.cluster.scale(EDGE, 0, None);
        world.run_to(301);
        let changed = world.millis_since(300, "endpoint");
        assert_eq!(spread(&changed), expected_ms, "{count} services");
        world.run_to(400);
        for number in 0..count {
            assert_eq!(world.cluster.ready_endpoints(&format!("ns/svc-{number:02}")), [] as [Ipv4Addr; 0]);
        }
    }
}

#[test]
fn a_service_whose_turn_is_late_tells_what_is_true_then() {
    let client_rates = ClientRates {
        controllers: crate::cluster::ClientLimits { per_second: 1, burst: 1000 },
        ..ClientRates::DEFAULT
    };
    let world = world_with(1, ClusterConfig { client_rates, ..config(1) }, Duration::ZERO, seconds(1), None);
    world.cluster.apply_service(Service {
        key: Rc::from("ns/svc"),
        selector: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
        publish_not_ready: false,
        face: ServiceFace::default(),
    });
    world.settled(deployment(2, 1, 0));
    // Nothing is left of the burst: from now on a call a second.
    while world.cluster.has_calls(Caller::Endpoints, 1) {
        world.cluster.calls(Caller::Endpoints, 1);
    }
    let before = world.cluster.ready_endpoints("ns/svc").len();
    let ids: Vec<u64> = world.cluster.inner.state.borrow().pods.keys().copied().collect();
    for id in ids {
        world.cluster.write_ready_condition(id, false);
    }
    assert_eq!((before, world.cluster.ready_endpoints("ns/svc").len()), (2, 2));
    world.run_to(62);
    assert_eq!(world.cluster.ready_endpoints("ns/svc").len(), 0);
    assert_eq!(spread(&world.millis_since(60, "endpoint")), 0, "both in one write");
}

#[test]
fn an_edit_of_a_service_goes_out_at_its_controllers_pace_and_says_which_it_is() {
    let client_rates = ClientRates {
        controllers: crate::cluster::ClientLimits { per_second: 1, burst: 1000 },
        ..ClientRates::DEFAULT
    };
    let world = world_with(1, ClusterConfig { client_rates, ..config(1) }, Duration::ZERO, seconds(1), None);
    let service = |app: &str| Service {
        key: Rc::from("ns/svc"),
        selector: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        publish_not_ready: false,
        face: ServiceFace::default(),
    };
    assert_eq!(world.cluster.apply_service(service("edge")), 0);
    world.settled(deployment(2, 1, 0));
    let tire = || {
        while world.cluster.has_calls(Caller::Endpoints, 1) {
            world.cluster.calls(Caller::Endpoints, 1);
        }
    };
    tire();
    let mut watch = world.cluster.watch_endpoints("ns/svc", "test").expect("it is there");
    let mut heard =
        || std::iter::from_fn(|| watch.next_now().map(|all| (all.len(), watch.edition()))).collect::<Vec<_>>();
    assert_eq!(heard(), [(2, 0)]);
    // It selects nobody any more, and leads to another port: two writes.
    assert_eq!(world.cluster.apply_service(service("other")), 1);
    world.cluster.retell_edit("ns/svc", 7);
    assert_eq!((heard(), world.cluster.ready_endpoints("ns/svc").len()), (Vec::new(), 2));
    world.run_to(70);
    assert_eq!(heard(), [(0, 1), (0, 1)]);
    // Who waits for its turn when the Service goes has nothing to tell.
    tire();
    assert_eq!(world.cluster.apply_service(service("edge")), 2);
    world.cluster.delete_service("ns/svc");
    world.run_to(80);
    assert_eq!(heard(), [(0, 3)]);
}

#[test]
fn many_autoscalers_that_are_due_together_ask_one_after_the_other() {
    for (count, expected_ms) in [(30, 0), (31, 50), (40, 500)] {
        let world = world_with(1, config(1), Duration::ZERO, seconds(1), None);
        world.settled(crowd(1));
        for number in 0..count {
            let cpu = Metric::Resource {
                resource: ResourceName::Cpu,
                container: None,
                target: ResourceTarget::Utilization(80),
            };
            let spec = AutoscalerSpec {
                key: Rc::from(format!("ns/hpa-{number:02}")),
                target: Rc::from(EDGE),
                min_replicas: 1,
                max_replicas: 2,
                metrics: vec![cpu],
                behavior: None,
            };
            world.cluster.apply_autoscaler(spec, None);
        }
        world.run_to(80);
        let at: Vec<u64> = world.cluster.autoscaler_steps().iter().map(|step| step.at.as_nanos() / 1_000_000).collect();
        assert_eq!((at.len(), spread(&at)), (count, expected_ms));
    }
}

#[test]
fn deletions_for_taints_share_the_node_controllers_client_before_1_29() {
    let caller = |minor| Clients::new(ClientRates::DEFAULT, Version::new(1, minor)).of_taints();
    assert_eq!((caller(28), caller(29)), (Caller::Nodes, Caller::Taints));
    let calls = |minor| Clients::new(ClientRates::DEFAULT, Version::new(1, minor)).calls_to_delete();
    assert_eq!((calls(25), calls(26)), (1, 2));
    let mut clients = Clients::new(ClientRates::DEFAULT, Version::new(1, 33));
    assert_ne!(clients.next_drain(), clients.next_drain(), "each drain has a client of its own");
}
