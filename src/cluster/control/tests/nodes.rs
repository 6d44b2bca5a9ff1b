//! Budgets, drains and nodes that fail, on a cluster whose processes do as they are told.

use super::*;
use crate::cluster::disruption::{Answer, Budget, DisruptionBudget, UnhealthyPods};
use crate::cluster::drain::DrainSettings;
use crate::cluster::node_autoscaler::AutoscalerRules;
use crate::cluster::operation::{NodeChoice, NodeFailure, Operation, PodChoice};
use crate::cluster::selector::LabelSelector;
use crate::engine::Event;

const BUDGET: &str = "ns/edge-pdb";

fn budget(budget: Budget) -> DisruptionBudget {
    DisruptionBudget {
        key: Rc::from(BUDGET),
        selector: Some(LabelSelector::of_labels(BTreeMap::from([("app".to_owned(), "edge".to_owned())]))),
        budget: Some(budget),
        unhealthy: UnhealthyPods::IfHealthyBudget,
    }
}

impl World {
    pub(super) fn operate(&self, operation: &Operation) {
        let because = self.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
        self.cluster.operate(operation, because);
    }

    /// Second, object and data of every event of a kind.
    fn told(&self, kind: &str) -> Vec<(u64, String)> {
        let row = |event: &Event| (event.at.as_nanos() / 1_000_000_000, event.object.clone());
        self.log.borrow().events().iter().filter(|event| event.kind == kind).map(row).collect()
    }

    fn seconds_of(&self, kind: &str) -> Vec<u64> {
        self.told(kind).into_iter().map(|(second, _)| second).collect()
    }

    /// Fewest ready pods that are not being deleted, from a second on.
    fn ready_min_since(&self, second: u64) -> usize {
        let mut ready = BTreeSet::new();
        let mut min = usize::MAX;
        for event in self.log.borrow().events() {
            if event.at >= SimTime::ZERO.after(seconds(second)) {
                min = min.min(ready.len());
            }
            match event.kind {
                "pod_ready" => ready.insert(event.object.clone()),
                "pod_unready" | "pod_terminating" | "pod_gone" => ready.remove(&event.object),
                _ => continue,
            };
        }
        min.min(ready.len())
    }

    /// The node with most pods, and how many.
    fn busiest(&self) -> (Rc<str>, usize) {
        let mut counts: BTreeMap<Rc<str>, usize> = BTreeMap::new();
        for record in self.cluster.pod_records().iter().filter(|record| record.terminating_at.is_none()) {
            *counts.entry(Rc::clone(record.node.as_ref().unwrap())).or_default() += 1;
        }
        counts.into_iter().rev().max_by_key(|(_, count)| *count).unwrap()
    }
}

fn node_choice() -> NodeChoice {
    NodeChoice::Busiest(Rc::from(EDGE))
}

#[test]
fn of_two_evictions_in_one_instant_the_budget_allows_one() {
    let world = world(1, 3, Duration::ZERO, seconds(5));
    world.cluster.apply_budget(budget(Budget::MaxUnavailable(IntOrPercent::Int(1))));
    world.settled(deployment(4, 1, 0));
    let report = world.cluster.budget(BUDGET).unwrap();
    assert_eq!((report.status.disruptions_allowed, report.status.current_healthy), (1, 4));
    assert_eq!((report.status.desired_healthy, report.status.expected_pods), (3, 4));
    let evict = || {
        let id = *world.cluster.inner.state.borrow().pods.iter().find(|(_, pod)| !pod.is_deleting()).unwrap().0;
        world.cluster.evict(id, None, None)
    };
    assert_eq!((evict(), evict()), (Answer::EvictedFromBudget, Answer::TooManyRequests));
    let report = world.cluster.budget(BUDGET).unwrap();
    assert_eq!((report.status.disruptions_allowed, report.status.current_healthy, report.disrupted_count), (0, 4, 1));
    world.run_to(61);
    let report = world.cluster.budget(BUDGET).unwrap();
    assert_eq!((report.status.disruptions_allowed, report.status.current_healthy, report.disrupted_count), (0, 3, 0));
    assert_eq!(evict(), Answer::TooManyRequests);
    world.run_to(80);
    assert_eq!(world.cluster.budget(BUDGET).unwrap().status.disruptions_allowed, 1, "its replacement is ready");
    assert_eq!(evict(), Answer::EvictedFromBudget);
    assert_eq!(world.ready_min_since(60), 3);
    assert_eq!((world.told("evicted").len(), world.told("eviction_denied").len()), (2, 2));
    // A second budget for the same pods is one too many.
    world.cluster.apply_budget(DisruptionBudget {
        key: Rc::from("ns/other"),
        ..budget(Budget::MinAvailable(IntOrPercent::Int(1)))
    });
    assert_eq!(evict(), Answer::SeveralBudgets);
}

