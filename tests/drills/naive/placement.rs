//! The scheduler.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use gatedrill::cluster::deployment::Strategy;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::objects::{Node, Resources};
use gatedrill::cluster::operation::{NodeChoice, Operation};
use gatedrill::cluster::scheduler::{PodKind, Rules, Scheduler};
use gatedrill::cluster::selector::LabelSelector;
use gatedrill::engine::Streams;

use super::world::{EDGE, OBEDIENT, World, deployment};

fn scheduler(nodes: usize) -> Scheduler {
    let mut scheduler = Scheduler::new(Rules::of_version(28));
    for index in 0..nodes {
        let allocatable = Resources { cpu_millicores: 1000, memory_bytes: 8 << 30 };
        let node = Node::new(Rc::from(format!("node-{index}")), Ipv4Addr::LOCALHOST, Rc::from("a"), allocatable);
        scheduler.cache.put_node(index, node);
    }
    scheduler
}

/// Pods of one revision of one Deployment.
fn revision(hash: &str, cpu_millicores: u64) -> PodKind {
    let hash = BTreeMap::from([("pod-template-hash".to_owned(), hash.to_owned())]);
    let mut labels = hash.clone();
    labels.insert("app".to_owned(), "edge".to_owned());
    PodKind {
        peers: Some(LabelSelector::of_labels(hash)),
        labels,
        requests: Resources { cpu_millicores, memory_bytes: 0 },
        ..PodKind::default()
    }
}

#[test]
fn only_requests_count_and_ties_are_drawn() {
    // A hundred pods that ask for nothing, however busy they are, leave room for a whole core, and for no more than that.
    let mut crowded = scheduler(1);
    let idle = crowded.cache.add_kind(revision("1", 0));
    (0..100).for_each(|_| crowded.cache.place(idle, 0));
    let mut ties = Streams::new(1).stream("ties", "");
    assert_eq!(crowded.choose(&revision("2", 1000), &mut ties), Ok(0));
    assert!(crowded.choose(&revision("2", 1001), &mut ties).is_err());
    // Of two equal nodes the first is not the better one.
    let second = (0..100).filter(|seed| {
        let mut ties = Streams::new(*seed).stream("ties", "");
        scheduler(2).choose(&revision("1", 100), &mut ties) == Ok(1)
    });
    let second = second.count();
    assert!((30..=70).contains(&second), "{second} of 100");
}

#[test]
fn a_revision_is_spread_for_itself() {
    let fresh = revision("2", 0);
    let chosen = |seed, new_pods_on: &[usize]| {
        let mut scheduler = scheduler(2);
        // Four pods of the revision before are on the first node.
        let old = scheduler.cache.add_kind(revision("1", 0));
        (0..4).for_each(|_| scheduler.cache.place(old, 0));
        let new = scheduler.cache.add_kind(fresh.clone());
        new_pods_on.iter().for_each(|index| scheduler.cache.place(new, *index));
        scheduler.choose(&fresh, &mut Streams::new(seed).stream("ties", "")).expect("both are possible")
    };
    // To the first pod of the new one they are not there: either node will do.
    let crowded = (0..100).filter(|seed| chosen(*seed, &[]) == 0).count();
    assert!((30..=70).contains(&crowded), "{crowded} of 100");
    // The second goes where the first is not, even to the four.
    assert!((0..100).all(|seed| chosen(seed, &[1]) == 0));
}

#[test]
fn nothing_is_moved_later_and_what_ends_keeps_its_place() {
    // All on one node while the other is closed; when it opens, they stay.
    let world = World::new(OBEDIENT, &["a", "a"]);
    let second = || NodeChoice::Named(Rc::from("node-1"));
    world.operate(&Operation::Cordon { node: second(), is_cordoned: true });
    world.cluster.apply_deployment(deployment(4, 1, 0), None);
    world.run_to(20);
    world.operate(&Operation::Cordon { node: second(), is_cordoned: false });
    world.run_to(3600);
    let nodes: Vec<String> =
        world.cluster.pod_views(EDGE).iter().filter_map(|pod| Some(pod.node.as_ref()?.to_string())).collect();
    assert_eq!(nodes, ["node-0"; 4]);
    // A full node: the pod that takes the place of an old one waits until that has ended, five seconds later.
    let mut spec = deployment(4, 0, 1);
    spec.strategy = Strategy::RollingUpdate { max_surge: IntOrPercent::Int(0), max_unavailable: IntOrPercent::Int(1) };
    let full = World::with(OBEDIENT, &["a"], spec);
    full.image("edge:2");
    full.run_to(80);
    assert!(full.cluster.is_settled(EDGE));
    let (ends, gone, bound) =
        (full.times_ms("pod_terminating"), full.times_ms("pod_gone"), full.times_ms("pod_scheduled"));
    assert_eq!((ends.len(), gone.len(), bound.len()), (4, 4, 8));
    for ((end, gone), bound) in ends.iter().zip(&gone).zip(&bound[4..]) {
        assert_eq!(gone - end, 5010);
        assert!(bound >= gone, "bound at {bound} to what was free at {gone}");
    }
}
