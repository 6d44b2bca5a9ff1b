//! A group of nodes that grows and shrinks, look by look.

use super::*;
use crate::cluster::objects::Probes;
use crate::cluster::placement::Placement;
use std::net::Ipv4Addr;

const RULES: AutoscalerRules = AutoscalerRules {
    min: 1,
    max: 5,
    scan: Duration::from_secs(10),
    utilization_percent: 50,
    unneeded: Duration::from_secs(600),
    delay_after_add: Duration::from_secs(600),
    delay_after_failure: Duration::from_secs(180),
};

fn at(seconds: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_secs(seconds))
}

fn node() -> Node {
    let allocatable = Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 };
    Node::new(Rc::from("pool-a"), Ipv4Addr::LOCALHOST, Rc::from("a"), allocatable)
}

fn pod(cpu_millicores: u64) -> Rc<PodTemplate> {
    Rc::new(PodTemplate {
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        image: String::new(),
        requests: Resources { cpu_millicores, memory_bytes: 1 << 20 },
        containers: Vec::new(),
        grace_seconds: 30,
        pre_stop: None,
        probes: Probes::default(),
        init: Vec::new(),
        has_empty_dir: false,
        ports: Vec::new(),
        readiness_gates: Vec::new(),
        placement: Placement::default(),
        other: String::new(),
    })
}

/// Nodes of the group with pods that ask for so many millicores each.
fn nodes(pods: &[&[u64]]) -> Vec<ScanNode> {
    let of = |(index, pods): (usize, &&[u64])| ScanNode {
        index,
        node: node(),
        is_in_group: true,
        is_usable: true,
        pods: pods.iter().map(|cpu| pod(*cpu)).collect(),
        daemons: Vec::new(),
        is_blocked: false,
    };
    pods.iter().enumerate().map(of).collect()
}

#[test]
fn pending_pods_are_packed_onto_as_few_nodes_as_they_need() {
    for (pending, coming, expected) in [
        (vec![3000, 1000, 2000, 2000], 0, vec![Wish::Add(2)]),
        (vec![3000, 1000, 2000, 2000], 1, vec![Wish::Add(1)]),
        (vec![3000, 1000, 2000, 2000], 2, vec![]),
        (vec![5000], 0, vec![]),
        (vec![3000; 9], 0, vec![Wish::Add(4)]),
        (vec![3000; 9], 3, vec![Wish::Add(1)]),
    ] {
        let mut autoscaler = NodeAutoscaler::new(RULES);
        let pending: Vec<Rc<PodTemplate>> = pending.into_iter().map(pod).collect();
        assert_eq!(autoscaler.handle_scan(at(0), &pending, &nodes(&[&[4000]]), (&node(), &[]), coming, 0), expected);
    }
}

#[test]
fn a_node_goes_after_ten_minutes_of_little_use_and_not_below_the_least() {
    let mut autoscaler = NodeAutoscaler::new(RULES);
    // The second is used by exactly a half.
    let used = nodes(&[&[1999], &[2000], &[3000]]);
    for seconds in (0..600).step_by(10) {
        assert_eq!(autoscaler.handle_scan(at(seconds), &[], &used, (&node(), &[]), 0, 0), [], "at {seconds} s");
    }
    assert_eq!(autoscaler.handle_scan(at(600), &[], &used, (&node(), &[]), 0, 1), [], "one is being removed");
    assert_eq!(autoscaler.handle_scan(at(610), &[], &used, (&node(), &[]), 0, 0), [Wish::Remove(0)]);
    let mut small = NodeAutoscaler::new(AutoscalerRules { min: 3, ..RULES });
    for seconds in [0, 700] {
        assert_eq!(small.handle_scan(at(seconds), &[], &used, (&node(), &[]), 0, 0), []);
    }
}

#[test]
fn what_does_not_fit_elsewhere_or_is_protected_stays() {
    let cramped = nodes(&[&[1900], &[3500], &[3500]]);
    let mut blocked = nodes(&[&[1900], &[2000], &[2000]]);
    blocked[0].is_blocked = true;
    for used in [cramped, blocked] {
        let mut autoscaler = NodeAutoscaler::new(RULES);
        for seconds in [0, 700] {
            assert_eq!(autoscaler.handle_scan(at(seconds), &[], &used, (&node(), &[]), 0, 0), []);
        }
    }
}

#[test]
fn empty_nodes_go_together_and_an_addition_or_a_failure_delays() {
    let used = nodes(&[&[], &[3000], &[]]);
    let mut autoscaler = NodeAutoscaler::new(RULES);
    let pending = [pod(3000)];
    assert_eq!(autoscaler.handle_scan(at(0), &pending, &used, (&node(), &[]), 0, 0), [Wish::Add(1)]);
    assert_eq!(autoscaler.handle_scan(at(10), &[], &used, (&node(), &[]), 0, 0), []);
    assert_eq!(autoscaler.handle_scan(at(599), &[], &used, (&node(), &[]), 0, 0), []);
    let gone = [Wish::Remove(0), Wish::Remove(2)];
    assert_eq!(autoscaler.handle_scan(at(610), &[], &used, (&node(), &[]), 0, 0), gone);
    autoscaler.handle_failure(0, at(610));
    assert_eq!(autoscaler.handle_scan(at(789), &[], &used, (&node(), &[]), 0, 0), []);
    assert_eq!(autoscaler.handle_scan(at(790), &[], &used, (&node(), &[]), 0, 0), [Wish::Remove(2)]);
}

#[test]
fn pods_of_daemon_sets_take_up_room_and_do_not_keep_a_node() {
    // A node of four cores takes two pods of two, or one beside half a core.
    let half = [pod(500)];
    for (daemons, expected) in [(&[][..], 1), (&half[..], 2)] {
        let mut autoscaler = NodeAutoscaler::new(RULES);
        let wishes = autoscaler.handle_scan(at(0), &[pod(2000), pod(2000)], &[], (&node(), daemons), 0, 0);
        assert_eq!(wishes, [Wish::Add(expected)]);
    }
    // They count as used, and else the node is as good as empty.
    for (cpu, goes) in [(1999, true), (2000, false)] {
        let mut autoscaler = NodeAutoscaler::new(RULES);
        let mut used = nodes(&[&[], &[3000]]);
        used[0].daemons = vec![pod(cpu)];
        assert_eq!(autoscaler.handle_scan(at(0), &[], &used, (&node(), &[]), 0, 0), []);
        let wishes = autoscaler.handle_scan(at(600), &[], &used, (&node(), &[]), 0, 0);
        assert_eq!(!wishes.is_empty(), goes, "{cpu}m");
    }
}