#[test]
fn a_drain_waits_for_the_budget_and_without_one_takes_all_at_once() {
    for (has_budget, ready_min, denied) in [(true, 5, true), (false, 4, false)] {
        let world = world(3, 3, Duration::ZERO, seconds(5));
        world.settled(deployment(6, 1, 0));
        if has_budget {
            world.cluster.apply_budget(budget(Budget::MaxUnavailable(IntOrPercent::Int(1))));
            world.run_to(61);
        }
        assert_eq!(world.busiest().1, 2);
        let (node, _) = world.busiest();
        world.operate(&Operation::Drain { node: node_choice(), settings: DrainSettings::default() });
        world.run_to(200);
        assert!(world.cluster.is_calm(EDGE), "budget: {has_budget}");
        assert_eq!(world.ready_min_since(60), ready_min, "budget: {has_budget}");
        assert_eq!(!world.told("eviction_denied").is_empty(), denied);
        let on_it = world.cluster.pod_records().into_iter().filter(|record| record.node.as_ref() == Some(&node));
        assert!(on_it.clone().all(|record| record.gone_at.is_some()) && on_it.count() == 2);
        assert_eq!(world.told("node_cordoned").len(), 1);
        assert_eq!(world.told("node_drained").len(), 1);
        // Refused evictions come again after five seconds each.
        let asked: Vec<u64> = world.seconds_of("eviction_denied");
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] == 5), "{asked:?}");
    }
}

#[test]
fn a_drain_that_may_not_go_on_gives_up_at_its_timeout() {
    let world = world(3, 3, Duration::ZERO, seconds(5));
    world.cluster.apply_budget(budget(Budget::MinAvailable(IntOrPercent::Int(6))));
    world.settled(deployment(6, 1, 0));
    let settings = DrainSettings { timeout: Some(seconds(30)), ..DrainSettings::default() };
    world.operate(&Operation::Drain { node: node_choice(), settings });
    world.run_to(300);
    assert_eq!(world.seconds_of("node_drain_failed"), [90]);
    assert_eq!((world.told("evicted").len(), world.ready_min_since(60)), (0, 6));
}

#[test]
fn a_drain_waits_for_pods_that_are_being_deleted_and_may_shorten_their_grace() {
    // Deleted at 60 s, the only pod of its node exits 25 s after SIGTERM; the drain begins at 65 s, with the pods' own grace or with 5 s.
    for (grace_seconds, drained) in [(None, 85..=86), (Some(5), 70..=71)] {
        let world = world(1, 2, Duration::ZERO, seconds(25));
        world.settled(deployment(1, 1, 0));
        world.cluster.apply_budget(budget(Budget::MinAvailable(IntOrPercent::Int(1))));
        let (node, _) = world.busiest();
        world.operate(&Operation::Cordon { node: NodeChoice::Named(Rc::clone(&node)), is_cordoned: true });
        world.operate(&Operation::KillPod { owner: Rc::from(EDGE), pod: PodChoice::Oldest, grace_seconds: None });
        world.run_to(65);
        let settings = DrainSettings { grace_seconds, ..DrainSettings::default() };
        world.operate(&Operation::Drain { node: NodeChoice::Named(node), settings });
        world.run_to(200);
        assert!(world.told("eviction_denied").is_empty(), "no budget is asked for a pod that is on its way");
        let [second] = world.seconds_of("node_drained")[..] else { panic!("it is drained") };
        assert!(drained.contains(&second), "{grace_seconds:?}: {second} s");
        assert_eq!(world.told("pod_grace_shortened").len(), usize::from(grace_seconds.is_some()));
    }
}

