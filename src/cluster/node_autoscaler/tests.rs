//! A group of nodes that grows and shrinks, look by look.

use super::*;
use crate::cluster::placement::Protocol;
use std::net::Ipv4Addr;

const RULES: AutoscalerRules = AutoscalerRules::usual(1, 5);

/// So long after the pods were made, and a minute.
fn at(seconds: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_secs(60 + seconds))
}

/// Pods without a node that ask for so many millicores each, made long ago.
fn pending(cpu_millicores: &[u64]) -> Vec<PendingPod> {
    let of = |cpu: &u64| PendingPod { template: pod(*cpu), created_at: SimTime::ZERO, would_fit: false };
    cpu_millicores.iter().map(of).collect()
}

fn node() -> Node {
    let allocatable = Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 };
    Node::new(Rc::from("pool-a"), Ipv4Addr::LOCALHOST, Rc::from("a"), allocatable)
}

fn pod(cpu_millicores: u64) -> Rc<PodTemplate> {
    Rc::new(PodTemplate::plain(BTreeMap::new(), "", Resources { cpu_millicores, memory_bytes: 1 << 20 }))
}

/// Nodes of the group with pods that ask for so many millicores each.
fn nodes(pods: &[&[u64]]) -> Vec<ScanNode> {
    let of = |(index, pods): (usize, &&[u64])| ScanNode {
        index,
        node: node(),
        is_in_group: true,
        is_usable: true,
        is_ready: true,
        is_candidate: true,
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
        let pods = self::pending(&pending);
        assert_eq!(autoscaler.handle_scan(at(0), &pods, &nodes(&[&[4000]]), (&node(), &[]), coming, 0), expected);
    }
}

