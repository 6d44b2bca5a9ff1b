//! Whole decisions. The rules one by one are held against upstream's tables in `tests/vectors/vectors_scheduler.rs`.

use super::*;
use crate::cluster::objects::{Node, Resources};
use crate::cluster::placement::{HOSTNAME, PodTerm};
use crate::cluster::selector::LabelSelector;
use crate::engine::Streams;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

fn node(name: &str, zone: &str, cpu_millicores: u64) -> Node {
    let allocatable = Resources { cpu_millicores, memory_bytes: 8 << 30 };
    Node::new(Rc::from(name), Ipv4Addr::LOCALHOST, Rc::from(zone), allocatable)
}

fn kind(cpu_millicores: u64) -> PodKind {
    let labels = BTreeMap::from([("app".to_owned(), "edge".to_owned())]);
    PodKind {
        peers: Some(LabelSelector::of_labels(labels.clone())),
        labels,
        requests: Resources { cpu_millicores, memory_bytes: 256 << 20 },
        images: vec!["proxy".to_owned()],
        ..PodKind::default()
    }
}

fn scheduler(nodes: &[Node]) -> Scheduler {
    let mut scheduler = Scheduler::new(Rules::of_version(28));
    for (index, node) in nodes.iter().enumerate() {
        scheduler.cache.put_node(index, node.clone());
    }
    scheduler
}

/// Places `count` pods of one kind one after the other; how many land on each node, and how many nowhere.
fn place(nodes: &[Node], pod: &PodKind, count: usize) -> (Vec<usize>, usize) {
    let mut stream = Streams::new(1).stream("scheduler", "");
    let mut scheduler = scheduler(nodes);
    let id = scheduler.cache.add_kind(pod.clone());
    let (mut counts, mut nowhere) = (vec![0; nodes.len()], 0);
    for _ in 0..count {
        match scheduler.choose(pod, &mut stream) {
            Ok(index) => {
                counts[index] += 1;
                scheduler.cache.place(id, index);
            }
            Err(_) => nowhere += 1,
        }
    }
    (counts, nowhere)
}

#[test]
fn requests_fill_nodes_to_the_last_millicore_and_not_beyond() {
    let nodes = [node("a", "z", 1000), node("b", "z", 999)];
    assert_eq!(place(&nodes, &kind(500), 4), (vec![2, 1], 1));
}

#[test]
fn a_set_spreads_over_nodes_and_zones() {
    let nodes = [node("a", "x", 4000), node("b", "x", 4000), node("c", "y", 4000), node("d", "y", 4000)];
    assert_eq!(place(&nodes, &kind(200), 8), (vec![2; 4], 0));
}

fn apart(term_of: &PodKind) -> PodTerm {
    let selector = Some(LabelSelector::of_labels(term_of.labels.clone()));
    PodTerm { topology_key: HOSTNAME.to_owned(), selector, ..PodTerm::default() }
}

#[test]
fn anti_affinity_outweighs_the_emptier_node() {
    let mut pod = kind(200);
    pod.placement.pod_anti_affinity.preferred = vec![(100, apart(&pod))];
    let nodes = [node("small", "z", 1000), node("big", "z", 16_000)];
    assert_eq!(place(&nodes, &pod, 2).0, [1, 1]);
    assert_eq!(place(&nodes, &pod, 10).1, 0, "preferred never blocks");
}

#[test]
fn required_anti_affinity_blocks_until_the_last_pod_has_left() {
    let mut pod = kind(200);
    pod.placement.pod_anti_affinity.required = vec![apart(&pod)];
    let mut scheduler = scheduler(&[node("a", "z", 4000)]);
    let mut stream = Streams::new(1).stream("scheduler", "");
    let id = scheduler.cache.add_kind(pod.clone());
    scheduler.cache.place(id, 0);
    scheduler.cache.terminate(id, 0);
    let refused = scheduler.choose(&pod, &mut stream).unwrap_err();
    assert_eq!(refused.message, "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.");
    scheduler.cache.release(id, 0, true);
    assert_eq!(scheduler.choose(&pod, &mut stream), Ok(0));
}

#[test]
fn a_cordoned_node_gets_nothing_new() {
    let mut closed = node("a", "z", 4000);
    closed.unschedulable = true;
    let nodes = [closed, node("b", "z", 400)];
    assert_eq!(place(&nodes, &kind(200), 3), (vec![0, 2], 1));
}

#[test]
fn of_many_nodes_enough_are_looked_at_and_the_next_search_goes_on_from_there() {
    for (nodes, enough) in [(99, 99), (100, 100), (250, 120), (1000, 420), (5000, 500), (6000, 300), (20_000, 1000)] {
        assert_eq!(enough_of(nodes), enough, "{nodes} nodes");
    }
    let nodes: Vec<Node> = (0..300).map(|index| node(&format!("n{index}"), "z", 4000)).collect();
    let mut scheduler = scheduler(&nodes);
    let pod = kind(100);
    let first = scheduler.possible(&pod).unwrap();
    let second = scheduler.possible(&pod).unwrap();
    assert_eq!((first.len(), second.len()), (144, 144));
    assert_eq!((first[0], second[0]), (0, 144));
    assert_eq!(scheduler.possible(&pod).unwrap()[143], 131, "round the end");
}

#[test]
fn zones_take_turns_in_the_search() {
    let nodes = [node("a", "x", 1), node("b", "x", 1), node("c", "y", 1), node("d", "x", 1), node("e", "y", 1)];
    assert_eq!(scheduler(&nodes).cache.order(), [0, 2, 1, 4, 3]);
}

#[test]
fn a_node_that_returns_has_its_pods_again() {
    let mut scheduler = scheduler(&[node("a", "z", 1000)]);
    let pod = kind(600);
    let id = scheduler.cache.add_kind(pod.clone());
    scheduler.cache.place(id, 0);
    scheduler.cache.remove_node(0);
    assert_eq!(scheduler.possible(&pod).unwrap_err().message, "no nodes available to schedule pods");
    scheduler.cache.put_node(0, node("a", "z", 1000));
    assert_eq!(scheduler.possible(&pod).unwrap_err().message, "0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn a_large_image_that_many_nodes_have_counts() {
    let mut scheduler = scheduler(&[node("a", "z", 4000), node("b", "z", 4000)]);
    let pod = kind(100);
    let scores = |scheduler: &Scheduler| -> Vec<i64> {
        scheduler.scores(&pod, &[0, 1]).iter().map(|scores| scores.images).collect()
    };
    assert_eq!(scores(&scheduler), [0, 0]);
    scheduler.cache.put_image("proxy", 500 << 20, 1);
    // Half of the nodes have it: (250 − 23) of (1000 − 23) MiB.
    assert_eq!(scores(&scheduler), [0, 23]);
    scheduler.cache.put_image("proxy", 500 << 20, 0);
    assert_eq!(scores(&scheduler), [48, 48]);
}
