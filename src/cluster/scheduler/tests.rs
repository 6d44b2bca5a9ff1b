//! Whole decisions. The rules one by one are held against upstream's tables in `tests/vectors/vectors_scheduler.rs`.

use super::*;
use crate::cluster::objects::{Node, Resources};
use crate::cluster::placement::{
    HOSTNAME, HostPort, PodTerm, Protocol, Taint, TaintEffect, Toleration, TolerationValue, ZONE,
};
use crate::cluster::selector::LabelSelector;
use crate::engine::Streams;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
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
fn a_node_has_each_of_its_ports_once() {
    let port =
        |number: u16, protocol: Protocol, ip: Option<&str>| HostPort { number, protocol, ip: ip.map(str::to_owned) };
    let http = port(80, Protocol::Tcp, None);
    let one_address = port(80, Protocol::Tcp, Some("10.0.0.1"));
    for (taken, wanted, fits) in [
        (&http, http.clone(), false),
        (&http, port(81, Protocol::Tcp, None), true),
        (&http, port(80, Protocol::Udp, None), true),
        (&http, one_address.clone(), false),
        (&one_address, http.clone(), false),
        (&one_address, one_address.clone(), false),
        (&one_address, port(80, Protocol::Tcp, Some("10.0.0.2")), true),
    ] {
        let mut scheduler = scheduler(&[node("a", "z", 4000)]);
        let with = |port: &HostPort| {
            let mut pod = kind(100);
            pod.placement.host_ports.insert(port.clone());
            pod
        };
        let id = scheduler.cache.add_kind(with(taken));
        scheduler.cache.place(id, 0);
        let pod = with(&wanted);
        let message = scheduler.possible(&pod).err().map(|it| it.message);
        let expected = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
        assert_eq!(message.as_deref(), (!fits).then_some(expected), "{taken:?} {wanted:?}");
        assert_eq!(scheduler.refusal(&pod, 0).as_deref(), (!fits).then_some("NodePorts"));
        // Who takes no port fits all the same, and when the port is given back all do.
        assert_eq!(scheduler.possible(&kind(100)), Ok(vec![0]));
        scheduler.cache.release(id, 0, false);
        assert_eq!(scheduler.possible(&pod), Ok(vec![0]));
    }
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

/// What differs between drawn nodes: their size in steps, and what sets them apart, by bits.
fn drawn_nodes() -> impl Strategy<Value = Vec<(u64, u8)>> {
    proptest::collection::vec((1_u64..4, any::<u8>()), 1..140)
}

fn drawn_node(index: usize, size: u64, bits: u8) -> Node {
    let mut node = node(&format!("n{index}"), ["x", "y", "z"][usize::from(bits % 3)], 500 * size);
    let taint = |effect| Taint { key: "spot".to_owned(), value: String::new(), effect };
    match bits >> 4 {
        0 => node.taints.push(taint(TaintEffect::NoSchedule)),
        1 => node.taints.push(taint(TaintEffect::PreferNoSchedule)),
        2 => node.unschedulable = true,
        3 => drop(node.labels.remove(HOSTNAME)),
        4 => node.pods_max = 1,
        5 => drop(node.extended.insert("gpu".to_owned(), 1)),
        _ => {}
    }
    node
}

/// A kind of pods; the bits say what it asks for besides.
fn drawn_kind(bits: u8) -> PodKind {
    let mut pod = kind(100 * u64::from(bits % 4));
    pod.labels.insert("set".to_owned(), (bits % 5).to_string());
    pod.peers = Some(LabelSelector::of_labels(BTreeMap::from([("set".to_owned(), (bits % 5).to_string())])));
    pod.images = vec![format!("image-{}", bits % 2)];
    match bits >> 5 {
        0 => drop(pod.placement.extended.insert("gpu".to_owned(), 1)),
        1 => pod.placement.node_selector = BTreeMap::from([(ZONE.to_owned(), "x".to_owned())]),
        2 => pod.placement.pod_anti_affinity.required = vec![apart(&pod)],
        3 => pod.placement.pod_anti_affinity.preferred = vec![(10, apart(&pod))],
        4 => {
            let (value, key) = (TolerationValue::Exists, "spot".to_owned());
            pod.placement.tolerations.push(Toleration { key, value, effect: None, seconds: None });
        }
        _ => {}
    }
    pod
}

proptest! {
    /// What is asked of a node's row, or of no node at all, gives what the rules give node by node.
    #[test]
    fn a_short_look_sees_what_a_long_one_would(
        nodes in drawn_nodes(),
        kinds in proptest::collection::vec(any::<u8>(), 1..6),
        steps in proptest::collection::vec((0_usize..6, 0_usize..200, 0_u8..8), 0..120),
        version in 19_u32..34,
    ) {
        let mut scheduler = Scheduler::new(Rules::of_version(version));
        for (index, (size, bits)) in nodes.iter().enumerate() {
            scheduler.cache.put_node(index, drawn_node(index, *size, *bits));
        }
        let kinds: Vec<PodKind> = kinds.into_iter().map(drawn_kind).collect();
        let ids: Vec<KindId> = kinds.iter().map(|kind| scheduler.cache.add_kind(kind.clone())).collect();
        let mut placed = Vec::new();
        for (kind, index, step) in steps {
            let (id, index) = (ids[kind % ids.len()], index % nodes.len());
            match step {
                0 => scheduler.cache.remove_node(index),
                1 => scheduler.cache.put_node(index, drawn_node(index, nodes[index].0, nodes[index].1.wrapping_add(16))),
                2 => scheduler.cache.put_image("image-1", 300 << 20, index),
                3 => {
                    if let Some((id, index)) = placed.pop() {
                        scheduler.cache.release(id, index, false);
                    }
                }
                _ => {
                    scheduler.cache.place(id, index);
                    placed.push((id, index));
                }
            }
        }
        for pod in &kinds {
            let start = scheduler.start;
            let found = scheduler.possible(pod);
            let cache = &scheduler.cache;
            let search = Search::new(cache, pod, scheduler.rules);
            let order = cache.order().iter().cycle().skip(start).take(cache.order().len());
            let fits = |index: &&usize| search.fault(**index, cache.node(**index).expect("it is there")).is_none();
            let plain: Vec<usize> = order.filter(fits).copied().take(enough_of(cache.order().len())).collect();
            prop_assert_eq!(found.unwrap_or_default(), plain.clone());

            let infos: Vec<&NodeInfo> = plain.iter().map(|index| cache.node(*index).expect("it is there")).collect();
            let weights = scheduler.rules.weights;
            let taints = taints::scores(infos.iter().map(|info| &info.node), &pod.placement);
            let affinity = node_affinity::scores(infos.iter().map(|info| &info.node), &pod.placement, None);
            for (candidates, is_sorted) in [(plain.clone(), false), (sorted(&plain), true)] {
                let spread = spread::scores(cache, pod, &candidates, scheduler.rules.spread);
                for (place, scores) in scheduler.scores(pod, &candidates).into_iter().enumerate() {
                    let at = plain.iter().position(|index| *index == candidates[place]).expect("it is one of them");
                    let info = infos[at];
                    prop_assert_eq!(scores.taints, weights.taints * taints[at], "sorted: {}", is_sorted);
                    prop_assert_eq!(scores.node_affinity, weights.node_affinity * affinity[at]);
                    let least = resources::least_allocated(info, pod, &SCORED_RESOURCES);
                    let balanced = resources::balanced(info, pod, &["cpu", "memory"], scheduler.rules.balance);
                    prop_assert_eq!((scores.least_allocated, scores.balanced), (least, balanced));
                    prop_assert_eq!(scores.images, image_locality::score(cache, info, pod));
                    // The same whatever the order of the candidates.
                    let elsewhere = spread::scores(cache, pod, &plain, scheduler.rules.spread);
                    prop_assert_eq!(spread.as_ref().map(|spread| spread[place]), elsewhere.map(|spread| spread[at]));
                }
            }
        }
    }
}

fn sorted(candidates: &[usize]) -> Vec<usize> {
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable();
    sorted
}
