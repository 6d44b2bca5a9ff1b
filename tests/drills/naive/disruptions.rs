//! Nodes that fail, budgets, drains.

use std::collections::BTreeMap;
use std::rc::Rc;

use gatedrill::cluster::LabelSelector;
use gatedrill::cluster::disruption::{Budget, DisruptionBudget, UnhealthyPods};
use gatedrill::cluster::drain::DrainSettings;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::operation::{NodeChoice, NodeFailure, Operation, PodChoice};

use super::world::{APP, EDGE, OBEDIENT, World, deployment};

fn named(node: &str) -> NodeChoice {
    NodeChoice::Named(Rc::from(node))
}

/// Kills the first nodes of these zones at 100 s; from then to the events of a kind, in milliseconds.
fn after_deaths(zones: &[&str], deaths: usize) -> impl Fn(&str) -> Vec<u64> {
    let replicas = i32::try_from(zones.len()).expect("few nodes");
    let world = World::with(OBEDIENT, zones, deployment(replicas, 1, 0));
    world.run_to(100);
    for index in 0..deaths {
        let node = named(&format!("node-{index}"));
        world.operate(&Operation::FailNode { node, failure: NodeFailure::Machine, back_after: None });
    }
    world.run_to(1500);
    move |kind| world.times_ms(kind).iter().filter(|time| **time >= 100_000).map(|time| time - 100_000).collect()
}

#[test]
fn a_dead_node_is_noticed_after_forty_seconds_and_replaced_five_minutes_later() {
    let one = after_deaths(&["a", "a", "a", "a", "b"], 1);
    let unready = one("pod_unready");
    assert!((30_000..46_000).contains(&unready[0]), "endpoints drop when the node is noticed: {unready:?}");
    assert_eq!(unready.len(), 1);
    let (noticed, tainted, deleted) = (one("node_not_ready")[0], one("node_tainted")[0], one("pod_terminating"));
    assert_eq!(noticed, unready[0]);
    // Driven away in the pass after that, five seconds later; pods bear it for 300 s.
    assert!((4_000..7_000).contains(&(tainted - noticed)), "{noticed} {tainted}");
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0] - tainted, 300_000);
    assert_eq!(one("pod_created").len(), 1);
    assert!(one("pod_gone").is_empty(), "nobody confirms its end");
    // A second one in its zone is driven out ten seconds after the first.
    let two = after_deaths(&["a", "a", "a", "a", "b"], 2);
    let tainted = two("node_tainted");
    assert_eq!(tainted.len(), 2);
    assert!((10_000..16_000).contains(&(tainted[1] - tainted[0])), "{tainted:?}");
    // Three of five, which is more than 55 %: the zone is thought to be cut off, and no more of its nodes are driven out.
    let most = after_deaths(&["a", "a", "a", "a", "a", "b"], 3);
    assert_eq!(most("node_not_ready").len(), 3);
    let driven_out = most("node_tainted").len();
    assert!(driven_out < 3, "{driven_out} of 3");
    assert_eq!(most("pod_terminating").len(), driven_out);
}

fn budget(budget: Budget) -> DisruptionBudget {
    DisruptionBudget {
        key: Rc::from("ns/edge"),
        selector: Some(LabelSelector::of_labels(BTreeMap::from([("app".to_owned(), APP.to_owned())]))),
        budget: Some(budget),
        unhealthy: UnhealthyPods::IfHealthyBudget,
    }
}

/// Most pods that are not being deleted, and fewest that are available, while a node with two of four pods is drained.
fn drained(protection: Option<Budget>) -> (usize, usize) {
    let world = World::new(OBEDIENT, &["a", "a", "a"]);
    world.operate(&Operation::Cordon { node: named("node-2"), is_cordoned: true });
    world.cluster.apply_deployment(deployment(4, 4, 0), None);
    world.run_to(20);
    if let Some(protection) = protection {
        world.cluster.apply_budget(budget(protection));
    }
    world.operate(&Operation::Cordon { node: named("node-2"), is_cordoned: false });
    world.run_to(30);
    world.operate(&Operation::Drain { node: named("node-0"), settings: DrainSettings::default() });
    let (mut most, mut least) = (0, usize::MAX);
    for _ in 0..6000 {
        world.pass_ms(10);
        let counts = world.cluster.counts(EDGE);
        (most, least) = (most.max(counts.active), least.min(counts.available));
    }
    assert_eq!(world.times_ms("node_drained").len(), 1);
    (most, least)
}

#[test]
fn a_budget_rounds_up_guards_evictions_alone_and_a_drain_has_no_surge() {
    let share = IntOrPercent::Percent;
    // Up, both: so a share of what may be missing is generous, and one of what must be there is strict.
    assert_eq!(Budget::MaxUnavailable(share(30)).desired(10, 10), (10, 7));
    assert_eq!(Budget::MaxUnavailable(share(25)).desired(5, 5), (5, 3));
    assert_eq!(Budget::MinAvailable(share(28)).desired(10, 10), (10, 3));
    // None may be missing: no pod is evicted, and a rollout takes them all the same.
    let world = World::with(OBEDIENT, &["a", "b"], deployment(4, 0, 2));
    world.cluster.apply_budget(budget(Budget::MaxUnavailable(IntOrPercent::Int(0))));
    world.run_to(25);
    world.operate(&Operation::Evict { owner: Rc::from(EDGE), pod: PodChoice::Oldest });
    world.run_to(30);
    assert_eq!((world.times_ms("eviction_denied").len(), world.times_ms("pod_terminating").len()), (1, 0));
    world.image("edge:2");
    let mut least = usize::MAX;
    for _ in 0..6000 {
        world.pass_ms(10);
        least = least.min(world.cluster.counts(EDGE).available);
    }
    assert!(world.cluster.is_settled(EDGE));
    assert_eq!(least, 2);
    // The Deployment may surge by four; a drain makes the replacement when the old pod goes, not before.
    assert_eq!(drained(None), (4, 2));
    assert_eq!(drained(Some(Budget::MaxUnavailable(IntOrPercent::Int(1)))), (4, 3));
}