#[test]
fn pods_that_take_a_port_need_a_node_each() {
    let taking = |number: u16| {
        let mut template = PodTemplate::clone(&pod(100));
        template.placement.host_ports.insert(HostPort { number, protocol: Protocol::Tcp, ip: None });
        PendingPod { template: Rc::new(template), created_at: SimTime::ZERO, would_fit: false }
    };
    for (ports, nodes) in [(&[80, 80, 80][..], 3), (&[80, 81, 82], 1)] {
        let waiting: Vec<PendingPod> = ports.iter().map(|port| taking(*port)).collect();
        let wishes = NodeAutoscaler::new(RULES).handle_scan(at(0), &waiting, &[], (&node(), &[]), 0, 0);
        assert_eq!(wishes, [Wish::Add(nodes)]);
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
    assert_eq!(autoscaler.handle_scan(at(0), &pending(&[3000]), &used, (&node(), &[]), 0, 0), [Wish::Add(1)]);
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
        let wishes = autoscaler.handle_scan(at(0), &pending(&[2000, 2000]), &[], (&node(), daemons), 0, 0);
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
            (node.is_usable, node.is_ready, node.is_unready) = (false, false, true);
        }
        let wishes = autoscaler.handle_scan(at(0), &pending(&[3000]), &found, (&node(), &[]), 0, 0);
        assert_eq!(autoscaler.is_halted(), is_halted, "{unready} of {count}");
        assert_eq!(wishes.is_empty(), is_halted, "{unready} of {count}");
    }
    // Who was unneeded before is so from the beginning after it.
    let mut autoscaler = NodeAutoscaler::new(AutoscalerRules::usual(1, 30));
    let well = nodes(&[&[], &[3000], &[3000], &[3000], &[3000], &[3000]]);
    let mut broken = well.clone();
    for node in &mut broken[2..] {
        (node.is_usable, node.is_ready, node.is_unready) = (false, false, true);
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
fn a_pod_that_no_node_could_take_forbids_nothing() {
    // (pods without a node, a node more may come, one that is on its way, would fit, node 0 goes)
    for (cpu, max, coming, would_fit, goes) in [
        // 64 cores fit on no node; three fit on a new one, if there may be one, and that delays.
        (64_000, 5, 0, false, true),
        (3000, 5, 0, false, false),
        (3000, 3, 0, false, true),
        // They have a place: on a node that comes, or on one that is there.
        (3000, 5, 1, false, false),
        (3000, 3, 0, true, false),
    ] {
        let mut autoscaler = NodeAutoscaler::new(AutoscalerRules::usual(1, max));
        let used = nodes(&[&[], &[3000], &[3000]]);
        let waiting: Vec<PendingPod> = pending(&[cpu]).into_iter().map(|pod| PendingPod { would_fit, ..pod }).collect();
        autoscaler.handle_scan(at(0), &[], &used, (&node(), &[]), 0, 0);
        let wishes = autoscaler.handle_scan(at(600), &waiting, &used, (&node(), &[]), coming, 0);
        assert_eq!(
            wishes == [Wish::Remove(0)],
            goes,
            "{cpu}m, max {max}, coming {coming}, fits {would_fit}: {wishes:?}"
        );
    }
    // While a node is asked for nobody asks who is unneeded; who was stays so.
    let mut autoscaler = NodeAutoscaler::new(AutoscalerRules { delay_after_add: Duration::ZERO, ..RULES });
    let used = nodes(&[&[], &[3000]]);
    assert_eq!(autoscaler.handle_scan(at(0), &[], &used, (&node(), &[]), 0, 0), []);
    assert_eq!(autoscaler.handle_scan(at(300), &pending(&[3000]), &used, (&node(), &[]), 0, 0), [Wish::Add(1)]);
    assert_eq!(autoscaler.handle_scan(at(600), &[], &used, (&node(), &[]), 0, 0), [Wish::Remove(0)]);
}

#[test]
fn for_pods_that_have_just_come_it_waits_a_look() {
    // The oldest decides. (when they were made, node more, node 0 goes)
    for (created_ms, adds) in
        [(&[58_000][..], true), (&[58_001], false), (&[58_000, 59_000], true), (&[58_500, 60_000], false)]
    {
        let mut autoscaler = NodeAutoscaler::new(RULES);
        let used = nodes(&[&[], &[3000]]);
        autoscaler.handle_scan(SimTime::ZERO, &[], &used, (&node(), &[]), 0, 0);
        let made = |ms: &u64| SimTime::ZERO.after(Duration::from_millis(600_000 + ms));
        let young: Vec<PendingPod> = created_ms
            .iter()
            .map(|ms| PendingPod { template: pod(3000), created_at: made(ms), would_fit: false })
            .collect();
        let wishes = autoscaler.handle_scan(at(600), &young, &used, (&node(), &[]), 0, 0);
        let expected = if adds { vec![Wish::Add(young.len())] } else { vec![] };
        assert_eq!(wishes, expected, "{created_ms:?}");
        // At the next look they are old enough.
        let again = autoscaler.handle_scan(at(610), &young, &used, (&node(), &[]), 0, 0);
        assert_eq!(again, [Wish::Add(young.len())], "{created_ms:?}");
    }
}

#[test]
fn a_node_that_is_not_ready_goes_after_twenty_minutes_and_a_cordoned_one_after_ten() {
    for (is_ready, is_candidate, goes_at) in [(true, true, Some(600)), (false, true, Some(1200)), (true, false, None)] {
        let mut autoscaler = NodeAutoscaler::new(RULES);
        let mut used = nodes(&[&[], &[3000]]);
        (used[0].is_usable, used[0].is_ready, used[0].is_candidate) = (false, is_ready, is_candidate);
        used[0].is_unready = !is_ready;
        let looks = (0..=2000).step_by(10);
        let mut scan = |second: u64| autoscaler.handle_scan(at(second), &[], &used, (&node(), &[]), 0, 0);
        let gone = looks.into_iter().find(|second| scan(*second) == [Wish::Remove(0)]);
        assert_eq!(gone, goes_at, "ready: {is_ready}, may go: {is_candidate}");
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
        // Deleted ninety seconds ago, with 30 s of grace by its template: asked for with as much it is on the verge, with 29 s it is overdue.
        (stored.clone(), "ns", false, false, Some((at(10), 30)), true, false),
        (stored, "ns", false, false, Some((at(10), 29)), false, false),
    ] {
        let kept = KeptPod { template: &template, namespace, is_bare, has_budget, deleted };
        assert_eq!(keeps_its_node(&RULES, &kept, at(100)), usual, "{kept:?}");
        assert_eq!(keeps_its_node(&lax, &kept, at(100)), by_lax, "{kept:?}");
    }
}
