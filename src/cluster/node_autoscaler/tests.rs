//! A group of nodes that grows and shrinks, look by look.

use super::*;
use crate::cluster::objects::Probes;
use crate::cluster::placement::Placement;
use std::net::Ipv4Addr;

const RULES: AutoscalerRules = AutoscalerRules::usual(1, 5);

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
        has_local_storage: false,
        storage: crate::cluster::LocalStorage::default(),
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
        is_unready: false,
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

#[test]
fn a_cluster_with_too_many_unready_nodes_is_left_alone() {
    // (nodes, of which unready, halted): more than three, and more than 45 percent.
    for (count, unready, is_halted) in
        [(6, 3, false), (6, 4, true), (8, 4, true), (9, 4, false), (20, 9, false), (20, 10, true)]
    {
        let mut autoscaler = NodeAutoscaler::new(AutoscalerRules::usual(1, 30));
        let mut found = nodes(&vec![&[3000][..]; count]);
        for node in &mut found[..unready] {
            (node.is_usable, node.is_unready) = (false, true);
        }
        let wishes = autoscaler.handle_scan(at(0), &[pod(3000)], &found, (&node(), &[]), 0, 0);
        assert_eq!(autoscaler.is_halted(), is_halted, "{unready} of {count}");
        assert_eq!(wishes.is_empty(), is_halted, "{unready} of {count}");
    }
    // Who was unneeded before is so from the beginning after it.
    let mut autoscaler = NodeAutoscaler::new(AutoscalerRules::usual(1, 30));
    let well = nodes(&[&[], &[3000], &[3000], &[3000], &[3000], &[3000]]);
    let mut broken = well.clone();
    for node in &mut broken[2..] {
        (node.is_usable, node.is_unready) = (false, true);
    }
    for (seconds, found, expected) in [
        (0, &well, vec![]),
        (300, &broken, vec![]),
        (310, &well, vec![]),
        (900, &well, vec![]),
        (910, &well, vec![Wish::Remove(0)]),
    ] {
        let wishes = autoscaler.handle_scan(at(seconds), &[], found, (&node(), &[]), 0, 0);
        assert_eq!(wishes, expected, "at {seconds} s");
    }
}

#[test]
fn what_keeps_a_node() {
    let plain = || PodTemplate::clone(&pod(100));
    let with = |change: fn(&mut PodTemplate)| {
        let mut template = plain();
        change(&mut template);
        template
    };
    let says = |word: &'static str| {
        let mut template = plain();
        template.annotations.insert(SAFE_TO_EVICT.to_owned(), word.to_owned());
        template
    };
    let stored = with(|template| template.has_local_storage = true);
    let mut safe_and_stored = says("true");
    safe_and_stored.has_local_storage = true;
    let lax = AutoscalerRules { keeps_local_storage: false, keeps_system: false, ..RULES };
    // (template, namespace, bare, budget, deleted, kept by the usual rules, kept by lax ones).
    for (template, namespace, is_bare, has_budget, deleted, usual, by_lax) in [
        (plain(), "ns", false, false, None, false, false),
        (plain(), "ns", true, false, None, true, true),
        (says("true"), "ns", true, false, None, false, false),
        (says("false"), "ns", false, false, None, true, true),
        (stored.clone(), "ns", false, false, None, true, false),
        (safe_and_stored, "kube-system", true, false, None, false, false),
        (plain(), "kube-system", false, false, None, true, false),
        (plain(), "kube-system", false, true, None, false, false),
        // Deleted a minute ago: with 30 s of grace it is on the verge, with 29 s it is overdue.
        (stored.clone(), "ns", false, false, Some((at(40), 30)), true, false),
        (stored, "ns", false, false, Some((at(40), 29)), false, false),
    ] {
        let kept = KeptPod { template: &template, namespace, is_bare, has_budget, deleted };
        assert_eq!(keeps_its_node(&RULES, &kept, at(100)), usual, "{kept:?}");
        assert_eq!(keeps_its_node(&lax, &kept, at(100)), by_lax, "{kept:?}");
    }
}