#[test]
fn endpoints_of_a_node_that_is_no_more_go_with_the_next_look_at_their_service() {
    // Removed at 60 s, its pod is collected from 100 s on. Another pod is made at 70 s, or none.
    for (scales, publish_not_ready, expected) in
        [(true, false, 70..=70), (false, false, 100..=120), (true, true, 100..=120)]
    {
        let world = world(1, 2, Duration::ZERO, seconds(1));
        world.cluster.apply_service(Service {
            key: Rc::from("ns/edge-svc"),
            selector: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
            publish_not_ready,
            face: ServiceFace::default(),
        });
        world.settled(deployment(1, 1, 0));
        let (node, _) = world.busiest();
        world.operate(&Operation::RemoveNode { node: NodeChoice::Named(node) });
        world.run_to(70);
        assert!(world.told("pod_gone").is_empty());
        if scales {
            world.cluster.scale(EDGE, 2, None);
        }
        world.run_to(200);
        let log = world.log.borrow();
        let is_gone = |event: &&Event| event.kind == "endpoint" && event.data.iter().any(|(name, _)| *name == "gone");
        let gone: Vec<u64> = log.events().iter().filter(is_gone).map(|it| it.at.as_nanos() / 1_000_000_000).collect();
        let [second] = gone[..] else { panic!("one endpoint goes: {gone:?}") };
        assert!(expected.contains(&second), "scales: {scales}, {publish_not_ready}: {second} s");
    }
}

#[test]
fn a_dead_node_is_noticed_tainted_and_emptied_at_the_times_of_the_real_controllers() {
    for seed in 1..6 {
        let world = world(seed, 3, Duration::ZERO, seconds(5));
        world.settled(deployment(6, 1, 0));
        let (node, count) = world.busiest();
        world.run_to(100);
        world.operate(&Operation::FailNode {
            node: NodeChoice::Named(Rc::clone(&node)),
            failure: NodeFailure::Machine,
            back_after: None,
        });
        world.run_to(110);
        assert_eq!(world.ready_min_since(60), 6, "nobody has noticed");
        assert!(!world.cluster.is_calm(EDGE));
        world.run_to(600);
        let [noticed] = world.seconds_of("node_not_ready")[..] else { panic!("one node fails") };
        // 1.33: a grace of 50 s, from the last renewal that was seen.
        assert!((140..=155).contains(&noticed), "noticed at {noticed} s");
        assert_eq!(world.seconds_of("pod_unready"), vec![noticed; count]);
        let [tainted] = world.seconds_of("node_tainted")[..] else { panic!("one node is tainted") };
        assert!((noticed + 5..=noticed + 6).contains(&tainted), "tainted at {tainted} s");
        assert_eq!(world.seconds_of("pod_terminating"), vec![tainted + 300; count]);
        let replaced = world.cluster.pod_records().into_iter().filter(|record| record.node.as_ref() != Some(&node));
        assert_eq!(replaced.filter(|record| record.ready_at.is_some()).count(), 6);
        assert!(world.cluster.is_calm(EDGE));
        // Nobody can end them: they stay, and their network was gone at once.
        assert_eq!(world.cluster.counts(EDGE).terminating, count);
        let released = world.runtime.released.borrow();
        assert_eq!(released.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(), vec![100_000; count]);
    }
}

#[test]
fn a_node_that_boots_in_time_keeps_its_pods_and_they_start_anew() {
    let world = world(1, 3, Duration::ZERO, seconds(5));
    world.settled(deployment(6, 1, 0));
    let (node, count) = world.busiest();
    world.run_to(100);
    let node_choice = NodeChoice::Named(Rc::clone(&node));
    world.operate(&Operation::FailNode {
        node: node_choice,
        failure: NodeFailure::Machine,
        back_after: Some(seconds(120)),
    });
    world.run_to(219);
    assert_eq!(world.cluster.counts(EDGE).ready, 6 - count);
    assert_eq!(world.told("node_tainted").len(), 1);
    world.run_to(600);
    assert!(world.cluster.is_settled(EDGE) && world.cluster.is_calm(EDGE));
    assert_eq!(world.cluster.pod_records().len(), 6, "none was replaced");
    assert_eq!(world.cluster.counts(EDGE).ready, 6);
    assert_eq!(world.seconds_of("node_ready"), [220]);
    let state = world.cluster.inner.state.borrow();
    let restarted = state.pods.values().filter(|pod| pod.restarts == 1);
    assert_eq!(restarted.clone().count(), count);
    assert!(restarted.clone().all(|pod| pod.ip.unwrap().octets()[1] == 128), "with addresses of their own");
}

