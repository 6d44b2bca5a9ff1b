//! Pods without a controller: what they share with others, and that nobody makes them anew.

use std::borrow::Cow;

use super::*;
use crate::cluster::disruption::{Answer, Budget, DisruptionBudget, UnhealthyPods};
use crate::cluster::drain::DrainSettings;
use crate::cluster::node_autoscaler::AutoscalerRules;
use crate::cluster::operation::{NodeChoice, NodeFailure, Operation, PodChoice};
use crate::cluster::selector::LabelSelector;
use crate::cluster::{BarePod, PodView};

/// A pod of half a core, with the labels of [`EDGE`].
fn bare(name: &str) -> BarePod {
    BarePod { key: Rc::from(format!("ns/{name}")), template: deployment(1, 1, 0).template, node_name: None }
}

impl World {
    fn operate_on(&self, node: &str, what: impl FnOnce(NodeChoice) -> Operation) {
        let because = self.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
        self.cluster.operate(&what(NodeChoice::Named(Rc::from(node))), because);
    }

    /// The name and the node of each pod that is there, or is being deleted.
    fn bare_pods(&self) -> Vec<(String, Option<String>, &'static str)> {
        let views = self.cluster.all_pod_views().into_iter().filter(|view| view.owner.contains("/pod/"));
        let word = |view: &PodView| match view.status {
            Cow::Borrowed(word) => word,
            Cow::Owned(_) => unreachable!("it has no init containers"),
        };
        views.map(|view| (view.name.to_string(), view.node.as_ref().map(ToString::to_string), word(&view))).collect()
    }

    fn count_of(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|known| **known == kind).count()
    }
}

#[test]
fn a_bare_pod_is_placed_runs_and_takes_up_what_it_asks_for() {
    let world = world(1, 1, Duration::ZERO, seconds(1));
    assert!(world.cluster.apply_pod(bare("one"), None));
    assert!(!world.cluster.apply_pod(bare("one"), None), "there is one of this name");
    world.run_to(20);
    assert_eq!(world.bare_pods(), [("one".to_owned(), Some("node-0".to_owned()), "Running")]);
    // Four cores hold eight halves.
    world.cluster.apply_deployment(deployment(8, 1, 0), None);
    world.run_to(60);
    assert_eq!(world.cluster.counts(EDGE).ready, 7);
    assert_eq!(world.cluster.pod_views(EDGE).len(), 8, "it is none of the Deployment's");
    world.cluster.delete_pod_named("ns/one", None);
    world.run_to(120);
    assert_eq!((world.bare_pods(), world.cluster.counts(EDGE).ready), (Vec::new(), 8));
    assert!(world.cluster.apply_pod(bare("one"), None), "it may be made anew by hand");
}

#[test]
fn a_bare_pod_beside_a_deployment_of_its_name_is_another() {
    let world = world(1, 2, Duration::ZERO, seconds(1));
    world.cluster.apply_pod(bare("edge"), None);
    world.settled(deployment(2, 1, 0));
    world.cluster.scale(EDGE, 0, None);
    world.run_to(120);
    assert_eq!(world.cluster.counts(EDGE), PodCounts::default());
    assert_eq!(world.bare_pods().len(), 1);
    let records = world.cluster.pod_records();
    assert_eq!(records.iter().filter(|record| &*record.owner == "ns/pod/edge").count(), 1);
}

#[test]
fn bare_pods_are_endpoints_and_are_protected_by_budgets() {
    let world = world(1, 2, Duration::ZERO, seconds(5));
    let selector = BTreeMap::from([("app".to_owned(), "edge".to_owned())]);
    world.cluster.apply_service(Service {
        key: Rc::from("ns/edge"),
        selector: selector.clone(),
        publish_not_ready: false,
        face: ServiceFace::default(),
    });
    world.cluster.apply_budget(DisruptionBudget {
        key: Rc::from("ns/edge"),
        selector: Some(LabelSelector::of_labels(selector)),
        budget: Some(Budget::MinAvailable(IntOrPercent::Int(2))),
        unhealthy: UnhealthyPods::IfHealthyBudget,
    });
    for name in ["a", "b", "c"] {
        world.cluster.apply_pod(bare(name), None);
    }
    world.run_to(60);
    assert_eq!(world.cluster.ready_endpoints("ns/edge").len(), 3);
    let ids: Vec<u64> = world.cluster.inner.state.borrow().pods.keys().copied().collect();
    let answers: Vec<Answer> = ids.iter().map(|id| world.cluster.evict(*id, None, None)).collect();
    assert_eq!(answers, [Answer::EvictedFromBudget, Answer::TooManyRequests, Answer::TooManyRequests]);
    world.run_to(100);
    assert_eq!(world.cluster.ready_endpoints("ns/edge").len(), 2, "nobody makes another");
}

