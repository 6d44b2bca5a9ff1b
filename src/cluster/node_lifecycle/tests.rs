//! Nodes that fall silent and speak again, pass by pass.

use super::*;

/// From one pass to the next: the period and the pass itself.
const PASS: Duration = Duration::from_millis(5010);

fn at_ms(ms: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_millis(ms))
}

struct Node {
    zone: &'static str,
    /// Its kubelet says nothing from here to there.
    silent_ms: std::ops::Range<u64>,
    readiness: Readiness,
    is_tainted: bool,
}

struct World {
    controller: NodeLifecycle,
    nodes: Vec<Node>,
    /// Second, what happened, node.
    log: Vec<(u64, &'static str, usize)>,
}

impl World {
    /// Zones with so many nodes each. All leases are renewed at whole tens of seconds.
    fn new(zones: &[(&'static str, usize)]) -> Self {
        let nodes = zones.iter().flat_map(|(zone, count)| {
            (0..*count).map(|_| Node { zone, silent_ms: 0..0, readiness: Readiness::Ready, is_tainted: false })
        });
        let controller = NodeLifecycle::new(Graces::of_version(Version::new(1, 28)));
        Self { controller, nodes: nodes.collect(), log: Vec::new() }
    }

    fn silence(mut self, nodes: std::ops::Range<usize>, silent_ms: std::ops::Range<u64>) -> Self {
        for node in &mut self.nodes[nodes] {
            node.silent_ms = silent_ms.clone();
        }
        self
    }

    /// Runs to a time; what happened and when.
    fn run(mut self, end_ms: u64) -> Self {
        let (mut pass_at, mut now) = (SimTime::ZERO, SimTime::ZERO);
        while now < at_ms(end_ms) {
            if now >= pass_at {
                pass_at = now.after(PASS);
                self.pass(now);
            }
            let second = now.as_nanos() / 1_000_000_000;
            for index in self.controller.handle_taint_poll(now) {
                self.nodes[index].is_tainted = true;
                self.log.push((second, "tainted", index));
            }
            now = now.after(Duration::from_millis(10));
        }
        self
    }

    fn pass(&mut self, now: SimTime) {
        let now_ms = now.as_nanos() / 1_000_000;
        let views: Vec<NodeView> = self
            .nodes
            .iter_mut()
            .enumerate()
            .map(|(index, node)| {
                let silent = &node.silent_ms;
                let last = |ms: u64| ms - ms % 10_000;
                let renewed_ms =
                    if silent.contains(&now_ms) { last(silent.start.saturating_sub(1)) } else { last(now_ms) };
                if now_ms >= silent.end {
                    node.readiness = Readiness::Ready;
                }
                NodeView {
                    index,
                    zone: Rc::from(node.zone),
                    created_at: SimTime::ZERO,
                    readiness: Some(node.readiness),
                    renewed_at: Some(at_ms(renewed_ms)),
                    is_tainted: node.is_tainted,
                }
            })
            .collect();
        let second = now_ms / 1000;
        for order in self.controller.handle_pass(now, &views) {
            let (what, index) = match order {
                Order::MarkUnknown(index) => {
                    self.nodes[index].readiness = Readiness::Unknown;
                    ("unknown", index)
                }
                Order::MarkPodsNotReady(index) => ("pods not ready", index),
                Order::RemoveTaints(index) => {
                    self.nodes[index].is_tainted = false;
                    ("untainted", index)
                }
            };
            self.log.push((second, what, index));
        }
    }

    fn seconds(&self, what: &str) -> Vec<(u64, usize)> {
        self.log.iter().filter(|(_, known, _)| *known == what).map(|(second, _, index)| (*second, *index)).collect()
    }
}

#[test]
fn a_silent_node_is_unknown_after_the_grace_and_tainted_one_pass_later() {
    let world = World::new(&[("a", 3)]).silence(1..2, 101_000..600_000).run(200_000);
    // The renewal at 100 s is seen by the pass at 100.2 s; the eighth pass after that is more than 40 s later.
    assert_eq!(world.log, [(140, "unknown", 1), (140, "pods not ready", 1), (145, "tainted", 1)]);
}

#[test]
fn a_grace_ends_strictly_later_and_is_longer_from_1_32_on() {
    for (minor, silent_ms, is_unknown) in
        [(31, 40_000, false), (31, 40_001, true), (32, 50_000, false), (32, 50_001, true)]
    {
        let mut controller = NodeLifecycle::new(Graces::of_version(Version::new(1, minor)));
        let view = |readiness| NodeView {
            index: 0,
            zone: Rc::from("a"),
            created_at: SimTime::ZERO,
            readiness,
            renewed_at: Some(SimTime::ZERO),
            is_tainted: false,
        };
        assert_eq!(controller.handle_pass(SimTime::ZERO, &[view(Some(Readiness::Ready))]), []);
        let orders = controller.handle_pass(at_ms(silent_ms), &[view(Some(Readiness::Ready))]);
        assert_eq!(orders.contains(&Order::MarkUnknown(0)), is_unknown, "1.{minor}, {silent_ms} ms");
        assert_eq!(orders.contains(&Order::MarkPodsNotReady(0)), is_unknown);
        // A node that never reported has a minute from its creation on.
        let mut startup = NodeLifecycle::new(Graces::of_version(Version::new(1, minor)));
        let silent = NodeView { renewed_at: None, ..view(None) };
        assert_eq!(startup.handle_pass(at_ms(60_000), std::slice::from_ref(&silent)), []);
        assert_eq!(startup.next_taint_at(at_ms(60_000)), None);
        assert_eq!(startup.handle_pass(at_ms(60_001), &[silent]), [Order::MarkUnknown(0)]);
    }
}

#[test]
fn a_node_that_speaks_again_loses_its_taint() {
    let world = World::new(&[("a", 3)]).silence(0..1, 101_000..205_000).run(300_000);
    assert_eq!(world.seconds("tainted"), [(145, 0)]);
    assert_eq!(world.seconds("untainted"), [(205, 0)]);
    // A silence shorter than the grace is not noticed.
    assert_eq!(World::new(&[("a", 3)]).silence(0..1, 101_000..139_000).run(300_000).log, []);
}

#[test]
fn a_zone_gives_one_node_in_ten_seconds() {
    let world = World::new(&[("a", 10), ("b", 10)]).silence(0..2, 101_000..600_000).silence(10..12, 101_000..600_000);
    let tainted = world.run(200_000).seconds("tainted");
    assert_eq!(tainted, [(145, 0), (145, 10), (155, 1), (155, 11)]);
}

#[test]
fn a_partial_disruption_stops_a_small_zone_and_slows_a_large_one() {
    // Three of five are 60 %, three of six 50 %.
    let few =
        |nodes: usize, failed: usize| World::new(&[("a", nodes), ("b", 3)]).silence(0..failed, 101_000..9_000_000);
    assert_eq!(few(5, 3).run(400_000).seconds("tainted"), []);
    assert_eq!(few(6, 3).run(400_000).seconds("tainted").len(), 3);
    assert_eq!(few(3, 2).run(400_000).seconds("tainted").len(), 2, "two are never a partial disruption");
    let large = few(60, 40).run(500_000);
    assert_eq!(large.controller.zone_state("a"), Some(ZoneState::Partial));
    // The limit changes to 100 s in the pass in which the nodes were lost; nobody had gone before.
    let seconds: Vec<u64> = large.seconds("tainted").iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [145, 245, 345, 445]);
    assert_eq!(large.controller.zone_state("b"), Some(ZoneState::Normal));
}

#[test]
fn a_zone_that_is_wholly_down_keeps_its_rate_unless_all_are() {
    let one = World::new(&[("a", 3), ("b", 1)]).silence(0..3, 101_000..900_000).run(300_000);
    assert_eq!(one.controller.zone_state("a"), Some(ZoneState::Full));
    assert_eq!(one.seconds("tainted").len(), 3);
    // All are lost: the one that was tainted already is freed, and no other is tainted.
    let all = World::new(&[("a", 2), ("b", 2)]).silence(0..1, 51_000..900_000).silence(1..4, 101_000..900_000);
    let all = all.run(300_000);
    assert_eq!(all.seconds("tainted"), [(95, 0)]);
    assert_eq!(all.seconds("untainted"), [(140, 0)]);
    assert_eq!(all.controller.next_taint_at(at_ms(300_000)), None);
    // One comes back: the others have the grace anew, and the first of them is tainted a period later.
    let back = World::new(&[("a", 2), ("b", 2)]).silence(0..3, 101_000..900_000).silence(3..4, 101_000..300_000);
    let back = back.run(340_000);
    assert_eq!(back.seconds("tainted"), [(310, 0), (310, 2), (320, 1)]);
}