#[test]
fn pods_that_were_deleted_meanwhile_end_when_the_machine_boots() {
    let world = world(1, 3, Duration::ZERO, seconds(5));
    world.settled(deployment(6, 1, 0));
    let (node, count) = world.busiest();
    world.run_to(100);
    let node_choice = NodeChoice::Named(node);
    world.operate(&Operation::FailNode {
        node: node_choice,
        failure: NodeFailure::Machine,
        back_after: Some(seconds(600)),
    });
    world.run_to(690);
    assert_eq!(world.cluster.counts(EDGE).terminating, count);
    world.run_to(760);
    assert_eq!((world.cluster.counts(EDGE).terminating, world.cluster.counts(EDGE).ready), (0, 6));
    assert_eq!(world.cluster.pod_records().len(), 6 + count);
}

#[test]
fn a_reclaimed_node_is_drained_in_time_if_somebody_heeds_the_notice() {
    for (is_heeded, ready_min) in [(true, 4), (false, 4)] {
        let world = world(1, 3, Duration::ZERO, seconds(5));
        world.settled(deployment(6, 1, 0));
        let (node, count) = world.busiest();
        world.run_to(100);
        let node_choice = NodeChoice::Named(Rc::clone(&node));
        world.operate(&Operation::ReclaimNode { node: node_choice, notice: seconds(120), is_heeded });
        world.run_to(1000);
        assert_eq!(world.seconds_of("node_died"), [220]);
        let [removed] = world.seconds_of("node_removed")[..] else { panic!("the cloud's controller removes it") };
        assert!((260..=280).contains(&removed), "removed at {removed} s");
        assert_eq!(world.ready_min_since(60), ready_min);
        let gone: Vec<u64> = world.seconds_of("pod_gone");
        let expected = if is_heeded { 100..=130 } else { removed + 40..=removed + 60 };
        assert!(gone.len() == count && gone.iter().all(|second| expected.contains(second)), "{gone:?} {removed}");
        assert!(world.cluster.is_calm(EDGE) && world.cluster.counts(EDGE).ready == 6);
        assert_eq!(world.cluster.nodes().len(), 2);
    }
}

#[test]
fn a_killed_pod_gets_the_grace_that_it_is_given() {
    for (grace_seconds, exited_after) in [(None, 30), (Some(7), 7), (Some(0), 2)] {
        let world = world(1, 1, Duration::ZERO, seconds(100));
        world.cluster.apply_budget(budget(Budget::MinAvailable(IntOrPercent::Int(1))));
        world.settled(deployment(1, 1, 0));
        world.operate(&Operation::KillPod { owner: Rc::from(EDGE), pod: PodChoice::Oldest, grace_seconds });
        world.run_to(61);
        assert_eq!(world.cluster.counts(EDGE).active, 1, "replaced at once, whatever the budget says");
        world.run_to(200);
        assert_eq!(world.seconds_of("container_exited"), [60 + exited_after]);
    }
}

#[test]
fn choices_are_made_when_it_happens_and_nothing_may_be_found() {
    let world = world(1, 3, Duration::ZERO, seconds(1));
    world.settled(deployment(3, 1, 0));
    let owner: Rc<str> = Rc::from(EDGE);
    let evict = |pod: PodChoice| world.operate(&Operation::Evict { owner: Rc::clone(&owner), pod });
    for pod in [PodChoice::Unready, PodChoice::Pending, PodChoice::Named(Rc::from("nobody")), PodChoice::Ordinal(9)] {
        evict(pod);
    }
    world.operate(&Operation::Cordon { node: NodeChoice::Named(Rc::from("nowhere")), is_cordoned: true });
    assert_eq!((world.told("nothing_found").len(), world.told("evicted").len()), (5, 0));
    evict(PodChoice::Ordinal(1));
    evict(PodChoice::Newest);
    let evicted: Vec<String> = world.told("evicted").into_iter().map(|(_, object)| object).collect();
    let created: Vec<String> = world.told("pod_created").into_iter().map(|(_, object)| object).collect();
    assert_eq!(evicted, [created[1].clone(), created[2].clone()]);
}

