//! Nodes that are short of disk, from the look of their kubelet to what `kubectl get pods` shows.

use super::*;
use crate::cluster::BarePod;
use crate::cluster::objects::NodeDisk;
use crate::cluster::operation::{Fill, NodeChoice, Operation};

/// A cluster whose nodes have disks of 1,000 bytes, of which each process takes so many.
fn world_of(nodes: usize, bytes: u64, exits_after: Duration) -> World {
    let mut config = config(nodes);
    for node in &mut config.nodes {
        node.disk = Some(NodeDisk { capacity_bytes: 1000, used_bytes: 500 });
    }
    let world = world_with(1, config, Duration::ZERO, exits_after, None);
    world.runtime.disk_bytes.set(bytes);
    world
}

impl World {
    fn fill(&self, node: usize, to_percent: u32) {
        let node = NodeChoice::Named(Rc::from(format!("node-{node}")));
        self.operate(&Operation::FillDisk { node, fill: Fill::To(to_percent * 10_000), back_after: None });
    }

    /// When events of a kind came, in milliseconds.
    fn at_ms(&self, kind: &str) -> Vec<u64> {
        let log = self.log.borrow();
        let of_kind = log.events().iter().filter(|event| event.kind == kind);
        of_kind.map(|event| event.at.as_nanos() / 1_000_000).collect()
    }
}

#[test]
fn a_kubelet_waits_for_the_pod_that_it_evicts_and_looks_again_at_once() {
    // It waits 10 s for the end, and then asks each second, up to 30 times, whether the pod has been cleaned up; from 1.30 on an eviction has a grace of one second, which makes
    // SIGKILL come after two.
    for (version, exits_after_s, waits_ms) in
        [(33, 0, 1_000..1_500), (33, 60, 2_900..3_500), (29, 15, 15_000..16_500), (29, 60, 60_000..61_500)]
    {
        let mut config = config(1);
        config.version = Version::new(1, version);
        config.nodes[0].disk = Some(NodeDisk { capacity_bytes: 1000, used_bytes: 500 });
        let world = world_with(1, config, Duration::ZERO, seconds(exits_after_s), None);
        world.runtime.disk_bytes.set(10);
        let mut spec = deployment(2, 1, 0);
        spec.template.grace_seconds = 90;
        world.settled(spec);
        world.fill(0, 99);
        world.run_to(200);
        let evicted = world.at_ms("evicted_by_kubelet");
        assert_eq!(evicted.len(), 2, "1.{version}, {exits_after_s} s: the one that is not gone is not evicted twice");
        // One that has not ended after 40 s is waited for once more.
        let waited = evicted[1] - evicted[0];
        assert!(waits_ms.contains(&waited), "1.{version}, {exits_after_s} s: {waited} ms");
    }
}

#[test]
fn what_was_turned_away_or_had_no_container_is_shown_as_evicted() {
    let world = world_of(1, 10, seconds(1));
    world.settled(deployment(1, 1, 0));
    world.fill(0, 90);
    world.run_to(75);
    let statuses = |world: &World| -> Vec<String> {
        world.cluster.all_pod_views().iter().map(|pod| pod.status.to_string()).collect()
    };
    // Its process ended well: that outweighs the pod's own reason, in kubectl's table too. Another waits, since the only node is tainted.
    assert_eq!(statuses(&world), ["Completed", "Pending"]);
    // A pod that names its node comes past the scheduler.
    let mut pod = BarePod { key: Rc::from("ns/one"), template: deployment(1, 1, 0).template, node_name: None };
    pod.node_name = Some(Rc::from("node-0"));
    world.cluster.apply_pod(pod, None);
    world.run_to(80);
    assert_eq!(statuses(&world), ["Completed", "Pending", "Evicted"]);
}

#[test]
fn a_kubelet_that_looks_at_an_empty_disk_does_nothing_and_costs_little() {
    let world = world_of(3, 0, seconds(1));
    world.run_to(3600);
    assert!(world.log.borrow().events().is_empty());
    // Three nodes, 360 looks at the disk and 12 at images.
    assert!(world.sim.polls_total() < 3 * 400, "{}", world.sim.polls_total());
}

#[test]
fn a_node_that_joins_has_its_disk_watched_and_one_that_is_gone_has_not() {
    let world = world_of(1, 10, seconds(1));
    let mut late = config(2).nodes[1].clone();
    late.disk = Some(NodeDisk { capacity_bytes: 1000, used_bytes: 900 });
    world.operate(&Operation::AddNodes(vec![late]));
    world.run_to(20);
    assert_eq!(world.at_ms("node_disk_pressure").len(), 1, "too little is free from the start");
    world.operate(&Operation::RemoveNode { node: NodeChoice::Named(Rc::from("node-1")) });
    world.run_to(100);
    let polls = world.sim.polls_total();
    world.run_to(1100);
    assert!(world.sim.polls_total() - polls < 150, "only the first node's kubelet looks");
    // A node without a disk cannot be filled, and that is told.
    let plain = super::world(1, 1, Duration::ZERO, seconds(1));
    plain.fill(0, 90);
    assert_eq!(plain.kinds(), ["timeline", "nothing_found"]);
}