#[test]
fn a_drain_wants_force_for_a_bare_pod_and_then_it_does_not_come_back() {
    for (forces, gone) in [(false, false), (true, true)] {
        let world = world(1, 2, Duration::ZERO, seconds(5));
        world.cluster.apply_pod(bare("one"), None);
        world.run_to(60);
        let node = world.bare_pods()[0].1.clone().expect("it has a node");
        let settings = DrainSettings { forces, ..DrainSettings::default() };
        world.operate_on(&node, |node| Operation::Drain { node, settings });
        world.run_to(200);
        assert_eq!((world.bare_pods().is_empty(), world.count_of("node_drain_refused") == 0), (gone, gone));
        assert_eq!(world.count_of("node_cordoned"), 1);
        assert_eq!(world.count_of("evicted"), usize::from(gone));
        assert_eq!(world.cluster.pod_records().len(), 1);
    }
}

#[test]
fn a_node_that_is_lost_takes_its_bare_pods_with_it_for_good() {
    // Another pod is not made, when this one is deleted for its node's taint.
    for (loss, gone_by) in [(true, 160), (false, 1000)] {
        let world = world(1, 3, Duration::ZERO, seconds(5));
        world.cluster.apply_pod(bare("one"), None);
        world.run_to(60);
        let node = world.bare_pods()[0].1.clone().expect("it has a node");
        world.operate_on(&node, |node| match loss {
            true => Operation::RemoveNode { node },
            false => Operation::FailNode { node, failure: NodeFailure::Machine, back_after: Some(seconds(800)) },
        });
        world.run_to(500);
        let left = world.bare_pods();
        assert!(left.is_empty() || left[0].2 == "Terminating", "{left:?}");
        world.run_to(gone_by.max(501));
        assert_eq!(world.bare_pods(), [], "removed: {loss}");
        assert_eq!((world.cluster.pod_records().len(), world.count_of("pod_created")), (1, 1));
    }
}

#[test]
fn a_bare_pod_is_chosen_by_its_name() {
    let world = world(1, 1, Duration::ZERO, seconds(1));
    world.cluster.apply_pod(bare("one"), None);
    world.cluster.apply_pod(bare("two"), None);
    world.settled(deployment(1, 1, 0));
    let kill = |name: &str| {
        let pod = PodChoice::Named(Rc::from(name));
        world.operate_on("node-0", |_| Operation::KillPod { owner: Rc::from(EDGE), pod, grace_seconds: None });
    };
    kill("one");
    kill("ns/two");
    kill("ns/three");
    world.run_to(100);
    assert_eq!((world.bare_pods(), world.count_of("nothing_found")), (Vec::new(), 1));
}