#[test]
fn a_cordoned_node_gets_no_pods_until_it_is_uncordoned() {
    let world = world(1, 1, Duration::ZERO, seconds(1));
    let node = || NodeChoice::Named(Rc::from("node-0"));
    world.operate(&Operation::Cordon { node: node(), is_cordoned: true });
    world.cluster.apply_deployment(deployment(1, 1, 0), None);
    world.run_to(50);
    assert_eq!((world.told("pod_scheduled").len(), world.told("pod_unschedulable").len()), (0, 1));
    world.operate(&Operation::Cordon { node: node(), is_cordoned: false });
    world.run_to(70);
    assert_eq!(world.told("pod_scheduled").len(), 1);
}

/// A world of one node whose group may grow.
fn growing(seed: u64) -> World {
    let mut world = world(seed, 1, Duration::ZERO, seconds(5));
    let mut config = world.cluster.inner.config.clone();
    config.autoscaler = Some(AutoscalerConfig {
        group: Rc::from("node"),
        number_next: 1,
        zones: vec![Rc::from("a"), Rc::from("b")],
        pattern: config.nodes[0].clone(),
        node_start: Delay::Constant(seconds(90)),
        rules: AutoscalerRules::usual(1, 3),
    });
    let runtime: Rc<dyn Runtime> = Rc::<Fake>::clone(&world.runtime);
    world.cluster = Cluster::new(&world.sim, Streams::new(seed), Rc::clone(&world.log), config, runtime);
    world
}

#[test]
fn nodes_come_for_pods_that_find_none_and_go_when_they_are_not_needed() {
    let world = growing(1);
    // Eight pods of half a core fill a node of four cores.
    world.cluster.apply_deployment(deployment(20, 1, 0), None);
    world.run_to(80);
    assert_eq!((world.cluster.counts(EDGE).ready, world.cluster.nodes().len()), (8, 1));
    assert_eq!(world.told("nodegroup_scaled_up").len(), 1);
    world.run_to(130);
    assert_eq!((world.cluster.counts(EDGE).ready, world.cluster.nodes().len()), (20, 3));
    world.cluster.scale(EDGE, 10, None);
    world.run_to(3000);
    let names: Vec<String> = world.cluster.nodes().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names.len(), 2, "ten pods need two nodes: {names:?}");
    assert_eq!(world.cluster.counts(EDGE).ready, 10);
    let [unneeded] = world.seconds_of("node_unneeded")[..] else { panic!("one node goes") };
    assert!((730..=750).contains(&unneeded), "ten minutes after the scale-down: {unneeded}");
}

#[test]
fn a_node_does_not_go_before_the_pod_that_is_being_deleted_on_it() {
    let mut config = config(2);
    config.autoscaler = Some(AutoscalerConfig {
        group: Rc::from("node"),
        number_next: 2,
        zones: vec![Rc::from("a")],
        pattern: config.nodes[0].clone(),
        node_start: Delay::Constant(seconds(90)),
        rules: AutoscalerRules { unneeded: seconds(30), ..AutoscalerRules::usual(1, 3) },
    });
    let world = world_with(1, config, Duration::ZERO, seconds(400), None);
    let mut spec = deployment(2, 1, 0);
    spec.template.grace_seconds = 500;
    // Pods that are not being deleted may not be evicted: their nodes stay.
    world.cluster.apply_budget(budget(Budget::MaxUnavailable(IntOrPercent::Int(0))));
    world.settled(spec);
    assert_eq!(world.busiest().1, 1);
    world.cluster.scale(EDGE, 1, None);
    world.run_to(1000);
    let [unneeded] = world.seconds_of("node_unneeded")[..] else { panic!("one node goes") };
    assert!((90..=110).contains(&unneeded), "{unneeded} s");
    let (ended, died) = (world.seconds_of("pod_gone"), world.seconds_of("node_died"));
    assert!(ended[0] >= 460 && (ended[0]..=ended[0] + 1).contains(&died[0]), "{ended:?} {died:?}");
    assert_eq!((died.len(), world.cluster.counts(EDGE).ready), (1, 1));
}

#[test]
fn pods_that_have_just_found_no_node_wait_a_look_and_one_that_fits_nowhere_forbids_nothing() {
    for seed in 1..9 {
        let world = growing(seed);
        world.cluster.apply_deployment(deployment(8, 1, 0), None);
        world.run_to(60);
        world.cluster.scale(EDGE, 9, None);
        world.run_to(90);
        let log = world.log.borrow();
        let ordered: Vec<u64> = log
            .events()
            .iter()
            .filter(|event| event.kind == "nodegroup_scaled_up")
            .map(|event| event.at.as_nanos() / 1_000_000)
            .collect();
        let [at] = ordered[..] else { panic!("one node is asked for: {ordered:?}") };
        assert!((62_000..72_100).contains(&at), "seed {seed}: {at} ms");
    }
    // Of three nodes one carries the eight pods that stay; a ninth that asks for more than any node has waits for ever.
    let world = growing(1);
    world.cluster.apply_deployment(deployment(20, 1, 0), None);
    world.run_to(200);
    assert_eq!(world.cluster.nodes().len(), 3);
    let mut huge = Deployment { key: Rc::from("ns/huge"), ..deployment(1, 1, 0) };
    huge.template.requests.cpu_millicores = 64_000;
    world.cluster.apply_deployment(huge, None);
    world.cluster.scale(EDGE, 2, None);
    world.run_to(3000);
    assert_eq!((world.cluster.nodes().len(), world.cluster.counts("ns/huge").ready), (1, 0));
}

#[test]
fn a_budget_that_allows_nothing_keeps_a_node() {
    let world = growing(2);
    world.cluster.apply_budget(budget(Budget::MaxUnavailable(IntOrPercent::Int(0))));
    world.cluster.apply_deployment(deployment(9, 1, 0), None);
    world.run_to(200);
    world.cluster.scale(EDGE, 2, None);
    world.run_to(3000);
    assert!(world.seconds_of("evicted").is_empty());
    let empty_went = world.cluster.nodes().len() == 1;
    let nodes_used: BTreeSet<_> = world
        .cluster
        .pod_records()
        .iter()
        .filter(|record| record.gone_at.is_none())
        .map(|record| record.node.clone())
        .collect();
    assert_eq!(empty_went, nodes_used.len() == 1, "only an empty node may go");
}

proptest! {
    /// Whatever is evicted and drained, a budget is never broken: as long as nothing fails, as many pods are ready as it desires.
    #[test]
    fn evictions_never_break_a_budget(
        seed in 0_u64..1000,
        replicas in 2_i32..9,
        max_unavailable in 0_i32..4,
        percent in 0_i32..100,
        is_minimum: bool,
        steps in proptest::collection::vec((61_u64..160, 0_usize..6), 1..12),
    ) {
        let world = world(seed, 4, seconds(1), seconds(3));
        let limit = if is_minimum {
            Budget::MinAvailable(IntOrPercent::Percent(percent))
        } else {
            Budget::MaxUnavailable(IntOrPercent::Int(max_unavailable))
        };
        world.settled(deployment(replicas, 1, 0));
        world.cluster.apply_budget(budget(limit));
        world.run_to(61);
        let mut steps = steps;
        steps.sort_unstable();
        for (second, what) in steps {
            world.run_to(second);
            let owner: Rc<str> = Rc::from(EDGE);
            match what {
                0 => world.operate(&Operation::Drain { node: node_choice(), settings: DrainSettings::default() }),
                1 => {
                    let nodes = world.cluster.nodes();
                    for (name, _) in nodes {
                        world.operate(&Operation::Cordon { node: NodeChoice::Named(name), is_cordoned: false });
                    }
                }
                2 => world.operate(&Operation::Evict { owner, pod: PodChoice::Newest }),
                3 => world.operate(&Operation::Evict { owner, pod: PodChoice::Pending }),
                _ => world.operate(&Operation::Evict { owner, pod: PodChoice::Ready }),
            }
        }
        let desired = world.cluster.budget(BUDGET).unwrap().status.desired_healthy;
        world.run_to(400);
        prop_assert!(world.ready_min_since(61) >= usize::try_from(desired).unwrap());
    }
}