#[test]
fn a_bare_pod_keeps_its_node_from_the_cluster_autoscaler_unless_it_says_that_it_may_go() {
    for (safe, stays) in [(None, true), (Some("false"), true), (Some("true"), false)] {
        let sim_world = world(3, 2, Duration::ZERO, seconds(5));
        let mut config = sim_world.cluster.inner.config.clone();
        config.autoscaler = Some(AutoscalerConfig {
            group: Rc::from("node"),
            number_next: 2,
            zones: vec![Rc::from("a")],
            pattern: config.nodes[0].clone(),
            node_start: Delay::Constant(seconds(90)),
            rules: AutoscalerRules::usual(0, 3),
        });
        let runtime: Rc<dyn Runtime> = Rc::<Fake>::clone(&sim_world.runtime);
        let cluster = Cluster::new(&sim_world.sim, Streams::new(3), Rc::clone(&sim_world.log), config, runtime);
        let world = World { cluster, ..sim_world };
        // A pod on each node, the bare one on the first; both nodes are little used.
        world.cluster.cordon("node-1", true);
        let mut pod = bare("one");
        pod.template
            .annotations
            .extend(safe.map(|safe| ("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), safe.to_owned())));
        world.cluster.apply_pod(pod, None);
        world.run_to(30);
        world.cluster.cordon("node-1", false);
        world.cluster.cordon("node-0", true);
        world.cluster.apply_deployment(deployment(4, 1, 0), None);
        world.run_to(60);
        world.cluster.cordon("node-0", false);
        world.run_to(3000);
        assert_eq!(world.bare_pods().len(), usize::from(stays), "{safe:?}");
        assert_eq!(world.cluster.nodes().iter().any(|(name, _)| &**name == "node-0"), stays, "{safe:?}");
    }
}

#[test]
fn a_pod_that_names_its_node_comes_to_it_past_the_scheduler_if_it_fits() {
    let named = |node: &str, cpu_millicores: u64| {
        let mut pod = bare("one");
        pod.node_name = Some(Rc::from(node));
        pod.template.requests.cpu_millicores = cpu_millicores;
        pod
    };
    // A node of four cores, of which another pod has one half.
    for (cpu, cordoned, selector, refused) in [
        (3500, false, None, None),
        (3501, false, None, Some("OutOfcpu")),
        // Its cordon is nothing to a kubelet.
        (500, true, None, None),
        (500, false, Some("node-1"), None),
        (500, false, Some("node-0"), Some("NodeAffinity")),
    ] {
        let world = world(1, 2, Duration::ZERO, seconds(5));
        let mut other = bare("other");
        other.node_name = Some(Rc::from("node-1"));
        world.cluster.apply_pod(other, None);
        world.run_to(20);
        world.cluster.cordon("node-1", cordoned);
        let mut pod = named("node-1", cpu);
        let labels = selector.map(|name| ("kubernetes.io/hostname".to_owned(), name.to_owned()));
        pod.template.placement.node_selector.extend(labels);
        world.cluster.apply_pod(pod, None);
        world.run_to(40);
        let told = world
            .log
            .borrow()
            .events()
            .iter()
            .find(|event| event.kind == "pod_rejected")
            .map(|event| format!("{:?}", event.data));
        assert_eq!(told.is_some(), refused.is_some(), "{cpu} {told:?}");
        assert!(told.is_none_or(|told| told.contains(refused.unwrap_or_default())));
        let found: Vec<(String, &str)> =
            world.bare_pods().into_iter().map(|(name, _, status)| (name, status)).collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, status)| (name.as_str(), *status)).collect();
        assert_eq!(found, [("other", "Running"), ("one", refused.unwrap_or("Running"))]);
        // Of one that has failed the object stays, and stands in the way of another of its name, until it is deleted.
        if refused.is_some() {
            assert!(!world.cluster.apply_pod(named("node-1", 500), None));
            let pod = PodChoice::Named(Rc::from("one"));
            world.operate_on("node-1", |_| Operation::KillPod { owner: Rc::from(EDGE), pod, grace_seconds: None });
            assert_eq!((world.bare_pods().len(), world.count_of("nothing_found")), (1, 0));
        }
        // What is gone gives back what it asked for.
        world.cluster.apply_deployment(deployment(16, 1, 0), None);
        world.run_to(120);
        let free = if cordoned { 8 } else { 16 }
            - if cordoned {
                0
            } else {
                1 + usize::from(refused.is_none()) * usize::try_from(cpu / 500).expect("small")
            };
        assert_eq!(world.cluster.counts(EDGE).ready, free, "{cpu} {cordoned}");
    }
}

#[test]
fn a_pod_that_names_a_node_which_is_not_there_is_deleted_unless_the_node_comes() {
    for comes in [false, true] {
        let world = world(1, 1, Duration::ZERO, seconds(5));
        let mut pod = bare("one");
        pod.node_name = Some(Rc::from("late"));
        world.cluster.apply_pod(pod, None);
        world.run_to(30);
        assert_eq!(world.bare_pods(), [("one".to_owned(), None, "Pending")]);
        if comes {
            let mut node = config(2).nodes[1].clone();
            node.name = Rc::from("late");
            world.operate(&Operation::AddNodes(vec![node]));
        }
        world.run_to(39);
        assert_eq!(world.bare_pods().len(), 1, "it is left alone for 40 s at least");
        world.run_to(61);
        let expected = comes.then(|| ("one".to_owned(), Some("late".to_owned()), "Running"));
        assert_eq!(world.bare_pods(), expected.into_iter().collect::<Vec<_>>());
    }
}
